//! Reads the file that declares tables, and reports every mistake with its line and what to write instead.

use std::{
    collections::HashMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use rolling::rules::{Compression, Own};
use serde::Deserialize;
use shared::{
    dmap::{FeedDeclaration, Segment, relative_url_problem},
    expectation::Expectation,
    registrar::{ColumnDeclaration, OnMisfit, TableDeclaration, TableKind, table_name},
};
use toml::Spanned;

use super::roll::Roll;

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{} cannot be read: {cause}", file.display())]
    Unreadable { file: PathBuf, cause: std::io::Error },
    #[error("{} declares no table; begin each with a line [[table]]", .0.display())]
    Empty(PathBuf),
    /// By line.
    #[error("{}{}", file.display(), lines(mistakes))]
    Mistakes { file: PathBuf, mistakes: Vec<Mistake> },
}

/// What is wrong on a line, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    line: usize,
    what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

fn lines(mistakes: &[Mistake]) -> String {
    if let [only] = mistakes {
        return format!(", {only}");
    }
    let lines: String = mistakes.iter().map(|mistake| format!("\n  {mistake}")).collect();
    format!(" has {} mistakes{lines}", mistakes.len())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    table: Vec<Spanned<Entry>>,
    #[serde(default)]
    feed: Vec<Spanned<FeedEntry>>,
}

/// What a file declares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    pub tables: Vec<TableDeclaration>,
    pub feeds: Vec<FeedDeclaration>,
    /// Of each table whose files kafka-roller writes, the rules that it has of its own.
    pub rolls: Vec<Roll>,
}

/// A table as it is written. Everything is optional, so that a missing member can be reported with the table's line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Option<Spanned<String>>,
    prefix: Option<Spanned<String>>,
    kind: Option<TableKind>,
    snapshot_key: Option<Spanned<String>>,
    active: Option<bool>,
    max_attempts: Option<Spanned<i32>>,
    columns: Option<Vec<ColumnDeclaration>>,
    #[serde(default)]
    on_misfit: OnMisfit,
    expect: Option<Spanned<String>>,
    roll: Option<Spanned<RollEntry>>,
}

/// The rules of kafka-roller as they are written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RollEntry {
    records: Option<usize>,
    seconds: Option<i64>,
    bytes: Option<u64>,
    compression: Option<Compression>,
    #[serde(default)]
    paused: bool,
}

/// A feed as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FeedEntry {
    name: Option<Spanned<String>>,
    relative_url: Option<Spanned<String>>,
    api_key: Option<Spanned<String>>,
    active: Option<bool>,
}

/// Reads what a file declares.
pub fn read(file: &Path) -> Result<Declared, FileError> {
    let text = fs::read_to_string(file).map_err(|cause| FileError::Unreadable { file: file.to_owned(), cause })?;
    match parse(&text) {
        Ok(declared) if declared == Declared::default() => Err(FileError::Empty(file.to_owned())),
        Ok(declared) => Ok(declared),
        Err(mistakes) => Err(FileError::Mistakes { file: file.to_owned(), mistakes }),
    }
}

/// Reads what a text declares. An error is at least one mistake.
pub fn parse(text: &str) -> Result<Declared, Vec<Mistake>> {
    let line_of = |position: usize| text.bytes().take(position).filter(|byte| *byte == b'\n').count() + 1;
    let document: Document = toml::from_str(text).map_err(|error| {
        let line = line_of(error.span().map_or(0, |span| span.start));
        vec![Mistake { line, what: described(error.message()) }]
    })?;
    let mut checked = Checked {
        line_of,
        names: HashMap::new(),
        prefixes: HashMap::new(),
        feeds: HashMap::new(),
        rolls: Vec::new(),
        mistakes: Vec::new(),
    };
    let tables: Vec<_> = document.table.into_iter().filter_map(|entry| checked.table(entry)).collect();
    let feeds: Vec<_> = document.feed.into_iter().filter_map(|entry| checked.feed(entry)).collect();
    let Checked { mut mistakes, rolls, .. } = checked;
    mistakes.sort_by_key(|mistake| mistake.line);
    if mistakes.is_empty() { Ok(Declared { tables, feeds, rolls }) } else { Err(mistakes) }
}

