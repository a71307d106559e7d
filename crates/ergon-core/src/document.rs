//! Documents: what is small, seldom and named, and has to be in the store all the same.
//!
//! Servers that live, statistics by the minute, the audit trail, operations on many tasks: none of
//! them is on the way of a task, and each is a small text under a key. Stores keep them without
//! knowing what they mean; the modules of this crate that own a [space](Space) do.

use bytes::Bytes;
use jiff::Timestamp;

use crate::{
    error::{Rejection, StoreError},
    limits::BATCH_MAX,
    outcome::{check_batch, check_limit},
};

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 512;

/// Largest body: 256 KiB.
pub const BODY_BYTES_MAX: usize = 256 << 10;

/// All bodies of one call together: 16 MiB.
pub const PUT_BYTES_MAX: usize = 16 << 20;

/// What documents are about; keys of two spaces have nothing to do with one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Space {
    /// Servers that live, or died lately.
    Server,
    /// What happened, by time, queue and kind.
    Statistics,
    /// Failures that are alike.
    Failure,
    /// Who ordered what.
    Audit,
    /// Commands for many tasks, and how far they are.
    Operation,
    /// What a tool keeps for itself, such as a signing key.
    Setting,
}

impl Space {
    /// Every space.
    pub const ALL: [Self; 6] = [
        Self::Server,
        Self::Statistics,
        Self::Failure,
        Self::Audit,
        Self::Operation,
        Self::Setting,
    ];

    /// The lower-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Statistics => "statistics",
            Self::Failure => "failure",
            Self::Audit => "audit",
            Self::Operation => "operation",
            Self::Setting => "setting",
        }
    }

    /// The place of this space in [`Space::ALL`], for stores that keep a number.
    #[must_use]
    pub const fn index(self) -> u8 {
        self as u8
    }
}

/// A document as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its key.
    pub key: String,
    /// How often it was written: larger at every write of this key since it was made, from 1.
    pub version: u64,
    /// What it says.
    pub body: Bytes,
    /// When it may be removed.
    pub expires_at: Option<Timestamp>,
}

/// What a write expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Expect {
    /// Whatever there is is replaced.
    #[default]
    Anything,
    /// Nothing under this key.
    Absent,
    /// This version.
    Version(u64),
}

/// One write of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Put {
    /// Where.
    pub space: Space,
    /// Under which key: 1 to 512 bytes of text without control characters. Keys sort by their bytes.
    pub key: String,
    /// What it expects to find; else it changes nothing.
    pub expect: Expect,
    /// What the document says from now on, at most 256 KiB; `None` removes it.
    pub body: Option<Bytes>,
    /// When it may be removed; never, unless chosen.
    pub expires_at: Option<Timestamp>,
}

impl Put {
    /// Writes a document, whatever there was.
    #[must_use]
    pub fn new(space: Space, key: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let (key, body) = (key.into(), Some(body.into()));
        Self { space, key, expect: Expect::Anything, body, expires_at: None }
    }

    /// Removes a document.
    #[must_use]
    pub fn remove(space: Space, key: impl Into<String>) -> Self {
        let key = key.into();
        Self { space, key, expect: Expect::Anything, body: None, expires_at: None }
    }

    /// Only if this is found.
    #[must_use]
    pub const fn expect(mut self, expect: Expect) -> Self {
        self.expect = expect;
        self
    }

    /// It may be removed from this instant on.
    #[must_use]
    pub const fn expires_at(mut self, instant: Timestamp) -> Self {
        self.expires_at = Some(instant);
        self
    }
}

/// What came of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PutVerdict {
    /// It is written, as this version; 0 when it is removed, or was not there to be removed.
    Done {
        /// The version that it has now.
        version: u64,
    },
    /// Something else was found than was expected; nothing changed.
    Conflict,
}

/// Which documents of a space to read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DocumentRange {
    /// The space.
    pub space: Space,
    /// From this key on, it included; from the first on when empty.
    pub from: String,
    /// Up to this key, it excluded; to the last when `None`.
    pub to: Option<String>,
    /// From the last key to the first.
    pub is_reversed: bool,
    /// How many at the most: 1 to [`BATCH_MAX`]. Default 1,000.
    pub limit: usize,
}

impl DocumentRange {
    /// All of a space, by key.
    #[must_use]
    pub const fn all(space: Space) -> Self {
        Self { space, from: String::new(), to: None, is_reversed: false, limit: 1_000 }
    }

    /// Those whose keys begin so.
    #[must_use]
    pub fn prefix(space: Space, prefix: impl Into<String>) -> Self {
        let from: String = prefix.into();
        // No key goes on with a character beyond the last one.
        let to = Some(format!("{from}{}", char::MAX));
        Self { from, to, ..Self::all(space) }
    }

