//! `landfall loads list`: page after page, until the limit or the end.

use shared::registrar::{Command, Load, LoadList, LoadPosition};

use super::{ListArgs, table};
use crate::{
    Exit,
    console::Console,
    context::Context,
    outcome::{Outcome, document},
    paging::{self, Listed},
    registrar::RegistrarError,
    text::counted,
};

pub(super) struct ListedLoads(Listed<Load, LoadPosition>);

pub(super) async fn list(args: &ListArgs, context: &Context, console: &Console) -> Result<ListedLoads, RegistrarError> {
    let since = args.since.and_then(|since| since.instant(context.now));
    let page = async |after, limit| {
        let command = Command::LoadsList {
            table: args.table.clone(),
            status: args.status,
            since,
            displaced: args.displaced,
            keys: Vec::new(),
            after,
            limit,
        };
        let page: LoadList = args.registrar.ask_quietly(&command, context).await?;
        Ok((page.loads, page.next))
    };
    paging::list(args.limit, "loads", &args.registrar, (context, console), page).await.map(ListedLoads)
}

impl Outcome for ListedLoads {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        let Listed { rows, next, .. } = &self.0;
        document(&LoadList { loads: rows.clone(), next: next.clone() })
    }

    fn to_text(&self) -> String {
        let Listed { rows, next, is_interrupted } = &self.0;
        if rows.is_empty() {
            return "there are no such loads\n".to_owned();
        }
        let mut text = table(rows).to_string();
        if next.is_some() && !is_interrupted {
            let loads = counted(rows.len(), "load", "loads");
            text += &format!("\nnote: these are the oldest {loads}; --limit 0 lists all\n");
        }
        text
    }

    fn exit(&self) -> Exit {
        if self.0.is_interrupted { Exit::Incomplete } else { Exit::Complete }
    }

    fn error(&self) -> Option<String> {
        self.0.is_interrupted.then(|| "interrupted; there are more loads".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use jiff::Timestamp;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use shared::registrar::{LoadPosition, LoadStatus};

    use super::*;
    use crate::{
        canned::{self, Ended, Reply, run},
        context::Interrupt,
        loads::tests::load,
        paging::PAGE,
    };

    const MODIFIED: &str = "2026-11-20T14:11:46Z";

    /// Lists from a function that has `total` loads and gives `page` of them at the most, or what was asked for. Gives
    /// back also the number of pages that were asked for.
    async fn listed(total: i64, page: u32, arguments: &[&str], interrupt_at: usize) -> (Ended, usize) {
        let pages = Arc::new(Mutex::new(0));
        let (seen, interrupt) = (pages.clone(), Interrupt::default());
        let pressed = interrupt.clone();
        let context = canned::registrar(move |command| {
            let Command::LoadsList { after, limit, .. } = command else { panic!("{command:?}") };
            assert!((1..=PAGE).contains(&limit));
            *seen.lock().unwrap() += 1;
            if *seen.lock().unwrap() == interrupt_at {
                pressed.set();
            }
            let first = after.map_or(0, |after: LoadPosition| after.id) + 1;
            let last = total.min(first + i64::from(limit.min(page)) - 1);
            let loads: Vec<Value> = (first..=last).map(|id| load(id, "ready")).collect();
            let next = (last < total).then(|| json!({"s3_modified": MODIFIED, "id": last}));
            Reply::Answer(json!({"loads": loads, "next": next}))
        })
        .await;
        let context = Context { interrupt, ..context };
        let ended = run(&context, &[&["loads", "list"], arguments].concat()).await;
        let pages = *pages.lock().unwrap();
        (ended, pages)
    }

    fn ids(ended: &Ended) -> Vec<i64> {
        ended.json()["loads"].as_array().unwrap().iter().map(|load| load["id"].as_i64().unwrap()).collect()
    }

    #[tokio::test]
    async fn people_get_a_table_and_are_told_that_there_are_more() {
        let (ended, pages) = listed(3, 2, &["--limit", "2"], 0).await;
        let expected = "\
id  table                    status  modified                 size  key
 1  cubic__dmap__agg_sample  ready   2026-11-20T14:11:46Z  1.23 MB  cubic/dmap/agg_sample/1.csv
 2  cubic__dmap__agg_sample  ready   2026-11-20T14:11:46Z  1.23 MB  cubic/dmap/agg_sample/2.csv

note: these are the oldest 2 loads; --limit 0 lists all
";
        assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str(), pages), (0, expected, "", 1));
        let (all, _) = listed(2, 2, &[], 0).await;
        assert!(!all.out.contains("note"), "{}", all.out);
    }

    #[tokio::test]
    async fn none_is_said_so() {
        let (ended, _) = listed(0, 10, &[], 0).await;
        assert_eq!((ended.code, ended.out.as_str()), (0, "there are no such loads\n"));
    }

    #[tokio::test]
    async fn machines_get_one_document_of_all_pages() {
        let (ended, pages) = listed(2_500, 1_000, &["--limit", "0", "--json"], 0).await;
        assert_eq!((ended.code, pages), (0, 3));
        assert_eq!(ids(&ended), (1..=2_500).collect::<Vec<_>>());
        assert_eq!(ended.json()["next"], Value::Null);
        let (limited, pages) = listed(2_500, 1_000, &["--limit", "1500", "--json"], 0).await;
        assert_eq!((ids(&limited).len(), pages), (1_500, 2));
        assert_eq!(limited.json()["next"]["id"], 1_500);
    }

    #[tokio::test]
    async fn ctrl_c_stops_between_pages() {
        let (ended, pages) = listed(10, 2, &["--json"], 2).await;
        assert_eq!((ended.code, pages, ids(&ended)), (1, 2, vec![1, 2, 3, 4]));
        assert_eq!(ended.err, "error: interrupted; there are more loads\n");
    }

    #[tokio::test]
    async fn what_is_asked_for_is_what_was_typed() {
        let context = canned::registrar(|command| {
            let expected = Command::LoadsList {
                table: Some("t".to_owned()),
                status: Some(LoadStatus::Ingesting),
                since: Some("2026-11-20T12:11:46Z".parse().unwrap()),
                displaced: true,
                keys: Vec::new(),
                after: None,
                limit: 100,
            };
            assert_eq!(command, expected);
            Reply::Answer(json!({"loads": [], "next": null}))
        })
        .await;
        let context = Context { now: MODIFIED.parse::<Timestamp>().unwrap(), ..context };
        let arguments = ["loads", "list", "--table", "t", "--status", "ingesting", "--since", "2h", "--displaced"];
        assert_eq!(run(&context, &arguments).await.code, 0);
    }

    #[tokio::test]
    async fn a_page_that_comes_again_and_again_ends_the_command() {
        let answer = json!({"loads": [], "next": {"s3_modified": MODIFIED, "id": 1}});
        let context = canned::registrar(move |_| Reply::Answer(answer.clone())).await;
        let ended = run(&context, &["loads", "list"]).await;
        assert_eq!((ended.code, ended.out.as_str()), (1, ""));
        assert!(ended.err.contains("a page ends where it began"), "{}", ended.err);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_load_is_listed_once_and_none_too_many(total in 0..60_i64, page in 1..20_u32, limit in 0..70_usize) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let limit_text = limit.to_string();
            let (ended, _) = runtime.block_on(listed(total, page, &["--json", "--limit", &limit_text], 0));
            let expected = if limit == 0 { total } else { total.min(i64::try_from(limit).unwrap()) };
            prop_assert_eq!(ids(&ended), (1..=expected).collect::<Vec<_>>());
        }
    }
}
