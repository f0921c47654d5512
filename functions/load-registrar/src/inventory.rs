//! Compares an inventory of S3 with the loads, for buckets that are too large to be listed.
//!
//! An inventory is a day old or older. So an object of it that is no load is looked up first, and what is registered is what the
//! bucket holds now: an object that was deleted since does not become a load. Loads whose object is gone are not looked for,
//! because the rows are in no order that could be compared with the loads.
//!
//! Source: "Cataloging and analyzing your data with S3 Inventory", Amazon S3 user guide: the names and the content of the
//! manifest, and the encoding of keys in CSV files.

use std::{collections::BTreeSet, io::Write};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use jiff::Timestamp;
use md5::{Digest, Md5};
use objects::{Bucket, S3};
use serde::Deserialize;
use shared::{
    registrar::{Differing, InventoryPosition, ReconcileFailure, Reconciliation},
    s3_key,
};
use tokio::time::{Instant, timeout_at};

use crate::{
    app::App,
    config::Place,
    database::DatabaseError,
    heads::{self, Announced, Head},
    object::Object,
    reconcile::{self, Found, ReconcileError, Times, Unknown},
    register, unregistered,
};

/// Rows that are compared with the loads at once.
const BATCH: usize = 1_000;
/// A manifest names some hundred files at the most.
const MAX_MANIFEST_BYTES: u64 = 16 << 20;
/// A row is a key of at most 3,072 bytes as it is encoded, and some short columns.
const MAX_ROW_BYTES: usize = 64 << 10;

/// `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    source_bucket: String,
    file_format: String,
    file_schema: String,
    files: Vec<File>,
}

#[derive(Debug, Deserialize)]
struct File {
    key: String,
    #[serde(rename = "MD5checksum")]
    md5: String,
}

/// Positions of the columns that are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Columns {
    key: usize,
    size: usize,
    modified: usize,
    e_tag: usize,
    is_latest: Option<usize>,
    is_delete_marker: Option<usize>,
}

impl Columns {
    /// Finds them in a `fileSchema` such as `Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag`.
    fn find(schema: &str) -> Result<Self, String> {
        let names: Vec<&str> = schema.split(',').map(str::trim).collect();
        let position = |wanted: &str| names.iter().position(|name| *name == wanted);
        let required = |wanted: &str| {
            position(wanted)
                .ok_or_else(|| format!("it has no column {wanted}; add that field to the inventory configuration"))
        };
        Ok(Self {
            key: required("Key")?,
            size: required("Size")?,
            modified: required("LastModifiedDate")?,
            e_tag: required("ETag")?,
            is_latest: position("IsLatest"),
            is_delete_marker: position("IsDeleteMarker"),
        })
    }

    /// The object of a row. `None` for a version that is not the current one of its key.
    fn object(&self, row: &[u8]) -> Result<Option<Object>, String> {
        let fields = fields(row)?;
        let field =
            |at: usize| fields.get(at).map(String::as_str).ok_or_else(|| format!("it has {} columns", fields.len()));
        let is = |at: Option<usize>, word: &str| {
            at.map_or(Ok(false), |at| Ok::<_, String>(field(at)?.eq_ignore_ascii_case(word)))
        };
        if is(self.is_latest, "false")? || is(self.is_delete_marker, "true")? {
            return Ok(None);
        }
        let modified: Timestamp =
            field(self.modified)?.parse().map_err(|error| format!("LastModifiedDate: {error}"))?;
        Ok(Some(Object {
            key: s3_key::decode(field(self.key)?).map_err(|error| error.to_string())?,
            modified: Timestamp::from_second(modified.as_second()).map_err(|error| error.to_string())?,
            size: field(self.size)?.parse().map_err(|_| "Size is no number".to_owned())?,
            e_tag: field(self.e_tag)?.trim_matches('"').to_owned(),
            version: None,
        }))
    }
}

