//! The rows of a part of a range → its files and its quarantined records, as parquet-writer writes them. No I/O.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use columns::Zstd;
use landing::{
    batch::{Batch, Event, Payload, quarantine_parts},
    encode::{FileRules, check_of},
    envelope::Attributes,
    file::{EncodeError, content_type},
    table::Tables,
};
use sha2::{Digest, Sha256};
use shared::{
    event::Registry,
    layout::{ContentId, EventsFormat, EventsKey, LayoutError, Segment},
    quarantine::{QuarantineRecord, base64},
};

use super::{manifest::Counts, source::Stored};

const DAY_MS: i64 = 86_400_000;
/// The folder in front of which the prefix of a backfill comes.
const EVENTS: &str = "events/";

#[derive(Debug, thiserror::Error)]
pub(super) enum FilesError {
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Name(#[from] LayoutError),
    #[error("zstd could not be set up: {0}")]
    Zstd(#[from] std::io::Error),
}

/// How files are written.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) registry: Registry,
    pub(super) tables: Tables,
    pub(super) rules: FileRules,
    pub(super) zstd_level: i32,
    pub(super) event_time_max_age_days: i64,
    pub(super) stored: Stored,
    /// The prefix of all keys, without `/` at the end.
    pub(super) prefix: String,
    /// The name of the table in keys.
    pub(super) table: Segment,
}

/// A file that is not stored yet.
#[derive(Debug)]
pub(super) struct File {
    pub(super) key: String,
    pub(super) body: Bytes,
    pub(super) content_id: ContentId,
    pub(super) rows: usize,
}

/// What some rows have become.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) files: Vec<File>,
    /// In parts, so that an object does not become too large.
    pub(super) quarantined: Vec<Vec<QuarantineRecord>>,
    pub(super) counts: Counts,
}

impl Writer {
    /// The content type of the files.
    pub(super) const fn content_type(&self) -> &'static str {
        content_type(self.rules.format)
    }

    /// Writes the rows of a part of a range. The same rows always give the same files, in whatever order they are.
    pub(super) fn write(&self, mut batch: Batch, range: usize, part: usize) -> Result<Written, FilesError> {
        let by_type = self.tables.are_by_type();
        batch.use_event_times(&self.registry, self.event_time_max_age_days * DAY_MS);
        batch.order(by_type);
        let mut zstd = Zstd::new(self.zstd_level)?;
        let mut written = Written::default();
        let counts = &mut written.counts;
        let mut poison = std::mem::take(&mut batch.poison);
        // Rows with the same key come in any order, and may have the same id.
        let everything = |record: &QuarantineRecord| {
            let QuarantineRecord { id, body_base64, sent_at, attributes, reason, .. } = record;
            (id.clone(), body_base64.clone(), sent_at.clone(), attributes.get().to_owned(), reason.clone())
        };
        poison.sort_by_cached_key(|poison| everything(&poison.record));
        counts.read = (batch.records.len() + poison.len()) as u64;
        let mut refused = Vec::new();
        for records in batch.files(by_type) {
            let Some(first) = records.first() else { continue };
            let (table, folder) = self.tables.of(first.event_type);
            let file = landing::encode(table, &self.rules, &mut zstd, &batch, records)?;
            refused.extend(file.refused);
            if file.rows.is_empty() {
                continue;
            }
            let mut types: BTreeMap<&str, u64> = BTreeMap::new();
            for record in &file.rows {
                *types.entry(batch.type_name(record)).or_default() += 1;
                counts.unregistered += u64::from(record.event_type.is_none());
                if self.stored == Stored::Base64 {
                    counts.check += check_of(&Sha256::digest(base64(batch.payload(record))));
                }
            }
            types.into_iter().for_each(|(name, rows)| *counts.landed.entry(name.to_owned()).or_default() += rows);
            if self.stored == Stored::Bytes {
                counts.check += file.payload_check;
            }
            let name = format!("{}-{range:06}-{part}", self.table).parse()?;
            let key =
                EventsKey { only: folder.cloned(), day: first.day, name, format: EventsFormat::Parquet }.to_string();
            // The ids of the rows alone would not tell that one was changed.
            let hash = Sha256::digest(&file.bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
            let identity: [String; 2] = [file.content_id.to_string(), hash];
            counts.files += 1;
            counts.bytes += file.bytes.len() as u64;
            written.files.push(File {
                key: format!("{}/{}", self.prefix, key.strip_prefix(EVENTS).unwrap_or(&key)),
                body: file.bytes.into(),
                content_id: ContentId::in_order(identity.iter().map(String::as_str)),
                rows: file.rows.len(),
            });
        }
        for records in quarantine_parts(&batch, poison, refused) {
            for record in &records {
                *counts.quarantined.entry(record.reason.clone()).or_default() += 1;
                counts.check += self.check_of_quarantined(record);
            }
            written.quarantined.push(records);
        }
        Ok(written)
    }

    /// What a payload that is not in a file adds to the check. One that is null adds as much as an empty one here.
    fn check_of_quarantined(&self, record: &QuarantineRecord) -> u128 {
        let body = record.body().unwrap_or_default();
        match self.stored {
            Stored::Base64 => check_of(&Sha256::digest(body)),
            Stored::Bytes => {
                let payload = base64_simd::STANDARD.decode_to_vec(&body).unwrap_or_default();
                check_of(&Sha256::digest(payload))
            }
        }
    }
}

