//! The benchmark measures, and says it in JSON of one shape.

use std::{path::PathBuf, process::Command};

use ergon_bench::redb::{Name, Plan};
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
