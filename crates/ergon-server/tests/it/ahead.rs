//! Claiming ahead: slots do not wait for a slow store, and nobody keeps what others could run.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use ergon_core::{
    Handle, Manager, Now, QueueName, State, TaskFilter, TaskId, TaskOptions,
    store::{Inspect as _, Maintain as _, RescueRequest},
    time::after,
};
use ergon_server::{Context, Queue, RunningServer, Server, ServerConfig};
use ergon_testing::{Faulty, MemoryStore, Operation, Signal};
use tokio::time::Instant;

use crate::support::{
    SECOND, Work, enqueue, enqueue_many, finished, memory, pass, read, serve, start,
};

const MILLISECOND: Duration = Duration::from_millis(1);

/// How long the store takes for a claim.
const LATENCY: Duration = Duration::from_millis(10);

/// Tasks numbered from here on take a second, the others two milliseconds.
const SLOW: u32 = 500;

/// What was started: when, which task, of which queue.
#[derive(Clone, Debug)]
struct Start {
    at: Instant,
    id: TaskId,
    queue: String,
}

/// A server on a store whose claims are slow, and everything it starts.
struct Rig {
    store: MemoryStore,
    server: RunningServer,
    starts: Arc<Mutex<Vec<Start>>>,
    /// Fires when a slow task is started.
    slow: Signal,
    /// Fires when a task has ended.
    ended: Signal,
    /// How long handlers ran, one by one.
    busy: Arc<Mutex<Duration>>,
}

impl Rig {
    fn new(store: MemoryStore, config: ServerConfig, queues: &[Queue]) -> Self {
        let faulty = Faulty::new(store.clone());
        faulty.delay(Operation::Claim, LATENCY);
        let starts = Arc::new(Mutex::new(Vec::new()));
        let (slow, ended, busy) = (Signal::new(), Signal::new(), Arc::new(Mutex::default()));
        let noting = (Arc::clone(&starts), slow.clone(), ended.clone(), Arc::clone(&busy));
        let builder =
            Server::builder(faulty).config(config).handler(move |work: Work, context: Context| {
                let (starts, slow, ended, busy) = noting.clone();
                let (at, id, queue) = (Instant::now(), context.id(), context.queue().to_string());
                starts.lock().unwrap().push(Start { at, id, queue });
                async move {
                    if work.number >= SLOW {
                        slow.fire();
                        pass(SECOND).await;
                    } else {
                        pass(MILLISECOND * 2).await;
                    }
                    *busy.lock().unwrap() += at.elapsed();
                    ended.fire();
                    Ok(work.number)
                }
            });
        let builder = queues.iter().cloned().fold(builder, |builder, queue| builder.queue(queue));
        Self { store, server: start(builder), starts, slow, ended, busy }
    }

    /// Ten slots, and tasks that are quick at first and then slow. Answers when the first slow one
    /// was started.
    async fn of_quick_then_slow(config: ServerConfig) -> (Self, Vec<Handle<u32>>) {
        let store = memory();
        let handles = enqueue_many(store.clone(), SLOW + 100, TaskOptions::new()).await;
        let rig = Self::new(store, config, &[]);
        rig.slow.wait().await;
        (rig, handles)
    }

    fn started(&self) -> Vec<Start> {
        self.starts.lock().unwrap().clone()
    }

    fn has_started(&self, handle: &Handle<u32>) -> bool {
        self.starts.lock().unwrap().iter().any(|start| start.id == handle.id())
    }

    /// How many tasks the store says are running.
    async fn running(&self) -> u64 {
        let filter = TaskFilter::all().states(State::Running);
        self.store.count(&filter, Now::Store).await.unwrap().value
    }

    /// Waits until so many tasks have ended.
    async fn after(&self, tasks: usize) {
        self.ended.wait_for(tasks).await;
    }
}

/// The tasks that the server holds and has not started.
async fn stocked<'h>(rig: &Rig, handles: &'h [Handle<u32>]) -> Vec<&'h Handle<u32>> {
    let mut stocked = Vec::new();
    for handle in handles {
        let is_running = read(handle, rig.store.clone()).await.state == State::Running;
        if is_running && !rig.has_started(handle) {
            stocked.push(handle);
        }
    }
    stocked
}

