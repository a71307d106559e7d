//! What a store is: six roles, and the laws that each obeys.
//!
//! | role | what it does |
//! |---|---|
//! | [`Enqueue`] | takes new tasks |
//! | [`Dispatch`] | hands tasks to servers and records what became of them |
//! | [`Maintain`] | takes tasks back from dead servers, removes what outlived its retention |
//! | [`Inspect`] | reads |
//! | [`Control`] | carries out an operator's commands |
//! | [`Observe`] | keeps a journal of what happened |
//!
//! # Laws
//!
//! The conformance suite of `ergon-testing` has a case for each.
//!
//! 1. Results come in the order of the input.
//! 2. An empty batch does no I/O and answers an empty list.
//! 3. A batch over [`BATCH_MAX`](crate::limits::BATCH_MAX) is
//!    [`BatchTooLarge`](StoreError::BatchTooLarge); callers split.
//! 4. [`insert`](Enqueue::insert) is all or nothing. Everything else answers item by item, and a bad
//!    row never stops its batch.
//! 5. Every write of a worker is fenced by its token, decided inside one atomic operation. A late
//!    one is [`Stale`](crate::Verdict::Stale), which is no error.
//! 6. Repeating a [`finish`](Dispatch::finish) after a lost reply answers
//!    [`AlreadyApplied`](crate::Verdict::AlreadyApplied).
//! 7. Dropping a future leaves all or nothing, and never a claim that nobody owns beyond its lease.
//! 8. Time is the store's clock, unless [`Now::At`] is given.
//! 9. Pages are read behind a key, never at an offset, and never exceed their limit.
//! 10. What backends cannot all do is asked of [`Capabilities`]; nobody asks a backend its name.
//! 11. While somebody watches, a change and its events are one: both are in the store, or neither.
//!
//! An acknowledged write is durable as far as the store's `Capabilities` say. Nothing unfinished
//! is ever removed but by [`Command::Delete`](crate::Command::Delete). Errors leave everything as it
//! was, except that a write whose reply was lost may have happened: repeating it is safe.

use std::{fmt::Debug, sync::Arc};

mod control;
mod dispatch;
mod enqueue;
mod inspect;
mod maintain;
mod observe;

pub use self::{
    control::{Capabilities, Control, QueueChange},
    dispatch::{Beat, BeatReply, ClaimRequest, Dispatch, Held, LEASE_DEFAULT, QueueSlots},
    enqueue::{Enqueue, Inserted, check_insert},
    inspect::{Inspect, QueueInfo, StateCounts},
    maintain::{Maintain, PruneRequest, Report, RescueRequest, SWEEP_LIMIT_DEFAULT},
    observe::{
        CURSOR_BYTES_MAX, Changes, Cursor, EventId, Gap, InvalidCursor, Observe, Recorded,
        WATCH_LEASE_MAX, WATCHERS_MAX, Watch, Watched, WatcherInfo, check_watch,
    },
};
#[cfg(doc)]
use crate::{StoreError, time::Now};

/// A store: something that plays all six roles.
pub trait Store: Enqueue + Dispatch + Maintain + Inspect + Control + Observe + Debug {}

impl<S: Enqueue + Dispatch + Maintain + Inspect + Control + Observe + Debug> Store for S {}

/// What can be used as a shared store: any store, or an `Arc` of one.
pub trait IntoStore {
    /// Makes it a shared store.
    fn into_store(self) -> Arc<dyn Store>;
}

impl<S: Store + 'static> IntoStore for S {
    fn into_store(self) -> Arc<dyn Store> {
        Arc::new(self)
    }
}

impl<S: Store + 'static> IntoStore for Arc<S> {
    fn into_store(self) -> Arc<dyn Store> {
        self
    }
}

impl IntoStore for Arc<dyn Store> {
    fn into_store(self) -> Arc<dyn Store> {
        self
    }
}

impl IntoStore for &Arc<dyn Store> {
    fn into_store(self) -> Arc<dyn Store> {
        Arc::clone(self)
    }
}
