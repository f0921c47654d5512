//! A model test of kafka-roller: random histories of deliveries, redeliveries, ticks, and invocations that fail, die, or go on
//! after they have timed out, in any order, over an S3 in memory. Meanwhile settings change, the stream gives records up, shards
//! are split, and consumers take files away; some histories begin with what an earlier version has left. After every history,
//! each record must be in exactly one file, and each that can never be used in the quarantine once.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write,
    io::Read,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use flate2::read::GzDecoder;
use futures_util::future::LocalBoxFuture;
use kafka_roller::{
    app::App,
    config::Config,
    error::{ReplayError, RollError},
    handler::{HandleError, Response, Tally, run},
    lineage::{Lineage, Parents},
};
use md5::{Digest, Md5};
use rolling::{
    earlier::{self, Item},
    line::TableOf,
    replay::NotLanded,
    rules::{Compression, Own, Rules, TABLES, TableRules, Waiting},
    run::{Entry, Extent, Run},
    segment::{Contents, poison},
    shard::{Limits, Listing, STATE, ShardId, State},
};
use shared::{
    position::Position,
    rolled::{Reason, RolledFile, Window},
};

use crate::{
    events::tick,
    kafka_world::{Fate, Object, Sim, World},
    roles,
};

/// Seeds of histories that have failed in the past.
const REGRESSIONS: &[u64] = &[2_126, 3_408, 274_245];
const HOUR_MS: i64 = 3_600_000;
/// In the histories, Lambda passes on no larger event.
const LARGE: usize = 40_000;

/// Random numbers from a seed.
#[derive(Debug, Clone)]
struct Dice(Rc<Cell<u64>>);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(Rc::new(Cell::new(seed)))
    }

    /// 0 to `below` - 1 (splitmix64).
    fn throw(&self, below: usize) -> usize {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % below as u64) as usize
    }

    /// True with a probability of `chance` percent.
    fn percent(&self, chance: usize) -> bool {
        self.throw(100) < chance
    }
}

/// A record of the stream.
#[derive(Clone)]
struct Put {
    sequence: u64,
    arrived_ms: i64,
    data: Vec<u8>,
    /// The numbers of the records in it, one or those of an aggregate, with the table of each.
    holds: Vec<(&'static str, u64)>,
    /// Which of its records are poison.
    poison: Vec<usize>,
    /// Whether it is too large for Lambda to pass it on.
    is_large: bool,
}

impl Put {
    /// Ids of its poison records in the quarantine.
    fn poison_ids(&self, shard: usize) -> Vec<String> {
        let position = Position::of_sequence_number(&self.sequence.to_string()).unwrap();
        let ids = self.poison.iter().map(|index| position.in_aggregate(*index).unwrap());
        ids.map(|position| format!("shardId-{shard}:{position}")).collect()
    }
}

#[derive(Default)]
struct Shard {
    puts: Vec<Put>,
    /// Number of puts that the stream regards as processed.
    checkpoint: usize,
    /// The shards that were split or merged into it.
    parents: Vec<usize>,
    /// Whether it was split or merged itself.
    is_closed: bool,
}

/// Knows the parents of shards, and sometimes does not answer.
#[derive(Debug, Clone)]
struct Family {
    parents: Rc<RefCell<Parents>>,
    fails: Rc<Cell<bool>>,
    dice: Dice,
}

impl Lineage for Family {
    fn parents<'a>(&'a self, _: &'a str) -> LocalBoxFuture<'a, Result<Parents, RollError>> {
        roles::roller().assert_allows("kinesis:ListShards", "KafkaStream");
        let is_silent = self.fails.get() && !self.parents.borrow().is_empty() && self.dice.percent(20);
        let failed = || RollError::Shards("stream".to_owned(), "fate".to_owned());
        let answer = if is_silent { Err(failed()) } else { Ok(self.parents.borrow().clone()) };
        Box::pin(async move { answer })
    }
}

type Invocation = Pin<Box<dyn Future<Output = Result<Response, HandleError>>>>;

/// An object in which Lambda keeps what it has given up.
#[derive(Clone)]
struct Discarded {
    key: String,
    shard: usize,
    puts: Vec<Put>,
}

struct Actor {
    invocation: Invocation,
    /// What it replays.
    replays: Option<Discarded>,
    /// The shard that waits for the response, and the puts that were delivered. `None` for ticks, and for invocations that have
    /// timed out.
    delivery: Option<(usize, std::ops::Range<usize>)>,
}

struct History {
    dice: Dice,
    world: World,
    app: Rc<App<Sim>>,
    /// Whether the settings change between invocations, so that files have several limits and tables.
    changes: bool,
    /// Whether an earlier version has left its windows behind.
    inherits: bool,
    shards: Vec<Shard>,
    family: Family,
    actors: Vec<Actor>,
    next: u64,
    poison: usize,
    /// Whether an aggregate may be put.
    aggregates: bool,
    /// The rules of tables.
    tables: TableRules,
    /// Whether files may have been asked for.
    requested: bool,
    /// What Lambda has given up and nobody has replayed.
    discarded: Vec<Discarded>,
    /// How often it has.
    discards: usize,
    /// Whether some puts are too large for Lambda.
    has_large: bool,
    /// Records that were given up, and of which it is not known whether they are in a file.
    given_up: BTreeSet<u64>,
    /// Ids of such poison records.
    given_up_poison: BTreeSet<String>,
    /// Files that a consumer has taken away.
    taken: Vec<(String, Object)>,
    /// Whether an upload may be left, because an invocation died or could not abort it.
    may_leave_uploads: Rc<Cell<bool>>,
}

/// The settings of the function, which may change at any time.
fn settings(dice: &Dice) -> Rules {
    let limits = Limits {
        records: 1 + dice.throw(12),
        bytes: if dice.percent(30) { 20 + dice.throw(200) as u64 } else { 1 << 20 },
        age_ms: HOUR_MS,
    };
    Rules {
        incoming_bucket: if dice.percent(80) { "incoming" } else { "lake" }.into(),
        lines: TableOf::Pointer("/t".parse().unwrap()).into(),
        limits,
        gzip: dice.percent(5),
        tables: Arc::default(),
        waiting: Waiting::default(),
    }
}

/// Rules that some tables have of their own.
fn table_rules(dice: &Dice) -> TableRules {
    let mut rules = TableRules::default();
    for table in ["a", "b", "d"] {
        if dice.percent(40) {
            let own = Own {
                records: dice.percent(50).then(|| 1 + dice.throw(12)),
                compression: dice.percent(10).then_some(Compression::Gzip),
                paused: dice.percent(30),
                ..Own::default()
            };
            rules.tables.insert(table.parse().unwrap(), own);
        }
    }
    rules
}

fn app(world: &World, rules: Rules, part_bytes: usize, changes: bool, family: &Family) -> Rc<App<Sim>> {
    let max_tick_ahead = Duration::ZERO; // the clock of the world begins in 1970
    let config = Config { stack: "landfall".into(), lake_bucket: "lake".into(), max_tick_ahead, rules };
    let mut app = App::over(config, world.bucket("lake"), world.bucket("incoming"));
    app.part_bytes = part_bytes;
    app.tidy_minutes = 1;
    app.lineage = Some(Box::new(family.clone()));
    app.rules_for = if changes { Duration::ZERO } else { Duration::MAX };
    app.journal_ms = i64::MAX; // likewise
    app.max_event_bytes = LARGE;
    Rc::new(app)
}

impl History {
    fn new(seed: u64) -> Self {
        let dice = Dice::new(seed);
        let world = World::default();
        let rules = settings(&dice);
        let part_bytes = if dice.percent(30) { 16 } else { 1 << 20 };
        let shards = (0..1 + dice.throw(2)).map(|_| Shard::default()).collect();
        let (aggregates, changes) = (dice.percent(40), dice.percent(40));
        let family = Family { parents: Rc::default(), fails: Rc::new(Cell::new(true)), dice: dice.clone() };
        let app = app(&world, rules, part_bytes, changes, &family);
        let has_large = dice.percent(20);
        Self {
            dice,
            world,
            app,
            changes,
            inherits: false,
            shards,
            family,
            actors: Vec::new(),
            next: 1,
            poison: 0,
            aggregates,
            tables: TableRules::default(),
            requested: false,
            discarded: Vec::new(),
            discards: 0,
            has_large,
            given_up: BTreeSet::new(),
            given_up_poison: BTreeSet::new(),
            taken: Vec::new(),
            may_leave_uploads: Rc::default(),
        }
    }

