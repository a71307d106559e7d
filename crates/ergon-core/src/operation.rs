//! Operations: one command for all tasks that match, however many those are.
//!
//! An operation is a document that says what to do and how far it is. Whoever has time carries it out,
//! a page of tasks at a time: servers do, and so does [`run_to_end`]. One process at a time works on it,
//! by a lease that stands in the document; when that process dies, another takes over once the lease is
//! over, at the page where the first one was. A page that was carried out and not written down is
//! carried out again: commands can be repeated, but what was changed by the first is not counted then.
//!
//! The tasks are those that matched when the operation was made, up to the newest id at that time, the
//! oldest first; each is met once. A task is selected by the filter, and commanded by its id right
//! after: one that changes in between, as when it starts, is commanded all the same.
//!
//! [`run_to_end`]: crate::manager::Operations::run_to_end

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    audit::Actor,
    command::{Command, CommandVerdict},
    filter::{Count, TaskFilter},
    id::{ServerId, TaskId},
    serial::{is_zero, made_id},
    text::storable,
    time::after,
};

mod document;
mod plan;

pub(crate) use self::{
    document::{KEY, KEY_OPEN, key, key_open, put},
    plan::{Done, Turn},
};

/// How long a finished or stopped operation is kept.
pub const KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Most tasks that one step changes.
pub const PAGE_MAX: usize = 500;

/// Most problems that are kept: the newest.
pub const PROBLEMS_MAX: usize = 20;

/// How long a process may work on an operation without a word before another takes over.
pub const LEASE: Duration = Duration::from_secs(30);

/// Longest note, in bytes; what exceeds it is cut.
pub const NOTE_BYTES_MAX: usize = 4_096;

made_id! {
    /// The id of an operation: operations sort by the time of their making.
    OperationId
}

/// How an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// It is carried out.
    Running,
    /// It was halted, and can be resumed.
    Paused,
    /// It was ended before all was done; what was done stays done.
    Stopped,
    /// All was done.
    Finished,
}

impl OperationState {
    /// Says whether nothing happens any more.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Stopped | Self::Finished)
    }

    /// The lower-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Finished => "finished",
        }
    }
}

/// A task that was not changed, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The task.
    pub id: TaskId,
    /// What came of the command.
    pub verdict: CommandVerdict,
}

/// Who works on an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The server, or the manager.
    pub id: ServerId,
    /// Another may take over from this instant on, by the clock of whoever looks.
    pub until: Timestamp,
}

/// One command for all tasks that match, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// Which tasks.
    pub filter: TaskFilter,
    /// What is done to them.
    pub command: Command,
    /// Who ordered it.
    pub actor: Actor,
    /// What was said to it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// When it was ordered.
    pub created_at: Timestamp,
    /// When it was finished or stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// How it stands.
    pub state: OperationState,
    /// How many tasks matched when it was made.
    pub expected: Count,
    /// Tasks that were met.
    #[serde(default)]
    pub seen: u64,
    /// Of these, those that were changed, or asked to stop.
    #[serde(default)]
    pub changed: u64,
    /// Those that were as ordered already.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unchanged: u64,
    /// Those that could not take the command in the state that they were in.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub illegal: u64,
    /// Those that were gone.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gone: u64,
    /// The last task that was met; it goes on behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<TaskId>,
    /// The newest task that it is for.
    pub until: TaskId,
    /// How many tasks a second at the most; as fast as the store takes them, unless chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_second: Option<u32>,
    /// By the rate, it goes on at this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_at: Option<Timestamp>,
    /// The newest tasks that could not take the command or were gone, at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// Why it was stopped, if nobody asked for it: the store refuses the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Who works on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
}

/// An operation to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "nothing is done until it is given to the manager"]
pub struct NewOperation {
    /// Which tasks.
    pub(crate) filter: TaskFilter,
    pub(crate) command: Command,
    pub(crate) actor: Actor,
    pub(crate) note: String,
    pub(crate) rate_per_second: Option<u32>,
}

impl NewOperation {
    /// This command for all tasks that match.
    pub const fn new(filter: TaskFilter, command: Command, actor: Actor) -> Self {
        Self { filter, command, actor, note: String::new(), rate_per_second: None }
    }

    /// With a word to it, at most 4 KiB.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = storable(note, NOTE_BYTES_MAX);
        self
    }

    /// At most so many tasks a second; 0 counts as 1.
    pub const fn rate_per_second(mut self, tasks: u32) -> Self {
        self.rate_per_second = Some(if tasks == 0 { 1 } else { tasks });
        self
    }

    /// The operation, of tasks up to `until`.
    pub(crate) fn make(
        self,
        id: OperationId,
        created_at: Timestamp,
        expected: Count,
        until: TaskId,
    ) -> Operation {
        let Self { filter, command, actor, note, rate_per_second } = self;
        Operation {
            id,
            filter,
            command,
            actor,
            note,
            created_at,
            ended_at: None,
            state: OperationState::Running,
            expected,
            seen: 0,
            changed: 0,
            unchanged: 0,
            illegal: 0,
            gone: 0,
            cursor: None,
            until,
            rate_per_second,
            resume_at: None,
            problems: Vec::new(),
            error: None,
            owner: None,
        }
    }
}

/// What an operation would meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// How many tasks match.
    pub matching: Count,
    /// The oldest of them, at most 20.
    pub first: Vec<TaskId>,
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stepped {
    /// The operation as it stands now.
    pub operation: Operation,
    /// How many tasks this step met.
    pub met: usize,
    /// When a next step makes sense: at once if it is not later than now; none when it is paused or
    /// over.
    pub next_at: Option<Timestamp>,
}

impl Operation {
    /// Halts, resumes or ends it, as far as it is not over; says whether that changed anything.
    pub(crate) fn set_state(&mut self, state: OperationState, now: Timestamp) -> bool {
        if self.state.is_over() || self.state == state {
            return false;
        }
        self.state = state;
        if state.is_over() {
            self.end(now);
        }
        true
    }

    /// Ends it because the store refuses the command.
    pub(crate) fn refuse(&mut self, error: String, now: Timestamp) {
        if self.set_state(OperationState::Stopped, now) {
            self.error = Some(storable(error, NOTE_BYTES_MAX));
        }
    }

    fn end(&mut self, now: Timestamp) {
        self.ended_at = Some(now);
        (self.owner, self.resume_at) = (None, None);
    }

    /// When its document may be removed.
    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        self.ended_at.map(|ended_at| after(ended_at, KEPT))
    }
}

#[cfg(test)]
mod tests;
