//! What a store is after it was closed, dropped or killed, and opened again.

use std::time::Duration;

use ergon_core::{
    Clock, Command, CommandVerdict, Conclusion, ErrorKind, Phase, State, TaskFilter, Token,
    UniqueScope, Verdict,
    store::{Inserted, QueueChange},
};
use ergon_redb::{RedbOptions, RedbStore};
use ergon_testing::{
    VirtualClock,
    harness::{
        DAY, HOUR, Harness, MINUTE, SECOND, cancel_command, claimed_ids, complete, fail, queue,
        retry, tag, unique,
    },
};

use crate::{
    medium::{Access, Medium},
    rig::{OnMedium, Rig, on},
};

/// Everything that a task can carry.
async fn add_with_everything(h: &Harness) {
    h.add(|task| {
        task.spec.queue = queue("special");
        task.spec.payload = vec![0, 159, 146, 150].into();
        task.spec.timeout = Some(MINUTE);
        task.spec.deadline = Some(h.later(HOUR));
        task.spec.retention = Some(DAY);
        task.spec.retry = ergon_core::RetryPolicy::List(vec![SECOND, MINUTE]);
        task.spec.tags = vec![tag("größe"), tag("b")];
        task.spec.metadata = [("k".to_owned(), "v".to_owned())].into();
        task.spec.unique = Some(unique(7, UniqueScope::UntilFinished));
        task.priority = i16::MIN;
        task.max_attempts = 3;
    })
    .await;
}

/// Puts tasks of every kind into a store; none of them runs.
async fn fill(h: &Harness) {
    add_with_everything(h).await;
    h.in_state_with(State::Completed, |task| task.spec.retention = Some(HOUR)).await;
    let failed = h.in_state(State::Failed).await;
    // Those that are due come last, out of the way of the claims of the others.
    for state in [State::Retrying, State::Completed, State::Failed, State::Cancelled] {
        h.in_state(state).await;
    }
    for state in [State::Scheduled, State::Pending] {
        h.in_state(state).await;
    }
    h.apply(failed, Command::Retry).await;
    h.add(|task| task.spec.unique = Some(unique(1, UniqueScope::For(HOUR)))).await;
    h.set_queue("paused", QueueChange::pause()).await;
    h.set_queue("resumed", QueueChange::pause()).await;
    h.set_queue("resumed", QueueChange::resume()).await;
}

#[tokio::test]
async fn everything_is_kept() {
    let mut rig = Rig::new().await;
    fill(&rig.h).await;
    let before = rig.h.projection().await;
    for way in ["closed", "dropped", "killed"] {
        match way {
            "closed" => rig.reopen().await,
            "dropped" => rig.drop_and_reopen().await,
            _ => rig.kill().await,
        }
        rig.h.projection().await.assert_same(&before, way);
        rig.check().await;
        let h = &rig.h;
        let again = h.task_with(|task| task.spec.unique = Some(unique(7, UniqueScope::default())));
        assert!(matches!(h.insert(&[again]).await[..], [Inserted::Duplicate { .. }]), "{way}");
        let again = h.task_with(|task| task.spec.unique = Some(unique(1, UniqueScope::default())));
        assert!(matches!(h.insert(&[again]).await[..], [Inserted::Duplicate { .. }]), "{way}");
    }
}

#[tokio::test]
async fn an_insert_that_is_repeated_after_a_kill_is_recognised() {
    let mut rig = Rig::new().await;
    let tasks = rig.h.tasks(3);
    rig.h.create(&tasks).await;
    rig.kill().await;
    assert_eq!(rig.h.insert(&tasks).await, [Inserted::AlreadyExists; 3]);
    let newer = rig.h.task();
    assert_eq!(rig.h.insert(&[newer, tasks[0].clone()]).await[1], Inserted::AlreadyExists);
    rig.check().await;
}

