//! What a handler decided, and what the store answers to it.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    error::Rejection,
    id::{TaskId, Token},
    limits::{HORIZON, Limits},
    progress::ErrorKind,
    text::storable,
};

/// What became of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// Done; the task is completed.
    Complete {
        /// What the handler answered.
        result: Option<Bytes>,
    },
    /// Failed; the task is tried again, or fails when its attempts are used up.
    Retry {
        /// How long it waits.
        delay: Duration,
        /// What kind of failure.
        kind: ErrorKind,
        /// What the handler said.
        error: String,
    },
    /// Failed for good, whatever attempts are left.
    Fail {
        /// What kind of failure.
        kind: ErrorKind,
        /// What the handler said.
        error: String,
    },
    /// Called off by the handler.
    Cancel {
        /// Why.
        reason: String,
    },
    /// Not now: the task runs again later, and no attempt is spent.
    Snooze {
        /// How long it waits.
        delay: Duration,
    },
    /// Given back unfinished, as in a shutdown: due as before, and no attempt is spent.
    Release,
}

impl Conclusion {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> ConclusionKind {
        match self {
            Self::Complete { .. } => ConclusionKind::Complete,
            Self::Retry { .. } => ConclusionKind::Retry,
            Self::Fail { .. } => ConclusionKind::Fail,
            Self::Cancel { .. } => ConclusionKind::Cancel,
            Self::Snooze { .. } => ConclusionKind::Snooze,
            Self::Release => ConclusionKind::Release,
        }
    }

    /// How long the task waits before it runs again, where that is said.
    #[must_use]
    pub const fn delay(&self) -> Duration {
        match self {
            Self::Retry { delay, .. } | Self::Snooze { delay } => *delay,
            Self::Complete { .. } | Self::Fail { .. } | Self::Cancel { .. } | Self::Release => {
                Duration::ZERO
            }
        }
    }

    /// Says whether it ends an attempt.
    pub(crate) const fn spends_attempt(&self) -> bool {
        match self {
            Self::Complete { .. }
            | Self::Retry { .. }
            | Self::Fail { .. }
            | Self::Cancel { .. } => true,
            Self::Snooze { .. } | Self::Release => false,
        }
    }

    /// What is kept among the errors of the task. Of two reasons for a cancel the first is kept.
    pub(crate) fn error(&self, cancel_requested: bool) -> Option<(ErrorKind, &str)> {
        match self {
            Self::Retry { kind, error, .. } | Self::Fail { kind, error } => Some((*kind, error)),
            Self::Cancel { reason } if !cancel_requested => Some((ErrorKind::Cancelled, reason)),
            Self::Complete { .. } | Self::Cancel { .. } | Self::Snooze { .. } | Self::Release => {
                None
            }
        }
    }

    /// Makes it storable whatever it holds, the one place that does so: text is cleaned and cut,
    /// delays are cut to the horizon, and a result beyond the limit becomes a failure that says so.
    #[must_use]
    pub fn storable(self, limits: &Limits) -> Self {
        let text = |text: String| storable(text, limits.error_bytes_max);
        let near = |delay| std::cmp::min(delay, HORIZON);
        match self {
            Self::Complete { result: Some(result) } if result.len() > limits.result_bytes_max => {
                let (len, max) = (result.len(), limits.result_bytes_max);
                let error = format!("result of {len} bytes exceeds {max}");
                Self::Fail { kind: ErrorKind::Result, error }
            }
            Self::Complete { result } => Self::Complete { result },
            Self::Retry { delay, kind, error } => {
                Self::Retry { delay: near(delay), kind, error: text(error) }
            }
            Self::Fail { kind, error } => Self::Fail { kind, error: text(error) },
            Self::Cancel { reason } => Self::Cancel { reason: text(reason) },
            Self::Snooze { delay } => Self::Snooze { delay: near(delay) },
            Self::Release => Self::Release,
        }
    }
}

/// The kind of a [`Conclusion`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConclusionKind {
    /// [`Conclusion::Complete`]
    Complete,
    /// [`Conclusion::Retry`]
    Retry,
    /// [`Conclusion::Fail`]
    Fail,
    /// [`Conclusion::Cancel`]
    Cancel,
    /// [`Conclusion::Snooze`]
    Snooze,
    /// [`Conclusion::Release`]
    Release,
}

impl ConclusionKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Complete, Self::Retry, Self::Fail, Self::Cancel, Self::Snooze, Self::Release];
}

/// One write of a worker: which claim it ends, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The task.
    pub id: TaskId,
    /// The token of the claim.
    pub token: Token,
    /// What became of it.
    pub conclusion: Conclusion,
}

/// What the store answers to an [`Outcome`]; none of them is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The outcome was applied.
    Applied,
    /// The same outcome of the same claim was applied before; nothing changed.
    AlreadyApplied,
    /// The claim is not live any more, or the task is gone; nothing changed.
    Stale,
    /// A cancel had been asked for: the task is cancelled, whatever the outcome said.
    CancelRequested,
}

/// Checks the number of items of a batch against [`BATCH_MAX`](crate::limits::BATCH_MAX).
///
/// # Errors
///
/// [`StoreError::BatchTooLarge`](crate::StoreError::BatchTooLarge) when there are more.
pub const fn check_batch(len: usize) -> Result<(), crate::StoreError> {
    let max = crate::limits::BATCH_MAX;
    if len > max { Err(crate::StoreError::BatchTooLarge { len, max }) } else { Ok(()) }
}

/// Checks the limit of a page or a sweep against its cap.
///
/// # Errors
///
/// [`Rejection::InvalidLimit`] when it is 0 or larger than `max`.
pub const fn check_limit(limit: usize, max: usize) -> Result<(), crate::StoreError> {
    if limit == 0 || limit > max {
        Err(crate::StoreError::rejected(Rejection::InvalidLimit { limit, max }))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dirty_text_is_made_storable() {
        let limits = Limits::default();
        let error = format!("bad\0{}", "ä".repeat(16 << 10));
        let kind = ErrorKind::Error;
        let Conclusion::Fail { error, .. } = (Conclusion::Fail { kind, error }).storable(&limits)
        else {
            unreachable!("a failure stays a failure");
        };
        assert!(error.len() <= 16 << 10 && !error.contains('\0'));
    }

    #[test]
    fn a_result_beyond_the_limit_becomes_a_failure() {
        let result = Some(Bytes::from(vec![0; (1 << 20) + 1]));
        let conclusion = Conclusion::Complete { result }.storable(&Limits::default());
        assert_eq!(conclusion.kind(), ConclusionKind::Fail);
        let result = Some(Bytes::from(vec![0; 1 << 20]));
        let conclusion = Conclusion::Complete { result }.storable(&Limits::default());
        assert_eq!(conclusion.kind(), ConclusionKind::Complete);
    }

    #[test]
    fn batches_and_limits_are_checked_at_both_ends() {
        use crate::limits::BATCH_MAX;
        assert!(check_batch(0).is_ok() && check_batch(BATCH_MAX).is_ok());
        assert!(check_batch(BATCH_MAX + 1).is_err());
        for (limit, is_good) in [(0, false), (1, true), (7, true), (8, false)] {
            assert_eq!(check_limit(limit, 7).is_ok(), is_good, "{limit}");
        }
    }

    #[test]
    fn delays_are_cut_to_the_horizon() {
        let conclusion = Conclusion::Snooze { delay: Duration::MAX }.storable(&Limits::default());
        assert_eq!(conclusion, Conclusion::Snooze { delay: HORIZON });
    }
}
