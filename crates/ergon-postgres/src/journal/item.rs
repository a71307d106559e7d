//! What happened, as it is written: the numbers of events, and what few of them carry.

use ergon_core::{
    ErrorKind, TaskEvent,
    event::{Excerpt, ServerEvent, TaskRef},
    time::to_micros,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::number;
use crate::value::{micros, split};

/// What few events carry, in JSON; instants are microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) run_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) done: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) total: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tasks: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) queue: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) left: Option<u64>,
}

impl Note {
    fn failed(reason: ErrorKind, error: &Excerpt) -> Self {
        let (reason, error) = (Some(reason.as_str().to_owned()), Some(error.as_str().to_owned()));
        Self { reason, error, ..Self::default() }
    }

    fn due(self, run_at: Timestamp) -> Self {
        Self { run_at: Some(micros(run_at)), ..self }
    }
}

/// What happened to one task by a change of single tasks.
#[derive(Debug, Serialize)]
pub(crate) struct Item {
    event: i16,
    pack: Uuid,
    off: i16,
    lane: i32,
    kind: i32,
    attempt: u16,
    /// When the attempt began that ended, or when the task is due now.
    #[serde(skip_serializing_if = "Option::is_none")]
    instant: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<Note>,
}

impl Item {
    /// `None` for an event that is not recorded, or by the statement itself. `lane` is the one that the
    /// task is in now.
    pub(crate) fn of(
        at: Timestamp,
        task: &TaskRef,
        event: &TaskEvent,
        lane: i32,
        kind: i32,
    ) -> Option<Self> {
        let began = |ran: std::time::Duration| {
            let ran = i64::try_from(ran.as_micros()).unwrap_or(i64::MAX);
            Some(to_micros(at).saturating_sub(ran))
        };
        let note = Note::default;
        let (event, instant, note) = match event {
            TaskEvent::Completed { ran } => (number::COMPLETED, began(*ran), None),
            TaskEvent::Retried { ran, run_at, reason, error } => {
                let note = Note::failed(*reason, error).due(*run_at);
                (number::RETRIED, began(*ran), Some(note))
            }
            TaskEvent::Failed { ran, reason, error } => {
                (number::FAILED, began(*ran), Some(Note::failed(*reason, error)))
            }
            TaskEvent::CancelRequested => (number::CANCEL_REQUESTED, None, None),
            TaskEvent::Cancelled { ran } => (number::CANCELLED, ran.and_then(began), None),
            TaskEvent::Snoozed { ran, run_at } => {
                (number::SNOOZED, began(*ran), Some(note().due(*run_at)))
            }
            TaskEvent::Released => (number::RELEASED, None, None),
            TaskEvent::Rescued => (number::RESCUED, None, None),
            TaskEvent::Reopened => (number::REOPENED, None, None),
            TaskEvent::Rescheduled { run_at } => (number::RESCHEDULED, Some(micros(*run_at)), None),
            TaskEvent::Reprioritized { .. } => (number::REPRIORITIZED, None, None),
            TaskEvent::Deleted => (number::DELETED, None, None),
            _ => return None,
        };
        let (pack, off) = split(task.id);
        Some(Self { event, pack, off, lane, kind, attempt: task.attempt, instant, note })
    }
}

/// What happened to a server: the number of the event, and what it carries; `None` when it is not known.
pub(crate) fn server_event(event: &ServerEvent) -> Option<(i16, Option<[Note; 1]>)> {
    match event {
        ServerEvent::Started => Some((number::SERVER_STARTED, None)),
        ServerEvent::Draining => Some((number::SERVER_DRAINING, None)),
        ServerEvent::Stopped { left } => {
            let note = Note { left: Some(*left), ..Note::default() };
            Some((number::SERVER_STOPPED, Some([note])))
        }
        _ => None,
    }
}