    /// The one with this key.
    #[must_use]
    pub fn one(space: Space, key: impl Into<String>) -> Self {
        let from: String = key.into();
        let to = Some(format!("{from}\0"));
        Self { from, to, limit: 1, ..Self::all(space) }
    }

    /// From this key on, it included.
    #[must_use]
    pub fn from(mut self, key: impl Into<String>) -> Self {
        self.from = key.into();
        self
    }

    /// Up to this key, it excluded.
    #[must_use]
    pub fn to(mut self, key: impl Into<String>) -> Self {
        self.to = Some(key.into());
        self
    }

    /// From the last key to the first.
    #[must_use]
    pub const fn reversed(mut self) -> Self {
        self.is_reversed = true;
        self
    }

    /// At most so many.
    #[must_use]
    pub const fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Says whether the key lies within.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        key >= self.from.as_str() && self.to.as_deref().is_none_or(|to| key < to)
    }
}

/// Checks writes before any is carried out; every store calls it.
///
/// # Errors
///
/// [`StoreError::BatchTooLarge`]; [`StoreError::Rejected`] for the first write whose key or body is out
/// of range, or when the same document stands in the batch twice.
pub fn check_puts(puts: &[Put]) -> Result<(), StoreError> {
    check_batch(puts.len())?;
    let rejected = |index, reason| Err(StoreError::Rejected { index, reason });
    let mut seen = std::collections::HashSet::with_capacity(puts.len());
    let mut bytes = 0;
    for (index, put) in puts.iter().enumerate() {
        let key = put.key.as_str();
        let is_good =
            (1..=KEY_BYTES_MAX).contains(&key.len()) && !key.chars().any(char::is_control);
        if !is_good || !seen.insert((put.space, key)) {
            return rejected(index, Rejection::InvalidDocumentKey { key: put.key.clone() });
        }
        let len = put.body.as_ref().map_or(0, Bytes::len);
        bytes += len;
        if len > BODY_BYTES_MAX {
            return rejected(index, Rejection::DocumentTooLarge { len, max: BODY_BYTES_MAX });
        }
        if bytes > PUT_BYTES_MAX {
            return rejected(index, Rejection::DocumentTooLarge { len: bytes, max: PUT_BYTES_MAX });
        }
    }
    Ok(())
}

/// Checks a range before it is read; every store calls it.
///
/// # Errors
///
/// [`StoreError::Rejected`] when the limit is not within 1 and [`BATCH_MAX`].
pub const fn check_range(range: &DocumentRange) -> Result<(), StoreError> {
    check_limit(range.limit, BATCH_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, len: usize) -> Put {
        Put::new(Space::Setting, key, vec![0; len])
    }

    #[track_caller]
    fn refused(puts: &[Put]) -> (usize, String) {
        match check_puts(puts) {
            Err(StoreError::Rejected { index, reason }) => (index, format!("{reason:?}")),
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn keys_and_bodies_are_checked() {
        assert!(check_puts(&[]).is_ok());
        assert!(
            check_puts(&[put("a", 0), put(&"k".repeat(KEY_BYTES_MAX), BODY_BYTES_MAX)]).is_ok()
        );
        for bad in ["", "a\0", "a\n", &"k".repeat(KEY_BYTES_MAX + 1)] {
            let (index, reason) = refused(&[put("a", 0), put(bad, 0)]);
            assert!(index == 1 && reason.starts_with("InvalidDocumentKey"), "{reason}");
        }
        assert!(refused(&[put("a", BODY_BYTES_MAX + 1)]).1.starts_with("DocumentTooLarge"));
        let many: Vec<_> = (0..65).map(|it| put(&it.to_string(), BODY_BYTES_MAX)).collect();
        assert_eq!(refused(&many).0, 64);
        assert_eq!(refused(&[put("a", 0), put("b", 0), put("a", 0)]).0, 2);
        let other = Put { space: Space::Audit, ..put("a", 0) };
        assert!(check_puts(&[put("a", 0), other]).is_ok(), "spaces are apart");
    }

    #[test]
    fn ranges_hold_what_they_say() {
        let all = DocumentRange::all(Space::Audit);
        assert!(all.contains("") && all.contains("\u{10ffff}z"));
        let some = DocumentRange::prefix(Space::Audit, "m/");
        assert!(
            some.contains("m/")
                && some.contains("m/ä")
                && !some.contains("m")
                && !some.contains("n")
        );
        let one = DocumentRange::one(Space::Audit, "a");
        assert!(one.contains("a") && !one.contains("aa") && !one.contains("b"));
        let between = all.from("b").to("d");
        assert!(!between.contains("a") && between.contains("b") && !between.contains("d"));
    }

    #[test]
    fn spaces_are_told_apart_by_name_and_number() {
        for (space, index) in Space::ALL.into_iter().zip(0..) {
            assert_eq!(space.index(), index);
            assert!(space.as_str().bytes().all(|byte| byte.is_ascii_lowercase()));
        }
    }
}
