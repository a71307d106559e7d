//! Cases of the role *maintain*: rescue and prune.

use std::time::Duration;

use ergon_core::{
    Command, ErrorKind, Rejection, State, StateSet, TaskId, Verdict,
    store::{LEASE_DEFAULT, PruneRequest, Report, RescueRequest},
};

use super::rejection;
use crate::harness::{
    DAY, HOUR, Harness, MICROSECOND, MINUTE, REACHABLE, SECOND, cancel_command, claimed_ids,
    complete, fail, retry,
};

const NOTHING: Report = Report { done: 0, more: false, skipped: 0, events: Vec::new() };

fn done(tasks: usize, more: bool) -> Report {
    Report { done: tasks, more, ..Report::default() }
}

pub async fn a_task_of_a_dead_server_is_due_as_before(h: Harness) {
    let id = h.insert_one(h.task()).await;
    h.claim_and_conclude(id, retry(MINUTE)).await;
    h.advance(MINUTE);
    let claimed = h.claim_this(id).await;
    let before = h.get(id).await.progress;
    h.advance(LEASE_DEFAULT);
    assert_eq!(h.rescue().await, done(1, false));
    let task = h.get(id).await;
    assert_eq!((task.state, task.progress.run_at), (State::Pending, before.run_at));
    assert_eq!((task.progress.attempt, task.progress.crash_count), (1, 1));
    assert_eq!(task.progress.errors, before.errors);
    assert_eq!(task.progress.token, claimed.token);
    let again = h.claim_this(id).await;
    assert!(again.token > claimed.token);
    assert_eq!((again.attempt, again.crash_count), (2, 1));
}

pub async fn a_lease_ends_at_its_microsecond(h: Harness) {
    h.create(&h.tasks(2)).await;
    h.claim_by(&h.request(1).lease(SECOND * 7)).await;
    h.claim(1).await;
    h.advance(SECOND * 7 - MICROSECOND);
    assert_eq!(h.changing_nothing("one microsecond early", h.rescue()).await, NOTHING);
    h.advance(MICROSECOND);
    assert_eq!(h.rescue().await, done(1, false));
    h.advance(LEASE_DEFAULT - SECOND * 7 - MICROSECOND);
    assert_eq!(h.rescue().await, NOTHING);
    h.advance(MICROSECOND);
    assert_eq!(h.rescue().await, done(1, false));
}

pub async fn rescue_touches_no_task_that_is_not_running(h: Harness) {
    for state in REACHABLE.into_iter().filter(|&state| state != State::Running) {
        let id = h.in_state(state).await;
        if state == State::Pending {
            h.apply(id, cancel_command()).await;
        }
    }
    h.advance(HOUR * 23);
    assert_eq!(h.changing_nothing("nothing runs", h.rescue()).await, NOTHING);
}

pub async fn rescue_takes_the_leases_that_ended_first(h: Harness) {
    let ids = h.create(&h.tasks(6)).await;
    for lease in [5, 3, 4, 1, 6, 2] {
        h.claim_by(&h.request(1).lease(SECOND * lease)).await;
    }
    h.advance(SECOND * 6);
    let limit = |limit| RescueRequest::default().limit(limit);
    assert_eq!(h.rescue_by(limit(2)).await, done(2, true));
    assert_eq!(waiting(&h).await, [ids[3], ids[5]]);
    assert_eq!(h.rescue_by(limit(3)).await, done(3, true));
    assert_eq!(waiting(&h).await, [ids[0], ids[1], ids[2], ids[3], ids[5]]);
    assert_eq!(h.rescue_by(limit(2)).await, done(1, false));
    assert_eq!(h.rescue_by(limit(2)).await, NOTHING);
}

pub async fn leases_that_ended_together_are_taken_by_id(h: Harness) {
    let ids = h.create(&[h.pack(4), h.tasks(4)].concat()).await;
    h.claim(8).await;
    h.advance(LEASE_DEFAULT);
    assert_eq!(h.rescue_by(RescueRequest::default().limit(5)).await, done(5, true));
    assert_eq!(waiting(&h).await, ids[..5]);
}

pub async fn rescued_tasks_keep_their_place_in_line(h: Harness) {
    let first = h.create(&h.tasks(3)).await;
    h.claim(3).await;
    h.advance(LEASE_DEFAULT);
    let later = h.create(&h.tasks(2)).await;
    h.rescue().await;
    assert_eq!(claimed_ids(&h.claim(10).await), [first, later].concat());
}

