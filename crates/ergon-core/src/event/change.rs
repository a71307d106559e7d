//! What can happen to a task, a queue and a server.

use std::{fmt, time::Duration};

use jiff::Timestamp;

use super::EventKind;
use crate::{
    command::Command,
    id::{ServerId, TaskId},
    outcome::{Conclusion, Verdict},
    progress::{ErrorKind, Phase, Progress},
    text::storable,
};

/// What happened to a task.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskEvent {
    /// It was stored.
    Enqueued {
        /// When it is due.
        run_at: Timestamp,
        /// Its priority.
        priority: i16,
    },
    /// It was not stored: another task holds its unique key. Told to sinks only, as nothing was
    /// committed.
    Deduplicated {
        /// The task that holds the key.
        of: TaskId,
    },
    /// A server claimed it.
    Started {
        /// The server.
        server: ServerId,
        /// How long it had been due: neither its delay nor its backoff.
        waited: Duration,
    },
    /// Its handler told how far it has come.
    Progressed {
        /// How much is done.
        done: u64,
        /// Of how much, if that is known.
        total: Option<u64>,
    },
    /// It finished well.
    Completed {
        /// How long the attempt ran: to a sink from the start of the handler to its end, in the
        /// journal from the claim to the record. So for every event below.
        ran: Duration,
    },
    /// Its attempt failed; it is tried again.
    Retried {
        /// How long the attempt ran.
        ran: Duration,
        /// When it is due again.
        run_at: Timestamp,
        /// What kind of failure.
        reason: ErrorKind,
        /// What the handler said, its beginning.
        error: Excerpt,
    },
    /// It finished without success.
    Failed {
        /// How long the attempt ran.
        ran: Duration,
        /// What kind of failure.
        reason: ErrorKind,
        /// What the handler said, its beginning.
        error: Excerpt,
    },
    /// It was called off while it ran; its handler will be told.
    CancelRequested,
    /// It was called off.
    Cancelled {
        /// How long the attempt ran that this ended; none when it waited.
        ran: Option<Duration>,
    },
    /// Its handler put it off; no attempt was spent.
    Snoozed {
        /// How long the attempt ran.
        ran: Duration,
        /// When it is due again.
        run_at: Timestamp,
    },
    /// Its server gave it back unfinished; no attempt was spent.
    Released,
    /// It was taken back from a server whose lease was over; no attempt was spent.
    Rescued,
    /// An operator had it run again, or at once.
    Reopened,
    /// An operator moved it to another time.
    Rescheduled {
        /// When it is due now.
        run_at: Timestamp,
    },
    /// An operator changed its priority.
    Reprioritized {
        /// Its priority now.
        priority: i16,
    },
    /// An operator removed it.
    Deleted,
}

impl TaskEvent {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::Enqueued { .. } => EventKind::TaskEnqueued,
            Self::Deduplicated { .. } => EventKind::TaskDeduplicated,
            Self::Started { .. } => EventKind::TaskStarted,
            Self::Progressed { .. } => EventKind::TaskProgressed,
            Self::Completed { .. } => EventKind::TaskCompleted,
            Self::Retried { .. } => EventKind::TaskRetried,
            Self::Failed { .. } => EventKind::TaskFailed,
            Self::CancelRequested => EventKind::TaskCancelRequested,
            Self::Cancelled { .. } => EventKind::TaskCancelled,
            Self::Snoozed { .. } => EventKind::TaskSnoozed,
            Self::Released => EventKind::TaskReleased,
            Self::Rescued => EventKind::TaskRescued,
            Self::Reopened => EventKind::TaskReopened,
            Self::Rescheduled { .. } => EventKind::TaskRescheduled,
            Self::Reprioritized { .. } => EventKind::TaskReprioritized,
            Self::Deleted => EventKind::TaskDeleted,
        }
    }

    /// What an outcome of a worker made of a task that now stands so; none when it changed nothing.
    /// The conclusion is the [storable](Conclusion::storable) one.
    #[must_use]
    pub fn of_outcome(
        now: &Progress,
        conclusion: &Conclusion,
        verdict: Verdict,
        ran: Duration,
    ) -> Option<Self> {
        match verdict {
            Verdict::Applied => {}
            Verdict::CancelRequested => return Some(Self::Cancelled { ran: Some(ran) }),
            Verdict::AlreadyApplied | Verdict::Stale => return None,
        }
        Some(Self::of_conclusion(conclusion, now.phase == Phase::Failed, now.run_at, ran))
    }

    /// What a conclusion that was applied makes of a task; `is_last` says whether no attempt is left,
    /// `run_at` when it is due again.
    #[must_use]
    pub fn of_conclusion(
        conclusion: &Conclusion,
        is_last: bool,
        run_at: Timestamp,
        ran: Duration,
    ) -> Self {
        match conclusion {
            Conclusion::Complete { .. } => Self::Completed { ran },
            Conclusion::Retry { kind, error, .. } if !is_last => {
                Self::Retried { ran, run_at, reason: *kind, error: Excerpt::of(error) }
            }
            Conclusion::Retry { kind, error, .. } | Conclusion::Fail { kind, error } => {
                Self::Failed { ran, reason: *kind, error: Excerpt::of(error) }
            }
            Conclusion::Cancel { .. } => Self::Cancelled { ran: Some(ran) },
            Conclusion::Snooze { .. } => Self::Snoozed { ran, run_at },
            Conclusion::Release => Self::Released,
        }
    }

    /// What a [rescue](crate::transition::rescue) made of a task that now stands so.
    #[must_use]
    pub fn of_rescue(now: &Progress, ran: Duration) -> Self {
        match now.phase {
            Phase::Cancelled => Self::Cancelled { ran: Some(ran) },
            Phase::Failed => {
                let error = now.errors.last().map_or("", |error| &error.message);
                Self::Failed { ran, reason: ErrorKind::Poison, error: Excerpt::of(error) }
            }
            Phase::Waiting | Phase::Running | Phase::Completed => Self::Rescued,
        }
    }

    /// What a command that was applied, or asks a worker to stop, made of a task.
    #[must_use]
    pub const fn of_command(command: &Command, is_requested: bool) -> Self {
        match command {
            Command::Cancel { .. } if is_requested => Self::CancelRequested,
            Command::Cancel { .. } => Self::Cancelled { ran: None },
            Command::Retry => Self::Reopened,
            Command::Delete => Self::Deleted,
            Command::Reschedule { run_at } => Self::Rescheduled { run_at: *run_at },
            Command::SetPriority { priority } => Self::Reprioritized { priority: *priority },
        }
    }
}

