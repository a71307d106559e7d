//! What it costs a working server that somebody listens.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use ergon_core::{Client, EventKindSet, EventSink, Store, store::IntoStore as _};
use ergon_events::{Bus, Source};
use ergon_prometheus::Metrics;
use ergon_redb::RedbStore;
use tokio::task::JoinHandle;

use super::{Name, Plan};
use crate::{
    measure::{Goal, Measure},
    plan::{progress, rate},
    serving::{CONCURRENCY, drain_told},
    workload::{block_on, fill},
};

/// Who listens to a server at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listening {
    Nobody,
    /// Metrics are told.
    Metrics,
    /// A bus is told that nobody reads.
    Bus,
    /// A bus is told, of which somebody has a subscription and never reads.
    Stuck,
    /// A bus with a reader follows the journal.
    Journal,
}

/// Events that the journal holds of the life of a task here: claimed and completed.
const EVENTS_A_TASK: u64 = 2;

/// Of each, the rate while somebody listens, by the rate while nobody does.
pub(super) fn rates(plan: &Plan) -> Result<Vec<Measure>> {
    let mut measures = Vec::new();
    for (name, text, with, without, least) in [
        (
            Name::ThroughputMetrics,
            "throughput_metrics",
            Listening::Metrics,
            Listening::Nobody,
            0.98,
        ),
        (
            Name::ThroughputJournalWatcher,
            "throughput_journal_watcher",
            Listening::Journal,
            Listening::Nobody,
            0.95,
        ),
        (Name::ThroughputStuck, "throughput_stuck", Listening::Stuck, Listening::Bus, 0.98),
    ] {
        if !plan.wants(name) {
            continue;
        }
        let mut measure = measure(plan, text, "tasks/s").with_goal(Goal::RatioAtLeast(least));
        for run in 1..=plan.runs {
            let (plain, told) = (tasks_a_second(plan, without)?, tasks_a_second(plan, with)?);
            progress(text, run, &format!("{told:.0}/s, {plain:.0}/s without"));
            measure.push(told);
            measure.push_raw(plain);
        }
        measures.push(measure);
    }
    if plan.wants(Name::JournalRedb) {
        let mut measure =
            measure(plan, "journal_redb", "events/s").with_goal(Goal::AtLeast(50_000.0));
        for run in 1..=plan.runs {
            let (_, events) = drain(plan, Listening::Journal)?;
            let events = events.context("nobody followed")?;
            progress("journal_redb", run, &format!("{events:.0}/s"));
            measure.push(events);
        }
        measures.push(measure);
    }
    Ok(measures)
}

fn tasks(plan: &Plan) -> u64 {
    plan.scaled(400_000, 1_000)
}

fn measure(plan: &Plan, name: &'static str, unit: &'static str) -> Measure {
    Measure::new(name, unit).with("tasks", tasks(plan)).with("concurrency", CONCURRENCY)
}

fn tasks_a_second(plan: &Plan, listening: Listening) -> Result<f64> {
    let (time, _) = drain(plan, listening)?;
    Ok(rate(tasks(plan), time))
}

/// How long a queue takes to be worked off, and how many events a second a follower of the journal read,
/// from the start until the last of them.
fn drain(plan: &Plan, listening: Listening) -> Result<(Duration, Option<f64>)> {
    let (scratch, tasks) = (plan.scratch()?, tasks(plan));
    block_on(async {
        let own = RedbStore::open(scratch.file()).await?;
        let store: Arc<dyn Store> = own.clone().into_store();
        fill(&Client::new(&store), tasks).await?;
        let source = match listening {
            Listening::Journal => Source::journal(&store),
            _ => Source::Process,
        };
        let bus = Bus::builder().source(source).build()?;
        let running = bus.start()?;
        running.ready().await;
        let sink: Option<Arc<dyn EventSink>> = match listening {
            Listening::Nobody | Listening::Journal => None,
            Listening::Metrics => Some(Metrics::builder().build()?.sink()),
            Listening::Bus | Listening::Stuck => Some(bus.sink()),
        };
        let stuck = (listening == Listening::Stuck).then(|| bus.subscribe(EventKindSet::EVERY));
        let began = Instant::now();
        let reading = (listening == Listening::Journal).then(|| read(&bus, tasks * EVENTS_A_TASK));
        let time = drain_told(&store, tasks, sink).await?;
        let mut events = None;
        if let Some(reading) = reading {
            let told = reading.await.context("the reader panicked")??;
            events = Some(rate(told, began.elapsed()));
        }
        drop(stuck);
        running.shutdown().await;
        own.close().await?;
        Ok((time, events))
    })
}

/// Reads so many events of tasks, and says how many there were.
fn read(bus: &Bus, events: u64) -> JoinHandle<Result<u64>> {
    let mut all = bus.subscribe(EventKindSet::EVERY);
    tokio::spawn(async move {
        let mut told = 0;
        while told < events {
            let batch = all.next_batch().await.context("the bus ended")?;
            ensure!(batch.lagged().is_none() && batch.gap().is_none(), "events were missed");
            told += batch.events().iter().filter(|told| told.task_ref().is_some()).count() as u64;
        }
        Ok(told)
    })
}
