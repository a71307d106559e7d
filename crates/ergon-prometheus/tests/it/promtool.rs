//! The tool of Prometheus itself takes what is shown, and the rules.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use crate::documents::{dashboard_expressions, full_scrape, root};

/// The program, if it is installed; says why the test is skipped if not.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn promtool() -> Option<Command> {
    let found = Command::new("promtool").arg("--version").output();
    if found.is_ok_and(|output| output.status.success()) {
        return Some(Command::new("promtool"));
    }
    eprintln!("skipped: promtool is not installed (apt-get install prometheus)");
    None
}

/// Runs it, and expects that it finds nothing to complain of.
#[track_caller]
fn check(mut promtool: Command, args: &[&str], input: &str) {
    let piped = Stdio::piped;
    let child = promtool.args(args).current_dir(root()).stdin(piped()).stdout(piped());
    let mut child = child.stderr(piped()).spawn().unwrap();
    // It may end before it has read everything; then its status says so.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && err.trim().is_empty(), "{args:?}\n{out}{err}\n{input}");
}

#[tokio::test]
async fn a_scrape_is_as_prometheus_wants_it() {
    let Some(promtool) = promtool() else { return };
    check(promtool, &["check", "metrics"], &full_scrape().await);
}

#[test]
fn the_alerts_are_rules_that_prometheus_takes() {
    let Some(promtool) = promtool() else { return };
    check(promtool, &["check", "rules", "alerts/ergon.yaml"], "");
}

#[test]
fn the_alerts_fire_when_they_should() {
    let Some(promtool) = promtool() else { return };
    check(promtool, &["test", "rules", "alerts/ergon.test.yaml"], "");
}

#[test]
fn the_expressions_of_the_dashboard_are_queries() {
    let Some(promtool) = promtool() else { return };
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (number, (_, expression)) in dashboard_expressions().iter().enumerate() {
        let expression = expression.replace("$__rate_interval", "5m");
        let expression = expression.replace("$queue", ".*").replace("$kind", ".*");
        let expression = serde_json::Value::from(expression);
        writeln!(rules, "      - {{record: 'panel:{number}', expr: {expression}}}").unwrap();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), rules).unwrap();
    check(promtool, &["check", "rules", file.path().to_str().unwrap()], "");
}
