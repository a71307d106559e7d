//! The process that is killed.

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use ergon_core::{
    Client, Now, Page, ServerId, StateSet, Store, TaskFilter, TaskId, limits::PAGE_MAX,
};
use ergon_redb::RedbStore;
use ergon_server::ServerConfig;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;
use tokio::task::JoinSet;

use super::{
    direct::Worker,
    enqueuer::{Enqueuer, Gate},
    follower::Follower,
    ledger::Ledger,
    serving, store_file,
};
use crate::{
    process::answer,
    workload::{block_on, counts},
};

const ENQUEUERS: usize = 4;
/// Handlers that run at once, in the server or as workers.
pub(super) const CONCURRENCY: usize = 8;
/// Longer than any child lives: no lease ends, so no outcome may be refused as stale.
const LEASE: Duration = Duration::from_secs(600);
/// How often the backlog is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long the last child may need.
const DRAIN_MAX: Duration = Duration::from_secs(60);

/// How a child works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// Through the store's roles, until it is killed.
    Direct,
    /// Through the real server, until it is killed.
    Serving,
    /// Through the store's roles, enqueuing nothing, until everything is worked off.
    Drain,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Serving => "serving",
            Self::Drain => "drain",
        })
    }
}

/// A child of the crash loop. It says in one line of JSON when its store is open.
#[derive(Args, Debug)]
pub struct Child {
    /// Where the store and the ledger are.
    pub place: PathBuf,
    /// How it works.
    pub work: Work,
    /// The how manieth child it is.
    pub round: u32,
    /// What the random choices of the whole loop start from.
    pub seed: u64,
    /// Checks the whole store before it starts.
    #[arg(long)]
    pub check: bool,
}

impl Child {
    /// Works until it is killed, or everything is worked off.
    ///
    /// # Errors
    ///
    /// When anything goes wrong.
    pub fn run(&self) -> Result<()> {
        block_on(self.live())
    }

    async fn live(&self) -> Result<()> {
        let began = Instant::now();
        let store = RedbStore::open(store_file(&self.place)).await?;
        let open_seconds = began.elapsed().as_secs_f64();
        let problems = if self.check { check(&store).await? } else { Vec::new() };
        answer(&json!({ "open_seconds": open_seconds, "problems": problems }));

        let ledger = Ledger::begin(&self.place, self.round)?;
        let mut rng = StdRng::seed_from_u64(self.seed ^ (u64::from(self.round) << 32));
        let shared: Arc<dyn Store> = Arc::new(store.clone());
        let follower = Follower::resume(&self.place, &shared).await?;
        let mut working = JoinSet::new();
        // Held until the end: dropping it would end the server.
        let mut _server = None;
        match self.work {
            Work::Direct | Work::Drain => {
                let server = ServerId::from_u128(rng.random());
                for _ in 0..CONCURRENCY {
                    let (store, ledger) = (Arc::clone(&shared), ledger.clone());
                    let rng = StdRng::seed_from_u64(rng.random());
                    working.spawn(Worker { store, ledger, server, rng, lease: LEASE }.run());
                }
            }
            Work::Serving => {
                _server = Some(serving::start(&shared, ledger.clone(), ServerConfig::default())?);
            }
        }
        if self.work == Work::Drain {
            drain(&*shared, &mut working).await?;
            working.shutdown().await;
            follower.catch_up().await?;
            store.close().await?;
            answer(&json!({}));
            return Ok(());
        }
        working.spawn(follower.follow());
        let gate = Gate::default();
        working.spawn(gate.clone().watch(Arc::clone(&shared), LOOK_EVERY));
        for _ in 0..ENQUEUERS {
            let (client, ledger) = (Client::new(&shared), ledger.clone());
            let rng = StdRng::seed_from_u64(rng.random());
            working.spawn(Enqueuer { client, ledger, gate: gate.clone(), rng }.run());
        }
        failed(&mut working).await
    }
}

/// Waits until everything is worked off.
pub(super) async fn drain(store: &dyn Store, working: &mut JoinSet<Result<()>>) -> Result<()> {
    let is_over = async {
        while counts(store).await?.sum(StateSet::UNFINISHED) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        over = tokio::time::timeout(DRAIN_MAX, is_over) => match over {
            Ok(over) => over,
            Err(_elapsed) => {
                let left = counts(store).await?;
                bail!("unfinished after {DRAIN_MAX:?}: {left:?}")
            }
        },
        failed = failed(working) => failed,
    }
}

/// Waits until one of those that never end fails.
pub(super) async fn failed(working: &mut JoinSet<Result<()>>) -> Result<()> {
    let ended = working.join_next().await.context("nobody works")?;
    ended.context("somebody panicked")??;
    bail!("somebody stopped working")
}

/// Checks counters, indexes and unique keys; says what is wrong.
pub(super) async fn check(store: &RedbStore) -> Result<Vec<String>> {
    let mut problems = store.check().await?.problems;
    problems.extend(shared_keys(store).await?);
    Ok(problems)
}

/// Unique keys that several unfinished tasks hold.
pub(super) async fn shared_keys(store: &dyn Store) -> Result<Vec<String>> {
    let filter = TaskFilter::all().states(StateSet::UNFINISHED);
    let mut holders: HashMap<[u8; 32], TaskId> = HashMap::new();
    let mut problems = Vec::new();
    let mut page = Page::of(PAGE_MAX);
    loop {
        let found = store.list(&filter, &page, Now::Store).await?;
        for task in found.tasks {
            let Some(unique) = task.spec.unique else { continue };
            if let Some(other) = holders.insert(unique.hash, task.id) {
                problems.push(format!("{} and {other} hold the same unique key", task.id));
            }
        }
        let Some(next) = found.next else { return Ok(problems) };
        page = page.after(next);
    }
}
