//! What the metrics cost whoever publishes, and whoever scrapes.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use ergon_core::{
    Event, EventSink, KindName, QueueName, ServerId, TaskEvent, TaskId, Timestamp, event::TaskRef,
};
use ergon_prometheus::Metrics;

use super::{Name, Plan};
use crate::{
    measure::{Goal, Measure, median},
    plan::progress,
};

/// Three events a task at 300,000 tasks a second are then 5 % of a core.
const NANOS_MAX: f64 = 60.0;

const SERIES: usize = 20_000;
const SCRAPE_MILLIS_MAX: f64 = 30.0;

/// Events in one call, as a busy server tells them.
const BATCH: usize = 100;

/// Queues and kinds of the mixed events.
const PAIRS: usize = 50;

/// The lives of tasks, a hundred events in a call.
pub(super) fn publish(plan: &Plan) -> Result<Vec<Measure>> {
    if !plan.wants(Name::MetricsPublish) {
        return Ok(Vec::new());
    }
    let events = plan.scaled(3_000_000, 3_000);
    let goal = Goal::AtMost(NANOS_MAX);
    let mut measure = Measure::new("metrics_publish", "ns").with_goal(goal).with("batch", BATCH);
    let (mut by_one, mut mixed) = (Vec::new(), Vec::new());
    for run in 1..=plan.runs {
        let nanos = nanos_an_event(events, &batches(BATCH, 1)?)?;
        progress("metrics_publish", run, &format!("{nanos:.1} ns an event"));
        measure.push(nanos);
        by_one.push(nanos_an_event(events, &batches(1, 1)?)?);
        mixed.push(nanos_an_event(events, &batches(BATCH, PAIRS)?)?);
    }
    measure.note("ns_one_by_one", median(&by_one).map(f64::round));
    measure.note("ns_mixed_50_pairs", median(&mixed).map(f64::round));
    Ok(vec![measure])
}

/// Everything that the default bounds let there be, as text.
pub(super) fn scrape(plan: &Plan) -> Result<Vec<Measure>> {
    if !plan.wants(Name::Scrape20k) {
        return Ok(Vec::new());
    }
    let mut measure = Measure::new("scrape_20k", "ms").with_goal(Goal::AtMost(SCRAPE_MILLIS_MAX));
    for run in 1..=plan.runs {
        let metrics = Metrics::builder().build()?;
        fill(&metrics)?;
        let began = Instant::now();
        let text = black_box(metrics.encode());
        let millis = began.elapsed().as_secs_f64() * 1e3;
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        ensure!(series >= SERIES, "{series} series are less than {SERIES}");
        progress("scrape_20k", run, &format!("{millis:.1} ms, {series} series"));
        measure.push(millis);
        measure.note("series", series);
        measure.note("bytes", text.len());
    }
    Ok(vec![measure])
}

/// Counts the batches again and again, on fresh metrics.
fn nanos_an_event(events: u64, batches: &[Vec<Event>]) -> Result<f64> {
    let metrics = Metrics::builder().build()?;
    let of_round: usize = batches.iter().map(Vec::len).sum();
    let rounds = std::cmp::max(events / of_round as u64, 1);
    let began = Instant::now();
    for _ in 0..rounds {
        for batch in batches {
            metrics.publish(black_box(batch));
        }
    }
    let nanos = began.elapsed().as_secs_f64() * 1e9;
    // Counts are far below 2^53.
    Ok(nanos / (rounds * of_round as u64) as f64)
}

/// What tasks of so many pairs go through: enqueued, started, completed; the pairs by turns.
fn batches(batch: usize, pairs: usize) -> Result<Vec<Vec<Event>>> {
    let names = (0..pairs).map(|pair| names(pair % 10, pair)).collect::<Result<Vec<_>>>()?;
    let mut batches = Vec::new();
    for of_life in 0..3 {
        let mut events = Vec::with_capacity(batch);
        for number in 0..batch {
            // A prime, so that neighbours are of different pairs.
            let pair = number * 37 % pairs;
            let Some((queue, kind)) = names.get(pair) else { continue };
            let time = Duration::from_micros((number as u64 * 7_919) % 10_000_000);
            let happened = match of_life {
                0 => TaskEvent::Enqueued { run_at: Timestamp::UNIX_EPOCH, priority: 0 },
                1 => TaskEvent::Started { server: ServerId::from_u128(7), waited: time },
                _ => TaskEvent::Completed { ran: time },
            };
            events.push(event(queue, kind, happened));
        }
        batches.push(events);
    }
    Ok(batches)
}

/// Makes every pair and every queue do everything, up to the bounds.
fn fill(metrics: &Metrics) -> Result<()> {
    let (run_at, ran) = (Timestamp::UNIX_EPOCH, Duration::from_millis(250));
    for pair in 0..300 {
        let (queue, kind) = names(pair % 200, pair)?;
        let events = [
            TaskEvent::Enqueued { run_at, priority: 0 },
            TaskEvent::Started { server: ServerId::from_u128(7), waited: ran },
            TaskEvent::Completed { ran },
            TaskEvent::Cancelled { ran: Some(ran) },
        ];
        metrics.publish(&events.map(|happened| event(&queue, &kind, happened)));
    }
    Ok(())
}

fn names(queue: usize, kind: usize) -> Result<(QueueName, KindName)> {
    let (queue, kind) = (format!("queue-{queue}"), format!("mail.newsletter.send-{kind}"));
    Ok((QueueName::new(queue)?, KindName::new(kind)?))
}

fn event(queue: &QueueName, kind: &KindName, happened: TaskEvent) -> Event {
    let (queue, kind) = (queue.clone(), kind.clone());
    let task = TaskRef { id: TaskId::MIN, queue, kind, attempt: 1 };
    Event::task(Timestamp::UNIX_EPOCH, task, happened)
}
