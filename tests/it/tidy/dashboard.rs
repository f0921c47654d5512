//! The dashboard of the template: a dashboard whatever parts a stack has, of metrics that somebody prints.

use std::collections::BTreeSet;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{METRICS_OF_AWS, alarms, prints, property, text};

/// The resource of the template.
fn resource() -> String {
    let template = text("template.yaml");
    let (_, resource) = template.split_once("\n  StackDashboard:\n").unwrap();
    let (resource, _) = resource.split_once("\nOutputs:\n").unwrap();
    resource.to_owned()
}

/// The texts that the body is made of, and the condition of each. The first has none.
fn parts() -> Vec<(String, String)> {
    let resource = resource();
    let json = |part: &str| {
        let lines = part.lines().map(str::trim_start).filter(|line| line.starts_with([',', '{', '[', '"']));
        // The only variable that is not inside a string.
        lines.collect::<Vec<&str>>().join("\n").replace("${RollerMaxSeconds}", "3600")
    };
    let mut parts = resource.split(": !If\n");
    let head = (String::new(), json(parts.next().unwrap()));
    let others = parts.map(|part| {
        let (condition, body) = part.trim_start().strip_prefix("- ").unwrap().split_once('\n').unwrap();
        (condition.to_owned(), json(body))
    });
    std::iter::once(head).chain(others).collect()
}

/// All widgets, and the condition of each.
fn widgets() -> Vec<(String, Value)> {
    let read = |(condition, part): (String, String)| {
        let widgets: Vec<Value> = serde_json::from_str(&format!("[{}]", part.trim_start_matches(','))).unwrap();
        widgets.into_iter().map(move |widget| (condition.clone(), widget))
    };
    let widgets: Vec<(String, Value)> = parts().into_iter().flat_map(read).collect();
    assert!(widgets.len() > 40, "{} widgets are found", widgets.len());
    widgets
}

/// Series and expressions of a widget: the names of a series, which an expression does not have, and the options.
fn series(widget: &Value) -> Vec<(Vec<&str>, &Value)> {
    let metrics = widget["properties"]["metrics"].as_array().into_iter().flatten();
    metrics
        .map(|metric| {
            let (options, names) = metric.as_array().unwrap().split_last().unwrap();
            (names.iter().map(|name| name.as_str().unwrap()).collect(), options)
        })
        .collect()
}

/// A widget without coordinates takes the next free place. That leaves no gap if the widgets of a row are equally high and
/// fill it.
fn assert_rows_are_full(widgets: &[Value]) {
    let (mut columns, mut height) = (0, 0);
    for widget in widgets {
        let title = &widget["properties"];
        assert!(widget.get("x").is_none() && widget.get("y").is_none(), "{title} has a place of its own");
        let [width, of_widget] = ["width", "height"].map(|side| widget[side].as_u64().unwrap());
        if columns == 0 {
            height = of_widget;
        }
        assert_eq!(of_widget, height, "{title} is higher or lower than its neighbours");
        columns += width;
        assert!(columns <= 24, "{title} does not fit into its row");
        columns %= 24;
    }
    assert_eq!(columns, 0, "the last row is not full");
}

#[test]
fn every_subset_of_the_parts_is_a_dashboard() {
    let parts = parts();
    assert_eq!(parts.len(), 8, "the head, six functions, and Firehose");
    for chosen in 0..1_usize << (parts.len() - 1) {
        // The head is always there.
        let is_chosen = |at: usize| at == 0 || (chosen >> (at - 1)) & 1 == 1;
        let body: String = (0..parts.len()).filter(|at| is_chosen(*at)).map(|at| parts[at].1.as_str()).collect();
        let widgets: Vec<Value> =
            serde_json::from_str(&format!("[{body}]")).unwrap_or_else(|error| panic!("subset {chosen:b}: {error}"));
        assert_rows_are_full(&widgets);
    }
}