/// A text that is not empty. Attributes of messages never are.
fn given(text: Option<&str>) -> Option<Cow<'_, str>> {
    text.filter(|text| !text.is_empty()).map(Cow::Borrowed)
}

/// What the checksum has of an empty payload, which one that is null has not.
pub(super) fn check_of_empty() -> u128 {
    check_of(&Sha256::digest([]))
}

/// A row of the table.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Row<'a> {
    pub(super) source: Option<&'a str>,
    pub(super) type_name: Option<&'a str>,
    pub(super) payload: Option<&'a [u8]>,
    pub(super) created_at_us: Option<i64>,
    pub(super) id: Option<&'a str>,
    pub(super) event_id: Option<&'a str>,
}

impl Row<'_> {
    /// Memory of its texts and its payload.
    pub(super) fn bytes(&self) -> u64 {
        let texts = [self.source, self.type_name, self.id, self.event_id].into_iter().flatten().map(str::len);
        (texts.sum::<usize>() + self.payload.map_or(0, <[u8]>::len)) as u64
    }

    /// Adds it to a batch, with an id that is the same whenever it is read, and differs from any that a producer gave.
    pub(super) fn push(&self, batch: &mut Batch, table: &str, stored: Stored, registry: &Registry, id: &mut String) {
        id.clear();
        id.push_str(table);
        id.push('/');
        match self.id {
            Some(own) => id.push_str(own),
            None => {
                let mut hash = Sha256::new();
                for text in [self.source.unwrap_or_default(), self.type_name.unwrap_or_default()] {
                    hash.update(text);
                    hash.update([0]);
                }
                hash.update(self.payload.unwrap_or_default());
                let hash = check_of(&hash.finalize());
                id.push_str(&format!("{}-{hash:014x}", self.created_at_us.unwrap_or_default()));
            }
        }
        let attributes = Attributes {
            source: given(self.source),
            type_name: given(self.type_name),
            event_id: given(self.event_id),
            all: None,
        };
        let payload = self.payload.unwrap_or_default();
        let payload = match stored {
            Stored::Bytes => Payload::Bytes(payload),
            Stored::Base64 => Payload::Base64(payload),
        };
        batch.push_event(&Event { id, sent_at_us: self.created_at_us, attributes: &attributes, payload }, registry);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;
    use shared::event::v1::OrderCreated;

    use super::*;

    fn writer(by_type: bool, stored: Stored) -> Writer {
        let registry = Registry::embedded().unwrap();
        let tables = Tables::new(&registry, by_type, false).unwrap();
        let rules = FileRules { format: EventsFormat::Parquet, row_group_rows: 3, row_group_bytes: 1 << 20 };
        let (prefix, table) = ("events_backfill".to_owned(), "public.events".parse().unwrap());
        Writer { registry, tables, rules, zstd_level: 1, event_time_max_age_days: 30, stored, prefix, table }
    }

    /// Type, payload, time and id.
    type Made = (Option<&'static str>, Option<Vec<u8>>, Option<i64>, Option<u8>);

    fn made() -> impl Strategy<Value = Made> {
        let order = any::<u8>()
            .prop_map(|n| OrderCreated { order_id: n.to_string(), ..OrderCreated::default() }.encode_to_vec());
        let type_name = prop::sample::select(vec![Some("OrderCreated"), Some("Other"), Some(""), None]);
        let payload = prop_oneof![5 => order, 1 => prop::collection::vec(any::<u8>(), 0..4)];
        // Times of a few days, so that some are the same.
        let day = prop::option::weighted(
            0.9,
            (0..3_i64, 0..3_i64).prop_map(|(day, us)| 1_795_183_906_123_456 + day * 86_400_000_000 + us),
        );
        (type_name, prop::option::weighted(0.9, payload), day, prop::option::of(any::<u8>()))
    }

    fn write(writer: &Writer, rows: &[Made]) -> Written {
        let (mut batch, mut id) = (Batch::default(), String::new());
        for (type_name, payload, created_at_us, own) in rows {
            let text = own.map(|own| own.to_string());
            let encoded = payload.as_ref().map(|payload| match writer.stored {
                Stored::Bytes => payload.clone(),
                Stored::Base64 => base64(payload).into_bytes(),
            });
            let row = Row {
                source: Some("orders"),
                type_name: *type_name,
                payload: encoded.as_deref(),
                created_at_us: *created_at_us,
                id: text.as_deref(),
                event_id: None,
            };
            row.push(&mut batch, "public.events", writer.stored, &writer.registry, &mut id);
        }
        writer.write(batch, 7, 1).unwrap()
    }

    proptest! {
        #[test]
        fn rows_in_any_order_are_the_same_files_and_each_is_counted(
            rows in prop::collection::vec(made(), 0..30),
            seed in any::<u64>(),
            by_type in any::<bool>(),
            bytes in any::<bool>(),
        ) {
            let writer = writer(by_type, if bytes { Stored::Bytes } else { Stored::Base64 });
            let mut other = rows.clone();
            other.sort_by_cached_key(|row| Sha256::digest(format!("{seed}{row:?}")));
            let (a, b) = (write(&writer, &rows), write(&writer, &other));
            prop_assert_eq!(&a.counts, &b.counts);
            let files = |written: &Written| -> Vec<_> {
                written.files.iter().map(|file| (file.key.clone(), file.body.clone(), file.content_id)).collect()
            };
            prop_assert_eq!(files(&a), files(&b));
            let quarantined = |written: &Written| serde_json::to_string(&written.quarantined).unwrap();
            prop_assert_eq!(quarantined(&a), quarantined(&b));

            let landed: u64 = a.counts.landed.values().sum();
            let refused: u64 = a.counts.quarantined.values().sum();
            prop_assert_eq!((a.counts.read, landed + refused), (rows.len() as u64, rows.len() as u64));
            prop_assert_eq!(a.files.iter().map(|file| file.rows as u64).sum::<u64>(), landed);
            // The checksum is that of every payload as the table has it; one that is null counts as an empty one here.
            let check: u128 = rows.iter().map(|(_, payload, ..)| {
                let payload = payload.clone().unwrap_or_default();
                check_of(&Sha256::digest(if bytes { payload } else { base64(&payload).into_bytes() }))
            }).sum();
            prop_assert_eq!(a.counts.check, check);
        }
    }

    #[test]
    fn a_row_is_named_by_its_table_and_its_id_and_otherwise_by_what_it_is() {
        let id_of = |row: Row<'_>| {
            let mut id = String::new();
            row.push(&mut Batch::default(), "public.events", Stored::Bytes, &Registry::embedded().unwrap(), &mut id);
            id
        };
        let row =
            Row { type_name: Some("a"), payload: Some(b"x"), created_at_us: Some(7), id: Some("17"), ..Row::default() };
        assert_eq!(id_of(row), "public.events/17");
        let without = Row { id: None, ..row };
        assert!(id_of(without).starts_with("public.events/7-"), "{}", id_of(without));
        assert_eq!(id_of(without), id_of(Row { event_id: Some("e"), ..without }));
        assert_ne!(id_of(without), id_of(Row { source: Some("a"), type_name: None, ..without }));
    }
}
