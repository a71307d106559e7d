//! The rate at which tasks come and go for a while, and what an old snapshot makes of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use ergon_core::{Client, Store, store::IntoStore as _};
use ergon_server::{Queue, Server};
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;

use super::{Host, Name, Plan, host::Database};
use crate::{
    measure::{Goal, Measure},
    plan::{progress, rate},
    serving::CONCURRENCY,
    workload::{Done, Noop, PAYLOAD_BYTES, block_on},
};

/// Tasks that wait at the most.
const BACKLOG: u64 = 50_000;
/// Without a snapshot nothing changes over time, so that it is measured for less long.
const PLAIN_MAX: Duration = Duration::from_secs(30);
const BUCKET: Duration = Duration::from_secs(10);
const BATCH: u64 = 500;

/// How tasks come.
#[derive(Clone, Copy, Debug)]
enum Load {
    /// Batches of 500 of two callers.
    Batches,
    /// One at a time of 256 callers.
    Singles,
}

/// Whether another session holds a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Snapshot {
    None,
    Held,
}

/// Both loads, each without a snapshot and with one.
pub(super) fn rates(plan: &Plan, host: &Host) -> Result<Vec<Measure>> {
    let mut measures = Vec::new();
    for (load, name, held_name, word, held_word) in [
        (Load::Batches, Name::Steady, Name::SteadyHeldSnapshot, "steady", "steady_held_snapshot"),
        (
            Load::Singles,
            Name::SteadySingles,
            Name::SteadySinglesHeldSnapshot,
            "steady_singles",
            "steady_singles_held_snapshot",
        ),
    ] {
        if !plan.common.wants_one_of(&[name, held_name]) {
            continue;
        }
        let time = Duration::from_secs(plan.seconds);
        let mut plain = measure(word, load);
        let seen = run(host, load, Snapshot::None, std::cmp::min(time, PLAIN_MAX))?;
        seen.tell(&mut plain);
        let rate = seen.rate;
        measures.push(plain);
        if plan.common.wants(held_name) {
            let mut held =
                measure(held_word, load).with("raw_is", word).with_goal(Goal::RatioAtLeast(0.7));
            run(host, load, Snapshot::Held, time)?.tell(&mut held);
            held.push_raw(rate);
            measures.push(held);
        }
    }
    Ok(measures)
}

fn measure(name: &'static str, load: Load) -> Measure {
    Measure::new(name, "tasks/s")
        .with("payload_bytes", PAYLOAD_BYTES)
        .with("concurrency", CONCURRENCY)
        .with("backlog_max", BACKLOG)
        .with("load", format!("{load:?}"))
}

/// What was seen.
struct Seen {
    seconds: f64,
    rate: f64,
    /// The rate in each bucket.
    buckets: Vec<f64>,
}

impl Seen {
    fn tell(&self, measure: &mut Measure) {
        measure.push(self.rate);
        measure.note("seconds", self.seconds);
        let buckets: Vec<String> = self.buckets.iter().map(|rate| format!("{rate:.0}")).collect();
        let words = format!("{:.0}/s; by 10 s: {}", self.rate, buckets.join(" "));
        measure.note("by_10_s", buckets);
        progress(measure.name(), 1, &words);
    }
}

/// Lets tasks come and go for so long.
fn run(host: &Host, load: Load, snapshot: Snapshot, time: Duration) -> Result<Seen> {
    let database = host.database()?;
    block_on(async {
        let own = database.store().await?;
        let store: Arc<dyn Store> = own.clone().into_store();
        let flow = Arc::new(Flow::default());
        let handler = {
            let flow = Arc::clone(&flow);
            move |_task: Noop| {
                flow.ran.fetch_add(1, Relaxed);
                std::future::ready(Done::Ok(()))
            }
        };
        let running = Server::builder(&store)
            .handler(handler)
            .queue(Queue::new("default").concurrency(CONCURRENCY))
            .build()?
            .start();
        let holder = match snapshot {
            Snapshot::None => None,
            Snapshot::Held => Some(hold(&database).await?),
        };
        let mut callers = flow.callers(&Client::new(&store), load);
        let (began, mut buckets) = (Instant::now(), Vec::new());
        let mut last = (began, 0);
        while began.elapsed() < time {
            let left = time.saturating_sub(began.elapsed());
            tokio::time::sleep(std::cmp::min(BUCKET, left)).await;
            let (now, ran) = (Instant::now(), flow.ran.load(Relaxed));
            buckets.push(rate(ran - last.1, now - last.0));
            last = (now, ran);
        }
        let (ran, elapsed) = (flow.ran.load(Relaxed), began.elapsed());
        flow.stop.store(true, Relaxed);
        while let Some(ended) = callers.join_next().await {
            ended.context("a caller panicked")??;
        }
        if let Some(mut holder) = holder {
            // It is an error if the session was ended: then no snapshot was held.
            sqlx::raw_sql("COMMIT").execute(&mut holder).await?;
            holder.close().await?;
        }
        running.shutdown().await;
        own.close().await;
        Ok(Seen { seconds: elapsed.as_secs_f64(), rate: rate(ran, elapsed), buckets })
    })
}

/// Begins a transaction that keeps everything alive that is alive now.
async fn hold(database: &Database<'_>) -> Result<PgConnection> {
    let mut holder = database.connect().await?;
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM ergon.ready")
        .execute(&mut holder)
        .await?;
    Ok(holder)
}

/// How many tasks came and went.
#[derive(Debug, Default)]
struct Flow {
    came: AtomicU64,
    ran: AtomicU64,
    stop: AtomicBool,
}

impl Flow {
    /// Starts those who enqueue.
    fn callers(self: &Arc<Self>, client: &Client, load: Load) -> JoinSet<Result<()>> {
        let (callers, batch) = match load {
            Load::Batches => (2, BATCH),
            Load::Singles => (256, 1),
        };
        let mut running = JoinSet::new();
        for _ in 0..callers {
            let (flow, client) = (Arc::clone(self), client.clone());
            running.spawn(async move { flow.enqueue(&client, batch).await });
        }
        running
    }

    async fn enqueue(&self, client: &Client, batch: u64) -> Result<()> {
        while !self.stop.load(Relaxed) {
            let came = self.came.load(Relaxed);
            if came.saturating_sub(self.ran.load(Relaxed)) > BACKLOG {
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            }
            if batch == 1 {
                client.enqueue(Noop::new(came)).await?;
            } else {
                client.enqueue_many((came..came + batch).map(Noop::new)).await?;
            }
            self.came.fetch_add(batch, Relaxed);
        }
        Ok(())
    }
}
