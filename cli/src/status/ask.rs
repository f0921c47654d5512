//! The questions of `landfall status`, one for each section. An error is the sentence that the section shows instead.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use aws_sdk_cloudwatch::{
    primitives::DateTime,
    types::{Dimension, Metric, MetricDataQuery, MetricStat, StateValue},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use objects::{Bucket, S3};
use rolling::{
    discarded,
    rules::Rules,
    shard::{FOLDER, Limits, Listing, STATE, ShardId, State},
};
use runtime::{failure::cause, settings::Settings};
use shared::registrar::{Command, TableList};

use super::{Alarm, Loads, OpenWindow, Quarantined, QueueStatus, ShardBehind, Source, Windows};
use crate::{
    context::Context,
    quarantine::place,
    queue,
    registrar::RegistrarArgs,
    replay::plan::Selection,
    stack::{self, Function, StackError},
    stream as kinesis,
    tables::roll,
};

/// Objects of the quarantine that are read at most, the latest ones.
const QUARANTINE_OBJECTS: usize = 200;
const CONCURRENT_S3_REQUESTS: usize = 16;
const CONCURRENT_SHARDS: usize = 16;
/// The metrics of queues and streams may be a few minutes old.
const METRICS_SINCE: Duration = Duration::from_secs(15 * 60);

/// The functions that the stack has. An error if it has none.
pub(super) async fn functions(context: &Context) -> Result<Vec<(&'static str, Function)>, StackError> {
    let mut functions = Vec::new();
    let mut missing = None;
    for part in [stack::WRITER, stack::COLLECT, stack::ROLLER, stack::REGISTRAR, stack::INGESTER, stack::FETCHER] {
        match context.function(&context.named(part)).await {
            Ok(function) => functions.push((part, function)),
            Err(error @ StackError::Missing { .. }) => drop(missing.get_or_insert(error)),
            Err(error) => return Err(error),
        }
    }
    match missing {
        Some(error) if functions.is_empty() => Err(error),
        _ => Ok(functions),
    }
}

