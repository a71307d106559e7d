//! How fast a server works a full queue off.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use ergon_core::{Client, store::IntoStore as _};
use ergon_redb::RedbStore;

use super::{Name, Plan};
use crate::{
    measure::Measure,
    plan::{progress, rate},
    raw,
    serving::{CONCURRENCY, drain},
    workload::{PAYLOAD_BYTES, block_on, fill},
};

const IN_RAW_COMMIT: usize = 1_000;

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
        let time = drain(&store.clone().into_store(), tasks).await?;
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
