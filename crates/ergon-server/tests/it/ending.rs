//! The end of a server when something is wrong: lost leases, blocking handlers, a store that fails.

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use ergon_core::{
    Manager, Now, State, StoreError, TaskError, TaskId, TaskOptions,
    store::{Maintain as _, Report, RescueRequest},
    time::after,
};
use ergon_server::{Context, Server, ServerConfig};
use ergon_testing::{Faulty, MemoryStore, Operation, Signal};
use tokio::time::Instant;

use crate::{
    scripted::Scripted,
    support::{
        PATIENCE, SECOND, Work, enqueue, enqueue_many, finished, memory, pass, read, serve, start,
    },
};

/// Says whether it was dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// A gate behind which handlers block their threads, until the test lets go of it.
struct Gate(Arc<Barred>);

#[derive(Default)]
struct Barred(Mutex<bool>, Condvar);

impl Barred {
    fn pass(&self) {
        let guard = self.0.lock().unwrap();
        drop(self.1.wait_while(guard, |is_open| !*is_open).unwrap());
    }
}

impl Gate {
    fn new() -> (Self, Arc<Barred>) {
        let barred = Arc::default();
        (Self(Arc::clone(&barred)), barred)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // A test that failed does not wait for its handlers for ever.
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

/// Takes the leases of everything that runs away, as another server does whose store's clock has
/// leapt ahead, and sees to it that nobody runs the task again.
async fn take_away(store: &MemoryStore, id: TaskId) {
    let ahead = Now::At(after(store.clock().now(), SECOND * 60));
    let report = store.rescue_expired(&RescueRequest::default().now(ahead)).await.unwrap();
    assert_eq!(report.done, 1);
    Manager::new(store.clone()).control().cancel(id, "enough").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_attempt_whose_lease_was_lost_is_dropped_before_the_report() {
    let (store, started, told) = (memory(), Signal::new(), Signal::new());
    let dropped = Arc::new(AtomicBool::new(false));
    let (starting, telling, dropping) = (started.clone(), told.clone(), Arc::clone(&dropped));
    let config = ServerConfig::new().abort_period(SECOND * 1_000);
    let server = start(Server::builder(store.clone()).config(config).handler(
        move |_work: Work, context: Context| {
            let (told, dropped) = (telling.clone(), Dropped(Arc::clone(&dropping)));
            starting.fire();
            async move {
                let _dropped = dropped;
                context.cancelled().await;
                told.fire();
                std::future::pending().await
            }
        },
    ));
    let handle = enqueue(store.clone(), TaskOptions::new()).await;
    started.wait().await;
    take_away(&store, handle.id()).await;
    told.wait().await;
    let began = Instant::now();
    server.shutdown_handle().shutdown_now();
    let report = server.shutdown().await;
    assert!(dropped.load(SeqCst), "nothing runs on after the report");
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    assert_eq!((report.started, report.stale), (1, 1));
    assert!(report.is_clean() && report.released.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_attempt_whose_lease_was_lost_and_that_blocks_is_reported() {
    let (store, started) = (MemoryStore::new(), Signal::new());
    let (gate, barred) = Gate::new();
    let (starting, waiting) = (started.clone(), Arc::clone(&barred));
    // One slot, so that the task is not claimed again before it is called off.
    let config = ServerConfig::new().concurrency(1).heartbeat_interval(Duration::from_millis(5));
    let server = start(Server::builder(store.clone()).config(config).handler(
        move |_work: Work, context: Context| {
            let (started, gate) = (starting.clone(), waiting.clone());
            started.fire();
            async move {
                context.cancelled().await;
                started.fire();
                gate.pass();
                Ok(1)
            }
        },
    ));
    let handle = enqueue(store.clone(), TaskOptions::new()).await;
    started.wait().await;
    take_away(&store, handle.id()).await;
    started.wait_for(2).await;
    server.shutdown_handle().shutdown_now();
    let report = server.shutdown().await;
    drop(gate);
    assert_eq!(report.stuck, [handle.id()]);
    assert!(!report.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_broke_for_good_shows_and_keeps_nobody_busy() {
    let closed: fn() -> StoreError = || StoreError::Closed;
    let failed: fn() -> StoreError = || StoreError::Failed { reason: "disk full".to_owned() };
    for error in [closed, failed] {
        let store = memory();
        let scripted = Scripted::new(store.clone());
        let gone = Signal::new();
        let going = gone.clone();
        let config = ServerConfig::new().prune_interval(SECOND * 5);
        let server =
            start(Server::builder(scripted.clone()).config(config).handler(move |work: Work| {
                let gone = going.clone();
                async move {
                    gone.wait().await;
                    Ok(work.number)
                }
            }));
        let handle = enqueue(store.clone(), TaskOptions::new()).await;
        pass(SECOND).await;
        scripted.break_with(error);
        let before = scripted.calls();
        gone.fire();
        pass(SECOND * 60).await;
        for status in server.loops() {
            assert!(status.is_late() && status.errors_in_a_row > 3, "{status:?}");
        }
        assert!(scripted.calls() - before < 600, "{}", scripted.calls() - before);
        let began = Instant::now();
        let report = server.shutdown().await;
        assert_eq!(report.unrecorded, [handle.id()]);
        assert!(began.elapsed() < SECOND * 4, "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_found_nothing_yet_goes_on_while_there_is_more() {
    let store = memory();
    let scripted = Scripted::new(store.clone());
    let (nothing, some) = (
        Report { more: true, ..Report::default() },
        Report { done: 1, more: true, ..Report::default() },
    );
    let again = || nothing.clone();
    scripted.script_sweeps([again(), again(), some, again(), again()]);
    let config = ServerConfig::new().rescue_interval(SECOND * 60);
    let work = async |work: Work| Ok(work.number);
    let server = start(Server::builder(scripted.clone()).config(config).handler(work));
    pass(SECOND * 61).await;
    assert_eq!(scripted.sweeps_left(), 0);
    drop(server.shutdown().await);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_says_more_for_ever_keeps_nobody_busy() {
    let store = memory();
    let scripted = Scripted::new(store.clone());
    let nothing = Report { more: true, ..Report::default() };
    scripted.script_sweeps(std::iter::repeat_n(nothing, 10_000));
    let config = ServerConfig::new().rescue_interval(SECOND * 10);
    let work = async |work: Work| Ok(work.number);
    let server = start(Server::builder(scripted.clone()).config(config).handler(work));
    pass(SECOND * 60).await;
    let swept = 10_000 - scripted.sweeps_left();
    assert!(swept > 10 && swept < 300, "{swept}");
    drop(server.shutdown().await);
}

/// Whatever else the thread was about to do, another one does it.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_handler_that_blocks_its_thread_holds_nobody_else_up() {
    for _ in 0..20 {
        let store = MemoryStore::new();
        let (gate, barred) = Gate::new();
        let handles = enqueue_many(store.clone(), 10, TaskOptions::new()).await;
        let server = serve(store.clone(), move |work: Work| {
            let barred = Arc::clone(&barred);
            async move {
                if work.number == 0 {
                    barred.pass();
                }
                Ok(work.number)
            }
        });
        for handle in &handles[1..] {
            handle.result().within(SECOND * 20).await.unwrap();
        }
        drop(gate);
        assert_eq!(server.shutdown().await.completed, 10);
    }
}

/// What became of it is told for each task, and for none twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn every_task_of_an_unlucky_shutdown_is_accounted_for() {
    let (store, started) = (MemoryStore::new(), Signal::new());
    let (gate, barred) = Gate::new();
    let faulty = Faulty::new(store.clone());
    let (starting, waiting) = (started.clone(), Arc::clone(&barred));
    let config = ServerConfig::new()
        .grace_period(Duration::from_millis(50))
        .abort_period(Duration::from_millis(50))
        .flush_period(Duration::from_millis(100));
    let server = start(Server::builder(faulty.clone()).config(config).handler(
        move |work: Work, context: Context| {
            let (started, gate) = (starting.clone(), waiting.clone());
            async move {
                started.fire();
                match work.number {
                    // Blocks, and does not care.
                    0 | 1 => gate.pass(),
                    // Ends when it is told.
                    2 | 3 => {
                        context.cancelled().await;
                        Err(TaskError::retry("stopped"))?;
                    }
                    // Has to be dropped.
                    4 | 5 => std::future::pending().await,
                    _ => {}
                }
                Ok(work.number)
            }
        },
    ));
    let handles = enqueue_many(store.clone(), 10, TaskOptions::new()).await;
    let ids = |numbers: std::ops::Range<usize>| {
        let mut ids: Vec<_> = handles[numbers].iter().map(|handle| handle.id()).collect();
        ids.sort_unstable();
        ids
    };
    started.wait_for(10).await;
    for handle in &handles[6..] {
        handle.result().within(SECOND * 20).await.unwrap();
    }
    // From here on nothing is recorded any more.
    faulty.fail_before(Operation::Finish, usize::MAX);
    let report = server.shutdown().await;
    assert_eq!((report.started, report.completed), (10, 4));
    assert_eq!(report.stuck, ids(0..2));
    assert_eq!(report.unrecorded, ids(2..6));
    assert!(report.released.is_empty());
    drop(gate);
    for handle in &handles[..6] {
        let task = read(handle, store.clone()).await;
        assert_eq!(task.state, State::Running, "held until its lease ends");
    }
}

#[tokio::test(start_paused = true)]
async fn outcomes_that_wait_for_room_are_reported_too() {
    let store = memory();
    let faulty = Faulty::new(store.clone());
    faulty.fail_before(Operation::Finish, usize::MAX);
    let config = ServerConfig::new().outcomes_max(1).flush_batch_max(1).concurrency(10);
    let work = async |work: Work| Ok(work.number);
    let server = start(Server::builder(faulty.clone()).config(config).handler(work));
    let handles = enqueue_many(store.clone(), 10, TaskOptions::new()).await;
    pass(SECOND).await;
    let report = server.shutdown().await;
    let mut ids: Vec<_> = handles.iter().map(|handle| handle.id()).collect();
    ids.sort_unstable();
    assert_eq!((report.started, report.completed), (10, 0));
    assert_eq!(report.unrecorded, ids);
    // Nothing is lost: the next server takes them when their leases end.
    let next = serve(store.clone(), async |work: Work| Ok(work.number));
    for handle in &handles {
        assert_eq!(finished(handle, store.clone()).await.state, State::Completed);
    }
    assert!(next.shutdown().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_and_recovers_during_the_shutdown_loses_nothing() {
    for (operation, after) in [
        (Operation::Finish, false),
        (Operation::Finish, true),
        (Operation::Claim, true),
        (Operation::Beat, false),
    ] {
        let store = memory();
        let faulty = Faulty::new(store.clone());
        let server = serve(faulty.clone(), async |work: Work| {
            pass(SECOND * (work.number % 7)).await;
            Ok(work.number)
        });
        let handles = enqueue_many(store.clone(), 60, TaskOptions::new()).await;
        pass(SECOND * 10).await;
        if after {
            faulty.fail_after(operation, 3);
        } else {
            faulty.fail_before(operation, 3);
        }
        pass(SECOND / 2).await;
        let report = server.shutdown().await;
        assert!(report.is_clean(), "{operation:?}: {report:?}");
        let next = serve(store.clone(), async |work: Work| Ok(work.number));
        for (handle, number) in handles.iter().zip(0..) {
            assert_eq!(handle.result().within(PATIENCE).await.unwrap(), number);
            let task = read(handle, store.clone()).await;
            assert_eq!((task.state, task.progress.attempt), (State::Completed, 1));
        }
        assert!(next.shutdown().await.is_clean());
    }
}
