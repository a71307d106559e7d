//! What a bus did: the counters behind it, and the plain numbers for exporters.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use ergon_core::Timestamp;
use tokio::time::Instant;

use crate::{call::Throttle, item::Lagged};

/// Most names under which listeners are counted; further ones are counted together.
const NAMES_MAX: usize = 64;

/// What listeners are named for which there is no room.
const OTHER: &str = "_other";

/// How somebody listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Called by whoever publishes.
    Inline,
    /// Called by a task of its own.
    Observer,
    /// Reads by itself.
    Subscription,
    /// Reads the journal from a place that the store keeps.
    DurableSink,
}

impl Role {
    /// The lower-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::Observer => "observer",
            Self::Subscription => "subscription",
            Self::DurableSink => "durable_sink",
        }
    }
}

/// What a bus did, in numbers that only grow unless their line says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BusStats {
    /// Events that this process published.
    pub published: u64,
    /// Events that came to the ring, also those that nobody was there to read.
    pub head: u64,
    /// Events that the ring holds now.
    pub ring_events: u64,
    /// Bytes that the ring holds now.
    pub ring_bytes: usize,
    /// The following of the journal, if the bus follows one.
    pub tail: Option<TailStats>,
    /// Everybody who listens or listened, by role and name.
    pub listeners: Vec<ListenerStats>,
}

/// How the following of the journal fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TailStats {
    /// The journal is being followed: the last call of the store succeeded. Goes up and down.
    pub is_following: bool,
    /// Reads of the journal, well or not.
    pub reads: u64,
    /// Calls of the store that failed.
    pub errors: u64,
    /// Gaps that were found.
    pub gaps: u64,
    /// When the newest event happened that was read, by the clock of the store.
    pub newest_at: Option<Timestamp>,
}

/// What those who listen under one name did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerStats {
    /// How they listen.
    pub role: Role,
    /// Their name; `_other` for those beyond the 64th.
    pub name: String,
    /// How many of them there are now. Goes up and down.
    pub listening: u64,
    /// Events that are in the ring or have left it, and were not read by the slowest of them. Goes up
    /// and down. None when they do not read the ring: inline observers and durable sinks.
    pub lag: Option<u64>,
    /// Events that they were handed, after the filter.
    pub events: u64,
    /// How often they were overrun.
    pub overruns: u64,
    /// Events that they missed by that, of all kinds; those that were read again are not among them.
    pub missed: u64,
    /// Gaps of the journal that they were told of.
    pub gaps: u64,
    /// Calls of the observer, those that go on among them. Zero for subscriptions, which are not called.
    pub calls: u64,
    /// Calls that ended in an error.
    pub errors: u64,
    /// Calls that panicked.
    pub panics: u64,
    /// Calls of an inline observer that took longer than its
    /// [budget](crate::BusConfig::inline_budget).
    pub slow_calls: u64,
    /// Calls of the store that failed: of durable sinks, and of observers that are backfilled.
    pub store_errors: u64,
    /// Time spent in calls that ended.
    pub spent: Duration,
    /// How long the call of an observer or a durable sink lasts that goes on now. Goes up and down.
    pub calling: Option<Duration>,
}

/// Counts for those who listen under one name.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) role: Role,
    pub(crate) name: String,
    pub(crate) listening: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) overruns: AtomicU64,
    pub(crate) missed: AtomicU64,
    pub(crate) gaps: AtomicU64,
    pub(crate) calls: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) panics: AtomicU64,
    pub(crate) slow_calls: AtomicU64,
    pub(crate) store_errors: AtomicU64,
    spent_nanos: AtomicU64,
    call_began: Mutex<Option<Instant>>,
    pub(crate) panics_told: Throttle,
    pub(crate) errors_told: Throttle,
    pub(crate) slowness_told: Throttle,
}

impl Tally {
    fn new(role: Role, name: String) -> Self {
        Self {
            role,
            name,
            listening: AtomicU64::new(0),
            events: AtomicU64::new(0),
            overruns: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            gaps: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            slow_calls: AtomicU64::new(0),
            store_errors: AtomicU64::new(0),
            spent_nanos: AtomicU64::new(0),
            call_began: Mutex::new(None),
            panics_told: Throttle::default(),
            errors_told: Throttle::default(),
            slowness_told: Throttle::default(),
        }
    }

