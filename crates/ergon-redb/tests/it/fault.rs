//! The medium fails once, at any moment: it is never kept quiet, and reopening recovers.

use std::{sync::Arc, time::Duration};

use ergon_core::{
    Now, Page, ProgressReport, RunAt, StoreError, TaskFilter,
    event::ServerEvent,
    report::ClaimReport,
    store::{
        Beat, Control, Dispatch, Enqueue, Inspect, Maintain, Observe, PruneRequest, QueueChange,
        Watch,
    },
};
use ergon_redb::{RedbOptions, RedbStore};
use ergon_testing::{
    VirtualClock,
    harness::{Harness, SERVER, queue, watcher},
};
use tokio::task::JoinSet;

use crate::{
    medium::{Access, Loss, Medium, PATIENCE},
    rig::{OnMedium, check, on},
    workload::{Ledger, Workload},
};

fn options(h: &Harness) -> RedbOptions {
    RedbStore::builder().clock(Arc::new(VirtualClock::new(h.instant())))
}

/// Every write that a store offers answers that the store failed.
async fn writes_are_refused(store: &RedbStore, h: &Harness, context: &str) {
    let is_failed = |error: Option<StoreError>, what: &str| {
        assert!(matches!(error, Some(StoreError::Failed { .. })), "{context}: {what}: {error:?}");
    };
    is_failed(store.insert(&h.tasks(1), h.now()).await.err(), "insert");
    is_failed(store.claim(&h.request(1)).await.err(), "claim");
    let outcome = ergon_core::Outcome {
        id: h.id(),
        token: ergon_core::Token::new(1),
        conclusion: ergon_testing::harness::complete(),
    };
    is_failed(store.finish(&[outcome], h.now()).await.err(), "finish");
    is_failed(store.beat(&Beat::new(SERVER, Vec::new())).await.err(), "beat");
    is_failed(store.prune(&PruneRequest::default()).await.err(), "prune");
    is_failed(store.set_queue(&queue("q"), &QueueChange::pause()).await.err(), "set_queue");
    is_failed(store.watch(&Watch::durable(watcher("late"))).await.err(), "watch");
    is_failed(store.unwatch(&watcher("audit")).await.err(), "unwatch");
    is_failed(store.announce(SERVER, &ServerEvent::Draining).await.err(), "announce");
    let report = ClaimReport {
        id: h.id(),
        token: ergon_core::Token::new(1),
        report: ProgressReport::new(1),
    };
    is_failed(store.report(&[report], h.now()).await.err(), "report");
    is_failed(store.compact().await.err(), "compact");
    // Reads may go on, and what they cannot read they say.
    drop(store.list(&TaskFilter::all(), &Page::default(), Now::Store).await);
    drop(store.queues(Now::Store).await);
    drop(store.check().await);
    is_failed(store.close().await.err(), "close");
}

/// Works until the medium fails, then audits what is left.
///
/// Says whether it failed at all.
async fn survive(seed: u64, fail_at: usize, callers: usize) -> bool {
    let medium = Medium::default();
    let h = Harness::new(RedbStore::in_memory().unwrap());
    let rig = OnMedium::open(&medium, options(&h)).await;
    let mut work = Workload::new(on(&h, &rig.store), seed, callers);
    let first = work.h.watch("audit").await.cursor;
    let made = medium.changes();
    medium.fail_at(made + fail_at);
    let context = format!("seed {seed}, change {fail_at}");
    let outcome = work.run(&rig.store, &medium, 8).await;
    match &outcome {
        Err(StoreError::Failed { .. }) => writes_are_refused(&rig.store, &work.h, &context).await,
        Err(error) => unreachable!("{context}: {error:?}"),
        // Nothing failed, or only what came after the last acknowledgement.
        Ok(()) => {
            let closed = rig.store.close().await;
            assert!(closed.is_ok() || medium.has_failed(), "{context}: {closed:?}");
        }
    }
    drop(rig);
    // What was written and not synced may be gone or not.
    let mut history = medium.history();
    let changes = history.len();
    let rng = ergon_testing::SeededRng::new(seed);
    for loss in [Loss::All, Loss::None] {
        let after = Medium::new(history.cut(changes, loss, &rng));
        let reopened = OnMedium::open(&after, options(&h)).await;
        let context = format!("{context}, loss: {loss:?}");
        let h = on(&work.h, &reopened.store);
        work.ledger.audit(&reopened.store, &h, changes, &context).await;
        Ledger::audit_journal(&h, &first, &context).await;
        h.create(&h.tasks(1)).await;
    }
    medium.has_failed()
}

