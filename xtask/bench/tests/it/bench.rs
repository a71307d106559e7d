//! The benchmark measures, and says it in JSON of one shape.

use std::{path::PathBuf, process::Command};

use ergon_bench::{
    events, postgres,
    redb::{Name, Plan},
};
use serde_json::Value;

const BENCH: &str = env!("CARGO_BIN_EXE_bench");
const DIR: &str = env!("CARGO_TARGET_TMPDIR");

#[track_caller]
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn check_line(line: &str) -> Value {
    let line: Value = serde_json::from_str(line).unwrap();
    let mut keys: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    let expected = ["config", "max", "measure", "min", "ratio", "raw", "runs", "unit", "value"];
    assert_eq!(keys, expected, "{line}");
    assert!(line["measure"].is_string() && line["unit"].is_string(), "{line}");
    let [value, min, max] = ["value", "min", "max"].map(|key| line[key].as_f64().unwrap());
    assert!(min <= value && value <= max, "{line}");
    assert_eq!(line["raw"].is_null(), line["ratio"].is_null(), "{line}");
    line
}

fn plan(only: &[Name]) -> Plan {
    Plan {
        only: only.to_vec(),
        runs: 1,
        scale: 0.001,
        dir: PathBuf::from(DIR),
        program: PathBuf::from(BENCH),
    }
}

#[test]
fn every_measure_that_is_not_long_is_taken() {
    let mut measures = Vec::new();
    plan(&[]).run(|measure| measures.push(measure.clone())).unwrap();
    let names: Vec<_> = measures.iter().map(ergon_bench::Measure::name).collect();
    let expected = [
        "enqueue_1",
        "enqueue_32",
        "enqueue_batch",
        "drain",
        "drain_2m",
        "latency_p50",
        "latency_p99",
        "rss_drain_2m",
        "open_2m",
        "idle_cpu",
    ];
    assert_eq!(names, expected);
    for measure in &measures {
        let line = check_line(&measure.line());
        let is_compared = !["rss_drain_2m", "open_2m", "idle_cpu"].contains(&measure.name());
        assert_eq!(line["ratio"].is_number(), is_compared, "{line}");
        assert_eq!(line["runs"], 1);
    }
    let table = ergon_bench::table(&measures);
    assert_eq!(table.lines().count(), measures.len() + 1, "{table}");
}

#[test]
fn lives_are_measured_when_asked_for() {
    let mut lines = Vec::new();
    let plan = Plan { scale: 1e-6, ..plan(&[Name::Lives10m]) };
    plan.run(|measure| lines.push(measure.line())).unwrap();
    let [line] = &lines[..] else { unreachable!("{lines:?}") };
    let line = check_line(line);
    assert_eq!(line["config"]["rss_at_2m_6m_10m_mib"].as_array().unwrap().len(), 3);
    assert!(line["config"]["file_by_live"].as_f64().unwrap() > 0.0, "{line}");
}

#[test]
fn stdout_holds_json_and_nothing_else() {
    let output = Command::new(BENCH)
        .args(["redb", "--json", "--runs", "1", "--scale", "0.001", "--dir", DIR])
        .args(["--only", "enqueue_1,latency_p50"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let measures: Vec<_> = lines.lines().map(|line| check_line(line)["measure"].clone()).collect();
    assert_eq!(measures, ["enqueue_1", "latency_p50"]);
}

#[test]
fn a_plan_out_of_range_is_refused() {
    for bad in [Plan { runs: 0, ..plan(&[]) }, Plan { scale: 0.0, ..plan(&[]) }] {
        assert!(bad.run(|_measure| {}).is_err(), "{bad:?}");
    }
}

#[test]
fn every_measure_of_events_is_taken() {
    let plan = events::Plan {
        only: Vec::new(),
        runs: 1,
        scale: 0.001,
        dir: PathBuf::from(DIR),
        program: PathBuf::from(BENCH),
    };
    let mut lines = Vec::new();
    plan.run(|measure| lines.push(check_line(&measure.line()))).unwrap();
    let names: Vec<_> = lines.iter().map(|line| line["measure"].as_str().unwrap_or("")).collect();
    let expected = [
        "publish_1_readers_0",
        "publish_1_readers_1",
        "publish_1_readers_100",
        "publish_100_readers_0",
        "publish_100_readers_1",
        "publish_100_readers_100",
        "publish_stuck",
        "metrics_publish",
        "scrape_20k",
        "throughput_metrics",
        "throughput_journal_watcher",
        "throughput_stuck",
        "journal_redb",
    ];
    assert_eq!(names, expected);
}

/// Measures on a small scale; says which, or nothing without a Postgres.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn postgres(only: &[postgres::Name]) -> Option<Vec<Value>> {
    if !crate::has_postgres() {
        return None;
    }
    let common = ergon_bench::Plan {
        only: only.to_vec(),
        runs: 1,
        scale: 0.001,
        dir: PathBuf::from(DIR),
        program: PathBuf::from(BENCH),
    };
    let settings = vec![("shared_buffers".to_owned(), "64MB".to_owned())];
    let plan = postgres::Plan { common, seconds: 1, lives: 5_000, settings };
    let mut lines = Vec::new();
    plan.run(|measure| lines.push(check_line(&measure.line()))).unwrap();
    Some(lines)
}

#[test]
fn every_measure_of_postgres_that_is_not_long_is_taken() {
    let Some(lines) = postgres(&[]) else { return };
    let names: Vec<_> = lines.iter().map(|line| line["measure"].as_str().unwrap_or("")).collect();
    let expected = [
        "raw_commit_1",
        "enqueue_1",
        "raw_commit_32",
        "enqueue_32",
        "raw_unnest_1",
        "raw_unnest_2",
        "enqueue_many_1000",
        "raw_claim_delete",
        "drain",
        "drain_scattered",
        "drain_packs",
        "latency_p50",
        "latency_p99",
        "latency_other_p50",
        "latency_other_p99",
        "idle_statements",
        "idle_cpu",
        "journal",
        "notice_other_p99",
        "notice_other_polled_p99",
    ];
    assert_eq!(names, expected);
}

#[test]
fn the_long_measures_of_postgres_are_taken_when_asked_for() {
    use postgres::Name;
    let long = [Name::SteadyHeldSnapshot, Name::SteadySingles, Name::Claim5m, Name::Lives];
    let Some(lines) = postgres(&long) else { return };
    let names: Vec<_> = lines.iter().map(|line| line["measure"].as_str().unwrap_or("")).collect();
    let expected = [
        "steady",
        "steady_held_snapshot",
        "steady_singles",
        "claim_5m_packs_p50",
        "claim_5m_packs_p99",
        "claim_1m_singles_p50",
        "claim_1m_singles_p99",
        "lives_wal",
        "lives_tables",
    ];
    assert_eq!(names, expected);
    let held = &lines[1];
    assert!(held["ratio"].is_number() && held["config"]["goal_met"].is_boolean(), "{held}");
    assert_eq!(held["config"]["by_10_s"].as_array().map(Vec::len), Some(1), "{held}");
    let tables = &lines[8];
    assert!(tables["config"]["ready"]["bytes"].is_array(), "{tables}");
}
