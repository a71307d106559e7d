//! How a store is opened.

use std::{path::Path, sync::Arc, time::Duration};

use ergon_core::{Clock, Limits, Retention, SystemClock, transition::POISON_DEATHS_MAX};
use redb::Database;

use crate::{OpenError, RedbStore, open};

/// A function that is told how far the repair of a file has come, from 0 to 1.
pub(crate) type OnRepair = Arc<dyn Fn(f64) + Send + Sync>;

/// How a store is opened; begin with [`RedbStore::builder`].
#[must_use]
pub struct RedbOptions {
    pub(crate) cache_bytes: usize,
    pub(crate) window_tasks: usize,
    pub(crate) quick_repair_from_bytes: u64,
    pub(crate) careful_time: Duration,
    pub(crate) deaths_max: u16,
    pub(crate) journal_bytes_max: u64,
    pub(crate) journal_age_max: Duration,
    pub(crate) limits: Limits,
    pub(crate) retention: Retention,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) on_repair: Option<OnRepair>,
}

impl std::fmt::Debug for RedbOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedbOptions")
            .field("cache_bytes", &self.cache_bytes)
            .field("window_tasks", &self.window_tasks)
            .field("quick_repair_from_bytes", &self.quick_repair_from_bytes)
            .field("journal_bytes_max", &self.journal_bytes_max)
            .field("journal_age_max", &self.journal_age_max)
            .field("limits", &self.limits)
            .field("retention", &self.retention)
            .finish_non_exhaustive()
    }
}

impl Default for RedbOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 32 << 20,
            window_tasks: 1 << 17,
            quick_repair_from_bytes: 256 << 20,
            careful_time: Duration::from_secs(60),
            deaths_max: POISON_DEATHS_MAX,
            journal_bytes_max: 64 << 20,
            journal_age_max: Duration::from_secs(3600),
            limits: Limits::default(),
            retention: Retention::default(),
            clock: Arc::new(SystemClock),
            on_repair: None,
        }
    }
}

impl RedbOptions {
    /// Memory for pages of the file, in bytes. Default 32 MiB; at least 1 MiB.
    ///
    /// A larger cache makes little difference to a queue, which reads what it just wrote.
    pub const fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Waiting tasks held in memory, of all queues together, about 60 bytes each. Default 131,072;
    /// at least 1,024. More are found on disk when their turn comes.
    pub const fn window_tasks(mut self, tasks: usize) -> Self {
        self.window_tasks = tasks;
        self
    }

    /// From this size of the file on, commits keep what makes the repair after a crash quick, which
    /// makes small commits about 1.7 times as dear. Default 256 MiB: a full repair reads the whole
    /// file, at about 1 s a GiB. `u64::MAX` never does.
    pub const fn quick_repair_from_bytes(mut self, bytes: u64) -> Self {
        self.quick_repair_from_bytes = bytes;
        self
    }

    /// For so long after a crash, claims are written before they are answered, so that a task that
    /// kills its process at once is found out. Default 60 s, chosen without measurement.
    pub const fn careful_time(mut self, time: Duration) -> Self {
        self.careful_time = time;
        self
    }

    /// Deaths of processes after which a task that they ran is failed as poison when the store is
    /// opened. Default 10; at least 1.
    pub const fn deaths_max(mut self, deaths: u16) -> Self {
        self.deaths_max = deaths;
        self
    }

    /// Bytes of events that the journal keeps for those who watch. Default 64 MiB; at least 64 KiB.
    ///
    /// Older ones go with the commits that bring new ones, a sixteenth at a time; what the last
    /// commit recorded is always kept. Chosen without measurement.
    pub const fn journal_bytes_max(mut self, bytes: u64) -> Self {
        self.journal_bytes_max = bytes;
        self
    }

    /// How long the journal keeps events for those who watch, by the clock of the store. Default one
    /// hour; 1 second to 10 years.
    ///
    /// Older ones go, a sixteenth of that time late at the most, with the commits that bring new ones
    /// and with [`prune`](ergon_core::store::Maintain::prune); what the last commit recorded is always kept.
    /// Chosen without measurement.
    pub const fn journal_age_max(mut self, age: Duration) -> Self {
        self.journal_age_max = age;
        self
    }

    /// How large things may be, up to the caps. Default: [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits.capped();
        self
    }

    /// How long finished tasks are kept. Default: [`Retention::default`].
    pub const fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// The store's clock. Default: the machine's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Is told how far the repair of a file has come, from 0 to 1, when it was not closed.
    pub fn on_repair(mut self, tell: impl Fn(f64) + Send + Sync + 'static) -> Self {
        self.on_repair = Some(Arc::new(tell));
        self
    }

    /// Opens a file, or creates it if there is none.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]; nothing was changed.
    pub async fn open(self, path: impl AsRef<Path>) -> Result<RedbStore, OpenError> {
        let path = path.as_ref().to_owned();
        open::off_the_runtime(move || open::file(&self, &path)).await
    }

    /// Makes a store without a file; it is gone when its last handle is.
    ///
    /// # Errors
    ///
    /// [`OpenError::InvalidOption`].
    pub fn in_memory(self) -> Result<RedbStore, OpenError> {
        open::memory(&self)
    }

    /// Makes a store of a database that the application uses too. See
    /// [`RedbStore::with_database`].
    ///
    /// # Errors
    ///
    /// See [`OpenError`]; nothing was changed.
    pub async fn with_database(self, database: Arc<Database>) -> Result<RedbStore, OpenError> {
        open::off_the_runtime(move || open::shared(&self, database)).await
    }
}
