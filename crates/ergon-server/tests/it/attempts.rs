//! How attempts end, and what is recorded of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use ergon_core::{
    Client, ErrorKind, Manager, ResultError, RetryPolicy, State, Task, TaskError, TaskOptions,
};
use ergon_server::{CancelReason, Context, Server, ServerConfig, Worker};
use ergon_testing::Signal;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::support::{
    PATIENCE, SECOND, Work, enqueue, enqueue_many, finished, memory, pass, read, serve, start,
};

fn fixed(delay: Duration) -> TaskOptions {
    TaskOptions::new().retry(RetryPolicy::Fixed(delay))
}

#[tokio::test(start_paused = true)]
async fn a_task_runs_and_its_result_is_typed() {
    let store = memory();
    let server = serve(store.clone(), async |work: Work| Ok(work.number * 2));
    let handle = enqueue(store.clone(), TaskOptions::new()).await;
    assert_eq!(handle.result().within(PATIENCE).await.unwrap(), 14);
    let report = server.shutdown().await;
    assert_eq!((report.started, report.completed), (1, 1));
    assert!(report.is_clean());
}

#[tokio::test(start_paused = true)]
async fn many_tasks_all_run_once() {
    let store = memory();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let seeing = Arc::clone(&seen);
    let handles = enqueue_many(store.clone(), 1_000, TaskOptions::new()).await;
    let server = serve(store.clone(), move |work: Work| {
        seeing.lock().unwrap().push(work.number);
        async move { Ok(work.number) }
    });
    for (handle, number) in handles.iter().zip(0..) {
        assert_eq!(handle.result().within(PATIENCE).await.unwrap(), number);
    }
    assert_eq!(server.shutdown().await.completed, 1_000);
    let mut seen = seen.lock().unwrap().clone();
    seen.sort_unstable();
    assert_eq!(seen, (0..1_000).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn an_error_is_retried_by_the_policy_until_the_attempts_are_used_up() {
    let store = memory();
    let starts = Arc::new(Mutex::new(Vec::new()));
    let noting = Arc::clone(&starts);
    let server = serve(store.clone(), move |_work: Work| {
        noting.lock().unwrap().push(Instant::now());
        async { Err(std::io::Error::other("no luck"))? }
    });
    let handle = enqueue(store.clone(), fixed(SECOND * 10).max_attempts(3)).await;
    let task = finished(&handle, store.clone()).await;
    assert_eq!(task.state, State::Failed);
    let errors = task.progress.errors;
    assert_eq!(errors.iter().map(|error| error.attempt).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(
        errors.iter().all(|error| (error.kind, &*error.message) == (ErrorKind::Error, "no luck"))
    );
    let starts = starts.lock().unwrap().clone();
    for pair in starts.windows(2) {
        let gap = pair[1] - pair[0];
        assert!(gap >= SECOND * 10 && gap < SECOND * 12, "{gap:?}");
    }
    let report = server.shutdown().await;
    assert_eq!((report.started, report.retried, report.failed), (3, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failed_attempt_with_its_message() {
    let store = memory();
    let server =
        start(Server::builder(store.clone()).handler(async |work: Work, context: Context| {
            assert!(context.attempt() > 1, "number {} is bad", work.number);
            Ok(work.number)
        }));
    let handle = enqueue(store.clone(), fixed(SECOND)).await;
    let task = finished(&handle, store.clone()).await;
    assert_eq!(task.state, State::Completed);
    assert_eq!(task.progress.errors[0].kind, ErrorKind::Panic);
    assert_eq!(task.progress.errors[0].message, "number 7 is bad");
    assert_eq!(server.shutdown().await.retried, 1);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_drops_the_handler_and_tells_clones_of_its_context() {
    let store = memory();
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let server =
        start(Server::builder(store.clone()).handler(move |_work: Work, context: Context| {
            let sender = sender.clone();
            async move {
                sender.send(context).await.unwrap();
                std::future::pending::<()>().await;
                Ok(0)
            }
        }));
    let handle = enqueue(store.clone(), fixed(SECOND).timeout(SECOND * 5).max_attempts(1)).await;
    let context = receiver.recv().await.unwrap();
    assert_eq!(context.remaining(), SECOND * 5);
    assert_eq!(context.cancelled().await, CancelReason::Timeout);
    assert_eq!(context.remaining(), Duration::ZERO);
    let task = finished(&handle, store.clone()).await;
    assert_eq!(task.state, State::Failed);
    assert_eq!(task.progress.errors[0].kind, ErrorKind::Timeout);
    drop(server.shutdown().await);
}

#[tokio::test(start_paused = true)]
async fn a_handler_decides_for_itself_that_it_is_over() {
    let store = memory();
    let server = serve(store.clone(), async |work: Work| match work.number {
        0 => Err(TaskError::cancel("not wanted")),
        1 => Err(TaskError::fail("hopeless")),
        number => Ok(number),
    });
    let handles = enqueue_many(store.clone(), 3, TaskOptions::new()).await;
    let result = handles[0].result().within(PATIENCE).await;
    assert!(matches!(result, Err(ResultError::Cancelled { reason }) if reason == "not wanted"));
    let result = handles[1].result().within(PATIENCE).await;
    assert!(matches!(result, Err(ResultError::Failed { error, .. }) if error == "hopeless"));
    assert_eq!(handles[2].result().within(PATIENCE).await.unwrap(), 2);
    let report = server.shutdown().await;
    assert_eq!((report.cancelled, report.failed, report.completed), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_snooze_spends_no_attempt() {
    let store = memory();
    let starts = Arc::new(Mutex::new(Vec::new()));
    let noting = Arc::clone(&starts);
    let server =
        start(Server::builder(store.clone()).handler(move |_work: Work, context: Context| {
            let mut starts = noting.lock().unwrap();
            starts.push((context.attempt(), Instant::now()));
            let snoozes = starts.len() <= 3;
            async move { if snoozes { Err(TaskError::snooze(SECOND * 60)) } else { Ok(1) } }
        }));
    let handle = enqueue(store.clone(), TaskOptions::new().max_attempts(1)).await;
    let task = finished(&handle, store.clone()).await;
    assert_eq!((task.state, task.progress.attempt), (State::Completed, 1));
    let starts = starts.lock().unwrap().clone();
    assert_eq!(starts.iter().map(|&(attempt, _)| attempt).collect::<Vec<_>>(), [1; 4]);
    assert!(starts[3].1 - starts[0].1 >= SECOND * 180);
    assert_eq!(server.shutdown().await.snoozed, 3);
}

#[tokio::test(start_paused = true)]
async fn retry_in_wins_over_the_policy() {
    let store = memory();
    let server =
        start(Server::builder(store.clone()).handler(async |_work: Work, context: Context| {
            match context.attempt() {
                1 => Err(TaskError::retry_in(SECOND * 100, "later")),
                _ => Ok(1),
            }
        }));
    let began = Instant::now();
    let handle = enqueue(store.clone(), fixed(SECOND)).await;
    assert_eq!(finished(&handle, store.clone()).await.state, State::Completed);
    assert!(began.elapsed() >= SECOND * 100);
    drop(server.shutdown().await);
}

#[tokio::test(start_paused = true)]
async fn tasks_of_unknown_kinds_stay_where_they_are() {
    let store = memory();
    let client = Client::new(store.clone());
    let unknown = client.enqueue_json("somebody.elses", 1).await.unwrap().into_handle();
    let server = serve(store.clone(), async |work: Work| Ok(work.number));
    let handle = enqueue(store.clone(), TaskOptions::new()).await;
    assert_eq!(handle.result().within(PATIENCE).await.unwrap(), 7);
    pass(SECOND * 60).await;
    let task = read(&unknown, store.clone()).await;
    assert_eq!((task.state, task.progress.token.get()), (State::Pending, 0));
    // It waits for work beside a task that it cannot take: that must not keep it busy.
    let fetch = server.loops().into_iter().find(|it| it.name == "fetch").unwrap();
    assert!(fetch.runs < 1_500, "{fetch:?}");
    assert_eq!(server.shutdown().await.started, 1);
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_cannot_be_decoded_has_three_attempts_over_ten_minutes() {
    let store = memory();
    let server = serve(store.clone(), async |work: Work| Ok(work.number));
    let began = Instant::now();
    let client = Client::new(store.clone());
    let handle = client.enqueue_json("work", "no object").await.unwrap().into_handle();
    let task = finished(&handle, store.clone()).await;
    assert_eq!(task.state, State::Failed);
    assert_eq!(task.progress.errors.len(), 3);
    assert!(task.progress.errors.iter().all(|error| error.kind == ErrorKind::Decode));
    assert!(began.elapsed() >= SECOND * 600);
    assert_eq!(&task.spec.payload[..], br#""no object""#, "kept for an operator");
    drop(server.shutdown().await);
}

#[tokio::test(start_paused = true)]
async fn a_result_that_cannot_be_encoded_fails_the_task() {
    #[derive(Serialize, Deserialize)]
    struct Odd;

    impl Task for Odd {
        const KIND: &'static str = "odd";
        type Output = BTreeMap<(u8, u8), u8>;
    }

    let store = memory();
    let server = start(
        Server::builder(store.clone()).handler(async |_odd: Odd| Ok(BTreeMap::from([((1, 2), 3)]))),
    );
    let handle = Client::new(store.clone()).enqueue(Odd).await.unwrap().into_handle();
    let task = finished(&handle, store.clone()).await;
    assert_eq!((task.state, task.progress.errors[0].kind), (State::Failed, ErrorKind::Result));
    drop(server.shutdown().await);
}

#[tokio::test(start_paused = true)]
async fn a_task_is_not_started_after_its_deadline() {
    let store = memory();
    let ran = Signal::new();
    let running = ran.clone();
    let server = serve(store.clone(), move |work: Work| {
        running.fire();
        async move { Ok(work.number) }
    });
    let deadline = ergon_core::time::after(store.clock().now(), SECOND * 5);
    let handle =
        enqueue(store.clone(), TaskOptions::new().delay(SECOND * 10).deadline(deadline)).await;
    let task = finished(&handle, store.clone()).await;
    assert_eq!((task.state, task.progress.errors[0].kind), (State::Failed, ErrorKind::Deadline));
    assert_eq!(ran.count(), 0);
    drop(server.shutdown().await);
}

struct Stubborn;

impl Worker for Stubborn {
    type Task = Work;

    async fn run(&self, work: Work, context: Context) -> Result<u32, TaskError> {
        match context.attempt() {
            1 => std::future::pending().await,
            2 => Err(TaskError::retry("not yet")),
            _ => Ok(work.number),
        }
    }

    fn timeout(&self) -> Option<Duration> {
        Some(SECOND * 3)
    }

    fn retry_delay(&self, attempt: u16) -> Option<Duration> {
        Some(SECOND * 100 * u32::from(attempt))
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_chooses_its_timeout_and_its_delays() {
    let store = memory();
    let server = start(Server::builder(store.clone()).worker(Stubborn));
    let began = Instant::now();
    let handle = enqueue(store.clone(), fixed(SECOND)).await;
    let task = finished(&handle, store.clone()).await;
    let kinds: Vec<_> = task.progress.errors.iter().map(|error| error.kind).collect();
    assert_eq!(kinds, [ErrorKind::Timeout, ErrorKind::Error]);
    let took = began.elapsed();
    assert!(took >= SECOND * 303 && took < SECOND * 310, "{took:?}");
    drop(server.shutdown().await);
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_task_starts_when_it_is_due() {
    let store = memory();
    let server = serve(store.clone(), async |work: Work| Ok(work.number));
    let began = Instant::now();
    let handle = enqueue(store.clone(), TaskOptions::new().delay(SECOND * 30)).await;
    assert_eq!(finished(&handle, store.clone()).await.state, State::Completed);
    let took = began.elapsed();
    assert!(took >= SECOND * 30 && took < SECOND * 31, "{took:?}");
    drop(server.shutdown().await);
}

#[tokio::test(start_paused = true)]
async fn finished_tasks_are_pruned_after_their_retention() {
    let store = memory();
    let config = ServerConfig::new().prune_interval(SECOND * 10);
    let work = async |work: Work| Ok(work.number);
    let server = start(Server::builder(store.clone()).handler(work).config(config));
    let handle = enqueue(store.clone(), TaskOptions::new().retention(SECOND * 60)).await;
    assert_eq!(finished(&handle, store.clone()).await.state, State::Completed);
    pass(SECOND * 75).await;
    let manager = Manager::new(store.clone());
    assert_eq!(manager.tasks().get(handle.id()).await.unwrap(), None);
    let prune = server.loops().into_iter().find(|it| it.name == "prune").unwrap();
    assert_eq!((prune.done, prune.errors, prune.is_late()), (1, 0, false));
    drop(server.shutdown().await);
}
