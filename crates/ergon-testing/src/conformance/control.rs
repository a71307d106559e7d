//! Cases of the role *control*: what an operator's commands do in every state.

use ergon_core::{
    Applied, Command, CommandVerdict, ErrorKind, Rejection, RunAt, Selection, State, StateSet,
    StoreError, TaskFilter, Verdict, limits::HORIZON, time::whole_micros,
};
use jiff::{SignedDuration, Timestamp};

use super::rejection;
use crate::harness::{
    DAY, HOUR, Harness, MINUTE, REACHABLE, SECOND, WAITING, cancel_command, claimed_ids, complete,
    fail, kind, queue, retry,
};

/// Applies `command` to a fresh task in each state, and checks verdict and state after it.
async fn check_table(
    h: &Harness,
    command: Command,
    expected: impl Fn(State) -> (CommandVerdict, Option<State>),
) {
    for state in REACHABLE {
        let id = h.in_state(state).await;
        let context = format!("{command:?} of a {state} task");
        let (verdict, after) = expected(state);
        let is_inert = matches!(verdict, CommandVerdict::Unchanged | CommandVerdict::Illegal(_));
        let apply = h.apply(id, command.clone());
        let answer = if is_inert { h.changing_nothing(&context, apply).await } else { apply.await };
        assert_eq!(answer, verdict, "{context}");
        assert_eq!(h.state(id).await, after, "{context}");
        h.check_counters().await;
        h.apply(id, cancel_command()).await;
    }
}

pub async fn cancel_in_every_state(h: Harness) {
    check_table(&h, cancel_command(), |state| match state {
        State::Running => (CommandVerdict::Requested, Some(State::Running)),
        State::Cancelled => (CommandVerdict::Unchanged, Some(state)),
        State::Completed | State::Failed => (CommandVerdict::Illegal(state), Some(state)),
        _ => (CommandVerdict::Applied, Some(State::Cancelled)),
    })
    .await;
}

pub async fn retry_in_every_state(h: Harness) {
    check_table(&h, Command::Retry, |state| match state {
        State::Running => (CommandVerdict::Illegal(state), Some(state)),
        State::Pending => (CommandVerdict::Unchanged, Some(state)),
        _ => (CommandVerdict::Applied, Some(State::Pending)),
    })
    .await;
}

pub async fn delete_in_every_state(h: Harness) {
    check_table(&h, Command::Delete, |state| match state {
        State::Running => (CommandVerdict::Illegal(state), Some(state)),
        _ => (CommandVerdict::Applied, None),
    })
    .await;
}

pub async fn reschedule_in_every_state(h: Harness) {
    let run_at = h.later(DAY);
    check_table(&h, Command::Reschedule { run_at }, |state| match state {
        State::Retrying => (CommandVerdict::Applied, Some(state)),
        _ if WAITING.contains(state) => (CommandVerdict::Applied, Some(State::Scheduled)),
        _ => (CommandVerdict::Illegal(state), Some(state)),
    })
    .await;
}

pub async fn set_priority_in_every_state(h: Harness) {
    check_table(&h, Command::SetPriority { priority: -9 }, |state| {
        if WAITING.contains(state) {
            (CommandVerdict::Applied, Some(state))
        } else {
            (CommandVerdict::Illegal(state), Some(state))
        }
    })
    .await;
}

pub async fn a_command_for_an_unknown_task_is_not_found(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let run_at = h.later(DAY);
    let commands = [
        cancel_command(),
        Command::Retry,
        Command::Delete,
        Command::Reschedule { run_at },
        Command::SetPriority { priority: 1 },
    ];
    for command in commands {
        for unknown in [h.id(), id.with_offset(7)] {
            let answer = h.changing_nothing("unknown", h.apply(unknown, command.clone())).await;
            assert_eq!(answer, CommandVerdict::NotFound, "{command:?}");
        }
    }
}

