//! Plans, applied plans and the list of tables as text.

use jiff::Timestamp;
use shared::registrar::{FieldChange, TableChange, TableList, TablesPlan};

use crate::{
    Exit,
    outcome::{Outcome, document},
    text::{Column, Table, counted, grouped, printable},
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    pub plan: TablesPlan,
    pub done: Done,
}

/// Whether the plan was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    No {
        /// Whether the exit code says that there are changes.
        exit_code: bool,
    },
    Yes,
}

impl Outcome for Planned {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        document(&self.plan)
    }

    fn to_text(&self) -> String {
        let TablesPlan { changes, unchanged, undeclared, picked_up, moved, set_aside, unsettled, feeds } = &self.plan;
        let mut text: String = changes.iter().map(|change| self.change("", change)).collect();
        text.extend(feeds.changes.iter().map(|change| self.change("feed ", change)));
        let undeclared = undeclared.iter().map(|name| ("", name));
        for (what, name) in undeclared.chain(feeds.undeclared.iter().map(|name| ("feed ", name))) {
            text += &format!("· {what}{} is not in the file and stays as it is\n", printable(name));
        }
        if !text.is_empty() {
            text.push('\n');
        }
        let all = || changes.iter().chain(&feeds.changes);
        let (created, unchanged) = (all().filter(|change| change.create).count(), unchanged + feeds.unchanged);
        let (created, changed, unchanged) = (grouped(created), grouped(all().count() - created), grouped(unchanged));
        text += &match self.done {
            Done::No { .. } => format!("Plan: {created} to create, {changed} to change, {unchanged} unchanged"),
            Done::Yes => format!("Applied: {created} created, {changed} changed, {unchanged} unchanged"),
        };
        let (pick_up, move_, set_aside_) = match self.done {
            Done::No { .. } => ("would pick up", "would move", "would set aside"),
            Done::Yes => ("picked up", "moved", "set aside"),
        };
        for (number, verb, object, rest) in [
            (*picked_up, pick_up, "waiting object", ""),
            (*moved, move_, "load", " to another table"),
            (*set_aside, set_aside_, "load", " that no table takes"),
        ] {
            if number > 0 {
                text += &format!("; {verb} {}{rest}", counted(number, object, &format!("{object}s")));
            }
        }
        if *unsettled {
            text += "\nNot all objects have been given to their tables yet: apply the file again, or the next reconciliation goes on";
        }
        text + "\n"
    }

    fn exit(&self) -> Exit {
        let has_work = !self.plan.changes.is_empty() || !self.plan.feeds.changes.is_empty();
        match self.done {
            Done::Yes if self.plan.unsettled => Exit::Incomplete,
            Done::No { exit_code: true } if has_work => Exit::Different,
            Done::No { .. } | Done::Yes => Exit::Complete,
        }
    }
}

impl Planned {
    /// The lines of a change; `what` is in front of the name.
    fn change(&self, what: &str, change: &TableChange) -> String {
        let verb = match (change.create, self.done) {
            (true, Done::No { .. }) => "+ create",
            (true, Done::Yes) => "+ created",
            (false, Done::No { .. }) => "~ change",
            (false, Done::Yes) => "~ changed",
        };
        let mut text = format!("{verb} {what}{}\n", printable(&change.name));
        for FieldChange { field, from, to } in &change.fields {
            let to = to.as_deref().map_or("none".into(), printable);
            let value = match from {
                None if change.create => to,
                from => format!("{} → {to}", from.as_deref().map_or("none".into(), printable)).into(),
            };
            text += &format!("    {}: {value}\n", printable(field));
        }
        text
    }
}

/// The tables, or those of them that are late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    list: TableList,
    only_late: bool,
}

impl Listed {
    pub const fn all(list: TableList) -> Self {
        Self { list, only_late: false }
    }

    pub fn late(mut list: TableList) -> Self {
        list.tables.retain(|table| table.late_since.is_some());
        Self { list, only_late: true }
    }
}

