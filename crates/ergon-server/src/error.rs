//! Why a server does not start.

use ergon_core::StoreError;

/// Why a server was not built, or did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Two handlers for the same kind of task: which one to call would be a guess.
    #[error("two handlers for tasks of kind {kind:?}; register one")]
    DuplicateHandler {
        /// The kind.
        kind: String,
    },
    /// The same queue was named twice.
    #[error("queue {queue:?} is named twice; name it once, with all its choices")]
    DuplicateQueue {
        /// The queue.
        queue: String,
    },
    /// No handler: the server would have nothing to run.
    #[error("no handler; add one with `.handler(…)` or `.worker(…)`")]
    NoHandlers,
    /// A choice is out of range.
    #[error("{field}: {reason}")]
    InvalidConfig {
        /// Which choice.
        field: &'static str,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// The store does not work, and will not by waiting.
    #[error("the store does not work")]
    Store {
        /// What the store said.
        #[source]
        source: StoreError,
    },
}
