//! The benchmark of the embedded store: which measures there are, and running them.
//!
//! Every run uses fresh files. What a measure is compared with is measured right before it, run by
//! run, so that whatever else the machine does hits both.

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::{measure::Measure, plan::Listed};

mod child;
mod drain;
mod enqueue;
mod latency;
mod lives;
mod whole;

pub use self::child::Child;

/// A measure of the embedded store.
///
/// All of them use the durable defaults, tasks that do nothing, payloads of about 100 bytes, and real
/// files. What stands after *by* is what the value is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Name {
    /// Enqueues a second of one caller, awaited one by one; by single-row commits a second of redb.
    #[value(name = "enqueue_1")]
    Enqueue1,
    /// Enqueues a second of 32 concurrent callers; by those of one.
    #[value(name = "enqueue_32")]
    Enqueue32,
    /// Tasks a second enqueued in batches of 1,000, encoding included; by 1,000-row commits of redb.
    EnqueueBatch,
    /// Tasks a second through a server of concurrency 64, from its start until the last of 200,000
    /// is completed durably; by moving rows from an index to a table in commits of 1,000.
    Drain,
    /// The same with 2,000,000 tasks; by the rate with 200,000.
    #[value(name = "drain_2m")]
    Drain2m,
    /// Median time from an enqueue to the start of its handler on an idle server; by the median of a
    /// single-row commit of redb.
    #[value(name = "latency_p50")]
    LatencyP50,
    /// The same at the 99th percentile; by the same.
    #[value(name = "latency_p99")]
    LatencyP99,
    /// Most memory of a process that drains 2,000,000 queued tasks.
    #[value(name = "rss_drain_2m")]
    RssDrain2m,
    /// Time to open a file with 2,000,000 queued tasks that was closed; `config` says how long it
    /// takes after a kill: of a process that filled it, and of one that had just opened it.
    #[value(name = "open_2m")]
    Open2m,
    /// Part of a core that an idle server uses.
    IdleCpu,
    /// Memory and file over 10,000,000 task lives; run only when asked for, because it is long.
    #[value(name = "lives_10m")]
    Lives10m,
}

impl Listed for Name {
    fn is_long(self) -> bool {
        self == Self::Lives10m
    }
}

/// What to measure of the embedded store, and how.
pub type Plan = crate::plan::Plan<Name>;

impl Plan {
    /// Measures, and tells of each measure once it is complete.
    ///
    /// # Errors
    ///
    /// When the plan is out of range, or anything goes wrong.
    pub fn run(&self, mut tell: impl FnMut(&Measure)) -> Result<()> {
        self.check()?;
        std::fs::create_dir_all(&self.dir)
            .with_context(|| format!("create {}", self.dir.display()))?;
        let groups: [Group; 8] = [
            enqueue::singles,
            enqueue::batches,
            drain::drains,
            latency::latencies,
            whole::rss_drain,
            whole::open,
            whole::idle,
            lives::lives,
        ];
        for group in groups {
            group(self)?.iter().for_each(&mut tell);
        }
        Ok(())
    }
}

/// Measures what belongs together, run by run; what the plan does not ask for is left out.
type Group = fn(&Plan) -> Result<Vec<Measure>>;
