//! How long a claim takes when very much waits.

use std::{sync::Arc, time::Instant};

use anyhow::{Context, Result, ensure};
use ergon_core::{
    Client, KindName, NewTask, Now, QueueName, ServerId, Store, Task as _, TaskSpec,
    store::{ClaimRequest, IntoStore as _, QueueSlots},
};

use super::{Host, Name, Plan, host::ScatteredIds, raw};
use crate::{
    measure::{Goal, Measure, percentile},
    plan::{micros, progress},
    workload::{Noop, PAYLOAD_BYTES, block_on, enqueue_batches_by},
};

const CLAIM: usize = 100;
const BATCH: u64 = 1_000;
const MAX_MICROS: f64 = 5_000.0;

/// Claims of 100 from 5,000,000 tasks in packs, and from 1,000,000 that each have a row.
pub(super) fn deep(plan: &Plan, host: &Host) -> Result<Vec<Measure>> {
    if !plan.common.wants(Name::Claim5m) {
        return Ok(Vec::new());
    }
    let claims = plan.common.scaled(300, 3);
    let mut measures = Vec::new();
    for (p50_name, p99_name, tasks, is_packed) in [
        ("claim_5m_packs_p50", "claim_5m_packs_p99", 5_000_000, true),
        ("claim_1m_singles_p50", "claim_1m_singles_p99", 1_000_000, false),
    ] {
        let tasks = plan.common.scaled(tasks / 2_000, 20) * 2_000;
        let measure = |name| {
            Measure::new(name, "µs")
                .with("payload_bytes", PAYLOAD_BYTES)
                .with("tasks", tasks)
                .with("claim", CLAIM)
                .with("claims", claims)
                .with("raw_is", "mean commit of one row")
                .with_goal(Goal::AtMost(MAX_MICROS))
        };
        let commit = micros(raw::mean_commit(host)?);
        let times = times(host, tasks, claims, is_packed)?;
        let (mut middle, mut tail) = (measure(p50_name), measure(p99_name));
        middle.push_raw(commit);
        tail.push_raw(commit);
        middle.push(percentile(&times, 50).context("no claim was timed")?);
        let p99 = percentile(&times, 99).context("no claim was timed")?;
        tail.push(p99);
        tail.note("max_µs", percentile(&times, 100));
        progress(p99_name, 1, &format!("{p99:.0} µs"));
        measures.extend([middle, tail]);
    }
    Ok(measures)
}

/// Microseconds of each claim. What is claimed stays so.
fn times(host: &Host, tasks: u64, claims: u64, is_packed: bool) -> Result<Vec<f64>> {
    let database = host.database()?;
    block_on(async {
        let own = database.store().await?;
        let store: Arc<dyn Store> = own.clone().into_store();
        if is_packed {
            enqueue_batches_by(&Client::new(&store), 2, tasks / 2, BATCH).await?;
        } else {
            fill_one_by_one(&*store, tasks).await?;
        }
        let kinds: Arc<[KindName]> = [KindName::new(Noop::KIND)?].into();
        let server = ServerId::from_u128(1);
        let mut times = Vec::new();
        for _ in 0..claims {
            let queues = [QueueSlots { queue: QueueName::default(), slots: CLAIM }];
            let request = ClaimRequest::new(server, Arc::clone(&kinds), queues);
            let began = Instant::now();
            let claimed = store.claim(&request).await?;
            times.push(micros(began.elapsed()));
            ensure!(claimed.len() == CLAIM, "{} tasks were claimed", claimed.len());
        }
        own.close().await;
        Ok(times)
    })
}

/// Fills the queue by large statements with tasks that share no row all the same.
async fn fill_one_by_one(store: &dyn Store, tasks: u64) -> Result<()> {
    let (ids, kind) = (ScatteredIds::new(), KindName::new(Noop::KIND)?);
    for batch in 0..tasks / BATCH {
        let numbers = batch * BATCH..(batch + 1) * BATCH;
        let tasks: Vec<NewTask> = numbers
            .map(|number| {
                NewTask::new(ids.next(), TaskSpec::new(kind.clone(), Noop::payload(number)))
            })
            .collect();
        store.insert(&tasks, Now::Store).await?;
    }
    Ok(())
}