    fn clock(&self) -> i64 {
        self.world.0.borrow().clock_ms
    }

    fn wait(&self, ms: usize) {
        self.world.0.borrow_mut().clock_ms += ms as i64;
    }

    /// Puts a record, or an aggregate of some.
    fn put(&mut self) {
        let open: Vec<usize> = (0..self.shards.len()).filter(|shard| !self.shards[*shard].is_closed).collect();
        let shard = open[self.dice.throw(open.len())];
        let is_large = self.has_large && self.dice.percent(10);
        self.put_in(shard, is_large);
    }

    fn put_in(&mut self, shard: usize, is_large: bool) {
        let many = if self.aggregates && self.dice.percent(30) { 1 + self.dice.throw(8) } else { 0 };
        let (mut holds, mut records, mut poison) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..many.max(1) {
            self.next += 1;
            if self.dice.percent(5) {
                records.push(format!("no json {}", self.next).into_bytes());
                poison.push(index);
                continue;
            }
            let table = ["a", "b", "c"][self.dice.throw(3).min(self.dice.throw(3))];
            let filler = "x".repeat(self.dice.throw(20));
            let other = ["a", "d"][self.dice.throw(2)];
            let line = format!("{{\"t\":\"{table}\",\"u\":\"{other}\",\"n\":{},\"x\":\"{filler}\"}}", self.next);
            records.push(line.into_bytes());
            holds.push((table, self.next));
        }
        self.poison += poison.len();
        self.world.note(format!("put {} in {shard}: {holds:?}", self.next));
        let data = if many > 0 { pack(&records) } else { records.remove(0) };
        let arrived_ms = self.clock() - self.dice.throw(50) as i64;
        let put = Put { sequence: self.next, arrived_ms: arrived_ms.max(0), data, holds, poison, is_large };
        // Whether Lambda gives it up before it delivers what was put before is not documented, so it may.
        if is_large {
            self.discard(shard, std::slice::from_ref(&put));
        }
        self.shards[shard].puts.push(put);
    }

    /// Lambda writes what it gives up.
    fn discard(&mut self, shard: usize, puts: &[Put]) {
        if puts.is_empty() {
            return;
        }
        self.discards += 1;
        let key = format!("aws/lambda/0f1e/shardId-{shard}/1970/01/01/1970-01-01T00.00.00-{}", self.discards);
        let mut event = event(shard, puts);
        if puts.iter().any(|put| put.is_large) {
            event.push_str(&" ".repeat(LARGE));
        }
        let object = serde_json::json!({
            "requestContext": {"condition": "RetryAttemptsExhausted"}, "version": "1.0", "payload": event,
        });
        self.world.put(&format!("lake/{key}"), Bytes::from(object.to_string()), &[]);
        self.discarded.push(Discarded { key, shard, puts: puts.to_vec() });
    }

    /// Somebody replays what Lambda has given up.
    fn replay(&mut self, discarded: Discarded, even_if_landed: bool) {
        let has_state = self.states().iter().any(|(id, _)| id.shard.as_str() == format!("shardId-{}", discarded.shard));
        let even_if_landed = even_if_landed && !has_state;
        let event = serde_json::json!({"discarded": discarded.key, "even_if_landed": even_if_landed}).to_string();
        self.invoke(event, None);
        self.actors.last_mut().unwrap().replays = Some(discarded);
    }

