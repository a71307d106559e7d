//! Which state may become which: the rules that every store carries out.
//!
//! Pure functions over [`Progress`]. A store calls them inside its atomic operation, on what it
//! holds under its lock or in its transaction, never on an earlier read. Where a rule takes a
//! [`Retention`], it is the task's own: see [`Retention::chosen_by`].

use jiff::Timestamp;

use crate::{
    command::{Command, CommandVerdict},
    error::Rejection,
    id::Token,
    limits::HORIZON,
    outcome::{Conclusion, Verdict},
    progress::{ErrorKind, Phase, Progress, Settled},
    text::storable,
    time::{Retention, after, whole_micros},
    unique::UniqueScope,
};

/// Deaths of servers after which a task they ran is failed as poison. Default of
/// [`RescueRequest`](crate::store::RescueRequest); chosen without measurement.
pub const POISON_DEATHS_MAX: u16 = 10;

/// Gives a waiting task to a server.
///
/// `token` is larger than every token the task had before; the store sees to that.
pub const fn claim(progress: &mut Progress, token: Token, now: Timestamp) {
    progress.phase = Phase::Running;
    progress.token = token;
    progress.started_at = Some(now);
}

/// Applies what a worker wrote, if its claim is live.
///
/// When a cancel was asked for, the task is cancelled whatever the worker wrote; an error it wrote
/// is kept, behind the reason of the cancel.
///
/// The conclusion has been made [storable](Conclusion::storable) before.
pub fn conclude(
    progress: &mut Progress,
    retention: &Retention,
    token: Token,
    conclusion: &Conclusion,
    now: Timestamp,
) -> Verdict {
    if progress.phase != Phase::Running || progress.token != token {
        let repeated = Some(Settled { token, kind: conclusion.kind() });
        let is_repeated = token != Token::NONE && progress.settled == repeated;
        return if is_repeated { Verdict::AlreadyApplied } else { Verdict::Stale };
    }
    progress.settled = Some(Settled { token, kind: conclusion.kind() });
    if let Some((kind, error)) = conclusion.error(progress.cancel_requested) {
        progress.push_error(now, kind, error.to_owned());
    }
    if conclusion.spends_attempt() {
        progress.attempt = progress.attempt.saturating_add(1);
    }
    if progress.cancel_requested {
        finish(progress, retention, Phase::Cancelled, now);
        return Verdict::CancelRequested;
    }
    match conclusion {
        Conclusion::Complete { result } => {
            progress.result.clone_from(result);
            finish(progress, retention, Phase::Completed, now);
        }
        Conclusion::Retry { .. } if progress.attempt >= progress.max_attempts => {
            finish(progress, retention, Phase::Failed, now);
        }
        Conclusion::Retry { delay, .. } | Conclusion::Snooze { delay } => {
            progress.phase = Phase::Waiting;
            progress.run_at = after(now, *delay);
        }
        Conclusion::Fail { .. } => finish(progress, retention, Phase::Failed, now),
        Conclusion::Cancel { .. } => finish(progress, retention, Phase::Cancelled, now),
        Conclusion::Release => progress.phase = Phase::Waiting,
    }
    Verdict::Applied
}

/// Takes a running task back from a server that died.
///
/// The task is due as before, with no attempt spent and one more death counted; it is cancelled
/// when that had been asked for, and failed as poison at `deaths_max` deaths.
pub fn rescue(progress: &mut Progress, retention: &Retention, deaths_max: u16, now: Timestamp) {
    progress.crash_count = progress.crash_count.saturating_add(1);
    if progress.cancel_requested {
        finish(progress, retention, Phase::Cancelled, now);
    } else if progress.crash_count >= deaths_max {
        let deaths = progress.crash_count;
        let message = format!("{deaths} servers died while they ran this task");
        progress.push_error(now, ErrorKind::Poison, message);
        finish(progress, retention, Phase::Failed, now);
    } else {
        progress.phase = Phase::Waiting;
    }
}

