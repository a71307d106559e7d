//! Where operations are kept.
//!
//! Beside its document, an operation that is not over has an empty one under another key, so that those
//! who look for work read nothing of what is over.

use super::{Operation, OperationId};
use crate::document::{Document, Expect, Put, Space};

/// What keys of operations that are not over begin with.
pub(crate) const KEY_OPEN: &str = "open|";

/// What keys of operations begin with.
pub(crate) const KEY: &str = "operation|";

/// The key of an operation.
pub(crate) fn key(id: OperationId) -> String {
    format!("{KEY}{id}")
}

/// The key that says that an operation is not over.
pub(crate) fn key_open(id: OperationId) -> String {
    format!("{KEY_OPEN}{id}")
}

/// The write of an operation, if nobody else wrote it since.
pub(crate) fn put(operation: &Operation, expect: Expect) -> Result<Put, serde_json::Error> {
    let body = serde_json::to_vec(operation)?;
    let put = Put::new(Space::Operation, key(operation.id), body).expect(expect);
    Ok(Put { expires_at: operation.expires_at(), ..put })
}

impl Operation {
    /// Reads an operation; `None` when it is of another form.
    #[must_use]
    pub fn read(document: &Document) -> Option<Self> {
        serde_json::from_slice(&document.body).ok()
    }
}

impl OperationId {
    /// The operation that a key says is not over.
    pub(crate) fn of_open(key: &str) -> Option<Self> {
        key.strip_prefix(KEY_OPEN)?.parse().ok()
    }
}
