//! How soon a task starts when the server has nothing else to do.

use anyhow::{Context, Result};
use ergon_core::{Client, store::IntoStore as _};

use super::{Host, Name, Plan, raw};
use crate::{
    measure::{Goal, Measure, percentile},
    plan::{micros, progress},
    serving::start_times,
    workload::{PAYLOAD_BYTES, block_on},
};

const P50_MAX: Goal = Goal::AtMost(1_500.0);
const P99_MAX: Goal = Goal::AtMost(5_000.0);

/// Through whose connections a task is enqueued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    TheStoreOfTheServer,
    AnotherStore,
}

/// From the enqueue to the handler: the median, and the tail.
pub(super) fn latencies(plan: &Plan, host: &Host) -> Result<Vec<Measure>> {
    let tasks = plan.common.scaled(1_000, 20);
    let measure = |name| {
        Measure::new(name, "µs")
            .with("payload_bytes", PAYLOAD_BYTES)
            .with("tasks", tasks)
            .with("raw_is", "mean commit of one row")
            .with("paced_by", "the task before is completed durably")
    };
    let mut measures = Vec::new();
    for (name, p50_name, p99_name, from) in [
        (Name::Latency, "latency_p50", "latency_p99", From::TheStoreOfTheServer),
        (Name::LatencyOther, "latency_other_p50", "latency_other_p99", From::AnotherStore),
    ] {
        if !plan.common.wants(name) {
            continue;
        }
        let mut middle = measure(p50_name).with_goal(P50_MAX);
        let mut tail = measure(p99_name).with_goal(P99_MAX);
        for run in 1..=plan.common.runs {
            let commit = micros(raw::mean_commit(host)?);
            let times = times(host, from, tasks)?;
            let p50 = percentile(&times, 50).context("no start was timed")?;
            let p99 = percentile(&times, 99).context("no start was timed")?;
            progress(p50_name, run, &format!("{p50:.0} µs, p99 {p99:.0} µs"));
            middle.push(p50);
            middle.push_raw(commit);
            tail.push(p99);
            tail.push_raw(commit);
        }
        measures.extend([middle, tail]);
    }
    Ok(measures)
}

/// Microseconds from each of so many enqueues to the start of its handler.
fn times(host: &Host, from: From, tasks: u64) -> Result<Vec<f64>> {
    let database = host.database()?;
    block_on(async {
        let store = database.store().await?;
        let other = match from {
            From::TheStoreOfTheServer => store.clone(),
            From::AnotherStore => database.store().await?,
        };
        let client = Client::new(other.clone());
        let times = start_times(&store.clone().into_store(), client, tasks).await?;
        other.close().await;
        store.close().await;
        Ok(times)
    })
}
