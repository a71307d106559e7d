//! What an operator orders, for which tasks, and what came of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{event::Event, filter::TaskFilter, id::TaskId, state::State};

/// An order of an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
// A field that this version does not know may be what makes the order harmless.
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Calls an unfinished task off. A waiting one is cancelled at once and never starts; a running
    /// one is [requested](CommandVerdict::Requested) to stop, and ends as cancelled unless an
    /// outcome was applied before. Its handler is told with the next beat of its server; what it
    /// answers after the request, even a success, is not recorded.
    Cancel {
        /// Why, kept with the task's errors.
        reason: String,
    },
    /// Runs a task again at once: a finished one, also when its attempts are used up, or one that
    /// waits for its time. Its errors are kept, its result is not.
    Retry,
    /// Removes a task that is not running, and frees its unique key.
    Delete,
    /// Moves a waiting task to another time.
    Reschedule {
        /// When it is due; a time in the past means at once.
        run_at: Timestamp,
    },
    /// Changes the priority of a waiting task.
    SetPriority {
        /// Larger runs first.
        priority: i16,
    },
}

/// Which tasks a command is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// These, at most [`BATCH_MAX`](crate::limits::BATCH_MAX).
    Ids(Vec<TaskId>),
    /// Those that match, the oldest first.
    Matching {
        /// Which ones.
        filter: TaskFilter,
        /// How many at the most: 1 to [`BATCH_MAX`](crate::limits::BATCH_MAX).
        limit: usize,
    },
}

/// What came of a command for one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandVerdict {
    /// Done.
    Applied,
    /// The task is running; its worker was asked to stop.
    Requested,
    /// The task was already as ordered.
    Unchanged,
    /// A task in this state cannot take the command; nothing changed.
    Illegal(State),
    /// There is no such task.
    NotFound,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Applied {
    /// One verdict a task: in the order of the ids, or of the age of the tasks that matched.
    pub verdicts: Vec<(TaskId, CommandVerdict)>,
    /// More tasks match than the limit allowed.
    pub more: bool,
    /// What happened, for sinks of this process: an event for each task that was changed.
    pub events: Vec<Event>,
}

impl Applied {
    /// How many tasks were changed, or asked to stop.
    #[must_use]
    pub fn changed(&self) -> usize {
        let has_changed =
            |verdict| matches!(verdict, CommandVerdict::Applied | CommandVerdict::Requested);
        self.verdicts.iter().filter(|&&(_, verdict)| has_changed(verdict)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_or_asked_for_counts_as_changed() {
        let verdicts = [
            CommandVerdict::Applied,
            CommandVerdict::Requested,
            CommandVerdict::Unchanged,
            CommandVerdict::Illegal(State::Running),
            CommandVerdict::NotFound,
        ];
        let verdicts = verdicts.map(|verdict| (TaskId::MIN, verdict)).to_vec();
        assert_eq!(Applied { verdicts, ..Applied::default() }.changed(), 2);
        assert_eq!(Applied::default().changed(), 0);
    }
}