/// The columns of a row of CSV. None of them holds a line break, because keys are URL-encoded.
fn fields(row: &[u8]) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(row).map_err(|_| "it is not UTF-8".to_owned())?;
    let (mut fields, mut rest) = (Vec::new(), Some(text));
    while let Some(text) = rest {
        let (field, behind) = match text.strip_prefix('"') {
            None => {
                text.split_once(',').map_or((text.to_owned(), None), |(field, rest)| (field.to_owned(), Some(rest)))
            }
            Some(quoted) => {
                // Two quotes within quotes stand for one.
                let (mut field, mut tail) =
                    quoted.split_once('"').map(|(field, tail)| (field.to_owned(), tail)).ok_or("a quote is open")?;
                while let Some(more) = tail.strip_prefix('"') {
                    let (part, behind) = more.split_once('"').ok_or("a quote is open")?;
                    field = field + "\"" + part;
                    tail = behind;
                }
                match tail.strip_prefix(',') {
                    Some(tail) => (field, Some(tail)),
                    None if tail.is_empty() => (field, None),
                    None => return Err("something follows a quote".to_owned()),
                }
            }
        };
        fields.push(field);
        rest = behind;
    }
    Ok(fields)
}

/// The rows of a gzipped file, from its chunks.
struct Rows(MultiGzDecoder<Vec<u8>>);

impl Rows {
    fn new() -> Self {
        Self(MultiGzDecoder::new(Vec::new()))
    }

    /// Unpacks a chunk and takes the rows that are complete.
    fn push(&mut self, chunk: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        self.0.write_all(chunk).map_err(|error| format!("it is no gzip: {error}"))?;
        let unpacked = self.0.get_mut();
        let end = unpacked.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let rest = unpacked.split_off(end);
        let rows = std::mem::replace(unpacked, rest);
        if unpacked.len() > MAX_ROW_BYTES {
            return Err(format!("a row has more than {MAX_ROW_BYTES} bytes"));
        }
        Ok(split(&rows))
    }

    /// The last row, if it does not end in a line break.
    fn finish(mut self) -> Result<Vec<Vec<u8>>, String> {
        self.0.try_finish().map_err(|error| format!("it ends too early: {error}"))?;
        Ok(split(self.0.get_ref()))
    }
}

fn split(rows: &[u8]) -> Vec<Vec<u8>> {
    let rows = rows.split(|byte| *byte == b'\n').map(|row| row.strip_suffix(b"\r").unwrap_or(row));
    rows.filter(|row| !row.is_empty()).map(<[u8]>::to_vec).collect()
}

/// An inventory that has been opened.
struct Inventory {
    bucket: S3,
    files: Vec<File>,
    columns: Columns,
    /// The prefixes whose objects are compared, in order and without overlaps.
    prefixes: Vec<String>,
}

impl Inventory {
    async fn open(app: &App, manifest: &Place, times: Times) -> Result<Self, ReconcileError> {
        let failed = |cause: String| ReconcileError::Inventory { manifest: manifest.to_string(), cause };
        let bucket = S3::new(&app.s3, &manifest.bucket);
        let read = timeout_at(times.end, bucket.get(&manifest.key, Some(MAX_MANIFEST_BYTES))).await;
        let bytes =
            read.map_err(|_| failed("S3 did not answer".to_owned()))?.map_err(|error| failed(error.to_string()))?;
        let read: Manifest = serde_json::from_slice(&bytes)
            .map_err(|error| failed(format!("it is no manifest of an inventory: {error}")))?;
        if read.source_bucket != app.config.incoming_bucket {
            let other = read.source_bucket;
            return Err(failed(format!("it is of the bucket {other}, not of {}", app.config.incoming_bucket)));
        }
        if read.file_format != "CSV" {
            let other = read.file_format;
            return Err(failed(format!("its format is {other}; configure the inventory with the format CSV")));
        }
        let columns = Columns::find(&read.file_schema).map_err(failed)?;
        let prefixes = reconcile::to_list(&reconcile::active_prefixes(app, times.left()).await?, None);
        Ok(Self { bucket, files: read.files, columns, prefixes })
    }

