//! What publishing costs whoever publishes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use ergon_core::{
    Event, EventKindSet, EventSink, KindName, QueueName, ServerId, TaskEvent, TaskId, Timestamp,
    event::TaskRef,
};
use ergon_events::{Bus, Subscription};
use tokio::task::JoinSet;

use super::{Name, Plan};
use crate::{
    measure::{Goal, Measure},
    plan::progress,
    workload,
};

/// An event of 0.2 µs is 2 % of a core at 100,000 events a second.
const NANOS_MAX: f64 = 200.0;

/// What publishing cost.
#[derive(Clone, Copy)]
struct Cost {
    /// Time of the publisher an event, in nanoseconds.
    nanos: f64,
    /// The same, while it had a processor: readers want one too, and there may be too few.
    cpu_nanos: f64,
    /// Part of the events that the readers were told; what is missing they were told they missed.
    told: f64,
}

/// Who listens.
#[derive(Clone, Copy)]
struct Readers {
    reading: usize,
    stuck: usize,
}

/// With no reader, with one, and with a hundred.
pub(super) fn by_readers(plan: &Plan) -> Result<Vec<Measure>> {
    let mut measures = Vec::new();
    for (name, batch, names) in [
        (
            Name::Publish1,
            1,
            ["publish_1_readers_0", "publish_1_readers_1", "publish_1_readers_100"],
        ),
        (
            Name::Publish100,
            100,
            ["publish_100_readers_0", "publish_100_readers_1", "publish_100_readers_100"],
        ),
    ] {
        if !plan.wants(name) {
            continue;
        }
        let [mut none, mut one, mut hundred] = names.map(|name| measure(name, batch));
        for run in 1..=plan.runs {
            let cost = |reading| publish(plan, batch, Readers { reading, stuck: 0 });
            let costs = [cost(0)?, cost(1)?, cost(100)?];
            let [of_none, of_one, of_hundred] = costs.map(|cost| cost.nanos);
            let told = format!("{of_none:.0}, {of_one:.0}, {of_hundred:.0} ns an event");
            progress(names[0], run, &told);
            none.push(of_none);
            one.push(of_one);
            hundred.push(of_hundred);
            hundred.push_raw(of_one);
            for (measure, cost) in [(&mut one, costs[1]), (&mut hundred, costs[2])] {
                measure.note("told", cost.told);
                measure.note("on_cpu_ns", cost.cpu_nanos);
            }
        }
        measures.extend([none, one, hundred]);
    }
    Ok(measures)
}

/// With a hundred that never read beside one that does.
pub(super) fn stuck(plan: &Plan) -> Result<Vec<Measure>> {
    if !plan.wants(Name::PublishStuck) {
        return Ok(Vec::new());
    }
    let mut measure = measure("publish_stuck", 100).with("stuck", 100);
    for run in 1..=plan.runs {
        let without = publish(plan, 100, Readers { reading: 1, stuck: 0 })?;
        let with = publish(plan, 100, Readers { reading: 1, stuck: 100 })?;
        progress("publish_stuck", run, &format!("{:.0} ns an event", with.nanos));
        measure.push(with.nanos);
        measure.push_raw(without.nanos);
    }
    Ok(vec![measure])
}

fn measure(name: &'static str, batch: usize) -> Measure {
    let measure = Measure::new(name, "ns").with("batch", batch);
    if batch == 1 { measure } else { measure.with_goal(Goal::AtMost(NANOS_MAX)) }
}

/// Publishes to a bus of its own, and measures the calls.
fn publish(plan: &Plan, batch: usize, readers: Readers) -> Result<Cost> {
    let events = plan.scaled(2_000_000, 20_000);
    workload::block_on(async move {
        let bus = Bus::builder().build()?;
        let running = bus.start()?;
        let stuck: Vec<_> =
            (0..readers.stuck).map(|_| bus.subscribe(EventKindSet::EVERY)).collect();
        let mut reading = JoinSet::new();
        for _ in 0..readers.reading {
            reading.spawn(read(bus.subscribe(EventKindSet::EVERY)));
        }
        let published = Arc::new(AtomicBool::new(false));
        let (sink, is_done) = (bus.clone(), Arc::clone(&published));
        let publisher = tokio::task::spawn_blocking(move || {
            let took = publish_all(&sink, events, batch);
            is_done.store(true, Relaxed);
            took
        });
        let (took, on_cpu) = publisher.await.context("publish")??;
        drop(stuck);
        running.shutdown().await;
        let told: u64 = reading.join_all().await.iter().sum();
        let expected = events * u64::try_from(std::cmp::max(readers.reading, 1))?;
        // Counts are far below 2^53.
        let (events, told, expected) = (events as f64, told as f64, expected as f64);
        let nanos = |time: Duration| time.as_secs_f64() * 1e9 / events;
        Ok(Cost { nanos: nanos(took), cpu_nanos: nanos(on_cpu), told: told / expected })
    })
}

/// Reads to the end, and counts what it is told.
async fn read(mut all: Subscription) -> u64 {
    let mut told = 0;
    while let Some(batch) = all.next_batch().await {
        told += batch.events().len() as u64;
    }
    told
}

/// How long it took, and how long this thread had a processor meanwhile.
fn publish_all(sink: &Bus, events: u64, batch: usize) -> Result<(Duration, Duration)> {
    let batch: Vec<_> = (0..batch).map(event).collect();
    let calls = events / batch.len() as u64;
    let (began, cpu_before) = (Instant::now(), on_cpu()?);
    for _ in 0..calls {
        sink.publish(&batch);
    }
    Ok((began.elapsed(), on_cpu()?.saturating_sub(cpu_before)))
}

/// How long this thread has had a processor.
fn on_cpu() -> Result<Duration> {
    let path = "/proc/thread-self/schedstat";
    let text = std::fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let nanos = text.split_whitespace().next().with_context(|| format!("nothing in {path}"))?;
    Ok(Duration::from_nanos(nanos.parse()?))
}

/// The start of an attempt, as a server tells it.
fn event(number: usize) -> Event {
    let task = TaskRef {
        id: TaskId::from_parts(1_700_000_000_000, number as u64, 0),
        queue: QueueName::default(),
        kind: KindName::new("noop").unwrap_or_else(|_| unreachable!("a valid name")),
        attempt: 1,
    };
    let waited = Duration::from_millis(7);
    Event::task(
        Timestamp::UNIX_EPOCH,
        task,
        TaskEvent::Started { server: ServerId::from_u128(7), waited },
    )
}