pub async fn too_many_deaths_fail_a_task_as_poison(h: Harness) {
    let id = h.insert_one(h.task()).await;
    for deaths in 1..=3 {
        h.claim_this(id).await;
        h.advance(LEASE_DEFAULT);
        assert_eq!(h.rescue_by(RescueRequest::default().deaths_max(3)).await, done(1, false));
        let task = h.get(id).await;
        assert_eq!((task.progress.crash_count, task.progress.attempt), (deaths, 0));
        let expected = if deaths == 3 { State::Failed } else { State::Pending };
        assert_eq!(task.state, expected, "after {deaths} deaths");
    }
    let task = h.get(id).await;
    assert_eq!(task.progress.errors.last().map(|error| error.kind), Some(ErrorKind::Poison));
    assert_eq!(task.progress.finished_at, Some(h.instant()));
    assert_eq!(task.progress.expires_at, Some(h.later(DAY * 7)));
    h.apply(id, Command::Retry).await;
    assert_eq!(h.get(id).await.progress.crash_count, 0, "a retry forgets the deaths");
}

pub async fn ten_deaths_are_too_many_unless_chosen_otherwise(h: Harness) {
    let id = h.insert_one(h.task()).await;
    for deaths in 1..=10 {
        assert_eq!(h.claim_this(id).await.crash_count, deaths - 1);
        h.advance(LEASE_DEFAULT);
        h.rescue().await;
    }
    assert_eq!(h.get(id).await.state, State::Failed);
}

pub async fn a_death_ends_a_task_that_was_asked_to_stop(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let claimed = h.claim_this(id).await;
    h.apply(id, cancel_command()).await;
    h.advance(LEASE_DEFAULT);
    // Even where one death is too many: what was called off is cancelled, not failed.
    h.rescue_by(RescueRequest::default().deaths_max(1)).await;
    let task = h.get(id).await;
    assert_eq!((task.state, task.progress.crash_count), (State::Cancelled, 1));
    assert_eq!(h.finish(&claimed, complete()).await, Verdict::Stale);
}

pub async fn a_rescue_without_a_sound_limit_is_refused(h: Harness) {
    for limit in [0, 10_001, usize::MAX] {
        let request = RescueRequest::default().limit(limit).now(h.now());
        let answer = h.store.rescue_expired(&request).await;
        let expected = Rejection::InvalidLimit { limit, max: 10_000 };
        assert_eq!(rejection(answer), (0, expected));
    }
}

pub async fn finished_tasks_are_kept_for_their_retention(h: Harness) {
    let kept = [(State::Completed, 1), (State::Failed, 7), (State::Cancelled, 1)];
    for (state, days) in kept {
        let id = h.in_state(state).await;
        h.advance(DAY * days - MICROSECOND);
        let early = h.changing_nothing("one microsecond early", h.prune()).await;
        assert_eq!(early, NOTHING, "{state}");
        h.advance(SECOND);
        assert_eq!(h.prune().await, done(1, false), "{state}");
        assert_eq!(h.find(id).await, None, "{state}");
        assert_eq!(h.queue_info("default").await.counts.total(), 0);
    }
}

pub async fn a_task_is_kept_for_its_own_retention(h: Harness) {
    for kept in [MINUTE, DAY * 400] {
        for state in [State::Completed, State::Failed, State::Cancelled] {
            let id = h.in_state_with(state, |task| task.spec.retention = Some(kept)).await;
            h.advance(kept - MICROSECOND);
            assert_eq!(h.prune().await, NOTHING, "{state}");
            h.advance(SECOND);
            assert_eq!(h.prune().await, done(1, false), "{state}");
            assert_eq!(h.find(id).await, None);
        }
    }
}

pub async fn a_task_kept_for_no_time_goes_with_the_next_sweep(h: Harness) {
    let none = Some(Duration::ZERO);
    let id = h.in_state_with(State::Completed, |task| task.spec.retention = none).await;
    assert!(h.find(id).await.is_some(), "no task goes without a sweep");
    h.advance(SECOND);
    assert_eq!(h.prune().await, done(1, false));
}

pub async fn prune_touches_no_unfinished_task(h: Harness) {
    for state in REACHABLE.into_iter().filter(|state| !state.is_terminal()) {
        let none = Some(Duration::ZERO);
        h.in_state_with(state, |task| task.spec.retention = none).await;
        // Waiting ones are moved out of the way of the next fixture.
        let waiting = ergon_core::TaskFilter::all().states(State::Pending);
        let selection = ergon_core::Selection::Matching { filter: waiting, limit: 10 };
        h.apply_to(selection, Command::SetPriority { priority: 0 }).await;
    }
    h.advance(DAY * 365 * 11);
    assert_eq!(h.changing_nothing("unfinished", h.prune()).await, NOTHING);
}