    /// The function has answered a replay. Once everything is durable, the command deletes the object, unless it dies.
    fn replayed(&mut self, discarded: &Discarded, result: Result<Response, HandleError>) {
        let Discarded { key, shard, puts } = discarded;
        match result {
            Ok(response) => {
                assert!(response.replayed.is_some());
                self.assert_durable(*shard, puts);
                if self.dice.percent(60) {
                    self.world.remove(&format!("lake/{key}"));
                    self.discarded.retain(|other| other.key != *key);
                }
            }
            Err(HandleError::Replay(_, ReplayError::NotLanded(NotLanded::Undecided(_)))) => {
                assert!(self.inherits, "whether {key} was staged has to be known");
                for put in puts {
                    self.given_up.extend(put.holds.iter().map(|(_, number)| *number));
                    self.given_up_poison.extend(put.poison_ids(*shard));
                }
                self.discarded.retain(|other| other.key != *key);
            }
            Err(_) => {}
        }
    }

    fn invoke(&mut self, event: String, delivery: Option<(usize, std::ops::Range<usize>)>) {
        self.world.note(format!("{} invoked at {} with {delivery:?}", self.actors.len(), self.clock()));
        let app = self.app.clone();
        let invocation =
            Box::pin(async move { run(&app, Bytes::from(event), None, &mut Tally::default()).await }) as Invocation;
        self.actors.push(Actor { invocation, replays: None, delivery });
    }

    /// Somebody deploys other settings.
    fn change(&mut self) {
        if !self.changes {
            return;
        }
        let mut rules = settings(&self.dice);
        // Of what an earlier version has left, each table says what it has already, and files are looked for in one bucket.
        if self.inherits {
            rules.incoming_bucket.clone_from(&self.app.config.rules.incoming_bucket);
        }
        if self.dice.percent(30) && !self.inherits {
            rules.lines.table_of = TableOf::Pointer("/u".parse().unwrap());
        }
        self.world.note(format!("{rules:?} deployed"));
        self.app = app(&self.world, rules, self.app.part_bytes, self.changes, &self.family);
    }

    /// Somebody applies other rules of tables.
    fn apply(&mut self, tables: TableRules) {
        self.world.note(format!("{tables:?} applied"));
        self.world.put(&format!("lake/{TABLES}"), tables.to_bytes().unwrap().into(), &[]);
        self.tables = tables;
    }

    /// Somebody asks for the files of some tables.
    fn roll(&mut self) {
        let tables: Vec<&str> = ["a", "b", "c", "d"].into_iter().filter(|_| self.dice.percent(50)).collect();
        self.requested = true;
        self.invoke(serde_json::json!({ "roll": tables }).to_string(), None);
    }

    /// A consumer takes a file away whose writer has died, before the state says that the file exists.
    fn take(&mut self) {
        if !self.actors.is_empty() {
            return;
        }
        let files = self.files_in_place();
        if !files.is_empty() {
            let (key, object) = files[self.dice.throw(files.len())].clone();
            self.world.note(format!("{key} taken"));
            self.world.remove(&key);
            self.taken.push((key, object));
        }
    }

    /// A shard is split, or two are merged: from now on their records arrive in others.
    fn reshard(&mut self) {
        let open: Vec<usize> = (0..self.shards.len()).filter(|shard| !self.shards[*shard].is_closed).collect();
        if self.shards.len() > 4 {
            return;
        }
        let merges = open.len() == 2 && self.dice.percent(50);
        let parents = if merges { open } else { vec![open[self.dice.throw(open.len())]] };
        parents.iter().for_each(|parent| self.shards[*parent].is_closed = true);
        for _ in 0..if merges { 1 } else { 2 } {
            let names = parents.iter().map(|parent| format!("shardId-{parent}").parse().unwrap()).collect();
            let child = format!("shardId-{}", self.shards.len()).parse().unwrap();
            self.family.parents.borrow_mut().insert(child, names);
            self.shards.push(Shard { parents: parents.clone(), ..Shard::default() });
        }
        self.world.note(format!("{parents:?} became others"));
    }

    /// Whether Lambda has processed all records of a shard that was split or merged, and of its parents.
    fn is_done(&self, shard: usize) -> bool {
        let Shard { puts, checkpoint, parents, .. } = &self.shards[shard];
        *checkpoint == puts.len() && parents.iter().all(|parent| self.is_done(*parent))
    }

    /// Lambda gives up some records, after they have been delivered or not.
    fn give_up(&mut self) {
        let shard = self.dice.throw(self.shards.len());
        let waiting = |actor: &Actor| actor.delivery.as_ref().is_some_and(|(of, _)| *of == shard);
        if self.actors.iter().any(waiting) {
            return;
        }
        let most = self.dice.throw(4);
        let Shard { puts, checkpoint, .. } = &mut self.shards[shard];
        let end = puts.len().min(*checkpoint + most);
        let given_up: Vec<Put> = puts[*checkpoint..end].iter().filter(|put| !put.is_large).cloned().collect();
        *checkpoint = end;
        self.discard(shard, &given_up);
    }

    fn tick(&mut self) {
        self.invoke(tick(self.clock()).to_string(), None);
    }

    /// Delivers the next records of a shard, unless an invocation for that shard is running.
    fn deliver(&mut self, shard: usize, most: usize) {
        let waiting = |actor: &Actor| actor.delivery.as_ref().is_some_and(|(of, _)| *of == shard);
        let Shard { puts, checkpoint, parents, .. } = &self.shards[shard];
        // Lambda delivers a shard when its parents are done.
        let is_next = parents.iter().all(|parent| self.is_done(*parent));
        if is_next && *checkpoint < puts.len() && !self.actors.iter().any(waiting) {
            let range = *checkpoint..puts.len().min(checkpoint + 1 + self.dice.throw(most));
            // What is too large leaves a hole.
            let passed_on: Vec<Put> = puts[range.clone()].iter().filter(|put| !put.is_large).cloned().collect();
            if passed_on.is_empty() {
                self.shards[shard].checkpoint = range.end;
                return;
            }
            self.invoke(event(shard, &passed_on), Some((shard, range)));
        }
    }

