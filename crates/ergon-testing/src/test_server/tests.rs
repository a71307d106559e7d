//! What a test server promises.

use std::sync::atomic::{AtomicU16, Ordering};

use ergon_core::{ErrorKind, QueueName, RetryPolicy, State, TaskRecord};
use serde::{Deserialize, Serialize};

use super::*;
use crate::assert_enqueued;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Serialize, Deserialize)]
struct Job {
    name: String,
}

impl Task for Job {
    const KIND: &'static str = "job";
    type Output = String;
}

fn job(name: &str) -> Job {
    Job { name: name.to_owned() }
}

async fn one_task(server: &TestServer) -> TaskRecord {
    let filter = ergon_core::TaskFilter::all();
    let page = server.manager().tasks().list(&filter, &ergon_core::Page::of(1)).await.unwrap();
    page.tasks.into_iter().next().unwrap()
}

/// A server whose only handler ends as `end` says, with one task that waits 10 s between attempts.
async fn server_with(end: impl Fn() -> TaskError + Clone + Send + Sync + 'static) -> TestServer {
    let server = TestServer::new().handler(move |_job: Job| {
        let end = end.clone();
        async move { Err(end()) }
    });
    let enqueue = server.client().enqueue(job("a")).retry(RetryPolicy::Fixed(SECOND * 10));
    enqueue.max_attempts(3).await.unwrap();
    server
}

#[tokio::test]
async fn tasks_run_in_the_order_of_queue_priority_and_age() {
    let server = TestServer::new().handler(|job: Job| async move { Ok(job.name) });
    let client = server.client();
    let mut expected = Vec::new();
    for (queue, priority) in [("b", 9), ("a", 1), ("a", 2), ("a", 1)] {
        let enqueued = client.enqueue(job("x")).queue(queue).priority(priority).await.unwrap();
        expected.push(enqueued.id());
    }
    let expected = [2, 1, 3, 0].map(|index: usize| expected[index]);
    let summary = server.run_all().await;
    let ran: Vec<_> = summary.runs.iter().map(|run| run.id).collect();
    assert_eq!(ran, expected);
    assert_eq!(summary.completed, 4);
    assert_eq!(summary.runs[0].verdict, Some(Verdict::Applied));
    assert_eq!(server.run_one().await, None);
}

