//! What the tests share: telemetry that is kept in memory, tasks, short ways to look.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ergon_core::{
    Client, RetryPolicy, Task, TaskError, TaskOptions, store::IntoStore, time::between,
};
use ergon_otel::{SCHEMA_URL, Telemetry, TelemetryBuilder};
use ergon_server::{Context, RunningServer, Server, ServerConfig};
use ergon_testing::{MemoryStore, TokioClock};
use opentelemetry::{Value, trace::SpanContext};
use opentelemetry_sdk::{
    logs::{InMemoryLogExporter, SdkLoggerProvider},
    metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider},
    trace::{InMemorySpanExporter, SdkTracerProvider, SpanData},
};
use serde::{Deserialize, Serialize};

/// Far longer than anything that works takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20 * 60);

/// A task that does as it says.
#[derive(Clone, Debug, Serialize, Deserialize, Task)]
#[task(kind = "work", queue = "mail", output = u32)]
pub(crate) struct Work {
    pub(crate) what: What,
    /// What never leaves the queue.
    pub(crate) secret: String,
}

/// What a handler does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum What {
    Answer,
    Fail,
    FailOnce,
    GiveUp,
    Cancel,
    SnoozeOnce,
    Panic,
    Hang,
}

/// A text that is in every payload and in no telemetry.
pub(crate) const SECRET: &str = "hunter2-correct-horse";

pub(crate) fn work(what: What) -> Work {
    Work { what, secret: SECRET.to_owned() }
}

/// Two attempts, a minute apart, of ten seconds at most.
pub(crate) fn options() -> TaskOptions {
    let retry = RetryPolicy::Fixed(Duration::from_secs(60));
    TaskOptions::new().max_attempts(2).retry(retry).timeout(Duration::from_secs(10)).priority(3)
}

pub(crate) async fn handle(work: Work, context: Context) -> Result<u32, TaskError> {
    match work.what {
        What::Fail => Err(TaskError::retry("it is broken")),
        What::FailOnce if context.attempt() == 1 => Err(TaskError::retry("not at the first try")),
        What::GiveUp => Err(TaskError::fail("it cannot be done")),
        What::Cancel => Err(TaskError::cancel("nobody needs it")),
        What::SnoozeOnce if between(context.created_at(), context.claimed_at()) < SNOOZE => {
            Err(TaskError::snooze(SNOOZE))
        }
        What::Panic => panic!("a bug"),
        What::Hang => std::future::pending().await,
        What::Answer | What::FailOnce | What::SnoozeOnce => Ok(7),
    }
}

const SNOOZE: Duration = Duration::from_secs(30);

/// Telemetry that is kept in memory.
pub(crate) struct Lab {
    spans: InMemorySpanExporter,
    pub(crate) tracers: SdkTracerProvider,
    pub(crate) logs: InMemoryLogExporter,
    pub(crate) metrics: InMemoryMetricExporter,
    pub(crate) meters: SdkMeterProvider,
    pub(crate) telemetry: Telemetry,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with(|builder| builder)
    }

    /// With choices.
    pub(crate) fn with(choose: impl FnOnce(TelemetryBuilder) -> TelemetryBuilder) -> Self {
        let spans = InMemorySpanExporter::default();
        let tracers = SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build();
        let logs = InMemoryLogExporter::default();
        let loggers = SdkLoggerProvider::builder().with_simple_exporter(logs.clone()).build();
        let metrics = InMemoryMetricExporter::default();
        let reader = PeriodicReader::builder(metrics.clone()).build();
        let builder = SdkMeterProvider::builder().with_reader(reader);
        #[cfg(feature = "sdk")]
        let builder = builder.with_view(ergon_otel::process_duration_view);
        let meters = builder.build();
        let telemetry = Telemetry::builder()
            .tracer_provider(&tracers)
            .logger_provider(&loggers)
            .meter_provider(&meters);
        let telemetry = choose(telemetry).build();
        Self { spans, tracers, logs, metrics, meters, telemetry }
    }

    pub(crate) fn client(&self, store: impl IntoStore) -> Client {
        Client::builder(store).propagation(self.telemetry.propagation()).build()
    }

    /// A server with the handler of [`Work`].
    pub(crate) fn server(&self, store: impl IntoStore) -> RunningServer {
        let store = store.into_store();
        let client = self.client(&store);
        let server = Server::builder(&store).client(client).layer(self.telemetry.layer());
        let config = ServerConfig::new().abort_period(Duration::from_secs(1));
        server.config(config).handler(handle).build().unwrap().start()
    }

    /// The spans that have ended, in that order.
    pub(crate) fn spans(&self) -> Vec<Seen> {
        let spans = self.spans.get_finished_spans().unwrap();
        spans.into_iter().map(Seen).collect()
    }

    /// Those of this name.
    pub(crate) fn named(&self, name: &str) -> Vec<Seen> {
        self.spans().into_iter().filter(|span| span.0.name == name).collect()
    }

    /// The only one of this name.
    #[track_caller]
    pub(crate) fn only(&self, name: &str) -> Seen {
        let mut named = self.named(name);
        assert_eq!(named.len(), 1, "{:?}", self.spans());
        named.remove(0)
    }
}

/// A span that was exported.
#[derive(Debug)]
pub(crate) struct Seen(pub(crate) SpanData);

impl Seen {
    pub(crate) fn context(&self) -> &SpanContext {
        &self.0.span_context
    }

    pub(crate) fn attributes(&self) -> BTreeMap<&str, &Value> {
        assert_eq!(self.0.instrumentation_scope.schema_url(), Some(SCHEMA_URL));
        let attributes = &self.0.attributes;
        let by_key: BTreeMap<_, _> =
            attributes.iter().map(|entry| (entry.key.as_str(), &entry.value)).collect();
        assert_eq!(by_key.len(), attributes.len(), "each once: {attributes:?}");
        by_key
    }

    /// An attribute as text; empty when there is none.
    pub(crate) fn text(&self, key: &str) -> String {
        self.attributes().get(key).map(ToString::to_string).unwrap_or_default()
    }

    /// The outcome of an attempt, and the class of its error.
    pub(crate) fn outcome(&self) -> (String, String) {
        (self.text("messaging.ergon.task.outcome"), self.text("error.type"))
    }

    /// What it is linked to.
    pub(crate) fn links(&self) -> Vec<&SpanContext> {
        self.0.links.iter().map(|link| &link.span_context).collect()
    }

    /// Says whether this is its parent.
    pub(crate) fn is_child_of(&self, parent: &SpanContext) -> bool {
        self.0.parent_span_id == parent.span_id() && self.context().trace_id() == parent.trace_id()
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.parent_span_id == opentelemetry::SpanId::INVALID
    }
}

/// Says whether two contexts name the same span; one that was carried is remote.
pub(crate) fn same(one: &SpanContext, other: &SpanContext) -> bool {
    one.span_id() == other.span_id() && one.trace_id() == other.trace_id()
}

/// A memory store on the clock of the runtime.
pub(crate) fn memory() -> MemoryStore {
    MemoryStore::builder().clock(Arc::new(TokioClock::default())).build()
}
