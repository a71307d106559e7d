//! Why a bus is not built, or not started.

/// Why a bus was not built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A choice is out of range.
    #[error("{field}: {reason}")]
    InvalidConfig {
        /// Which choice.
        field: &'static str,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// Two durable sinks of one name would share one place in the journal.
    #[error("two durable sinks are named {name:?}; name each differently")]
    DuplicateSink {
        /// The name.
        name: String,
    },
    /// The name of a durable sink is kept in the store, and cannot be.
    #[error("{name:?} cannot name a durable sink: 1 to 128 bytes of [A-Za-z0-9._:/-]")]
    InvalidSinkName {
        /// The name.
        name: String,
    },
    /// A durable sink reads the journal of a store, and there is none.
    #[error(
        "durable sink {name:?} needs a store; add one with `.store(…)` or `Source::journal(…)`"
    )]
    NoStore {
        /// The name of the sink.
        name: String,
    },
    /// What this process published itself cannot be read again: only a journal keeps what has left the
    /// ring.
    #[error("observer {name:?} cannot be backfilled from this process; take `Source::journal(…)`")]
    NoJournal {
        /// The name of the observer.
        name: String,
    },
}

/// Why a bus does not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// It was started before; a bus runs once.
    #[error("the bus was started before")]
    AlreadyStarted,
    /// Its tasks need a tokio runtime.
    #[error("there is no tokio runtime here; start the bus from within one")]
    NoRuntime,
}