#[tokio::test]
async fn handlers_can_enqueue_and_the_result_is_answered() {
    #[derive(Serialize, Deserialize)]
    struct Start;
    impl Task for Start {
        const KIND: &'static str = "start";
        type Output = ();
    }
    let server = TestServer::new().handler(|job: Job| async move { Ok(job.name + "!") });
    let client = server.client();
    let server = server.handler(move |_start: Start| {
        let client = client.clone();
        async move {
            client.enqueue(job("next")).await?;
            Ok(())
        }
    });
    server.client().enqueue(Start).await.unwrap();
    assert_eq!(server.run_one().await.unwrap().kind.as_str(), "start");
    assert_enqueued!(server, Job, |job| job.name == "next");
    assert_eq!(server.run_all().await.completed, 1);
    let newest = one_task(&server).await;
    assert_eq!(newest.progress.result.as_deref(), Some(br#""next!""#.as_slice()));
    let handle = server.client().handle::<Job>(newest.id);
    assert_eq!(handle.result().await.unwrap(), "next!");
}

#[tokio::test]
async fn advance_runs_every_attempt_at_its_own_instant() {
    let server = server_with(|| TaskError::retry("no")).await;
    let start = server.clock().now();
    let summary = server.advance(SECOND * 60).await;
    assert_eq!((summary.retried, summary.failed), (2, 1));
    let attempts: Vec<_> = summary.runs.iter().map(|run| run.attempt).collect();
    assert_eq!(attempts, [1, 2, 3]);
    let progress = one_task(&server).await.progress;
    assert_eq!(progress.phase, Phase::Failed);
    let at: Vec<_> = progress.errors.iter().map(|error| error.at).collect();
    assert_eq!(at, [start, after(start, SECOND * 10), after(start, SECOND * 20)]);
    assert_eq!(server.clock().now(), after(start, SECOND * 60));
}

#[tokio::test]
async fn retry_delays_are_the_same_for_the_same_seed() {
    async fn delays(seed: u64) -> Vec<Timestamp> {
        let server = TestServer::builder().seed(seed).build();
        let server = server.handler(|_job: Job| async { Err(TaskError::retry("no")) });
        server.client().enqueue(job("a")).max_attempts(5).await.unwrap();
        server.advance(SECOND * 3600).await;
        one_task(&server).await.progress.errors.iter().map(|error| error.at).collect()
    }
    let first = delays(7).await;
    assert_eq!(first.len(), 5);
    assert_eq!(first, delays(7).await);
    assert_ne!(first, delays(8).await);
}

#[tokio::test]
async fn every_end_of_a_handler_has_its_counter() {
    let failed = server_with(|| TaskError::fail("no")).await.run_all().await;
    assert_eq!((failed.failed, failed.runs[0].end), (1, RunEnd::Failed));
    let cancelled = server_with(|| TaskError::cancel("no")).await.run_all().await;
    assert_eq!((cancelled.cancelled, cancelled.runs[0].end), (1, RunEnd::Cancelled));

    let server = server_with(|| TaskError::snooze(SECOND * 7)).await;
    assert_eq!(server.advance(SECOND * 21).await.snoozed, 4);
    assert_eq!(one_task(&server).await.progress.attempt, 0);

    let server = server_with(|| TaskError::retry_in(SECOND * 5, "no")).await;
    assert_eq!(server.advance(SECOND * 5).await.retried, 2);
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt_with_its_message() {
    let server = server_with(|| panic!("at the disco")).await;
    assert_eq!(server.run_all().await.retried, 1);
    let errors = one_task(&server).await.progress.errors;
    assert_eq!((errors[0].kind, errors[0].message.as_str()), (ErrorKind::Panic, "at the disco"));
}

/// A server that counts how often its handler ran, with one task.
async fn counting_server() -> (TestServer, Arc<AtomicU16>) {
    let handled = Arc::new(AtomicU16::new(0));
    let counter = Arc::clone(&handled);
    let server = TestServer::new().handler(move |_job: Job| {
        counter.fetch_add(1, Ordering::SeqCst);
        async { Ok(String::new()) }
    });
    server.client().enqueue(job("a")).await.unwrap();
    (server, handled)
}

#[tokio::test]
async fn a_crash_brings_the_task_back_when_its_lease_is_over() {
    let (server, handled) = counting_server().await;
    server.crash_next();
    let summary = server.run_all().await;
    assert_eq!((summary.crashed, summary.runs[0].verdict), (1, None));
    assert_eq!(one_task(&server).await.state, State::Running);
    assert_eq!(server.advance(SECOND * 29).await.runs, []);
    assert_eq!(server.advance(SECOND).await.completed, 1);
    let progress = one_task(&server).await.progress;
    assert_eq!((progress.crash_count, progress.attempt), (1, 1));
    assert_eq!(handled.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_crash_after_the_handler_lets_it_run_twice() {
    let (server, handled) = counting_server().await;
    server.crash_next_after_handler();
    let summary = server.advance(SECOND * 60).await;
    assert_eq!((summary.crashed, summary.completed), (1, 1));
    assert_eq!(handled.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_endless_loop_fails_with_words() {
    let server = server_with(|| TaskError::snooze(Duration::ZERO)).await;
    let run = std::panic::AssertUnwindSafe(server.run_all());
    let panic = futures_util::FutureExt::catch_unwind(run).await.unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    assert_eq!(message, "10001 attempts at one instant: an endless loop");
}

#[tokio::test(start_paused = true)]
async fn timeouts_and_deadlines_are_kept() {
    let server = TestServer::new().handler(|_job: Job| std::future::pending());
    server.client().enqueue(job("a")).timeout(SECOND).await.unwrap();
    assert_eq!(server.run_all().await.retried, 1);
    assert_eq!(one_task(&server).await.progress.errors[0].kind, ErrorKind::Timeout);

    let server = server.handler(|job: Job| async move { Ok(job.name) });
    let deadline = server.clock().now();
    server.manager().control().pause_queue(&QueueName::default()).await.unwrap();
    server.client().enqueue(job("b")).deadline(deadline).await.unwrap();
    server.advance(SECOND).await;
    server.manager().control().resume_queue(&QueueName::default()).await.unwrap();
    server.run_all().await;
    assert_eq!(one_task(&server).await.progress.errors[0].kind, ErrorKind::Deadline);
}

#[tokio::test]
async fn an_undecodable_payload_is_tried_again_twice() {
    let server = TestServer::new().handler(|job: Job| async move { Ok(job.name) });
    server.client().enqueue_json(Job::KIND, 7).await.unwrap();
    let summary = server.advance(SECOND * 3600).await;
    assert_eq!((summary.retried, summary.failed), (2, 1));
    let errors = one_task(&server).await.progress.errors;
    assert!(errors.iter().all(|error| error.kind == ErrorKind::Decode));
}

#[tokio::test]
async fn a_cancel_that_was_asked_for_in_the_attempt_wins() {
    let server = TestServer::new();
    let manager = server.manager();
    let server = server.handler(move |job: Job| {
        let manager = manager.clone();
        async move {
            let id = job.name.parse()?;
            manager.control().cancel(id, "changed my mind").await?;
            Ok(job.name)
        }
    });
    let id = server.ids.next_id(server.clock().now());
    server.client().enqueue(job(&id.to_string())).id(id).await.unwrap();
    let summary = server.run_all().await;
    assert_eq!(summary.cancelled, 1);
    assert_eq!(summary.runs[0].verdict, Some(Verdict::CancelRequested));
}

#[tokio::test]
async fn what_is_paused_or_has_no_handler_stays() {
    let server = TestServer::new().handler(|job: Job| async move { Ok(job.name) });
    let queue = QueueName::default();
    server.client().enqueue(job("a")).await.unwrap();
    server.client().enqueue_json("other", 1).await.unwrap();
    server.manager().control().pause_queue(&queue).await.unwrap();
    assert_eq!(server.run_all().await.runs, []);
    server.manager().control().resume_queue(&queue).await.unwrap();
    assert_eq!(server.advance(SECOND * 60).await.runs.len(), 1);
    assert_eq!(one_task(&server).await.state, State::Pending);
}

#[tokio::test]
async fn a_result_beyond_the_limit_is_a_failure() {
    let limits = Limits { result_bytes_max: 8, ..Limits::default() };
    let server = TestServer::builder().limits(limits).build();
    let server = server.handler(|job: Job| async move { Ok(job.name) });
    server.client().enqueue(job("a long name")).await.unwrap();
    assert_eq!(server.run_all().await.failed, 1);
    assert_eq!(one_task(&server).await.progress.errors[0].kind, ErrorKind::Result);
}
