//! The bytes of what happens to a task.

use std::time::Duration;

use ergon_core::{ErrorKind, StoreError, TaskEvent, event::Excerpt};

use super::{
    Context, get, get_instant, get_server, get_signed, put, put_instant, put_server, put_signed,
};
use crate::{codec::Decoder, error::corrupt, record::numbered};

const ENQUEUED: u8 = 1;
const STARTED: u8 = 2;
const PROGRESSED: u8 = 3;
const COMPLETED: u8 = 4;
const RETRIED: u8 = 5;
const FAILED: u8 = 6;
const CANCEL_REQUESTED: u8 = 7;
const CANCELLED: u8 = 8;
const SNOOZED: u8 = 9;
const RELEASED: u8 = 10;
const RESCUED: u8 = 11;
const REOPENED: u8 = 12;
const RESCHEDULED: u8 = 13;
const REPRIORITIZED: u8 = 14;
const DELETED: u8 = 15;

/// Whether a code is that of something that happened to a task.
pub(super) const fn is_task(code: u8) -> bool {
    code >= ENQUEUED && code < super::code::PRUNED
}

/// The code of an event; none of one that is not recorded.
pub(super) const fn code(event: &TaskEvent) -> Option<u8> {
    Some(match event {
        TaskEvent::Enqueued { .. } => ENQUEUED,
        TaskEvent::Started { .. } => STARTED,
        TaskEvent::Progressed { .. } => PROGRESSED,
        TaskEvent::Completed { .. } => COMPLETED,
        TaskEvent::Retried { .. } => RETRIED,
        TaskEvent::Failed { .. } => FAILED,
        TaskEvent::CancelRequested => CANCEL_REQUESTED,
        TaskEvent::Cancelled { .. } => CANCELLED,
        TaskEvent::Snoozed { .. } => SNOOZED,
        TaskEvent::Released => RELEASED,
        TaskEvent::Rescued => RESCUED,
        TaskEvent::Reopened => REOPENED,
        TaskEvent::Rescheduled { .. } => RESCHEDULED,
        TaskEvent::Reprioritized { .. } => REPRIORITIZED,
        TaskEvent::Deleted => DELETED,
        _ => return None,
    })
}

/// Appends what an event says beside its task.
pub(super) fn put_content(out: &mut Vec<u8>, context: &mut Context, event: &TaskEvent) {
    match event {
        TaskEvent::Enqueued { run_at, priority } => {
            put_instant(out, context, *run_at);
            put_signed(out, (*priority).into());
        }
        TaskEvent::Started { server, waited } => {
            put_server(out, context, *server);
            put_duration(out, *waited);
        }
        TaskEvent::Progressed { done, total } => {
            put(out, *done);
            put_optional(out, *total);
        }
        TaskEvent::Completed { ran } => put_duration(out, *ran),
        TaskEvent::Retried { ran, run_at, reason, error } => {
            put_duration(out, *ran);
            put_instant(out, context, *run_at);
            put_error(out, *reason, error);
        }
        TaskEvent::Failed { ran, reason, error } => {
            put_duration(out, *ran);
            put_error(out, *reason, error);
        }
        TaskEvent::Cancelled { ran } => put_optional(out, ran.map(micros)),
        TaskEvent::Snoozed { ran, run_at } => {
            put_duration(out, *ran);
            put_instant(out, context, *run_at);
        }
        TaskEvent::Rescheduled { run_at } => put_instant(out, context, *run_at),
        TaskEvent::Reprioritized { priority } => put_signed(out, (*priority).into()),
        // Its code says it all, or there is none.
        _ => {}
    }
}

/// Reads what an event of the code of the context says beside its task.
pub(super) fn get_content(
    fields: &mut Decoder<'_>,
    context: &mut Context,
) -> Result<TaskEvent, StoreError> {
    Ok(match context.code {
        ENQUEUED => TaskEvent::Enqueued {
            run_at: get_instant(fields, context)?,
            priority: get_priority(fields)?,
        },
        STARTED => TaskEvent::Started {
            server: get_server(fields, context)?,
            waited: get_duration(fields)?,
        },
        PROGRESSED => TaskEvent::Progressed { done: get(fields)?, total: get_optional(fields)? },
        COMPLETED => TaskEvent::Completed { ran: get_duration(fields)? },
        RETRIED => {
            let ran = get_duration(fields)?;
            let run_at = get_instant(fields, context)?;
            let (reason, error) = get_error(fields)?;
            TaskEvent::Retried { ran, run_at, reason, error }
        }
        FAILED => {
            let ran = get_duration(fields)?;
            let (reason, error) = get_error(fields)?;
            TaskEvent::Failed { ran, reason, error }
        }
        CANCEL_REQUESTED => TaskEvent::CancelRequested,
        CANCELLED => TaskEvent::Cancelled { ran: get_optional(fields)?.map(Duration::from_micros) },
        SNOOZED => {
            TaskEvent::Snoozed { ran: get_duration(fields)?, run_at: get_instant(fields, context)? }
        }
        RELEASED => TaskEvent::Released,
        RESCUED => TaskEvent::Rescued,
        REOPENED => TaskEvent::Reopened,
        RESCHEDULED => TaskEvent::Rescheduled { run_at: get_instant(fields, context)? },
        REPRIORITIZED => TaskEvent::Reprioritized { priority: get_priority(fields)? },
        DELETED => TaskEvent::Deleted,
        code => return Err(corrupt(format!("unknown event {code} of the journal"))),
    })
}

/// Whole microseconds, as all durations between instants of a store are.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn put_duration(out: &mut Vec<u8>, duration: Duration) {
    put(out, micros(duration));
}

fn get_duration(fields: &mut Decoder<'_>) -> Result<Duration, StoreError> {
    get(fields).map(Duration::from_micros)
}

fn put_optional(out: &mut Vec<u8>, value: Option<u64>) {
    out.push(u8::from(value.is_some()));
    value.into_iter().for_each(|value| put(out, value));
}

fn get_optional(fields: &mut Decoder<'_>) -> Result<Option<u64>, StoreError> {
    if fields.u8()? == 0 { Ok(None) } else { get(fields).map(Some) }
}

fn put_error(out: &mut Vec<u8>, reason: ErrorKind, error: &Excerpt) {
    out.push(reason as u8);
    let text = error.as_str().as_bytes();
    put(out, u64::try_from(text.len()).unwrap_or(0));
    out.extend_from_slice(text);
}

fn get_error(fields: &mut Decoder<'_>) -> Result<(ErrorKind, Excerpt), StoreError> {
    let reason = numbered(&ErrorKind::ALL, fields.u8()?)?;
    let len = usize::try_from(get(fields)?).unwrap_or(usize::MAX);
    let text = std::str::from_utf8(fields.take(len)?).map_err(|it| corrupt(it.to_string()))?;
    Ok((reason, Excerpt::of(text)))
}

fn get_priority(fields: &mut Decoder<'_>) -> Result<i16, StoreError> {
    let priority = get_signed(fields)?;
    i16::try_from(priority).map_err(|_too_large| corrupt("a priority is too large"))
}
