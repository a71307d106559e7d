//! How fast a server works a full queue off.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use ergon_core::Client;
use ergon_redb::RedbStore;
use ergon_server::{Queue, Server};
use tokio::sync::Notify;

use super::{Name, Plan, progress, rate};
use crate::{
    measure::Measure,
    raw,
    workload::{Done, Noop, PAYLOAD_BYTES, block_on, fill, wait_for_completed},
};

pub(super) const CONCURRENCY: usize = 64;
const IN_RAW_COMMIT: usize = 1_000;

/// Longer than any drain takes: what is stuck is an error, not a hanging benchmark.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// A queue of 200,000 tasks, and one of 2,000,000.
pub(super) fn drains(plan: &Plan) -> Result<Vec<Measure>> {
    if !plan.wants_one_of(&[Name::Drain, Name::Drain2m]) {
        return Ok(Vec::new());
    }
    let (few, many) = (plan.scaled(200_000, 1_000), plan.scaled(2_000_000, 2_000));
    let measure = |name, tasks| {
        Measure::new(name, "tasks/s")
            .with("payload_bytes", PAYLOAD_BYTES)
            .with("tasks", tasks)
            .with("concurrency", CONCURRENCY)
    };
    let raw_is = "rows from an index to a table, commits of 1,000";
    let mut shallow = measure("drain", few).with("raw_is", raw_is);
    let mut deep = measure("drain_2m", many).with("raw_is", "drain");
    for run in 1..=plan.runs {
        let scratch = plan.scratch()?;
        shallow.push_raw(rate(few, raw::drain(scratch.file(), few, IN_RAW_COMMIT)?));
        let of_few = rate(few, fill_and_drain(plan, few)?);
        shallow.push(of_few);
        progress("drain", run, &format!("{of_few:.0}/s"));
        if plan.wants(Name::Drain2m) {
            let of_many = rate(many, fill_and_drain(plan, many)?);
            deep.push(of_many);
            deep.push_raw(of_few);
            progress("drain_2m", run, &format!("{of_many:.0}/s"));
        }
    }
    let measures = [(Name::Drain, shallow), (Name::Drain2m, deep)];
    Ok(measures.into_iter().filter(|(name, _)| plan.wants(*name)).map(|it| it.1).collect())
}

fn fill_and_drain(plan: &Plan, tasks: u64) -> Result<Duration> {
    let scratch = plan.scratch()?;
    block_on(async {
        let store = RedbStore::open(scratch.file()).await?;
        fill(&Client::new(store.clone()), tasks).await?;
        let time = drain(&store, tasks).await?;
        store.close().await?;
        Ok(time)
    })
}

/// Fills a file with queued tasks, and closes it.
pub(super) fn fill_file(path: &Path, tasks: u64) -> Result<()> {
    block_on(async {
        let store = RedbStore::open(path).await?;
        fill(&Client::new(store.clone()), tasks).await?;
        store.close().await.context("close the filled store")
    })
}

/// How long it takes from the start of a server until the store says that all tasks are completed,
/// when there are just so many and nothing else.
pub(super) async fn drain(store: &RedbStore, tasks: u64) -> Result<Duration> {
    let ran = Arc::new(AtomicU64::new(0));
    let all_ran = Arc::new(Notify::new());
    let handler = {
        let (ran, all_ran) = (Arc::clone(&ran), Arc::clone(&all_ran));
        move |_task: Noop| {
            if ran.fetch_add(1, Relaxed) + 1 == tasks {
                all_ran.notify_one();
            }
            std::future::ready(Done::Ok(()))
        }
    };
    let server = Server::builder(store.clone())
        .handler(handler)
        .queue(Queue::new("default").concurrency(CONCURRENCY))
        .build()?;
    let began = Instant::now();
    let running = server.start();
    // Asking the store all the time would take time from it, so it is asked at the end.
    tokio::time::timeout(PATIENCE, all_ran.notified()).await.context("the drain is stuck")?;
    let end = wait_for_completed(store, tasks);
    tokio::time::timeout(PATIENCE, end).await.context("the drain is stuck at its end")??;
    let time = began.elapsed();
    let report = running.shutdown().await;
    let runs = ran.load(Relaxed);
    ensure!(report.is_clean() && runs == tasks, "{runs} runs of {tasks} tasks: {report:?}");
    Ok(time)
}
