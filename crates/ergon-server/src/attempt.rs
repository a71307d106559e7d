//! One attempt as the parts of the server share it: what was claimed, and what it is told.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use ergon_core::{
    ClaimedTask, TaskId,
    attempt::{Follower, Followers},
    store::Held,
};
use futures_util::task::AtomicWaker;
use tokio::{sync::Notify, time::Instant};

use crate::shared::Home;

/// Why a [`Context`](crate::Context) says that its attempt is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CancelReason {
    /// An operator called the task off.
    Cancelled,
    /// The lease is lost, or may be: another server may run the task. What this attempt still does
    /// outside the queue may be done twice.
    LeaseLost,
    /// The attempt exceeded its timeout.
    Timeout,
    /// The server shuts down.
    Shutdown,
}

/// What an attempt was told, as bits.
pub(crate) mod flag {
    pub(crate) const CANCELLED: u8 = 1;
    pub(crate) const LOST: u8 = 1 << 1;
    pub(crate) const TIMEOUT: u8 = 1 << 2;
    pub(crate) const SHUTDOWN: u8 = 1 << 3;
    /// Any reason to stop.
    pub(crate) const STOP: u8 = CANCELLED | LOST | TIMEOUT | SHUTDOWN;
    /// The store said that the lease is lost: an outcome would be stale.
    pub(crate) const DISOWNED: u8 = 1 << 4;
    /// The handler is to be dropped now.
    pub(crate) const DROP: u8 = 1 << 5;
    /// The handler has ended, or was dropped.
    pub(crate) const ENDED: u8 = 1 << 6;
}

/// One attempt.
pub(crate) struct Attempt {
    pub(crate) task: ClaimedTask,
    /// The place of its queue among those that the server serves.
    pub(crate) queue: usize,
    /// When the lease was last asked for, by claim or beat, in microseconds of the server's life:
    /// it ends no earlier than this plus its length.
    renewed: AtomicU64,
    /// When the attempt exceeds its timeout, once it is started.
    ends_at: OnceLock<Instant>,
    pub(crate) home: Arc<Home>,
    flags: AtomicU8,
    /// Wakes those who wait for a reason to stop.
    told: Notify,
    /// Wakes whoever drives the handler.
    pub(crate) driver: AtomicWaker,
    /// Who is told what came of the attempt.
    followers: Mutex<Followers>,
}

impl Attempt {
    pub(crate) fn new(task: ClaimedTask, queue: usize, claimed: Duration, home: Arc<Home>) -> Self {
        Self {
            task,
            queue,
            renewed: AtomicU64::new(micros(claimed)),
            ends_at: OnceLock::new(),
            home,
            flags: AtomicU8::new(0),
            told: Notify::const_new(),
            driver: AtomicWaker::new(),
            followers: Mutex::default(),
        }
    }

    pub(crate) const fn held(&self) -> Held {
        Held { id: self.task.id, token: self.task.token }
    }

    /// Notes that the attempt is started, and when it exceeds its timeout.
    pub(crate) fn set_started(&self, ends_at: Instant) {
        self.ends_at.get_or_init(|| ends_at);
    }

    /// When the attempt exceeds its timeout; at once when it was never started.
    pub(crate) fn ends_at(&self) -> Instant {
        self.ends_at.get().copied().unwrap_or_else(Instant::now)
    }

    /// Notes that the lease was renewed by a beat sent at this time of the server's life.
    pub(crate) fn set_renewed(&self, sent: Duration) {
        self.renewed.fetch_max(micros(sent), Ordering::Relaxed);
    }

    /// When the lease was last asked for, in the server's life.
    pub(crate) fn renewed(&self) -> Duration {
        Duration::from_micros(self.renewed.load(Ordering::Relaxed))
    }

    pub(crate) fn flags(&self) -> u8 {
        self.flags.load(Ordering::Acquire)
    }

    pub(crate) fn has(&self, flags: u8) -> bool {
        self.flags() & flags != 0
    }

    /// Tells the attempt something, once.
    pub(crate) fn tell(&self, flags: u8) {
        let before = self.flags.fetch_or(flags, Ordering::AcqRel);
        if before & flags != flags {
            self.told.notify_waiters();
            self.driver.wake();
        }
    }

    /// Notes that the handler has ended. Wakes nobody: there is nobody left to tell.
    pub(crate) fn set_ended(&self) {
        self.flags.fetch_or(flag::ENDED, Ordering::AcqRel);
    }

