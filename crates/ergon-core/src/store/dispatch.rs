//! Role *dispatch*: hands tasks to servers and records what became of them.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    error::StoreError,
    id::{ServerId, TaskId, Token},
    name::{KindName, QueueName},
    outcome::{Outcome, Verdict},
    record::ClaimedTask,
    report::ClaimReport,
    time::Now,
};

/// How many tasks of a queue a server can take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSlots {
    /// The queue.
    pub queue: QueueName,
    /// How many tasks at the most.
    pub slots: usize,
}

/// What a server can run now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClaimRequest {
    /// Who claims.
    pub server: ServerId,
    /// The kinds that the server handles; tasks of other kinds stay where they are.
    pub kinds: Arc<[KindName]>,
    /// From which queues, in the order of preference. A queue may stand here more than once: its
    /// share first, and what is left over behind the others.
    pub queues: Vec<QueueSlots>,
    /// How many tasks from all queues together, at most [`BATCH_MAX`](crate::limits::BATCH_MAX).
    pub limit: usize,
    /// How long each claim lives unless a beat renews it. Default 30 s.
    pub lease: Duration,
    /// When.
    pub now: Now,
}

/// The lease of a claim that chooses none. Chosen without measurement: a dead server's tasks are
/// back within it, and three beats fit in.
pub const LEASE_DEFAULT: Duration = Duration::from_secs(30);

impl ClaimRequest {
    /// Asks for tasks of these kinds from these queues, as many as the queues have slots.
    #[must_use]
    pub fn new(
        server: ServerId,
        kinds: impl Into<Arc<[KindName]>>,
        queues: impl IntoIterator<Item = QueueSlots>,
    ) -> Self {
        let queues: Vec<_> = queues.into_iter().collect();
        let limit = queues.iter().fold(0_usize, |sum, queue| sum.saturating_add(queue.slots));
        let limit = std::cmp::min(limit, crate::limits::BATCH_MAX);
        Self { server, kinds: kinds.into(), queues, limit, lease: LEASE_DEFAULT, now: Now::Store }
    }

    /// At most so many tasks from all queues together.
    #[must_use]
    pub const fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// With this lease.
    #[must_use]
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// At this instant.
    #[must_use]
    pub const fn now(mut self, now: Now) -> Self {
        self.now = now;
        self
    }
}

/// One claim that a server holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Held {
    /// The task.
    pub id: TaskId,
    /// The token of the claim.
    pub token: Token,
}

/// The sign of life of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Beat {
    /// Who lives.
    pub server: ServerId,
    /// The claims it holds; exactly these are renewed.
    pub held: Vec<Held>,
    /// For how long they are renewed. Default 30 s.
    pub lease: Duration,
    /// When.
    pub now: Now,
}

impl Beat {
    /// Renews these claims.
    #[must_use]
    pub const fn new(server: ServerId, held: Vec<Held>) -> Self {
        Self { server, held, lease: LEASE_DEFAULT, now: Now::Store }
    }

    /// For so long.
    #[must_use]
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// At this instant.
    #[must_use]
    pub const fn now(mut self, now: Now) -> Self {
        self.now = now;
        self
    }
}

/// What a server learns by its beat.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct BeatReply {
    /// Claims that are not live any more: somebody else may run the tasks.
    pub lost: Vec<Held>,
    /// Claims whose task was asked to stop.
    pub cancelled: Vec<Held>,
}

/// Hands tasks to servers and records what became of them.
#[async_trait]
pub trait Dispatch: Send + Sync {
    /// Gives due tasks to a server, each with a token larger than any it had before.
    ///
    /// Only tasks of the named kinds, from the named queues that are not paused, never more than
    /// the slots and the limit. Queues are served in the order of the request; within a queue the
    /// larger priority comes first, then the earlier due time, then the smaller id. No two claims
    /// hold the same task at once.
    ///
    /// # Errors
    ///
    /// [`StoreError::BatchTooLarge`] when the limit exceeds
    /// [`BATCH_MAX`](crate::limits::BATCH_MAX), and [`StoreError::Rejected`] when the lease is zero.
    ///
    /// # Cancel safety
    ///
    /// A dropped call has claimed nothing, or what it claimed returns when the lease ends.
    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<ClaimedTask>, StoreError>;

    /// Records what became of claims, durably, and answers for each what came of it.
    ///
    /// The conclusions are made [storable](crate::Conclusion::storable), and decided by
    /// [`conclude`](crate::transition::conclude) inside one atomic operation. An outcome of an
    /// unknown task is [`Stale`](Verdict::Stale).
    ///
    /// # Errors
    ///
    /// By law 3, and what the backend reports; never because of what an outcome holds.
    ///
    /// # Cancel safety
    ///
    /// All or nothing for each outcome; repeating the call is safe by law 6.
    async fn finish(&self, outcomes: &[Outcome], now: Now) -> Result<Vec<Verdict>, StoreError>;

    /// Renews the claims that a server holds, and tells which are lost or asked to stop.
    ///
    /// A claim that the beat does not name is not renewed.
    ///
    /// # Errors
    ///
    /// As [`claim`](Self::claim).
    async fn beat(&self, beat: &Beat) -> Result<BeatReply, StoreError>;

    /// Keeps how far running tasks have come, until their attempts end, and answers for each whether
    /// its claim is live: [`Applied`](Verdict::Applied) or [`Stale`](Verdict::Stale).
    ///
    /// What is kept need not survive a crash: the attempt does not either.
    ///
    /// # Errors
    ///
    /// By law 3, and what the backend reports.
    ///
    /// # Cancel safety
    ///
    /// All or nothing for each report.
    async fn report(&self, reports: &[ClaimReport], now: Now) -> Result<Vec<Verdict>, StoreError>;

    /// Waits until a task of these kinds is due in one of these queues, or `within` has passed; at
    /// once when there is one already. Paused queues do not count.
    ///
    /// A hint: it may return for nothing, and a task may be due without it, so that whoever waits
    /// looks again from time to time.
    async fn wait_for_work(&self, queues: &[QueueName], kinds: &[KindName], within: Duration);
}
