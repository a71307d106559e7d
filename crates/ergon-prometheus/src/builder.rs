//! Chooses what the metrics tell apart and tell about themselves.

use std::sync::{Arc, atomic::AtomicU64};

use ergon_core::{Clock, SystemClock};

use crate::{
    board::Board,
    collect::descriptions,
    error::BuildError,
    label::label,
    metrics::{Build, Core, Metrics},
    names::{Bounds, Names},
    observer::{Feed, ObserverNumbers},
    shard::Shards,
};

/// Most names that a bound can be raised to.
const BOUND_MAX: usize = 10_000;

/// Chooses how [`Metrics`] work.
#[derive(Debug)]
#[must_use]
pub struct MetricsBuilder {
    queues_max: usize,
    kinds_max: usize,
    pairs_max: usize,
    backend: String,
    version: String,
    revision: String,
    feeds: Vec<Feed>,
    clock: Arc<dyn Clock>,
}

impl Default for MetricsBuilder {
    fn default() -> Self {
        Self {
            queues_max: 200,
            kinds_max: 500,
            pairs_max: 256,
            backend: "unknown".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: "unknown".to_owned(),
            feeds: Vec::new(),
            clock: Arc::new(SystemClock),
        }
    }
}

impl MetricsBuilder {
    /// How many queues the series tell apart; those that come later are counted as `_other`.
    /// Default 200, 1 to 10,000.
    pub const fn queues_max(mut self, queues: usize) -> Self {
        self.queues_max = queues;
        self
    }

    /// How many kinds the series tell apart. Default 500, 1 to 10,000.
    pub const fn kinds_max(mut self, kinds: usize) -> Self {
        self.kinds_max = kinds;
        self
    }

    /// How many pairs of a queue and a kind the series tell apart; tasks of later pairs are counted
    /// where queue and kind are both `_other`. Default 256, 1 to 10,000.
    ///
    /// A pair that does everything has 72 series and takes about 600 bytes a thread.
    pub const fn pairs_max(mut self, pairs: usize) -> Self {
        self.pairs_max = pairs;
        self
    }

    /// The store behind the tasks, for `ergon_build_info`. Default `unknown`.
    pub fn backend(mut self, backend: impl Into<String>) -> Self {
        self.backend = backend.into();
        self
    }

    /// The version of the program, for `ergon_build_info`. Default: that of this crate.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// The revision of the program, for `ergon_build_info`. Default `unknown`.
    pub fn revision(mut self, revision: impl Into<String>) -> Self {
        self.revision = revision.into();
        self
    }

    /// Where to ask, at every scrape, what observers of events are doing; may be called more than
    /// once.
    ///
    /// A scrape waits for the answer, so it must neither block nor panic.
    pub fn observers(
        mut self,
        numbers: impl Fn() -> Vec<ObserverNumbers> + Send + Sync + 'static,
    ) -> Self {
        self.feeds.push(Feed::new(numbers));
        self
    }

    /// The clock that ages are told by. Default: the machine's.
    ///
    /// The age of a task is as wrong as this clock differs from that of the store.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The metrics, with a registry of their own.
    ///
    /// # Errors
    ///
    /// [`BuildError::InvalidBound`] when a bound is out of its range; [`BuildError::Register`] when
    /// the library refuses a metric, which is a bug of this crate.
    pub fn build(self) -> Result<Metrics, BuildError> {
        let names = Names::new(Bounds {
            queues: bound("queues_max", self.queues_max)?,
            kinds: bound("kinds_max", self.kinds_max)?,
            pairs: bound("pairs_max", self.pairs_max)?,
        });
        let metrics = Metrics::new(Core {
            descriptions: descriptions()?,
            names,
            shards: Shards::new(),
            board: Board::default(),
            feeds: self.feeds,
            observers_folded: AtomicU64::new(0),
            queues_folded: AtomicU64::new(0),
            build: Build {
                version: label(&self.version),
                backend: label(&self.backend),
                revision: label(&self.revision),
            },
            clock: self.clock,
        })?;
        Ok(metrics)
    }
}

fn bound(field: &'static str, value: usize) -> Result<u16, BuildError> {
    let checked = u16::try_from(value).ok().filter(|_| (1..=BOUND_MAX).contains(&value));
    checked.ok_or(BuildError::InvalidBound { field, value, max: BOUND_MAX })
}
