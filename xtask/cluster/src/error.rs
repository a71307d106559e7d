//! What can go wrong with a cluster.

use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

/// Why a cluster, or the bouncer in front of it, did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// A program is not installed, or not where it was said to be.
    #[error("no {program} found in {}; {hint}", listed(searched))]
    Missing {
        /// The program.
        program: &'static str,
        /// The directories that were looked at.
        searched: Vec<PathBuf>,
        /// How to get it.
        hint: &'static str,
    },
    /// Running as root, which the servers refuse, on a machine without a user to be instead.
    #[error("the servers refuse to run as root, and there is neither a user postgres nor nobody")]
    NoAccount,
    /// The operating system refused.
    #[error("cannot {operation}")]
    Io {
        /// What was tried.
        operation: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program ended although it should have gone on, or failed.
    #[error("{program} ended with {status}; it said:\n{log}")]
    Ended {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// A server did not become ready, or did not stop, in time.
    #[error("{program} did not {what} within {} s; it said:\n{log}", limit.as_secs())]
    Late {
        /// The program.
        program: &'static str,
        /// What it should have done.
        what: &'static str,
        /// How long it had.
        limit: Duration,
        /// The end of its log.
        log: String,
    },
    /// The server is stopped, so it cannot do this.
    #[error("the server is not running")]
    NotRunning,
    /// The server refused a statement or a connection.
    #[error("the server says {code}: {message}")]
    Refused {
        /// The SQLSTATE.
        code: String,
        /// The message for people.
        message: String,
    },
}

impl ClusterError {
    /// Whether a program is missing, so that a test may be skipped instead of failing.
    #[must_use]
    pub const fn is_missing_program(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }

    /// Whether the server did not answer within the given time; it may be frozen.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Late { .. } => true,
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
            }
            _ => false,
        }
    }

    /// For `map_err`: names the operation that the system refused.
    pub(crate) fn io(operation: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let operation = operation.into();
        move |source| Self::Io { operation, source }
    }
}

fn listed(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    if paths.is_empty() { "any directory".to_owned() } else { paths.join(", ") }
}
