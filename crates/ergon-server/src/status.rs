//! What the loops of a server did, for health checks and operators.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use ergon_core::TaskId;
use tokio::time::Instant;

/// How one loop of a server fares.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoopStatus {
    /// Which loop: `fetch`, `finish`, `beat`, `rescue` or `prune`.
    pub name: &'static str,
    /// How long it pauses at the most between two runs when nothing fails.
    pub interval: Duration,
    /// How often it ran, well or not.
    pub runs: u64,
    /// How often it failed.
    pub errors: u64,
    /// How often it failed since it last succeeded.
    pub errors_in_a_row: u64,
    /// How many tasks it handled.
    pub done: u64,
    /// How many tasks it could not handle, and left as they are.
    pub skipped: u64,
    /// How long ago it last succeeded, or was started if it never did.
    pub since_success: Duration,
}

impl LoopStatus {
    /// Says whether the loop has not succeeded for three intervals: then the server is not ready.
    ///
    /// `fetch` and `finish` rest while there is nothing to do; they are late only when they fail.
    #[must_use]
    pub fn is_late(&self) -> bool {
        let must_fail = matches!(self.name, "fetch" | "finish");
        self.since_success > self.interval * 3 && (!must_fail || self.errors_in_a_row > 0)
    }
}

/// Keeps the status of one loop.
#[derive(Debug)]
pub(crate) struct Gauge {
    name: &'static str,
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    runs: u64,
    errors: u64,
    errors_in_a_row: u64,
    done: u64,
    skipped: u64,
    succeeded_at: Instant,
}

impl Gauge {
    pub(crate) fn new(name: &'static str, interval: Duration) -> Self {
        Self {
            name,
            interval,
            state: Mutex::new(State {
                runs: 0,
                errors: 0,
                errors_in_a_row: 0,
                done: 0,
                skipped: 0,
                succeeded_at: Instant::now(),
            }),
        }
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No change can panic half way, so what a panicking thread left behind is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn succeeded(&self, done: usize, skipped: usize) {
        let now = Instant::now();
        let mut state = self.lock();
        state.runs += 1;
        state.errors_in_a_row = 0;
        state.done += u64::try_from(done).unwrap_or(0);
        state.skipped += u64::try_from(skipped).unwrap_or(0);
        state.succeeded_at = now;
    }

    pub(crate) fn failed(&self) {
        let mut state = self.lock();
        state.runs += 1;
        state.errors += 1;
        state.errors_in_a_row += 1;
    }

    pub(crate) fn status(&self) -> LoopStatus {
        let state = self.lock();
        LoopStatus {
            name: self.name,
            interval: self.interval,
            runs: state.runs,
            errors: state.errors,
            errors_in_a_row: state.errors_in_a_row,
            done: state.done,
            skipped: state.skipped,
            since_success: state.succeeded_at.elapsed(),
        }
    }
}

/// What became of attempts since the server was started.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) started: AtomicU64,
    pub(crate) completed: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) snoozed: AtomicU64,
    pub(crate) stale: AtomicU64,
    pub(crate) released: IdList,
    pub(crate) unrecorded: IdList,
}

/// A list of tasks that is written now and then.
#[derive(Debug, Default)]
pub(crate) struct IdList(Mutex<Vec<TaskId>>);

impl IdList {
    pub(crate) fn push(&self, id: TaskId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    }

    fn sorted(&self) -> Vec<TaskId> {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

/// What a server leaves behind.
///
/// The numbers count attempts since the server was started, once their outcomes were recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Attempts that were started.
    pub started: u64,
    /// Attempts after which the task was completed.
    pub completed: u64,
    /// Attempts after which the task was failed.
    pub failed: u64,
    /// Attempts after which the task waits for another one.
    pub retried: u64,
    /// Attempts after which the task was cancelled.
    pub cancelled: u64,
    /// Attempts after which the task waits, with no attempt spent.
    pub snoozed: u64,
    /// Attempts whose outcome came too late: the lease was lost, and the task is somebody else's.
    pub stale: u64,
    /// Tasks given back unfinished by the shutdown: due as before, with no attempt spent.
    pub released: Vec<TaskId>,
    /// Tasks whose handlers did not stop, as blocking code cannot be stopped. They may still be
    /// running; others take the tasks when their leases end, or have taken them already where the
    /// lease was lost.
    pub stuck: Vec<TaskId>,
    /// Tasks whose outcomes the store did not confirm in time. Others take the tasks when their
    /// leases end, unless the outcome was recorded after all.
    pub unrecorded: Vec<TaskId>,
}

impl ShutdownReport {
    /// Says whether every attempt was recorded or given back.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.stuck.is_empty() && self.unrecorded.is_empty()
    }

    /// How many tasks are left to the ends of their leases.
    pub(crate) const fn left(&self) -> u64 {
        (self.stuck.len() + self.unrecorded.len()) as u64
    }
}

impl Tally {
    pub(crate) fn report(&self, mut stuck: Vec<TaskId>) -> ShutdownReport {
        stuck.sort_unstable();
        stuck.dedup();
        ShutdownReport {
            started: self.started.load(Relaxed),
            completed: self.completed.load(Relaxed),
            failed: self.failed.load(Relaxed),
            retried: self.retried.load(Relaxed),
            cancelled: self.cancelled.load(Relaxed),
            snoozed: self.snoozed.load(Relaxed),
            stale: self.stale.load(Relaxed),
            released: self.released.sorted(),
            stuck,
            unrecorded: self.unrecorded.sorted(),
        }
    }
}
