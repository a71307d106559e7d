//! Cases of uniqueness: who holds a key, for how long, and who may not free it.

use ergon_core::{
    Command, CommandVerdict, Conclusion, NewTask, Rejection, RunAt, State, StateSet, TaskId,
    UniqueKey, UniqueScope,
    store::{Inserted, LEASE_DEFAULT, RescueRequest},
};

use super::rejection;
use crate::harness::{
    DAY, HOUR, Harness, MICROSECOND, MINUTE, REACHABLE, SECOND, cancel, cancel_command, complete,
    fail, kind, queue, retry, snooze, unique,
};

const UNTIL_STARTED: UniqueScope = UniqueScope::UntilStarted;
const UNTIL_FINISHED: UniqueScope = UniqueScope::UntilFinished;
const FOR_AN_HOUR: UniqueScope = UniqueScope::For(HOUR);

/// The scope that ends with a failure or a cancel, but not with success.
fn while_completed() -> UniqueScope {
    UniqueScope::While(StateSet::UNFINISHED.union(State::Completed.into()))
}

fn with_key(h: &Harness, key: UniqueKey) -> NewTask {
    h.task_with(|task| task.spec.unique = Some(key))
}

/// Fails unless `holder` holds the key; changes nothing.
async fn check_held(h: &Harness, key: UniqueKey, holder: TaskId, context: &str) {
    let another = with_key(h, key);
    let answer = h.changing_nothing(context, h.insert(std::slice::from_ref(&another))).await;
    assert_eq!(answer, [Inserted::Duplicate { of: holder }], "{context}");
    assert_eq!(h.find(another.id).await, None, "{context}");
}

/// Fails unless the key is free; leaves it so.
async fn check_free(h: &Harness, key: UniqueKey, context: &str) {
    let another = with_key(h, key);
    let answer = h.insert(std::slice::from_ref(&another)).await;
    assert_eq!(answer, [Inserted::Created], "{context}");
    assert_eq!(h.apply(another.id, Command::Delete).await, CommandVerdict::Applied);
}

pub async fn a_duplicate_names_the_holder_and_stores_nothing(h: Harness) {
    for (number, scope) in
        [(1, UNTIL_STARTED), (2, UNTIL_FINISHED), (3, while_completed()), (4, FOR_AN_HOUR)]
    {
        let key = unique(number, scope);
        let holder = h.insert_one(with_key(&h, key)).await;
        check_held(&h, key, holder, "a duplicate").await;
    }
}

pub async fn keys_that_differ_in_one_bit_are_two_keys(h: Harness) {
    let base = unique(0, UNTIL_FINISHED);
    h.insert_one(with_key(&h, base)).await;
    for bit in 0_usize..256 {
        let mut key = base;
        key.hash[bit / 8] ^= 1 << (bit % 8);
        h.insert_one(with_key(&h, key)).await;
    }
}

pub async fn a_key_does_not_ask_for_kind_or_queue(h: Harness) {
    // What counts is in the hash: the store compares nothing else.
    let key = unique(1, UNTIL_FINISHED);
    let holder = h.insert_one(with_key(&h, key)).await;
    let mut other = with_key(&h, key);
    (other.spec.kind, other.spec.queue) = (kind("other"), queue("elsewhere"));
    assert_eq!(h.insert(&[other]).await, [Inserted::Duplicate { of: holder }]);
}

pub async fn within_a_batch_the_first_gets_the_key(h: Harness) {
    let (one, two) = (unique(1, UNTIL_FINISHED), unique(2, FOR_AN_HOUR));
    let batch = [one, two, one, two, one].map(|key| with_key(&h, key));
    let (first, second) = (batch[0].id, batch[1].id);
    let expected = [
        Inserted::Created,
        Inserted::Created,
        Inserted::Duplicate { of: first },
        Inserted::Duplicate { of: second },
        Inserted::Duplicate { of: first },
    ];
    assert_eq!(h.insert(&batch).await, expected);
    assert_eq!(h.projection().await.tasks.len(), 2);
}

