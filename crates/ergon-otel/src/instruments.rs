//! The metrics: what is counted and measured, by which attributes.

use std::time::Duration;

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram, Meter},
};

use crate::{
    semconv::{DURATION_BOUNDARIES, key, metric},
    trace_context::Ignored,
};

/// The instruments, made once.
#[derive(Debug)]
pub(crate) struct Instruments {
    sent: Counter<u64>,
    consumed: Counter<u64>,
    operation: Histogram<f64>,
    process: Histogram<f64>,
    ignored: Counter<u64>,
}

impl Instruments {
    pub(crate) fn new(meter: &Meter) -> Self {
        let messages = |name, what| {
            meter.u64_counter(name).with_unit("{message}").with_description(what).build()
        };
        let seconds = |name, what| {
            let histogram = meter.f64_histogram(name).with_unit("s").with_description(what);
            histogram.with_boundaries(DURATION_BOUNDARIES.to_vec()).build()
        };
        Self {
            sent: messages(metric::SENT_MESSAGES, "Tasks that were enqueued."),
            consumed: messages(metric::CONSUMED_MESSAGES, "Attempts that were begun."),
            operation: seconds(metric::OPERATION_DURATION, "How long enqueues took."),
            process: seconds(metric::PROCESS_DURATION, "How long handlers ran."),
            ignored: meter
                .u64_counter(metric::IGNORED_CONTEXTS)
                .with_unit("{context}")
                .with_description("Trace contexts of tasks, or parts of them, that were left out.")
                .build(),
        }
    }

    /// Tasks were enqueued, or were not.
    pub(crate) fn sent(&self, tasks: usize, attributes: &[KeyValue]) {
        if tasks > 0 {
            self.sent.add(u64::try_from(tasks).unwrap_or(u64::MAX), attributes);
        }
    }

    /// An enqueue was answered, or dropped.
    pub(crate) fn operation(&self, took: Duration, attributes: &[KeyValue]) {
        self.operation.record(took.as_secs_f64(), attributes);
    }

    /// An attempt was begun.
    pub(crate) fn consumed(&self, attributes: &[KeyValue]) {
        self.consumed.add(1, attributes);
    }

    /// An attempt has ended.
    pub(crate) fn processed(&self, ran: Duration, attributes: &[KeyValue]) {
        self.process.record(ran.as_secs_f64(), attributes);
    }

    /// A context, or a part of it, was left out.
    pub(crate) fn ignored(&self, what: Option<Ignored>) {
        if let Some(ignored) = what {
            self.ignored.add(1, &[KeyValue::new(key::ERROR_TYPE, ignored.as_str())]);
        }
    }
}