    /// Whether an active table has a prefix of the key.
    fn is_wanted(&self, key: &str) -> bool {
        let behind = self.prefixes.partition_point(|prefix| prefix.as_str() <= key);
        behind
            .checked_sub(1)
            .and_then(|at| self.prefixes.get(at))
            .is_some_and(|prefix| key.starts_with(prefix.as_str()))
    }

    /// Whether the file is as S3 wrote it.
    async fn verify(&self, file: &File) -> Result<(), String> {
        let mut opened = self.bucket.open(&file.key).await.map_err(|error| error.to_string())?;
        let mut hash = Md5::new();
        while let Some(chunk) = opened.next().await.map_err(|error| error.to_string())? {
            hash.update(&chunk);
        }
        let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        match found.eq_ignore_ascii_case(&file.md5) {
            true => Ok(()),
            false => Err(format!("its MD5 is {found}, and the manifest says {}", file.md5)),
        }
    }
}

/// Compares the objects of an inventory that active tables take, from the position `after` on.
pub async fn reconcile(
    app: &App,
    manifest: &Place,
    dry_run: bool,
    after: Option<InventoryPosition>,
    times: Times,
) -> Result<Reconciliation, ReconcileError> {
    let inventory = Inventory::open(app, manifest, times).await?;
    let mut position = after.unwrap_or(InventoryPosition { file: 0, row: 0 });
    let (mut found, mut is_first) = (Found::default(), true);
    while let Some(file) = usize::try_from(position.file).ok().and_then(|at| inventory.files.get(at)) {
        if Instant::now() >= times.paging && !is_first {
            found.result.next_inventory = Some(position);
            break;
        }
        let mut step = Step {
            app,
            inventory: &inventory,
            file,
            dry_run,
            times,
            row: position.row,
            has_begun: false,
            found: &mut found,
        };
        match timeout_at(times.end, step.run()).await {
            Ok(Ok(Reached::End)) => position = InventoryPosition { file: position.file + 1, row: 0 },
            Ok(Ok(Reached::Row(row))) => {
                found.result.next_inventory = Some(InventoryPosition { row, ..position });
                break;
            }
            // Nothing of a file that cannot be read is guessed, and the others are compared.
            Ok(Err(cause)) => {
                step.fail(String::new(), cause);
                position = InventoryPosition { file: position.file + 1, row: 0 };
            }
            // A file of which not one row could be read in all the time is left out.
            Err(_) if is_first && !step.has_begun => {
                step.fail(String::new(), "the time was over before a row could be compared".to_owned());
                position = InventoryPosition { file: position.file + 1, row: 0 };
                found.result.next_inventory = inventory.has(position.file).then_some(position);
                break;
            }
            // What was compared counts.
            Err(_) => {
                found.result.next_inventory = Some(InventoryPosition { row: step.row, ..position });
                break;
            }
        }
        is_first = false;
    }
    reconcile::report(&app.config.stack, &found, dry_run);
    Ok(found.result)
}

impl Inventory {
    fn has(&self, file: u32) -> bool {
        usize::try_from(file).is_ok_and(|file| file < self.files.len())
    }
}

/// How far a step has come in its file.
enum Reached {
    End,
    /// After so many rows, the time for beginning something was over.
    Row(u64),
}

/// Compares one file, or as much of it as there is time for.
struct Step<'s> {
    app: &'s App,
    inventory: &'s Inventory,
    file: &'s File,
    dry_run: bool,
    times: Times,
    /// Number of rows that have been compared.
    row: u64,
    /// Whether a batch of rows has been begun.
    has_begun: bool,
    found: &'s mut Found,
}

