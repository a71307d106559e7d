//! A store that fails: nothing is lost, nothing is done twice.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use ergon_core::{State, StoreError, TaskOptions};
use ergon_server::{Server, ServerConfig, StartError};
use ergon_testing::{Faulty, MemoryStore, Operation};

use crate::support::{
    PATIENCE, SECOND, Work, enqueue, enqueue_many, finished, memory, pass, serve, start,
};

/// Runs 50 tasks on a store that fails as planned; says how often handlers ran.
async fn run(plan: impl FnOnce(&Faulty)) -> (MemoryStore, Vec<ergon_core::TaskRecord>, u64) {
    let store = memory();
    let faulty = Faulty::new(store.clone());
    plan(&faulty);
    let runs = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&runs);
    let handles = enqueue_many(store.clone(), 50, TaskOptions::new().max_attempts(1)).await;
    let server = serve(faulty, move |work: Work| {
        counting.fetch_add(1, SeqCst);
        async move { Ok(work.number) }
    });
    let mut tasks = Vec::new();
    for handle in handles {
        tasks.push(finished(&handle, store.clone()).await);
    }
    let report = server.shutdown().await;
    assert!(report.is_clean());
    assert_eq!((report.completed, report.stale), (50, 0));
    (store, tasks, runs.load(SeqCst))
}

#[tokio::test(start_paused = true)]
async fn claims_that_fail_are_repeated() {
    let (_, tasks, runs) = run(|faulty| faulty.fail_before(Operation::Claim, 5)).await;
    assert_eq!(runs, 50);
    assert!(tasks.iter().all(|task| task.state == State::Completed));
}

#[tokio::test(start_paused = true)]
async fn what_a_claim_took_whose_answer_was_lost_returns_with_its_attempts() {
    let (_, tasks, runs) = run(|faulty| faulty.fail_after(Operation::Claim, 2)).await;
    assert_eq!(runs, 50);
    assert!(tasks.iter().all(|task| task.progress.attempt == 1));
    let lost = tasks.iter().filter(|task| task.progress.crash_count == 1).count();
    assert_eq!(lost, 20, "two claims of ten");
}

#[tokio::test(start_paused = true)]
async fn outcomes_that_were_not_recorded_are_repeated() {
    let (_, tasks, runs) = run(|faulty| faulty.fail_before(Operation::Finish, 5)).await;
    assert_eq!(runs, 50);
    assert!(tasks.iter().all(|task| task.progress.crash_count == 0));
}

#[tokio::test(start_paused = true)]
async fn outcomes_whose_recording_was_not_answered_are_recognised() {
    let (_, tasks, runs) = run(|faulty| faulty.fail_after(Operation::Finish, 5)).await;
    assert_eq!(runs, 50);
    assert!(tasks.iter().all(|task| task.progress.attempt == 1));
}

#[tokio::test(start_paused = true)]
async fn everything_failing_now_and_then_changes_nothing() {
    let (_, tasks, runs) = run(|faulty| {
        for operation in [Operation::Claim, Operation::Finish, Operation::Beat] {
            faulty.fail_before(operation, 3);
            faulty.fail_after(operation, 3);
        }
        faulty.fail_before(Operation::RescueExpired, 2);
        faulty.fail_before(Operation::Prune, 2);
    })
    .await;
    assert_eq!(runs, 50);
    assert!(tasks.iter().all(|task| task.state == State::Completed));
}

#[tokio::test(start_paused = true)]
async fn outcomes_outlive_a_long_outage() {
    let store = memory();
    let faulty = Faulty::new(store.clone());
    faulty.fail_before(Operation::Finish, usize::MAX);
    let handles = enqueue_many(store.clone(), 30, TaskOptions::new()).await;
    let server = serve(faulty.clone(), async |work: Work| Ok(work.number));
    pass(SECOND * 300).await;
    let finish = server.loops().into_iter().find(|it| it.name == "finish").unwrap();
    assert!(finish.is_late() && finish.errors > 100, "{finish:?}");
    faulty.heal();
    for (handle, number) in handles.iter().zip(0..) {
        assert_eq!(handle.result().within(SECOND * 3).await.unwrap(), number);
    }
    let report = server.shutdown().await;
    // Beats kept the leases while the outcomes waited.
    assert_eq!((report.started, report.completed), (30, 30));
}

