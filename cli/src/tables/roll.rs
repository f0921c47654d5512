//! The rules of kafka-roller that tables have of their own. They are in an object of the lake bucket and not in the database,
//! because kafka-roller has to land records while the database is away.

use bytes::Bytes;
use objects::{Attributes, Bucket, BucketError, Created, S3};
use rolling::rules::{Own, TABLES, TableRules, TableRulesError};
use shared::{
    layout::Segment,
    registrar::{FieldChange, TableChange, TablesPlan},
};

use crate::{
    Exit,
    context::Context,
    outcome::Failed,
    stack::{self, StackError},
};

/// How often a change is tried while others change the object.
const ATTEMPTS: usize = 5;

/// What a file declares of a table whose files kafka-roller writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roll {
    /// Its name among the tables.
    pub name: String,
    /// Its name in the records.
    pub table: Segment,
    /// Its rules, if it has any of its own.
    pub own: Own,
}

/// Why rules of tables cannot be read or changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RollsError {
    #[error(transparent)]
    Stack(#[from] StackError),
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error("{0}; delete the object in the lake bucket, and apply the files of all tables again")]
    Damaged(#[from] TableRulesError),
    #[error("the rules cannot be written: {0}")]
    Json(String),
    #[error("{TABLES} was changed by others again and again; apply the file again")]
    Busy,
}

impl From<RollsError> for Failed {
    fn from(error: RollsError) -> Self {
        match error {
            RollsError::Stack(error) => error.into(),
            error => Self { sentence: error.to_string(), exit: Exit::Incomplete },
        }
    }
}

/// What changes in the rules of tables, which is done if `apply`.
pub async fn change(declared: &[Roll], apply: bool, context: &Context) -> Result<Vec<TableChange>, RollsError> {
    if declared.is_empty() {
        return Ok(Vec::new());
    }
    let lake = match context.lake_of(stack::ROLLER).await {
        Ok(lake) => S3::new(&context.clients.s3, &lake),
        // A stack without kafka-roller has no rules for it.
        Err(StackError::Missing { .. }) if declared.iter().all(|roll| roll.own == Own::default()) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error.into()),
    };
    for _ in 0..ATTEMPTS {
        let (mut rules, e_tag) = read(&lake).await?;
        let changes = changes(declared, &mut rules);
        if changes.is_empty() || !apply || write(&lake, &rules, e_tag.as_deref()).await? {
            return Ok(changes);
        }
    }
    Err(RollsError::Busy)
}

/// The rules of tables, and the ETag of their object; `None` if there is none.
async fn read(lake: &S3) -> Result<(TableRules, Option<String>), RollsError> {
    match lake.get_tagged(TABLES).await {
        Ok((bytes, e_tag)) => Ok((TableRules::of_bytes(&bytes)?, Some(e_tag))),
        Err(BucketError::Missing { .. }) => Ok((TableRules::default(), None)),
        Err(error) => Err(error.into()),
    }
}

/// The rules of tables as they are now.
pub async fn rules(context: &Context, lake: &str) -> Result<TableRules, RollsError> {
    Ok(read(&S3::new(&context.clients.s3, lake)).await?.0)
}

