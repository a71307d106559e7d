//! What happened: the facts that observers are told, each after its commit.
//!
//! There is one vocabulary for all who watch. A program hands the events of what it commits itself to
//! its [`EventSink`]s, at once; the journal of the store ([`Observe`](crate::store::Observe)) holds
//! those of every program. Nothing is told that was not committed: an outcome that came too late is
//! no event.

use std::{fmt, sync::Arc};

use jiff::Timestamp;

use crate::{
    id::{ServerId, TaskId},
    name::{KindName, QueueName},
};

mod change;
mod kind;

pub use self::{
    change::{Excerpt, QueueEvent, ServerEvent, TaskEvent},
    kind::{EventKind, EventKindSet},
};

/// One committed fact.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// When: in the journal by the clock of the store, to a sink by that of the store or of the
    /// process.
    pub at: Timestamp,
    /// What happened, and to what.
    pub fact: Fact,
}

impl Event {
    /// Something that happened to a task.
    #[must_use]
    pub const fn task(at: Timestamp, task: TaskRef, event: TaskEvent) -> Self {
        Self { at, fact: Fact::Task { task, event } }
    }

    /// Tasks were removed because they outlived their retention.
    #[must_use]
    pub const fn pruned(at: Timestamp, tasks: u64) -> Self {
        Self { at, fact: Fact::Pruned { tasks } }
    }

    /// Something that happened to a queue.
    #[must_use]
    pub const fn queue(at: Timestamp, queue: QueueName, event: QueueEvent) -> Self {
        Self { at, fact: Fact::Queue { queue, event } }
    }

    /// Something that happened to a server.
    #[must_use]
    pub const fn server(at: Timestamp, server: ServerId, event: ServerEvent) -> Self {
        Self { at, fact: Fact::Server { server, event } }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> EventKind {
        match &self.fact {
            Fact::Task { event, .. } => event.kind(),
            Fact::Pruned { .. } => EventKind::TasksPruned,
            Fact::Queue { event, .. } => event.kind(),
            Fact::Server { event, .. } => event.kind(),
        }
    }

    /// The task that it happened to, if it was one.
    #[must_use]
    pub const fn task_ref(&self) -> Option<&TaskRef> {
        match &self.fact {
            Fact::Task { task, .. } => Some(task),
            Fact::Pruned { .. } | Fact::Queue { .. } | Fact::Server { .. } => None,
        }
    }
}

/// What happened, and to what.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fact {
    /// To a task.
    Task {
        /// The task.
        task: TaskRef,
        /// What happened to it.
        event: TaskEvent,
    },
    /// To tasks that outlived their retention: they were removed.
    Pruned {
        /// How many.
        tasks: u64,
    },
    /// To a queue.
    Queue {
        /// The queue.
        queue: QueueName,
        /// What happened to it.
        event: QueueEvent,
    },
    /// To a server.
    Server {
        /// The server.
        server: ServerId,
        /// What happened to it.
        event: ServerEvent,
    },
}

/// Which task an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRef {
    /// Its id.
    pub id: TaskId,
    /// Where it waits, or waited.
    pub queue: QueueName,
    /// What type of task it is.
    pub kind: KindName,
    /// The attempt that the event belongs to, counted from 1; of an event between two attempts the
    /// one before it, 0 before the first.
    pub attempt: u16,
}

/// Takes events as they are committed.
///
/// [`Client`](crate::Client), [`Manager`](crate::Manager) and a server each tell their sinks what they
/// committed themselves, in its order. Whoever calls `publish` has work to do: it must not block, nor
/// panic. Slow observers and those that want the events of every process stand behind the bus of the
/// crate `ergon-events`, which is a sink itself.
pub trait EventSink: fmt::Debug + Send + Sync {
    /// Takes what one call of the store committed; never an empty slice.
    fn publish(&self, events: &[Event]);
}

/// The sinks of a client, a manager or a server, in the order in which they were added.
#[derive(Clone, Debug, Default)]
pub struct Sinks(Vec<Arc<dyn EventSink>>);

impl Sinks {
    /// Adds a sink.
    pub fn push(&mut self, sink: Arc<dyn EventSink>) {
        self.0.push(sink);
    }

    /// Adds all of another's.
    pub fn extend(&mut self, others: &Self) {
        self.0.extend(others.0.iter().map(Arc::clone));
    }

    /// Says whether nobody listens, so that nothing need be told.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells every sink; nothing happened if there are no events.
    pub fn publish(&self, events: &[Event]) {
        if !events.is_empty() {
            self.0.iter().for_each(|sink| sink.publish(events));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_small_enough_to_be_copied_by_the_thousand() {
        assert!(size_of::<Event>() <= 144, "{}", size_of::<Event>());
    }
}