#[tokio::test(start_paused = true)]
async fn slots_do_not_wait_for_a_store_whose_claims_are_slow() {
    for (most, least, limit) in [(1_024, 80, 100), (0, 0, 30)] {
        let store = memory();
        enqueue_many(store.clone(), 400, TaskOptions::new()).await;
        enqueue_many(store.clone(), 400, TaskOptions::new()).await;
        let began = Instant::now();
        let rig = Rig::new(store, ServerConfig::new().claim_ahead_max(most), &[]);
        rig.after(800).await;
        // Part of the time of the ten slots, in percent.
        let used = rig.busy.lock().unwrap().as_micros() * 100 / (began.elapsed().as_micros() * 10);
        assert!(used >= least && used <= limit, "{used} % with at most {most} ahead");
        let report = rig.server.shutdown().await;
        assert_eq!((report.started, report.completed, report.stale), (800, 800, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn slow_handlers_claim_nothing_ahead() {
    let store = memory();
    let faulty = Faulty::new(store.clone());
    faulty.delay(Operation::Claim, LATENCY);
    let server = serve(faulty, async |work: Work| {
        // They end at different times, and now and then together.
        pass(SECOND + MILLISECOND * (work.number % 7)).await;
        Ok(work.number)
    });
    enqueue_many(store.clone(), 100, TaskOptions::new()).await;
    let filter = TaskFilter::all().states(State::Running);
    for _ in 0..3_000 {
        assert!(store.count(&filter, Now::Store).await.unwrap().value <= 10);
        pass(MILLISECOND * 3).await;
    }
    assert!(server.shutdown().await.completed >= 80);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_gives_the_stock_back_at_once_with_its_attempts() {
    let (rig, handles) = Rig::of_quick_then_slow(ServerConfig::new()).await;
    let stocked = stocked(&rig, &handles).await;
    assert!(!stocked.is_empty());
    let shutdown = rig.server.shutdown();
    let look = async {
        // Long before the handlers have ended.
        pass(MILLISECOND * 5).await;
        for handle in &stocked {
            let task = read(*handle, rig.store.clone()).await;
            assert_eq!((task.state, task.progress.attempt), (State::Pending, 0));
            assert_eq!((task.progress.errors.len(), task.progress.crash_count), (0, 0));
        }
    };
    let (report, ()) = tokio::join!(shutdown, look);
    assert!(stocked.iter().all(|handle| report.released.contains(&handle.id())), "{report:?}");
    let starts = rig.starts.lock().unwrap();
    assert!(starts.iter().all(|start| !report.released.contains(&start.id)));
    assert!(report.is_clean());
    assert_eq!(report.started, report.completed);
}

#[tokio::test(start_paused = true)]
async fn what_waits_too_long_for_a_slot_is_given_back() {
    let (rig, handles) = Rig::of_quick_then_slow(ServerConfig::new()).await;
    assert!(rig.running().await > 10);
    let stocked = stocked(&rig, &handles).await;
    pass(MILLISECOND * 120).await;
    assert_eq!(rig.running().await, 10);
    for handle in stocked {
        let task = read(handle, rig.store.clone()).await;
        assert_eq!((task.state, task.progress.attempt), (State::Pending, 0));
    }
    // Nor is anything claimed ahead from now on.
    for _ in 0..300 {
        pass(MILLISECOND * 10).await;
        assert!(rig.running().await <= 10);
    }
    for handle in &handles {
        finished(handle, rig.store.clone()).await;
    }
    let report = rig.server.shutdown().await;
    assert_eq!((report.started, report.completed, report.stale), (600, 600, 0));
}

#[tokio::test(start_paused = true)]
async fn no_more_attempts_run_than_queue_and_server_allow_and_weights_share_them() {
    let store = memory();
    let queues = [Queue::new("a").weight(3).concurrency(4), Queue::new("b").concurrency(4)];
    for queue in ["a", "b"] {
        enqueue_many(store.clone(), 400, TaskOptions::new().queue(queue)).await;
    }
    let rig = Rig::new(store, ServerConfig::new().concurrency(5), &queues);
    rig.after(500).await;
    let starts = rig.started();
    let of_a = starts[..400].iter().filter(|start| start.queue == "a").count();
    assert!((295..=305).contains(&of_a), "{of_a} of 400");
    // Each takes 2 ms, rounded up by the clock; so at most so many are started within that time.
    for (index, start) in starts.iter().enumerate().skip(5) {
        assert!(start.at - starts[index - 5].at >= MILLISECOND * 2);
    }
    drop(rig.server.shutdown().await);
}

#[tokio::test(start_paused = true)]
async fn a_queue_of_higher_priority_starts_first_also_from_the_stock() {
    let store = memory();
    enqueue_many(store.clone(), 400, TaskOptions::new().queue("low")).await;
    let queues = [Queue::new("low"), Queue::new("high").priority(1)];
    let rig = Rig::new(store.clone(), ServerConfig::new().concurrency(4), &queues);
    rig.after(200).await;
    let enqueued = Instant::now();
    enqueue_many(store, 100, TaskOptions::new().queue("high")).await;
    rig.after(450).await;
    let starts = rig.started();
    let first = starts.iter().position(|start| start.queue == "high").unwrap();
    // After what was claimed by then: the claim under way, and the next.
    assert!(starts[first].at - enqueued <= LATENCY * 3, "{:?}", starts[first].at - enqueued);
    // Nothing of lower priority in between, except while the first claim that brought some found out
    // that there are more: as much as four slots work off while a claim is answered.
    let last = starts.iter().rposition(|start| start.queue == "high").unwrap();
    let of_low = starts[first..=last].iter().filter(|start| start.queue == "low").count();
    assert!(of_low <= 20 && last - first + 1 == 100 + of_low, "{of_low}");
    drop(rig.server.shutdown().await);
}

#[tokio::test(start_paused = true)]
async fn the_larger_priority_starts_first_also_from_the_stock() {
    let (rig, _) = Rig::of_quick_then_slow(ServerConfig::new()).await;
    let urgent = enqueue(rig.store.clone(), TaskOptions::new().priority(9)).await;
    pass(SECOND + LATENCY * 3).await;
    assert!(rig.has_started(&urgent), "it is among the first that come after");
    rig.server.shutdown_handle().shutdown_now();
    drop(rig.server.shutdown().await);
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_the_stock_is_started_soon_or_not_at_all() {
    for quick in [true, false] {
        let store = memory();
        let handles = enqueue_many(store.clone(), SLOW + 100, TaskOptions::new()).await;
        let rig = Rig::new(store.clone(), ServerConfig::new(), &[]);
        if quick {
            rig.after(200).await;
        } else {
            rig.slow.wait().await;
        }
        let (control, queue) = (Manager::new(store.clone()), QueueName::default());
        control.control().pause_queue(&queue).await.unwrap();
        let paused = Instant::now();
        pass(SECOND * 5).await;
        let last = rig.started().iter().map(|start| start.at).max().unwrap();
        assert!(last <= paused + MILLISECOND * 101 + LATENCY, "{:?}", last - paused);
        let started = rig.started().len();
        assert!(started < handles.len(), "{started}");
        for handle in handles.iter().filter(|handle| !rig.has_started(handle)) {
            let task = read(handle, store.clone()).await;
            assert_eq!((task.state, task.progress.attempt), (State::Pending, 0));
        }
        control.control().resume_queue(&queue).await.unwrap();
        for handle in &handles {
            finished(handle, store.clone()).await;
        }
        assert_eq!(rig.server.shutdown().await.started, 600);
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_cancelled_in_stock_never_runs() {
    let (rig, handles) = Rig::of_quick_then_slow(ServerConfig::new()).await;
    let stocked = stocked(&rig, &handles).await;
    let manager = Manager::new(rig.store.clone());
    manager.control().cancel(stocked[0].id(), "not wanted").await.unwrap();
    let task = finished(stocked[0], rig.store.clone()).await;
    assert_eq!(task.state, State::Cancelled);
    assert!(!rig.has_started(stocked[0]));
    rig.server.shutdown_handle().shutdown_now();
    assert!(rig.server.shutdown().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn the_stock_is_renewed_and_what_is_lost_of_it_never_runs() {
    let config = ServerConfig::new().lease(SECOND).heartbeat_interval(MILLISECOND * 5);
    let (rig, handles) = Rig::of_quick_then_slow(config).await;
    let stocked = stocked(&rig, &handles).await;
    assert!(!stocked.is_empty());
    pass(MILLISECOND * 10).await;
    let beat = rig.server.loops().into_iter().find(|it| it.name == "beat").unwrap();
    assert!(beat.done > 10 * beat.runs, "more is renewed than runs: {beat:?}");
    // As another server would, whose store's clock has leapt ahead; it keeps what it took.
    let ahead = Now::At(after(rig.store.clock().now(), SECOND * 60));
    rig.store.rescue_expired(&RescueRequest::default().now(ahead)).await.unwrap();
    let manager = Manager::new(rig.store.clone());
    let lost: Vec<_> = stocked.into_iter().filter(|handle| !rig.has_started(handle)).collect();
    for handle in &lost {
        manager.control().cancel(handle.id(), "done elsewhere").await.unwrap();
    }
    pass(SECOND * 3).await;
    assert!(lost.iter().all(|handle| !rig.has_started(handle)));
    rig.server.shutdown_handle().shutdown_now();
    let report = rig.server.shutdown().await;
    assert!(report.is_clean());
    assert!(lost.iter().all(|handle| !report.released.contains(&handle.id())));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_costs_no_task_of_the_stock_an_attempt() {
    let store = memory();
    let handles = enqueue_many(store.clone(), 900, TaskOptions::new().max_attempts(1)).await;
    let works = |seed: usize| {
        let faulty = Faulty::new(store.clone());
        faulty.delay(Operation::Claim, LATENCY);
        for operation in [Operation::Claim, Operation::Finish, Operation::Beat] {
            faulty.fail_before(operation, seed);
            faulty.fail_after(operation, 3 - seed);
        }
        let config = ServerConfig::new().lease(MILLISECOND * 300).rescue_interval(SECOND / 10);
        start(Server::builder(faulty).config(config).handler(async |work: Work| {
            let is_slow = work.number % 40 == 39;
            pass(MILLISECOND * if is_slow { 200 } else { 2 }).await;
            Ok(work.number)
        }))
    };
    let servers: Vec<_> = (0..3).map(works).collect();
    for handle in &handles {
        let task = finished(handle, store.clone()).await;
        assert_eq!((task.state, task.progress.attempt), (State::Completed, 1));
    }
    for server in servers {
        assert!(server.shutdown().await.is_clean());
    }
    let filter = TaskFilter::all().states(State::Running);
    assert_eq!(store.count(&filter, Now::Store).await.unwrap().value, 0);
}