/// `false` if somebody else has changed them.
async fn write(lake: &S3, rules: &TableRules, e_tag: Option<&str>) -> Result<bool, RollsError> {
    let body = Bytes::from(rules.to_bytes().map_err(|error| RollsError::Json(error.to_string()))?);
    let attributes = Attributes { content_type: "application/json", metadata: Vec::new() };
    let written = match e_tag {
        Some(e_tag) => lake.replace(TABLES, body, &attributes, e_tag).await,
        None => lake.create(TABLES, body, &attributes).await,
    };
    match written {
        Ok(Created::New { .. }) => Ok(true),
        Ok(Created::Exists) | Err(BucketError::Raced { .. } | BucketError::Missing { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Gives tables the rules that are declared, and says what that changes.
fn changes(declared: &[Roll], rules: &mut TableRules) -> Vec<TableChange> {
    let mut changes = Vec::new();
    for Roll { name, table, own } in declared {
        let before = rules.tables.remove(table).unwrap_or_default();
        let fields = fields(&before).into_iter().zip(fields(own)).filter(|((_, from), (_, to))| from != to);
        let fields: Vec<FieldChange> =
            fields.map(|((field, from), (_, to))| FieldChange { field: format!("roll.{field}"), from, to }).collect();
        if *own != Own::default() {
            rules.tables.insert(table.clone(), own.clone());
        }
        if !fields.is_empty() {
            changes.push(TableChange { name: name.clone(), create: false, fields });
        }
    }
    changes
}

/// The members of rules, as text.
fn fields(own: &Own) -> [(&'static str, Option<String>); 5] {
    let compression = own.compression.map(|compression| compression.name().to_owned());
    [
        ("records", own.records.map(|records| records.to_string())),
        ("seconds", own.seconds.map(|seconds| seconds.to_string())),
        ("bytes", own.bytes.map(|bytes| bytes.to_string())),
        ("compression", compression),
        ("paused", own.paused.then(|| "true".to_owned())),
    ]
}

/// Adds changes to a plan. A table that changes otherwise, too, is one change.
pub fn add(plan: &mut TablesPlan, changes: Vec<TableChange>) {
    for change in changes {
        match plan.changes.iter_mut().find(|other| other.name == change.name) {
            Some(other) => other.fields.extend(change.fields),
            None => {
                plan.unchanged = plan.unchanged.saturating_sub(1);
                plan.changes.push(change);
            }
        }
    }
    plan.changes.sort_by(|a, b| a.name.cmp(&b.name));
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use kit::http;
    use serde_json::json;

    use super::*;
    use crate::{
        canned::services,
        outcome::Outcome,
        tables::{
            file,
            report::{Done, Planned},
        },
    };

    /// What changes when a table is declared with these rules, over an object with those, and the object that was written.
    async fn declared(done: Done, roll: &str, stored: Option<&str>) -> (Result<String, String>, Option<String>) {
        let text = format!("[[table]]\nprefix = \"cubic/kafka/sample/\"\nkind = \"kafka\"\n{roll}");
        let rolls = file::parse(&text).unwrap().rolls;
        let written = Arc::new(Mutex::new(None));
        let (kept, stored) = (written.clone(), stored.map(str::to_owned));
        let context = services(move |request| {
            let uri = request.uri();
            if uri.ends_with("/landfall-kafka-roller/configuration") {
                return http::respond_json(200, &json!({"Environment": {"Variables": {"LAKE_BUCKET": "lake"}}}));
            }
            assert!(uri.contains("/lake/settings/kafka-roller.json"), "{uri}");
            match (request.method(), &stored) {
                ("GET", None) => http::respond(404, "<Error><Code>NoSuchKey</Code></Error>", &[]),
                ("GET", Some(stored)) => http::respond(200, stored.clone(), &[("etag", "\"1\"".to_owned())]),
                _ => {
                    let (header, value) = if stored.is_some() { ("if-match", "\"1\"") } else { ("if-none-match", "*") };
                    assert_eq!(request.headers().get(header), Some(value));
                    *kept.lock().unwrap() = Some(String::from_utf8_lossy(http::body(request)).into_owned());
                    http::respond(200, "", &[("etag", "\"2\"".to_owned())])
                }
            }
        })
        .await;
        let plan = json!({"changes": [], "unchanged": 1, "undeclared": [], "picked_up": 0});
        let mut plan: TablesPlan = serde_json::from_value(plan).unwrap();
        let changed = change(&rolls, matches!(done, Done::Yes), &context).await;
        let text = changed.map(|changes| {
            add(&mut plan, changes);
            Planned { plan, done }.to_text()
        });
        let text = text.map_err(|error| error.to_string());
        let written = written.lock().unwrap().clone();
        (text, written)
    }

    const RULES: &str = "roll = { records = 500, seconds = 60, compression = \"gzip\", paused = true }\n";
    const PLANNED: Done = Done::No { exit_code: false };

    #[tokio::test]
    async fn what_a_table_has_of_its_own_is_planned_and_applied() {
        let lines = "~ VERB cubic__kafka__sample\n    roll.records: none → 500\n    roll.seconds: none → 60\n    \
                     roll.compression: none → gzip\n    roll.paused: none → true\n\n";
        let expected = format!("{}Plan: 0 to create, 1 to change, 0 unchanged\n", lines.replace("VERB", "change"));
        assert_eq!(declared(PLANNED, RULES, None).await, (Ok(expected), None));
        let (text, written) = declared(Done::Yes, RULES, None).await;
        let expected = format!("{}Applied: 0 created, 1 changed, 0 unchanged\n", lines.replace("VERB", "changed"));
        assert_eq!(text, Ok(expected));
        let written = TableRules::of_bytes(written.unwrap().as_bytes()).unwrap();
        let own = &written.tables[&"sample".parse().unwrap()];
        assert_eq!((own.records, own.seconds, own.bytes, own.paused), (Some(500), Some(60), None, true));
    }

    #[tokio::test]
    async fn a_table_without_rules_loses_them_and_others_keep_theirs() {
        let stored = r#"{"tables": {"sample": {"records": 500}, "other": {"records": 7}}}"#;
        let (text, written) = declared(Done::Yes, "", Some(stored)).await;
        assert!(text.as_ref().unwrap().contains("    roll.records: 500 → none\n"), "{text:?}");
        let written = TableRules::of_bytes(written.unwrap().as_bytes()).unwrap();
        assert_eq!(written.tables.keys().map(Segment::as_str).collect::<Vec<_>>(), ["other"]);
        let (text, written) = declared(Done::Yes, "roll = { records = 500 }\n", Some(stored)).await;
        assert_eq!((text, written), (Ok("Applied: 0 created, 0 changed, 1 unchanged\n".to_owned()), None));
    }

    #[tokio::test]
    async fn an_object_that_is_damaged_is_named() {
        let (error, written) = declared(PLANNED, RULES, Some("{}")).await;
        let expected = "settings/kafka-roller.json cannot be used: missing field `tables` at line 1 column 2; delete the object in \
                        the lake bucket, and apply the files of all tables again";
        assert_eq!((error, written), (Err(expected.to_owned()), None));
    }
}
