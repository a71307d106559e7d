//! Role *observe*: the journal of what happened, read by cursor.
//!
//! # What is recorded
//!
//! While somebody [watches](Observe::watch), every change of a task, a queue or a server writes its
//! [events](Event) in its own transaction: an event is in the journal exactly if its change is in the
//! store. While nobody does, nothing is written, and watching costs nothing; who reads over such a
//! time is told of a [gap](Gap::Unrecorded).
//!
//! # Order
//!
//! The events of one task come in the order in which they happened. Between tasks an event never comes
//! before one that it could have known of. Each is read exactly once by who goes on from cursor to
//! cursor, also when a transaction that began long ago commits last, and no reader waits for a
//! transaction under way.
//!
//! # Window
//!
//! The journal keeps a bounded window, which the options of the store choose; who falls behind it is
//! told of a [gap](Gap::Expired).

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    error::StoreError,
    event::{Event, ServerEvent},
    id::ServerId,
    name::WatcherName,
};

/// Most watchers of a store at once.
pub const WATCHERS_MAX: usize = 256;

/// Longest lease of a watcher: a day.
pub const WATCH_LEASE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Longest text of a cursor, in bytes.
pub const CURSOR_BYTES_MAX: usize = 4_096;

/// A place in the journal of a store: between what was seen and what was not.
///
/// Its text is opaque, safe in addresses and headers, and understood by every process that shares the
/// store. Two cursors of the same place may differ.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Cursor(Arc<str>);

impl Cursor {
    /// Takes what a store wrote.
    ///
    /// # Errors
    ///
    /// [`InvalidCursor`] unless the text is 1 to 4,096 bytes of `[A-Za-z0-9._:,-]`. Whether it is of
    /// this store is answered by [`changes`](Observe::changes).
    pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidCursor> {
        let text = text.as_ref();
        let is_good = |byte: u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b',' | b'-')
        };
        if (1..=CURSOR_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_good) {
            Ok(Self(Arc::from(text)))
        } else {
            Err(InvalidCursor)
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        Self::new(text)
    }
}

/// The text is no cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor: 1 to {CURSOR_BYTES_MAX} bytes of A-Z a-z 0-9 . _ : , -")]
pub struct InvalidCursor;

/// Asks to have everything recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Watch {
    /// Who watches. Whoever watches under the same name renews the same lease.
    pub name: WatcherName,
    /// How long everything is recorded unless this is renewed: more than zero, at most
    /// [`WATCH_LEASE_MAX`]; `None` until [`unwatch`](Observe::unwatch).
    pub lease: Option<Duration>,
    /// The place that the watcher has come to, to be kept for its next start.
    pub reached: Option<Cursor>,
}

impl Watch {
    /// Watches for so long unless it is renewed.
    #[must_use]
    pub const fn lasting(name: WatcherName, lease: Duration) -> Self {
        Self { name, lease: Some(lease), reached: None }
    }

    /// Watches until told otherwise, also while no process does.
    #[must_use]
    pub const fn durable(name: WatcherName) -> Self {
        Self { name, lease: None, reached: None }
    }

    /// Keeps the place that the watcher has come to.
    #[must_use]
    pub fn reached(mut self, cursor: Cursor) -> Self {
        self.reached = Some(cursor);
        self
    }
}

/// What a watcher is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Where to read from: the place that was kept under this name, or else the end of the journal at
    /// the moment from which everything is recorded.
    pub cursor: Cursor,
    /// A place was kept under this name.
    pub is_resumed: bool,
}

/// Somebody who watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatcherInfo {
    /// Its name.
    pub name: WatcherName,
    /// When its lease ends; `None` for a durable one.
    pub until: Option<Timestamp>,
    /// The place that it has kept.
    pub reached: Option<Cursor>,
}

/// The identity of an event in the journal of its store: unique, and the same at every read.
///
/// With it a consumer recognises what it was told before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId {
    /// Which journal: a number that is drawn when the store is made.
    pub journal: u64,
    /// Which entry.
    pub entry: u64,
    /// Which event of the entry.
    pub index: u32,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}-{}", self.journal, self.entry, self.index)
    }
}

/// An event as the journal holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its identity.
    pub id: EventId,
    /// What happened.
    pub event: Event,
}

/// Why events may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Gap {
    /// They left the window of the journal.
    Expired,
    /// Nobody watched for a while, so they were not recorded.
    Unrecorded,
    /// The cursor is of another store, from the future, or malformed.
    Foreign,
}

impl Gap {
    /// The lower-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Unrecorded => "unrecorded",
            Self::Foreign => "foreign",
        }
    }
}

