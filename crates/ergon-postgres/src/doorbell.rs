//! The doorbell: tells those who wait, in this process and in others, that there may be work.
//!
//! A ring is a hint. It follows a commit, so it is never part of a transaction, may be lost, and may
//! wake for nothing; who waits looks again from time to time. Rings of this process reach its own
//! waits at once and without the database; those of others come by `NOTIFY`, on one connection that
//! belongs to no pool. The connection is opened when somebody rings or waits for the first time, and
//! listens only when somebody waits: a process that only enqueues is never woken by others.

use std::{fmt, sync::Arc, time::Duration};

use ergon_core::{QueueName, Rng, SystemRng};
use sqlx::postgres::PgConnectOptions;
use tokio::runtime::Handle;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use self::{line::Line, outgoing::Outgoing};

mod bell;
mod line;
mod outgoing;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    bell::{Bell, Look, Rings, Watch},
    line::RING,
};

/// Shortest time between two notifications of one process: rings within it are sent as one. As
/// `NOTIFY` takes a lock that all databases of a server share, there must not be many. Chosen
/// without measurement.
const GATHER: Duration = Duration::from_millis(2);

/// The same for readers of the journal, who want to know soon and not at once. Chosen without measurement.
const GATHER_JOURNAL: Duration = Duration::from_millis(20);

/// How often the connection is tried, and how long an answer may take before it is given up: the
/// ping of River, a comparable queue.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_DEADLINE: Duration = Duration::from_secs(5);

/// First and longest pause before a lost connection is opened anew; doubled each time, then
/// shortened at random by up to half, so that processes do not return together.
const RECONNECT_FIRST: Duration = Duration::from_millis(100);
const RECONNECT_LONGEST: Duration = Duration::from_secs(10);

/// The times of a doorbell; other ones in tests only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) gather: Duration,
    pub(crate) gather_journal: Duration,
    pub(crate) ping_interval: Duration,
    pub(crate) ping_deadline: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            gather: GATHER,
            gather_journal: GATHER_JOURNAL,
            ping_interval: PING_INTERVAL,
            ping_deadline: PING_DEADLINE,
        }
    }
}

/// How a doorbell is made.
#[derive(Clone, Debug)]
pub(crate) struct DoorbellConfig {
    /// How its connection is opened; `None` when it is to have none, and to reach only this process.
    pub(crate) connect: Option<PgConnectOptions>,
    /// The schema of the store, without quotes: it names the channel. At most 48 bytes.
    pub(crate) schema: String,
    /// Shortens pauses.
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) times: Times,
}

impl DoorbellConfig {
    /// The channel of the schema.
    fn channel(&self) -> String {
        format!("{}.due", self.schema)
    }

    /// The channel of the schema for those who read the journal.
    fn journal_channel(&self) -> String {
        format!("{}.journal", self.schema)
    }

    /// A doorbell for the store in this schema; without `connect`, it reaches only this process.
    pub(crate) fn new(connect: Option<PgConnectOptions>, schema: impl Into<String>) -> Self {
        let rng = Arc::new(SystemRng);
        Self { connect, schema: schema.into(), rng, times: Times::default() }
    }
}

/// Rings, and hears others ring.
///
/// Its connection is closed within a second or so after it is dropped.
pub(crate) struct Doorbell {
    bell: Arc<Bell>,
    /// `None` when it reaches only this process.
    outgoing: Option<Arc<Outgoing>>,
    /// `None` when it reaches only this process.
    channels: Option<Channels>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Stops when the doorbell is dropped.
    _stop: DropGuard,
}

/// The channels on which other processes hear a doorbell.
#[derive(Clone, Debug)]
pub(crate) struct Channels {
    pub(crate) work: String,
    pub(crate) journal: String,
}

impl fmt::Debug for Doorbell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_listening = self.bell.is_listening();
        f.debug_struct("Doorbell").field("is_listening", &is_listening).finish_non_exhaustive()
    }
}

impl Doorbell {
    /// Starts a doorbell. Outside of a tokio runtime it reaches only this process.
    pub(crate) fn start(config: DoorbellConfig) -> Self {
        let (bell, tasks) = (Arc::new(Bell::default()), TaskTracker::new());
        let stop = CancellationToken::new();
        let outgoing = config.connect.clone().and_then(|connect| {
            let runtime = Handle::try_current().ok()?;
            let outgoing = Arc::new(Outgoing::default());
            let line = Line::new(connect, &config, Arc::clone(&bell), Arc::clone(&outgoing));
            let stop = stop.clone();
            tasks.spawn_on(async move { line.run(stop).await }, &runtime);
            Some(outgoing)
        });
        tasks.close();
        let (work, journal) = (config.channel(), config.journal_channel());
        let channels = outgoing.is_some().then_some(Channels { work, journal });
        Self { bell, outgoing, channels, tasks, _stop: stop.clone().drop_guard(), stop }
    }

    /// The channels on which other processes hear it; `None` when it reaches only this process.
    pub(crate) const fn channels(&self) -> Option<&Channels> {
        self.channels.as_ref()
    }

    /// Tells that tasks of these queues became due. To be called after the commit.
    ///
    /// Wakes the waits of this process at once; other processes hear of it within some ms.
    pub(crate) fn ring(&self, queues: &[QueueName]) {
        if queues.is_empty() {
            return;
        }
        self.bell.ring(queues.iter().map(QueueName::as_str), Rings::due);
        if let Some(outgoing) = &self.outgoing {
            outgoing.add_due(queues);
        }
    }

    /// Tells that tasks of these queues will become due at another time than was known: they were
    /// enqueued for later, or postponed. To be called after the commit.
    pub(crate) fn ring_later(&self, queues: &[QueueName]) {
        if queues.is_empty() {
            return;
        }
        self.bell.ring(queues.iter().map(QueueName::as_str), Rings::look);
        if let Some(outgoing) = &self.outgoing {
            outgoing.add_later(queues);
        }
    }

    /// Tells that something was recorded in the journal. To be called after the commit.
    pub(crate) fn ring_journal(&self) {
        self.bell.ring_journal();
        if let Some(outgoing) = &self.outgoing {
            outgoing.add_journal();
        }
    }

    /// What this process can hear.
    pub(crate) const fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// Closes the connection, and waits until it is closed: at most a second or so. Afterwards only
    /// the waits of this process are reached.
    ///
    /// # Cancel safety
    ///
    /// Once called, the connection is closed even if the call is dropped.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}
