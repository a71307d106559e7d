//! What can be chosen about a server, and which choices are refused.

use std::time::Duration;

use ergon_core::{QueueName, limits::BATCH_MAX, store::LEASE_DEFAULT};

use crate::error::StartError;

/// Attempts of a queue that run at once when nothing is chosen: as in ergon for Go.
pub const CONCURRENCY_DEFAULT: usize = 10;

/// Most attempts of one queue, or of one server, that run at once.
pub const CONCURRENCY_MAX: usize = 10_000;

/// Shortest lease: beats and sweeps need room in it.
pub const LEASE_MIN: Duration = Duration::from_millis(100);

/// How a [`Server`](crate::Server) works; fixed once it is built.
///
/// Every number is chosen without measurement unless its line says where it comes from.
///
/// ```
/// use std::time::Duration;
///
/// use ergon_server::ServerConfig;
///
/// let config = ServerConfig::new().concurrency(100).grace_period(Duration::from_secs(60));
/// # assert_eq!(config.concurrency, Some(100));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerConfig {
    /// Attempts that run at once over all queues: 1 to 10,000. Default: what the queues allow
    /// together.
    pub concurrency: Option<usize>,
    /// How long a claim lives unless a beat renews it: 100 ms to 1 h. Default 30 s.
    ///
    /// When the server dies, others take its tasks back this long after.
    pub lease: Duration,
    /// Time between beats, at most half the lease. Default 2 s, or a third of the lease if that is
    /// less. A running task learns within this time that it was cancelled.
    pub heartbeat_interval: Option<Duration>,
    /// Longest time between two looks for work when the store gives no hint of any: 1 ms to 1 min.
    /// Default 5 s: the stores here see to it that hints come, and look for themselves where they
    /// may be lost.
    pub poll_interval: Duration,
    /// Time between sweeps for tasks of dead servers: 1 ms to 1 h. Default 5 s.
    pub rescue_interval: Duration,
    /// Time between sweeps for finished tasks that outlived their retention: 1 ms to 1 day. Default
    /// 60 s.
    pub prune_interval: Duration,
    /// Time between two signs of life, by which people see that the server lives: 1 s to 1 min. Default
    /// 10 s. After three of them without one it counts as lost. No task depends on it.
    pub presence_interval: Duration,
    /// Whether the server counts what it does, and writes the counts to the store every 10 s. Default
    /// true.
    pub statistics: bool,
    /// How long an attempt may run when neither the task nor its handler says: 1 ms to 10 years.
    /// Default 30 min, as in ergon for Go.
    pub default_timeout: Duration,
    /// How long a shutdown lets handlers go on before it asks them to stop. Default 30 s.
    pub grace_period: Duration,
    /// How long a handler that was asked to stop may go on before it is dropped. Default 5 s.
    pub abort_period: Duration,
    /// How long a shutdown tries to record the last outcomes. Default 2 s.
    pub flush_period: Duration,
    /// How long one call of the store may take, except a claim: 1 ms to 10 min. Default 10 s.
    pub store_timeout: Duration,
    /// Outcomes recorded by one call of the store: 1 to 10,000. Default 1,000.
    pub flush_batch_max: usize,
    /// How long an outcome waits for others when a call of the store is under way already: up to
    /// 1 s. Default 5 ms. When none is under way it never waits.
    pub flush_age: Duration,
    /// Outcomes that wait to be recorded, beyond which no further task is started: 1 to 1,000,000.
    /// Default 2,048: measured, far larger ones make deep drains slower, as what runs no longer fits
    /// the processor's cache.
    pub outcomes_max: usize,
    /// Most tasks that are claimed before there are slots for them: 0 to 10,000. Default 1,024.
    ///
    /// So many are claimed ahead as the slots work off while three claims are answered, so that they do
    /// not wait for the store: none when handlers take long, and never more than 50 ms of work. What
    /// is claimed and not started after 100 ms is given back, with no attempt spent. A task that is
    /// enqueued with a higher priority starts behind those that were claimed by then. 0 claims for
    /// free slots alone.
    pub claim_ahead_max: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            concurrency: None,
            lease: LEASE_DEFAULT,
            heartbeat_interval: None,
            poll_interval: Duration::from_secs(5),
            rescue_interval: Duration::from_secs(5),
            prune_interval: Duration::from_secs(60),
            presence_interval: ergon_core::servers::INTERVAL_DEFAULT,
            statistics: true,
            default_timeout: Duration::from_secs(30 * 60),
            grace_period: Duration::from_secs(30),
            abort_period: Duration::from_secs(5),
            flush_period: Duration::from_secs(2),
            store_timeout: Duration::from_secs(10),
            flush_batch_max: 1_000,
            flush_age: Duration::from_millis(5),
            outcomes_max: 2_048,
            claim_ahead_max: 1_024,
        }
    }
}

macro_rules! setters {
    ($($name:ident: $type:ty => $value:expr;)*) => {
        impl ServerConfig {
            $(
                #[doc = concat!("Chooses [`", stringify!($name), "`](field@Self::", stringify!($name), ").")]
                #[must_use]
                pub const fn $name(mut self, $name: $type) -> Self {
                    self.$name = $value;
                    self
                }
            )*
        }
    };
}

