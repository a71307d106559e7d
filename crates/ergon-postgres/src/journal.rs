//! The journal as it is stored: places in it, and entries.
//!
//! A transaction that commits late may have numbered its entry early, so that no number says up to where
//! was read: a snapshot does. What a reader has not seen is what its snapshot does not see, and the next
//! snapshot does.

mod entry;
mod item;
mod place;
mod snapshot;

pub(crate) use self::{
    entry::Entry,
    item::{Item, Note, server_event},
    place::{Place, Within},
    snapshot::Snapshot,
};

/// The numbers of events: see the table `journal`.
mod number {
    pub(super) const BREAK: i16 = 0;
    pub(super) const ENQUEUED: i16 = 1;
    pub(super) const STARTED: i16 = 2;
    pub(super) const PROGRESSED: i16 = 3;
    pub(super) const COMPLETED: i16 = 4;
    pub(super) const RETRIED: i16 = 5;
    pub(super) const FAILED: i16 = 6;
    pub(super) const CANCEL_REQUESTED: i16 = 7;
    pub(super) const CANCELLED: i16 = 8;
    pub(super) const SNOOZED: i16 = 9;
    pub(super) const RELEASED: i16 = 10;
    pub(super) const RESCUED: i16 = 11;
    pub(super) const REOPENED: i16 = 12;
    pub(super) const RESCHEDULED: i16 = 13;
    pub(super) const REPRIORITIZED: i16 = 14;
    pub(super) const DELETED: i16 = 15;
    pub(super) const PRUNED: i16 = 20;
    pub(super) const QUEUE_PAUSED: i16 = 21;
    pub(super) const QUEUE_RESUMED: i16 = 22;
    pub(super) const SERVER_STARTED: i16 = 23;
    pub(super) const SERVER_DRAINING: i16 = 24;
    pub(super) const SERVER_STOPPED: i16 = 25;
}