pub async fn an_id_that_is_stored_weighs_more_than_its_key(h: Harness) {
    let key = unique(1, UNTIL_FINISHED);
    let task = with_key(&h, key);
    let id = h.insert_one(task.clone()).await;
    let again = h.changing_nothing("its own key", h.insert(std::slice::from_ref(&task))).await;
    assert_eq!(again, [Inserted::AlreadyExists]);
    let other = h.insert_one(with_key(&h, unique(2, UNTIL_FINISHED))).await;
    let stolen = h.task_with(|task| (task.id, task.spec.unique) = (other, Some(key)));
    let answer = h.changing_nothing("the key of another", h.insert(&[stolen])).await;
    assert_eq!(answer, [Inserted::AlreadyExists]);
    check_held(&h, key, id, "still the first").await;
}

pub async fn a_known_id_takes_no_key(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let key = unique(1, UNTIL_FINISHED);
    let same_id = h.task_with(|task| (task.id, task.spec.unique) = (id, Some(key)));
    assert_eq!(h.insert(&[same_id]).await, [Inserted::AlreadyExists]);
    check_free(&h, key, "never taken").await;
}

pub async fn a_rejected_batch_takes_no_key(h: Harness) {
    let key = unique(1, UNTIL_FINISHED);
    let bad = h.task_with(|task| task.max_attempts = 0);
    let answer = h.try_insert(&[with_key(&h, key), bad]).await;
    assert_eq!(rejection(answer), (1, Rejection::NoAttempts));
    check_free(&h, key, "nothing was stored").await;
}

pub async fn the_id_of_a_duplicate_is_not_used_up(h: Harness) {
    let key = unique(1, UNTIL_FINISHED);
    let holder = h.insert_one(with_key(&h, key)).await;
    let refused = with_key(&h, key);
    assert_eq!(
        h.insert(std::slice::from_ref(&refused)).await,
        [Inserted::Duplicate { of: holder }]
    );
    h.apply(holder, Command::Delete).await;
    h.insert_one(refused).await;
}

pub async fn until_started_ends_with_the_first_claim_for_good(h: Harness) {
    let key = unique(1, UNTIL_STARTED);
    let id =
        h.add(|task| (task.spec.unique, task.run_at) = (Some(key), RunAt::After(MINUTE))).await;
    check_held(&h, key, id, "scheduled").await;
    h.advance(MINUTE);
    check_held(&h, key, id, "pending").await;
    let claimed = h.claim_this(id).await;
    check_free(&h, key, "running").await;
    h.conclude(&claimed, Conclusion::Release).await;
    check_free(&h, key, "released").await;
    h.claim_and_conclude(id, retry(MINUTE)).await;
    check_free(&h, key, "retrying").await;
    h.apply(id, cancel_command()).await;
    h.apply(id, Command::Retry).await;
    check_free(&h, key, "ordered to run again").await;
}

pub async fn until_finished_holds_through_every_unfinished_state(h: Harness) {
    let key = unique(1, UNTIL_FINISHED);
    let id =
        h.add(|task| (task.spec.unique, task.run_at) = (Some(key), RunAt::After(MINUTE))).await;
    check_held(&h, key, id, "scheduled").await;
    h.advance(MINUTE);
    check_held(&h, key, id, "pending").await;
    for ending in [retry(MINUTE), snooze(MINUTE), Conclusion::Release] {
        let claimed = h.claim_this(id).await;
        check_held(&h, key, id, "running").await;
        h.conclude(&claimed, ending).await;
        check_held(&h, key, id, "waiting again").await;
        h.advance(MINUTE);
    }
    h.claim_this(id).await;
    h.advance(LEASE_DEFAULT);
    assert_eq!(h.rescue().await.done, 1);
    check_held(&h, key, id, "rescued").await;
    h.apply(id, Command::Reschedule { run_at: h.later(HOUR) }).await;
    check_held(&h, key, id, "rescheduled").await;
}

pub async fn until_finished_ends_with_every_ending(h: Harness) {
    let key = unique(1, UNTIL_FINISHED);
    for ending in [complete(), fail(), cancel(), retry(SECOND)] {
        let task = h.task_with(|task| (task.spec.unique, task.max_attempts) = (Some(key), 1));
        let id = h.insert_one(task).await;
        h.claim_and_conclude(id, ending.clone()).await;
        check_free(&h, key, &format!("{ending:?}")).await;
    }
    let cancelled = h.insert_one(with_key(&h, key)).await;
    h.apply(cancelled, cancel_command()).await;
    check_free(&h, key, "cancelled by an operator").await;
    let stopped = h.insert_one(with_key(&h, key)).await;
    let claimed = h.claim_this(stopped).await;
    h.apply(stopped, cancel_command()).await;
    check_held(&h, key, stopped, "asked to stop").await;
    h.finish(&claimed, snooze(HOUR)).await;
    check_free(&h, key, "stopped").await;
    let poisonous = h.insert_one(with_key(&h, key)).await;
    h.claim_this(poisonous).await;
    h.advance(LEASE_DEFAULT);
    h.rescue_by(RescueRequest::default().deaths_max(1)).await;
    check_free(&h, key, "failed as poison").await;
}