impl Step<'_> {
    fn fail(&mut self, key: String, cause: String) {
        let prefix = Place { bucket: self.inventory.bucket.name().to_owned(), key: self.file.key.clone() }.to_string();
        self.found.fail(ReconcileFailure { prefix, key, until: None, cause });
    }

    async fn run(&mut self) -> Result<Reached, String> {
        let skipped = self.row;
        if skipped == 0 {
            self.inventory.verify(self.file).await?;
        }
        let inventory = self.inventory;
        let mut opened = inventory.bucket.open(&self.file.key).await.map_err(|error| error.to_string())?;
        let (mut rows, mut seen, mut batch) = (Some(Rows::new()), 0, Batch::default());
        while let Some(unpacking) = &mut rows {
            let chunk: Option<Bytes> = opened.next().await.map_err(|error| error.to_string())?;
            let complete = match chunk {
                Some(chunk) => unpacking.push(&chunk)?,
                None => rows.take().map_or(Ok(Vec::new()), Rows::finish)?,
            };
            for row in complete {
                seen += 1;
                if seen <= skipped {
                    continue;
                }
                match inventory.columns.object(&row) {
                    Ok(Some(object)) if inventory.is_wanted(&object.key) => batch.push(self.app, object),
                    Ok(_) => {}
                    Err(cause) => self.fail(format!("row {seen}"), cause),
                }
                batch.rows += 1;
                if batch.rows == BATCH {
                    if !self.compare(std::mem::take(&mut batch)).await {
                        return Ok(Reached::Row(self.row));
                    }
                    self.row = seen;
                    if Instant::now() >= self.times.paging {
                        return Ok(Reached::Row(seen));
                    }
                }
            }
        }
        if !self.compare(batch).await {
            return Ok(Reached::Row(self.row));
        }
        self.row = seen;
        Ok(Reached::End)
    }

    /// Compares a batch. If that fails, it is reported, and the rows behind it are compared. `false` if there was not enough
    /// time, so that the batch has to be compared again.
    async fn compare(&mut self, batch: Batch) -> bool {
        self.has_begun = true;
        let first = batch.data.iter().chain(&batch.others).map(|object| object.key.clone()).min().unwrap_or_default();
        match self.compare_batch(batch).await {
            Ok(is_complete) => is_complete,
            Err(_) if Instant::now() >= self.times.end => false,
            Err(cause) => {
                self.fail(first, cause.to_string());
                true
            }
        }
    }

    /// Returns whether S3 could be asked about everything that is missing. What it answered for is registered in any case.
    async fn compare_batch(&mut self, batch: Batch) -> Result<bool, DatabaseError> {
        let (app, times) = (self.app, self.times);
        let now = reconcile::clock(app, times.left()).await?;
        let unknown = reconcile::unknown(app, &batch.data, times.left()).await?;
        let others = unregistered::unknown(&app.database, &batch.others, times.left()).await?;
        // Half of what is left is kept for registering.
        let asking = Instant::now() + times.left() / 2;
        let missing = unknown.iter().filter(|unknown| unknown.what.is_some()).map(|unknown| unknown.object);
        let keys: BTreeSet<&str> = missing.chain(others.iter().copied()).map(|object| object.key.as_str()).collect();
        let heads = heads::heads(app, keys.into_iter().map(Announced::current), asking).await;
        let is_late = Instant::now() >= asking;
        let (mut data, mut no_data, mut is_complete) = (Vec::new(), Vec::new(), true);
        for (announced, head) in heads {
            match head {
                Head::Found(object) if app.config.data.is_data(&object.key) => data.push(object),
                Head::Found(object) => no_data.push(object),
                // It was deleted after the inventory had been made.
                Head::Gone | Head::Replaced => {}
                Head::Unknown(_) if is_late => is_complete = false,
                Head::Unknown(cause) => self.fail(announced.key().to_owned(), cause),
            }
        }
        // A version that came after the inventory may be a load already.
        let now_unknown = reconcile::unknown(app, &data, times.left()).await?;
        let fresh: Vec<Object> =
            now_unknown.iter().filter(|unknown| unknown.what.is_some()).map(|unknown| unknown.object.clone()).collect();
        if !self.dry_run {
            register::register(&app.database, &fresh, times.left()).await?;
            let was_not_data = |unknown: &Unknown<'_>| unknown.was_not_data;
            let mut now_data: Vec<&Object> = Vec::new();
            now_data.extend(unknown.iter().filter(|it| was_not_data(it) && it.what.is_none()).map(|it| it.object));
            now_data.extend(now_unknown.iter().filter(|it| was_not_data(it)).map(|it| it.object));
            unregistered::forget(&app.database, &now_data, times.left()).await?;
            unregistered::set_aside(&app.database, &no_data, times.left()).await?;
        }
        self.found.result.objects += if is_complete { batch.data.len() as u64 } else { 0 };
        for Unknown { what, object, .. } in &now_unknown {
            let Some(what) = *what else { continue };
            self.found.differ(what, &object.key, object.modified, object.size);
            self.found.overdue += u64::from(what == Differing::Missing && reconcile::is_overdue(object, now));
        }
        Ok(is_complete)
    }
}

