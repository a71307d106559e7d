//! How fast tasks are taken: from one caller, from many, in batches.

use anyhow::Result;
use ergon_core::Client;

use super::{Host, Name, Plan, raw};
use crate::{
    measure::{Goal, Measure},
    plan::{progress, rate},
    workload::{PAYLOAD_BYTES, block_on, enqueue_batches_by, enqueue_by},
};

const BATCH: u64 = 1_000;
const BATCH_CALLERS: u64 = 2;

/// Single enqueues: one caller, and many.
pub(super) fn singles(plan: &Plan, host: &Host) -> Result<Vec<Measure>> {
    let mut measures = Vec::new();
    let one = ("raw_commit_1", "enqueue_1", 1, Goal::RatioAtLeast(0.9));
    let many = ("raw_commit_32", "enqueue_32", 32, Goal::RatioAtLeast(1.5));
    for (name, (raw_name, own_name, callers, goal)) in
        [(Name::Enqueue1, one), (Name::Enqueue32, many)]
    {
        if !plan.common.wants_one_of(&[Name::RawCommit, name]) {
            continue;
        }
        let of_each = if callers == 1 { 5_000 } else { 1_000 };
        let of_each = plan.common.scaled(of_each, 5);
        let tasks = of_each * callers;
        let measure = |name, unit| {
            Measure::new(name, unit)
                .with("payload_bytes", PAYLOAD_BYTES)
                .with("callers", callers)
                .with("tasks", tasks)
        };
        let mut raw = measure(raw_name, "rows/s");
        let mut own = measure(own_name, "tasks/s").with("raw_is", raw_name).with_goal(goal);
        for run in 1..=plan.common.runs {
            let database = host.database()?;
            let commits = rate(tasks, block_on(raw::commits(&database, callers, of_each))?);
            progress(raw_name, run, &format!("{commits:.0}/s"));
            raw.push(commits);
            own.push_raw(commits);
            if plan.common.wants(name) {
                let enqueued = rate(tasks, enqueue(host, callers, of_each)?);
                progress(own_name, run, &format!("{enqueued:.0}/s"));
                own.push(enqueued);
            }
        }
        measures.push(raw);
        measures.extend(plan.common.wants(name).then_some(own));
    }
    Ok(measures)
}

/// How long so many callers need for so many enqueues each.
fn enqueue(host: &Host, callers: u64, of_each: u64) -> Result<std::time::Duration> {
    let database = host.database()?;
    block_on(async {
        let store = database.store().await?;
        let client = Client::new(store.clone());
        // Names and plans are known then, and connections open, as those of the raw callers are.
        enqueue_by(&client, callers, 3).await?;
        let time = enqueue_by(&client, callers, of_each).await?;
        store.close().await;
        Ok(time)
    })
}

/// Batches of 1,000.
pub(super) fn batches(plan: &Plan, host: &Host) -> Result<Vec<Measure>> {
    if !plan.common.wants_one_of(&[Name::RawUnnest, Name::EnqueueMany1000]) {
        return Ok(Vec::new());
    }
    let of_each = plan.common.scaled(200, 1) * BATCH;
    let tasks = of_each * BATCH_CALLERS;
    let measure = |name, unit| {
        Measure::new(name, unit)
            .with("payload_bytes", PAYLOAD_BYTES)
            .with("tasks", tasks)
            .with("batch", BATCH)
    };
    let mut raw_one = measure("raw_unnest_1", "rows/s").with("connections", 1);
    let mut raw_two = measure("raw_unnest_2", "rows/s").with("connections", 2);
    let mut own = measure("enqueue_many_1000", "tasks/s")
        .with("callers", BATCH_CALLERS)
        .with("raw_is", "raw_unnest_2")
        .with_goal(Goal::RatioAtLeast(2.0));
    for run in 1..=plan.common.runs {
        for (connections, raw) in [(1, &mut raw_one), (2, &mut raw_two)] {
            let database = host.database()?;
            let rows = rate(tasks, block_on(raw::unnest(&database, connections, tasks))?);
            progress(raw.name(), run, &format!("{rows:.0}/s"));
            raw.push(rows);
            if connections == BATCH_CALLERS {
                own.push_raw(rows);
            }
        }
        if plan.common.wants(Name::EnqueueMany1000) {
            let database = host.database()?;
            let time = block_on(async {
                let store = database.store().await?;
                let client = Client::new(store.clone());
                enqueue_batches_by(&client, BATCH_CALLERS, BATCH, BATCH).await?;
                let time = enqueue_batches_by(&client, BATCH_CALLERS, of_each, BATCH).await?;
                store.close().await;
                Ok(time)
            })?;
            own.push(rate(tasks, time));
            progress("enqueue_many_1000", run, &format!("{:.0}/s", rate(tasks, time)));
        }
    }
    let own = plan.common.wants(Name::EnqueueMany1000).then_some(own);
    Ok([raw_one, raw_two].into_iter().chain(own).collect())
}