/// A series that nobody writes shows nothing, and CloudWatch does not say so.
#[test]
fn every_metric_of_the_dashboard_exists() {
    for (_, widget) in &widgets() {
        for (names, options) in series(widget) {
            match names[..] {
                [] => {
                    let search = options["expression"].as_str().unwrap().strip_prefix("SEARCH('");
                    let Some(search) = search else { continue };
                    assert!(search.starts_with("{Landfall,stack,function,reason} "), "{search}");
                    let quoted = |name: &str| search.split(&format!("{name}=\"")).nth(1)?.split('"').next();
                    let (metric, function) = (quoted("MetricName").unwrap(), quoted("function").unwrap());
                    assert!(prints(function, metric), "{function} prints no {metric}");
                    assert_eq!(quoted("stack"), Some("${AWS::StackName}"), "{search}");
                }
                ["Landfall", metric, "stack", "${AWS::StackName}", "function", function] => {
                    assert!(prints(function, metric), "{function} prints no {metric}");
                }
                [namespace, metric, dimension, _] => {
                    assert!(METRICS_OF_AWS.contains(&(namespace, metric, dimension)), "{names:?}");
                }
                _ => panic!("{names:?}"),
            }
        }
    }
}

#[test]
fn every_expression_is_made_of_series_of_its_widget() {
    for (_, widget) in &widgets() {
        let title = &widget["properties"]["title"];
        let all = series(widget);
        let ids: Vec<&str> = all.iter().filter_map(|(_, options)| options["id"].as_str()).collect();
        let expressions = all.iter().filter_map(|(_, options)| options["expression"].as_str());
        let used: BTreeSet<&str> = expressions
            .filter(|expression| !expression.starts_with("SEARCH("))
            .flat_map(|expression| expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_'))
            .filter(|word| word.starts_with(|first: char| first.is_ascii_lowercase()))
            .collect();
        for name in &used {
            assert_eq!(ids.iter().filter(|id| *id == name).count(), 1, "{title}: {name}");
        }
        for (names, options) in &all {
            let is_hidden = options["visible"].as_bool() == Some(false);
            let is_used = options["id"].as_str().is_some_and(|id| used.contains(id));
            assert!(!is_hidden || is_used, "{title}: {names:?} is not shown");
        }
    }
}

#[test]
fn every_alarm_is_on_the_dashboard_with_its_part() {
    let mut shown = Vec::new();
    for (condition, widget) in &widgets() {
        for alarm in widget["properties"]["alarms"].as_array().into_iter().flatten() {
            let alarm = alarm.as_str().unwrap();
            let name = alarm.strip_prefix("${").and_then(|name| name.strip_suffix(".Arn}"));
            shown.push((name.unwrap_or_else(|| panic!("{alarm}")).to_owned(), condition.clone()));
        }
    }
    let mut alarms: Vec<(String, String)> =
        alarms().into_iter().map(|(name, body)| (name, property(&body, "Condition").to_owned())).collect();
    shown.sort();
    alarms.sort();
    assert_eq!(shown, alarms);
}

/// The dashboard shows seconds where an alarm counts milliseconds.
#[test]
fn the_lines_of_the_dashboard_are_the_thresholds_of_the_alarms() {
    let alarms = alarms();
    let mut compared = 0;
    for (_, widget) in &widgets() {
        for line in widget["properties"]["annotations"]["horizontal"].as_array().into_iter().flatten() {
            let Some((name, alarm)) = alarms.iter().find(|(name, _)| line["label"] == name.as_str()) else {
                assert_eq!(line["label"], "RollerMaxSeconds");
                continue;
            };
            let (value, threshold) = (line["value"].as_u64().unwrap(), property(alarm, "Threshold").parse::<u64>());
            assert!([value, value * 1_000].contains(&threshold.unwrap()), "{name}: {value}");
            compared += 1;
        }
    }
    assert!(compared > 0, "no line is the threshold of an alarm, so this test tests nothing");
}

#[test]
fn the_picture_of_the_documentation_is_of_this_dashboard() {
    let sha256: String = Sha256::digest(resource()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(text("docs/dashboard.svg").contains(&sha256), "the dashboard has changed: run `make dashboard`");
}
