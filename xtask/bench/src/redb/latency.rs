//! How soon a task starts when the server has nothing else to do.

use anyhow::{Context, Result};
use ergon_core::{Client, store::IntoStore as _};
use ergon_redb::RedbStore;

use super::{Name, Plan};
use crate::{
    measure::{Measure, percentile},
    plan::{micros, progress},
    raw,
    serving::start_times,
    workload::{PAYLOAD_BYTES, block_on},
};

/// From the enqueue to the handler: the median, and the tail.
pub(super) fn latencies(plan: &Plan) -> Result<Vec<Measure>> {
    if !plan.wants_one_of(&[Name::LatencyP50, Name::LatencyP99]) {
        return Ok(Vec::new());
    }
    let tasks = plan.scaled(2_000, 20);
    let measure = |name| {
        Measure::new(name, "µs")
            .with("payload_bytes", PAYLOAD_BYTES)
            .with("tasks", tasks)
            .with("raw_is", "median single-row commit")
            .with("paced_by", "the task before is completed durably")
    };
    let (mut middle, mut tail) = (measure("latency_p50"), measure("latency_p99"));
    for run in 1..=plan.runs {
        let scratch = plan.scratch()?;
        let commits: Vec<f64> =
            raw::single_commits(scratch.file(), tasks)?.into_iter().map(micros).collect();
        let commit = percentile(&commits, 50).context("no commit was timed")?;
        let times = times(plan, tasks)?;
        let p50 = percentile(&times, 50).context("no start was timed")?;
        let p99 = percentile(&times, 99).context("no start was timed")?;
        progress("latency", run, &format!("p50 {p50:.0} µs, p99 {p99:.0} µs"));
        middle.push(p50);
        middle.push_raw(commit);
        tail.push(p99);
        tail.push_raw(commit);
    }
    let measures = [(Name::LatencyP50, middle), (Name::LatencyP99, tail)];
    Ok(measures.into_iter().filter(|(name, _)| plan.wants(*name)).map(|it| it.1).collect())
}

/// Microseconds from each of so many enqueues to the start of its handler.
fn times(plan: &Plan, tasks: u64) -> Result<Vec<f64>> {
    let scratch = plan.scratch()?;
    block_on(async {
        let store = RedbStore::open(scratch.file()).await?;
        let times =
            start_times(&store.clone().into_store(), Client::new(store.clone()), tasks).await?;
        store.close().await?;
        Ok(times)
    })
}
