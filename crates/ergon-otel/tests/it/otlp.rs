//! From end to end: through the exporters of the SDK and over a socket to a collector.

use std::{
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use ergon_core::{Client, store::IntoStore};
use ergon_otel::Telemetry;
use ergon_server::{RunningServer, Server};
use ergon_testing::MemoryStore;
use opentelemetry_otlp::{
    LogExporter, MetricExporter, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use opentelemetry_sdk::{
    Resource,
    logs::SdkLoggerProvider,
    metrics::{PeriodicReader, SdkMeterProvider},
    trace::SdkTracerProvider,
};

use crate::{
    collector::{Blocking, Collector, Manner, Received},
    support::{PATIENCE, SECRET, What, handle, options, work},
};

/// How long an export may take, and the end of a provider, when nobody is there.
const IMPATIENCE: Duration = Duration::from_millis(500);

/// Providers that export to a collector, in batches and in threads of their own.
struct Exporting {
    tracers: SdkTracerProvider,
    loggers: SdkLoggerProvider,
    meters: SdkMeterProvider,
    telemetry: Telemetry,
    limit: Duration,
}

impl Exporting {
    fn to(address: SocketAddr, limit: Duration) -> Self {
        let resource = || Resource::builder_empty().with_service_name("shop").build();
        macro_rules! exporter {
            ($exporter:ident, $signal:literal) => {
                $exporter::builder()
                    .with_http()
                    .with_http_client(Blocking { timeout: limit })
                    .with_endpoint(format!("http://{address}/v1/{}", $signal))
                    .with_timeout(limit)
                    .build()
                    .unwrap()
            };
        }
        let tracers = SdkTracerProvider::builder()
            .with_batch_exporter(exporter!(SpanExporter, "traces"))
            .with_resource(resource())
            .build();
        let loggers = SdkLoggerProvider::builder()
            .with_batch_exporter(exporter!(LogExporter, "logs"))
            .with_resource(resource())
            .build();
        let reader = PeriodicReader::builder(exporter!(MetricExporter, "metrics")).build();
        let meters =
            SdkMeterProvider::builder().with_reader(reader).with_resource(resource()).build();
        let telemetry = Telemetry::builder()
            .tracer_provider(&tracers)
            .logger_provider(&loggers)
            .meter_provider(&meters)
            .build();
        Self { tracers, loggers, meters, telemetry, limit }
    }

    fn start(&self, store: impl IntoStore) -> (Client, RunningServer) {
        let store = store.into_store();
        let client = Client::builder(&store).propagation(self.telemetry.propagation()).build();
        let server = Server::builder(&store).layer(self.telemetry.layer()).handler(handle);
        (client, server.build().unwrap().start())
    }

    /// Ends the providers, and answers whether all was exported.
    fn shutdown(&self) -> bool {
        let results = [
            self.tracers.shutdown_with_timeout(self.limit),
            self.loggers.shutdown_with_timeout(self.limit),
            self.meters.shutdown_with_timeout(self.limit),
        ];
        results.iter().all(Result::is_ok)
    }
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|entry| entry.key == key);
    match found.and_then(|entry| entry.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn spans(received: &Received) -> Vec<&Span> {
    let resources = received.traces.iter().flat_map(|request| &request.resource_spans);
    let scopes = resources.flat_map(|resource| {
        assert_eq!(text(&resource.resource.as_ref().unwrap().attributes, "service.name"), "shop");
        &resource.scope_spans
    });
    let spans = scopes.flat_map(|scope| {
        assert_eq!(scope.schema_url, ergon_otel::SCHEMA_URL);
        assert_eq!(scope.scope.as_ref().unwrap().name, "ergon-otel");
        &scope.spans
    });
    spans.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_gets_linked_spans_metrics_and_exceptions() {
    let collector = Collector::start(Manner::Polite);
    let exporting = Exporting::to(collector.address, Duration::from_secs(60));
    let store = MemoryStore::new();
    let (client, server) = exporting.start(store);
    let good = client.enqueue(work(What::Answer)).await.unwrap();
    let bad = client.enqueue(work(What::GiveUp)).options(options()).await.unwrap();
    assert_eq!(good.result().within(PATIENCE).await.unwrap(), 7);
    assert!(bad.result().within(PATIENCE).await.is_err());
    drop(server.shutdown().await);
    assert!(exporting.shutdown());
    let received = collector.end();

    let spans = spans(&received);
    let of = |name: &str, id: String| {
        let is_it = |span: &&&Span| {
            span.name == name && text(&span.attributes, "messaging.message.id") == id
        };
        let mut found = spans.iter().filter(is_it);
        let first = *found.next().unwrap();
        assert!(found.next().is_none());
        first
    };
    for (handle, outcome, code) in
        [(&good, "ok", StatusCode::Unset), (&bad, "failed", StatusCode::Error)]
    {
        let enqueue = of("enqueue mail", handle.id().to_string());
        let attempt = of("process mail", handle.id().to_string());
        assert_eq!(enqueue.kind, SpanKind::Producer as i32);
        assert_eq!(attempt.kind, SpanKind::Consumer as i32);
        assert_eq!(text(&attempt.attributes, "messaging.ergon.task.outcome"), outcome);
        assert_eq!(attempt.status.as_ref().map_or(0, |status| status.code), code as i32);
        let [link] = &attempt.links[..] else { unreachable!("{attempt:?}") };
        assert_eq!((&link.trace_id, &link.span_id), (&enqueue.trace_id, &enqueue.span_id));
        assert_eq!(attempt.parent_span_id, [0_u8; 0]);
        assert!(attempt.start_time_unix_nano >= enqueue.start_time_unix_nano);
        assert!(attempt.end_time_unix_nano >= attempt.start_time_unix_nano);
    }
    assert_eq!(spans.len(), 4);

    let failed = of("process mail", bad.id().to_string());
    let resources = received.logs.iter().flat_map(|request| &request.resource_logs);
    let records: Vec<_> = resources
        .flat_map(|resource| &resource.scope_logs)
        .flat_map(|it| &it.log_records)
        .collect();
    let [exception] = records[..] else { unreachable!("{records:?}") };
    assert_eq!(exception.event_name, "messaging.process.exception");
    assert_eq!(exception.severity_number, 17);
    assert_eq!(text(&exception.attributes, "exception.message"), "it cannot be done");
    assert_eq!((&exception.trace_id, &exception.span_id), (&failed.trace_id, &failed.span_id));

    let resources = received.metrics.iter().flat_map(|request| &request.resource_metrics);
    let scopes = resources.flat_map(|resource| &resource.scope_metrics);
    let mut names: Vec<_> =
        scopes.flat_map(|scope| &scope.metrics).map(|metric| metric.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let expected = [
        "messaging.client.consumed.messages",
        "messaging.client.operation.duration",
        "messaging.client.sent.messages",
        "messaging.process.duration",
    ];
    assert_eq!(names, expected);
    assert!(!format!("{received:?}").contains(SECRET));
}

/// Runs tasks while the collector is as it is, and ends in time.
async fn check_that_tasks_run_on(address: SocketAddr) {
    let exporting = Exporting::to(address, IMPATIENCE);
    let (client, server) = exporting.start(MemoryStore::new());
    let began = Instant::now();
    let works = std::iter::repeat_with(|| work(What::Answer)).take(5_000);
    // More than the queues of the exporters hold: what finds no room is dropped, and nobody waits.
    let handles = client.enqueue_many(works).await.unwrap();
    for handle in &handles {
        assert_eq!(handle.result().within(PATIENCE).await.unwrap(), 7);
    }
    let report = server.shutdown().await;
    assert_eq!(report.completed, 5_000);
    assert!(report.is_clean());
    let ran = began.elapsed();
    let ended = Instant::now();
    let is_exported = exporting.shutdown();
    assert!(!is_exported, "there was nobody to export to");
    assert!(ended.elapsed() < Duration::from_secs(10), "{:?}", ended.elapsed());
    assert!(ran < Duration::from_secs(30), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_collector_tasks_run_on_and_the_end_is_bounded() {
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    check_that_tasks_run_on(address).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_collector_that_never_answers_tasks_run_on_and_the_end_is_bounded() {
    let collector = Collector::start(Manner::Silent);
    check_that_tasks_run_on(collector.address).await;
}
