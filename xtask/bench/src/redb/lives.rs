//! Whether memory and file stay as they are over many task lives.

use std::{
    ffi::OsString,
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
use ergon_server::{Queue, Server, ServerConfig};
use serde::{Deserialize, Serialize};

use super::{Name, Plan};
use crate::{
    measure::Measure,
    plan::progress,
    process, raw,
    serving::CONCURRENCY,
    workload::{Done, Noop, PAYLOAD_BYTES, counts},
};

/// How long a finished task is kept.
const RETENTION: Duration = Duration::from_secs(1);
const BATCH: u64 = 1_000;
/// Tasks that wait at the most: what keeps the live data of one size.
const BACKLOG: u64 = 50_000;

/// What a child answers that saw many tasks live and go.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Lived {
    /// Memory after a fifth of the lives, after three fifths, and at the end.
    rss_mib: [f64; 3],
    rss_peak_mib: f64,
    file_bytes: u64,
    /// The tasks in the store at the end, and the bytes of their rows.
    tasks: u64,
    stored_bytes: u64,
    seconds: f64,
}

/// Memory and file over 10,000,000 lives.
pub(super) fn lives(plan: &Plan) -> Result<Vec<Measure>> {
    if !plan.wants(Name::Lives10m) {
        return Ok(Vec::new());
    }
    let tasks = plan.scaled(10_000_000, 50_000);
    let mut measure = Measure::new("lives_10m", "MiB")
        .with("payload_bytes", PAYLOAD_BYTES)
        .with("tasks", tasks)
        .with("backlog_max", BACKLOG)
        .with("retention_s", RETENTION.as_secs())
        .with("raw_is", "memory after a fifth of the lives");
    for run in 1..=plan.runs {
        let scratch = plan.scratch()?;
        let count = tasks.to_string();
        let arguments: [OsString; 4] =
            ["child".into(), "lives".into(), scratch.file().into(), count.into()];
        let lived: Lived = process::ask(&plan.program, arguments)?;
        let [early, middle, late] = lived.rss_mib;
        progress("lives_10m", run, &format!("{early:.0}, {middle:.0}, {late:.0} MiB"));
        measure.push(late);
        measure.push_raw(early);
        measure.note("rss_at_2m_6m_10m_mib", lived.rss_mib.to_vec());
        measure.note("rss_peak_mib", lived.rss_peak_mib);
        measure.note("file_bytes", lived.file_bytes);
        measure.note("live_tasks", lived.tasks);
        measure.note("live_bytes", lived.stored_bytes);
        // Sizes are far below 2^53.
        measure.note("file_by_live", lived.file_bytes as f64 / lived.stored_bytes as f64);
        measure.note("seconds", lived.seconds);
    }
    Ok(vec![measure])
}

/// Lets so many tasks live and go, in this process.
pub(super) async fn live(path: &Path, tasks: u64) -> Result<Lived> {
    let store = RedbStore::open(path).await?;
    let client = Client::new(store.clone());
    let ran = Arc::new(AtomicU64::new(0));
    let handler = {
        let ran = Arc::clone(&ran);
        move |_task: Noop| {
            ran.fetch_add(1, Relaxed);
            std::future::ready(Done::Ok(()))
        }
    };
    let running = Server::builder(store.clone())
        .handler(handler)
        .queue(Queue::new("default").concurrency(CONCURRENCY))
        .config(ServerConfig::default().prune_interval(RETENTION))
        .build()?
        .start();
    let began = Instant::now();
    let mut rss_mib = Vec::new();
    let mut enqueued = 0;
    for upto in [tasks / 5, tasks / 5 * 3, tasks] {
        while enqueued < upto {
            let batch = (enqueued..enqueued + BATCH).map(Noop::new);
            client.enqueue_many(batch).retention(RETENTION).await?;
            enqueued += BATCH;
            while enqueued - ran.load(Relaxed) > BACKLOG {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        rss_mib.push(process::rss_mib()?);
    }
    let seconds = began.elapsed().as_secs_f64();
    let report = running.shutdown().await;
    ensure!(report.is_clean(), "{report:?}");
    let left = counts(&store).await?.total();
    store.close().await?;
    Ok(Lived {
        rss_mib: rss_mib.try_into().ok().context("three samples are taken")?,
        rss_peak_mib: process::rss_peak_mib()?,
        file_bytes: std::fs::metadata(path)?.len(),
        tasks: left,
        stored_bytes: raw::stored_bytes(path)?,
        seconds,
    })
}