/// The parser's message on one line, or a better one where it does not say what to do.
fn described(message: &str) -> String {
    let message = message.trim().lines().collect::<Vec<_>>().join(", ");
    if message.ends_with("expected a sequence") {
        return "a table begins with [[table]], and a feed with [[feed]], in double brackets".to_owned();
    }
    message
}

/// What was read so far, to find duplicates, and the mistakes.
struct Checked<F> {
    line_of: F,
    names: HashMap<String, usize>,
    prefixes: HashMap<String, usize>,
    /// Names and URLs of feeds. No name begins with `/`, as every URL does.
    feeds: HashMap<String, usize>,
    rolls: Vec<Roll>,
    mistakes: Vec<Mistake>,
}

impl<F: Fn(usize) -> usize> Checked<F> {
    fn mistake(&mut self, line: usize, what: impl Into<String>) {
        self.mistakes.push(Mistake { line, what: what.into() });
    }

    /// `None` if a member is missing.
    fn table(&mut self, entry: Spanned<Entry>) -> Option<TableDeclaration> {
        let table_line = (self.line_of)(entry.span().start);
        let Entry { name, prefix, kind, snapshot_key, active, max_attempts, columns, on_misfit, expect, roll } =
            entry.into_inner();
        if kind.is_none() {
            self.mistake(
                table_line,
                "the table has no kind; add kind = \"ods\", \"dmap\", \"kafka\", \"dms\" or \"other\"",
            );
        }
        let Some(prefix) = prefix else {
            self.mistake(table_line, "the table has no prefix; add prefix = \"…/\", the prefix of its objects' keys");
            return None;
        };
        let prefix_line = (self.line_of)(prefix.span().start);
        let prefix = prefix.into_inner();
        if let Some(problem) = prefix_problem(&prefix) {
            self.mistake(prefix_line, problem);
        } else {
            self.first_of_its_prefix(&prefix, prefix_line);
            self.first_of_its_name(name.as_ref(), &prefix, prefix_line);
        }
        if let (Some(key), Some(kind)) = (&snapshot_key, kind) {
            let line = (self.line_of)(key.span().start);
            if let Some(problem) = snapshot_key_problem(key.get_ref(), kind, &prefix) {
                self.mistake(line, problem);
            }
        }
        if let Some(attempts) = max_attempts.as_ref().filter(|attempts| !(1..=1_000).contains(attempts.get_ref())) {
            let line = (self.line_of)(attempts.span().start);
            self.mistake(line, format!("max_attempts is {}; write a number from 1 to 1000", attempts.get_ref()));
        }
        let expect = expect.and_then(|text| match text.get_ref().parse::<Expectation>() {
            Ok(expectation) => Some(expectation),
            Err(problem) => {
                self.mistake((self.line_of)(text.span().start), problem.to_string());
                None
            }
        });
        self.roll(name.as_ref(), &prefix, kind, roll);
        Some(TableDeclaration {
            name: name.map(Spanned::into_inner),
            prefix,
            kind: kind?,
            snapshot_key: snapshot_key.map(Spanned::into_inner),
            active: active.unwrap_or(true),
            max_attempts: max_attempts.map(Spanned::into_inner),
            columns,
            on_misfit,
            expect,
        })
    }

    /// Rules are for files of kafka-roller. A table of them that has none loses those that it had.
    fn roll(
        &mut self,
        name: Option<&Spanned<String>>,
        prefix: &str,
        kind: Option<TableKind>,
        roll: Option<Spanned<RollEntry>>,
    ) {
        let topic = prefix.strip_prefix("cubic/kafka/").and_then(|rest| rest.strip_suffix('/'));
        let topic = topic.and_then(|topic| topic.parse().ok()).filter(|_| kind == Some(TableKind::Kafka));
        let line = roll.as_ref().map(|roll| (self.line_of)(roll.span().start));
        let own = roll.map(Spanned::into_inner).map(|roll| {
            let RollEntry { records, seconds, bytes, compression, paused } = roll;
            Own { records, seconds, bytes, compression, paused }
        });
        let own = own.unwrap_or_default();
        if let (Some(line), Some(problem)) = (line, own.problem()) {
            self.mistake(line, format!("roll: {problem}"));
        }
        match (topic, line) {
            (Some(table), _) => {
                let name = name.map_or_else(|| table_name(prefix), |name| name.get_ref().clone());
                self.rolls.push(Roll { name, table, own });
            }
            (None, Some(line)) => self.mistake(
                line,
                "roll is for files of kafka-roller, with kind \"kafka\" and a prefix such as \"cubic/kafka/sample/\"; remove it",
            ),
            (None, None) => {}
        }
    }