setters! {
    concurrency: usize => Some(concurrency);
    lease: Duration => lease;
    heartbeat_interval: Duration => Some(heartbeat_interval);
    poll_interval: Duration => poll_interval;
    rescue_interval: Duration => rescue_interval;
    prune_interval: Duration => prune_interval;
    presence_interval: Duration => presence_interval;
    statistics: bool => statistics;
    default_timeout: Duration => default_timeout;
    grace_period: Duration => grace_period;
    abort_period: Duration => abort_period;
    flush_period: Duration => flush_period;
    store_timeout: Duration => store_timeout;
    flush_batch_max: usize => flush_batch_max;
    flush_age: Duration => flush_age;
    outcomes_max: usize => outcomes_max;
    claim_ahead_max: usize => claim_ahead_max;
}

/// Chosen without measurement: soon enough for whoever cancels a task and watches it stop, and seldom
/// enough to cost a store nothing.
const BEAT_INTERVAL: Duration = Duration::from_secs(2);

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

impl ServerConfig {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Time between beats.
    pub(crate) fn beat_interval(&self) -> Duration {
        let default = std::cmp::min(BEAT_INTERVAL, self.lease / 3);
        self.heartbeat_interval.unwrap_or(default)
    }

    /// How long before the end of a lease that could not be renewed its handler is told.
    pub(crate) fn lease_margin(&self) -> Duration {
        self.lease / 10
    }

    pub(crate) fn check(&self) -> Result<(), StartError> {
        within("lease", self.lease, LEASE_MIN, HOUR)?;
        let beat_max = self.lease / 2;
        within("heartbeat_interval", self.beat_interval(), MILLISECOND, beat_max)?;
        within("poll_interval", self.poll_interval, MILLISECOND, HOUR / 60)?;
        within("rescue_interval", self.rescue_interval, MILLISECOND, HOUR)?;
        within("prune_interval", self.prune_interval, MILLISECOND, HOUR * 24)?;
        within("presence_interval", self.presence_interval, SECOND, HOUR / 60)?;
        let horizon = ergon_core::limits::HORIZON;
        within("default_timeout", self.default_timeout, MILLISECOND, horizon)?;
        within("grace_period", self.grace_period, Duration::ZERO, horizon)?;
        within("abort_period", self.abort_period, Duration::ZERO, horizon)?;
        within("flush_period", self.flush_period, Duration::ZERO, horizon)?;
        within("store_timeout", self.store_timeout, MILLISECOND, HOUR / 6)?;
        within("flush_age", self.flush_age, Duration::ZERO, SECOND)?;
        let concurrency = self.concurrency.unwrap_or(1);
        within("concurrency", concurrency, 1, CONCURRENCY_MAX)?;
        within("flush_batch_max", self.flush_batch_max, 1, BATCH_MAX)?;
        within("outcomes_max", self.outcomes_max, 1, 1_000_000)?;
        within("claim_ahead_max", self.claim_ahead_max, 0, CLAIM_MAX)
    }
}

fn within<T: PartialOrd + std::fmt::Debug>(
    field: &'static str,
    value: T,
    least: T,
    most: T,
) -> Result<(), StartError> {
    if value >= least && value <= most {
        return Ok(());
    }
    let reason = format!("{value:?} is not within {least:?}..={most:?}");
    Err(StartError::InvalidConfig { field, reason })
}

/// A queue that a server serves, and how.
///
/// Queues of a higher priority are emptied before those of a lower one get anything. Among queues
/// of the same priority the weights share what the server can run; what one of them does not need
/// goes to the others. Both matter only when the server's
/// [`concurrency`](ServerConfig::concurrency) is smaller than what its queues allow together.
///
/// ```
/// use ergon_server::Queue;
///
/// let queue = Queue::new("mail").concurrency(20).weight(3).priority(1);
/// # assert_eq!(queue.name(), "mail");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Queue {
    name: String,
    concurrency: usize,
    weight: u32,
    priority: i16,
}

impl Queue {
    /// Serves the queue of this name: 1 to 128 bytes of `[A-Za-z0-9._:/-]`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), concurrency: CONCURRENCY_DEFAULT, weight: 1, priority: 0 }
    }

    /// Attempts of this queue that run at once on this server: 1 to 10,000. Default 10.
    pub const fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// The share among queues of the same priority: 1 to 1,000. Default 1.
    pub const fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Larger is emptied first. Default 0.
    pub const fn priority(mut self, priority: i16) -> Self {
        self.priority = priority;
        self
    }

    /// The name of the queue.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn check(self) -> Result<Served, StartError> {
        within("queue concurrency", self.concurrency, 1, CONCURRENCY_MAX)?;
        within("queue weight", self.weight, 1, 1_000)?;
        let name = QueueName::new(&self.name).map_err(|error| StartError::InvalidConfig {
            field: "queue",
            reason: error.to_string(),
        })?;
        Ok(Served {
            name,
            concurrency: self.concurrency,
            weight: self.weight,
            priority: self.priority,
        })
    }
}

/// A queue that was checked.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) name: QueueName,
    pub(crate) concurrency: usize,
    pub(crate) weight: u32,
    pub(crate) priority: i16,
}

/// Most tasks of one claim.
pub(crate) const CLAIM_MAX: usize = BATCH_MAX;