pub async fn a_cancelled_task_never_starts(h: Harness) {
    for state in [State::Pending, State::Scheduled, State::Retrying] {
        let id = h.in_state(state).await;
        assert_eq!(h.apply(id, cancel_command()).await, CommandVerdict::Applied);
        let task = h.get(id).await;
        let error = task.progress.errors.last().unwrap();
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Cancelled, "by order"));
        assert_eq!(task.progress.finished_at, Some(h.instant()));
        h.advance(HOUR * 2);
        assert_eq!(h.changing_nothing("cancelled", h.claim(10)).await, [], "{state}");
    }
}

pub async fn a_running_task_is_asked_once_to_stop(h: Harness) {
    let id = h.in_state(State::Running).await;
    assert_eq!(h.apply(id, cancel_command()).await, CommandVerdict::Requested);
    let task = h.get(id).await;
    assert!(task.progress.cancel_requested && task.state == State::Running);
    assert_eq!(task.progress.errors.len(), 1);
    let again = h.changing_nothing("asked again", h.apply(id, cancel_command())).await;
    assert_eq!(again, CommandVerdict::Unchanged);
}

pub async fn an_outcome_applied_before_a_cancel_stands(h: Harness) {
    let id = h.insert_one(h.task()).await;
    h.claim_and_conclude(id, complete()).await;
    let answer = h.changing_nothing("too late", h.apply(id, cancel_command())).await;
    assert_eq!(answer, CommandVerdict::Illegal(State::Completed));
}

pub async fn a_retry_gives_an_exhausted_task_one_attempt_more(h: Harness) {
    let id = h.add(|task| task.max_attempts = 2).await;
    for _ in 0..2 {
        h.claim_and_conclude(id, retry(SECOND)).await;
        h.advance(SECOND);
    }
    assert_eq!(h.state(id).await, Some(State::Failed));
    for attempt in 3..=5 {
        assert_eq!(h.apply(id, Command::Retry).await, CommandVerdict::Applied);
        let claimed = h.claim_this(id).await;
        assert_eq!((claimed.attempt, claimed.max_attempts), (attempt, attempt));
        h.conclude(&claimed, retry(SECOND)).await;
        assert_eq!(h.state(id).await, Some(State::Failed));
    }
}

pub async fn a_retry_keeps_the_errors_and_drops_the_result(h: Harness) {
    let id = h.insert_one(h.task()).await;
    h.claim_and_conclude(id, retry(SECOND)).await;
    h.advance(SECOND);
    let result = Some("done".into());
    h.claim_and_conclude(id, ergon_core::Conclusion::Complete { result }).await;
    let before = h.get(id).await.progress;
    h.advance(MINUTE);
    h.apply(id, Command::Retry).await;
    let task = h.get(id).await;
    let progress = &task.progress;
    assert_eq!((task.state, progress.run_at), (State::Pending, h.instant()));
    assert_eq!((&progress.errors, progress.token), (&before.errors, before.token));
    assert_eq!((&progress.result, progress.settled), (&None, None));
    assert_eq!((progress.finished_at, progress.expires_at), (None, None));
    assert_eq!(progress.attempt, before.attempt);
    h.claim_and_conclude(id, complete()).await;
}

pub async fn a_retry_of_a_cancelled_task_is_not_asked_to_stop(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let claimed = h.claim_this(id).await;
    h.apply(id, cancel_command()).await;
    assert_eq!(h.finish(&claimed, fail()).await, Verdict::CancelRequested);
    assert_eq!(h.apply(id, Command::Retry).await, CommandVerdict::Applied);
    assert!(!h.get(id).await.progress.cancel_requested);
    h.claim_and_conclude(id, complete()).await;
    assert_eq!(h.state(id).await, Some(State::Completed));
}

pub async fn a_retry_makes_a_waiting_task_due_at_once(h: Harness) {
    for state in [State::Scheduled, State::Retrying] {
        let id = h.in_state(state).await;
        let attempt = h.get(id).await.progress.attempt;
        assert_eq!(h.apply(id, Command::Retry).await, CommandVerdict::Applied);
        let progress = h.get(id).await.progress;
        assert_eq!((progress.run_at, progress.attempt), (h.instant(), attempt));
        h.claim_and_conclude(id, complete()).await;
    }
}