    /// `None` if a member is missing or cannot be used.
    fn feed(&mut self, entry: Spanned<FeedEntry>) -> Option<FeedDeclaration> {
        let feed_line = (self.line_of)(entry.span().start);
        let FeedEntry { name, relative_url, api_key, active } = entry.into_inner();
        let Some(name) = name else {
            self.mistake(feed_line, "the feed has no name; add name = \"…\", such as \"agg_sample\"");
            return None;
        };
        let Some(relative_url) = relative_url else {
            self.mistake(
                feed_line,
                "the feed has no relative_url; add relative_url = \"/…\", which follows the base URL",
            );
            return None;
        };
        for taken in [&name, &relative_url] {
            let line = (self.line_of)(taken.span().start);
            match self.feeds.get(taken.get_ref()) {
                Some(first) => {
                    let what =
                        format!("{:?} is also that of the feed at line {first}; remove one of them", taken.get_ref());
                    self.mistake(line, what);
                }
                None => drop(self.feeds.insert(taken.get_ref().clone(), line)),
            }
        }
        if let Some(problem) = relative_url_problem(relative_url.get_ref()) {
            let what = format!("relative_url {:?} cannot be used; write one that {problem}", relative_url.get_ref());
            self.mistake((self.line_of)(relative_url.span().start), what);
        }
        if let Some(key) = api_key.as_ref().filter(|key| key.get_ref().is_empty()) {
            let line = (self.line_of)(key.span().start);
            self.mistake(line, "api_key is empty; remove it if the secret has only one key");
        }
        let segment = name.get_ref().parse::<Segment>();
        if let Err(problem) = &segment {
            self.mistake((self.line_of)(name.span().start), format!("name {problem}"));
        }
        Some(FeedDeclaration {
            name: segment.ok()?,
            relative_url: relative_url.into_inner(),
            api_key: api_key.map(Spanned::into_inner),
            active: active.unwrap_or(true),
        })
    }

    fn first_of_its_prefix(&mut self, prefix: &str, line: usize) {
        match self.prefixes.get(prefix) {
            Some(first) => {
                let what =
                    format!("prefix {prefix:?} is also the prefix of the table at line {first}; remove one of them");
                self.mistake(line, what);
            }
            None => drop(self.prefixes.insert(prefix.to_owned(), line)),
        }
    }

    fn first_of_its_name(&mut self, name: Option<&Spanned<String>>, prefix: &str, prefix_line: usize) {
        let line = name.map_or(prefix_line, |name| (self.line_of)(name.span().start));
        let name = name.map_or_else(|| table_name(prefix), |name| name.get_ref().clone());
        if name.trim().is_empty() {
            self.mistake(line, "name is empty; remove it, and the name is made from the prefix");
            return;
        }
        match self.names.get(&name) {
            // Two tables with one prefix have one default name, and the prefix is already reported.
            Some(first) if self.prefixes.get(prefix) == Some(&prefix_line) => {
                let what = format!(
                    "the name {name:?} is also the name of the table at line {first}; give one of them another name = \"…\""
                );
                self.mistake(line, what);
            }
            Some(_) => {}
            None => drop(self.names.insert(name, line)),
        }
    }
}

fn prefix_problem(prefix: &str) -> Option<String> {
    let path = prefix.trim_matches('/');
    if path.is_empty() {
        return Some("prefix is empty; write the table's folder, such as \"cubic/dmap/agg_sample/\"".to_owned());
    }
    let right = format!("{path}/");
    if prefix.starts_with('/') {
        return Some(format!("prefix {prefix:?} starts with /, but keys do not; write {right:?}"));
    }
    (!prefix.ends_with('/')).then(|| format!("prefix {prefix:?} does not end with /; write {right:?}"))
}

