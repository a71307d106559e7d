//! Spans of the crate `tracing`, connected by `tracing-opentelemetry`.

use ergon_core::TaskError;
use ergon_server::Server;
use opentelemetry::trace::TracerProvider as _;
use tracing::{Instrument as _, Level, subscriber::with_default};
use tracing_subscriber::{Layer as _, filter::LevelFilter, layer::SubscriberExt as _};

use crate::support::{Lab, What, Work, memory, work};

/// Runs a task whose handler has spans of `tracing`, with those of the server or without them.
fn run(level: LevelFilter) -> Lab {
    let lab = Lab::new();
    let layer = tracing_opentelemetry::layer().with_tracer(lab.tracers.tracer("tracing"));
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(level));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    with_default(subscriber, || runtime.block_on(traced(&lab)));
    lab
}

async fn traced(lab: &Lab) {
    let store = memory();
    let server = Server::builder(store.clone())
        .layer(lab.telemetry.layer())
        .handler(async |_work: Work| {
            let sending = tracing::span!(Level::INFO, "sending");
            tokio::task::yield_now().instrument(sending).await;
            Ok::<u32, TaskError>(7)
        })
        .build()
        .unwrap()
        .start();
    let ordering = tracing::span!(Level::INFO, "ordering");
    let client = lab.client(store);
    let enqueue = async { client.enqueue(work(What::Answer)).await };
    let handle = enqueue.instrument(ordering).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 7);
    drop(server.shutdown().await);
}

#[test]
fn the_spans_of_a_handler_are_children_of_its_attempt() {
    for level in [LevelFilter::INFO, LevelFilter::TRACE] {
        let lab = run(level);
        let attempt = lab.only("process mail");
        assert!(attempt.is_root(), "{level}");
        assert!(lab.only("sending").is_child_of(attempt.context()), "{level}");
        assert!(lab.only("enqueue mail").is_child_of(lab.only("ordering").context()), "{level}");
    }
}
