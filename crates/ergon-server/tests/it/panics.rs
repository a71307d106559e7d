//! What the application panics with: it costs an attempt, never the server.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use ergon_core::{
    ErrorKind, Handle, RetryPolicy, Rng, State, SystemRng, TaskError, TaskOptions, TaskRecord,
};
use ergon_server::{AttemptService, Call, Context, RunningServer, Server, ServerConfig, Worker};
use ergon_testing::MemoryStore;
use tokio::time::Instant;
use tower::{ServiceExt as _, layer::layer_fn};

use crate::support::{
    PATIENCE, SECOND, Work, enqueue, enqueue_many, finished, memory, pass, start,
};

/// One slot: when it is lost, nothing runs any more.
fn narrow() -> ServerConfig {
    ServerConfig::new().concurrency(1)
}

fn once() -> TaskOptions {
    TaskOptions::new().max_attempts(1)
}

/// Enqueues three tasks and waits until all are finished.
async fn three(store: &MemoryStore, options: TaskOptions) -> Vec<TaskRecord> {
    let handles: Vec<Handle<u32>> = enqueue_many(store.clone(), 3, options).await;
    let mut tasks = Vec::new();
    for handle in handles {
        tasks.push(finished(&handle, store.clone()).await);
    }
    tasks
}

/// Ends the server, and makes sure that it held nothing any more and that its fetcher is well.
async fn end_well(server: RunningServer) {
    let status = |name| server.loops().into_iter().find(|it| it.name == name).unwrap();
    pass(SECOND * 15).await;
    let before = status("beat").done;
    pass(SECOND * 60).await;
    assert_eq!(status("beat").done, before, "what ended is not renewed");
    assert_eq!(status("fetch").errors, 0);
    assert!(server.shutdown().await.is_clean());
}

/// An error that panics when it is shown, as one with a careless `Display` does.
#[derive(Debug)]
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `to_string` panics on it.
        Err(fmt::Error)
    }
}

impl std::error::Error for Unspeakable {}

/// An error that panics when its cause is asked for.
#[derive(Debug)]
struct Bottomless;

impl fmt::Display for Bottomless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bottomless")
    }
}

impl std::error::Error for Bottomless {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        unreachable!("nobody may ask")
    }
}

/// What panics once more when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "dropped");
    }
}

/// A worker whose `timeout` panics.
struct Untimely;

impl Worker for Untimely {
    type Task = Work;

    async fn run(&self, work: Work, _context: Context) -> Result<u32, TaskError> {
        match work.number {
            0 => std::future::pending().await,
            number => Ok(number),
        }
    }