pub async fn while_states_holds_in_the_chosen_states_alone(h: Harness) {
    let finished = [State::Completed, State::Failed, State::Cancelled];
    for number in 0..8_u8 {
        let chosen: StateSet =
            (0..3).filter(|bit| number & (1 << bit) != 0).map(|bit| finished[bit]).collect();
        for (at, state) in (0_u8..).zip(REACHABLE) {
            let scope = UniqueScope::While(StateSet::UNFINISHED.union(chosen));
            let key = unique(number * 16 + at, scope);
            let id = h.in_state_with(state, |task| task.spec.unique = Some(key)).await;
            let context = format!("{state}, while {scope:?}");
            if state.is_terminal() && !chosen.contains(state) {
                check_free(&h, key, &context).await;
            } else {
                check_held(&h, key, id, &context).await;
            }
            h.apply(id, Command::Delete).await;
        }
    }
}

pub async fn for_a_period_holds_whatever_the_state(h: Harness) {
    let period = UniqueScope::For(DAY * 30);
    for (at, state) in (0_u8..).zip(REACHABLE) {
        let key = unique(at, period);
        let id = h.in_state_with(state, |task| task.spec.unique = Some(key)).await;
        check_held(&h, key, id, state.as_str()).await;
        h.apply(id, cancel_command()).await;
        check_held(&h, key, id, "called off").await;
    }
}

pub async fn for_a_period_ends_at_its_microsecond(h: Harness) {
    let key = unique(1, FOR_AN_HOUR);
    let holder =
        h.add(|task| (task.spec.unique, task.run_at) = (Some(key), RunAt::After(DAY))).await;
    h.advance(HOUR - MICROSECOND);
    check_held(&h, key, holder, "one microsecond early").await;
    h.advance(MICROSECOND);
    let next = h.insert_one(with_key(&h, key)).await;
    check_held(&h, key, next, "the period of the next").await;
    assert_eq!(h.get(holder).await.state, State::Scheduled);
}

pub async fn a_period_counts_from_the_enqueue_not_from_a_duplicate(h: Harness) {
    let key = unique(1, FOR_AN_HOUR);
    let holder = h.insert_one(with_key(&h, key)).await;
    for _ in 0..3 {
        h.advance(MINUTE * 19);
        check_held(&h, key, holder, "a duplicate renews nothing").await;
    }
    h.advance(MINUTE * 3);
    check_free(&h, key, "the hour is over").await;
}

pub async fn a_period_outlives_the_task_that_was_pruned(h: Harness) {
    let key = unique(1, UniqueScope::For(DAY * 2));
    let task = h.task_with(|task| {
        (task.spec.unique, task.spec.retention) = (Some(key), Some(SECOND));
    });
    let id = h.insert_one(task).await;
    h.claim_and_conclude(id, complete()).await;
    h.advance(DAY);
    assert_eq!(h.prune().await.done, 1);
    assert_eq!(h.find(id).await, None);
    check_held(&h, key, id, "held by a task that is gone").await;
    h.advance(DAY);
    h.prune().await;
    check_free(&h, key, "the period is over").await;
}

pub async fn deleting_frees_the_key_whatever_the_scope(h: Harness) {
    let scopes = [UNTIL_STARTED, UNTIL_FINISHED, UniqueScope::While(StateSet::ALL), FOR_AN_HOUR];
    for (number, scope) in (0_u8..).zip(scopes) {
        for (at, state) in (0_u8..).zip(REACHABLE) {
            if state == State::Running {
                continue;
            }
            let key = unique(number * 16 + at, scope);
            let id = h.in_state_with(state, |task| task.spec.unique = Some(key)).await;
            assert_eq!(h.apply(id, Command::Delete).await, CommandVerdict::Applied);
            check_free(&h, key, &format!("deleted {state}, {scope:?}")).await;
        }
    }
}