/// What happened since a cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Events may be missing between the cursor that was given and these; none when nothing is.
    ///
    /// Behind a foreign cursor reading goes on at the end of the journal, behind any other gap with
    /// the oldest event that is left.
    pub gap: Option<Gap>,
    /// What happened, in order.
    pub events: Vec<Recorded>,
    /// The place behind them.
    pub cursor: Cursor,
    /// There is more to be read already.
    pub more: bool,
}

/// Keeps a journal of what happened.
#[async_trait]
pub trait Observe: Send + Sync {
    /// Has every change recorded that is committed after the answer, for the lease, and answers where
    /// to read. Renew a lease when a third of it is over.
    ///
    /// # Errors
    ///
    /// [`StoreError::Rejected`] when the lease is zero or longer than [`WATCH_LEASE_MAX`], and when a
    /// new name would exceed [`WATCHERS_MAX`]; what the backend reports.
    ///
    /// # Cancel safety
    ///
    /// All or nothing; repeating it is safe.
    async fn watch(&self, watch: &Watch) -> Result<Watched, StoreError>;

    /// Ends the watch under this name, and forgets its place; says whether there was one.
    ///
    /// # Errors
    ///
    /// What the backend reports.
    async fn unwatch(&self, name: &WatcherName) -> Result<bool, StoreError>;

    /// Reads who watches, by name; those whose lease is over are left out.
    ///
    /// # Errors
    ///
    /// What the backend reports.
    async fn watchers(&self) -> Result<Vec<WatcherInfo>, StoreError>;

    /// The end of the journal: a reader that goes on from here is told what is committed after the
    /// answer, and nothing that was answered before the call.
    ///
    /// What a page was read from after this call is never older than the cursor.
    ///
    /// # Errors
    ///
    /// What the backend reports.
    async fn latest(&self) -> Result<Cursor, StoreError>;

    /// Reads what happened behind a cursor: about `limit` events, since a commit is never cut. A cursor
    /// that cannot be followed is no error, but a [`gap`](Changes::gap).
    ///
    /// # Errors
    ///
    /// [`StoreError::Rejected`] when the limit is not within 1 and
    /// [`BATCH_MAX`](crate::limits::BATCH_MAX); what the backend reports.
    async fn changes(&self, after: &Cursor, limit: usize) -> Result<Changes, StoreError>;

    /// Waits until something was recorded behind the cursor, or `within` has passed.
    ///
    /// A hint, like [`wait_for_work`](super::Dispatch::wait_for_work): it may return for nothing, and
    /// something may have happened without it.
    async fn wait_for_changes(&self, after: &Cursor, within: Duration);

    /// Records what happened to a server.
    ///
    /// # Errors
    ///
    /// What the backend reports.
    async fn announce(&self, server: ServerId, event: &ServerEvent) -> Result<(), StoreError>;
}

/// Checks a watch before anything of it is kept; every store calls it.
///
/// # Errors
///
/// See [`Observe::watch`].
pub fn check_watch(watch: &Watch) -> Result<(), StoreError> {
    use crate::error::Rejection;
    match watch.lease {
        Some(Duration::ZERO) => {
            Err(StoreError::rejected(Rejection::ZeroDuration { what: "the lease of a watcher" }))
        }
        Some(lease) if lease > WATCH_LEASE_MAX => {
            Err(StoreError::rejected(Rejection::WatchTooLong { max: WATCH_LEASE_MAX }))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_short_and_plain() {
        for good in ["a", "p7f.12:15,13", &"x".repeat(CURSOR_BYTES_MAX)] {
            assert_eq!(good.parse::<Cursor>().unwrap().as_str(), good);
        }
        for bad in ["", " ", "a\n", "ä", "a/b", "\0", &"x".repeat(CURSOR_BYTES_MAX + 1)] {
            assert_eq!(bad.parse::<Cursor>(), Err(InvalidCursor), "{bad:?}");
        }
    }

    #[test]
    fn leases_of_watchers_are_checked() {
        let name = WatcherName::new("w").unwrap();
        let lasting = |lease| check_watch(&Watch::lasting(name.clone(), lease));
        assert!(lasting(Duration::ZERO).is_err());
        assert!(lasting(WATCH_LEASE_MAX).is_ok());
        assert!(lasting(WATCH_LEASE_MAX + Duration::from_micros(1)).is_err());
        assert!(check_watch(&Watch::durable(name)).is_ok());
    }

    #[test]
    fn identities_sort_as_events_do() {
        let id = |entry, index| EventId { journal: 7, entry, index };
        assert!(id(1, 9) < id(2, 0) && id(2, 0) < id(2, 1));
        assert_eq!(id(2, 1).to_string(), "0000000000000007-2-1");
    }
}
