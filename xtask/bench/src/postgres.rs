//! The benchmark of the Postgres store: which measures there are, and running them.
//!
//! All of them run against one throw-away cluster that keeps what it is told to keep, over TCP on
//! this machine, each run in a database of its own. What a measure is compared with is measured right
//! before it, run by run, so that whatever else the machine does hits both.

use anyhow::{Context, Result};
use clap::ValueEnum;

use self::host::Host;
use crate::{measure::Measure, plan::Listed};

mod child;
mod claim;
mod drain;
mod enqueue;
mod host;
mod idle;
mod journal;
mod latency;
mod lives;
mod raw;
mod steady;

pub use self::child::Child;

/// A measure of the Postgres store.
///
/// All of them use the durable defaults, tasks that do nothing, and payloads of about 100 bytes. What
/// stands after *by* is what the value is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Name {
    /// Rows a second by plain `INSERT … SELECT unnest` of the same bytes, 1,000 a statement, on one
    /// connection, and on two.
    RawUnnest,
    /// Commits of one row a second by one connection, and by 32.
    RawCommit,
    /// Rows a second by claiming and deleting 500 a statement on two connections.
    RawClaimDelete,
    /// Enqueues a second of one caller, awaited one by one; by commits of one row.
    #[value(name = "enqueue_1")]
    Enqueue1,
    /// Enqueues a second of 32 concurrent callers of one client; by commits of one row on 32
    /// connections.
    #[value(name = "enqueue_32")]
    Enqueue32,
    /// Tasks a second enqueued in batches of 1,000 by two callers, encoding included; by `unnest` on
    /// two connections.
    #[value(name = "enqueue_many_1000")]
    EnqueueMany1000,
    /// Tasks a second through a server of concurrency 64, from its start until the last of 200,000
    /// is completed durably; they were enqueued one at a time by many callers. By claim and delete.
    Drain,
    /// The same with ids that have nothing in common, so that no two tasks share a row.
    DrainScattered,
    /// The same with 1,000,000 tasks that were enqueued in batches of 1,000.
    DrainPacks,
    /// Tasks a second while two callers enqueue batches of 500 as fast as they can and a server works
    /// them off.
    Steady,
    /// The same while another session holds a snapshot; by the rate without.
    SteadyHeldSnapshot,
    /// Tasks a second while 256 callers enqueue one at a time and a server works them off.
    SteadySingles,
    /// The same while another session holds a snapshot; by the rate without.
    SteadySinglesHeldSnapshot,
    /// Median and 99th percentile of the time from an enqueue to the start of its handler on an idle
    /// server, through the store of the server.
    Latency,
    /// The same through another store, with a pool of its own, as another process has it.
    LatencyOther,
    /// Median and 99th percentile of the time of a claim of 100 when 5,000,000 tasks wait in packs,
    /// and when 1,000,000 wait one by one.
    #[value(name = "claim_5m")]
    Claim5m,
    /// Statements a second, and part of a core, of an idle server.
    Idle,
    /// Events a second that are written to the journal and read by a follower, while batches of 100 are
    /// enqueued and worked off.
    Journal,
    /// The 99th percentile of the time from an enqueue to its event in another store, with the doorbell and
    /// by polling alone.
    NoticeOther,
    /// Log written a task, and growth of the tables, over 10,000,000 task lives.
    Lives,
}

impl Listed for Name {
    fn is_long(self) -> bool {
        matches!(
            self,
            Self::Steady
                | Self::SteadyHeldSnapshot
                | Self::SteadySingles
                | Self::SteadySinglesHeldSnapshot
                | Self::Claim5m
                | Self::Lives
        )
    }
}

/// What to measure of the Postgres store, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is common to all stores.
    pub common: crate::plan::Plan<Name>,
    /// How long a snapshot is held, and the load without one lasts at the most, in seconds.
    pub seconds: u64,
    /// How many tasks live and go.
    pub lives: u32,
    /// Parameters of the server beyond those of every benchmark, by name.
    pub settings: Vec<(String, String)>,
}

impl Plan {
    /// Measures, and tells of each measure once it is complete.
    ///
    /// # Errors
    ///
    /// When the plan is out of range, there is no Postgres on this machine, or anything goes wrong.
    pub fn run(&self, mut tell: impl FnMut(&Measure)) -> Result<()> {
        self.common.check()?;
        let dir = &self.common.dir;
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let host = Host::start(dir, &self.settings)?;
        let groups: [Group; 10] = [
            enqueue::singles,
            enqueue::batches,
            drain::scattered_or_joined,
            drain::packs,
            steady::rates,
            latency::latencies,
            claim::deep,
            idle::idle,
            journal::followed,
            lives::lives,
        ];
        for group in groups {
            let measures = group(self, &host)
                .with_context(|| format!("the log of the server ends with\n{}", host.log()))?;
            measures.iter().for_each(&mut tell);
        }
        Ok(())
    }
}

/// Measures what belongs together, run by run; what the plan does not ask for is left out.
type Group = fn(&Plan, &Host) -> Result<Vec<Measure>>;
