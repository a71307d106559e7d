//! What the parts of a running server share.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use ergon_core::{
    Client, Clock, Conclusion, Limits, Manager, Rng, ServerId, Store, attempt::Followers,
    event::Sinks, servers::ServerProfile,
};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    attempt::{Attempt, HeldTable},
    config::ServerConfig,
    counting::{self, Counting},
    layer::AttemptService,
    maintenance::operator,
    registry::Registry,
    reports::Reports,
    slots::Slots,
    status::{Gauge, Tally},
};

/// An attempt that ended, and how.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) attempt: Arc<Attempt>,
    pub(crate) conclusion: Conclusion,
    /// From the start of the handler to its end; nothing when it was not started.
    pub(crate) ran: Duration,
    /// Who is told what came of it.
    pub(crate) followers: Followers,
}

impl Finished {
    /// An attempt that was never started.
    pub(crate) fn unstarted(attempt: Arc<Attempt>, conclusion: Conclusion) -> Self {
        Self { attempt, conclusion, ran: Duration::ZERO, followers: Followers::default() }
    }
}

/// What every attempt can reach.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) server: ServerId,
    pub(crate) client: Client,
    pub(crate) reports: Reports,
}

/// What the parts of a running server share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: ServerId,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) home: Arc<Home>,
    pub(crate) sinks: Sinks,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) clock: Arc<dyn Clock>,
    /// What the store takes.
    pub(crate) limits: Limits,
    pub(crate) config: ServerConfig,
    pub(crate) registry: Registry,
    pub(crate) service: Option<AttemptService>,
    pub(crate) slots: Slots,
    pub(crate) held: HeldTable,
    /// What others are told of this server.
    pub(crate) profile: ServerProfile,
    /// Counts what is told to the sinks.
    pub(crate) counting: Option<Counting>,
    pub(crate) manager: Manager,
    /// Rings when the manager made an operation.
    pub(crate) operations_came: Arc<Notify>,
    pub(crate) tally: Tally,
    pub(crate) gauges: Gauges,
    /// Where attempts hand their outcomes in.
    pub(crate) outcomes: mpsc::Sender<Finished>,
    /// Leases cannot be renewed: what would be claimed now could not be kept.
    pub(crate) cannot_hold: AtomicBool,
    /// The start of the server's life.
    pub(crate) born: Instant,
    pub(crate) signals: Signals,
}

/// The end of each part, in the order in which they come.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// Nothing is claimed or swept any more.
    pub(crate) stop: CancellationToken,
    /// No outcome comes any more.
    pub(crate) close: CancellationToken,
    /// What is not recorded by now stays unrecorded.
    pub(crate) give_up: CancellationToken,
    /// Leases are not renewed any more.
    pub(crate) end: CancellationToken,
}

/// The status of each loop.
#[derive(Debug)]
pub(crate) struct Gauges {
    pub(crate) fetch: Gauge,
    pub(crate) finish: Gauge,
    pub(crate) beat: Gauge,
    pub(crate) rescue: Gauge,
    pub(crate) prune: Gauge,
    pub(crate) operate: Gauge,
    pub(crate) presence: Gauge,
    pub(crate) count: Gauge,
}

impl Gauges {
    pub(crate) fn new(config: &ServerConfig) -> Self {
        Self {
            fetch: Gauge::new("fetch", config.poll_interval),
            finish: Gauge::new("finish", config.poll_interval),
            beat: Gauge::new("beat", config.beat_interval()),
            rescue: Gauge::new("rescue", config.rescue_interval),
            prune: Gauge::new("prune", config.prune_interval),
            operate: Gauge::new("operate", operator::INTERVAL),
            presence: Gauge::new("presence", config.presence_interval),
            count: Gauge::new("count", counting::INTERVAL),
        }
    }

    /// Those of the loops that tasks depend on.
    pub(crate) const fn all(&self) -> [&Gauge; 5] {
        [&self.fetch, &self.finish, &self.beat, &self.rescue, &self.prune]
    }
}

/// Longest pause between failing calls of the store: so long an outage outlives its end.
pub(crate) const BACKOFF_CAP: Duration = Duration::from_secs(1);

impl Shared {
    /// How long the server has lived.
    pub(crate) fn age(&self) -> Duration {
        self.born.elapsed()
    }
}