pub async fn a_rescheduled_task_is_due_at_its_new_time(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let fine = h.later(MINUTE) + SignedDuration::from_nanos(1_001);
    h.apply(id, Command::Reschedule { run_at: fine }).await;
    assert_eq!(h.get(id).await.progress.run_at, whole_micros(fine));
    let again = Command::Reschedule { run_at: fine };
    let answer = h.changing_nothing("the same time", h.apply(id, again)).await;
    assert_eq!(answer, CommandVerdict::Unchanged);
    assert_eq!(h.claim(1).await, []);
    h.advance(MINUTE);
    assert_eq!(h.claim(1).await, []);
    h.advance(SECOND);
    assert_eq!(claimed_ids(&h.claim(1).await), [id]);
}

pub async fn a_task_can_be_rescheduled_to_the_front(h: Harness) {
    let ids = h.create(&h.tasks(3)).await;
    let run_at = h.instant() - SignedDuration::from_hours(1);
    h.apply(ids[2], Command::Reschedule { run_at }).await;
    let far = h.in_state(State::Scheduled).await;
    h.apply(far, Command::SetPriority { priority: 0 }).await;
    h.apply(far, Command::Reschedule { run_at: Timestamp::UNIX_EPOCH }).await;
    assert_eq!(claimed_ids(&h.claim(10).await), [far, ids[2], ids[0], ids[1]]);
}

pub async fn a_new_priority_changes_the_place_in_line(h: Harness) {
    let ids = h.create(&h.tasks(4)).await;
    for (at, priority) in [(2, i16::MAX), (0, i16::MIN), (3, 1)] {
        h.apply(ids[at], Command::SetPriority { priority }).await;
        assert_eq!(h.get(ids[at]).await.progress.priority, priority);
    }
    let same = Command::SetPriority { priority: 1 };
    let answer = h.changing_nothing("the same", h.apply(ids[3], same)).await;
    assert_eq!(answer, CommandVerdict::Unchanged);
    assert_eq!(claimed_ids(&h.claim(10).await), [ids[2], ids[3], ids[1], ids[0]]);
}

pub async fn a_scheduled_task_keeps_its_time_with_a_new_priority(h: Harness) {
    let id = h.add(|task| task.run_at = RunAt::After(HOUR)).await;
    h.apply(id, Command::SetPriority { priority: 3 }).await;
    assert_eq!(h.claim(1).await, []);
    h.advance(HOUR);
    assert_eq!(h.claim_this(id).await.priority, 3);
}

pub async fn beyond_the_horizon_nothing_is_rescheduled(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let far = h.later(HORIZON + SECOND);
    let selection = Selection::Ids(vec![id]);
    let command = Command::Reschedule { run_at: far };
    let answer = h.store.apply(&selection, &command, h.now());
    let answer = h.changing_nothing("too far", answer).await;
    assert_eq!(rejection(answer), (0, Rejection::BeyondHorizon { what: "run_at" }));
    let command = Command::Reschedule { run_at: h.later(HORIZON) };
    assert_eq!(h.apply(id, command).await, CommandVerdict::Applied);
}

pub async fn verdicts_come_in_the_order_of_the_ids(h: Harness) {
    let done = h.in_state(State::Completed).await;
    let running = h.in_state(State::Running).await;
    let pending = h.in_state(State::Pending).await;
    let unknown = h.id();
    let ids = vec![running, unknown, pending, done, pending];
    let applied = h.apply_to(Selection::Ids(ids), cancel_command()).await;
    let expected = vec![
        (running, CommandVerdict::Requested),
        (unknown, CommandVerdict::NotFound),
        (pending, CommandVerdict::Applied),
        (done, CommandVerdict::Illegal(State::Completed)),
        (pending, CommandVerdict::Unchanged),
    ];
    assert_eq!((&applied.verdicts, applied.more), (&expected, false));
    assert_eq!(applied.changed(), 2);
}