    /// Delivers the next records of a shard, and waits for the answer.
    fn deliver_now(&mut self, shard: usize) {
        self.deliver(shard, 20);
        if !self.actors.is_empty() {
            self.go_on(0);
        }
    }

    /// Lets an invocation make one call or get one response.
    fn go_on(&mut self, actor: usize) {
        self.world.turn();
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(result) = self.actors[actor].invocation.as_mut().poll(&mut context) {
            let Actor { delivery, replays, .. } = self.actors.swap_remove(actor);
            self.world.note(format!("{actor} answered {result:?} for {delivery:?}"));
            if let Some(discarded) = replays {
                return self.replayed(&discarded, result);
            }
            if let (Some((shard, range)), Ok(response)) = (delivery, result) {
                self.acknowledge(shard, &range, &response);
            }
        }
    }

    /// Lets an invocation make some calls, get some responses, or end.
    fn run(&mut self, actor: usize, steps: usize) {
        let all = self.actors.len();
        for _ in 0..steps {
            if self.actors.len() == all {
                self.go_on(actor);
            }
        }
    }

    /// Processes a response like the stream does. All records that the stream then regards as processed must be stored.
    fn acknowledge(&mut self, shard: usize, range: &std::ops::Range<usize>, response: &Response) {
        let puts = &self.shards[shard].puts;
        let checkpoint = match response.batch_item_failures.as_slice() {
            [] => range.end,
            [failure] => {
                let at = puts[range.clone()].iter().position(|put| put.sequence.to_string() == failure.item_identifier);
                range.start + at.expect("a failure names a record of the batch")
            }
            _ => panic!("one failure is enough"),
        };
        let passed_on: Vec<Put> = puts[range.start..checkpoint].iter().filter(|put| !put.is_large).cloned().collect();
        self.assert_durable(shard, &passed_on);
        self.shards[shard].checkpoint = checkpoint;
    }

    fn assert_durable(&self, shard: usize, puts: &[Put]) {
        let (durable, quarantined) = (self.durable(), self.durable_poison());
        for put in puts {
            assert!(put.holds.iter().all(|(_, number)| durable.contains(number)), "{} is acknowledged", put.sequence);
            for id in put.poison_ids(shard) {
                assert!(quarantined.contains(&id), "{id} is acknowledged");
            }
        }
    }

    /// The states of all shards.
    fn states(&self) -> Vec<(ShardId, State)> {
        let states = self.world.objects("lake/staging/").into_iter().filter(|(key, _)| key.ends_with(STATE));
        let id = |key: &str| ShardId::of_key(key.strip_prefix("lake/").unwrap()).unwrap().0;
        states.map(|(key, object)| (id(&key), State::of_bytes(&object.body).unwrap())).collect()
    }

    /// Numbers of all records in segments that states name, and in files.
    fn durable(&self) -> BTreeSet<u64> {
        let mut lines = Vec::new();
        let states = self.states();
        for (key, object) in self.world.objects("lake/staging/") {
            let (shard, name) = ShardId::of_key(key.strip_prefix("lake/").unwrap()).unwrap();
            let state = states.iter().find(|(id, _)| *id == shard);
            if let Some((_, Item::Segment(staged))) = earlier::parse(name)
                && state.is_none_or(|(_, state)| state.names().contains(name))
            {
                lines.push(slice(&object.body, staged.block().lines()));
            }
        }
        self.each_segment(|contents, body| {
            lines.extend(contents.tables.values().map(|block| slice(body, block.lines())));
        });
        let files = self.files().into_iter().map(|(_, object)| contents(&object).into());
        lines.into_iter().chain(files).flat_map(|lines: Bytes| numbers(&lines)).collect()
    }

    fn each_segment(&self, mut each: impl FnMut(&Contents, &Bytes)) {
        for (id, state) in self.states() {
            let replays = state.replays.iter().map(|replay| &replay.segment);
            for stored in state.segments.iter().filter(|stored| stored.table().is_none()).chain(replays) {
                let path = format!("lake/{}", id.key(&stored.name));
                let body = self.world.0.borrow().objects[&path].body.clone();
                let (start, end) = stored.contents.unwrap();
                each(&Contents::of_bytes(&slice(&body, start..end)).unwrap(), &body);
            }
        }
    }

    /// All files, wherever they are.
    fn files(&self) -> Vec<(String, Object)> {
        self.files_in_place().into_iter().chain(self.taken.iter().cloned()).collect()
    }

    fn files_in_place(&self) -> Vec<(String, Object)> {
        let buckets = ["incoming", "lake"].map(|bucket| self.world.objects(&format!("{bucket}/cubic/kafka/")));
        buckets.into_iter().flatten().collect()
    }

    /// Ids of the quarantined records, each as often as it is there.
    fn quarantined(&self) -> Vec<String> {
        let objects = self.world.objects("lake/quarantine/kafka-roller/");
        let mut records: Vec<String> = Vec::new();
        for (_, object) in objects {
            records.extend(poison(&object.body).unwrap().into_iter().map(|record| record.id));
        }
        records
    }

    /// Ids of the poison records that are in the quarantine, or in a segment that has to go there.
    fn durable_poison(&self) -> BTreeSet<String> {
        let mut ids: BTreeSet<String> = self.quarantined().into_iter().collect();
        self.each_segment(|contents, body| {
            let records = poison(&slice(body, contents.poison.clone())).unwrap();
            ids.extend(records.into_iter().map(|record| record.id));
        });
        ids
    }

