//! `landfall roll`: asks kafka-roller to close the open windows of tables now.

use clap::{Args, builder::NonEmptyStringValueParser};
use runtime::failure::some_of;
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::layout::Segment;

use crate::{
    Exit,
    console::Console,
    context::Context,
    outcome::{Outcome, document},
    registrar::{RegistrarError, invoke},
    stack,
    text::{Column, Table, counted, grouped, printable},
};

const HELP: &str = "\
The records of the tables that wait in open windows become files at once, of all shards, even if a table is paused
(see landfall tables plan --help). Records that come later wait as usual.

The name of a table is that of the records, such as their topic. A table without open windows gives no file.

Exit code: 0 when the windows are closed, 2 when kafka-roller has never had a record of a table (the windows of the
others are closed) or the arguments make no sense, otherwise 1: what could not be closed is staged, and the next tick
tries again.

Examples:
  landfall roll --table sample
  landfall roll --table fares --table riders --json";

#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub struct RollArgs {
    /// A table whose open windows are closed. Can be repeated.
    #[arg(long = "table", value_name = "NAME", required = true)]
    pub tables: Vec<Segment>,
    /// Name or ARN of the function that rolls files, if it is not that of the stack.
    #[arg(long, value_name = "NAME", display_order = 90, value_parser = NonEmptyStringValueParser::new())]
    pub function: Option<String>,
}

/// The answer of the function.
#[derive(Debug, Deserialize)]
struct Answer {
    rolled: Rolled,
}

/// The files that were written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rolled {
    files: Vec<File>,
    /// Tables that were asked for, and of which there has never been a record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unknown: Vec<String>,
    /// If there are such: the tables that there are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    known: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct File {
    table: String,
    stream: String,
    shard: String,
    records: u64,
    bytes: u64,
}

/// Closes windows.
pub async fn roll(args: &RollArgs, context: &Context, console: &Console) -> Result<Rolled, RegistrarError> {
    let function = args.function.clone().unwrap_or_else(|| context.named(stack::ROLLER));
    let _waiting = console.waiting(&function);
    let Answer { mut rolled } = invoke(&function, &json!({ "roll": args.tables }), context).await?;
    rolled.files.sort();
    Ok(rolled)
}

impl Outcome for Rolled {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        document(self)
    }

    fn to_text(&self) -> String {
        let failure =
            self.failure.as_ref().map(|failure| format!("{}; the next tick tries again\n", printable(failure)));
        let failure = failure.unwrap_or_default();
        if self.files.is_empty() {
            return if failure.is_empty() {
                "no window of these tables was open: landfall status shows which are\n".to_owned()
            } else {
                failure
            };
        }
        let mut table = Table::new([
            Column::Left("table"),
            Column::Left("stream"),
            Column::Left("shard"),
            Column::Right("records"),
            Column::Right("bytes"),
        ]);
        for File { table: name, stream, shard, records, bytes } in &self.files {
            table.row([name.clone(), stream.clone(), shard.clone(), grouped(*records), grouped(*bytes)]);
        }
        let records: u64 = self.files.iter().map(|file| file.records).sum();
        let (files, records) = (counted(self.files.len(), "file", "files"), counted(records, "record", "records"));
        format!("{table}\n{files} with {records}\n{failure}")
    }

    fn exit(&self) -> Exit {
        match (&self.failure, self.unknown.is_empty()) {
            (Some(_), _) => Exit::Incomplete,
            (None, false) => Exit::Usage,
            (None, true) => Exit::Complete,
        }
    }

    fn error(&self) -> Option<String> {
        if self.unknown.is_empty() {
            return None;
        }
        let known = if self.known.is_empty() { "none".to_owned() } else { some_of(&self.known) };
        Some(format!("kafka-roller has no records of the table {}; it has had some of {known}", some_of(&self.unknown)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use kit::http;
    use serde_json::Value;

    use super::*;
    use crate::canned::{Ended, run, services};

    /// Runs the command over a function that answers so, and gives back how it ended and what the function was asked.
    async fn asked(answer: Value, arguments: &[&str]) -> (Ended, Value) {
        let asked = Arc::new(Mutex::new(Value::Null));
        let kept = asked.clone();
        let context = services(move |request| {
            assert!(request.uri().ends_with("/functions/landfall-kafka-roller/invocations"), "{}", request.uri());
            *kept.lock().unwrap() = http::json(request);
            http::respond_json(200, &answer)
        })
        .await;
        let ended = run(&context, arguments).await;
        let asked = asked.lock().unwrap().clone();
        (ended, asked)
    }

    fn file(table: &str, records: u32) -> Value {
        json!({"table": table, "stream": "s", "shard": "shardId-0", "records": records, "bytes": 10 * records})
    }

    #[tokio::test]
    async fn the_files_are_listed_and_counted() {
        let answer = json!({"batchItemFailures": [], "rolled": {"files": [file("b", 1_200), file("a", 1)]}});
        let (ended, asked) = asked(answer, &["roll", "--table", "a", "--table", "b"]).await;
        assert_eq!(asked, json!({"roll": ["a", "b"]}));
        let expected = "table  stream  shard      records   bytes\n\
                        a      s       shardId-0        1      10\n\
                        b      s       shardId-0    1,200  12,000\n\n\
                        2 files with 1,201 records\n";
        assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (0, expected, ""));
    }

    #[tokio::test]
    async fn nothing_to_close_is_no_error() {
        let answer = json!({"batchItemFailures": [], "rolled": {"files": []}});
        let (ended, _) = asked(answer.clone(), &["roll", "--table", "a"]).await;
        assert_eq!(
            (ended.code, ended.out.as_str()),
            (0, "no window of these tables was open: landfall status shows which are\n")
        );
        let (ended, _) = asked(answer, &["roll", "--table", "a", "--json"]).await;
        assert_eq!(ended.json(), json!({"files": []}));
    }

    #[tokio::test]
    async fn a_table_of_which_there_was_never_a_record_is_an_error_that_names_the_others() {
        let rolled = json!({"files": [file("a", 1)], "unknown": ["b"], "known": ["a", "fares"]});
        let (ended, _) = asked(json!({ "rolled": rolled }), &["roll", "--table", "a", "--table", "b"]).await;
        let error = "error: kafka-roller has no records of the table b; it has had some of a, fares\n";
        assert_eq!((ended.code, ended.err.as_str()), (2, error));
        assert!(ended.out.ends_with("1 file with 1 record\n"), "{}", ended.out);
    }

    #[tokio::test]
    async fn what_could_not_be_closed_is_told_beside_the_files() {
        let failure = "1 windows could not be rolled; the first error: no";
        let answer = json!({"batchItemFailures": [], "rolled": {"files": [file("a", 1)], "failure": failure}});
        let (ended, _) = asked(answer, &["roll", "--table", "a"]).await;
        let expected = format!("\n1 file with 1 record\n{failure}; the next tick tries again\n");
        assert!(ended.out.ends_with(&expected), "{}", ended.out);
        assert_eq!(ended.code, 1);
    }

    #[tokio::test]
    async fn another_version_of_the_function_is_told() {
        let (ended, _) = asked(json!({"batchItemFailures": []}), &["roll", "--table", "a"]).await;
        assert!(ended.err.contains("are the command and the function of one version?"), "{}", ended.err);
        assert_eq!(ended.code, 1);
    }
}
