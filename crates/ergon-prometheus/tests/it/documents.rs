//! What is written about the metrics is true of them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use ergon_core::EventSink;
use ergon_prometheus::{FAMILIES, Family, MetricType, Metrics};
use serde_json::Value;

use crate::{
    sampler,
    scrape::{every_event, observers},
};

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A scrape with every series that there can be.
pub(crate) async fn full_scrape() -> String {
    let metrics = Metrics::builder().backend("memory").observers(observers).build().unwrap();
    metrics.publish(&every_event());
    let _sampling = sampler::sampling_something(&metrics).await;
    metrics.encode()
}

#[tokio::test]
async fn every_metric_of_the_list_is_shown_and_no_other() {
    let scrape = full_scrape().await;
    let shown: BTreeSet<_> = scrape
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split_once(' ').unwrap())
        .collect();
    let listed: BTreeSet<_> =
        FAMILIES.iter().map(|family| (family.name, family.metric_type.as_str())).collect();
    assert_eq!(shown, listed);
}

#[test]
fn the_table_of_metrics_has_a_row_for_each() {
    let text = read("docs/metrics.md");
    let rows = text.lines().filter(|line| line.starts_with("| `ergon_"));
    let cells = |row: &str| -> Vec<String> {
        row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()
    };
    let rows: Vec<_> = rows.map(cells).collect();
    let names: Vec<_> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    let listed: Vec<_> = FAMILIES.iter().map(|family| family.name.to_owned()).collect();
    assert_eq!(names, listed, "docs/metrics.md has one row for each metric, in this order");
    for (row, Family { name, metric_type, unit, labels, .. }) in rows.iter().zip(FAMILIES) {
        assert_eq!(row.len(), 6, "{name}");
        assert_eq!(row[1], metric_type.as_str(), "{name}");
        assert_eq!(row[2], *unit, "{name}");
        // Within parentheses stand bounds and values.
        let outside: String = row[3]
            .split('(')
            .map(|part| part.rsplit_once(')').map_or(part, |(_, after)| after))
            .collect();
        let named: Vec<_> = outside.split('`').skip(1).step_by(2).collect();
        assert_eq!(named, *labels, "{name}");
        assert!(["events", "store", "observers", "itself"].contains(&row[4].as_str()), "{name}");
        assert!(row[5].ends_with('.'), "{name}");
    }
}

#[test]
fn the_words_of_labels_are_written_down() {
    let text = read("docs/metrics.md");
    let metrics = Metrics::builder().build().unwrap();
    metrics.publish(&every_event());
    let scrape = metrics.encode();
    let words = ["outcome", "state", "reason", "label"].into_iter().flat_map(|label| {
        let start = format!("{label}=\"");
        let parts: Vec<_> = scrape.split(&start).skip(1).map(str::to_owned).collect();
        parts.into_iter().filter_map(|part| Some(part.split_once('"')?.0.to_owned()))
    });
    let words: BTreeSet<_> = words.collect();
    for word in &words {
        assert!(text.contains(&format!("`{word}`")), "docs/metrics.md does not name {word}");
    }
    assert!(words.len() > 15, "{words:?}");
}

/// The names in a text that begin as those of metrics do.
fn names(text: &str) -> BTreeSet<&str> {
    let is_in_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.split(|c| !is_in_name(c)).filter(|word| word.starts_with("ergon_")).collect()
}

fn is_metric(name: &str) -> bool {
    FAMILIES.iter().any(|family| match family.metric_type {
        MetricType::Counter | MetricType::Gauge => family.name == name,
        MetricType::Histogram => {
            let part = name.strip_prefix(family.name);
            part.is_some_and(|part| ["_bucket", "_sum", "_count"].contains(&part))
        }
    })
}

#[test]
fn dashboards_and_alerts_name_metrics_that_exist() {
    for path in ["grafana/ergon.json", "alerts/ergon.yaml", "alerts/ergon.test.yaml"] {
        let text = read(path);
        let named = names(&text);
        for name in &named {
            assert!(is_metric(name), "{path}: {name}");
        }
        assert!(named.len() > 5, "{path}: {named:?}");
    }
    let dashboard = read("grafana/ergon.json");
    for family in FAMILIES {
        assert!(dashboard.contains(family.name), "no panel shows {}", family.name);
    }
}

/// The expressions of the dashboard, by the titles of their panels.
pub(crate) fn dashboard_expressions() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read("grafana/ergon.json")).unwrap();
    let mut expressions = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().into_iter().flatten() {
            expressions.push((title.to_owned(), target["expr"].as_str().unwrap().to_owned()));
        }
    }
    expressions
}

#[test]
fn the_dashboard_takes_rates_over_the_interval_of_grafana_and_has_its_variables() {
    let dashboard: Value = serde_json::from_str(&read("grafana/ergon.json")).unwrap();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let variables: Vec<_> = variables.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(variables, ["datasource", "queue", "kind"]);
    let expressions = dashboard_expressions();
    assert!(expressions.len() > 20);
    for (title, expression) in &expressions {
        for range in expression.split('[').skip(1) {
            assert!(range.starts_with("$__rate_interval]"), "{title}: {expression}");
        }
        let counters = FAMILIES.iter().filter(|it| it.metric_type == MetricType::Counter);
        for name in counters.map(|it| it.name).filter(|name| expression.contains(*name)) {
            let is_rate = expression.contains("rate(") || expression.contains("increase(");
            assert!(is_rate, "{title}: {name} is a counter");
        }
    }
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let is_row = panel["type"] == "row";
        assert!(is_row || panel["description"].as_str().is_some_and(|it| it.ends_with('.')));
    }
}