pub async fn a_task_named_twice_is_deleted_once(h: Harness) {
    let ids = h.create(&h.pack(3)).await;
    let named = vec![ids[1], ids[1], ids[0]];
    let applied = h.apply_to(Selection::Ids(named), Command::Delete).await;
    let expected = vec![
        (ids[1], CommandVerdict::Applied),
        (ids[1], CommandVerdict::NotFound),
        (ids[0], CommandVerdict::Applied),
    ];
    assert_eq!(applied.verdicts, expected);
    assert_eq!(claimed_ids(&h.claim(5).await), [ids[2]]);
}

pub async fn a_command_for_matching_tasks_takes_the_oldest(h: Harness) {
    let mut ids = h.create(&[h.tasks(5), h.pack(5)].concat()).await;
    h.add(|task| task.spec.queue = queue("other")).await;
    let filter = TaskFilter::all().queue(queue("default")).states(StateSet::UNFINISHED);
    let matching = |limit| Selection::Matching { filter: filter.clone(), limit };
    for (limit, more) in [(4, true), (5, true), (1, false), (1, false)] {
        let applied = h.apply_to(matching(limit), cancel_command()).await;
        let len = std::cmp::min(limit, ids.len());
        let expected: Vec<_> = ids.drain(..len).map(|id| (id, CommandVerdict::Applied)).collect();
        assert_eq!((applied.verdicts, applied.more), (expected, more));
    }
    assert_eq!(h.queue_info("other").await.counts.get(State::Pending), 1);
}

pub async fn a_command_for_matching_tasks_answers_for_each(h: Harness) {
    let running = h.in_state(State::Running).await;
    let completed = h.in_state(State::Completed).await;
    let pending = h.add(|task| task.spec.kind = kind("other")).await;
    let selection = Selection::Matching { filter: TaskFilter::all(), limit: 10_000 };
    let applied = h.apply_to(selection, Command::Delete).await;
    let expected = vec![
        (running, CommandVerdict::Illegal(State::Running)),
        (completed, CommandVerdict::Applied),
        (pending, CommandVerdict::Applied),
    ];
    assert_eq!((&applied.verdicts, applied.more), (&expected, false));
    let left = h.projection().await.tasks;
    assert_eq!(crate::harness::record_ids(&left), [running]);
}

pub async fn a_command_for_no_tasks_answers_for_none(h: Harness) {
    h.insert_one(h.task()).await;
    let filter = TaskFilter::all().kind(kind("unknown"));
    let nothing = [Selection::Matching { filter, limit: 5 }, Selection::Ids(vec![])];
    for selection in nothing {
        let apply = h.apply_to(selection, Command::Delete);
        assert_eq!(h.changing_nothing("nothing", apply).await, Applied::default());
    }
}

pub async fn a_selection_too_large_is_refused(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let ids = Selection::Ids(vec![id; 10_001]);
    let answer = h.store.apply(&ids, &Command::Delete, h.now()).await;
    let is_refused = matches!(answer, Err(StoreError::BatchTooLarge { len: 10_001, max: 10_000 }));
    assert!(is_refused, "{answer:?}");
    for limit in [0, 10_001] {
        let matching = Selection::Matching { filter: TaskFilter::all(), limit };
        let answer = h.store.apply(&matching, &Command::Delete, h.now());
        let answer = h.changing_nothing("a bad limit", answer).await;
        let expected = Rejection::InvalidLimit { limit, max: 10_000 };
        assert_eq!(rejection(answer), (0, expected));
    }
}

pub async fn thousands_are_retried_by_one_command(h: Harness) {
    h.create(&[h.pack(1_000), h.tasks(2_000)].concat()).await;
    let selection = Selection::Matching { filter: TaskFilter::all(), limit: 10_000 };
    assert_eq!(h.apply_to(selection.clone(), cancel_command()).await.changed(), 3_000);
    assert_eq!(h.claim(10).await, []);
    let applied = h.apply_to(selection, Command::Retry).await;
    assert_eq!((applied.changed(), applied.more), (3_000, false));
    assert_eq!(h.claim(10_000).await.len(), 3_000);
}
