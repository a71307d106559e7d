//! Spans of attempts: what came of them, and where they belong.

use std::{sync::Arc, time::Duration};

use ergon_core::{
    Manager, Now, TaskError, TaskOptions,
    store::{Inspect as _, Maintain as _, RescueRequest},
    time::after,
};
use ergon_otel::Parent;
use ergon_server::{Server, ServerConfig};
use ergon_testing::{MemoryStore, Signal};
use opentelemetry::{
    Context,
    trace::{SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _},
};

use crate::support::{Lab, PATIENCE, SECRET, Seen, What, memory, options, same, work};

const PROCESS: &str = "process mail";

/// Runs one task to its end, and answers the spans of its attempts.
async fn attempts(lab: &Lab, what: What) -> Vec<Seen> {
    let store = memory();
    let server = lab.server(store.clone());
    let handle = lab.client(store.clone()).enqueue(work(what)).options(options()).await.unwrap();
    assert!(store.wait_for_finish(handle.id(), PATIENCE).await.unwrap());
    drop(server.shutdown().await);
    lab.named(PROCESS)
}

#[track_caller]
fn check(attempts: &[Seen], expected: &[(&str, &str)]) {
    let outcomes: Vec<_> = attempts.iter().map(Seen::outcome).collect();
    let expected: Vec<_> =
        expected.iter().map(|&(outcome, class)| (outcome.to_owned(), class.to_owned())).collect();
    assert_eq!(outcomes, expected);
    for (attempt, (_, class)) in attempts.iter().zip(&expected) {
        let is_error = matches!(attempt.0.status, Status::Error { .. });
        assert_eq!(is_error, !class.is_empty(), "{attempt:?}");
        assert!(attempt.0.events.iter().next().is_none(), "exceptions are log events");
    }
}

