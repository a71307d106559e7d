//! How far a running task has come, as its handler tells it.

use jiff::Timestamp;

use crate::{
    id::{TaskId, Token},
    text::storable,
};

/// Longest message of a progress report, in bytes; what exceeds it is cut.
pub const REPORT_BYTES_MAX: usize = 1_024;

/// How far a running task has come.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ProgressReport {
    /// How much is done, in a unit of the handler's own.
    pub done: u64,
    /// Of how much, if that is known.
    pub total: Option<u64>,
    /// What the handler says to it; may be empty, at most 1 KiB.
    pub message: String,
}

impl ProgressReport {
    /// So much is done, of nobody knows how much.
    #[must_use]
    pub const fn new(done: u64) -> Self {
        Self { done, total: None, message: String::new() }
    }

    /// Of so much.
    #[must_use]
    pub const fn of(mut self, total: u64) -> Self {
        self.total = Some(total);
        self
    }

    /// With a word to it.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = storable(message, REPORT_BYTES_MAX);
        self
    }

    /// Which part is done, from 0 to 1, if the whole is known.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share for people, not a count")]
    pub fn fraction(&self) -> Option<f64> {
        let total = self.total?;
        if total == 0 { Some(1.0) } else { Some((self.done as f64 / total as f64).clamp(0.0, 1.0)) }
    }
}

/// A progress report as it is kept, while the attempt runs that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptReport {
    /// When the store took it.
    pub at: Timestamp,
    /// What was told.
    pub report: ProgressReport,
}

/// A progress report of one claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimReport {
    /// The task.
    pub id: TaskId,
    /// The token of the claim.
    pub token: Token,
    /// How far it has come.
    pub report: ProgressReport,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_known_if_the_whole_is() {
        assert_eq!(ProgressReport::new(3).fraction(), None);
        assert_eq!(ProgressReport::new(1).of(4).fraction(), Some(0.25));
        assert_eq!(ProgressReport::new(9).of(4).fraction(), Some(1.0));
        assert_eq!(ProgressReport::new(0).of(0).fraction(), Some(1.0));
    }

    #[test]
    fn messages_are_made_storable() {
        let long = ProgressReport::new(1).message("\0".repeat(REPORT_BYTES_MAX + 1)).message;
        assert!(long.len() <= REPORT_BYTES_MAX && !long.contains('\0'));
    }
}