fn snapshot_key_problem(key: &str, kind: TableKind, prefix: &str) -> Option<String> {
    if kind != TableKind::Ods {
        let kind = kind.as_str();
        return Some(format!("snapshot_key is for kind \"ods\", and this table is {kind:?}; remove it"));
    }
    let is_under = key.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty());
    (!is_under).then(|| {
        let example = format!("{}/LOAD001.csv.gz", prefix.trim_matches('/'));
        format!("snapshot_key {key:?} is not under the prefix {prefix:?}; write a key such as {example:?}")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The mistakes of a text, one a line.
    fn mistakes(text: &str) -> String {
        let mistakes = parse(text).unwrap_err();
        mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_example_declares_one_table_of_each_kind() {
        let Declared { tables, feeds, .. } = parse(include_str!("../../../examples/tables.toml")).unwrap();
        let urls: Vec<_> = feeds.iter().map(|feed| (feed.relative_url.as_str(), feed.active)).collect();
        assert_eq!(urls, [("/datasetpublicusersapi/aggregations/agg_sample", true)]);
        let kinds: Vec<_> = tables.iter().map(|table| table.kind).collect();
        assert_eq!(kinds, TableKind::ALL);
        assert_eq!(tables[0].snapshot_key.as_deref(), Some("cubic/ods_qlik/EDW.SAMPLE/LOAD001.csv.gz"));
        assert_eq!((tables[2].name.as_deref(), tables[3].name.as_deref()), (None, Some("orders")));
        assert!(tables.iter().all(|table| table.active));
        let expectations: Vec<_> =
            tables.iter().filter_map(|table| table.expect.as_ref()).map(ToString::to_string).collect();
        assert_eq!(expectations, ["daily by 06:00 America/New_York", "every 2h"]);
    }

    #[test]
    fn the_help_shows_a_file_that_can_be_read() {
        let (_, help) = super::super::APPLY_HELP.split_once("\n\n").unwrap();
        let (file, _) = help.split_once("\n\nKinds: ").unwrap();
        let every_member = file
            .replace("  # name", "  name")
            .replace("  # snapshot", "  snapshot")
            .replace("  # active", "  active")
            .replace("  # expect", "  expect")
            .replace("  # api_key", "  api_key");
        let declared = parse(&every_member).unwrap();
        assert_eq!(declared.feeds[0].api_key.as_deref(), Some("public"));
        let table = &declared.tables[0];
        assert_eq!((table.name.as_deref(), table.active), (Some("edw_sample"), false));
        assert_eq!(table.expect.as_ref().unwrap().to_string(), "daily by 06:00 America/New_York");
        assert!(parse(file).unwrap().tables[0].active);
    }

    #[test]
    fn every_mistake_has_a_line_and_a_remedy() {
        for (text, expected) in [
            (
                "[[table]]\nprefix = \"a/\"\nkind = \"dmap\"\nprefx = \"a/\"\n",
                "line 4: unknown field `prefx`, expected one of `name`, `prefix`, `kind`, `snapshot_key`, `active`, `max_attempts`, `columns`, `on_misfit`, `expect`, `roll`",
            ),
            ("\n[[tables]]\n", "line 2: unknown field `tables`, expected `table` or `feed`"),
            (
                "\n[table]\nprefix = \"a/\"\n",
                "line 2: a table begins with [[table]], and a feed with [[feed]], in double brackets",
            ),
            (
                "[[table]]\nprefix = \"a/\"\nkind = \"odss\"\n",
                "line 3: unknown variant `odss`, expected one of `ods`, `dmap`, `kafka`, `dms`, `other`",
            ),
            (
                "[[table]]\nprefix = \"a/\"\nkind = \"ods\"\nactive = \"no\"\n",
                "line 4: invalid type: string \"no\", expected a boolean",
            ),
            (
                "[[table]]\nprefix = \"a/\"\nkind = \"dmap\"\nmax_attempts = 0\n",
                "line 4: max_attempts is 0; write a number from 1 to 1000",
            ),
            (
                "\n[[table]]\nkind = \"dmap\"\n",
                "line 2: the table has no prefix; add prefix = \"…/\", the prefix of its objects' keys",
            ),
            (
                "\n\n[[table]]\nprefix = \"a/\"\n",
                "line 3: the table has no kind; add kind = \"ods\", \"dmap\", \"kafka\", \"dms\" or \"other\"",
            ),
            (
                "[[table]]\nprefix = \"a/b\"\nkind = \"dmap\"\n",
                "line 2: prefix \"a/b\" does not end with /; write \"a/b/\"",
            ),
            (
                "[[table]]\nkind = \"dmap\"\nprefix = \"/a/b\"\n",
                "line 3: prefix \"/a/b\" starts with /, but keys do not; write \"a/b/\"",
            ),
            (
                "[[table]]\nkind = \"dmap\"\nprefix = \"/\"\n",
                "line 3: prefix is empty; write the table's folder, such as \"cubic/dmap/agg_sample/\"",
            ),
            (
                "[[table]]\nname = \"\"\nkind = \"dmap\"\nprefix = \"a/\"\n",
                "line 2: name is empty; remove it, and the name is made from the prefix",
            ),
            (
                "[[table]]\nprefix = \"a/\"\nkind = \"dmap\"\nsnapshot_key = \"a/LOAD001.csv.gz\"\n",
                "line 4: snapshot_key is for kind \"ods\", and this table is \"dmap\"; remove it",
            ),
            (
                "[[table]]\nprefix = \"a/\"\nkind = \"ods\"\nsnapshot_key = \"b/x.csv.gz\"\n",
                "line 4: snapshot_key \"b/x.csv.gz\" is not under the prefix \"a/\"; write a key such as \"a/LOAD001.csv.gz\"",
            ),
            (
                "[[table]]\nprefix = \"a/\"\nkind = \"dms\"\nroll = { records = 5 }\n",
                "line 4: roll is for files of kafka-roller, with kind \"kafka\" and a prefix such as \"cubic/kafka/sample/\"; remove it",
            ),
            (
                "[[table]]\nprefix = \"cubic/kafka/a/\"\nkind = \"kafka\"\nroll = { seconds = 0 }\n",
                "line 4: roll: seconds is 0; write a number from 1 to 86400",
            ),
            (
                "[[table]]\nprefix = \"cubic/kafka/a/\"\nkind = \"kafka\"\nroll = { minutes = 5 }\n",
                "line 4: unknown field `minutes`, expected one of `records`, `seconds`, `bytes`, `compression`, `paused`",
            ),
            (
                "[[table]]\nprefix = \"a/\"\nkind = \"dms\"\nexpect = \"daily by 06:00 Boston\"\n",
                "line 4: \"Boston\" is no time zone of the IANA database, such as America/New_York or UTC",
            ),
            (
                "[[table]]\nprefix = \"a/\"\nkind = \"ods\"\nsnapshot_key = \"a/\"\n",
                "line 4: snapshot_key \"a/\" is not under the prefix \"a/\"; write a key such as \"a/LOAD001.csv.gz\"",
            ),
        ] {
            assert_eq!(mistakes(text), expected, "{text}");
        }
        let feed = "[[feed]]\nname = \"a\"\nrelative_url = \"/a\"\n";
        for (text, expected) in [
            (
                "[[feed]]\nname = \"a\"\n",
                "line 1: the feed has no relative_url; add relative_url = \"/…\", which follows the base URL",
            ),
            (
                "[[feed]]\nrelative_url = \"/a\"\n",
                "line 1: the feed has no name; add name = \"…\", such as \"agg_sample\"",
            ),
            (
                "[[feed]]\nname = \"../a\"\nrelative_url = \"/a\"\n",
                "line 2: name \"../a\" is not 1 to 200 letters, digits, _, - and dots, beginning with none of . and -",
            ),
            (
                "[[feed]]\nname = \"a\"\nrelative_url = \"https://x.example/\"\n",
                "line 3: relative_url \"https://x.example/\" cannot be used; write one that begins with one /, and follows the base URL, such as /datasets/agg_sample",
            ),
            (
                "[[feed]]\nname = \"a\"\nrelative_url = \"/a\"\napi_key = \"\"\n",
                "line 4: api_key is empty; remove it if the secret has only one key",
            ),
            (
                &[feed, feed].concat(),
                "line 5: \"a\" is also that of the feed at line 2; remove one of them\nline 6: \"/a\" is also that of the feed at line 3; remove one of them",
            ),
        ] {
            assert_eq!(mistakes(text), expected, "{text}");
        }
        assert!(
            mistakes("[[table]]\nprefix = a/\n").starts_with("line 2: "),
            "{}",
            mistakes("[[table]]\nprefix = a/\n")
        );
    }

    #[test]
    fn no_two_tables_share_a_name_or_a_prefix() {
        let table = |prefix: &str| format!("[[table]]\nprefix = {prefix:?}\nkind = \"dmap\"\n");
        assert_eq!(
            mistakes(&[table("a/b/"), table("a/b/")].concat()),
            "line 5: prefix \"a/b/\" is also the prefix of the table at line 2; remove one of them"
        );
        let same_name = "line 5: the name \"a__b_c\" is also the name of the table at line 2; give one of them another name = \"…\"";
        assert_eq!(mistakes(&[table("a/b.c/"), table("a/b-c/")].concat()), same_name);
        let named = "[[table]]\nname = \"a__b_c\"\nprefix = \"x/\"\nkind = \"dmap\"\n";
        assert_eq!(mistakes(&[&table("a/b.c/"), named].concat()), same_name);
        assert_eq!(parse(&[&table("a/b.c/"), named].concat().replace("a__b_c", "x")).unwrap().tables.len(), 2);
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let text = "[[table]]\nsnapshot_key = \"a/x\"\nkind = \"dms\"\nprefix = \"a\"\n\n[[table]]\n";
        let lines: Vec<_> = parse(text).unwrap_err().iter().map(|mistake| mistake.line).collect();
        assert_eq!(lines, [2, 4, 6, 6]);
        let mistakes = parse(text).unwrap_err();
        let error = FileError::Mistakes { file: "tables.toml".into(), mistakes }.to_string();
        assert!(error.starts_with("tables.toml has 4 mistakes\n  line 2: snapshot_key is for kind"), "{error}");
    }

    #[test]
    fn a_file_without_tables_is_a_mistake() {
        assert_eq!(parse("# nothing\n"), Ok(Declared::default()));
        let error = FileError::Empty("tables.toml".into()).to_string();
        assert_eq!(error, "tables.toml declares no table; begin each with a line [[table]]");
    }

    proptest! {
        #[test]
        fn what_is_declared_is_what_is_read(
            folders in prop::collection::btree_set("[a-z]{1,3}(/[a-z]{1,3}){0,2}", 1..6),
            active in any::<bool>(),
        ) {
            let text: String = folders.iter().enumerate().map(|(n, folder)| {
                format!("[[table]]\nname = \"t{n}\"\nprefix = '{folder}/'\nkind = \"other\"\nactive = {active}\n")
            }).collect();
            let tables = parse(&text).unwrap().tables;
            let declared = folders.iter().enumerate().map(|(n, folder)| TableDeclaration {
                name: Some(format!("t{n}")),
                prefix: format!("{folder}/"),
                kind: TableKind::Other,
                snapshot_key: None,
                active,
                max_attempts: None,
                columns: None,
                on_misfit: OnMisfit::Quarantine,
                expect: None,
            });
            prop_assert_eq!(tables, declared.collect::<Vec<_>>());
        }

        #[test]
        fn what_is_read_can_be_asked_for(
            prefix in "[a-z/]{0,6}",
            key in prop::option::of("[a-z/]{0,6}"),
            ods in any::<bool>(),
        ) {
            let kind = if ods { "ods" } else { "dms" };
            let key = key.map(|key| format!("snapshot_key = {key:?}\n")).unwrap_or_default();
            if let Ok(Declared { tables, .. }) = parse(&format!("[[table]]\nprefix = {prefix:?}\nkind = {kind:?}\n{key}")) {
                let TableDeclaration { prefix, snapshot_key, .. } = &tables[0];
                prop_assert!(prefix.len() > 1 && prefix.ends_with('/') && !prefix.starts_with('/'));
                prop_assert!(snapshot_key.as_ref().is_none_or(|key| ods && key.starts_with(prefix)));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in r#"(\[\[table\]\]\n|prefix = |kind = |"ods"\n|"a/"\n|[^\r]){0,20}"#) {
            if let Err(mistakes) = parse(&text) {
                prop_assert!(!mistakes.is_empty());
            }
        }
    }
}