    /// Leaves behind what an earlier version has left: some windows staged by table, some rolled, and some things half done.
    fn inherit(&mut self) {
        if !self.dice.percent(20) {
            return;
        }
        self.inherits = true;
        for shard in 0..self.shards.len() {
            for _ in 0..self.dice.throw(16) {
                self.next += 1;
                let table = ["a", "b", "c"][self.dice.throw(3)];
                let data = format!("{{\"t\":\"{table}\",\"u\":\"a\",\"n\":{},\"x\":\"\"}}", self.next).into_bytes();
                let holds = vec![(table, self.next)];
                let (sequence, arrived_ms) = (self.next, self.next as i64);
                let put = Put { sequence, arrived_ms, data, holds, poison: Vec::new(), is_large: false };
                self.shards[shard].puts.push(put);
            }
            let all = self.shards[shard].puts.len();
            self.shards[shard].checkpoint = self.dice.throw(all + 1);
            self.world.0.borrow_mut().clock_ms = 2 * HOUR_MS;
            for table in ["a", "b", "c"] {
                self.inherit_window(shard, table);
            }
        }
        // Invocations of the earlier version may run for so long.
        self.wait(self.dice.throw(1_800_000));
    }

    fn inherit_window(&mut self, shard: usize, table: &str) {
        let Shard { puts, checkpoint, .. } = &self.shards[shard];
        // Of what will be delivered again, some tables have some staged.
        let staged = if self.dice.percent(50) { *checkpoint } else { self.dice.throw(puts.len() + 1).max(*checkpoint) };
        let puts = puts[..staged].iter().filter(|put| put.holds[0].0 == table);
        let (mut entries, mut lines) = (Vec::new(), Vec::new());
        for put in puts {
            lines.extend_from_slice(&put.data);
            lines.push(b'\n');
            let position = Position::of_sequence_number(&put.sequence.to_string()).unwrap();
            entries.push(Entry { position, arrived_ms: put.arrived_ms, end: lines.len() });
        }
        let run = Run::new(entries, lines.into());
        let end = |count: usize| run.entries(0..count).last().map_or(Position::START, |entry| entry.position);
        let window = |text: &str| text.parse().unwrap();
        let folder = format!("stream/shardId-{shard}/{table}");
        let window =
            Window { stream: window("stream"), shard: window(&format!("shardId-{shard}")), table: window(table) };
        let mut rolled = 0;
        let mut marked = 0;
        while rolled < run.len() && self.dice.percent(50) {
            let Limits { records, bytes, .. } = self.app.config.rules.limits;
            let most = run.fitting(rolled..run.len(), records, bytes).max(1);
            let count = 1 + self.dice.throw(most);
            let extent = run.extent(rolled..rolled + count).unwrap();
            let file = RolledFile {
                window: window.clone(),
                after: end(rolled),
                first: extent.first,
                last: extent.last,
                count,
                oldest_ms: extent.oldest_ms,
                newest_ms: extent.newest_ms,
                reason: Reason::Age,
            };
            let bucket = &self.app.config.rules.incoming_bucket;
            let key = format!("{bucket}/cubic/kafka/{table}/{}.json", file.id());
            self.world.put(&key, run.lines(rolled..rolled + count), &file.metadata());
            rolled += count;
            // It died between the file and its mark.
            if self.dice.percent(20) {
                break;
            }
            marked = rolled;
            if self.dice.percent(70) {
                self.world.put(&format!("lake/staging/{folder}/rolled-{}", end(marked)), Bytes::new(), &[]);
            } else {
                marked = 0;
                break;
            }
        }
        let mut from = if self.dice.percent(30) { 0 } else { marked };
        while from < run.len() {
            let to = from + 1 + self.dice.throw(run.len() - from);
            let extent = run.extent(from..to).unwrap();
            let Extent { first, last, count, bytes, oldest_ms, newest_ms } = extent;
            let name = format!("{}-{first}-{last}-{count}-{bytes}-{oldest_ms}-{newest_ms}.ndjson", end(from));
            let mut body = Vec::new();
            let part = run.clone().beyond(end(from));
            Run::new(part.entries(0..count).to_vec(), part.lines(0..count)).append_to(&mut body);
            self.world.put(&format!("lake/staging/{folder}/{name}"), body.into(), &[]);
            // Two invocations staged the same records in different batches.
            from = if self.dice.percent(20) { to - self.dice.throw(to - from) } else { to };
        }
    }

    /// Some tables have limits of their own from the beginning.
    fn declare(&mut self) {
        if !self.changes && !self.inherits && self.dice.percent(30) {
            let mut tables = table_rules(&self.dice);
            tables.tables.values_mut().for_each(|own| own.paused = false);
            self.apply(tables);
        }
    }

