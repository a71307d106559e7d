//! Throw-away measurement.
#![allow(clippy::all, unused)]
use std::time::Instant;
use ergon_core::*;
use ergon_core::client::Purpose;
use opentelemetry_sdk::trace::*;
use opentelemetry_sdk::metrics::SdkMeterProvider;
fn run(name: &str, t: ergon_otel::Telemetry) {
    let task = NewTask::new(TaskId::MIN, TaskSpec::new(KindName::new("k").unwrap(), "{}"));
    let tasks = vec![task; 1];
    let p = t.propagation();
    let n = 300_000;
    for purpose in [Purpose::Send] {
        let s = Instant::now();
        for _ in 0..n { let mut m = Metadata::new(); let u = p.begin(purpose, &tasks, &mut m); u.end(&Default::default()); std::hint::black_box(m); }
        println!("{name} {:?}: {:?} per enqueue", purpose, s.elapsed() / n);
    }
}
fn main() {
    use opentelemetry::trace::{TraceContextExt, SpanContext};
    let cx = SpanContext::new(7u128.into(), 8u64.into(), opentelemetry::TraceFlags::SAMPLED, true, Default::default());
    let _g = opentelemetry::Context::new().with_remote_span_context(cx).attach();
    run("noop within a trace", ergon_otel::Telemetry::builder().build());
    drop(_g);
    run("noop", ergon_otel::Telemetry::builder().build());
    let off = SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOff).build();
    run("sdk off, no metrics", ergon_otel::Telemetry::builder().tracer_provider(&off).build());
    let on = SdkTracerProvider::builder().build();
    run("sdk on, no exporter, no metrics", ergon_otel::Telemetry::builder().tracer_provider(&on).build());
    let batch = SdkTracerProvider::builder().with_batch_exporter(opentelemetry_sdk::trace::InMemorySpanExporter::default()).build();
    run("sdk on, batch, no metrics", ergon_otel::Telemetry::builder().tracer_provider(&batch).build());
    let meters = SdkMeterProvider::builder().with_reader(opentelemetry_sdk::metrics::PeriodicReader::builder(opentelemetry_sdk::metrics::InMemoryMetricExporter::default()).build()).build();
    run("noop spans, metrics", ergon_otel::Telemetry::builder().meter_provider(&meters).build());
}
