//! The crash loop ends with nothing lost and nothing doubled.

use std::process::Command;

#[track_caller]
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn check(store: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_torture"))
        .args([store, "--kills", "3", "--seed", "1", "--dir", env!("CARGO_TARGET_TMPDIR")])
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}\n{stderr}");
    let summary = stdout.lines().next().unwrap_or_default();
    assert!(summary.starts_with("3 kills, "), "{summary}");
    assert!(summary.ends_with(": missing 0, duplicate 0; 0 lost, 0 doubled"), "{summary}");
}

#[test]
fn a_few_kills_lose_nothing_and_double_nothing() {
    check("redb");
}

#[test]
fn a_few_kills_of_many_processes_lose_nothing_and_double_nothing() {
    if crate::has_postgres() {
        check("postgres");
    }
}