pub async fn pruning_frees_a_key_that_states_hold(h: Harness) {
    let key = unique(1, UniqueScope::While(StateSet::ALL));
    let id = h.insert_one(with_key(&h, key)).await;
    h.claim_and_conclude(id, complete()).await;
    h.advance(DAY - MICROSECOND);
    h.prune().await;
    check_held(&h, key, id, "completed").await;
    h.advance(SECOND * 2);
    assert_eq!(h.prune().await.done, 1);
    check_free(&h, key, "pruned").await;
}

pub async fn a_key_once_left_is_never_regained(h: Harness) {
    let key = unique(1, UNTIL_FINISHED);
    let old = h.insert_one(with_key(&h, key)).await;
    h.claim_and_conclude(old, complete()).await;
    let new = h.insert_one(with_key(&h, key)).await;
    assert_eq!(h.apply(old, Command::Retry).await, CommandVerdict::Applied);
    check_held(&h, key, new, "the old one runs without the key").await;
    h.claim_this(old).await;
    h.apply(new, Command::Delete).await;
    check_free(&h, key, "the old one runs, and holds nothing").await;
}

pub async fn a_task_without_its_key_does_not_free_that_of_another(h: Harness) {
    let key = unique(1, UNTIL_FINISHED);
    let old = h.insert_one(with_key(&h, key)).await;
    h.claim_and_conclude(old, complete()).await;
    let later = RunAt::After(DAY * 90);
    let new = h.add(|task| (task.spec.unique, task.run_at) = (Some(key), later)).await;
    for ending in [complete(), fail(), cancel()] {
        h.apply(old, Command::Retry).await;
        h.claim_and_conclude(old, ending).await;
        check_held(&h, key, new, "finished again").await;
    }
    h.apply(old, Command::Retry).await;
    h.apply(old, cancel_command()).await;
    check_held(&h, key, new, "cancelled").await;
    h.advance(DAY * 30);
    assert_eq!(h.prune().await.done, 1);
    check_held(&h, key, new, "pruned").await;
}

pub async fn deleting_a_former_holder_does_not_free_the_key(h: Harness) {
    for (number, scope) in [(1, UNTIL_FINISHED), (2, FOR_AN_HOUR), (3, UNTIL_STARTED)] {
        let key = unique(number, scope);
        let old = h.insert_one(with_key(&h, key)).await;
        h.claim_and_conclude(old, complete()).await;
        h.advance(HOUR);
        let later = RunAt::After(DAY * 90);
        let new = h.add(|task| (task.spec.unique, task.run_at) = (Some(key), later)).await;
        h.apply(old, Command::Delete).await;
        check_held(&h, key, new, &format!("{scope:?}")).await;
    }
}

pub async fn pruning_a_former_holder_does_not_free_the_key(h: Harness) {
    let key = unique(1, UniqueScope::For(DAY * 3));
    let old = h.insert_one(with_key(&h, key)).await;
    h.claim_and_conclude(old, complete()).await;
    h.advance(DAY * 3);
    let new = h.insert_one(with_key(&h, key)).await;
    assert_eq!(h.prune().await.done, 1);
    assert_eq!(h.find(old).await, None);
    check_held(&h, key, new, "the period of the new one").await;
}

pub async fn an_operators_retry_keeps_a_key_that_was_not_left(h: Harness) {
    let key = unique(1, while_completed());
    let id = h.insert_one(with_key(&h, key)).await;
    h.claim_and_conclude(id, complete()).await;
    check_held(&h, key, id, "completed").await;
    h.apply(id, Command::Retry).await;
    check_held(&h, key, id, "waiting again").await;
    h.claim_and_conclude(id, fail()).await;
    check_free(&h, key, "failed").await;
}

pub async fn the_scope_of_the_holder_decides(h: Harness) {
    let hash = |scope| unique(1, scope);
    let holder = h.insert_one(with_key(&h, hash(UNTIL_FINISHED))).await;
    h.claim_this(holder).await;
    // An asker whose own scope would have ended by now is a duplicate all the same.
    check_held(&h, hash(UNTIL_STARTED), holder, "asked until started").await;
    check_held(&h, hash(UniqueScope::For(SECOND)), holder, "asked for a second").await;
    h.advance(MINUTE);
    check_held(&h, hash(FOR_AN_HOUR), holder, "asked for an hour").await;
}

pub async fn tasks_without_a_key_are_never_duplicates(h: Harness) {
    let batch: Vec<_> =
        (0..20).map(|_| h.task_with(|task| task.spec.payload = "same".into())).collect();
    h.create(&batch).await;
}
