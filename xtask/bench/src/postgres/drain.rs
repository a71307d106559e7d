//! How fast a server works a full queue off.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use ergon_core::{Client, Store, store::IntoStore as _};

use super::{Host, Name, Plan, host::scattered, raw};
use crate::{
    measure::{Goal, Measure},
    plan::{progress, rate},
    serving::{CONCURRENCY, drain},
    workload::{PAYLOAD_BYTES, block_on, enqueue_batches_by, enqueue_by},
};

/// Callers who fill the queue one task at a time.
const CALLERS: u64 = 1_000;

/// How a queue was filled.
#[derive(Clone, Copy, Debug)]
enum Filled {
    /// One task at a time, by many callers of one client.
    BySingles,
    /// The same, by ids that have nothing in common.
    Scattered,
    /// By batches of 1,000.
    ByPacks,
}

fn measure(name: &'static str, tasks: u64) -> Measure {
    Measure::new(name, "tasks/s")
        .with("payload_bytes", PAYLOAD_BYTES)
        .with("tasks", tasks)
        .with("concurrency", CONCURRENCY)
        .with("raw_is", "raw_claim_delete")
}

/// A queue filled one task at a time.
pub(super) fn scattered_or_joined(plan: &Plan, host: &Host) -> Result<Vec<Measure>> {
    let names = [Name::RawClaimDelete, Name::Drain, Name::DrainScattered];
    if !plan.common.wants_one_of(&names) {
        return Ok(Vec::new());
    }
    let of_each = plan.common.scaled(200, 1);
    let tasks = of_each * CALLERS;
    let mut raw = Measure::new("raw_claim_delete", "rows/s")
        .with("payload_bytes", PAYLOAD_BYTES)
        .with("rows", tasks)
        .with("claim", 500)
        .with("connections", 2);
    let mut joined = measure("drain", tasks).with_goal(Goal::AtLeast(100_000.0));
    let mut apart = measure("drain_scattered", tasks);
    for run in 1..=plan.common.runs {
        let database = host.database()?;
        let rows = rate(tasks, block_on(raw::claim_delete(&database, tasks))?);
        progress("raw_claim_delete", run, &format!("{rows:.0}/s"));
        raw.push(rows);
        let ways = [
            (Name::Drain, Filled::BySingles, &mut joined),
            (Name::DrainScattered, Filled::Scattered, &mut apart),
        ];
        for (name, filled, measure) in ways {
            if plan.common.wants(name) {
                let drained = rate(tasks, fill_and_drain(host, filled, tasks)?);
                progress(measure.name(), run, &format!("{drained:.0}/s"));
                measure.push(drained);
                measure.push_raw(rows);
            }
        }
    }
    let own = [(Name::Drain, joined), (Name::DrainScattered, apart)];
    let own = own.into_iter().filter(|(name, _)| plan.common.wants(*name)).map(|it| it.1);
    Ok(std::iter::once(raw).chain(own).collect())
}

/// A queue filled by batches.
pub(super) fn packs(plan: &Plan, host: &Host) -> Result<Vec<Measure>> {
    if !plan.common.wants(Name::DrainPacks) {
        return Ok(Vec::new());
    }
    let tasks = plan.common.scaled(500, 1) * 2_000;
    let mut measure = measure("drain_packs", tasks).with_goal(Goal::AtLeast(250_000.0));
    for run in 1..=plan.common.runs {
        let database = host.database()?;
        let rows = std::cmp::min(tasks, 200_000);
        measure.push_raw(rate(rows, block_on(raw::claim_delete(&database, rows))?));
        let drained = rate(tasks, fill_and_drain(host, Filled::ByPacks, tasks)?);
        measure.push(drained);
        progress("drain_packs", run, &format!("{drained:.0}/s"));
    }
    Ok(vec![measure])
}

fn fill_and_drain(host: &Host, filled: Filled, tasks: u64) -> Result<Duration> {
    let database = host.database()?;
    block_on(async {
        let own = database.store().await?;
        let store: Arc<dyn Store> = own.clone().into_store();
        let client = Client::new(&store);
        match filled {
            Filled::BySingles => enqueue_by(&client, CALLERS, tasks / CALLERS).await?,
            Filled::Scattered => enqueue_by(&scattered(&store), CALLERS, tasks / CALLERS).await?,
            Filled::ByPacks => enqueue_batches_by(&client, 2, tasks / 2, 1_000).await?,
        };
        let time = drain(&store, tasks).await?;
        own.close().await;
        Ok(time)
    })
}
