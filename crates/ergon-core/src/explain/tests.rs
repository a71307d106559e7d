//! Tests of the reasons that are found.

use std::time::Duration;

use super::*;
use crate::{
    id::{ServerId, Token},
    progress::Progress,
    record::TaskSpec,
    servers::{Presence, ServedQueue, ServerProfile},
    store::StateCounts,
    time::{Retention, after},
    transition,
};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const MINUTE: Duration = Duration::from_secs(60);

fn task() -> TaskRecord {
    TaskRecord {
        id: TaskId::MIN,
        spec: TaskSpec::new("send".parse().unwrap(), "{}"),
        created_at: NOW,
        progress: Progress::fresh(0, 3, NOW),
        state: State::Pending,
        report: None,
    }
}

fn queue(pending: u64, is_paused: bool) -> QueueInfo {
    let mut counts = StateCounts::default();
    counts.add(State::Pending, pending);
    QueueInfo { name: QueueName::default(), is_paused, counts, oldest_due_at: None }
}

fn server(queue: &str, kind: &str, held: u64, state: ServerState) -> ServerInfo {
    let queue = ServedQueue { queue: queue.parse().unwrap(), concurrency: 4 };
    let profile = ServerProfile::new("h", 1, NOW).queues([queue]).kinds([kind.parse().unwrap()]);
    let presence = Presence::new(profile, NOW, Duration::from_secs(10)).held(held, 4);
    let mut info = presence.info(ServerId::from_u128(1), NOW);
    info.state = state;
    info
}

fn free() -> ServerInfo {
    server("default", "send", 0, ServerState::Running)
}

#[track_caller]
fn check(task: &TaskRecord, queue: &QueueInfo, servers: &[ServerInfo], expected: &[&str]) {
    let explanation = explain(task, Some(queue), servers, NOW);
    let told: Vec<_> = explanation.reasons.iter().map(ToString::to_string).collect();
    assert_eq!(told, expected);
    let json = serde_json::to_string(&explanation).unwrap();
    assert_eq!(serde_json::from_str::<Explanation>(&json).unwrap(), explanation);
}

#[test]
fn a_task_that_is_due_is_run_unless_something_stands_in_its_way() {
    let (task, idle) = (task(), queue(1, false));
    let due = "due since 1970-01-01T00:00:00Z; the next free server takes it";
    check(&task, &idle, &[free()], &[due]);
    check(
        &task,
        &queue(4, false),
        &[free()],
        &["up to 3 other tasks of the queue are due and may go first"],
    );
    check(&task, &queue(1, true), &[free()], &["queue default is paused"]);
    check(&task, &idle, &[], &["no server serves queue default"]);
    let elsewhere = server("mail", "send", 0, ServerState::Running);
    check(&task, &idle, &[elsewhere], &["no server serves queue default"]);
    let gone = [ServerState::Draining, ServerState::Lost, ServerState::Lost];
    let gone = gone.map(|state| server("default", "send", 0, state));
    check(&task, &idle, &gone, &["no server serves queue default (1 about to end, 2 lost)"]);
    let other = server("default", "other", 0, ServerState::Running);
    let unhandled = "none of the 1 servers of the queue handles kind send";
    check(&task, &idle, std::slice::from_ref(&other), &[unhandled]);
    check(&task, &idle, &[other, free()], &[due]);
    let full = server("default", "send", 6, ServerState::Running);
    let taken = "all slots are taken: 6 tasks are held for 4 slots";
    check(&task, &idle, std::slice::from_ref(&full), &[taken]);
    check(&task, &idle, &[full, free()], &[due]);
    // A queue that nobody has told of yet stands in nobody's way.
    assert!(matches!(explain(&task, None, &[free()], NOW).reasons[..], [Reason::Due { .. }]));
}

#[test]
fn a_task_that_waits_says_until_when_and_why() {
    let mut task = task();
    task.progress.run_at = after(NOW, MINUTE);
    let full = server("default", "send", 6, ServerState::Running);
    let scheduled = "scheduled for 1970-01-01T00:01:00Z";
    check(&task, &queue(9, false), &[full], &[scheduled]);
    let unserved = "no server serves queue default";
    check(&task, &queue(0, true), &[], &[scheduled, "queue default is paused", unserved]);
    task.spec.deadline = Some(after(NOW, MINUTE / 2));
    let deadline = "its deadline 1970-01-01T00:00:30Z is over by then: it fails when it is taken";
    check(&task, &queue(0, false), &[free()], &[scheduled, deadline]);
    task.spec.deadline = None;
    task.progress.attempt = 2;
    let retrying = "attempt 2 of 3 is over; the next one is due at 1970-01-01T00:01:00Z";
    check(&task, &queue(0, false), &[free()], &[retrying]);
    task.progress.push_error(NOW, ErrorKind::Timeout, "too slow".to_owned());
    let retrying = "attempt 2 of 3 is over after timeout: too slow; the next one is due at 1970-01-01T00:01:00Z";
    check(&task, &queue(0, false), &[free()], &[retrying]);
}

#[test]
fn a_task_that_runs_or_is_finished_says_so() {
    let mut task = task();
    transition::claim(&mut task.progress, Token::new(1), NOW);
    let runs = "attempt 1 runs since 1970-01-01T00:00:00Z";
    check(&task, &queue(0, false), &[free()], &[runs]);
    let lost = server("default", "send", 1, ServerState::Lost);
    let abandoned = "no server serves the queue: it is taken back when its lease ends";
    check(&task, &queue(0, false), &[lost], &[runs, abandoned]);
    task.progress.cancel_requested = true;
    let asked = "attempt 1 runs since 1970-01-01T00:00:00Z, and was asked to stop";
    let draining = server("default", "send", 1, ServerState::Draining);
    check(&task, &queue(0, false), &[draining], &[asked]);
    transition::rescue(&mut task.progress, &Retention::default(), 10, NOW);
    check(&task, &queue(0, false), &[], &["cancelled at 1970-01-01T00:00:00Z"]);
    task.progress = Progress::fresh(0, 1, NOW);
    transition::claim(&mut task.progress, Token::new(2), NOW);
    let error = "no".to_owned();
    let conclusion = crate::Conclusion::Fail { kind: ErrorKind::Panic, error };
    let retention = Retention::default();
    transition::conclude(&mut task.progress, &retention, Token::new(2), &conclusion, NOW);
    check(&task, &queue(0, false), &[], &["failed at 1970-01-01T00:00:00Z after panic: no"]);
}
