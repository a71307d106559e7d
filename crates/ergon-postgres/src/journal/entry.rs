//! Entries of the journal, as they are read.

use std::time::Duration;

use ergon_core::{
    ErrorKind, Event, QueueName, ServerId, StoreError, TaskEvent,
    event::{Excerpt, QueueEvent, ServerEvent, TaskRef},
    store::{EventId, Recorded},
    time::{between, from_micros},
};
use jiff::Timestamp;
use sqlx::{postgres::PgRow, types::Json};
use uuid::Uuid;

use super::{Note, number};
use crate::{
    error::corrupt,
    name::{Names, queue_name},
    value::{Instant, column, small, task_id},
};

/// One entry: what one statement made happen, item by item.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: i64,
    at: Timestamp,
    server: Option<Uuid>,
    event: Vec<i16>,
    pack: Vec<Uuid>,
    first: Vec<i16>,
    n: Vec<i16>,
    lane: Vec<i32>,
    kind: Vec<i32>,
    attempt: Vec<i32>,
    instant: Vec<Option<Instant>>,
    note: Vec<Option<Note>>,
}

/// The value of an item: an array of one element holds for all, and a missing one has none.
fn of<T>(array: &[T], item: usize) -> Option<&T> {
    array.get(if array.len() == 1 { 0 } else { item })
}

impl Entry {
    /// Reads one row.
    pub(crate) fn read(row: &PgRow) -> Result<Self, StoreError> {
        let note: Option<Json<Vec<Option<Note>>>> = column(row, "note")?;
        Ok(Self {
            id: column(row, "id")?,
            at: column::<Instant>(row, "at")?.0,
            server: column(row, "server")?,
            event: column(row, "event")?,
            pack: column::<Option<_>>(row, "pack")?.unwrap_or_default(),
            first: column::<Option<_>>(row, "first")?.unwrap_or_default(),
            n: column::<Option<_>>(row, "n")?.unwrap_or_default(),
            lane: column::<Option<_>>(row, "lane")?.unwrap_or_default(),
            kind: column::<Option<_>>(row, "kind")?.unwrap_or_default(),
            attempt: column::<Option<_>>(row, "attempt")?.unwrap_or_default(),
            instant: column::<Option<_>>(row, "instant")?.unwrap_or_default(),
            note: note.map(|Json(note)| note).unwrap_or_default(),
        })
    }

    /// Says whether recording began anew here, so that what happened before is not known.
    pub(crate) fn is_break(&self) -> bool {
        self.event.first() == Some(&number::BREAK)
    }

    /// Says whether every name in it is known.
    pub(crate) fn is_known(&self, names: &Names) -> bool {
        self.lane.iter().all(|&lane| names.lane_by_id(lane).is_some())
            && self.kind.iter().all(|&kind| names.kind_by_id(kind).is_some())
    }

    /// Everything that it says, task by task.
    pub(crate) fn recorded(
        &self,
        journal: u64,
        names: &Names,
    ) -> Result<Vec<Recorded>, StoreError> {
        let mut events = Vec::new();
        let items = std::cmp::max(self.event.len(), self.pack.len());
        for item in 0..items {
            let event = *of(&self.event, item).ok_or_else(|| self.corrupt("event"))?;
            if self.pack.is_empty() {
                events.extend(self.other(event, item)?);
            } else {
                self.tasks(event, item, names, &mut events)?;
            }
        }
        let entry = self.id.cast_unsigned();
        let id = |index| EventId { journal, entry, index };
        Ok((0..).zip(events).map(|(index, event)| Recorded { id: id(index), event }).collect())
    }

    /// What happened to a run of tasks. An event that a newer program wrote, and this one does not know, is
    /// passed over.
    fn tasks(
        &self,
        event: i16,
        item: usize,
        names: &Names,
        events: &mut Vec<Event>,
    ) -> Result<(), StoreError> {
        let missing = |what: &str| self.corrupt(what);
        let pack = *of(&self.pack, item).ok_or_else(|| missing("pack"))?;
        let first = *of(&self.first, item).ok_or_else(|| missing("first"))?;
        let n = *of(&self.n, item).ok_or_else(|| missing("n"))?;
        let lane = of(&self.lane, item).and_then(|&lane| names.lane_by_id(lane));
        let lane = lane.ok_or_else(|| missing("lane"))?;
        let kind = of(&self.kind, item).and_then(|&kind| names.kind_by_id(kind));
        let kind = kind.ok_or_else(|| missing("kind"))?;
        let attempt = *of(&self.attempt, item).ok_or_else(|| missing("attempt"))?;
        // One more than the most attempts is told as the most.
        let attempt = u16::try_from(attempt).unwrap_or(u16::MAX);
        let Some(what) = self.task_event(event, item, lane.priority)? else { return Ok(()) };
        let first = task_id(pack, first)?;
        for offset in 0..small::<u16, _>(n)? {
            let id = first.with_offset(first.offset() + offset);
            let task = TaskRef { id, queue: lane.queue.clone(), kind: kind.clone(), attempt };
            events.push(Event::task(self.at, task, what.clone()));
        }
        Ok(())
    }