    /// Has a follower told what comes of the attempt. When it has ended it is too late for that.
    pub(crate) fn follow(&self, follower: Follower) {
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.has(flag::ENDED) {
            followers.push(follower);
        }
    }

    /// Takes the followers, at the end of the attempt.
    pub(crate) fn take_followers(&self) -> Followers {
        std::mem::take(&mut self.followers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn cancel_reason(&self) -> Option<CancelReason> {
        let flags = self.flags();
        // The gravest first: a lost lease is what a handler must not ignore.
        [
            (flag::LOST, CancelReason::LeaseLost),
            (flag::CANCELLED, CancelReason::Cancelled),
            (flag::TIMEOUT, CancelReason::Timeout),
            (flag::SHUTDOWN, CancelReason::Shutdown),
        ]
        .into_iter()
        .find_map(|(bit, reason)| (flags & bit != 0).then_some(reason))
    }

    /// Waits for a reason to stop.
    pub(crate) async fn stopped(&self) -> CancelReason {
        loop {
            let told = self.told.notified();
            tokio::pin!(told);
            // From here on nothing that is told is missed; only then may be looked.
            told.as_mut().enable();
            if let Some(reason) = self.cancel_reason() {
                return reason;
            }
            told.await;
        }
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("id", &self.task.id)
            .field("token", &self.task.token)
            .field("flags", &self.flags())
            .finish_non_exhaustive()
    }
}

fn micros(age: Duration) -> u64 {
    u64::try_from(age.as_micros()).unwrap_or(u64::MAX)
}

/// The claims that the server holds, from the claim until the outcome is recorded: what beats renew.
///
/// Beside them, attempts that run on although their claims are lost: nothing renews those, but the
/// end of the server is theirs too.
#[derive(Debug, Default)]
pub(crate) struct HeldTable(Mutex<Tables>);

/// In order, so that a run with the same seed goes the same way.
#[derive(Debug, Default)]
struct Tables {
    held: BTreeMap<Held, Arc<Attempt>>,
    disowned: BTreeMap<Held, Arc<Attempt>>,
}

impl HeldTable {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        // No change can panic half way, so what a panicking thread left behind is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn insert(&self, attempts: impl IntoIterator<Item = Arc<Attempt>>) {
        let entries = attempts.into_iter().map(|attempt| (attempt.held(), attempt));
        self.lock().held.extend(entries);
    }

    pub(crate) fn remove<'h>(&self, held: impl IntoIterator<Item = &'h Held>) {
        let mut tables = self.lock();
        for held in held {
            tables.held.remove(held);
            tables.disowned.remove(held);
        }
    }

    /// Lets go of a claim that is lost, and keeps its attempt in sight until it is
    /// [removed](Self::remove).
    pub(crate) fn disown(&self, held: &Held) {
        let mut tables = self.lock();
        // One that is gone by now has been recorded.
        if let Some((held, attempt)) = tables.held.remove_entry(held) {
            tables.disowned.insert(held, attempt);
        }
    }

    pub(crate) fn get(&self, held: &Held) -> Option<Arc<Attempt>> {
        self.lock().held.get(held).cloned()
    }

    /// How many claims are held.
    pub(crate) fn len(&self) -> usize {
        self.lock().held.len()
    }

    /// Every attempt whose claim is held, including those that ended and wait to be recorded.
    pub(crate) fn all(&self) -> Vec<Arc<Attempt>> {
        self.lock().held.values().cloned().collect()
    }

    /// The attempts whose handlers have not ended, whether their claims are held or lost.
    pub(crate) fn unfinished(&self) -> Vec<Arc<Attempt>> {
        let tables = self.lock();
        let attempts = tables.held.values().chain(tables.disowned.values());
        attempts.filter(|attempt| !attempt.has(flag::ENDED)).cloned().collect()
    }

    /// The tasks whose attempts have ended and are not recorded.
    pub(crate) fn unrecorded(&self) -> Vec<TaskId> {
        let tables = self.lock();
        let ended = tables.held.values().filter(|attempt| attempt.has(flag::ENDED));
        ended.map(|attempt| attempt.task.id).collect()
    }

    /// Lets go of everything.
    pub(crate) fn clear(&self) {
        *self.lock() = Tables::default();
    }
}
