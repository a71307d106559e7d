//! What can go wrong, by operation.

use std::time::Duration;

use crate::{id::TaskId, name::TAG_BYTES_MAX};

/// The boxed cause of an error.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// A text that is no valid name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is not {rule}")]
pub struct InvalidName {
    what: &'static str,
    text: String,
    rule: &'static str,
}

impl InvalidName {
    pub(crate) fn new(what: &'static str, text: &str, rule: &'static str) -> Self {
        let shown: String = text.chars().take(TAG_BYTES_MAX).collect();
        let text = if shown.len() < text.len() { format!("{shown}…") } else { shown };
        Self { what, text, rule }
    }
}

/// A text or a number that is no UUID, or of a task none of version 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is a UUID, that of a task one of version 7")]
pub struct InvalidId;

/// Why a store, or a client before it, refuses an input. Nothing was stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The payload exceeds the limit.
    #[error("payload of {len} bytes exceeds {max}")]
    PayloadTooLarge {
        /// Its size in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The metadata, keys and values together, exceeds the limit.
    #[error("metadata of {len} bytes exceeds {max}")]
    MetadataTooLarge {
        /// Its size in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A metadata key is empty, too long or has control characters, or a value holds NUL.
    #[error("metadata entry {key:?} is not storable text")]
    InvalidMetadata {
        /// The key of the entry.
        key: String,
    },
    /// More tags than a task can have.
    #[error("{len} tags exceed {max}")]
    TooManyTags {
        /// How many there are.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A time too far away.
    #[error("{what} lies more than 10 years in the future")]
    BeyondHorizon {
        /// Which time.
        what: &'static str,
    },
    /// A task needs at least one attempt.
    #[error("max_attempts is 0; the least is 1")]
    NoAttempts,
    /// A timeout, period or lease of zero length.
    #[error("{what} is zero")]
    ZeroDuration {
        /// Which duration.
        what: &'static str,
    },
    /// A document without a proper key, or twice in one batch.
    #[error("document key {key:?} is not 1 to 512 bytes without control characters, or repeated")]
    InvalidDocumentKey {
        /// The key.
        key: String,
    },
    /// A document, or all of a batch together, larger than can be kept.
    #[error("document of {len} bytes exceeds {max}")]
    DocumentTooLarge {
        /// Its size in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A watcher that would watch for too long by one call.
    #[error("the lease of a watcher exceeds {} s", max.as_secs())]
    WatchTooLong {
        /// The longest lease.
        max: Duration,
    },
    /// There are as many watchers as there can be.
    #[error("{max} watchers are the most")]
    TooManyWatchers {
        /// The limit.
        max: usize,
    },
    /// A retry policy that says nothing or too much.
    #[error("retry policy: {reason}")]
    InvalidRetry {
        /// What is wrong.
        reason: &'static str,
    },
    /// A uniqueness scope that leaves out states between enqueue and finish.
    #[error("a uniqueness scope holds every unfinished state: the key cannot be lost and regained")]
    InvalidUniqueScope,
    /// All payloads and metadata of a batch together exceed the limit.
    #[error("batch of {len} bytes exceeds {max}")]
    BatchBytes {
        /// Its size in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The same id stands twice in one batch.
    #[error("task id {id} stands twice in the batch")]
    RepeatedId {
        /// The id.
        id: TaskId,
    },
    /// A page or a sweep of no or too many rows.
    #[error("limit {limit} is not within 1..={max}")]
    InvalidLimit {
        /// What was asked for.
        limit: usize,
        /// The most.
        max: usize,
    },
}

/// What a store answers when it cannot do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store cannot be reached now; the same call may succeed later.
    #[error("the store is unavailable")]
    Unavailable {
        /// What the backend said.
        source: Source,
    },
    /// Lost against a concurrent change; the same call may succeed at once.
    #[error("lost against a concurrent change")]
    Conflict,
    /// The input is not acceptable, and nothing was stored.
    #[error("item {index} was rejected: {reason}")]
    Rejected {
        /// Which item of the batch, counted from 0.
        index: usize,
        /// Why.
        reason: Rejection,
    },
    /// More items than one call takes; callers split.
    #[error("batch of {len} exceeds {max}")]
    BatchTooLarge {
        /// How many there were.
        len: usize,
        /// The most.
        max: usize,
    },
    /// Something stored does not read back as what was written.
    #[error("corrupt data: {what}")]
    Corrupt {
        /// What was found where.
        what: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// A write failed earlier, and what the medium holds is uncertain: reopen the store.
    #[error("the store failed and has to be reopened: {reason}")]
    Failed {
        /// What failed first.
        reason: String,
    },
    /// Anything else that the backend reports.
    #[error("the backend reported an error")]
    Backend {
        /// What the backend said.
        source: Source,
    },
}

impl StoreError {
    /// Says whether the same call may succeed when repeated.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Conflict)
    }

    /// A rejection of the only item.
    #[must_use]
    pub const fn rejected(reason: Rejection) -> Self {
        Self::Rejected { index: 0, reason }
    }
}

/// Why a task was not enqueued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// The payload could not be serialised.
    #[error("the payload could not be encoded")]
    Encode {
        /// What serde said.
        source: serde_json::Error,
    },
    /// The payload exceeds the limit.
    #[error("payload of {len} bytes exceeds {max}")]
    PayloadTooLarge {
        /// Its size in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// An option cannot be taken as it is.
    #[error("option {field}: {reason}")]
    InvalidOptions {
        /// Which option.
        field: &'static str,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A task with the same unique key exists, and the caller asked for an error.
    #[error("task {of} holds the unique key")]
    Duplicate {
        /// The task that holds the key.
        of: TaskId,
    },
    /// The store refused or failed.
    #[error("the store did not take the task")]
    Store {
        /// What the store said.
        #[source]
        source: StoreError,
    },
}

impl From<StoreError> for EnqueueError {
    fn from(source: StoreError) -> Self {
        match source {
            StoreError::Rejected { reason, .. } => reason.into(),
            source => Self::Store { source },
        }
    }
}

impl From<Rejection> for EnqueueError {
    fn from(reason: Rejection) -> Self {
        let field = match &reason {
            Rejection::PayloadTooLarge { len, max } => {
                return Self::PayloadTooLarge { len: *len, max: *max };
            }
            Rejection::MetadataTooLarge { .. } | Rejection::InvalidMetadata { .. } => "metadata",
            Rejection::TooManyTags { .. } => "tags",
            Rejection::BeyondHorizon { what } | Rejection::ZeroDuration { what } => what,
            Rejection::NoAttempts => "max_attempts",
            Rejection::InvalidRetry { .. } => "retry",
            Rejection::InvalidUniqueScope => "unique",
            Rejection::RepeatedId { .. } => "id",
            Rejection::BatchBytes { .. } | Rejection::InvalidLimit { .. } => "batch",
            Rejection::InvalidDocumentKey { .. } | Rejection::DocumentTooLarge { .. } => "document",
            Rejection::WatchTooLong { .. } | Rejection::TooManyWatchers { .. } => "watcher",
        };
        Self::InvalidOptions { field, reason: reason.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every rejection, and the option that it is reported under; `None` for the payload.
    fn rejections() -> [(Rejection, Option<&'static str>); 12] {
        let (len, max) = (2, 1);
        let what = "timeout";
        [
            (Rejection::PayloadTooLarge { len, max }, None),
            (Rejection::MetadataTooLarge { len, max }, Some("metadata")),
            (Rejection::InvalidMetadata { key: String::new() }, Some("metadata")),
            (Rejection::TooManyTags { len, max }, Some("tags")),
            (Rejection::BeyondHorizon { what }, Some("timeout")),
            (Rejection::NoAttempts, Some("max_attempts")),
            (Rejection::ZeroDuration { what }, Some("timeout")),
            (Rejection::InvalidRetry { reason: "x" }, Some("retry")),
            (Rejection::InvalidUniqueScope, Some("unique")),
            (Rejection::BatchBytes { len, max }, Some("batch")),
            (Rejection::RepeatedId { id: TaskId::MIN }, Some("id")),
            (Rejection::InvalidLimit { limit: 0, max }, Some("batch")),
        ]
    }

    #[track_caller]
    fn check(error: EnqueueError, rejection: &Rejection, expected: Option<&str>) {
        match (error, expected) {
            (EnqueueError::PayloadTooLarge { len: 2, max: 1 }, None) => {}
            (EnqueueError::InvalidOptions { field, reason }, Some(expected)) => {
                assert_eq!(field, expected);
                assert_eq!(reason, rejection.to_string());
            }
            (error, expected) => unreachable!("{error:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn a_rejection_names_the_option_whoever_refuses() {
        for (rejection, expected) in rejections() {
            check(rejection.clone().into(), &rejection, expected);
            let of_store = StoreError::Rejected { index: 7, reason: rejection.clone() };
            check(of_store.into(), &rejection, expected);
        }
    }

    #[test]
    fn every_other_error_of_the_store_is_its_source() {
        let source = || Source::from("x");
        for error in [
            StoreError::Unavailable { source: source() },
            StoreError::Conflict,
            StoreError::BatchTooLarge { len: 2, max: 1 },
            StoreError::Corrupt { what: String::new() },
            StoreError::Closed,
            StoreError::Failed { reason: String::new() },
            StoreError::Backend { source: source() },
        ] {
            let message = error.to_string();
            let error = EnqueueError::from(error);
            let source = std::error::Error::source(&error).unwrap();
            assert_eq!(source.to_string(), message);
            assert_eq!(error.to_string(), "the store did not take the task");
        }
    }

    #[test]
    fn only_what_may_pass_is_transient() {
        assert!(StoreError::Unavailable { source: "x".into() }.is_transient());
        assert!(StoreError::Conflict.is_transient());
        assert!(!StoreError::Closed.is_transient());
        assert!(!StoreError::rejected(Rejection::NoAttempts).is_transient());
        assert!(!StoreError::Failed { reason: String::new() }.is_transient());
    }

    #[test]
    fn a_long_name_is_shown_in_part() {
        let error = InvalidName::new("kind", &"ä".repeat(1_000), "short");
        let shown = "ä".repeat(TAG_BYTES_MAX);
        assert_eq!(error.to_string(), format!("kind \"{shown}…\" is not short"));
        let error = InvalidName::new("kind", "a b", "short");
        assert_eq!(error.to_string(), "kind \"a b\" is not short");
    }
}