/// Carries out an operator's command, except for the removal itself, which is the store's part of
/// [`Command::Delete`]. The command has been [checked](check_command) before.
pub fn command(
    progress: &mut Progress,
    retention: &Retention,
    command: &Command,
    now: Timestamp,
) -> CommandVerdict {
    let illegal = CommandVerdict::Illegal(progress.state(now));
    match (command, progress.phase) {
        (Command::Cancel { reason }, Phase::Waiting) => {
            progress.push_error(now, ErrorKind::Cancelled, reason.clone());
            finish(progress, retention, Phase::Cancelled, now);
            CommandVerdict::Applied
        }
        (Command::Cancel { .. }, Phase::Running) if progress.cancel_requested => {
            CommandVerdict::Unchanged
        }
        (Command::Cancel { reason }, Phase::Running) => {
            progress.push_error(now, ErrorKind::Cancelled, reason.clone());
            progress.cancel_requested = true;
            CommandVerdict::Requested
        }
        (Command::Cancel { .. }, Phase::Cancelled) => CommandVerdict::Unchanged,
        (Command::Retry, Phase::Waiting) if progress.run_at <= now => CommandVerdict::Unchanged,
        (Command::Retry, Phase::Waiting) => {
            progress.run_at = now;
            CommandVerdict::Applied
        }
        (Command::Retry, Phase::Completed | Phase::Failed | Phase::Cancelled) => {
            reopen(progress, now);
            CommandVerdict::Applied
        }
        (Command::Delete, Phase::Waiting | Phase::Completed | Phase::Failed | Phase::Cancelled) => {
            CommandVerdict::Applied
        }
        (Command::Reschedule { run_at }, Phase::Waiting) => {
            let run_at = whole_micros(*run_at);
            let is_same = std::mem::replace(&mut progress.run_at, run_at) == run_at;
            if is_same { CommandVerdict::Unchanged } else { CommandVerdict::Applied }
        }
        (Command::SetPriority { priority }, Phase::Waiting) => {
            let is_same = std::mem::replace(&mut progress.priority, *priority) == *priority;
            if is_same { CommandVerdict::Unchanged } else { CommandVerdict::Applied }
        }
        (Command::Cancel { .. }, Phase::Completed | Phase::Failed)
        | (Command::Retry | Command::Delete, Phase::Running)
        | (
            Command::Reschedule { .. } | Command::SetPriority { .. },
            Phase::Running | Phase::Completed | Phase::Failed | Phase::Cancelled,
        ) => illegal,
    }
}

/// Makes a command storable, or says why it cannot be taken whatever the task.
///
/// # Errors
///
/// [`Rejection::BeyondHorizon`] when a task would be moved more than ten years ahead.
pub fn check_command(
    command: Command,
    error_bytes_max: usize,
    now: Timestamp,
) -> Result<Command, Rejection> {
    match command {
        Command::Reschedule { run_at } if run_at > after(now, HORIZON) => {
            Err(Rejection::BeyondHorizon { what: "run_at" })
        }
        Command::Cancel { reason } => {
            Ok(Command::Cancel { reason: storable(reason, error_bytes_max) })
        }
        command @ (Command::Retry
        | Command::Delete
        | Command::Reschedule { .. }
        | Command::SetPriority { .. }) => Ok(command),
    }
}

/// Says whether a task that stands so has left the scope of its unique key.
///
/// A key once left is never regained, so a store deletes it and need not ask again.
#[must_use]
pub fn has_left_scope(scope: UniqueScope, progress: &Progress) -> bool {
    match scope {
        UniqueScope::UntilStarted => {
            progress.token != Token::NONE || progress.phase != Phase::Waiting
        }
        UniqueScope::UntilFinished => progress.phase.is_terminal(),
        UniqueScope::While(states) => {
            // Every unfinished state is in the set, so the instant does not matter.
            !states.contains(progress.state(Timestamp::MAX))
        }
        UniqueScope::For(_) => false,
    }
}

fn finish(progress: &mut Progress, retention: &Retention, phase: Phase, now: Timestamp) {
    progress.phase = phase;
    progress.finished_at = Some(now);
    progress.expires_at = Some(after(now, retention.of(progress.state(now))));
}

fn reopen(progress: &mut Progress, now: Timestamp) {
    progress.phase = Phase::Waiting;
    progress.run_at = now;
    // An exhausted task gets one attempt more; at the top of the range it starts over.
    if progress.attempt == u16::MAX {
        progress.attempt = 0;
    }
    progress.max_attempts = std::cmp::max(progress.max_attempts, progress.attempt + 1);
    progress.crash_count = 0;
    progress.cancel_requested = false;
    progress.settled = None;
    progress.finished_at = None;
    progress.expires_at = None;
    progress.result = None;
}

#[cfg(test)]
mod tests;