/// Has every change fail in turn, until a run is over before its change comes.
async fn survive_all(seed: u64, callers: usize) {
    let mut failures = 0;
    while survive(seed, failures, callers).await {
        failures += 1;
    }
    assert!(failures > 50, "{failures} failures only");
}

#[tokio::test]
async fn a_failure_of_any_change_with_one_caller() {
    survive_all(1, 1).await;
}

#[tokio::test]
async fn a_failure_of_any_change_with_many_callers() {
    survive_all(2, 6).await;
}

#[tokio::test]
async fn a_failure_of_any_change_while_the_store_is_opened() {
    let whole = Medium::default();
    let h = Harness::new(RedbStore::in_memory().unwrap());
    let rig = OnMedium::open(&whole, options(&h)).await;
    let ids = on(&h, &rig.store).create(&h.tasks(9)).await;
    // Killed with a task that runs: opening has something to repair and to take back.
    let killed = Medium::new(whole.image());
    let careful = OnMedium::open(&killed, options(&h)).await;
    on(&h, &careful.store).claim(1).await;
    let image = killed.image();
    for fail_at in 0.. {
        let medium = Medium::new(image.clone());
        medium.fail_at(fail_at);
        match OnMedium::try_open(&medium, options(&h)).await {
            Ok(_) if !medium.has_failed() => break,
            // What fails after that is not needed to be open.
            Ok(rig) => drop(rig),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        let again = Medium::new(medium.image());
        let reopened = OnMedium::open(&again, options(&h)).await;
        let h = on(&h, &reopened.store);
        check(&reopened.store).await;
        for &id in &ids {
            assert!(h.find(id).await.is_some(), "change {fail_at}");
        }
        assert_eq!(h.get(ids[0]).await.progress.crash_count, 1, "change {fail_at}");
    }
}

#[tokio::test]
async fn whoever_waits_for_a_commit_that_fails_is_told() {
    const LONG: Duration = Duration::from_secs(3600);
    let medium = Medium::default();
    let h = Harness::new(RedbStore::in_memory().unwrap());
    let rig = OnMedium::open(&medium, options(&h)).await;
    let h = on(&h, &rig.store);
    let id = h.add(|task| task.run_at = RunAt::After(LONG)).await;
    let mut callers = JoinSet::new();
    let (waiter, store) = (rig.store.clone(), rig.store.clone());
    callers.spawn(async move { waiter.wait_for_finish(id, LONG).await.err() });
    tokio::task::yield_now().await;
    medium.block(Access::Changes);
    for _ in 0..20 {
        let h = h.clone();
        callers.spawn(async move { h.try_insert(&h.tasks(1)).await.err() });
    }
    let queues = [queue("q")];
    let idle = tokio::time::timeout(PATIENCE, store.wait_for_work(&queues, &[], LONG));
    let (idle, ()) = tokio::join!(idle, async {
        tokio::task::yield_now().await;
        medium.until_blocked();
        medium.fail_at(medium.changes());
        medium.unblock();
    });
    idle.expect("a store that fails wakes everybody");
    for error in callers.join_all().await {
        assert!(matches!(error, Some(StoreError::Failed { .. })), "{error:?}");
    }
    assert!(matches!(rig.store.close().await, Err(StoreError::Failed { .. })));
}