#[tokio::test]
async fn tokens_rise_over_every_incarnation() {
    let mut rig = Rig::new().await;
    let id = rig.h.insert_one(rig.h.task()).await;
    let mut newest = Token::NONE;
    for round in 0..4 {
        let claimed = rig.h.claim_one().await;
        assert!(claimed.token > newest, "round {round}");
        match round {
            0 => rig.reopen().await,
            1 => rig.kill().await,
            2 => rig.drop_and_reopen().await,
            _ => rig.h.conclude(&claimed, complete()).await,
        }
        if round < 3 {
            let verdict = rig.h.settle(id, claimed.token, complete()).await;
            assert_eq!(verdict, Verdict::Stale, "round {round}");
        }
        newest = claimed.token;
    }
    rig.check().await;
}

#[tokio::test]
async fn a_repeated_outcome_is_recognised_after_a_kill() {
    let mut rig = Rig::new().await;
    let id = rig.h.insert_one(rig.h.task()).await;
    let claimed = rig.h.claim_one().await;
    rig.h.conclude(&claimed, complete()).await;
    rig.kill().await;
    assert_eq!(rig.h.settle(id, claimed.token, complete()).await, Verdict::AlreadyApplied);
    assert_eq!(rig.h.settle(id, claimed.token, fail()).await, Verdict::Stale);
}

#[tokio::test]
async fn what_ran_when_the_store_was_closed_waits_again_and_no_death_is_counted() {
    for is_closed in [true, false] {
        // Careful: claims are written down at once, so that closing has something to undo.
        let mut rig = Rig::new().await;
        rig.kill().await;
        let ids = rig.h.create(&rig.h.tasks(3)).await;
        assert_eq!(claimed_ids(&rig.h.claim(2).await), ids[..2]);
        if is_closed {
            rig.reopen().await;
        } else {
            rig.drop_and_reopen().await;
        }
        for &id in &ids {
            let task = rig.h.get(id).await;
            assert_eq!((task.state, task.progress.crash_count), (State::Pending, 0));
            assert_eq!(task.progress.attempt, 0);
        }
        rig.check().await;
        assert_eq!(claimed_ids(&rig.h.claim(9).await), ids);
    }
}

#[tokio::test]
async fn other_handles_are_closed_with_the_store() {
    let rig = Rig::new().await;
    rig.h.insert_one(rig.h.task()).await;
    let (one, two) = tokio::join!(rig.store.close(), rig.store.close());
    assert!(one.is_ok() && two.is_ok());
    // Whoever closed, the file is free now.
    let again = RedbStore::open(&rig.path).await.unwrap();
    again.close().await.unwrap();
    let closed = rig.h.try_insert(&rig.h.tasks(1)).await;
    assert!(matches!(closed, Err(ergon_core::StoreError::Closed)), "{closed:?}");
    assert!(rig.h.store.claim(&rig.h.request(1)).await.is_err());
    assert!(rig.store.compact().await.is_err());
    assert!(rig.store.check().await.is_err());
}

#[tokio::test]
async fn after_a_kill_what_ran_is_ready_and_its_death_is_counted_once_it_was_written_down() {
    let medium = Medium::default();
    let clock = VirtualClock::default();
    let options = || RedbStore::builder().clock(std::sync::Arc::new(clock.clone()));
    let first = OnMedium::open(&medium, options()).await;
    let h = Harness::new(first.store.clone());
    let ids = h.create(&h.tasks(2)).await;
    // Nothing can be written, so what is claimed is claimed in memory alone.
    medium.block(Access::Changes);
    assert_eq!(claimed_ids(&h.claim(1).await), ids[..1]);
    let image = medium.image();
    medium.unblock();
    let medium = Medium::new(image);
    let second = OnMedium::open(&medium, options()).await;
    let h = on(&h, &second.store);
    assert_eq!((h.get(ids[0]).await.state, crash_count(&h, ids[0]).await), (State::Pending, 0));
    // After a crash the next claim is written down before it is answered.
    assert_eq!(claimed_ids(&h.claim(1).await), ids[..1]);
    for deaths in 1..=2 {
        let medium = Medium::new(medium.image());
        let next = OnMedium::open(&medium, options()).await;
        let h = on(&h, &next.store);
        assert_eq!(
            (h.state(ids[0]).await, crash_count(&h, ids[0]).await),
            (Some(State::Pending), 1)
        );
        assert_eq!(crash_count(&h, ids[1]).await, 0, "round {deaths}");
        crate::rig::check(&next.store).await;
    }
}