/// Rows to compare at once.
#[derive(Debug, Default)]
struct Batch {
    /// Number of rows, with those that are left out.
    rows: usize,
    data: Vec<Object>,
    others: Vec<Object>,
}

impl Batch {
    fn push(&mut self, app: &App, object: Object) {
        match app.config.data.is_data(&object.key) {
            true => self.data.push(object),
            false => self.others.push(object),
        }
    }
}

/// Compares the newest inventory at a place, from where the last invocation ran out of time. When all of it has been
/// compared, there is nothing to do until the next one.
pub async fn resume(app: &App, place: &Place, times: Times) -> Result<Reconciliation, ReconcileError> {
    let failed = |cause: String| ReconcileError::Inventory { manifest: place.to_string(), cause };
    let bucket = S3::new(&app.s3, &place.bucket);
    let listed = timeout_at(times.end, bucket.folders(&place.key)).await;
    let folders =
        listed.map_err(|_| failed("S3 did not answer".to_owned()))?.map_err(|error| failed(error.to_string()))?;
    let newest = folders.into_iter().filter(|folder| is_time(folder)).max();
    let newest = newest.ok_or_else(|| failed("there is none yet; S3 makes the first within 48 hours".to_owned()))?;
    let manifest = Place { bucket: place.bucket.clone(), key: format!("{}{newest}/manifest.json", place.key) };
    let sql = "select file, row, finished_at is not null from reconcile_inventory where manifest = $1";
    let name = manifest.to_string();
    let saved = app
        .database
        .run(times.left(), |session| {
            let name = &name;
            async move {
                let Some(row) = session.client()?.query_opt(sql, &[name]).await? else { return Ok(None) };
                let file = u32::try_from(row.try_get::<_, i32>(0)?).unwrap_or_default();
                let rows = u64::try_from(row.try_get::<_, i64>(1)?).unwrap_or_default();
                Ok(Some((InventoryPosition { file, row: rows }, row.try_get::<_, bool>(2)?)))
            }
        })
        .await?;
    let after = match saved {
        Some((_, true)) => return Ok(Reconciliation::default()),
        saved => saved.map(|(position, _)| position),
    };
    let result = reconcile(app, &manifest, false, after, times).await?;
    let next = result.next_inventory;
    let file = next.map_or(0, |next| i32::try_from(next.file).unwrap_or(i32::MAX));
    let row = next.map_or(0, |next| i64::try_from(next.row).unwrap_or(i64::MAX));
    let sql = "insert into reconcile_inventory (manifest, file, row, finished_at) \
        values ($1, $2, $3, case when $4 then now() end) on conflict (only_row) do update set manifest = excluded.manifest, \
        file = excluded.file, row = excluded.row, finished_at = excluded.finished_at, updated_at = now()";
    app.database
        .run(times.until_checkpoint(), |session| {
            let name = &name;
            async move { Ok(session.client()?.execute(sql, &[name, &file, &row, &next.is_none()]).await.map(drop)?) }
        })
        .await?;
    Ok(result)
}