#[tokio::test(start_paused = true)]
async fn no_task_is_started_while_too_many_outcomes_are_unrecorded() {
    let store = memory();
    let faulty = Faulty::new(store.clone());
    faulty.fail_before(Operation::Finish, usize::MAX);
    let mut config = ServerConfig::new().outcomes_max(5).flush_batch_max(5);
    config.concurrency = Some(2);
    let work = async |work: Work| Ok(work.number);
    let server = start(Server::builder(faulty.clone()).config(config).handler(work));
    let handles = enqueue_many(store.clone(), 100, TaskOptions::new()).await;
    pass(SECOND * 60).await;
    let fetched = server.loops().into_iter().find(|it| it.name == "fetch").unwrap().done;
    // Two batches under way, one being gathered, one in the channel, and the attempts that wait.
    assert!(fetched <= 5 * 4 + 2, "{fetched}");
    faulty.heal();
    for handle in handles {
        finished(&handle, store.clone()).await;
    }
    assert_eq!(server.shutdown().await.completed, 100);
}

#[tokio::test(start_paused = true)]
async fn outcomes_that_cannot_be_recorded_are_reported() {
    let store = memory();
    let faulty = Faulty::new(store.clone());
    faulty.fail_before(Operation::Finish, usize::MAX);
    let handle = enqueue(store.clone(), TaskOptions::new()).await;
    let server = serve(faulty.clone(), async |work: Work| Ok(work.number));
    pass(SECOND).await;
    let began = tokio::time::Instant::now();
    let report = server.shutdown().await;
    assert_eq!(report.unrecorded, [handle.id()]);
    assert!(!report.is_clean());
    assert!(began.elapsed() <= SECOND * 3);
    // The next server takes the task when its lease is over.
    let next = serve(store.clone(), async |work: Work| Ok(work.number + 1));
    assert_eq!(handle.result().within(PATIENCE).await.unwrap(), 8);
    drop(next.shutdown().await);
}

#[tokio::test(start_paused = true)]
async fn hints_that_never_come_are_replaced_by_looking() {
    let store = memory();
    let faulty = Faulty::new(store.clone());
    // Every call of `wait_for_work` takes its whole time, whatever is enqueued meanwhile.
    faulty.delay(Operation::WaitForWork, SECOND);
    let server = serve(faulty, async |work: Work| Ok(work.number));
    pass(SECOND * 10).await;
    let handle = enqueue(store.clone(), TaskOptions::new()).await;
    assert_eq!(handle.result().within(SECOND * 3).await.unwrap(), 7);
    drop(server.shutdown().await);
}

#[tokio::test(start_paused = true)]
async fn hints_for_nothing_do_not_keep_a_server_busy() {
    let store = memory();
    let faulty = Faulty::new(store.clone());
    faulty.fail_before(Operation::WaitForWork, usize::MAX);
    let server = serve(faulty.clone(), async |work: Work| Ok(work.number));
    pass(SECOND * 60).await;
    assert!(faulty.calls(Operation::Claim) < 1_500, "{}", faulty.calls(Operation::Claim));
    let handle = enqueue(store.clone(), TaskOptions::new()).await;
    assert_eq!(handle.result().within(SECOND).await.unwrap(), 7);
    drop(server.shutdown().await);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_merely_unreachable_is_waited_for() {
    let store = memory();
    let faulty = Faulty::new(store.clone());
    faulty.fail_before(Operation::Queues, usize::MAX);
    let handle = enqueue(store.clone(), TaskOptions::new()).await;
    let server = Server::builder(faulty).handler(async |work: Work| Ok(work.number));
    let until = async move { handle.result().within(PATIENCE).await.unwrap() };
    let report = server.build().unwrap().run_until(until).await;
    assert!(!matches!(report, Err(StartError::Store { source: StoreError::Closed })));
    assert_eq!(report.unwrap().completed, 1);
}
