//! The journal of the Postgres store: how much it takes, and how soon another process reads it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use ergon_core::{
    Client, Store, WatcherName,
    store::{Cursor, IntoStore as _, Watch},
};
use ergon_postgres::PostgresStore;
use tokio::time::timeout;

use super::{Host, Name, Plan, host::Database};
use crate::{
    measure::{Goal, Measure, percentile},
    plan::{progress, rate},
    serving::{CONCURRENCY, drain},
    workload::{Noop, block_on, enqueue_batches},
};

/// Events that the journal holds of a task here: enqueued, claimed and completed.
const EVENTS_A_TASK: u64 = 3;
const BATCH: u64 = 100;
const PAGE: usize = 10_000;
/// Far beyond any delay: what is lost is an error, not a hanging benchmark.
const NOTICE_MAX: Duration = Duration::from_secs(60);

/// The rate of events, and the delays with and without a doorbell.
pub(super) fn followed(plan: &Plan, host: &Host) -> Result<Vec<Measure>> {
    let mut measures = Vec::new();
    if plan.common.wants(Name::Journal) {
        measures.push(events_a_second(plan, host)?);
    }
    if plan.common.wants(Name::NoticeOther) {
        measures.push(notice(plan, host, "notice_other_p99", true, 250.0)?);
        measures.push(notice(plan, host, "notice_other_polled_p99", false, 1_200.0)?);
    }
    Ok(measures)
}

/// Enqueues, works off and follows all at once.
fn events_a_second(plan: &Plan, host: &Host) -> Result<Measure> {
    let tasks = plan.common.scaled(2_000, 10) * BATCH;
    let mut measure = Measure::new("journal", "events/s")
        .with("tasks", tasks)
        .with("enqueued_by", BATCH)
        .with("concurrency", CONCURRENCY)
        .with_goal(Goal::AtLeast(20_000.0));
    for run in 1..=plan.common.runs {
        let database = host.database()?;
        let took = block_on(async {
            let own = database.store().await?;
            let store: Arc<dyn Store> = own.clone().into_store();
            let cursor = watch(&*store).await?;
            let client = Client::new(&store);
            let began = Instant::now();
            let (filled, drained, read) = tokio::join!(
                enqueue_batches(&client, tasks, BATCH),
                drain(&store, tasks),
                read(&*store, cursor, tasks * EVENTS_A_TASK),
            );
            let took = began.elapsed();
            filled.and(drained.map(drop)).and(read)?;
            own.close().await;
            Ok(took)
        })?;
        let events = rate(tasks * EVENTS_A_TASK, took);
        progress("journal", run, &format!("{events:.0}/s"));
        measure.push(events);
    }
    Ok(measure)
}

/// Milliseconds from an enqueue to its event in another store on the same database.
fn notice(
    plan: &Plan,
    host: &Host,
    name: &'static str,
    listens: bool,
    max: f64,
) -> Result<Measure> {
    let samples = plan.common.scaled(100, 5);
    let mut measure = Measure::new(name, "ms")
        .with("samples", samples)
        .with("listens", listens)
        .with_goal(Goal::AtMost(max));
    let database = host.database()?;
    let times = block_on(async {
        let (own, other) = (database.store().await?, open(&database, listens).await?);
        let client = Client::new(own.clone());
        let store: Arc<dyn Store> = other.clone().into_store();
        let mut cursor = watch(&*store).await?;
        let mut times = Vec::new();
        for number in 0..samples {
            let began = Instant::now();
            let seen = async {
                loop {
                    store.wait_for_changes(&cursor, NOTICE_MAX).await;
                    let changes = store.changes(&cursor, PAGE).await?;
                    cursor = changes.cursor;
                    if !changes.events.is_empty() {
                        return anyhow::Ok(began.elapsed());
                    }
                }
            };
            // The reader waits already when the task comes.
            let enqueued = async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let enqueued = Instant::now();
                client.enqueue(Noop::new(number)).await?;
                anyhow::Ok(enqueued.duration_since(began))
            };
            let both = async { tokio::join!(seen, enqueued) };
            let both = timeout(NOTICE_MAX, both).await;
            let (seen, before) = both.context("an event is lost")?;
            times.push((seen?.saturating_sub(before?)).as_secs_f64() * 1_000.0);
        }
        own.close().await;
        other.close().await;
        Ok(times)
    })?;
    let p99 = percentile(&times, 99).context("nothing was timed")?;
    progress(name, 1, &format!("{p99:.1} ms"));
    measure.push(p99);
    measure.note("p50_ms", percentile(&times, 50));
    Ok(measure)
}

async fn open(database: &Database<'_>, listens: bool) -> Result<PostgresStore> {
    let options = PostgresStore::builder().listen(listens);
    Ok(options.connect(&database.url()).await?)
}

/// Watches until the database is gone.
async fn watch(store: &dyn Store) -> Result<Cursor> {
    let watch = Watch::durable(WatcherName::new("bench")?);
    Ok(store.watch(&watch).await?.cursor)
}

/// Follows until so many events of tasks were read.
async fn read(store: &dyn Store, mut cursor: Cursor, events: u64) -> Result<()> {
    let mut told = 0;
    while told < events {
        let changes = store.changes(&cursor, PAGE).await?;
        ensure!(changes.gap.is_none(), "a gap: {:?}", changes.gap);
        told += changes.events.iter().filter(|it| it.event.task_ref().is_some()).count() as u64;
        cursor = changes.cursor;
        if !changes.more {
            store.wait_for_changes(&cursor, NOTICE_MAX).await;
        }
    }
    Ok(())
}
