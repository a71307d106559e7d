//! Role *maintain*: what has to be done now and then.

use async_trait::async_trait;

use crate::{error::StoreError, event::Event, time::Now, transition::POISON_DEATHS_MAX};

/// Asks to take tasks back from servers whose leases are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RescueRequest {
    /// How many tasks at the most: 1 to [`BATCH_MAX`](crate::limits::BATCH_MAX). Default 1,000.
    pub limit: usize,
    /// Deaths of servers after which a task is failed as poison. Default 10.
    pub deaths_max: u16,
    /// When.
    pub now: Now,
}

impl Default for RescueRequest {
    fn default() -> Self {
        Self { limit: SWEEP_LIMIT_DEFAULT, deaths_max: POISON_DEATHS_MAX, now: Now::Store }
    }
}

impl RescueRequest {
    /// At most so many tasks.
    #[must_use]
    pub const fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Fails a task as poison after so many deaths of servers.
    #[must_use]
    pub const fn deaths_max(mut self, deaths_max: u16) -> Self {
        self.deaths_max = deaths_max;
        self
    }

    /// At this instant.
    #[must_use]
    pub const fn now(mut self, now: Now) -> Self {
        self.now = now;
        self
    }
}

/// Asks to remove finished tasks that outlived their retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PruneRequest {
    /// How many tasks at the most: 1 to [`BATCH_MAX`](crate::limits::BATCH_MAX). Default 1,000.
    pub limit: usize,
    /// When.
    pub now: Now,
}

impl Default for PruneRequest {
    fn default() -> Self {
        Self { limit: SWEEP_LIMIT_DEFAULT, now: Now::Store }
    }
}

impl PruneRequest {
    /// At most so many tasks.
    #[must_use]
    pub const fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// At this instant.
    #[must_use]
    pub const fn now(mut self, now: Now) -> Self {
        self.now = now;
        self
    }
}

/// Tasks that one sweep handles when nothing is chosen. Chosen without measurement: small enough
/// not to hold up the writes of others.
pub const SWEEP_LIMIT_DEFAULT: usize = 1_000;

/// What a sweep did.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Report {
    /// Tasks that were changed or removed.
    pub done: usize,
    /// The limit ended the sweep: more is waiting.
    pub more: bool,
    /// Tasks that could not be handled, and were left as they are.
    pub skipped: usize,
    /// What happened, for sinks of this process: of a rescue an event a task, of a prune one in all.
    pub events: Vec<Event>,
}

/// Does what has to be done now and then.
#[async_trait]
pub trait Maintain: Send + Sync {
    /// Takes back running tasks whose lease is over, by
    /// [`rescue`](crate::transition::rescue), and makes their claims stale.
    ///
    /// A lease that a beat renewed in the meantime is left alone: token and expiry are checked in
    /// the same atomic operation as the change.
    ///
    /// # Errors
    ///
    /// [`StoreError::Rejected`] when the limit is out of range, and what the backend reports.
    async fn rescue_expired(&self, request: &RescueRequest) -> Result<Report, StoreError>;

    /// Removes finished tasks that outlived their retention; never an unfinished one. Removes documents
    /// that have expired too, without counting them.
    ///
    /// A task goes at the earliest when its retention is over, and at the latest in the first sweep
    /// one second after.
    ///
    /// # Errors
    ///
    /// [`StoreError::Rejected`] when the limit is out of range, and what the backend reports.
    async fn prune(&self, request: &PruneRequest) -> Result<Report, StoreError>;
}