impl Outcome for Listed {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        document(&self.list)
    }

    fn to_text(&self) -> String {
        let list = &self.list;
        let mut text = if list.tables.is_empty() && self.only_late {
            return "no table is late\n".to_owned();
        } else if list.tables.is_empty() {
            "there are no tables; declare them in a file and run landfall tables apply FILE\n".to_owned()
        } else {
            let titles = [
                "table",
                "kind",
                "active",
                "prefix",
                "snapshot",
                "expects",
                "newest",
                "late since",
                "oldest unfinished",
                "loads",
            ];
            let mut table = Table::new(titles.map(Column::Left));
            let time = |time: Option<Timestamp>| time.map(|time| time.to_string()).unwrap_or_default();
            for listed in &list.tables {
                let loads = listed.loads.iter().map(|(status, number)| format!("{} {status}", grouped(*number)));
                table.row([
                    listed.name.clone(),
                    listed.kind.as_str().to_owned(),
                    if listed.active { "yes" } else { "no" }.to_owned(),
                    listed.prefix.clone(),
                    time(listed.snapshot),
                    listed.expect.clone().unwrap_or_default(),
                    // It matters for the expectation only.
                    time(listed.newest.filter(|_| listed.expect.is_some())),
                    time(listed.late_since),
                    time(listed.oldest_unfinished),
                    loads.collect::<Vec<_>>().join(", "),
                ]);
            }
            table.to_string()
        };
        if self.only_late {
            return text;
        }
        let unregistered = [
            (list.unregistered_objects, "object belongs to no active table", "objects belong to no active table"),
            (list.objects_not_data, "object is no data by its suffix", "objects are no data by their suffix"),
        ];
        let unregistered = unregistered.into_iter().filter(|(number, ..)| *number > 0);
        let unregistered: Vec<String> = unregistered.map(|(number, one, many)| counted(number, one, many)).collect();
        if !unregistered.is_empty() {
            text += &format!("\n{}; landfall tables unregistered lists them\n", unregistered.join(", "));
        }
        text
    }

    fn exit(&self) -> Exit {
        if self.only_late && !self.list.tables.is_empty() { Exit::Different } else { Exit::Complete }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::registrar::FeedsPlan;

    use super::*;

    fn field(field: &str, from: Option<&str>, to: Option<&str>) -> FieldChange {
        FieldChange { field: field.to_owned(), from: from.map(str::to_owned), to: to.map(str::to_owned) }
    }

    fn plan() -> TablesPlan {
        let create = |name: &str, prefix, kind| TableChange {
            name: name.to_owned(),
            create: true,
            fields: vec![field("prefix", None, Some(prefix)), field("kind", None, Some(kind))],
        };
        TablesPlan {
            changes: vec![
                create("cubic__dmap__agg_sample", "cubic/dmap/agg_sample/", "dmap"),
                TableChange {
                    name: "cubic__ods_qlik__edw_sample".to_owned(),
                    create: false,
                    fields: vec![
                        field("prefix", Some("cubic/ods/EDW.SAMPLE/"), Some("cubic/ods_qlik/EDW.SAMPLE/")),
                        field("snapshot_key", None, Some("cubic/ods_qlik/EDW.SAMPLE/FIRST.csv.gz")),
                    ],
                },
                create("shop__orders", "shop/orders/", "dms"),
            ],
            unchanged: 3,
            undeclared: vec!["cubic__kafka__old".to_owned()],
            picked_up: 17,
            moved: 1,
            ..TablesPlan::default()
        }
    }

    #[test]
    fn a_plan_reads_as_a_difference() {
        let expected = "\
+ create cubic__dmap__agg_sample
    prefix: cubic/dmap/agg_sample/
    kind: dmap
~ change cubic__ods_qlik__edw_sample
    prefix: cubic/ods/EDW.SAMPLE/ → cubic/ods_qlik/EDW.SAMPLE/
    snapshot_key: none → cubic/ods_qlik/EDW.SAMPLE/FIRST.csv.gz
+ create shop__orders
    prefix: shop/orders/
    kind: dms
· cubic__kafka__old is not in the file and stays as it is

Plan: 2 to create, 1 to change, 3 unchanged; would pick up 17 waiting objects; would move 1 load to another table
";
        assert_eq!(Planned { plan: plan(), done: Done::No { exit_code: false } }.to_text(), expected);
    }

    #[test]
    fn feeds_are_planned_like_tables() {
        let changes = vec![TableChange {
            name: "agg_sample".to_owned(),
            create: true,
            fields: vec![field("relative_url", None, Some("/a")), field("active", None, Some("true"))],
        }];
        let feeds = FeedsPlan { changes, unchanged: 2, undeclared: vec!["old".to_owned()] };
        let plan = TablesPlan { unchanged: 1, feeds, ..TablesPlan::default() };
        let expected = "\
+ create feed agg_sample
    relative_url: /a
    active: true
· feed old is not in the file and stays as it is

Plan: 1 to create, 0 to change, 3 unchanged
";
        let planned = Planned { plan, done: Done::No { exit_code: true } };
        assert_eq!((planned.to_text().as_str(), planned.exit()), (expected, Exit::Different));
    }

    #[test]
    fn an_applied_plan_is_in_the_past_tense() {
        let applied = TablesPlan { picked_up: 1, moved: 0, set_aside: 2_000, ..plan() };
        let text = Planned { plan: applied, done: Done::Yes }.to_text();
        assert!(text.starts_with("+ created cubic__dmap__agg_sample\n"), "{text}");
        assert!(text.contains("~ changed cubic__ods_qlik__edw_sample\n"), "{text}");
        assert!(
            text.ends_with(
                "\nApplied: 2 created, 1 changed, 3 unchanged; picked up 1 waiting object; set aside 2,000 loads that no table takes\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn nothing_to_do_is_one_line() {
        let plan = TablesPlan { unchanged: 4, ..TablesPlan::default() };
        let planned = Planned { plan, done: Done::No { exit_code: true } };
        assert_eq!(planned.to_text(), "Plan: 0 to create, 0 to change, 4 unchanged\n");
        assert_eq!(planned.exit(), Exit::Complete);
    }

    proptest! {
        #[test]
        fn names_do_not_reach_the_terminal_as_they_are(name in any::<String>(), value in any::<String>()) {
            let changes = vec![TableChange {
                name: name.clone(),
                create: false,
                fields: vec![field(&name, Some(&value), Some(&value))],
            }];
            let plan = TablesPlan { changes, undeclared: vec![name], ..TablesPlan::default() };
            let text = Planned { plan, done: Done::Yes }.to_text();
            prop_assert_eq!(text.lines().count(), 5);
            prop_assert!(!text.replace('\n', "").chars().any(char::is_control));
        }
    }
}