    /// A phase in which anything may happen.
    fn live(&mut self) {
        let (dice, faults) = (self.dice.clone(), self.dice.throw(15));
        let may_leave_uploads = self.may_leave_uploads.clone();
        self.world.take_turns(2 + self.dice.throw(4), move |call| {
            let fate = match dice.throw(200) {
                die if die >= faults => return Fate::Done,
                die if die % 3 == 0 => Fate::Refused,
                die if die % 3 == 1 => Fate::Raced,
                _ => Fate::AnswerLost,
            };
            if call.starts_with("abort") || call.starts_with("begin") {
                may_leave_uploads.set(true);
            }
            fate
        });
        let most = 1 + self.dice.throw(15);
        let (gives_up, takes, rolls) = (self.dice.percent(20), self.dice.percent(30), self.dice.percent(20));
        let reshards = self.dice.percent(20);
        for _ in 0..60 + self.dice.throw(240) {
            match self.dice.throw(100) {
                0..12 => (0..1 + self.dice.throw(4)).for_each(|_| self.put()),
                12..20 => self.deliver(self.dice.throw(self.shards.len()), most),
                20..23 => self.tick(),
                23..26 => self.wait(self.dice.throw(2 * HOUR_MS as usize)),
                26 => self.wait(self.dice.throw(60_000)),
                27 if gives_up => self.give_up(),
                28 if !self.discarded.is_empty() => {
                    let discarded = self.discarded[self.dice.throw(self.discarded.len())].clone();
                    // Two of them may decide at the same time, under other settings.
                    if self.dice.percent(30) {
                        self.replay(discarded.clone(), false);
                        self.change();
                    }
                    self.replay(discarded, false);
                }
                29 => match self.dice.throw(6) {
                    0 => self.change(),
                    4 if self.changes => self.apply(table_rules(&self.dice)),
                    5 if rolls => self.roll(),
                    2 if takes => {
                        (0..self.actors.len()).for_each(|_| self.die(0));
                        self.take();
                    }
                    3 if reshards => self.reshard(),
                    _ => {}
                },
                die if !self.actors.is_empty() => {
                    let actor = self.dice.throw(self.actors.len());
                    match die {
                        // It dies, and the stream delivers again.
                        30 => self.die(actor),
                        // It times out, but continues to run.
                        31..33 => self.actors[actor].delivery = None,
                        // It makes many calls while the others wait.
                        33..38 => self.run(actor, 40),
                        _ => self.run(actor, 1),
                    }
                }
                _ => {}
            }
            if self.actors.len() > 6 {
                self.die(self.dice.throw(self.actors.len()));
            }
        }
    }

    fn die(&mut self, actor: usize) {
        if !self.world.0.borrow().uploads.is_empty() {
            self.may_leave_uploads.set(true);
        }
        self.world.note(format!("{actor} died"));
        drop(self.actors.swap_remove(actor));
    }

    /// Nothing fails any more, everything is delivered, and an hour passes.
    fn end(&mut self) {
        let dice = self.dice.clone();
        self.has_large = false;
        self.family.fails.set(false);
        self.world.take_turns(3, |_| Fate::Done);
        while !self.actors.is_empty() {
            let actor = dice.throw(self.actors.len());
            self.go_on(actor);
        }
        self.world.run_freely();
        let mut tables = self.tables.clone();
        tables.tables.values_mut().for_each(|own| own.paused = false);
        self.apply(tables);
        for shard in 0..self.shards.len() {
            while self.shards[shard].checkpoint < self.shards[shard].puts.len() {
                self.deliver_now(shard);
            }
        }
        // Each is replayed twice, if it is still there.
        for _ in 0..2 {
            for discarded in self.discarded.clone() {
                self.replay(discarded, false);
                self.go_on(0);
            }
        }
        // Of some shards there is nothing but what is too large.
        for discarded in self.discarded.clone() {
            self.replay(discarded, true);
            self.go_on(0);
        }
        // Lower limits are applied by the next tick, and full files are written at once. The windows of shards that have ended are
        // closed by the first tick, and files of the shards that came from them are written by the one after it.
        for _ in 0..1 + self.shards.len() {
            self.tick();
            self.go_on(0);
        }
        self.assert_prompt();
        let shard = dice.throw(self.shards.len());
        (0..dice.throw(30)).for_each(|_| self.put());
        while self.shards[shard].checkpoint < self.shards[shard].puts.len() {
            self.deliver_now(shard);
            self.assert_prompt();
        }
        for shard in 0..self.shards.len() {
            while self.shards[shard].checkpoint < self.shards[shard].puts.len() {
                self.deliver_now(shard);
            }
        }
        for _ in 0..2 {
            self.wait(HOUR_MS as usize / 2);
            self.tick();
            self.go_on(0);
            self.assert_prompt();
            self.wait(HOUR_MS as usize / 2);
            self.tick();
            self.go_on(0);
            self.assert_prompt();
        }
    }

    /// Asserts that no file waits that is full or, at the last tick, was old.
    fn assert_prompt(&self) {
        let rules = self.app.config.rules.with(self.tables.clone());
        // Files of shards whose parents have just ended wait for the next ticks.
        for (id, state) in
            self.states().into_iter().filter(|(_, state)| state.parents.as_ref().is_some_and(Vec::is_empty))
        {
            assert!(state.replays.is_empty(), "{id} has not landed {:?}", state.replays);
            for (name, table) in &state.tables {
                let (limits, _) = rules.of(name);
                assert!(table.begun.is_empty() && !table.recount, "{id}/{name} is not written");
                let Some(open) = table.open else { continue };
                assert!(open.count < limits.records && open.bytes < limits.bytes, "{id}/{name} is full: {open:?}");
                assert!(self.clock() - open.oldest_ms < HOUR_MS + 60_000, "{id}/{name} is old: {open:?}");
            }
        }
    }

