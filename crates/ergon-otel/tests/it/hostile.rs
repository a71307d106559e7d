//! Contexts that nobody should have written, and providers that misbehave.

use std::time::Duration;

use ergon_core::{
    Client, Now,
    store::{Enqueue as _, Inspect as _},
};
use ergon_otel::{Parent, Telemetry};
use ergon_server::Server;
use ergon_testing::MemoryStore;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, Span, SpanData, SpanProcessor},
};

use crate::support::{Lab, PATIENCE, What, handle, memory, work};

/// Runs a task that carries this.
pub(crate) async fn run_with(lab: &Lab, store: &MemoryStore, metadata: &[(&str, &str)]) {
    let mut task = Client::new(store.clone()).enqueue(work(What::Answer)).into_new_task().unwrap();
    let entries = metadata.iter().map(|&(key, value)| (key.to_owned(), value.to_owned()));
    task.spec.metadata.extend(entries);
    let id = task.id;
    store.insert(&[task], Now::Store).await.unwrap();
    let server = lab.server(store.clone());
    assert!(store.wait_for_finish(id, PATIENCE).await.unwrap());
    assert_eq!(server.shutdown().await.completed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_task_with_a_bad_context_runs_and_its_attempt_is_a_trace_of_its_own() {
    let lab = Lab::with(|builder| builder.parent(Parent::FirstAttempt));
    let store = memory();
    let long = "x".repeat(60_000);
    let bad = [
        "",
        "00",
        "nonsense",
        "00-00000000000000000000000000000000-0000000000000000-00",
        "00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-\u{1f600}",
        &long,
    ];
    for parent in bad {
        run_with(&lab, &store, &[("ergon.traceparent", parent), ("ergon.tracestate", "a=b")]).await;
    }
    let attempts = lab.named("process mail");
    assert_eq!(attempts.len(), bad.len());
    for attempt in attempts {
        assert!(attempt.is_root() && attempt.links().is_empty(), "{attempt:?}");
        assert_eq!(attempt.0.span_context.trace_state().header(), "");
    }
}

#[tokio::test(start_paused = true)]
async fn a_context_with_a_bad_state_is_linked_without_it() {
    let (lab, store) = (Lab::new(), memory());
    let parent = ("ergon.traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let long = format!("a={}", "x".repeat(511));
    for state in [&*long, "no list", "a=b\u{1}", "=x"] {
        run_with(&lab, &store, &[parent, ("ergon.tracestate", state)]).await;
    }
    run_with(&lab, &store, &[parent, ("ergon.tracestate", "a=b")]).await;
    let attempts = lab.named("process mail");
    let states: Vec<_> =
        attempts.iter().map(|attempt| attempt.links()[0].trace_state().header()).collect();
    assert_eq!(states, ["", "", "", "", "a=b"]);
}

/// A processor with a bug.
#[derive(Debug)]
struct Panicking;

impl SpanProcessor for Panicking {
    fn on_start(&self, _span: &mut Span, _context: &opentelemetry::Context) {}

    fn on_end(&self, _span: SpanData) {
        panic!("a bug in a processor");
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_processor_that_panics_costs_no_task_its_outcome() {
    let store = memory();
    let tracers = SdkTracerProvider::builder().with_span_processor(Panicking).build();
    let telemetry = Telemetry::builder().tracer_provider(&tracers).build();
    let server = Server::builder(store.clone()).layer(telemetry.layer()).handler(handle);
    let server = server.build().unwrap().start();
    let works = [What::Answer; 10].map(work);
    let handles = Client::new(store.clone()).enqueue_many(works).await.unwrap();
    for handle in &handles {
        assert_eq!(handle.result().within(PATIENCE).await.unwrap(), 7);
    }
    let report = server.shutdown().await;
    assert_eq!((report.completed, report.started), (10, 10));
    assert!(report.is_clean());
}
