//! Makes the series of a scrape out of what was counted.

use std::{collections::HashMap, sync::atomic::Ordering::Relaxed};

use ergon_core::{EventKind, State, time::between};
use prometheus::{
    core::Desc,
    proto::{self, Bucket, LabelPair, Metric, MetricFamily},
};

use crate::{
    board::{FOLDED, Row},
    family::{
        ATTEMPTS_FINISHED, ATTEMPTS_STARTED, BUILD_INFO, EVENT_BUS_LAG, EVENT_GAPS, EVENT_MISSED,
        EVENTS, FAMILIES, Family, LABEL_OVERFLOW, MetricType, OBSERVER_PANICS, OBSERVER_SECONDS,
        QUEUE_OLDEST_READY_AGE, QUEUE_PAUSED, QUEUE_TASKS, SAMPLER_ERRORS, SAMPLER_LAST_SUCCESS,
        TASK_ATTEMPTS, TASK_RUN, TASK_WAIT, TASKS_DELETED, TASKS_ENQUEUED, TASKS_FINALIZED,
        TASKS_RESCUED,
    },
    fold::{AttemptOutcome, DeleteReason, EnqueueOutcome, FINAL_STATES, Fold, RunOutcome},
    histogram::{ATTEMPTS, Histogram, SECONDS},
    label::label,
    metrics::Core,
    names::{Bounded, Names},
    observer::{ObserverNumbers, observers},
};

/// What registries know of the metrics before they are collected.
pub(crate) fn descriptions() -> Result<Vec<Desc>, prometheus::Error> {
    let describe = |family: &Family| {
        let labels = family.labels.iter().map(|&label| label.to_owned()).collect();
        Desc::new(family.name.to_owned(), family.help.to_owned(), labels, HashMap::new())
    };
    FAMILIES.iter().map(describe).collect()
}

/// All series.
pub(crate) fn collect(core: &Core) -> Vec<MetricFamily> {
    // What was counted first: names are only added, so each number has its name then.
    let fold = core.shards.sum();
    let mut families = Vec::with_capacity(FAMILIES.len());
    collect_pairs(&mut families, &fold, &core.names);
    collect_queues(&mut families, &fold, &core.names);
    collect_totals(&mut families, &fold);
    collect_board(&mut families, core);
    let (numbers, observers_folded) = observers(&core.feeds);
    collect_observers(&mut families, &numbers);

    core.observers_folded.fetch_max(observers_folded, Relaxed);
    let mut overflow = Series::of(&LABEL_OVERFLOW);
    for (bounded, mut count) in Bounded::ALL.into_iter().zip(fold.overflow) {
        if bounded == FOLDED {
            count += core.queues_folded.load(Relaxed);
        }
        if bounded == Bounded::Observer {
            count += core.observers_folded.load(Relaxed);
        }
        overflow.add(&[bounded.as_str()], count);
    }
    overflow.end(&mut families);
    let build = &core.build;
    let mut info = Series::of(&BUILD_INFO);
    info.add(&[&build.version, &build.backend, &build.revision], 1);
    info.end(&mut families);
    families
}

/// What happened to tasks, by queue and kind. A series begins with the first event of its group: a
/// failure later on is then a step from 0, which a series that begins with it would not show.
fn collect_pairs(families: &mut Vec<MetricFamily>, fold: &Fold, names: &Names) {
    let mut enqueued = Series::of(&TASKS_ENQUEUED);
    let mut started = Series::of(&ATTEMPTS_STARTED);
    let mut finished = Series::of(&ATTEMPTS_FINISHED);
    let mut finalized = Series::of(&TASKS_FINALIZED);
    let mut wait = Series::of(&TASK_WAIT);
    let mut run = Series::of(&TASK_RUN);
    for (labels, pair) in names.pairs().iter().zip(&fold.pairs) {
        let (queue, kind) = (&*labels.queue, &*labels.kind);
        if pair.enqueued.iter().any(|&count| count > 0) {
            for (outcome, &count) in EnqueueOutcome::ALL.iter().zip(&pair.enqueued) {
                enqueued.add(&[queue, kind, outcome.as_str()], count);
            }
        }
        let has_finished = pair.finished.iter().chain(&pair.finalized).any(|&count| count > 0);
        if has_finished || pair.started > 0 {
            started.add(&[queue, kind], pair.started);
            for (outcome, &count) in AttemptOutcome::ALL.iter().zip(&pair.finished) {
                finished.add(&[queue, kind, outcome.as_str()], count);
            }
            for (state, &count) in FINAL_STATES.iter().zip(&pair.finalized) {
                finalized.add(&[queue, kind, state.as_str()], count);
            }
        }
        wait.add_histogram(&[queue, kind], &SECONDS, &pair.wait);
        for (outcome, times) in RunOutcome::ALL.iter().zip(&pair.run) {
            run.add_histogram(&[queue, kind, outcome.as_str()], &SECONDS, times);
        }
    }
    for series in [enqueued, started, finished, finalized, wait, run] {
        series.end(families);
    }
}