    fn check(&self) {
        let mut windows: BTreeMap<String, Vec<(RolledFile, Vec<u8>, i64)>> = BTreeMap::new();
        for (_, object) in self.files() {
            let file = RolledFile::of_metadata(|name| object.metadata.get(name).map(String::as_str)).unwrap();
            let contents = contents(&object);
            windows.entry(file.window.to_string()).or_default().push((file, contents, object.written_ms));
        }
        let arrived: HashMap<u64, i64> = self
            .shards
            .iter()
            .flat_map(|shard| &shard.puts)
            .flat_map(|put| put.holds.iter().map(|(_, number)| (*number, put.arrived_ms)))
            .collect();
        let mut landed = Vec::new();
        for files in windows.values_mut() {
            files.sort_by_key(|(file, ..)| file.first);
            // Those that were landed out of band lie anywhere.
            let (replayed, files): (Vec<_>, Vec<_>) =
                files.iter().partition(|(file, ..)| file.reason == Reason::Replay);
            for (file, lines, _) in replayed {
                let of_file = numbers(lines);
                assert!(of_file.is_sorted() && of_file.len() == file.count);
                landed.extend(of_file);
            }
            for ((file, lines, written_ms), next) in files.iter().zip(files.iter().skip(1).map(Some).chain([None])) {
                let of_file = numbers(lines);
                assert!(of_file.is_sorted(), "in order");
                assert_eq!(of_file.len(), file.count);
                if let Some((next, ..)) = next {
                    assert_eq!(next.after, file.last, "files tile");
                }
                let oldest = of_file.iter().map(|number| arrived[number]).min().unwrap();
                let newest = of_file.iter().map(|number| arrived[number]).max().unwrap();
                assert_eq!((file.oldest_ms, file.newest_ms), (oldest, newest));
                if file.reason == Reason::Age {
                    assert!(written_ms - oldest >= HOUR_MS, "closed after {}", written_ms - oldest);
                }
                let has_ended = || shard_of(file).is_some_and(|shard| self.shards[shard].is_closed);
                let is_known = matches!(file.reason, Reason::Age | Reason::Bytes | Reason::Records)
                    || (file.reason == Reason::Reshard && has_ended());
                assert!(is_known || (file.reason == Reason::Request && self.requested), "{:?}", file.reason);
                if !self.changes {
                    self.check_limits(file, lines, next.map(|(_, lines, _)| lines.as_slice()));
                }
                landed.extend(of_file);
            }
        }
        for (number, shard) in self.shards.iter().enumerate().filter(|_| !self.changes) {
            for table in ["a", "b", "c"] {
                let holds = shard.puts.iter().flat_map(|put| &put.holds).filter(|(of, _)| *of == table);
                let expected = holds.map(|(_, number)| *number);
                let files = windows.remove(&format!("stream/shardId-{number}/{table}")).unwrap_or_default();
                let mut landed: Vec<u64> = files.iter().flat_map(|(_, lines, _)| numbers(lines)).collect();
                if files.iter().any(|(file, ..)| file.reason == Reason::Replay) {
                    landed.sort_unstable();
                }
                let expected = expected.filter(|number| !self.given_up.contains(number) || landed.contains(number));
                assert_eq!(landed, expected.collect::<Vec<_>>(), "the records of {number}/{table}, in order");
            }
        }
        assert!(self.changes || windows.is_empty(), "windows of nobody: {:?}", windows.keys());
        landed.sort_unstable();
        let is_known = |number: &u64| !self.given_up.contains(number) || landed.binary_search(number).is_ok();
        let mut expected: Vec<u64> = arrived.keys().copied().filter(is_known).collect();
        expected.sort_unstable();
        assert_eq!(landed, expected, "each record is in exactly one file");
        let left: Vec<String> = self.world.objects("lake/staging/").into_iter().map(|(key, _)| key).collect();
        let states = self.states();
        // A replay may have died before the state took up what it had written; the next change of the state shows that nobody will.
        let may_be_taken_up = |key: &String| {
            let (id, name) = ShardId::of_key(key.strip_prefix("lake/").unwrap()).unwrap();
            let mut listing = Listing::default();
            let state = states.iter().find(|(of, _)| *of == id).map(|(_, state)| state);
            listing.add(name, None)
                && listing
                    .replays
                    .iter()
                    .all(|(revision, name)| state.is_none_or(|state| !state.is_dead_replay(*revision, name)))
                && !listing.replays.is_empty()
        };
        let is_fine = |key: &String| key.ends_with(STATE) || may_be_taken_up(key);
        assert!(left.iter().all(is_fine), "nothing is left open: {left:?}");
        let mut quarantined = self.quarantined();
        quarantined.sort_unstable();
        assert!(quarantined.windows(2).all(|two| two[0] != two[1]), "poison is quarantined once: {quarantined:?}");
        let missing = self.poison - quarantined.len();
        let given_up = self.given_up_poison.iter().filter(|id| quarantined.binary_search(id).is_err());
        assert_eq!(missing, given_up.count());
        assert!(self.may_leave_uploads.get() || self.world.0.borrow().uploads.is_empty(), "an upload is left");
    }

    /// Asserts that files of a table were written after those of the shards that theirs came from. Those that an earlier version left
    /// are not known to be anybody's parents.
    fn check_order(&self) {
        // Nor does an invocation that goes on after it has timed out know that others follow, or who lands later what was given up.
        if self.inherits || self.discards > 0 {
            return;
        }
        let mut written: BTreeMap<(usize, String), Vec<u64>> = BTreeMap::new();
        for (_, object) in self.files() {
            let file = RolledFile::of_metadata(|name| object.metadata.get(name).map(String::as_str)).unwrap();
            let window = (shard_of(&file).unwrap(), file.window.table.to_string());
            written.entry(window).or_default().push(object.e_tag.parse().unwrap());
        }
        for ((shard, table), files) in &written {
            let mut ancestors = self.shards[*shard].parents.clone();
            while let Some(ancestor) = ancestors.pop() {
                let before = written.get(&(ancestor, table.clone())).into_iter().flatten().max();
                assert!(before < files.iter().min(), "files of {table} in {shard} came before those in {ancestor}");
                ancestors.extend(&self.shards[ancestor].parents);
            }
        }
    }

    fn check_limits(&self, file: &RolledFile, lines: &[u8], next: Option<&[u8]>) {
        let (limits, _) = self.app.config.rules.with(self.tables.clone()).of(&file.window.table);
        assert!(file.count <= limits.records);
        assert!(lines.len() as u64 <= limits.bytes || file.count == 1, "{} bytes", lines.len());
        if file.reason == Reason::Records {
            assert_eq!(file.count, limits.records);
        }
        if file.reason == Reason::Bytes {
            let more = next.map_or(0, |lines| 1 + lines.iter().position(|byte| *byte == b'\n').unwrap());
            assert!((lines.len() + more) as u64 >= limits.bytes, "closed at {} bytes", lines.len());
        }
    }
}

/// The number of the shard that a file came from.
fn shard_of(file: &RolledFile) -> Option<usize> {
    file.window.shard.as_str().strip_prefix("shardId-")?.parse().ok()
}

fn slice(body: &Bytes, range: std::ops::Range<u64>) -> Bytes {
    body.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap())
}

