//! What many task lives leave behind: log, dead rows, larger tables.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use ergon_core::{Client, Store, store::IntoStore as _};
use ergon_server::{Queue, Server, ServerConfig};
use serde_json::json;

use super::{Host, Name, Plan, host::Database};
use crate::{
    measure::{Goal, Measure},
    plan::{progress, rate},
    serving::CONCURRENCY,
    workload::{Done, Noop, PAYLOAD_BYTES, block_on, counts},
};

/// How long a finished task is kept.
const RETENTION: Duration = Duration::from_secs(1);
const BATCH: u64 = 1_000;
/// Tasks that wait at the most: what keeps the live data of one size.
const BACKLOG: u64 = 50_000;
/// How long the end may take: pruning what outlived its retention.
const END_MAX: Duration = Duration::from_secs(600);
/// Bytes that a table may grow by between three fifths of the lives and their end, in all: room for what
/// autovacuum has not come to yet.
const GROWTH_MAX: f64 = 1.5;

/// The retained history, which grows with the tasks that it retains, and is dropped by the day.
const HISTORY: &str = "pack";

/// Dead rows and bytes of every table, indexes included.
const TABLES: &str = "SELECT relname, n_dead_tup, pg_total_relation_size(relid) \
     FROM pg_stat_user_tables WHERE schemaname = 'ergon' ORDER BY relname";
const LOG: &str = "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn";

/// Dead rows and bytes by table.
type Tables = BTreeMap<String, (i64, i64)>;

/// Log and tables over so many lives.
pub(super) fn lives(plan: &Plan, host: &Host) -> Result<Vec<Measure>> {
    if !plan.common.wants(Name::Lives) {
        return Ok(Vec::new());
    }
    let tasks = plan.common.scaled(plan.lives / 5_000, 1) * 5_000;
    let lived = live(&host.database()?, tasks)?;
    let measure = |name, unit| {
        Measure::new(name, unit)
            .with("payload_bytes", PAYLOAD_BYTES)
            .with("tasks", tasks)
            .with("backlog_max", BACKLOG)
            .with("retention_s", RETENTION.as_secs())
    };
    let mut log = measure("lives_wal", "B/task");
    let mut growth = measure("lives_tables", "MB")
        .with("raw_is", "the same after three fifths of the lives")
        .with("what", "all tables but the retained history")
        .with_goal(Goal::RatioAtMost(GROWTH_MAX));
    log.push(lived.log_bytes);
    log.note("seconds", lived.seconds);
    log.note("tasks_per_second", rate(tasks, Duration::from_secs_f64(lived.seconds)));
    let size = |tables: &Tables| {
        let bytes: i64 =
            tables.iter().filter(|(name, _)| !name.starts_with(HISTORY)).map(|it| it.1.1).sum();
        // Sizes are far below 2^53.
        bytes as f64 / 1e6
    };
    growth.push(size(&lived.late));
    growth.push_raw(size(&lived.early));
    for (table, (dead, bytes)) in &lived.late {
        let (dead_early, bytes_early) = lived.early.get(table).copied().unwrap_or_default();
        let seen = json!({ "dead": [dead_early, dead], "bytes": [bytes_early, bytes] });
        progress("lives", 1, &format!("{table}: {seen}"));
        growth.note(table, seen);
    }
    progress("lives", 1, &format!("{:.0} B of log a task", lived.log_bytes));
    Ok(vec![log, growth])
}

/// What was seen.
struct Lived {
    seconds: f64,
    /// Bytes of log a task.
    log_bytes: f64,
    /// After three fifths of the lives, and at the end.
    early: Tables,
    late: Tables,
}

fn live(database: &Database<'_>, tasks: u64) -> Result<Lived> {
    block_on(async {
        let own = database.store().await?;
        let store: Arc<dyn Store> = own.clone().into_store();
        let ran = Arc::new(AtomicU64::new(0));
        let handler = {
            let ran = Arc::clone(&ran);
            move |_task: Noop| {
                ran.fetch_add(1, Relaxed);
                std::future::ready(Done::Ok(()))
            }
        };
        let running = Server::builder(&store)
            .handler(handler)
            .queue(Queue::new("default").concurrency(CONCURRENCY))
            .config(ServerConfig::default().prune_interval(RETENTION))
            .build()?
            .start();
        let (client, began) = (Client::new(&store), Instant::now());
        let log = log_bytes(database)?;
        enqueue(&client, &ran, 0..tasks / 5 * 3).await?;
        let early = tables(database)?;
        enqueue(&client, &ran, tasks / 5 * 3..tasks).await?;
        wait_until_pruned(&*store).await?;
        let seconds = began.elapsed().as_secs_f64();
        let report = running.shutdown().await;
        ensure!(report.is_clean(), "{report:?}");
        let late = tables(database)?;
        // Sizes are far below 2^53.
        let log_bytes = (log_bytes(database)? - log) as f64 / tasks as f64;
        own.close().await;
        Ok(Lived { seconds, log_bytes, early, late })
    })
}

async fn enqueue(client: &Client, ran: &AtomicU64, numbers: std::ops::Range<u64>) -> Result<()> {
    let mut from = numbers.start;
    while from < numbers.end {
        client.enqueue_many((from..from + BATCH).map(Noop::new)).retention(RETENTION).await?;
        from += BATCH;
        while from - ran.load(Relaxed) > BACKLOG {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    Ok(())
}

/// Waits until no task is left.
async fn wait_until_pruned(store: &dyn Store) -> Result<()> {
    let is_over = async {
        while counts(store).await?.total() > 0 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        anyhow::Ok(())
    };
    let over = tokio::time::timeout(END_MAX, is_over).await;
    over.context("tasks outlive their retention")?
}

fn log_bytes(database: &Database<'_>) -> Result<i64> {
    database.ask(LOG)?.first().copied().context("no position in the log")
}

fn tables(database: &Database<'_>) -> Result<Tables> {
    let mut tables = Tables::new();
    for row in database.rows(TABLES)? {
        let mut row = row.into_iter().map(|text| text.context("null"));
        let mut next = || row.next().context("a short row")?;
        let (name, dead, bytes) = (next()?, next()?, next()?);
        tables.insert(name, (dead.parse()?, bytes.parse()?));
    }
    Ok(tables)
}
