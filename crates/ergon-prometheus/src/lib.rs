//! Prometheus metrics of ergon, a durable background-task queue.
//!
//! [`Metrics`] count what a process commits, and show what the queues of its store hold; how they are
//! served is up to the application, which answers [`Metrics::encode`] to whoever scrapes it.
//!
//! # Where numbers come from
//!
//! | feed | numbers | whose |
//! |---|---|---|
//! | events | counters and histograms of tasks and attempts | each process counts what it committed itself: sum over processes |
//! | store | what stands in which queue, how old the oldest due task is | a [`Sampler`] of one process reads them |
//! | observers | lag, losses and panics of whoever listens to events | each process asks its own, see [`MetricsBuilder::observers`] |
//!
//! A counter grows after the commit, by what was committed and nothing else: at rest, the counters of
//! all processes together say the same as the store does.
//!
//! # Cost
//!
//! Events are counted where they are published, under a lock that other threads hardly ever want. A
//! scrape waits for nothing but memory: it asks the store nothing.
//!
//! # Bounds
//!
//! Labels are names of queues, kinds and observers and closed sets of words: never ids, tags,
//! payloads, errors or attempt numbers. The first 200 queues, 500 kinds and 256 pairs of both are told
//! apart, unless [other bounds](MetricsBuilder) are chosen; what comes later is counted as `_other`,
//! and `ergon_metrics_label_overflow_total` says how often that was.

mod board;
mod builder;
mod collect;
mod error;
mod family;
mod fold;
mod histogram;
mod label;
mod lock;
mod metrics;
mod names;
mod observer;
mod sampler;
mod shard;

pub use crate::{
    builder::MetricsBuilder,
    error::BuildError,
    family::{FAMILIES, Family, MetricType},
    metrics::{CONTENT_TYPE, Metrics, MetricsCollector},
    observer::{OBSERVERS_MAX, ObserverNumbers},
    sampler::{
        RunningSampler, SAMPLE_DEADLINE_DEFAULT, SAMPLE_PERIOD_DEFAULT, Sampler, StoreGauges,
    },
};