pub async fn a_task_retried_in_time_is_not_pruned(h: Harness) {
    let id = h.in_state(State::Failed).await;
    h.advance(DAY * 6);
    h.apply(id, Command::Retry).await;
    h.advance(DAY * 2);
    assert_eq!(h.prune().await, NOTHING);
    h.claim_and_conclude(id, fail()).await;
    h.advance(DAY * 7 - MICROSECOND);
    assert_eq!(h.prune().await, NOTHING, "the retention begins anew");
    h.advance(SECOND);
    assert_eq!(h.prune().await, done(1, false));
}

pub async fn prune_takes_the_longest_outlived_first(h: Harness) {
    let mut ids = Vec::new();
    for days in [5_u32, 3, 4, 1, 6, 2] {
        let kept = Some(DAY * days);
        ids.push(h.in_state_with(State::Completed, |task| task.spec.retention = kept).await);
    }
    h.advance(DAY * 6 + SECOND);
    let limit = |limit| PruneRequest::default().limit(limit);
    assert_eq!(h.prune_by(limit(2)).await, done(2, true));
    assert_eq!(left(&h).await, [ids[0], ids[1], ids[2], ids[4]]);
    assert_eq!(h.prune_by(limit(3)).await, done(3, true));
    assert_eq!(left(&h).await, [ids[4]]);
    assert_eq!(h.prune_by(limit(3)).await, done(1, false));
    assert_eq!(h.prune_by(limit(3)).await, NOTHING);
}

pub async fn a_sweep_whose_limit_is_just_enough_leaves_no_more(h: Harness) {
    h.create(&h.tasks(4)).await;
    let claimed = h.claim(4).await;
    h.advance(LEASE_DEFAULT);
    assert_eq!(h.rescue_by(RescueRequest::default().limit(4)).await, done(4, false));
    assert_eq!(h.claim(4).await.len(), claimed.len());
    h.advance(LEASE_DEFAULT);
    assert_eq!(h.rescue_by(RescueRequest::default().limit(3)).await, done(3, true));
    let everything =
        ergon_core::Selection::Matching { filter: ergon_core::TaskFilter::all(), limit: 4 };
    h.rescue().await;
    assert_eq!(h.apply_to(everything, cancel_command()).await.changed(), 4);
    h.advance(DAY + SECOND);
    assert_eq!(h.prune_by(PruneRequest::default().limit(4)).await, done(4, false));
}

pub async fn thousands_are_pruned_sweep_by_sweep(h: Harness) {
    h.create(&[h.pack(1_500), h.tasks(1_000)].concat()).await;
    let outcomes: Vec<_> = h
        .claim(2_500)
        .await
        .iter()
        .map(|task| ergon_core::Outcome { id: task.id, token: task.token, conclusion: complete() })
        .collect();
    h.finish_all(&outcomes).await;
    h.advance(DAY + SECOND);
    assert_eq!(h.prune().await, done(1_000, true));
    h.check_counters().await;
    assert_eq!(h.prune().await, done(1_000, true));
    assert_eq!(h.prune().await, done(500, false));
    assert_eq!(left(&h).await, []);
}

pub async fn an_id_that_was_pruned_may_come_again(h: Harness) {
    let task = h.task();
    h.insert_one(task.clone()).await;
    h.claim_and_conclude(task.id, complete()).await;
    h.advance(DAY + SECOND);
    h.prune().await;
    h.insert_one(task.clone()).await;
    assert_eq!(h.get(task.id).await.state, State::Pending);
}

pub async fn a_prune_without_a_sound_limit_is_refused(h: Harness) {
    for limit in [0, 10_001, usize::MAX] {
        let request = PruneRequest::default().limit(limit).now(h.now());
        let answer = h.store.prune(&request).await;
        let expected = Rejection::InvalidLimit { limit, max: 10_000 };
        assert_eq!(rejection(answer), (0, expected));
    }
}

async fn waiting(h: &Harness) -> Vec<TaskId> {
    let of_state =
        |task: &ergon_core::TaskRecord| !StateSet::from(State::Running).contains(task.state);
    let tasks = h.projection().await.tasks;
    tasks.iter().filter(|task| of_state(task)).map(|task| task.id).collect()
}

async fn left(h: &Harness) -> Vec<TaskId> {
    h.projection().await.tasks.iter().map(|task| task.id).collect()
}
