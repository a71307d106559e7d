//! What is counted and measured.

use std::collections::BTreeMap;

use ergon_testing::{Faulty, MemoryStore, Operation};
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};

use crate::support::{Lab, PATIENCE, What, memory, options, work};

/// Every series by its name and its attributes: how much was counted, or how often measured.
fn series(lab: &Lab) -> BTreeMap<String, u64> {
    lab.meters.force_flush().unwrap();
    let exported = lab.metrics.get_finished_metrics().unwrap();
    let Some(last) = exported.last() else { return BTreeMap::new() };
    let mut series = BTreeMap::new();
    for scope in last.scope_metrics() {
        assert_eq!(scope.scope().schema_url(), Some(ergon_otel::SCHEMA_URL));
        for metric in scope.metrics() {
            for (attributes, count) in points(metric.data()) {
                series.insert(format!("{} {} {attributes}", metric.name(), metric.unit()), count);
            }
        }
    }
    series
}

/// Operation, queue and error of each point.
fn points(data: &AggregatedMetrics) -> Vec<(String, u64)> {
    let told = |attributes: Vec<&opentelemetry::KeyValue>| {
        let value = |key: &str| {
            let entry = attributes.iter().find(|entry| entry.key.as_str() == key);
            entry.map(|entry| entry.value.to_string())
        };
        let keys = ["messaging.operation.name", "messaging.destination.name", "error.type"];
        let told: Vec<_> = keys.into_iter().filter_map(value).collect();
        let constant = value("messaging.system");
        assert_eq!(attributes.len(), told.len() + constant.iter().count(), "{attributes:?}");
        told.join(" ")
    };
    match data {
        AggregatedMetrics::U64(MetricData::Sum(sum)) => {
            sum.data_points().map(|it| (told(it.attributes().collect()), it.value())).collect()
        }
        AggregatedMetrics::F64(MetricData::Histogram(histogram)) => histogram
            .data_points()
            .map(|it| (told(it.attributes().collect()), it.count()))
            .collect(),
        other => unreachable!("{other:?}"),
    }
}

#[track_caller]
fn check(lab: &Lab, expected: &[(&str, u64)]) {
    let expected: BTreeMap<_, _> =
        expected.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
    assert_eq!(series(lab), expected);
}

#[tokio::test(start_paused = true)]
async fn every_enqueue_and_every_attempt_is_counted_and_measured() {
    let (lab, store) = (Lab::new(), memory());
    let server = lab.server(store.clone());
    let client = lab.client(store.clone());
    let works = [What::Answer, What::Answer, What::Fail, What::Cancel].map(work);
    let handles = client.enqueue_many(works).options(options()).await.unwrap();
    for handle in &handles {
        assert!(store.wait_for_finish_of(handle.id()).await);
    }
    drop(server.shutdown().await);
    check(
        &lab,
        &[
            ("messaging.client.sent.messages {message} enqueue mail", 4),
            ("messaging.client.operation.duration s enqueue mail", 1),
            ("messaging.client.consumed.messages {message} process mail", 5),
            ("messaging.process.duration s process mail", 3),
            ("messaging.process.duration s process mail _OTHER", 2),
        ],
    );
}

#[tokio::test]
async fn what_was_not_enqueued_is_counted_by_the_class_of_its_error() {
    let lab = Lab::new();
    let faulty = Faulty::new(MemoryStore::new());
    faulty.fail_before(Operation::Insert, 1);
    let client = lab.client(faulty);
    assert!(client.enqueue_many([What::Answer; 3].map(work)).await.is_err());
    client.enqueue(work(What::Answer)).await.unwrap();
    // Nobody knows whether it is ever stored.
    client.enqueue(work(What::Answer)).into_new_task().unwrap();
    let (sent, took) =
        ("messaging.client.sent.messages {message}", "messaging.client.operation.duration s");
    let failed = "enqueue mail unavailable";
    check(
        &lab,
        &[
            (&format!("{sent} enqueue mail"), 1),
            (&format!("{sent} {failed}"), 3),
            (&format!("{took} enqueue mail"), 1),
            (&format!("{took} {failed}"), 1),
        ],
    );
}

#[cfg(feature = "sdk")]
#[tokio::test(start_paused = true)]
async fn the_view_reaches_to_half_an_hour_and_for_processing_only() {
    let (lab, store) = (Lab::new(), memory());
    let server = lab.server(store.clone());
    let handle = lab.client(store).enqueue(work(What::Answer)).await.unwrap();
    assert_eq!(handle.result().within(PATIENCE).await.unwrap(), 7);
    drop(server.shutdown().await);
    lab.meters.force_flush().unwrap();
    let exported = lab.metrics.get_finished_metrics().unwrap();
    let mut bounds = BTreeMap::new();
    for metric in exported.last().unwrap().scope_metrics().flat_map(|scope| scope.metrics()) {
        if let AggregatedMetrics::F64(MetricData::Histogram(histogram)) = metric.data() {
            let point = histogram.data_points().next().unwrap();
            bounds.insert(metric.name(), point.bounds().collect::<Vec<_>>());
        }
    }
    assert_eq!(bounds["messaging.process.duration"], ergon_otel::PROCESS_BOUNDARIES);
    assert_eq!(bounds["messaging.client.operation.duration"], ergon_otel::DURATION_BOUNDARIES);
}

/// A short way to wait.
trait WaitForFinish {
    async fn wait_for_finish_of(&self, id: ergon_core::TaskId) -> bool;
}

impl WaitForFinish for MemoryStore {
    async fn wait_for_finish_of(&self, id: ergon_core::TaskId) -> bool {
        ergon_core::store::Inspect::wait_for_finish(self, id, PATIENCE).await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn contexts_that_are_ignored_are_counted() {
    let (lab, store) = (Lab::new(), memory());
    crate::hostile::run_with(&lab, &store, &[("ergon.traceparent", "nonsense")]).await;
    let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let state = ("ergon.tracestate", "x".repeat(600));
    crate::hostile::run_with(&lab, &store, &[("ergon.traceparent", good), (state.0, &state.1)])
        .await;
    let ignored: Vec<_> =
        series(&lab).into_iter().filter(|(name, _)| name.starts_with("ergon.")).collect();
    let name = |reason| format!("ergon.trace_context.ignored {{context}} {reason}");
    assert_eq!(ignored, [(name("traceparent_invalid"), 1), (name("tracestate_too_long"), 1)]);
}