async fn crash_count(h: &Harness, id: ergon_core::TaskId) -> u16 {
    h.get(id).await.progress.crash_count
}

#[tokio::test]
async fn without_careful_time_a_claim_writes_nothing() {
    let medium = Medium::default();
    let options = RedbStore::builder().careful_time(Duration::ZERO);
    drop(OnMedium::open(&medium, RedbStore::builder()).await);
    let killed = Medium::new(medium.image());
    let rig = OnMedium::open(&killed, options).await;
    let h = Harness::new(rig.store.clone());
    h.insert_one(h.task()).await;
    killed.block(Access::Changes);
    h.claim_one().await;
    killed.unblock();
}

#[tokio::test]
async fn a_cancel_asked_of_a_running_task_survives_a_kill() {
    for way in ["killed", "closed"] {
        let mut rig = Rig::new().await;
        let id = rig.h.insert_one(rig.h.task()).await;
        let claimed = rig.h.claim_one().await;
        assert_eq!(rig.h.apply(id, cancel_command()).await, CommandVerdict::Requested);
        if way == "killed" {
            rig.kill().await;
        } else {
            rig.reopen().await;
        }
        let task = rig.h.get(id).await;
        assert_eq!(task.state, State::Cancelled, "{way}");
        assert_eq!(task.progress.errors[0].message, "by order");
        assert!(rig.h.claim(1).await.is_empty(), "{way}");
        let late = rig.h.settle(id, claimed.token, complete()).await;
        // Closing gave the claim back.
        assert_eq!(late, Verdict::Stale, "{way}");
        rig.check().await;
    }
}

#[tokio::test]
async fn a_task_that_kills_its_process_again_and_again_is_failed_as_poison() {
    const DEATHS: u16 = 3;
    fn options(options: RedbOptions) -> RedbOptions {
        options.deaths_max(DEATHS)
    }
    let mut rig = Rig::with(options).await;
    let poison = rig.h.insert_one(rig.h.task()).await;
    let innocent = rig.h.insert_one(rig.h.task()).await;
    rig.kill().await;
    for deaths in 0..DEATHS {
        let task = rig.h.claim_this(poison).await;
        assert_eq!(task.crash_count, deaths);
        rig.kill().await;
    }
    let task = rig.h.get(poison).await;
    assert_eq!((task.state, task.progress.crash_count), (State::Failed, DEATHS));
    assert_eq!(task.progress.errors[0].kind, ErrorKind::Poison);
    assert_eq!(task.progress.phase, Phase::Failed);
    assert_eq!(task.progress.attempt, 0);
    assert_eq!(claimed_ids(&rig.h.claim(9).await), [innocent]);
    rig.check().await;
}

#[tokio::test]
async fn a_clean_close_counts_no_death_whatever_the_limit() {
    let mut rig = Rig::with(|options| options.deaths_max(1)).await;
    rig.kill().await;
    let id = rig.h.insert_one(rig.h.task()).await;
    for _ in 0..3 {
        rig.h.claim_this(id).await;
        rig.reopen().await;
        // A closed store is not careful: make the next claim be written down again.
        rig.kill().await;
    }
    assert_eq!((rig.h.state(id).await, crash_count(&rig.h, id).await), (Some(State::Pending), 0));
}

