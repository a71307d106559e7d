//! How fast tasks are taken: from one caller, from many, in batches.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ergon_core::Client;
use ergon_redb::RedbStore;

use super::{Name, Plan};
use crate::{
    measure::Measure,
    plan::{progress, rate},
    raw,
    workload::{PAYLOAD_BYTES, block_on, enqueue_batches, enqueue_by},
};

const CALLERS: u64 = 32;
const BATCH: u64 = 1_000;

/// Single enqueues: one caller, and many.
pub(super) fn singles(plan: &Plan) -> Result<Vec<Measure>> {
    if !plan.wants_one_of(&[Name::Enqueue1, Name::Enqueue32]) {
        return Ok(Vec::new());
    }
    let (one_by_one, of_each) = (plan.scaled(5_000, 10), plan.scaled(2_000, 5));
    let measure = |name| Measure::new(name, "tasks/s").with("payload_bytes", PAYLOAD_BYTES);
    let mut one = measure("enqueue_1").with("tasks", one_by_one);
    let mut many = measure("enqueue_32")
        .with("tasks", of_each * CALLERS)
        .with("callers", CALLERS)
        .with("raw_is", "enqueue_1");
    one.note("raw_is", "single-row commits");
    for run in 1..=plan.runs {
        let scratch = plan.scratch()?;
        let commits = raw::single_commits(scratch.file(), one_by_one)?;
        one.push_raw(rate(one_by_one, commits.iter().sum()));
        let sequential = rate(one_by_one, enqueue(plan, 1, one_by_one)?);
        one.push(sequential);
        progress("enqueue_1", run, &format!("{sequential:.0}/s"));
        if plan.wants(Name::Enqueue32) {
            let concurrent = rate(of_each * CALLERS, enqueue(plan, CALLERS, of_each)?);
            many.push(concurrent);
            many.push_raw(sequential);
            progress("enqueue_32", run, &format!("{concurrent:.0}/s"));
        }
    }
    let measures = [(Name::Enqueue1, one), (Name::Enqueue32, many)];
    Ok(measures.into_iter().filter(|(name, _)| plan.wants(*name)).map(|it| it.1).collect())
}

/// How long so many callers need for so many enqueues each.
fn enqueue(plan: &Plan, callers: u64, of_each: u64) -> Result<Duration> {
    let scratch = plan.scratch()?;
    block_on(async {
        let store = RedbStore::open(scratch.file()).await?;
        let client = Client::new(store.clone());
        let time = enqueue_by(&client, callers, of_each).await?;
        store.close().await?;
        Ok(time)
    })
}

/// Batches of 1,000.
pub(super) fn batches(plan: &Plan) -> Result<Vec<Measure>> {
    if !plan.wants(Name::EnqueueBatch) {
        return Ok(Vec::new());
    }
    let tasks = plan.scaled(200_000, BATCH);
    let mut measure = Measure::new("enqueue_batch", "tasks/s")
        .with("payload_bytes", PAYLOAD_BYTES)
        .with("tasks", tasks)
        .with("batch", BATCH)
        .with("raw_is", "1,000-row commits, plain insert");
    for run in 1..=plan.runs {
        let scratch = plan.scratch()?;
        let time = raw::batch_commits(scratch.file(), tasks, usize::try_from(BATCH)?)?;
        measure.push_raw(rate(tasks, time));
        let scratch = plan.scratch()?;
        let time = block_on(async {
            let store = RedbStore::open(scratch.file()).await?;
            let client = Client::new(store.clone());
            let work = tokio::spawn(async move {
                let began = Instant::now();
                enqueue_batches(&client, tasks, BATCH).await?;
                anyhow::Ok(began.elapsed())
            });
            let time = work.await.context("the caller panicked")??;
            store.close().await?;
            Ok(time)
        })?;
        measure.push(rate(tasks, time));
        progress("enqueue_batch", run, &format!("{:.0}/s", rate(tasks, time)));
    }
    Ok(vec![measure])
}