    fn timeout(&self) -> Option<Duration> {
        unreachable!("no idea how long")
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_that_panics_is_replaced_by_the_servers() {
    let store = memory();
    let config = narrow().default_timeout(SECOND * 7);
    let server = start(Server::builder(store.clone()).config(config).worker(Untimely));
    let began = Instant::now();
    let tasks = three(&store, once()).await;
    assert!(began.elapsed() >= SECOND * 7 && began.elapsed() < SECOND * 8, "{:?}", began.elapsed());
    let states: Vec<_> = tasks.iter().map(|task| task.state).collect();
    assert_eq!(states, [State::Failed, State::Completed, State::Completed]);
    assert_eq!(tasks[0].progress.errors[0].kind, ErrorKind::Timeout);
    end_well(server).await;
}

/// A worker that fails, and whose `retry_delay` panics.
struct Impatient;

impl Worker for Impatient {
    type Task = Work;

    async fn run(&self, work: Work, context: Context) -> Result<u32, TaskError> {
        match context.attempt() {
            1 => Err(TaskError::retry("not yet")),
            2 => std::future::pending().await,
            _ => Ok(work.number),
        }
    }

    fn timeout(&self) -> Option<Duration> {
        Some(SECOND)
    }

    fn retry_delay(&self, _attempt: u16) -> Option<Duration> {
        unreachable!("no idea when")
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_delay_that_panics_is_replaced_by_the_tasks() {
    let store = memory();
    let server = start(Server::builder(store.clone()).config(narrow()).worker(Impatient));
    let began = Instant::now();
    let options = TaskOptions::new().retry(RetryPolicy::Fixed(SECOND * 100));
    for task in three(&store, options).await {
        assert_eq!(task.state, State::Completed);
        let errors = task.progress.errors;
        assert_eq!(errors.iter().map(|it| it.kind).collect::<Vec<_>>(), [ErrorKind::Panic; 2]);
        assert!(errors[0].message.contains("not yet"), "{}", errors[0].message);
        assert!(errors[0].message.contains("no idea when"), "{}", errors[0].message);
        assert!(errors[1].message.contains("timeout"), "{}", errors[1].message);
    }
    assert!(began.elapsed() >= SECOND * 200 && began.elapsed() < SECOND * 220);
    end_well(server).await;
}

#[tokio::test(start_paused = true)]
async fn an_error_that_cannot_be_shown_is_a_panic_of_the_attempt() {
    let store = memory();
    let server = start(Server::builder(store.clone()).config(narrow()).handler(
        async |work: Work| -> Result<u32, TaskError> {
            match work.number {
                0 => Err(Unspeakable)?,
                1 => Err(TaskError::fail(Unspeakable)),
                _ => Err(Bottomless)?,
            }
        },
    ));
    for task in three(&store, once()).await {
        assert_eq!(task.state, State::Failed);
        assert_eq!(task.progress.errors[0].kind, ErrorKind::Panic);
    }
    end_well(server).await;
}

#[tokio::test(start_paused = true)]
async fn an_error_that_cannot_be_shown_waits_as_its_task_says() {
    let store = memory();
    let server = start(Server::builder(store.clone()).config(narrow()).handler(
        async |work: Work, context: Context| match context.attempt() {
            1 => Err(TaskError::from(Unspeakable)),
            _ => Ok(work.number),
        },
    ));
    let began = Instant::now();
    let options = TaskOptions::new().retry(RetryPolicy::Fixed(SECOND * 100));
    let handle = enqueue(store.clone(), options).await;
    assert_eq!(handle.result().within(PATIENCE).await.unwrap(), 7);
    assert!(began.elapsed() >= SECOND * 100 && began.elapsed() < SECOND * 110);
    end_well(server).await;
}

#[tokio::test(start_paused = true)]
async fn what_panics_while_it_is_dropped_changes_nothing() {
    let store = memory();
    let config = narrow().default_timeout(SECOND);
    let server = start(Server::builder(store.clone()).config(config).handler(
        async |work: Work| -> Result<u32, TaskError> {
            match work.number {
                // What the panic carries panics when it is let go.
                0 => std::panic::panic_any(Bomb),
                // The handler itself does, when its time is over.
                1 => {
                    let _bomb = Bomb;
                    std::future::pending().await
                }
                number => Ok(number),
            }
        },
    ));
    let tasks = three(&store, once()).await;
    assert_eq!(tasks[0].progress.errors[0].kind, ErrorKind::Panic);
    assert_eq!(tasks[1].progress.errors[0].kind, ErrorKind::Timeout);
    assert_eq!(tasks[2].state, State::Completed);
    end_well(server).await;
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_panics_is_a_panic_of_the_attempt() {
    let store = memory();
    let careless = layer_fn(|inner: AttemptService| {
        inner.map_request(|call: Call| {
            assert!(call.context().attempt() > 1, "careless");
            call
        })
    });
    let handler = async |work: Work| Ok(work.number);
    let server =
        start(Server::builder(store.clone()).config(narrow()).layer(careless).handler(handler));
    let options = TaskOptions::new().retry(RetryPolicy::Fixed(SECOND));
    for task in three(&store, options).await {
        assert_eq!(task.state, State::Completed);
        assert_eq!(task.progress.errors[0].kind, ErrorKind::Panic);
    }
    end_well(server).await;
}

/// Random numbers that panic for the first so many draws.
#[derive(Debug)]
struct Unlucky(AtomicU64);

impl Rng for Unlucky {
    fn next_u64(&self) -> u64 {
        let left = self.0.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        assert!(left.is_err(), "no luck");
        SystemRng.next_u64()
    }
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_panics_shows_it_and_is_begun_again() {
    let store = memory();
    let rng = Arc::new(Unlucky(AtomicU64::new(u64::MAX)));
    let handler = async |work: Work| Ok(work.number);
    let server = Server::builder(store.clone())
        .config(ServerConfig::new().prune_interval(SECOND * 5))
        .rng(Arc::clone(&rng) as Arc<dyn Rng>)
        .handler(handler);
    let server = start(server);
    pass(SECOND * 60).await;
    for status in server.loops() {
        if status.name != "finish" {
            assert!(status.errors > 10 && status.errors < 2_000, "{status:?}");
        }
        if !["fetch", "finish"].contains(&status.name) {
            assert!(status.is_late(), "{status:?}");
        }
    }
    rng.0.store(0, SeqCst);
    let handle = enqueue(store.clone(), TaskOptions::new()).await;
    assert_eq!(handle.result().within(SECOND * 5).await.unwrap(), 7);
    pass(SECOND * 30).await;
    assert!(server.loops().iter().all(|it| !it.is_late() && it.errors_in_a_row == 0));
    assert!(server.shutdown().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_delay_that_cannot_be_drawn_is_the_longest() {
    let store = memory();
    let rng = Arc::new(Unlucky(AtomicU64::new(0)));
    let unlucky = Arc::clone(&rng);
    let server = Server::builder(store.clone())
        .config(narrow())
        .rng(Arc::clone(&rng) as Arc<dyn Rng>)
        .handler(move |work: Work, context: Context| {
            let is_first = context.attempt() == 1;
            unlucky.0.store(u64::from(is_first), SeqCst);
            async move { if is_first { Err(TaskError::retry("bad")) } else { Ok(work.number) } }
        });
    let server = start(server);
    let delay = SECOND * 50;
    let retry =
        RetryPolicy::Exponential { base: delay, cap: delay, jitter: ergon_core::Jitter::Full };
    let began = Instant::now();
    let handle = enqueue(store.clone(), TaskOptions::new().retry(retry)).await;
    let task = finished(&handle, store.clone()).await;
    assert_eq!((task.state, task.progress.errors[0].kind), (State::Completed, ErrorKind::Error));
    assert!(began.elapsed() >= delay, "{:?}", began.elapsed());
    assert!(server.shutdown().await.is_clean());
}
