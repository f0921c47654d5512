//! Which records of which objects are sent, and what then becomes of the objects. Values in, values out.
//!
//! An object is never edited. Once some of its records are sent, the others are written to an object of their own, and
//! only when that is durable is the first one deleted: at every moment each record that was not sent is in the
//! quarantine, and at the end no record that was sent still is.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
};

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use shared::{
    layout::{ContentId, Day, LayoutError, QuarantineKey},
    quarantine::QuarantineRecord,
};

use super::{message::Unsendable, report::Counts};
use crate::when::start_of;

/// The reason given for lines that are not records.
pub const UNREADABLE: &str = "unreadable_line";

#[derive(Debug, Clone, Default)]
pub struct Selection {
    pub since: Option<Timestamp>,
    /// Exclusive.
    pub until: Option<Timestamp>,
    /// Any reason when empty.
    pub reasons: Vec<String>,
    /// Any id when empty.
    pub ids: Vec<String>,
    pub limit: Option<usize>,
}

impl Selection {
    /// The first and the last day whose objects may hold wanted records.
    pub fn days(&self) -> (Option<Day>, Option<Day>) {
        let day = |ms: i64| Day::of_unix_ms(ms.max(0)).ok();
        let first = self.since.and_then(|since| day(since.as_millisecond()));
        let last = self.until.and_then(|until| day(until.as_millisecond() - 1));
        (first, last)
    }

    /// Whether time, reason and id match. A record without a time counts as sent when its day began.
    pub fn wants(&self, record: Option<&QuarantineRecord>, day: Day) -> bool {
        let sent_at = record.and_then(sent_at).or_else(|| start_of(day));
        let in_time = sent_at.is_none_or(|sent_at| {
            self.since.is_none_or(|since| since <= sent_at) && self.until.is_none_or(|until| sent_at < until)
        });
        let reason = record.map_or(UNREADABLE, |record| &record.reason);
        let id = record.map(|record| &record.id);
        in_time
            && (self.reasons.is_empty() || self.reasons.iter().any(|wanted| wanted == reason))
            && (self.ids.is_empty() || self.ids.iter().any(|wanted| Some(wanted) == id))
    }
}

fn sent_at(record: &QuarantineRecord) -> Option<Timestamp> {
    record.sent_at.as_deref()?.parse().ok()
}

#[derive(Debug, Clone)]
pub struct Object {
    pub key: QuarantineKey,
    pub lines: Vec<Line>,
}

#[derive(Debug, Clone)]
pub struct Line {
    /// Its bytes, without the line feed.
    pub bytes: Vec<u8>,
    pub record: Result<QuarantineRecord, String>,
}

impl Object {
    /// Empty lines are skipped.
    pub fn parse(key: QuarantineKey, body: &[u8]) -> Self {
        let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).map(Line::parse);
        Self { key, lines: lines.collect() }
    }
}

impl Line {
    fn parse(bytes: &[u8]) -> Self {
        let record = serde_json::from_slice(bytes).map_err(|error: serde_json::Error| error.to_string());
        Self { bytes: bytes.to_vec(), record }
    }

    /// What tells it from other lines: the record's identity; for a line that is no record, the line itself.
    fn identity(&self) -> String {
        match &self.record {
            Ok(record) => record.identity(),
            Err(_) => String::from_utf8_lossy(&self.bytes).into_owned(),
        }
    }

    pub fn reason(&self) -> &str {
        self.record.as_ref().map_or(UNREADABLE, |record| &record.reason)
    }
}

/// What makes two records the same message: id, body and attributes. A message that was quarantined twice, because it
/// was delivered twice, is in two objects.
type Fingerprint = [u8; 32];