#[tokio::test(start_paused = true)]
async fn each_outcome_is_told_apart() {
    for (what, expected) in [
        (What::Answer, &[("ok", "")][..]),
        (What::Fail, &[("retry", "_OTHER"), ("failed", "_OTHER")]),
        (What::FailOnce, &[("retry", "_OTHER"), ("ok", "")]),
        (What::GiveUp, &[("failed", "_OTHER")]),
        (What::Cancel, &[("cancelled", "")]),
        (What::SnoozeOnce, &[("snoozed", ""), ("ok", "")]),
        (What::Panic, &[("retry", "panic"), ("failed", "panic")]),
        (What::Hang, &[("retry", "timeout"), ("failed", "timeout")]),
    ] {
        check(&attempts(&Lab::new(), what).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_has_the_attributes_of_the_conventions() {
    let lab = Lab::with(|builder| builder.server_address("db.internal", Some(5432)));
    let store = memory();
    let handle = lab.client(store.clone()).enqueue(work(What::Answer)).options(options());
    let handle = handle.await.unwrap();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let server = lab.server(store.clone());
    let server_id = server.id().to_string();
    assert_eq!(handle.result().within(PATIENCE).await.unwrap(), 7);
    drop(server.shutdown().await);

    let attempt = lab.only(PROCESS);
    assert_eq!(attempt.0.span_kind, SpanKind::Consumer);
    let id = handle.id().to_string();
    for (key, value) in [
        ("messaging.system", "ergon"),
        ("messaging.operation.name", "process"),
        ("messaging.operation.type", "process"),
        ("messaging.destination.name", "mail"),
        ("messaging.message.id", &*id),
        ("messaging.client.id", &*server_id),
        ("server.address", "db.internal"),
        ("server.port", "5432"),
        ("messaging.ergon.task.kind", "work"),
        ("messaging.ergon.task.attempt", "1"),
        ("messaging.ergon.task.max_attempts", "2"),
        ("messaging.ergon.task.priority", "3"),
        ("messaging.ergon.task.outcome", "ok"),
    ] {
        assert_eq!(attempt.text(key), value, "{key}");
    }
    let wait: f64 = attempt.text("messaging.ergon.task.wait").parse().unwrap();
    assert!((2.5..3.0).contains(&wait), "{wait}");
    assert_eq!(attempt.attributes().len(), 14, "{attempt:?}");
    assert_eq!(attempt.0.status, Status::Unset);
    assert!(attempt.0.start_time <= attempt.0.end_time);
}

#[tokio::test(start_paused = true)]
async fn every_attempt_is_a_trace_of_its_own_that_is_linked_to_the_enqueue() {
    let lab = Lab::new();
    let attempts = attempts(&lab, What::FailOnce).await;
    let creation = lab.only("enqueue mail");
    assert_eq!(attempts.len(), 2);
    for attempt in &attempts {
        assert!(attempt.is_root());
        assert_ne!(attempt.context().trace_id(), creation.context().trace_id());
        let [link] = attempt.links()[..] else { unreachable!("one link: {attempt:?}") };
        assert!(same(link, creation.context()) && link.is_remote());
    }
    assert_ne!(attempts[0].context().trace_id(), attempts[1].context().trace_id());
}

#[tokio::test(start_paused = true)]
async fn the_first_attempt_can_be_a_child_of_the_enqueue() {
    let lab = Lab::with(|builder| builder.parent(Parent::FirstAttempt));
    let attempts = attempts(&lab, What::FailOnce).await;
    let creation = lab.only("enqueue mail");
    assert!(attempts[0].is_child_of(creation.context()));
    assert!(attempts[0].0.parent_span_is_remote);
    assert!(attempts[1].is_root());
    for attempt in &attempts {
        assert!(same(attempt.links()[0], creation.context()));
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_context_there_is_no_link_and_no_parent() {
    let lab = Lab::with(|builder| builder.parent(Parent::FirstAttempt));
    let store = memory();
    let server = lab.server(store.clone());
    // A client without telemetry.
    let handle = ergon_core::Client::new(store).enqueue(work(What::Answer)).await.unwrap();
    assert_eq!(handle.result().within(PATIENCE).await.unwrap(), 7);
    drop(server.shutdown().await);
    let attempt = lab.only(PROCESS);
    assert!(attempt.is_root() && attempt.links().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_does_is_in_the_trace_of_its_attempt() {
    let lab = Arc::new(Lab::new());
    let store = memory();
    let client = lab.client(store.clone());
    let tracer = lab.tracers.tracer("the application");
    let follow_up = client.clone();
    let server = Server::builder(store)
        .layer(lab.telemetry.layer())
        .handler(move |_work: crate::support::Work| {
            let (tracer, follow_up) = (tracer.clone(), follow_up.clone());
            async move {
                // The context is still current after the handler has waited, on whatever thread.
                tokio::time::sleep(Duration::from_secs(1)).await;
                drop(tracer.start("sending"));
                assert!(Context::current().has_active_span());
                follow_up.enqueue_json("follow_up", 1).await?;
                Ok::<u32, TaskError>(7)
            }
        })
        .build()
        .unwrap()
        .start();
    client.enqueue(work(What::Answer)).await.unwrap().result().within(PATIENCE).await.unwrap();
    drop(server.shutdown().await);
    let attempt = lab.only(PROCESS);
    assert!(lab.only("sending").is_child_of(attempt.context()));
    assert!(lab.only("enqueue default").is_child_of(attempt.context()));
    assert!(!Context::current().has_active_span());
}

/// Says when it is dropped whether it was in the context of a span.
struct Dropping(std::sync::mpsc::Sender<bool>);

impl Drop for Dropping {
    fn drop(&mut self) {
        // Nobody listens when the test has failed already.
        let _ = self.0.send(Context::current().has_active_span());
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_dropped_in_the_context_of_its_attempt() {
    let (lab, store) = (Lab::new(), memory());
    let (sender, receiver) = std::sync::mpsc::channel();
    let server = Server::builder(store.clone())
        .layer(lab.telemetry.layer())
        .handler(move |_work: crate::support::Work| {
            let dropping = Dropping(sender.clone());
            async move {
                let _dropping = dropping;
                std::future::pending::<Result<u32, TaskError>>().await
            }
        })
        .build()
        .unwrap()
        .start();
    let work = lab.client(store.clone()).enqueue(work(What::Answer));
    let handle = work.options(options().max_attempts(1)).await.unwrap();
    assert!(store.wait_for_finish(handle.id(), PATIENCE).await.unwrap());
    drop(server.shutdown().await);
    assert_eq!(receiver.iter().collect::<Vec<_>>(), [true]);
    assert_eq!(lab.only(PROCESS).outcome(), ("failed".to_owned(), "timeout".to_owned()));
}

/// A task that runs until it is dropped, and its server.
async fn hanging(
    lab: &Lab,
    store: &MemoryStore,
) -> (ergon_server::RunningServer, ergon_core::TaskId) {
    let started = Signal::new();
    let starting = started.clone();
    let server = Server::builder(store.clone())
        .layer(lab.telemetry.layer())
        .config(ServerConfig::new().grace_period(Duration::from_secs(1)))
        .handler(move |_work: crate::support::Work| {
            starting.fire();
            std::future::pending::<Result<u32, TaskError>>()
        })
        .build()
        .unwrap()
        .start();
    let enqueue = lab.client(store.clone()).enqueue(work(What::Answer));
    let handle = enqueue.timeout(PATIENCE).await.unwrap();
    started.wait().await;
    (server, handle.id())
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_called_off_while_it_runs_is_cancelled() {
    let (lab, store) = (Lab::new(), memory());
    let (server, id) = hanging(&lab, &store).await;
    Manager::new(store.clone()).control().cancel(id, "changed my mind").await.unwrap();
    assert!(store.wait_for_finish(id, PATIENCE).await.unwrap());
    drop(server.shutdown().await);
    check(&lab.named(PROCESS), &[("cancelled", "")]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_a_shutdown_interrupts_is_released() {
    let (lab, store) = (Lab::new(), memory());
    let (server, _) = hanging(&lab, &store).await;
    drop(server.shutdown().await);
    check(&lab.named(PROCESS), &[("released", "")]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_whose_outcome_comes_too_late_is_lost() {
    let (lab, store) = (Lab::new(), memory());
    let (server, id) = hanging(&lab, &store).await;
    // As another server would, whose store's clock has leapt ahead; and nobody may run it again.
    let ahead = Now::At(after(store.clock().now(), Duration::from_secs(60)));
    let report = store.rescue_expired(&RescueRequest::default().now(ahead)).await.unwrap();
    assert_eq!(report.done, 1);
    Manager::new(store.clone()).control().cancel(id, "enough").await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    drop(server.shutdown().await);
    let attempts = lab.named(PROCESS);
    assert_eq!(attempts[0].outcome(), ("lost".to_owned(), "lease_lost".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn failures_are_log_events_in_the_context_of_their_attempts() {
    let lab = Lab::new();
    let attempts = attempts(&lab, What::Panic).await;
    let logs = lab.logs.get_emitted_logs().unwrap();
    assert_eq!(logs.len(), 2);
    for (log, attempt) in logs.iter().zip(&attempts) {
        let record = &log.record;
        assert_eq!(record.event_name(), Some("messaging.process.exception"));
        assert_eq!(record.severity_number().map(|severity| severity as u8), Some(17));
        let context = record.trace_context().unwrap();
        let of = attempt.context();
        assert_eq!((context.trace_id, context.span_id), (of.trace_id(), of.span_id()));
        let attributes: Vec<_> = record
            .attributes_iter()
            .map(|(key, value)| (key.to_string(), format!("{value:?}")))
            .collect();
        let value = |text: &str| format!("String(Owned({text:?}))");
        assert_eq!(attributes.len(), 2, "{attributes:?}");
        assert_eq!(attributes[0].0, "exception.type");
        assert!(attributes[0].1.contains("\"panic\""), "{attributes:?}");
        assert_eq!(attributes[1], ("exception.message".to_owned(), value("a bug")));
        assert_eq!(log.instrumentation.schema_url(), Some(ergon_otel::SCHEMA_URL));
    }
}

#[tokio::test(start_paused = true)]
async fn what_ends_well_is_no_exception() {
    let lab = Lab::new();
    for what in [What::Answer, What::Cancel, What::SnoozeOnce] {
        drop(attempts(&lab, what).await);
    }
    assert_eq!(lab.logs.get_emitted_logs().unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_payload_is_never_told_not_even_by_the_error_of_its_decoding() {
    let (lab, store) = (Lab::new(), memory());
    let server = lab.server(store.clone());
    let payload = SECRET;
    let enqueue = lab.client(store.clone()).enqueue_json("work", payload);
    let handle = enqueue.options(TaskOptions::new().queue("mail")).await.unwrap();
    assert!(store.wait_for_finish(handle.id(), PATIENCE).await.unwrap());
    let error = &store.tasks(&[handle.id()], Now::Store).await.unwrap()[0];
    let errors = format!("{error:?}");
    assert!(errors.contains("invalid"), "an error that could tell: {errors}");
    drop(server.shutdown().await);
    let attempts = lab.named(PROCESS);
    assert_eq!(attempts.len(), 3);
    assert_eq!(attempts[2].outcome(), ("failed".to_owned(), "decode".to_owned()));
    drop(self::attempts(&lab, What::GiveUp).await);
    let told = format!("{:?} {:?}", lab.spans(), lab.logs.get_emitted_logs().unwrap());
    assert!(!told.contains(SECRET), "{told}");
}
