//! The half of a task that changes while it lives.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{id::Token, limits::ERRORS_KEPT_MAX, outcome::ConclusionKind, state::State};

/// The phase in which a task is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Waits until it is due and a worker is free.
    Waiting,
    /// Claimed.
    Running,
    /// Finished well.
    Completed,
    /// Finished without success.
    Failed,
    /// Called off.
    Cancelled,
}

impl Phase {
    /// Says whether the task is finished.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// What kind of failure an attempt met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorKind {
    /// The handler answered an error.
    Error,
    /// The handler panicked.
    Panic,
    /// The handler exceeded its timeout.
    Timeout,
    /// The payload could not be decoded.
    Decode,
    /// The result was larger than the limit, or could not be encoded.
    Result,
    /// The deadline had passed before the task could be started.
    Deadline,
    /// The task was called off.
    Cancelled,
    /// Too many servers died while they ran the task.
    Poison,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Error,
        Self::Panic,
        Self::Timeout,
        Self::Decode,
        Self::Result,
        Self::Deadline,
        Self::Cancelled,
        Self::Poison,
    ];

    /// The lower-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Panic => "panic",
            Self::Timeout => "timeout",
            Self::Decode => "decode",
            Self::Result => "result",
            Self::Deadline => "deadline",
            Self::Cancelled => "cancelled",
            Self::Poison => "poison",
        }
    }
}

/// One failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptError {
    /// Which attempt it was, counted from 1; of a task called off while it waits, its last one, 0
    /// before the first.
    pub attempt: u16,
    /// When the store recorded it.
    pub at: Timestamp,
    /// What kind of failure.
    pub kind: ErrorKind,
    /// What the handler said, at most 16 KiB.
    pub message: String,
}

/// The last outcome that was applied: by it, a repeated one is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The token that the outcome named.
    pub token: Token,
    /// What the outcome said.
    pub kind: ConclusionKind,
}

/// The changing half of a task; [`transition`](crate::transition) holds the rules of its change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The stored phase.
    pub phase: Phase,
    /// Larger runs first.
    pub priority: i16,
    /// When the task is, or was last, due.
    pub run_at: Timestamp,
    /// Attempts that the handler ended, well or not; a snooze and a release end none.
    pub attempt: u16,
    /// Attempts until the task fails; at least 1.
    pub max_attempts: u16,
    /// How often the server that ran the task died.
    pub crash_count: u16,
    /// The token of the newest claim.
    pub token: Token,
    /// The last outcome applied.
    pub settled: Option<Settled>,
    /// A cancel was asked for while the task ran.
    pub cancel_requested: bool,
    /// When the newest claim was made.
    pub started_at: Option<Timestamp>,
    /// When the task reached a terminal state.
    pub finished_at: Option<Timestamp>,
    /// When the finished task may be removed.
    pub expires_at: Option<Timestamp>,
    /// What the handler answered.
    pub result: Option<Bytes>,
    /// The newest failed attempts, oldest first; at most 10.
    pub errors: Vec<AttemptError>,
}

impl Progress {
    /// The progress of a task just enqueued.
    #[must_use]
    pub const fn fresh(priority: i16, max_attempts: u16, run_at: Timestamp) -> Self {
        Self {
            phase: Phase::Waiting,
            priority,
            run_at,
            attempt: 0,
            max_attempts,
            crash_count: 0,
            token: Token::NONE,
            settled: None,
            cancel_requested: false,
            started_at: None,
            finished_at: None,
            expires_at: None,
            result: None,
            errors: Vec::new(),
        }
    }

    /// The state at `now`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> State {
        match self.phase {
            Phase::Waiting => State::of_waiting(self.run_at, self.attempt, now),
            Phase::Running => State::Running,
            Phase::Completed => State::Completed,
            Phase::Failed => State::Failed,
            Phase::Cancelled => State::Cancelled,
        }
    }

    /// The attempt that runs, or else the last one, counted from 1.
    const fn newest_attempt(&self) -> u16 {
        match self.phase {
            Phase::Running => self.attempt.saturating_add(1),
            Phase::Waiting | Phase::Completed | Phase::Failed | Phase::Cancelled => self.attempt,
        }
    }

    /// Keeps an error of the newest attempt; call it before the attempt is counted as ended.
    pub(crate) fn push_error(&mut self, at: Timestamp, kind: ErrorKind, message: String) {
        if self.errors.len() >= ERRORS_KEPT_MAX {
            self.errors.drain(..=self.errors.len() - ERRORS_KEPT_MAX);
        }
        self.errors.push(AttemptError { attempt: self.newest_attempt(), at, kind, message });
    }
}