fn fingerprint(record: &QuarantineRecord) -> Fingerprint {
    let mut hash = Sha256::new();
    for part in [&record.id, record.attributes.get(), &record.body_base64] {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// What happens to a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    NotSelected,
    Unsendable(Unsendable),
    /// It is sent as the message at this position of the plan.
    Send(usize),
    /// It is a duplicate of the message at this position.
    Copy(usize),
    /// It is a duplicate of a message of an earlier plan.
    SentBefore,
}

#[derive(Debug)]
pub struct Plan<M> {
    /// The objects, and the fates of their lines.
    pub objects: Vec<(Object, Vec<Fate>)>,
    pub messages: Vec<M>,
    fingerprints: Vec<Fingerprint>,
}

/// What happens to an object.
#[derive(Debug, PartialEq, Eq)]
pub enum Settlement {
    /// None of its records were sent.
    Keep,
    /// All of its records were sent.
    Delete,
    /// Some were sent: the rest is written to a new object, and then this one is deleted.
    Replace(Rest),
}

/// The records of an object that were not sent, as a new object.
#[derive(Debug, PartialEq, Eq)]
pub struct Rest {
    /// The key that the function would have given these records.
    pub key: QuarantineKey,
    pub body: Vec<u8>,
    pub content_id: ContentId,
    pub records: usize,
}

/// Plans group after group and remembers what has been sent.
#[derive(Debug)]
pub struct Planner<F> {
    selection: Selection,
    /// The message that a record is sent as.
    of_record: F,
    budget: Option<usize>,
    sent: HashSet<Fingerprint>,
}

impl<M, F: Fn(&QuarantineRecord) -> Result<M, Unsendable>> Planner<F> {
    pub fn new(selection: Selection, of_record: F) -> Self {
        Self { budget: selection.limit, selection, of_record, sent: HashSet::new() }
    }

    /// Whether the limit is reached.
    pub fn is_spent(&self) -> bool {
        self.budget == Some(0)
    }

    pub fn plan(&mut self, objects: Vec<Object>) -> Plan<M> {
        let mut plan = Plan { objects: Vec::new(), messages: Vec::new(), fingerprints: Vec::new() };
        let mut planned = HashMap::new();
        for object in objects {
            let fates = object.lines.iter().map(|line| self.fate(line, object.key.day, &mut plan, &mut planned));
            let fates = fates.collect();
            plan.objects.push((object, fates));
        }
        plan
    }

    fn fate(&mut self, line: &Line, day: Day, plan: &mut Plan<M>, planned: &mut HashMap<Fingerprint, usize>) -> Fate {
        if !self.selection.wants(line.record.as_ref().ok(), day) {
            return Fate::NotSelected;
        }
        let record = match &line.record {
            Ok(record) => record,
            Err(cause) => return Fate::Unsendable(Unsendable::UnreadableLine(cause.clone())),
        };
        let fingerprint = fingerprint(record);
        if self.sent.contains(&fingerprint) {
            return Fate::SentBefore;
        }
        if let Some(position) = planned.get(&fingerprint) {
            return Fate::Copy(*position);
        }
        let message = match (self.of_record)(record) {
            Ok(message) => message,
            Err(problem) => return Fate::Unsendable(problem),
        };
        if let Some(budget) = &mut self.budget {
            match budget.checked_sub(1) {
                Some(rest) => *budget = rest,
                None => return Fate::NotSelected,
            }
        }
        let position = plan.messages.len();
        plan.messages.push(message);
        plan.fingerprints.push(fingerprint);
        planned.insert(fingerprint, position);
        Fate::Send(position)
    }

    /// Decides what happens to each object, after sending.
    pub fn settle(&mut self, plan: &Plan<M>, is_sent: &[bool]) -> Result<Vec<Settlement>, LayoutError> {
        let sent = plan.fingerprints.iter().zip(is_sent).filter(|(_, sent)| **sent);
        self.sent.extend(sent.map(|(fingerprint, _)| *fingerprint));
        plan.objects.iter().map(|(object, fates)| settlement(object, fates, is_sent)).collect()
    }
}

impl Fate {
    /// Whether the line's message is in the queue.
    pub fn is_gone(&self, is_sent: &[bool]) -> bool {
        match self {
            Self::NotSelected | Self::Unsendable(_) => false,
            Self::Send(position) | Self::Copy(position) => is_sent.get(*position) == Some(&true),
            Self::SentBefore => true,
        }
    }
}

fn settlement(object: &Object, fates: &[Fate], is_sent: &[bool]) -> Result<Settlement, LayoutError> {
    without(object, fates.iter().map(|fate| fate.is_gone(is_sent)))
}

/// What happens to an object when the lines are gone of which `is_gone` says so, in order.
pub fn without(object: &Object, is_gone: impl Iterator<Item = bool>) -> Result<Settlement, LayoutError> {
    let lines = object.lines.iter().zip(is_gone);
    let rest: Vec<&Line> = lines.filter(|(_, is_gone)| !is_gone).map(|(line, _)| line).collect();
    if rest.len() == object.lines.len() {
        return Ok(Settlement::Keep);
    }
    if rest.is_empty() {
        return Ok(Settlement::Delete);
    }
    let identities: Vec<String> = rest.iter().map(|line| line.identity()).collect();
    let content_id = ContentId::of(identities.iter().map(String::as_str));
    let first = rest.iter().filter_map(|line| sent_at(line.record.as_ref().ok()?)).min().or(start_of(object.key.day));
    let name = content_id.name(first.map_or(0, Timestamp::as_millisecond))?;
    let key = QuarantineKey { name, ..object.key.clone() };
    let body = rest.iter().flat_map(|line| line.bytes.iter().chain(b"\n")).copied().collect();
    Ok(Settlement::Replace(Rest { key, body, content_id, records: rest.len() }))
}

impl<M> Plan<M> {
    /// Counts the records by reason. Duplicates count once.
    pub fn counts(&self, is_sent: &[bool]) -> BTreeMap<String, Counts> {
        let mut by_reason: BTreeMap<String, Counts> = BTreeMap::new();
        for (line, fate) in self.objects.iter().flat_map(|(object, fates)| object.lines.iter().zip(fates)) {
            let counts = by_reason.entry(line.reason().to_owned()).or_default();
            match fate {
                Fate::NotSelected => counts.not_selected += 1,
                Fate::Copy(_) | Fate::SentBefore => continue,
                Fate::Unsendable(_) => counts.left += 1,
                Fate::Send(_) if fate.is_gone(is_sent) => counts.sent += 1,
                Fate::Send(_) => counts.left += 1,
            }
            counts.found += 1;
        }
        by_reason
    }

    /// Duplicates of messages that are in the plan or were sent before it.
    pub fn copies(&self) -> usize {
        let fates = self.objects.iter().flat_map(|(_, fates)| fates);
        fates.filter(|fate| matches!(fate, Fate::Copy(_) | Fate::SentBefore)).count()
    }
}

/// Cuts a sequence into runs of at most `most_entries` entries and `most_bytes` bytes. An entry that is larger gets a
/// run of its own.
pub fn batches(sizes: &[usize], most_entries: usize, most_bytes: usize) -> Vec<Range<usize>> {
    let mut batches: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0;
    for (position, size) in sizes.iter().enumerate() {
        match batches.last_mut() {
            Some(batch) if batch.len() < most_entries && bytes + size <= most_bytes => {
                batch.end = position + 1;
                bytes += size;
            }
            _ => {
                batches.push(position..position + 1);
                bytes = *size;
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::select};
    use serde_json::{json, value::to_raw_value};
    use shared::quarantine::{base64, rfc3339, to_ndjson};

    use super::*;
    use crate::{queue::Outgoing, replay::message};

    const MOST: usize = 1 << 20;
    /// 2026-11-20T00:00:00Z.
    const MIDNIGHT: i64 = 1_795_132_800_000;

    fn record(id: usize, reason: &str, sent_at_ms: i64) -> QuarantineRecord {
        QuarantineRecord {
            function: "parquet-writer".into(),
            reason: reason.into(),
            detail: String::new(),
            id: format!("id-{id:03}"),
            sent_at: rfc3339(sent_at_ms),
            attributes: to_raw_value(&json!({"type": {"dataType": "String", "stringValue": "OrderCreated"}})).unwrap(),
            body_base64: base64(format!("body {id}").as_bytes()),
        }
    }

    fn to_queue(record: &QuarantineRecord) -> Result<Outgoing, Unsendable> {
        message::of_record(record, &[], MOST)
    }

    /// An object as the function writes it.
    fn object(mut records: Vec<QuarantineRecord>) -> Object {
        let first_ms = records.iter().filter_map(sent_at).min().unwrap().as_millisecond();
        let identities: Vec<String> = records.iter().map(QuarantineRecord::identity).collect();
        let key = QuarantineKey {
            function: "parquet-writer".parse().unwrap(),
            day: Day::of_unix_ms(first_ms).unwrap(),
            name: ContentId::of(identities.iter().map(String::as_str)).name(first_ms).unwrap(),
        };
        Object::parse(key, to_ndjson(&mut records).unwrap().as_bytes())
    }

    fn fates(selection: Selection, objects: Vec<Object>) -> Vec<Vec<Fate>> {
        let plan = Planner::new(selection, to_queue).plan(objects);
        plan.objects.into_iter().map(|(_, fates)| fates).collect()
    }

    #[test]
    fn time_reason_and_limit_choose() {
        let objects = || {
            vec![
                object(vec![record(1, "invalid_base64", MIDNIGHT), record(2, "invalid_protobuf", MIDNIGHT + 5)]),
                object(vec![record(3, "invalid_base64", MIDNIGHT + 9)]),
            ]
        };
        let (no, send) = (Fate::NotSelected, Fate::Send);
        assert_eq!(fates(Selection::default(), objects()), [vec![send(0), send(1)], vec![send(2)]]);
        let reasons = vec!["invalid_base64".to_owned()];
        let chosen = fates(Selection { reasons, ..Selection::default() }, objects());
        assert_eq!(chosen, [vec![send(0), no.clone()], vec![send(1)]]);
        let limited = fates(Selection { limit: Some(2), ..Selection::default() }, objects());
        assert_eq!(limited, [vec![send(0), send(1)], vec![no.clone()]]);
        let at = |ms| Some(Timestamp::from_millisecond(ms).unwrap());
        let timed = Selection { since: at(MIDNIGHT + 5), until: at(MIDNIGHT + 9), ..Selection::default() };
        assert_eq!(fates(timed, objects()), [vec![no.clone(), send(0)], vec![no]]);
    }

    #[test]
    fn days_are_those_of_the_times() {
        let at = |ms| Some(Timestamp::from_millisecond(ms).unwrap());
        let selection = Selection { since: at(MIDNIGHT), until: at(MIDNIGHT + 86_400_000), ..Selection::default() };
        let day: Day = "2026/11/20".parse().unwrap();
        assert_eq!(start_of(day), at(MIDNIGHT));
        assert_eq!(selection.days(), (Some(day), Some(day)));
        assert_eq!(Selection::default().days(), (None, None));
    }

    #[test]
    fn a_damaged_line_stays_and_its_neighbours_go() {
        let mut damaged = object(vec![record(1, "invalid_base64", MIDNIGHT), record(2, "invalid_base64", MIDNIGHT)]);
        let body: Vec<u8> = [b"{\"id\": \xff\n\n", &*damaged.lines.remove(0).bytes, b"\n"].concat();
        let parsed = Object::parse(damaged.key, &body);
        assert_eq!(parsed.lines.len(), 2);
        let mut planner = Planner::new(Selection::default(), to_queue);
        let plan = planner.plan(vec![parsed]);
        assert!(matches!(plan.objects[0].1[0], Fate::Unsendable(Unsendable::UnreadableLine(_))));
        let settled = planner.settle(&plan, &[true]).unwrap();
        let [Settlement::Replace(rest)] = settled.as_slice() else { panic!("{settled:?}") };
        assert_eq!(rest.body, b"{\"id\": \xff\n");
        assert_eq!(rest.key.to_string().split_once('-').unwrap().0, "quarantine/parquet");
        assert!(rest.key.to_string().contains("/2026/11/20/20261120T000000000Z-"));
    }

    #[test]
    fn the_rest_is_the_object_that_the_function_would_have_written() {
        let all: Vec<_> = (1..=3).map(|id| record(id, "invalid_base64", MIDNIGHT + id as i64)).collect();
        let mut planner = Planner::new(Selection::default(), to_queue);
        let plan = planner.plan(vec![object(all.clone())]);
        let settled = planner.settle(&plan, &[true, false, false]).unwrap();
        let [Settlement::Replace(rest)] = settled.as_slice() else { panic!("{settled:?}") };
        let mut left = all[1..].to_vec();
        assert_eq!(rest.key, object(left.clone()).key);
        assert_eq!(rest.body, to_ndjson(&mut left).unwrap().into_bytes());
        assert_eq!(rest.records, 2);
    }

    #[test]
    fn a_message_that_is_in_two_objects_is_sent_once_and_both_go() {
        let one = || object(vec![record(1, "invalid_base64", MIDNIGHT)]);
        let two = || object(vec![record(1, "invalid_base64", MIDNIGHT), record(2, "invalid_base64", MIDNIGHT)]);
        let mut planner = Planner::new(Selection::default(), to_queue);
        let plan = planner.plan(vec![one(), two()]);
        assert_eq!(plan.objects[1].1, [Fate::Copy(0), Fate::Send(1)]);
        assert_eq!(planner.settle(&plan, &[true, true]).unwrap(), [Settlement::Delete, Settlement::Delete]);
        assert_eq!((plan.messages.len(), plan.copies()), (2, 1));
        let later = planner.plan(vec![two()]);
        assert_eq!(later.objects[0].1, [Fate::SentBefore, Fate::SentBefore]);
        assert_eq!(planner.settle(&later, &[]).unwrap(), [Settlement::Delete]);
    }

    #[test]
    fn a_copy_of_a_message_that_was_not_sent_stays() {
        let one = || object(vec![record(1, "invalid_base64", MIDNIGHT)]);
        let mut planner = Planner::new(Selection::default(), to_queue);
        let plan = planner.plan(vec![one(), one()]);
        assert_eq!(planner.settle(&plan, &[false]).unwrap(), [Settlement::Keep, Settlement::Keep]);
        assert_eq!(planner.plan(vec![one()]).objects[0].1, [Fate::Send(0)]);
    }

    #[test]
    fn same_id_and_other_bytes_are_two_messages() {
        let other = QuarantineRecord { body_base64: base64(b"other"), ..record(1, "invalid_base64", MIDNIGHT) };
        let both = object(vec![record(1, "invalid_base64", MIDNIGHT), other]);
        assert_eq!(fates(Selection::default(), vec![both]), [vec![Fate::Send(0), Fate::Send(1)]]);
    }

    /// What is left of two objects is two objects again, or one would be taken for a copy of the other and be lost.
    #[test]
    fn what_is_left_is_named_by_its_bodies_too() {
        let body = |text: &str| QuarantineRecord {
            body_base64: base64(text.as_bytes()),
            ..record(1, "invalid_base64", MIDNIGHT)
        };
        let left = |gone: &str, kept: &str| {
            let object = object(vec![body(gone), body(kept)]);
            let is_gone =
                object.lines.iter().map(|line| line.record.as_ref().unwrap().body_base64 == base64(gone.as_bytes()));
            match without(&object, is_gone.collect::<Vec<_>>().into_iter()).unwrap() {
                Settlement::Replace(rest) => rest,
                other => panic!("{other:?}"),
            }
        };
        let (first, second) = (left("a", "b"), left("c", "d"));
        assert_ne!((first.key, first.content_id), (second.key, second.content_id));
        assert_eq!(left("a", "b").key, left("c", "b").key, "the same record has the same name");
    }

    type Quarantine = BTreeMap<String, Object>;

    /// Replays once, with some messages failing, and returns the bodies that were sent.
    fn replay(quarantine: &mut Quarantine, selection: &Selection, group: usize, fails: &[bool]) -> Vec<String> {
        let mut planner = Planner::new(selection.clone(), to_queue);
        let (mut bodies, mut fails) = (Vec::new(), fails.iter().cycle());
        let snapshot: Vec<Object> = quarantine.values().cloned().collect();
        for objects in snapshot.chunks(group) {
            let plan = planner.plan(objects.to_vec());
            let is_sent: Vec<bool> = plan.messages.iter().map(|_| !fails.next().unwrap_or(&false)).collect();
            bodies.extend(plan.messages.iter().zip(&is_sent).filter(|(_, sent)| **sent).map(|(m, _)| m.body.clone()));
            let counts = plan.counts(&is_sent);
            let sum = |of: fn(&Counts) -> usize| counts.values().map(of).sum::<usize>();
            assert_eq!(sum(|c| c.found), sum(|c| c.not_selected + c.sent + c.left));
            let settled = planner.settle(&plan, &is_sent).unwrap();
            for ((object, _), settlement) in plan.objects.iter().zip(settled) {
                match settlement {
                    Settlement::Keep => continue,
                    Settlement::Delete => {}
                    Settlement::Replace(rest) => {
                        quarantine.insert(rest.key.to_string(), Object::parse(rest.key, &rest.body));
                    }
                }
                quarantine.remove(&object.key.to_string());
            }
        }
        bodies
    }

    fn ids(quarantine: &Quarantine) -> Vec<String> {
        let mut ids: Vec<String> = quarantine.values().flat_map(|o| o.lines.iter().map(Line::identity)).collect();
        ids.sort();
        ids.dedup();
        ids
    }

    proptest! {
        #[test]
        fn every_record_is_either_sent_once_or_still_there(
            objects in prop::collection::vec(
                prop::collection::vec((0..12_usize, select(vec!["a", "b"])), 1..5), 1..8),
            reason in prop::option::of(select(vec!["a", "b"])),
            limit in prop::option::of(0..9_usize),
            group in 1..4_usize,
            fails in prop::collection::vec(any::<bool>(), 1..6),
        ) {
            // An id has one reason, as a message has; it may be in several objects.
            let mut quarantine: Quarantine = objects.iter().map(|ids| {
                let records = ids.iter().map(|(id, _)| {
                    record(*id, if id % 2 == 0 { "a" } else { "b" }, MIDNIGHT + *id as i64)
                });
                let mut records: Vec<_> = records.collect();
                records.sort_by(|a, b| a.id.cmp(&b.id));
                records.dedup_by(|a, b| a.id == b.id);
                let object = object(records);
                (object.key.to_string(), object)
            }).collect();
            let before = ids(&quarantine);
            let reasons: Vec<String> = reason.into_iter().map(str::to_owned).collect();
            let selection = Selection { reasons, limit, ..Selection::default() };

            let mut sent = replay(&mut quarantine, &selection, group, &fails);
            prop_assert!(limit.is_none_or(|limit| sent.len() <= limit));
            let everything = replay(&mut quarantine, &Selection::default(), group, &[false]);
            // Without a limit nothing that was sent stays behind, so the second replay doubles nothing.
            sent.extend(everything);
            let mut distinct = sent.clone();
            distinct.sort();
            distinct.dedup();
            prop_assert_eq!(distinct.len(), before.len());
            if limit.is_none() && !fails.contains(&true) {
                prop_assert_eq!(sent.len(), before.len());
            }
            prop_assert!(quarantine.is_empty());
        }

        #[test]
        fn without_copies_no_failure_doubles_anything(
            sizes in prop::collection::vec(1..5_usize, 1..8),
            limit in prop::option::of(0..9_usize),
            group in 1..4_usize,
            fails in prop::collection::vec(any::<bool>(), 1..6),
        ) {
            let mut next = 0;
            let mut quarantine: Quarantine = sizes.iter().map(|size| {
                let object = object((next..next + size).map(|id| record(id, "a", MIDNIGHT + id as i64)).collect());
                next += size;
                (object.key.to_string(), object)
            }).collect();
            let selection = Selection { limit, ..Selection::default() };
            let mut sent = replay(&mut quarantine, &selection, group, &fails);
            prop_assert_eq!(ids(&quarantine).len(), next - sent.len());
            sent.extend(replay(&mut quarantine, &Selection::default(), group, &[false]));
            sent.sort();
            let mut all: Vec<String> = (0..next).map(|id| format!("body {id}")).collect();
            all.sort();
            prop_assert_eq!(sent, all);
        }

        #[test]
        fn batches_keep_the_order_and_the_limits(sizes in prop::collection::vec(0..=MOST, 0..60)) {
            let batches = batches(&sizes, 10, MOST);
            let positions: Vec<usize> = batches.iter().cloned().flatten().collect();
            prop_assert_eq!(positions, (0..sizes.len()).collect::<Vec<_>>());
            let bytes = |batch: &Range<usize>| sizes[batch.clone()].iter().sum::<usize>();
            for batch in &batches {
                prop_assert!((1..=10).contains(&batch.len()) && bytes(batch) <= MOST);
            }
            for pair in batches.windows(2) {
                prop_assert!(pair[0].len() == 10 || bytes(&pair[0]) + sizes[pair[1].start] > MOST);
            }
        }
    }
}