/// Whether a folder is named like that of a manifest: `2026-11-20T01-00Z`.
fn is_time(folder: &str) -> bool {
    let form = b"dddd-dd-ddTdd-ddZ";
    folder.len() == form.len()
        && folder
            .bytes()
            .zip(form)
            .all(|(byte, form)| if *form == b'd' { byte.is_ascii_digit() } else { byte == *form })
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    const SCHEMA: &str = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass";

    #[test]
    fn columns_are_found_by_their_names() {
        let columns = Columns::find(SCHEMA).unwrap();
        let expected =
            Columns { key: 1, size: 5, modified: 6, e_tag: 7, is_latest: Some(3), is_delete_marker: Some(4) };
        assert_eq!(columns, expected);
        let error = Columns::find("Bucket, Key, Size, LastModifiedDate").unwrap_err();
        assert_eq!(error, "it has no column ETag; add that field to the inventory configuration");
    }

    #[test]
    fn a_row_is_the_object_that_its_key_has_now() {
        let columns = Columns::find(SCHEMA).unwrap();
        let row = |latest: &str, marker: &str| {
            format!(
                r#""landfall-incoming","a/1%2B2+%C3%A9%22.csv","","{latest}","{marker}","12","2026-11-20T14:11:46.000Z","0cc175b9-2","STANDARD""#
            )
        };
        let object = columns.object(row("true", "false").as_bytes()).unwrap().unwrap();
        assert_eq!((object.key.as_str(), object.size, object.e_tag.as_str()), ("a/1+2 é\".csv", 12, "0cc175b9-2"));
        assert_eq!(object.modified.to_string(), "2026-11-20T14:11:46Z");
        assert_eq!(columns.object(row("false", "false").as_bytes()), Ok(None));
        assert_eq!(columns.object(row("true", "true").as_bytes()), Ok(None));
        for row in
            ["", r#""a","b"#, r#""a"b,c"#, "a,b,c", r#""b","a%2","","true","false","1","2026-11-20T14:11:46Z","e""#]
        {
            assert!(columns.object(row.as_bytes()).is_err(), "{row}");
        }
        assert_eq!(fields(br#""a ""b"" c",,"d","#).unwrap(), ["a \"b\" c", "", "d", ""]);
    }

    #[test]
    fn folders_of_manifests_are_named_by_their_time() {
        assert!(is_time("2026-11-20T01-00Z"));
        for other in ["data", "hive", "2026-11-20", "2026-11-20T01-00Z2", "2026-11-20t01-00Z"] {
            assert!(!is_time(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn rows_do_not_depend_on_how_the_file_is_cut(
            rows in prop::collection::vec("[a-z\",]{1,40}", 0..60), size in 1..90_usize, ends in any::<bool>(),
        ) {
            let mut text = rows.join("\n");
            if ends && !rows.is_empty() {
                text.push('\n');
            }
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(text.as_bytes()).unwrap();
            let packed = encoder.finish().unwrap();
            let (mut unpacking, mut found) = (Rows::new(), Vec::new());
            for chunk in packed.chunks(size) {
                found.extend(unpacking.push(chunk).unwrap());
            }
            found.extend(unpacking.finish().unwrap());
            prop_assert_eq!(found, rows.iter().map(|row| row.as_bytes().to_vec()).collect::<Vec<_>>());
        }

        #[test]
        fn no_row_makes_it_panic(row in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(Columns::find(SCHEMA).unwrap().object(&row));
        }
    }
}