    pub(crate) fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Relaxed);
    }

    pub(crate) fn count(counter: &AtomicU64, len: usize) {
        Self::add(counter, u64::try_from(len).unwrap_or(u64::MAX));
    }

    /// Counts an overrun that nothing makes up for.
    pub(crate) fn missed(&self, lagged: &Lagged) {
        Self::add(&self.overruns, 1);
        Self::add(&self.missed, lagged.missed);
    }

    pub(crate) fn spent(&self, time: Duration) {
        Self::add(&self.spent_nanos, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Notes that a call begins; it ends when the answer is dropped.
    pub(crate) fn calling(&self) -> Calling<'_> {
        Self::add(&self.calls, 1);
        let began = Instant::now();
        self.set_call(Some(began));
        Calling { tally: self, began }
    }

    fn set_call(&self, began: Option<Instant>) {
        *self.call_began.lock().unwrap_or_else(PoisonError::into_inner) = began;
    }

    pub(crate) fn is_calling(&self) -> bool {
        self.call_began.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Counts a call that panicked, and complains once a minute.
    pub(crate) fn panicked(&self, panic: &str) {
        Self::add(&self.panics, 1);
        if self.panics_told.permits() {
            let (role, name) = (self.role.as_str(), &self.name);
            tracing::error!(role, name, panic, "an observer panicked; it goes on being told");
        }
    }

    /// Counts a call that failed, and complains once a minute.
    pub(crate) fn failed(&self, error: &str) {
        Self::add(&self.errors, 1);
        if self.errors_told.permits() {
            let (role, name) = (self.role.as_str(), &self.name);
            tracing::warn!(role, name, error, "an observer failed; it goes on being told");
        }
    }

    pub(crate) fn read(&self, lag: Option<u64>) -> ListenerStats {
        let began = *self.call_began.lock().unwrap_or_else(PoisonError::into_inner);
        ListenerStats {
            role: self.role,
            name: self.name.clone(),
            listening: self.listening.load(Relaxed),
            lag,
            events: self.events.load(Relaxed),
            overruns: self.overruns.load(Relaxed),
            missed: self.missed.load(Relaxed),
            gaps: self.gaps.load(Relaxed),
            calls: self.calls.load(Relaxed),
            errors: self.errors.load(Relaxed),
            panics: self.panics.load(Relaxed),
            slow_calls: self.slow_calls.load(Relaxed),
            store_errors: self.store_errors.load(Relaxed),
            spent: Duration::from_nanos(self.spent_nanos.load(Relaxed)),
            calling: began.map(|began| began.elapsed()),
        }
    }
}

/// A call that goes on.
pub(crate) struct Calling<'t> {
    tally: &'t Tally,
    began: Instant,
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        self.tally.set_call(None);
        self.tally.spent(self.began.elapsed());
    }
}

/// The tallies of a bus, by role and name. They stay when those who listened are gone, as counters do.
#[derive(Debug, Default)]
pub(crate) struct Tallies(Mutex<Vec<Arc<Tally>>>);

impl Tallies {
    /// The tally for this name: a new one, one that is there, or the common one if there are too many.
    pub(crate) fn get(&self, role: Role, name: &str) -> Arc<Tally> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let find = |all: &[Arc<Tally>], name: &str| {
            all.iter().find(|tally| tally.role == role && tally.name == name).cloned()
        };
        if let Some(tally) = find(&all, name) {
            return tally;
        }
        let name = if all.len() < NAMES_MAX { name } else { OTHER };
        find(&all, name).unwrap_or_else(|| {
            let tally = Arc::new(Tally::new(role, name.to_owned()));
            all.push(Arc::clone(&tally));
            tally
        })
    }

    pub(crate) fn all(&self) -> Vec<Arc<Tally>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.sort_by(|a, b| (a.role, &a.name).cmp(&(b.role, &b.name)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_shared() {
        let tallies = Tallies::default();
        for number in 0..NAMES_MAX * 2 {
            tallies.get(Role::Observer, &format!("n{number}"));
        }
        assert!(Arc::ptr_eq(
            &tallies.get(Role::Observer, "n9999"),
            &tallies.get(Role::Observer, "n8888")
        ));
        assert_eq!(tallies.get(Role::Observer, "n1").name, "n1");
        let sink = tallies.get(Role::DurableSink, "n1");
        assert_eq!((sink.role, sink.name.as_str()), (Role::DurableSink, OTHER));
        assert_eq!(tallies.all().len(), NAMES_MAX + 2, "one for all others of each role");
    }
}