    fn task_event(
        &self,
        event: i16,
        item: usize,
        priority: i16,
    ) -> Result<Option<TaskEvent>, StoreError> {
        let note = of(&self.note, item).cloned().flatten().unwrap_or_default();
        let instant = || of(&self.instant, item).copied().flatten().map(|instant| instant.0);
        let since = || instant().map(|instant| between(instant, self.at));
        let due = || instant().ok_or_else(|| self.corrupt("instant"));
        let ran = || since().unwrap_or(Duration::ZERO);
        let run_at = || note.run_at.map(from_micros).ok_or_else(|| self.corrupt("run_at"));
        let reason = || {
            let known =
                |name: &&str| ErrorKind::ALL.into_iter().find(|kind| kind.as_str() == *name);
            note.reason.as_deref().and_then(|name| known(&name)).unwrap_or(ErrorKind::Error)
        };
        let error = || Excerpt::of(note.error.as_deref().unwrap_or_default());
        Ok(Some(match event {
            number::ENQUEUED => TaskEvent::Enqueued { run_at: due()?, priority },
            number::STARTED => {
                let server = self.server.ok_or_else(|| self.corrupt("server"))?;
                TaskEvent::Started { server: ServerId::from_u128(server.as_u128()), waited: ran() }
            }
            number::PROGRESSED => TaskEvent::Progressed {
                done: note.done.ok_or_else(|| self.corrupt("done"))?.cast_unsigned(),
                total: note.total.map(i64::cast_unsigned),
            },
            number::COMPLETED => TaskEvent::Completed { ran: ran() },
            number::RETRIED => TaskEvent::Retried {
                ran: ran(),
                run_at: run_at()?,
                reason: reason(),
                error: error(),
            },
            number::FAILED => TaskEvent::Failed { ran: ran(), reason: reason(), error: error() },
            number::CANCEL_REQUESTED => TaskEvent::CancelRequested,
            number::CANCELLED => TaskEvent::Cancelled { ran: since() },
            number::SNOOZED => TaskEvent::Snoozed { ran: ran(), run_at: run_at()? },
            number::RELEASED => TaskEvent::Released,
            number::RESCUED => TaskEvent::Rescued,
            number::REOPENED => TaskEvent::Reopened,
            number::RESCHEDULED => TaskEvent::Rescheduled { run_at: due()? },
            number::REPRIORITIZED => TaskEvent::Reprioritized { priority },
            number::DELETED => TaskEvent::Deleted,
            _ => return Ok(None),
        }))
    }

    /// What happened to no task in particular.
    fn other(&self, event: i16, item: usize) -> Result<Option<Event>, StoreError> {
        let note = of(&self.note, item).cloned().flatten().unwrap_or_default();
        let queue = || -> Result<QueueName, StoreError> {
            queue_name(note.queue.clone().ok_or_else(|| self.corrupt("queue"))?)
        };
        let of_server = |event| -> Result<Event, StoreError> {
            let server = self.server.ok_or_else(|| self.corrupt("server"))?;
            Ok(Event::server(self.at, ServerId::from_u128(server.as_u128()), event))
        };
        Ok(Some(match event {
            number::PRUNED => Event::pruned(self.at, note.tasks.unwrap_or_default()),
            number::QUEUE_PAUSED => Event::queue(self.at, queue()?, QueueEvent::Paused),
            number::QUEUE_RESUMED => Event::queue(self.at, queue()?, QueueEvent::Resumed),
            number::SERVER_STARTED => of_server(ServerEvent::Started)?,
            number::SERVER_DRAINING => of_server(ServerEvent::Draining)?,
            number::SERVER_STOPPED => {
                of_server(ServerEvent::Stopped { left: note.left.unwrap_or_default() })?
            }
            _ => return Ok(None),
        }))
    }

    fn corrupt(&self, what: &str) -> StoreError {
        corrupt(format!("{what} of the entry {} of the journal", self.id))
    }
}