fn contents(object: &Object) -> Vec<u8> {
    let mut lines = Vec::new();
    if object.body.starts_with(&[0x1f, 0x8b]) {
        GzDecoder::new(&*object.body).read_to_end(&mut lines).unwrap();
    } else {
        lines.extend_from_slice(&object.body);
    }
    lines
}

/// The numbers of records, found without a JSON parser to save time.
fn numbers(lines: &[u8]) -> Vec<u64> {
    let lines = std::str::from_utf8(lines).unwrap().lines();
    let number = |line: &str| line.split_once("\"n\":")?.1.split_once(',')?.0.parse().ok();
    lines.map(|line| number(line).unwrap()).collect()
}

/// An aggregate as the Kinesis Producer Library writes it. Records here are shorter than 128 bytes.
fn pack(records: &[Vec<u8>]) -> Vec<u8> {
    let mut message = b"\x0a\x01k".to_vec();
    for record in records {
        let length = u8::try_from(record.len()).unwrap();
        message.extend_from_slice(&[0x1a, length + 4, 0x08, 0, 0x1a, length]);
        message.extend_from_slice(record);
    }
    [b"\xf3\x89\x9a\xc2", &message[..], &Md5::digest(&message)].concat()
}

fn event(shard: usize, puts: &[Put]) -> String {
    let mut records = String::new();
    for put in puts {
        let (seconds, ms) = (put.arrived_ms / 1_000, put.arrived_ms % 1_000);
        let separator = if records.is_empty() { "" } else { "," };
        write!(
            records,
            r#"{separator}{{"kinesis":{{"kinesisSchemaVersion":"1.0","partitionKey":"k","sequenceNumber":"{0}","data":"{1}","approximateArrivalTimestamp":{seconds}.{ms:03}}},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"shardId-{shard}:{0}","eventName":"aws:kinesis:record","invokeIdentityArn":"arn","awsRegion":"eu-west-1","eventSourceARN":"arn:aws:kinesis:eu-west-1:123456789012:stream/stream"}}"#,
            put.sequence,
            shared::quarantine::base64(&put.data),
        )
        .unwrap();
    }
    format!("{{\"Records\":[{records}]}}")
}

/// Runs the histories of some seeds. If one fails, its seed is printed.
fn play(seeds: impl IntoIterator<Item = u64>) {
    for seed in seeds {
        let mut history = History::new(seed);
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            history.inherit();
            history.declare();
            history.live();
            history.end();
            history.check();
            history.check_order();
        }));
        if let Err(cause) = played {
            println!("the history of seed {seed} went wrong:");
            let zeros = "0".repeat(40);
            history.world.take_calls().into_iter().for_each(|call| println!("{}", call.replace(&zeros, "")));
            std::panic::resume_unwind(cause);
        }
    }
}

#[test]
fn histories_that_went_wrong_once_end_well() {
    play(REGRESSIONS.iter().copied());
}

#[test]
fn every_statement_of_its_role_is_used() {
    play(0..500);
    roles::roller().assert_everything_is_used();
}

/// More histories than a run of the tests has time for: `LANDFALL_SEEDS=50000..1000000`.
#[test]
#[ignore = "takes an hour for half a million"]
fn each_record_ends_in_exactly_one_file_in_more_histories() {
    let seeds = runtime::settings::environment().optional("LANDFALL_SEEDS").unwrap();
    let (from, to) = seeds.split_once("..").unwrap();
    play(from.parse().unwrap()..to.parse().unwrap());
}

macro_rules! histories {
    ($($name:ident: $seeds:expr,)*) => {
        $(
            #[test]
            fn $name() {
                play($seeds);
            }
        )*
    };
}

histories! {
    each_record_ends_in_exactly_one_file_whatever_happened_01: 0..2_500,
    each_record_ends_in_exactly_one_file_whatever_happened_02: 2_500..5_000,
    each_record_ends_in_exactly_one_file_whatever_happened_03: 5_000..7_500,
    each_record_ends_in_exactly_one_file_whatever_happened_04: 7_500..10_000,
    each_record_ends_in_exactly_one_file_whatever_happened_05: 10_000..12_500,
    each_record_ends_in_exactly_one_file_whatever_happened_06: 12_500..15_000,
    each_record_ends_in_exactly_one_file_whatever_happened_07: 15_000..17_500,
    each_record_ends_in_exactly_one_file_whatever_happened_08: 17_500..20_000,
    each_record_ends_in_exactly_one_file_whatever_happened_09: 20_000..22_500,
    each_record_ends_in_exactly_one_file_whatever_happened_10: 22_500..25_000,
    each_record_ends_in_exactly_one_file_whatever_happened_11: 25_000..27_500,
    each_record_ends_in_exactly_one_file_whatever_happened_12: 27_500..30_000,
    each_record_ends_in_exactly_one_file_whatever_happened_13: 30_000..32_500,
    each_record_ends_in_exactly_one_file_whatever_happened_14: 32_500..35_000,
    each_record_ends_in_exactly_one_file_whatever_happened_15: 35_000..37_500,
    each_record_ends_in_exactly_one_file_whatever_happened_16: 37_500..40_000,
    each_record_ends_in_exactly_one_file_whatever_happened_17: 40_000..42_500,
    each_record_ends_in_exactly_one_file_whatever_happened_18: 42_500..45_000,
    each_record_ends_in_exactly_one_file_whatever_happened_19: 45_000..47_500,
    each_record_ends_in_exactly_one_file_whatever_happened_20: 47_500..50_000,
}