pub(super) async fn queues(
    context: &Context,
    functions: &[(&'static str, Function)],
) -> Result<Vec<QueueStatus>, String> {
    let mut queues = Vec::new();
    let parts = [
        (stack::WRITER, stack::EVENTS),
        (stack::COLLECT, stack::OVERFLOW),
        (stack::REGISTRAR, stack::PUTS),
        (stack::INGESTER, stack::LOADS),
    ];
    // collect of an earlier version has no overflow.
    let has_queue = |function: &Function| function.setting("OVERFLOW_QUEUE_URL").is_ok();
    let has = |part: &str| {
        functions.iter().any(|(name, function)| *name == part && (part != stack::COLLECT || has_queue(function)))
    };
    for part in parts.into_iter().filter(|(part, _)| has(part)).map(|(_, queue)| queue) {
        for (part, is_dead_letter) in [(part.to_owned(), false), (format!("{part}-dead-letter"), true)] {
            let url = context.queue(&part).await.map_err(|error| error.to_string())?;
            let (_, depth) = queue::describe(&context.clients.sqs, &url).await.map_err(|error| error.to_string())?;
            let (name, waiting, in_flight) = (context.named(&part), depth.waiting, depth.hidden);
            queues.push(QueueStatus { name, is_dead_letter, waiting, in_flight, age_seconds: None });
        }
    }
    Ok(queues)
}

/// The event source mappings of the functions, and the stream that collect writes to.
pub(super) async fn sources(context: &Context, functions: &[(&'static str, Function)]) -> Result<Vec<Source>, String> {
    let mut sources = Vec::new();
    for (part, function) in functions {
        if let (&stack::COLLECT, Ok(stream)) = (part, function.setting("STREAM_NAME")) {
            let (function, state) = ("its readers".to_owned(), String::new());
            sources.push(Source { function, source: stream, state, behind_seconds: None });
        }
        let list = |name: String| context.clients.lambda.list_event_source_mappings().function_name(name).send();
        let answer = list(function.name.clone()).await.map_err(|error| cause(&error))?;
        let mut mappings = answer.event_source_mappings.unwrap_or_default();
        if mappings.is_empty() {
            // With a ReleaseStrategy, the mapping belongs to an alias.
            let of_alias = list(format!("{}:live", function.name)).await.ok();
            mappings = of_alias.and_then(|answer| answer.event_source_mappings).unwrap_or_default();
        }
        for mapping in mappings {
            let arn = mapping.event_source_arn().unwrap_or_default();
            let name = arn.rsplit(['/', ':']).next().unwrap_or_default();
            sources.push(Source {
                function: (*part).to_owned(),
                source: name.to_owned(),
                state: mapping.state().unwrap_or_default().to_owned(),
                behind_seconds: None,
            });
        }
    }
    Ok(sources)
}

/// The lake, as the settings of the first function name it that has one.
fn lake(context: &Context, functions: &[(&'static str, Function)]) -> Option<S3> {
    let bucket = functions.iter().find_map(|(_, function)| function.setting("LAKE_BUCKET").ok())?;
    Some(S3::new(&context.clients.s3, &bucket))
}

/// Quarantined records by function and reason, and the number of objects that were not read.
pub(super) async fn quarantine(
    context: &Context,
    functions: &[(&'static str, Function)],
) -> Result<(Vec<Quarantined>, usize), String> {
    let Some(lake) = lake(context, functions) else { return Ok((Vec::new(), 0)) };
    let mut keys = Vec::new();
    let parts = functions.iter().map(|(part, _)| *part).chain([stack::CONSUMER]);
    for part in parts {
        let found = place::find(&lake, part, &Selection::default()).await.map_err(|error| error.to_string())?;
        keys.extend(found.objects.into_iter().map(|(key, _)| key));
    }
    // Names begin with the time of the first record.
    keys.sort_by(|a, b| (b.day, b.name.as_str()).cmp(&(a.day, a.name.as_str())));
    let not_read = keys.len().saturating_sub(QUARANTINE_OBJECTS);
    let reads = keys.iter().take(QUARANTINE_OBJECTS).map(|key| place::read(&lake, key));
    let mut objects = stream::iter(reads).buffer_unordered(CONCURRENT_S3_REQUESTS);
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    while let Some(object) = objects.next().await {
        let Some(object) = object.map_err(|error| error.to_string())? else { continue };
        for line in &object.lines {
            *counts.entry((object.key.function.to_string(), line.reason().to_owned())).or_default() += 1;
        }
    }
    let records = counts.into_iter().map(|((function, reason), records)| Quarantined { function, reason, records });
    Ok((records.collect(), not_read))
}

/// The open windows of kafka-roller, from one listing and the states of its shards.
pub(super) async fn windows(
    context: &Context,
    functions: &[(&'static str, Function)],
) -> Result<Option<Windows>, String> {
    if !functions.iter().any(|(part, _)| *part == stack::ROLLER) {
        return Ok(None);
    }
    let Some(lake) = lake(context, functions) else { return Ok(None) };
    let mut shards: BTreeMap<ShardId, Listing> = BTreeMap::new();
    for object in lake.list(FOLDER).await.map_err(|error| error.to_string())? {
        if let Some((shard, name)) = ShardId::of_key(&object.key) {
            shards.entry(shard).or_default().add(name, object.modified_ms);
        }
    }
    let states = shards.into_iter().map(async |(id, listing)| {
        if !listing.has_state {
            return Ok((id, listing.taken_over()));
        }
        let key = id.key(STATE);
        let bytes = lake.get(&key, None).await.map_err(|error| error.to_string())?;
        let state = State::of_bytes(&bytes).map_err(|error| format!("{key}: {error}"))?;
        Ok::<_, String>((id, state))
    });
    let states: Vec<_> = stream::iter(states).buffer_unordered(CONCURRENT_S3_REQUESTS).try_collect().await?;
    let rules = rules(context, functions, lake.name()).await?;
    let mut windows = summed(&states, &rules, context.now.as_millisecond());
    windows.given_up = lake.list(discarded::FOLDER).await.map_err(|error| error.to_string())?.len();
    windows.shards = behind(context, &states).await?;
    Ok(Some(windows))
}

/// The rules by which windows are closed.
async fn rules(context: &Context, functions: &[(&'static str, Function)], lake: &str) -> Result<Rules, String> {
    let roller = functions.iter().find(|(part, _)| *part == stack::ROLLER);
    let lookup = |name| roller.and_then(|(_, function)| function.variables.get(name).cloned());
    let rules = Rules::from_settings(&Settings::new(lookup)).map_err(|error| error.to_string())?;
    Ok(rules.with(roll::rules(context, lake).await.map_err(|error| error.to_string())?))
}

/// Asks Kinesis what lies behind the last record that is staged of each shard.
async fn behind(context: &Context, states: &[(ShardId, State)]) -> Result<Vec<ShardBehind>, String> {
    let client = &context.clients.kinesis;
    let mut streams = BTreeMap::new();
    for (id, _) in states {
        if !streams.contains_key(&id.stream) {
            let shards = match kinesis::shards(client, id.stream.as_str()).await {
                // Its windows may still be open, and nothing comes after them.
                Err(kinesis::StreamError::Missing(_)) => HashMap::new(),
                shards => shards.map_err(|error| error.to_string())?,
            };
            streams.insert(id.stream.clone(), shards);
        }
    }
    let asked = states.iter().map(async |(id, state)| {
        let (stream, shard) = (id.stream.to_string(), id.shard.to_string());
        let behind_ms = match streams.get(&id.stream).and_then(|shards| shards.get(&shard)) {
            None => None,
            Some(digits) => {
                let tail = format!("{:0>digits$}", state.tail.sequence_number());
                let behind = kinesis::behind(client, &stream, &shard, &tail).await;
                behind.map_err(|error| error.to_string())?
            }
        };
        Ok::<_, String>(ShardBehind { stream, shard, behind_ms })
    });
    let mut shards: Vec<ShardBehind> = stream::iter(asked).buffer_unordered(CONCURRENT_SHARDS).try_collect().await?;
    shards
        .sort_by(|a, b| b.behind_ms.cmp(&a.behind_ms).then_with(|| (&a.stream, &a.shard).cmp(&(&b.stream, &b.shard))));
    Ok(shards)
}

/// Sums what is in no file yet.
fn summed(states: &[(ShardId, State)], rules: &Rules, now_ms: i64) -> Windows {
    let mut windows = Windows::default();
    for (id, state) in states {
        for (name, table) in &state.tables {
            let Some(oldest_ms) = table.oldest_ms() else { continue };
            let extents = || table.begun.iter().map(|begun| begun.extent).chain(table.open);
            let limits = rules.of(name).0;
            let due_ms = oldest_ms.checked_add(limits.age_ms).filter(|_| limits != Limits::NONE);
            windows.oldest.push(OpenWindow {
                table: name.to_string(),
                stream: id.stream.to_string(),
                shard: id.shard.to_string(),
                records: extents().map(|extent| extent.count).sum(),
                bytes: extents().map(|extent| extent.bytes).sum(),
                age_seconds: now_ms.saturating_sub(oldest_ms) / 1_000,
                due_seconds: due_ms.map(|due| due.saturating_sub(now_ms) / 1_000),
            });
        }
    }
    windows.oldest.sort_by(|a, b| {
        let place = |window: &OpenWindow| (window.table.clone(), window.stream.clone(), window.shard.clone());
        b.age_seconds.cmp(&a.age_seconds).then_with(|| place(a).cmp(&place(b)))
    });
    windows.windows = windows.oldest.len();
    windows.records = windows.oldest.iter().map(|window| window.records).sum();
    windows.bytes = windows.oldest.iter().map(|window| window.bytes).sum();
    windows.age_seconds = windows.oldest.first().map(|window| window.age_seconds);
    windows
}

pub(super) async fn loads(context: &Context, has_registrar: bool) -> Result<Option<Loads>, String> {
    if !has_registrar {
        return Ok(None);
    }
    let registrar = RegistrarArgs { function: None };
    let answer: Result<TableList, _> = registrar.ask_quietly(&Command::TablesList {}, context).await;
    let list = answer.map_err(|error| error.to_string())?;
    let mut by_status: BTreeMap<String, u64> = BTreeMap::new();
    for (status, count) in list.tables.iter().flat_map(|table| &table.loads) {
        *by_status.entry(status.to_string()).or_default() += *count;
    }
    let oldest = list.tables.iter().filter_map(|table| table.oldest_unfinished).min();
    let age_seconds = oldest.map(|oldest| context.now.as_second().saturating_sub(oldest.as_second()));
    Ok(Some(Loads { by_status, age_seconds, unregistered_objects: list.unregistered_objects }))
}

/// The alarms of the stack.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    pub(super) ringing: Vec<Alarm>,
    pub(super) defined: usize,
    pub(super) not_evaluated: usize,
}

pub(super) async fn alarms(context: &Context) -> Result<Alarms, String> {
    let prefix = format!("{}-", context.stack);
    let mut pages = context.clients.cloudwatch.describe_alarms().alarm_name_prefix(&prefix).into_paginator().send();
    let mut alarms = Alarms::default();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| cause(&error))?;
        for alarm in page.metric_alarms() {
            let Some(name) = alarm.alarm_name().and_then(|name| logical_name(name, &prefix)) else { continue };
            alarms.defined += 1;
            alarms.not_evaluated += usize::from(alarm.state_value() == Some(&StateValue::InsufficientData));
            if alarm.state_value() == Some(&StateValue::Alarm) {
                let since = alarm.state_transitioned_timestamp().or(alarm.state_updated_timestamp());
                alarms.ringing.push(Alarm {
                    name: name.to_owned(),
                    since: since.map(ToString::to_string),
                    description: alarm.alarm_description().unwrap_or_default().to_owned(),
                });
            }
        }
    }
    Ok(alarms)
}

/// CloudFormation names an alarm `<stack>-<name in the template>-<random>`. `None` for those of other stacks.
fn logical_name<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let (logical, random) = name.strip_prefix(prefix)?.split_once('-')?;
    (!random.contains('-')).then_some(logical)
}

/// The ages of the oldest messages of queues, and how far streams are behind, in seconds, by name.
pub(super) async fn ages(
    context: &Context,
    queues: &[QueueStatus],
    sources: &[Source],
) -> Result<BTreeMap<String, i64>, String> {
    let of_queues = queues.iter().map(|queue| (queue.name.as_str(), true));
    let streams =
        sources.iter().filter(|source| !source.is_queue(queues)).map(|source| (source.source.as_str(), false));
    let names: Vec<(&str, bool)> = of_queues.chain(streams).collect();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let queries = names.iter().enumerate().map(|(at, (name, is_queue))| query(at, name, *is_queue));
    let queries: Vec<MetricDataQuery> = queries.collect();
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let now = context.now.as_second();
    let request = context.clients.cloudwatch.get_metric_data().set_metric_data_queries(Some(queries));
    let request =
        request.start_time(DateTime::from_secs(now - seconds(METRICS_SINCE))).end_time(DateTime::from_secs(now));
    let answer = request.send().await.map_err(|error| cause(&error))?;
    let mut ages = BTreeMap::new();
    for (at, (name, is_queue)) in names.into_iter().enumerate() {
        let result = answer.metric_data_results().iter().find(|result| result.id() == Some(&id(at)));
        // The latest value is the first.
        if let Some(value) = result.and_then(|result| result.values().first()) {
            #[expect(clippy::cast_possible_truncation, reason = "an age in seconds, and a cast saturates")]
            ages.insert(name.to_owned(), if is_queue { *value } else { *value / 1_000.0 } as i64);
        }
    }
    Ok(ages)
}

fn id(at: usize) -> String {
    format!("age{at}")
}

fn query(at: usize, name: &str, is_queue: bool) -> MetricDataQuery {
    let (namespace, metric, dimension) = match is_queue {
        true => ("AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName"),
        false => ("AWS/Kinesis", "GetRecords.IteratorAgeMilliseconds", "StreamName"),
    };
    let dimension = Dimension::builder().name(dimension).value(name).build();
    let metric = Metric::builder().namespace(namespace).metric_name(metric).dimensions(dimension).build();
    let stat = MetricStat::builder().metric(metric).period(60).stat("Maximum").build();
    MetricDataQuery::builder().id(id(at)).metric_stat(stat).build()
}

#[cfg(test)]
mod tests {
    use kit::{
        http,
        kinesis::{Record, Shard},
    };
    use rolling::{rules::TableRules, run::Extent, shard::Table};
    use shared::position::Position;

    use super::*;
    use crate::canned::services;

    #[test]
    fn what_is_in_no_file_is_open() {
        let position = |number: u64| Position::of_sequence_number(&number.to_string()).unwrap();
        let open = |first: u64, last: u64, oldest_ms: i64| {
            let (first, last) = (position(first), position(last));
            Table {
                open: Some(Extent { first, last, count: 3, bytes: 30, oldest_ms, newest_ms: 6_000 }),
                ..Table::default()
            }
        };
        let mut state = State::new();
        let tables = [("a", open(4, 6, 5_000)), ("b", open(7, 9, 4_000)), ("rolled", Table::default())];
        for (name, table) in tables {
            state.tables.insert(name.parse().unwrap(), table);
        }
        let variable = |name| match name {
            "INCOMING_BUCKET" => Some("incoming".to_owned()),
            "TABLE_POINTER" => Some("/topic".to_owned()),
            _ => None,
        };
        let rules = Rules::from_settings(&Settings::new(variable)).unwrap();
        let own = br#"{"tables": {"a": {"paused": true}, "b": {"seconds": 60}}}"#;
        let rules = rules.with(TableRules::of_bytes(own).unwrap());
        let id = ShardId { stream: "s".parse().unwrap(), shard: "shardId-0".parse().unwrap() };
        let sum = summed(&[(id.clone(), state)], &rules, 65_999);
        let window = |table: &str, age_seconds: i64, due_seconds: Option<i64>| OpenWindow {
            table: table.to_owned(),
            stream: "s".to_owned(),
            shard: "shardId-0".to_owned(),
            records: 3,
            bytes: 30,
            age_seconds,
            due_seconds,
        };
        assert_eq!((sum.windows, sum.records, sum.bytes, sum.age_seconds), (2, 6, 60, Some(61)));
        assert_eq!(sum.oldest, [window("b", 61, Some(-1)), window("a", 60, None)]);
        assert_eq!(summed(&[(id, State::new())], &rules, 0), Windows::default());
    }

    #[tokio::test]
    async fn each_shard_says_how_far_it_is_behind() {
        let mut shard = Shard { stream: "s", id: "shardId-0", page: 40, ..Shard::default() };
        for number in 1..=5 {
            let arrived_ms = i64::try_from(number).unwrap() * 1_000;
            shard.records.push(Record { sequence_number: number, arrived_ms, data: "e30=".to_owned() });
        }
        let context = services(move |request| shard.answer(http::target(request).unwrap(), &http::json(request))).await;
        let state = |tail: u64| {
            let tail = Position::of_sequence_number(&tail.to_string()).unwrap();
            State { tail, ..State::new() }
        };
        let id = |shard: &str| ShardId { stream: "s".parse().unwrap(), shard: shard.parse().unwrap() };
        let states = [(id("shardId-0"), state(5)), (id("shardId-1"), state(2)), (id("shardId-0"), state(2))];
        let behind = behind(&context, &states).await.unwrap();
        let behind: Vec<_> = behind.iter().map(|shard| (shard.shard.as_str(), shard.behind_ms)).collect();
        assert_eq!(behind, [("shardId-0", Some(2_000)), ("shardId-0", Some(0)), ("shardId-1", None)]);
    }

    #[test]
    fn alarms_of_a_stack_whose_name_begins_alike_are_not_its_own() {
        assert_eq!(logical_name("landfall-EventsAreOld-1A2B", "landfall-"), Some("EventsAreOld"));
        assert_eq!(logical_name("landfall-staging-EventsAreOld-1A2B", "landfall-"), None);
        assert_eq!(logical_name("other-EventsAreOld-1A2B", "landfall-"), None);
    }
}
