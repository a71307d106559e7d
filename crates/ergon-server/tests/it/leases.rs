//! Cancelling, losing and keeping what a server holds.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use ergon_core::{
    Manager, Now, State, TaskError, TaskOptions,
    store::{Maintain as _, RescueRequest},
    time::after,
};
use ergon_server::{CancelReason, Context, Server, ServerConfig};
use ergon_testing::{Faulty, Operation, Signal};
use tokio::time::Instant;

use crate::support::{SECOND, Work, enqueue, enqueue_many, finished, memory, pass, read, start};

/// Why contexts were told to stop, in order.
type Reasons = Arc<Mutex<Vec<CancelReason>>>;

/// A handler that runs until it is told to stop, and notes why.
macro_rules! handler {
    ($reasons:expr, $started:expr) => {{
        let (reasons, started) = (Arc::clone(&$reasons), $started.clone());
        move |_work: Work, context: Context| {
            let reasons = Arc::clone(&reasons);
            started.fire();
            async move {
                let reason = context.cancelled().await;
                reasons.lock().unwrap().push(reason);
                Err::<u32, _>(TaskError::retry("stopped"))
            }
        }
    }};
}

#[tokio::test(start_paused = true)]
async fn the_context_of_a_cancelled_task_tells_it_within_a_beat() {
    let (store, reasons, started) = (memory(), Reasons::default(), Signal::new());
    let server = start(Server::builder(store.clone()).handler(handler!(reasons, started)));
    let handle = enqueue(store.clone(), TaskOptions::new()).await;
    started.wait().await;
    let began = Instant::now();
    Manager::new(store.clone()).control().cancel(handle.id(), "changed my mind").await.unwrap();
    assert_eq!(finished(&handle, store.clone()).await.state, State::Cancelled);
    assert!(began.elapsed() <= SECOND * 11, "{:?}", began.elapsed());
    assert_eq!(*reasons.lock().unwrap(), [CancelReason::Cancelled]);
    assert_eq!(server.shutdown().await.cancelled, 1);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_handler_that_does_not_listen_is_dropped() {
    let (store, started) = (memory(), Signal::new());
    let starting = started.clone();
    let server = start(Server::builder(store.clone()).handler(move |_work: Work| {
        starting.fire();
        std::future::pending()
    }));
    let handle = enqueue(store.clone(), TaskOptions::new()).await;
    started.wait().await;
    Manager::new(store.clone()).control().cancel(handle.id(), "stop it").await.unwrap();
    let began = Instant::now();
    assert_eq!(finished(&handle, store.clone()).await.state, State::Cancelled);
    assert!(began.elapsed() <= SECOND * 16, "{:?}", began.elapsed());
    drop(server.shutdown().await);
}

#[tokio::test(start_paused = true)]
async fn beats_keep_a_long_task() {
    let store = memory();
    let server =
        start(Server::builder(store.clone()).handler(async |work: Work, context: Context| {
            assert_eq!(context.attempt(), 1);
            pass(SECOND * 600).await;
            Ok(work.number)
        }));
    let handle = enqueue(store.clone(), TaskOptions::new()).await;
    let task = finished(&handle, store.clone()).await;
    assert_eq!((task.state, task.progress.crash_count), (State::Completed, 0));
    let report = server.shutdown().await;
    assert_eq!((report.started, report.stale), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_recorded_is_not_renewed_any_more() {
    let store = memory();
    let work = async |work: Work| Ok(work.number);
    let server = start(Server::builder(store.clone()).handler(work));
    for handle in enqueue_many(store.clone(), 100, TaskOptions::new()).await {
        finished(&handle, store.clone()).await;
    }
    pass(SECOND * 60).await;
    let beat = server.loops().into_iter().find(|it| it.name == "beat").unwrap();
    assert!(beat.runs >= 5 && beat.done == 0, "{beat:?}");
    drop(server.shutdown().await);
}

/// Two servers; the first cannot beat from the start on, and the second takes its task over.
#[tokio::test(start_paused = true)]
async fn a_task_whose_lease_is_lost_runs_elsewhere_and_the_late_outcome_changes_nothing() {
    let store = memory();
    let frozen = Faulty::new(store.clone());
    frozen.fail_before(Operation::Beat, usize::MAX);
    frozen.fail_before(Operation::RescueExpired, usize::MAX);
    let (reasons, started) = (Reasons::default(), Signal::new());
    let first = {
        let (reasons, starting) = (Arc::clone(&reasons), started.clone());
        let late = move |_work: Work, context: Context| {
            let reasons = Arc::clone(&reasons);
            starting.fire();
            async move {
                let reason = context.cancelled().await;
                reasons.lock().unwrap().push(reason);
                pass(SECOND * 20).await;
                Ok(1)
            }
        };
        let config = ServerConfig::new().abort_period(SECOND * 60);
        start(Server::builder(frozen.clone()).config(config).handler(late))
    };
    let handle = enqueue(store.clone(), TaskOptions::new().max_attempts(1)).await;
    started.wait().await;
    let claimed = Instant::now();
    let second = start(Server::builder(store.clone()).handler(async |_work: Work| Ok(2)));
    let task = finished(&handle, store.clone()).await;
    assert_eq!((task.state, task.progress.crash_count), (State::Completed, 1));
    assert!(claimed.elapsed() <= SECOND * 37, "{:?}", claimed.elapsed());
    assert_eq!(*reasons.lock().unwrap(), [CancelReason::LeaseLost], "told before it was lost");
    pass(SECOND * 60).await;
    assert_eq!(handle.result().await.unwrap(), 2);
    let report = first.shutdown().await;
    assert_eq!((report.started, report.completed, report.stale), (1, 0, 1));
    assert!(report.is_clean());
    assert_eq!(second.shutdown().await.completed, 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_after_the_lease_may_be_lost_spends_no_attempt() {
    let store = memory();
    let faulty = Faulty::new(store.clone());
    let (reasons, started) = (Reasons::default(), Signal::new());
    faulty.fail_before(Operation::Beat, usize::MAX);
    let server = start(Server::builder(faulty.clone()).handler(handler!(reasons, started)));
    let handle = enqueue(store.clone(), TaskOptions::new()).await;
    started.wait().await;
    pass(SECOND * 120).await;
    // Nor does the server claim what it could not keep.
    assert_eq!(*reasons.lock().unwrap(), [CancelReason::LeaseLost]);
    let task = read(&handle, store.clone()).await;
    assert_eq!((task.state, task.progress.attempt), (State::Pending, 0));
    assert_eq!((task.progress.errors.len(), task.progress.crash_count), (0, 0));
    faulty.heal();
    started.wait_for(2).await;
    server.shutdown_handle().shutdown_now();
    assert_eq!(server.shutdown().await.started, 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_lets_go_of_what_the_store_says_is_lost() {
    let (store, reasons, started) = (memory(), Reasons::default(), Signal::new());
    let server = start(Server::builder(store.clone()).handler(handler!(reasons, started)));
    let handle = enqueue(store.clone(), TaskOptions::new()).await;
    started.wait().await;
    // As another server would, whose store's clock has leapt ahead; and nobody may run it again.
    let ahead = Now::At(after(store.clock().now(), SECOND * 60));
    let report = store.rescue_expired(&RescueRequest::default().now(ahead)).await.unwrap();
    assert_eq!(report.done, 1);
    Manager::new(store.clone()).control().cancel(handle.id(), "enough").await.unwrap();
    pass(SECOND * 11).await;
    assert_eq!(*reasons.lock().unwrap(), [CancelReason::LeaseLost]);
    let report = server.shutdown().await;
    assert_eq!((report.started, report.stale, report.retried), (1, 1, 0));
    assert_eq!(started.count(), 1);
    assert!(report.is_clean());
    let task = read(&handle, store).await;
    assert_eq!((task.state, task.progress.attempt), (State::Cancelled, 0));
}

#[tokio::test(start_paused = true)]
async fn handlers_learn_that_beats_fail_before_the_lease_is_over() {
    let store = memory();
    let faulty = Faulty::new(store.clone());
    let started = Signal::new();
    let starting = started.clone();
    let told = Arc::new(Mutex::new(None));
    let telling = Arc::clone(&told);
    let server =
        start(Server::builder(faulty.clone()).handler(move |work: Work, context: Context| {
            let told = Arc::clone(&telling);
            starting.fire();
            async move {
                let reason = context.cancelled().await;
                *told.lock().unwrap() = Some((reason, Instant::now()));
                Ok(work.number)
            }
        }));
    // A store that hangs is as bad as one that fails.
    faulty.delay(Operation::Beat, Duration::from_secs(3_600));
    let handle = enqueue(store.clone(), TaskOptions::new()).await;
    started.wait().await;
    let began = Instant::now();
    assert_eq!(finished(&handle, store.clone()).await.state, State::Completed);
    let (reason, at) = told.lock().unwrap().take().unwrap();
    assert_eq!(reason, CancelReason::LeaseLost);
    let took = at - began;
    assert!(took >= SECOND * 25 && took < SECOND * 30, "{took:?}");
    faulty.heal();
    assert_eq!(server.shutdown().await.completed, 1);
}
