//! A process of the crash loop over one database.

use std::{
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::{Args, ValueEnum};
use ergon_core::{
    Client, ServerId, Store,
    store::{IntoStore as _, RescueRequest},
};
use ergon_postgres::PostgresStore;
use ergon_server::ServerConfig;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    process::answer,
    torture::{
        child::{CONCURRENCY, drain, failed},
        direct::Worker,
        enqueuer::{Enqueuer, Gate, unless_transient},
        follower::Follower,
        ledger::Ledger,
        serving,
    },
    workload::block_on,
};

/// Callers of a process that enqueues.
const ENQUEUERS: usize = 2;
/// Short, so that what a killed process held is soon taken back.
const LEASE: Duration = Duration::from_secs(2);
/// How often leases that are over are looked for.
const RESCUE_EVERY: Duration = Duration::from_millis(500);
/// How often the backlog is looked at, by each process that enqueues.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Enqueues, until it is killed.
    Enqueue,
    /// Works through the store's roles, until it is killed.
    Direct,
    /// Works through the real server, until it is killed.
    Serving,
    /// Follows the journal, until it is killed.
    Follow,
    /// Works through the store's roles, until everything is worked off; then follows the journal to
    /// its end.
    Drain,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enqueue => "enqueue",
            Self::Direct => "direct",
            Self::Serving => "serving",
            Self::Follow => "follow",
            Self::Drain => "drain",
        })
    }
}

/// A process of the crash loop. It says in one line of JSON when its store is open.
#[derive(Args, Debug)]
pub struct Child {
    /// Where the ledger is.
    pub place: PathBuf,
    /// The database.
    pub url: String,
    /// What it does.
    pub role: Role,
    /// The how manieth process it is.
    pub round: u32,
    /// What the random choices of the whole loop start from.
    pub seed: u64,
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
        let own = PostgresStore::connect(&self.url).await?;
        let store: Arc<dyn Store> = own.clone().into_store();
        let follower = match self.role {
            Role::Follow | Role::Drain => Some(Follower::resume(&self.place, &store).await?),
            Role::Enqueue | Role::Direct | Role::Serving => None,
        };
        answer(&json!({ "open_seconds": began.elapsed().as_secs_f64(), "problems": [] }));
        let ledger = Ledger::begin(&self.place, self.round)?;
        let mut rng = StdRng::seed_from_u64(self.seed ^ (u64::from(self.round) << 32));
        let mut working = JoinSet::new();
        // Held until the end: dropping it would end the server.
        let mut _server = None;
        match self.role {
            Role::Enqueue => {
                let gate = Gate::default();
                working.spawn(gate.clone().watch(Arc::clone(&store), LOOK_EVERY));
                for _ in 0..ENQUEUERS {
                    let (client, ledger) = (Client::new(&store), ledger.clone());
                    let rng = StdRng::seed_from_u64(rng.random());
                    working.spawn(Enqueuer { client, ledger, gate: gate.clone(), rng }.run());
                }
            }
            Role::Direct | Role::Drain => {
                let server = ServerId::from_u128(rng.random());
                for _ in 0..CONCURRENCY {
                    let (store, ledger) = (Arc::clone(&store), ledger.clone());
                    let rng = StdRng::seed_from_u64(rng.random());
                    working.spawn(Worker { store, ledger, server, rng, lease: LEASE }.run());
                }
                working.spawn(rescue(Arc::clone(&store)));
            }
            Role::Serving => {
                let config = ServerConfig::default().lease(LEASE).rescue_interval(RESCUE_EVERY);
                _server = Some(serving::start(&store, ledger.clone(), config)?);
                working.spawn(std::future::pending());
            }
            Role::Follow => {}
        }
        if let Some(follower) = follower {
            if self.role == Role::Follow {
                return follower.follow().await;
            }
            drain(&*store, &mut working).await?;
            working.shutdown().await;
            follower.catch_up().await?;
            own.close().await;
            answer(&json!({}));
            return Ok(());
        }
        failed(&mut working).await
    }
}

/// Takes tasks back from processes that were killed, as a server does.
async fn rescue(store: Arc<dyn Store>) -> Result<()> {
    loop {
        let report = store.rescue_expired(&RescueRequest::default()).await.map_err(Into::into);
        if unless_transient(report).await?.is_some_and(|report| !report.more) {
            tokio::time::sleep(RESCUE_EVERY).await;
        }
    }
}