#[tokio::test]
async fn orphans_are_taken_back_before_anybody_can_claim_them() {
    const LEN: usize = 200;
    let mut rig = Rig::new().await;
    rig.kill().await;
    let ids = rig.h.create(&rig.h.tasks(LEN)).await;
    for _ in 0..5 {
        assert_eq!(claimed_ids(&rig.h.claim(LEN).await), ids);
        for id in ids.iter().step_by(10) {
            rig.h.apply(*id, cancel_command()).await;
        }
        rig.kill().await;
        // At once: what is claimed now was taken back before.
        let claimed = rig.h.claim(LEN).await;
        let is_cancelled = |id| ids.iter().step_by(10).any(|it| *it == id);
        assert_eq!(claimed.len(), LEN - LEN / 10);
        assert!(!claimed.iter().any(|task| is_cancelled(task.id)));
        for task in &claimed {
            assert_eq!(rig.h.finish(task, Conclusion::Release).await, Verdict::Applied);
        }
        for id in ids.iter().step_by(10) {
            assert_eq!(rig.h.apply(*id, Command::Retry).await, CommandVerdict::Applied);
        }
        rig.h
            .apply_to(
                ergon_core::Selection::Matching { filter: TaskFilter::all(), limit: LEN },
                Command::SetPriority { priority: 0 },
            )
            .await;
        rig.check().await;
        // Due in the order of their ids again.
        let at = rig.h.instant();
        let selection = ergon_core::Selection::Ids(ids.clone());
        rig.h.apply_to(selection, Command::Reschedule { run_at: at }).await;
    }
}

#[tokio::test]
async fn retention_goes_on_after_a_reopening() {
    let mut rig = Rig::new().await;
    let h = rig.h.clone();
    let short = h.in_state_with(State::Completed, |t| t.spec.retention = Some(MINUTE)).await;
    let long = h.in_state_with(State::Completed, |t| t.spec.retention = Some(HOUR)).await;
    let failed = h.in_state(State::Failed).await;
    let retried = h.in_state_with(State::Completed, |t| t.spec.retention = Some(MINUTE)).await;
    h.apply(retried, Command::Retry).await;
    let key = Some(unique(3, UniqueScope::For(MINUTE)));
    h.add(|task| task.spec.unique = key).await;
    rig.reopen().await;
    rig.h.advance(MINUTE * 2);
    let h = rig.h.clone();
    assert_eq!(h.prune().await.done, 1);
    assert_eq!((h.state(short).await, h.state(long).await), (None, Some(State::Completed)));
    rig.kill().await;
    rig.h.advance(HOUR);
    let h = rig.h.clone();
    assert_eq!(h.prune().await.done, 1);
    assert_eq!((h.state(long).await, h.state(failed).await), (None, Some(State::Failed)));
    assert_eq!(h.state(retried).await, Some(State::Pending));
    // The time of the unique key is over too.
    assert_eq!(h.insert(&[h.task_with(|task| task.spec.unique = key)]).await, [Inserted::Created]);
    rig.check().await;
}

#[tokio::test]
async fn retries_and_their_errors_are_kept() {
    let mut rig = Rig::new().await;
    let id = rig.h.add(|task| task.max_attempts = 3).await;
    for attempt in 1..=3 {
        let claimed = rig.h.claim_this(id).await;
        assert_eq!(claimed.attempt, attempt);
        rig.h.conclude(&claimed, retry(MINUTE)).await;
        rig.h.advance(MINUTE);
        rig.kill().await;
    }
    let task = rig.h.get(id).await;
    assert_eq!((task.state, task.progress.attempt), (State::Failed, 3));
    assert_eq!(task.progress.errors.len(), 3);
}

#[tokio::test]
async fn the_clock_of_the_options_decides_what_a_default_store_shows() {
    let clock = VirtualClock::default();
    let store = RedbStore::builder().clock(std::sync::Arc::new(clock.clone())).in_memory().unwrap();
    let h = Harness::new(store);
    h.store.insert(&h.tasks(1), ergon_core::Now::Store).await.unwrap();
    let tasks = h.projection().await.tasks;
    assert_eq!(tasks[0].created_at, clock.now());
}
