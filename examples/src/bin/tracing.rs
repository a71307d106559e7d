//! Traces from a request to the attempts at its tasks: OpenTelemetry, and spans of `tracing` within.
#![expect(clippy::print_stdout, reason = "a program talks to its terminal")]

use ergon_core::{Client, Task, TaskError, TaskId};
use ergon_otel::Telemetry;
use ergon_redb::RedbStore;
use ergon_server::{Context, Server};
use opentelemetry::trace::{SpanId, TraceId, TracerProvider as _};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use serde::{Deserialize, Serialize};
use tracing::Instrument as _;
use tracing_subscriber::{
    Layer as _, filter::LevelFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

#[derive(Serialize, Deserialize, Task)]
#[task(queue = "mail", output = TaskId)]
struct SendEmail {
    to: String,
}

#[derive(Serialize, Deserialize, Task)]
#[task(queue = "audit")]
struct Audit {
    what: String,
}

async fn send_email(mail: SendEmail, context: Context) -> Result<TaskId, TaskError> {
    // A span of the application, and a child of the attempt.
    deliver(context.attempt()).instrument(tracing::info_span!("smtp")).await?;
    // So is what the handler enqueues.
    let what = format!("a mail to {}", mail.to);
    Ok(context.client().enqueue(Audit { what }).await?.id())
}

async fn deliver(attempt: u16) -> Result<(), TaskError> {
    tokio::task::yield_now().await; // the mail server thinks
    if attempt == 1 { Err(TaskError::retry("greylisted")) } else { Ok(()) }
}

async fn audit(_audit: Audit) -> Result<(), TaskError> {
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // In production, `opentelemetry_otlp::SpanExporter` and `with_batch_exporter`.
    let spans = InMemorySpanExporter::default();
    let tracers = SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(tracers.tracer("shop"));
    tracing_subscriber::registry().with(layer.with_filter(LevelFilter::INFO)).init();
    let telemetry = Telemetry::builder().tracer_provider(&tracers).build();

    let store = RedbStore::in_memory()?;
    let client = Client::builder(store.clone()).propagation(telemetry.propagation()).build();
    let server = Server::builder(store)
        .client(client.clone())
        .layer(telemetry.layer())
        .handler(send_email)
        .handler(audit)
        .build()?
        .start();

    let order = async { client.enqueue(SendEmail { to: "ada@example.com".into() }).await };
    let mail = order.instrument(tracing::info_span!("order")).await?;
    let audit = client.handle::<Audit>(mail.result().await?);
    audit.result().await?;
    // A span ends when its outcome is recorded, which is no later than this.
    server.shutdown().await;

    print(&spans.get_finished_spans()?);
    Ok(())
}

/// Prints each trace as a tree, in the order in which they began.
fn print(spans: &[SpanData]) {
    let mut spans: Vec<_> = spans.iter().collect();
    spans.sort_by_key(|span| span.start_time);
    let roots: Vec<_> =
        spans.iter().filter(|span| span.parent_span_id == SpanId::INVALID).copied().collect();
    let number = |id: TraceId| {
        1 + roots.iter().take_while(|root| root.span_context.trace_id() != id).count()
    };
    for root in &roots {
        println!("trace {}", number(root.span_context.trace_id()));
        print_tree(&spans, root, 1, &number);
    }
}

fn print_tree(
    spans: &[&SpanData],
    of: &SpanData,
    depth: usize,
    number: &impl Fn(TraceId) -> usize,
) {
    let value =
        |key: &str| of.attributes.iter().find(|it| it.key.as_str() == key).map(|it| &it.value);
    print!("{:indent$}{}", "", of.name, indent = depth * 2);
    if let (Some(attempt), Some(outcome)) =
        (value("messaging.ergon.task.attempt"), value("messaging.ergon.task.outcome"))
    {
        print!(": attempt {attempt}, {outcome}");
    }
    for link in &*of.links {
        print!(", linked to trace {}", number(link.span_context.trace_id()));
    }
    println!();
    for child in spans.iter().filter(|span| span.parent_span_id == of.span_context.span_id()) {
        print_tree(spans, child, depth + 1, number);
    }
}
