//! The benchmark of what is told about tasks: the bus, and who listens.
//!
//! Nothing of it touches a disk but the files of the stores that are followed.

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::{measure::Measure, plan::Listed};

mod metrics;
mod publish;
mod throughput;

/// A measure of events and those who listen.
///
/// The events are those of tasks, 136 bytes each. What stands after *by* is what the value is compared
/// with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Name {
    /// Time that a publisher spends an event, publishing them one by one to a bus that runs: with no
    /// reader, with one, and with 100 readers, which each read everything; by the time with one reader.
    #[value(name = "publish_1")]
    Publish1,
    /// The same, publishing 100 at a time.
    #[value(name = "publish_100")]
    Publish100,
    /// The same, publishing 100 at a time, with one reader that reads and 100 that never do; by the time
    /// without those.
    PublishStuck,
    /// Time that a publisher spends an event on metrics, publishing 100 at a time; `config` says how long
    /// it takes one by one, and when 50 queues and kinds take turns.
    MetricsPublish,
    /// Time of a scrape of 20,000 series, as text.
    #[value(name = "scrape_20k")]
    Scrape20k,
    /// Tasks a second through a server on the embedded store that tells metrics; by the rate of one that
    /// tells nobody.
    ThroughputMetrics,
    /// The same while the journal is followed by a bus with a reader, and the server tells nobody; by the rate
    /// without.
    ThroughputJournalWatcher,
    /// The same through a server that tells a bus with a reader that never reads; by the rate of one whose
    /// bus has none.
    ThroughputStuck,
    /// Events a second that are written to the journal of the embedded store, and read by a follower, while a
    /// server works tasks off.
    JournalRedb,
}

impl Listed for Name {
    fn is_long(self) -> bool {
        match self {
            Self::Publish1
            | Self::Publish100
            | Self::PublishStuck
            | Self::MetricsPublish
            | Self::Scrape20k
            | Self::ThroughputMetrics
            | Self::ThroughputJournalWatcher
            | Self::ThroughputStuck
            | Self::JournalRedb => false,
        }
    }
}

/// What to measure of events, and how.
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
        let groups: [Group; 5] = [
            publish::by_readers,
            publish::stuck,
            metrics::publish,
            metrics::scrape,
            throughput::rates,
        ];
        for group in groups {
            group(self)?.iter().for_each(&mut tell);
        }
        Ok(())
    }
}

/// Measures what belongs together, run by run; what the plan does not ask for is left out.
type Group = fn(&Plan) -> Result<Vec<Measure>>;