/// What happened to tasks, by queue.
fn collect_queues(families: &mut Vec<MetricFamily>, fold: &Fold, names: &Names) {
    let mut rescued = Series::of(&TASKS_RESCUED);
    let mut attempts = Series::of(&TASK_ATTEMPTS);
    for (queue, counted) in names.queues().iter().zip(&fold.queues) {
        if counted.rescued > 0 || counted.attempts.count() > 0 {
            rescued.add(&[queue], counted.rescued);
        }
        attempts.add_histogram(&[queue], &ATTEMPTS, &counted.attempts);
    }
    rescued.end(families);
    attempts.end(families);
}

fn collect_totals(families: &mut Vec<MetricFamily>, fold: &Fold) {
    let mut deleted = Series::of(&TASKS_DELETED);
    for (reason, count) in DeleteReason::ALL.iter().zip(fold.deleted) {
        deleted.add(&[reason.as_str()], count);
    }
    deleted.end(families);
    let mut events = Series::of(&EVENTS);
    for (at, kind) in EventKind::ALL.iter().enumerate() {
        events.add(&[kind.as_str()], fold.events.get(at).copied().unwrap_or_default());
    }
    events.end(families);
}

/// What the sampler read.
fn collect_board(families: &mut Vec<MetricFamily>, core: &Core) {
    let mut errors = Series::of(&SAMPLER_ERRORS);
    for (failure, count) in core.board.failures() {
        errors.add(&[failure.as_str()], count);
    }
    errors.end(families);
    let Some(shown) = core.board.shown() else { return };
    let mut last_success = Series::of(&SAMPLER_LAST_SUCCESS);
    let micros = shown.read_at.map_or(0, |at| at.as_microsecond());
    last_success.add_value(&[], micros as f64 / 1e6);
    last_success.end(families);

    let now = core.clock.now();
    let mut tasks = Series::of(&QUEUE_TASKS);
    let mut oldest = Series::of(&QUEUE_OLDEST_READY_AGE);
    let mut paused = Series::of(&QUEUE_PAUSED);
    for Row { queue, counts, oldest_due_at, paused: paused_queues } in &*shown.rows {
        for (state, &count) in State::ALL.iter().zip(counts) {
            tasks.add(&[queue, state.as_str()], count);
        }
        // Told at the scrape, so that it goes on while the store does not answer.
        let age = oldest_due_at.map_or(0.0, |due| between(due, now).as_secs_f64());
        oldest.add_value(&[queue], age);
        paused.add(&[queue], *paused_queues);
    }
    for series in [tasks, oldest, paused] {
        series.end(families);
    }
}

fn collect_observers(families: &mut Vec<MetricFamily>, observers: &[ObserverNumbers]) {
    let mut lag = Series::of(&EVENT_BUS_LAG);
    let mut missed = Series::of(&EVENT_MISSED);
    let mut gaps = Series::of(&EVENT_GAPS);
    let mut panics = Series::of(&OBSERVER_PANICS);
    let mut seconds = Series::of(&OBSERVER_SECONDS);
    for numbers in observers {
        let name = &[label(&numbers.name)];
        let name = &name.each_ref().map(String::as_str);
        lag.add(name, numbers.lag);
        missed.add(name, numbers.missed);
        gaps.add(name, numbers.gaps);
        panics.add(name, numbers.panics);
        seconds.add_value(name, numbers.busy.as_secs_f64());
    }
    for series in [lag, missed, gaps, panics, seconds] {
        series.end(families);
    }
}

/// The series of one metric.
struct Series {
    family: &'static Family,
    metrics: Vec<Metric>,
}

impl Series {
    const fn of(family: &'static Family) -> Self {
        Self { family, metrics: Vec::new() }
    }

    /// A series with a whole number, exact up to 2^53.
    fn add(&mut self, labels: &[&str], value: u64) {
        self.add_value(labels, value as f64);
    }

    fn add_value(&mut self, labels: &[&str], value: f64) {
        let mut metric = self.metric(labels);
        match self.family.metric_type {
            MetricType::Counter => {
                let mut counter = proto::Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            MetricType::Gauge | MetricType::Histogram => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        self.metrics.push(metric);
    }

    /// A histogram, unless nothing was counted in it yet.
    fn add_histogram<const BOUNDS: usize>(
        &mut self,
        labels: &[&str],
        bounds: &[f64; BOUNDS],
        histogram: &Histogram<BOUNDS>,
    ) {
        let count = histogram.count();
        if count == 0 {
            return;
        }
        let buckets = bounds.iter().zip(histogram.cumulative()).map(|(&bound, count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut value = proto::Histogram::default();
        value.set_bucket(buckets.collect());
        value.set_sample_count(count);
        value.set_sample_sum(histogram.sum());
        let mut metric = self.metric(labels);
        metric.set_histogram(value);
        self.metrics.push(metric);
    }

    fn metric(&self, labels: &[&str]) -> Metric {
        let pairs = self.family.labels.iter().zip(labels).map(|(&name, &value)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        });
        Metric::from_label(pairs.collect())
    }

    fn end(self, families: &mut Vec<MetricFamily>) {
        let mut family = MetricFamily::default();
        family.set_name(self.family.name.to_owned());
        family.set_help(self.family.help.to_owned());
        family.set_field_type(match self.family.metric_type {
            MetricType::Counter => proto::MetricType::COUNTER,
            MetricType::Gauge => proto::MetricType::GAUGE,
            MetricType::Histogram => proto::MetricType::HISTOGRAM,
        });
        family.set_metric(self.metrics);
        families.push(family);
    }
}