/// The beginning of an error text, in one line: at most 120 bytes.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Excerpt(Box<str>);

impl Excerpt {
    /// Longest excerpt, in bytes.
    pub const BYTES_MAX: usize = 120;

    /// The beginning of a text. Control characters become spaces.
    #[must_use]
    pub fn of(text: &str) -> Self {
        // No character of the text is shorter than what it becomes.
        let ahead: String = text.chars().take(Self::BYTES_MAX).collect();
        let line = ahead.replace(char::is_control, " ");
        Self(storable(line, Self::BYTES_MAX).into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What happened to a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueEvent {
    /// Claims pass it by.
    Paused,
    /// Claims serve it again.
    Resumed,
}

impl QueueEvent {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::Paused => EventKind::QueuePaused,
            Self::Resumed => EventKind::QueueResumed,
        }
    }
}

/// What happened to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerEvent {
    /// It began to claim.
    Started,
    /// It was told to stop: it claims nothing any more, and what runs may end.
    Draining,
    /// It ended.
    Stopped {
        /// How many tasks it had not recorded; others take them when their leases end.
        left: u64,
    },
}

impl ServerEvent {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::Started => EventKind::ServerStarted,
            Self::Draining => EventKind::ServerDraining,
            Self::Stopped { .. } => EventKind::ServerStopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{id::Token, time::Retention, transition};

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const RAN: Duration = Duration::from_secs(3);

    fn running(max_attempts: u16) -> Progress {
        let mut progress = Progress::fresh(0, max_attempts, NOW);
        transition::claim(&mut progress, Token::new(1), NOW);
        progress
    }

    /// What the conclusion of a running task is told as.
    fn told(progress: &mut Progress, conclusion: &Conclusion) -> Option<EventKind> {
        let retention = Retention::default();
        let verdict = transition::conclude(progress, &retention, Token::new(1), conclusion, NOW);
        TaskEvent::of_outcome(progress, conclusion, verdict, RAN).map(|event| event.kind())
    }

    #[test]
    fn outcomes_are_told_by_what_they_made_of_the_task() {
        let error = || "e".to_owned();
        let kind = ErrorKind::Error;
        let retry = Conclusion::Retry { delay: RAN, kind, error: error() };
        let table = [
            (2, Conclusion::Complete { result: None }, EventKind::TaskCompleted),
            (2, retry.clone(), EventKind::TaskRetried),
            (1, retry.clone(), EventKind::TaskFailed),
            (2, Conclusion::Fail { kind, error: error() }, EventKind::TaskFailed),
            (2, Conclusion::Cancel { reason: error() }, EventKind::TaskCancelled),
            (2, Conclusion::Snooze { delay: RAN }, EventKind::TaskSnoozed),
            (2, Conclusion::Release, EventKind::TaskReleased),
        ];
        for (max_attempts, conclusion, expected) in table {
            let mut progress = running(max_attempts);
            assert_eq!(told(&mut progress, &conclusion), Some(expected), "{conclusion:?}");
            assert_eq!(told(&mut progress, &conclusion), None, "repeated: {conclusion:?}");
        }
        let mut progress = running(2);
        progress.cancel_requested = true;
        assert_eq!(told(&mut progress, &retry), Some(EventKind::TaskCancelled));
    }

    #[test]
    fn rescues_are_told_by_what_they_made_of_the_task() {
        let told = |deaths_max, is_cancelled| {
            let mut progress = running(2);
            progress.cancel_requested = is_cancelled;
            transition::rescue(&mut progress, &Retention::default(), deaths_max, NOW);
            TaskEvent::of_rescue(&progress, RAN).kind()
        };
        assert_eq!(told(2, false), EventKind::TaskRescued);
        assert_eq!(told(1, false), EventKind::TaskFailed);
        assert_eq!(told(1, true), EventKind::TaskCancelled);
    }

    #[test]
    fn excerpts_are_short_lines() {
        assert_eq!(Excerpt::of("a\nb\0c").as_str(), "a b c");
        let long = Excerpt::of(&"ä".repeat(1_000));
        assert_eq!(long.as_str(), "ä".repeat(60));
        assert_eq!(Excerpt::of("").as_str(), "");
    }
}
