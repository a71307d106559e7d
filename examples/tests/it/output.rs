//! What the small examples print.

use crate::program;

/// Runs an example in an empty directory, and compares its lines.
#[track_caller]
fn check(path: &str, expected: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let output = program(path, directory.path()).output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}{err}", output.status);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines, expected, "\n{err}");
}

#[test]
fn quickstart() {
    check(env!("CARGO_BIN_EXE_quickstart"), &["delivered to ada@example.com"]);
}

#[test]
fn retries() {
    check(
        env!("CARGO_BIN_EXE_retries"),
        &[
            "shaky: completed by attempt 3",
            "    attempt 1, error: connection reset",
            "    attempt 2, panic: a bug in the parser",
            "busy: completed by attempt 2",
            "    attempt 1, error: 429 too many requests",
            "down: the task failed: timed out",
            "    attempt 1, error: timed out",
            "    attempt 2, error: timed out",
            "    attempt 3, error: timed out",
            "gone: the task failed: 404 not found",
            "    attempt 1, error: 404 not found",
            "unwanted: the task was cancelled: robots.txt says no",
            "    attempt 1, cancelled: robots.txt says no",
            "fine: completed by attempt 1",
        ],
    );
}

#[test]
fn priorities() {
    check(
        env!("CARGO_BIN_EXE_priorities"),
        &[
            "default: the house is on fire (priority 10)",
            "default: first come (priority 0)",
            "default: first served (priority 0)",
            "default: when there is time (priority -10)",
            "reports: the yearly report (priority 32767)",
            "reports: the monthly report (priority 0)",
        ],
    );
}

#[test]
fn unique() {
    check(
        env!("CARGO_BIN_EXE_unique"),
        &[
            "customer 7: a new task",
            "customer 7 again: the same task",
            "customer 8: a new task",
            "refused, as the first holds the key: true",
            "results: 700 and 700",
            "customer 7 after the end: a new task",
            "customer 9: a new task",
            "customer 9 within the hour: the same task",
        ],
    );
}

#[test]
fn scheduled() {
    check(
        env!("CARGO_BIN_EXE_scheduled"),
        &[
            "the dentist: scheduled",
            "the dentist: Applied",
            "the party: Applied",
            "the tea had its time: true",
            "the train had its time: true",
            "the dentist came early: true",
            "yesterday: too late",
            "the party: the task was cancelled: rained off",
        ],
    );
}

#[test]
fn transactional() {
    check(
        env!("CARGO_BIN_EXE_transactional"),
        &[
            "committed: 1 orders, 1 tasks",
            "rolled back: 1 orders, 1 tasks",
            "shipped order 1: a kettle",
        ],
    );
}

#[test]
fn shutdown() {
    check(
        env!("CARGO_BIN_EXE_shutdown"),
        &[
            "completed 1, given back 2",
            "nothing is left behind: true",
            "quick: completed, 1 attempts spent",
            "polite: pending, 0 attempts spent",
            "stubborn: pending, 0 attempts spent",
            "polite is done by attempt 1",
            "stubborn is done by attempt 1",
        ],
    );
}

#[test]
fn metrics() {
    let of_mail = |name: &str, rest: &str| {
        let labels = format!(r#"queue="mail",kind="email.send"{rest}"#);
        format!("{name}{{{labels}}}")
    };
    let expected = [
        of_mail("ergon_attempts_finished_total", r#",outcome="failed""#) + " 1",
        of_mail("ergon_attempts_finished_total", r#",outcome="ok""#) + " 5",
        of_mail("ergon_attempts_finished_total", r#",outcome="retry""#) + " 1",
        of_mail("ergon_attempts_started_total", "") + " 7",
        r#"ergon_queue_tasks{queue="mail",state="completed"} 5"#.to_owned(),
        r#"ergon_queue_tasks{queue="mail",state="failed"} 1"#.to_owned(),
        of_mail("ergon_task_run_seconds_count", r#",outcome="error""#) + " 2",
        of_mail("ergon_task_run_seconds_count", r#",outcome="ok""#) + " 5",
        of_mail("ergon_task_wait_seconds_count", "") + " 7",
        of_mail("ergon_tasks_enqueued_total", r#",outcome="inserted""#) + " 6",
        of_mail("ergon_tasks_finalized_total", r#",state="completed""#) + " 5",
        of_mail("ergon_tasks_finalized_total", r#",state="failed""#) + " 1",
    ];
    check(env!("CARGO_BIN_EXE_metrics"), &expected.each_ref().map(String::as_str));
}

#[test]
fn tracing() {
    check(
        env!("CARGO_BIN_EXE_tracing"),
        &[
            "trace 1",
            "  order",
            "    enqueue mail",
            "trace 2",
            "  process mail: attempt 1, retry, linked to trace 1",
            "    smtp",
            "trace 3",
            "  process mail: attempt 2, ok, linked to trace 1",
            "    smtp",
            "    enqueue audit",
            "trace 4",
            "  process audit: attempt 1, ok, linked to trace 3",
        ],
    );
}

#[test]
fn callbacks() {
    check(
        env!("CARGO_BIN_EXE_callbacks"),
        &[
            "shaky: completed",
            "bridge: task.completed",
            "gone: the task failed: 404 not found",
            "bridge: task.failed",
            "fine: completed",
            "bridge: task.completed",
            "callback: tried again: connection reset",
            "callback: failed: 404 not found",
            "attempts: 4, everything was told: true",
        ],
    );
}
