//! `landfall tables unregistered`: objects of the bucket that are no loads.

use clap::{Args, builder::NonEmptyStringValueParser};
use shared::registrar::{Command, UnregisteredList, UnregisteredObject, UnregisteredPosition, UnregisteredReason};

use crate::{
    Exit,
    console::Console,
    context::Context,
    outcome::{Outcome, document},
    paging::{self, Listed},
    registrar::{RegistrarArgs, RegistrarError},
    text::{Column, Table, counted, size},
};

const HELP: &str = "\
Reasons:
  no_table      no active table has a prefix of the key; the object becomes a load when you declare one
                with landfall tables apply
  not_data      the key does not end in .csv, .csv.gz, .json, .json.gz or .parquet, in lower case
  key_holds_nul the key holds a NUL character, which Postgres cannot store; it is listed URL-encoded
  known_key     the table is of kind kafka, and the key was a load before, so the object has the same records;
                to load it all the same, copy it to another key

Objects stay in the list when they are deleted from the bucket.

Exit code: 0 when everything that was asked for is listed, 2 when the arguments are invalid, otherwise 1.

Examples:
  landfall tables unregistered --reason not_data
  landfall tables unregistered --prefix shop/ --limit 0 --json";

#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub struct UnregisteredArgs {
    /// Only objects whose key starts with this.
    #[arg(long, value_name = "PREFIX", value_parser = NonEmptyStringValueParser::new())]
    pub prefix: Option<String>,
    /// Only objects with this reason: no_table, key_holds_nul, not_data or known_key.
    #[arg(long)]
    pub reason: Option<UnregisteredReason>,
    /// List at most this many; 0 lists all.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
    #[command(flatten)]
    pub registrar: RegistrarArgs,
}

pub(super) struct Unregistered(Listed<UnregisteredObject, UnregisteredPosition>);

pub(super) async fn unregistered(
    args: &UnregisteredArgs,
    context: &Context,
    console: &Console,
) -> Result<Unregistered, RegistrarError> {
    let page = async |after, limit| {
        let (prefix, reason) = (args.prefix.clone(), args.reason);
        let command = Command::TablesUnregistered { prefix, reason, after, limit };
        let page: UnregisteredList = args.registrar.ask_quietly(&command, context).await?;
        Ok((page.objects, page.next))
    };
    paging::list(args.limit, "objects", &args.registrar, (context, console), page).await.map(Unregistered)
}

impl Outcome for Unregistered {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        let Listed { rows, next, .. } = &self.0;
        document(&UnregisteredList { objects: rows.clone(), next: next.clone() })
    }

    fn to_text(&self) -> String {
        let Listed { rows, next, is_interrupted } = &self.0;
        if rows.is_empty() {
            return "there are no such objects\n".to_owned();
        }
        let mut table =
            Table::new([Column::Left("reason"), Column::Left("modified"), Column::Right("size"), Column::Left("key")]);
        for UnregisteredObject { reason, s3_key, s3_modified, s3_size } in rows {
            table.row([reason.to_string(), s3_modified.to_string(), size(*s3_size), s3_key.clone()]);
        }
        let mut text = table.to_string();
        if next.is_some() && !is_interrupted {
            let objects = counted(rows.len(), "object", "objects");
            text += &format!("\nnote: these are the first {objects} by key; --limit 0 lists all\n");
        }
        text
    }

    fn exit(&self) -> Exit {
        if self.0.is_interrupted { Exit::Incomplete } else { Exit::Complete }
    }

    fn error(&self) -> Option<String> {
        self.0.is_interrupted.then(|| "interrupted; there are more objects".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        canned::{self, Reply, run},
        context::Interrupt,
    };

    fn answer(next: Option<&str>) -> Value {
        let object = |reason: &str, key: &str, size: i64| json!({"reason": reason, "s3_key": key, "s3_modified": "2026-11-20T14:11:46Z", "s3_size": size});
        json!({
            "objects": [object("not_data", "shop/orders.CSV", 1_234_567), object("no_table", "shop/x\u{1b}/1.csv", 7)],
            "next": next.map(|key| json!({"s3_key": key, "id": 2})),
        })
    }

    #[tokio::test]
    async fn objects_are_listed_with_their_reason() {
        let context = canned::registrar(|command| {
            let expected = Command::TablesUnregistered {
                prefix: Some("shop/".to_owned()),
                reason: Some(UnregisteredReason::NotData),
                after: None,
                limit: 2,
            };
            assert_eq!(command, expected);
            Reply::Answer(answer(Some("shop/x/1.csv")))
        })
        .await;
        let arguments = ["tables", "unregistered", "--prefix", "shop/", "--reason", "not_data", "--limit", "2"];
        let ended = run(&context, &arguments).await;
        let expected = "\
reason    modified                 size  key
not_data  2026-11-20T14:11:46Z  1.23 MB  shop/orders.CSV
no_table  2026-11-20T14:11:46Z      7 B  shop/x\\u{1b}/1.csv

note: these are the first 2 objects by key; --limit 0 lists all
";
        assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (0, expected, ""));
        let machine = run(&context, &[&arguments[..], &["--json"]].concat()).await.json();
        assert_eq!((&machine["objects"][0]["reason"], &machine["next"]["id"]), (&json!("not_data"), &json!(2)));
    }

    #[tokio::test]
    async fn pages_follow_each_other_until_the_end_or_ctrl_c() {
        let pages = |interrupt: Interrupt| async {
            let context = canned::registrar(|command| {
                let Command::TablesUnregistered { after, .. } = command else { panic!("{command:?}") };
                Reply::Answer(answer(after.is_none().then_some("shop/x/1.csv")))
            })
            .await;
            run(&Context { interrupt, ..context }, &["tables", "unregistered", "--limit", "0", "--json"]).await
        };
        let all = pages(Interrupt::default()).await;
        assert_eq!((all.code, all.json()["objects"].as_array().unwrap().len()), (0, 4));
        let interrupt = Interrupt::default();
        interrupt.set();
        let stopped = pages(interrupt).await;
        assert_eq!((stopped.code, stopped.json()["objects"].as_array().unwrap().len()), (1, 2));
        assert_eq!(stopped.err, "error: interrupted; there are more objects\n");
    }

    #[tokio::test]
    async fn none_is_not_an_error_but_an_unknown_reason_is() {
        let none = canned::registrar(|_| Reply::Answer(json!({"objects": [], "next": null}))).await;
        let ended = run(&none, &["tables", "unregistered"]).await;
        assert_eq!((ended.code, ended.out.as_str()), (0, "there are no such objects\n"));
        let arguments = ["tables", "unregistered", "--reason", "no_tabel"];
        let error = crate::Cli::try_parse_args(&arguments).map(drop).unwrap_err().to_string();
        assert!(
            error.contains("\"no_tabel\" is not a reason; known are no_table, key_holds_nul, not_data, known_key"),
            "{error}"
        );
    }
}
