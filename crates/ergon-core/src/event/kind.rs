//! The kinds of events, and sets of them.

use std::{fmt, str::FromStr};

macro_rules! event_kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The kind of an event: what it is called, filtered and counted by.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum EventKind {
            $($(#[$doc])* $name,)*
        }

        impl EventKind {
            /// Every kind, for exporters and their tests: whoever handles *all* kinds handles those to
            /// come as well.
            #[doc(hidden)]
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name, `subject.participle`, as people and programs see it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

event_kinds! {
    /// A task was stored.
    TaskEnqueued = "task.enqueued",
    /// A task was not stored: another one holds its unique key.
    TaskDeduplicated = "task.deduplicated",
    /// A server claimed a task.
    TaskStarted = "task.started",
    /// A handler told how far it has come.
    TaskProgressed = "task.progressed",
    /// A task finished well.
    TaskCompleted = "task.completed",
    /// An attempt failed; the task is tried again.
    TaskRetried = "task.retried",
    /// A task finished without success.
    TaskFailed = "task.failed",
    /// A running task was called off; its handler will be told.
    TaskCancelRequested = "task.cancel_requested",
    /// A task was called off.
    TaskCancelled = "task.cancelled",
    /// A handler put a task off.
    TaskSnoozed = "task.snoozed",
    /// A server gave a task back unfinished.
    TaskReleased = "task.released",
    /// A task was taken back from a server whose lease was over.
    TaskRescued = "task.rescued",
    /// An operator had a task run again, or at once.
    TaskReopened = "task.reopened",
    /// An operator moved a task to another time.
    TaskRescheduled = "task.rescheduled",
    /// An operator changed the priority of a task.
    TaskReprioritized = "task.reprioritized",
    /// An operator removed a task.
    TaskDeleted = "task.deleted",
    /// Tasks that outlived their retention were removed.
    TasksPruned = "tasks.pruned",
    /// Claims pass a queue by.
    QueuePaused = "queue.paused",
    /// Claims serve a queue again.
    QueueResumed = "queue.resumed",
    /// A server began to claim.
    ServerStarted = "server.started",
    /// A server was told to stop.
    ServerDraining = "server.draining",
    /// A server ended.
    ServerStopped = "server.stopped",
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// No kind of event has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind of event {0:?}")]
pub struct UnknownEventKind(String);

impl FromStr for EventKind {
    type Err = UnknownEventKind;

    fn from_str(text: &str) -> Result<Self, UnknownEventKind> {
        let mut all = Self::ALL.iter().copied();
        all.find(|kind| kind.as_str() == text).ok_or_else(|| UnknownEventKind(text.to_owned()))
    }
}

/// A set of kinds of events.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct EventKindSet(u64);

impl EventKindSet {
    /// No kind.
    pub const EMPTY: Self = Self(0);
    /// Every kind, those to come included.
    pub const EVERY: Self = Self(u64::MAX);

    /// The set of these kinds.
    #[must_use]
    pub const fn of(kinds: &[EventKind]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < kinds.len() {
            bits |= 1 << kinds[at] as u64;
            at += 1;
        }
        Self(bits)
    }

    /// Says whether the kind is in the set.
    #[must_use]
    pub const fn contains(self, kind: EventKind) -> bool {
        self.0 & (1 << kind as u64) != 0
    }

    /// Says whether some kind is in both sets.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The kinds that are in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl From<EventKind> for EventKindSet {
    fn from(kind: EventKind) -> Self {
        Self::of(&[kind])
    }
}

impl FromIterator<EventKind> for EventKindSet {
    fn from_iter<I: IntoIterator<Item = EventKind>>(kinds: I) -> Self {
        kinds.into_iter().fold(Self::EMPTY, |set, kind| set.union(kind.into()))
    }
}

impl fmt::Debug for EventKindSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = EventKind::ALL.iter().filter(|&&kind| self.contains(kind));
        f.debug_set().entries(kinds).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_tell_kinds_apart() {
        assert!(EventKind::ALL.len() < 64, "a set has a bit a kind");
        for &kind in EventKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        assert!("task.exploded".parse::<EventKind>().is_err());
    }

    #[test]
    fn sets_hold_what_was_put_in() {
        let set = EventKindSet::of(&[EventKind::TaskFailed, EventKind::ServerStopped]);
        let held: Vec<_> = EventKind::ALL.iter().filter(|&&kind| set.contains(kind)).collect();
        assert_eq!(held, [&EventKind::TaskFailed, &EventKind::ServerStopped]);
        let all = EventKind::ALL.iter().copied();
        assert!(all.clone().all(|kind| EventKindSet::EVERY.contains(kind)));
        assert!(!all.clone().any(|kind| EventKindSet::EMPTY.contains(kind)));
        assert_eq!(EventKindSet::from(EventKind::TaskFailed).union(set), set);
        assert!(set.intersects(EventKind::TaskFailed.into()));
        assert!(!set.intersects(EventKind::TaskEnqueued.into()));
        assert_eq!(format!("{set:?}"), "{TaskFailed, ServerStopped}");
        assert!(all.clone().all(|kind| all.clone().collect::<EventKindSet>().contains(kind)));
    }
}
