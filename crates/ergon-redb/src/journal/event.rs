//! The bytes of events: those of one entry, each told from the one before.
//!
//! Tasks that were enqueued, claimed or finished together share what their events have in common, so
//! that an event takes some bytes more than what tells its task.

use ergon_core::{
    Event, KindName, QueueName, ServerId, StoreError, TaskEvent, TaskId,
    event::{QueueEvent, ServerEvent, TaskRef},
    time::{from_micros, to_micros},
};

use super::varint::{get, get_long, get_signed, put, put_long, put_signed};
use crate::{codec::Decoder, error::corrupt, key::NameId};

mod task;

/// Which task something happened to, and in which attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskKey {
    pub(crate) id: TaskId,
    pub(crate) queue: NameId,
    pub(crate) kind: NameId,
    pub(crate) attempt: u16,
}

/// The code of an event: its first byte. Those of tasks are [`task::code`]; 0 repeats the code, the
/// instant, the queue, the kind and the attempt of the event before.
mod code {
    pub(super) const REPEATED: u8 = 0;
    pub(super) const PRUNED: u8 = 64;
    pub(super) const QUEUE_PAUSED: u8 = 65;
    pub(super) const QUEUE_RESUMED: u8 = 66;
    pub(super) const SERVER_STARTED: u8 = 67;
    pub(super) const SERVER_DRAINING: u8 = 68;
    pub(super) const SERVER_STOPPED: u8 = 69;
}

/// What the next event is told from.
#[derive(Clone, Copy, Debug)]
struct Context {
    code: u8,
    at: i64,
    queue: NameId,
    kind: NameId,
    attempt: u16,
    id: u128,
    server: u128,
}

impl Default for Context {
    fn default() -> Self {
        let code = code::REPEATED;
        Self { code, at: 0, queue: 0, kind: 0, attempt: 0, id: 0, server: 0 }
    }
}

/// Events of one entry, as bytes.
#[derive(Debug, Default)]
pub(crate) struct Events {
    bytes: Vec<u8>,
    context: Context,
}

impl Events {
    pub(super) const fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// Adds what happened to a task, at an instant in microseconds; says whether there are bytes for
    /// such an event.
    pub(super) fn push_task(&mut self, at: i64, task: TaskKey, event: &TaskEvent) -> bool {
        let Some(code) = task::code(event) else { return false };
        let TaskKey { id, queue, kind, attempt } = task;
        let before = self.context;
        let is_repeated = (code, at, queue, kind, attempt)
            == (before.code, before.at, before.queue, before.kind, before.attempt);
        if is_repeated {
            self.bytes.push(code::REPEATED);
        } else {
            self.begin(code, at);
            put(&mut self.bytes, queue.into());
            put(&mut self.bytes, kind.into());
            put(&mut self.bytes, attempt.into());
            self.context = Context { queue, kind, attempt, ..self.context };
        }
        let id = id.as_u128();
        put_long(&mut self.bytes, id.wrapping_sub(before.id).cast_signed());
        self.context.id = id;
        task::put_content(&mut self.bytes, &mut self.context, event);
        true
    }

    pub(super) fn push_pruned(&mut self, at: i64, tasks: u64) {
        self.begin(code::PRUNED, at);
        put(&mut self.bytes, tasks);
    }

    pub(super) fn push_queue(&mut self, at: i64, queue: NameId, is_paused: bool) {
        let code = if is_paused { code::QUEUE_PAUSED } else { code::QUEUE_RESUMED };
        self.begin(code, at);
        put(&mut self.bytes, queue.into());
    }

    /// Adds what happened to a server; says whether there are bytes for such an event.
    pub(super) fn push_server(&mut self, at: i64, server: ServerId, event: &ServerEvent) -> bool {
        let (code, left) = match event {
            ServerEvent::Started => (code::SERVER_STARTED, None),
            ServerEvent::Draining => (code::SERVER_DRAINING, None),
            ServerEvent::Stopped { left } => (code::SERVER_STOPPED, Some(*left)),
            _ => return false,
        };
        self.begin(code, at);
        put_server(&mut self.bytes, &mut self.context, server);
        left.into_iter().for_each(|left| put(&mut self.bytes, left));
        true
    }

    fn begin(&mut self, code: u8, at: i64) {
        self.bytes.push(code);
        put_signed(&mut self.bytes, at.wrapping_sub(self.context.at));
        self.context.code = code;
        self.context.at = at;
    }
}

fn put_server(out: &mut Vec<u8>, context: &mut Context, server: ServerId) {
    let server = server.as_u128();
    if server == context.server {
        out.push(0);
    } else {
        out.push(1);
        out.extend_from_slice(&server.to_be_bytes());
        context.server = server;
    }
}

fn get_server(fields: &mut Decoder<'_>, context: &mut Context) -> Result<ServerId, StoreError> {
    match fields.u8()? {
        0 => {}
        1 => context.server = u128::from_be_bytes(fields.array()?),
        tag => return Err(corrupt(format!("unknown server {tag} in an entry of the journal"))),
    }
    Ok(ServerId::from_u128(context.server))
}

/// Every name, by number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NameLists<'n> {
    pub(crate) queues: &'n [QueueName],
    pub(crate) kinds: &'n [KindName],
}

impl NameLists<'_> {
    fn queue(&self, number: u64) -> Result<(NameId, QueueName), StoreError> {
        find(self.queues, number)
    }

    fn kind(&self, number: u64) -> Result<(NameId, KindName), StoreError> {
        find(self.kinds, number)
    }
}

fn find<T: Clone>(names: &[T], number: u64) -> Result<(NameId, T), StoreError> {
    let name = usize::try_from(number).ok().and_then(|number| names.get(number));
    let number = NameId::try_from(number).ok();
    number
        .zip(name.cloned())
        .ok_or_else(|| corrupt("an entry of the journal names no known queue or kind"))
}

/// Reads the events of an entry one by one.
pub(super) struct Decoding<'r, 'n> {
    fields: Decoder<'r>,
    names: NameLists<'n>,
    context: Context,
    /// The names that stand for the numbers of the context.
    named: Option<(QueueName, KindName)>,
}

impl<'r, 'n> Decoding<'r, 'n> {
    pub(super) fn new(fields: Decoder<'r>, names: NameLists<'n>) -> Self {
        Self { fields, names, context: Context::default(), named: None }
    }

    /// The next event; `None` behind the last.
    pub(super) fn next(&mut self) -> Result<Option<Event>, StoreError> {
        if self.fields.is_empty() {
            return Ok(None);
        }
        let code = self.fields.u8()?;
        if code == code::REPEATED {
            return self.task().map(Some);
        }
        self.context.code = code;
        self.context.at = self.context.at.wrapping_add(get_signed(&mut self.fields)?);
        if task::is_task(code) {
            let (queue, queue_name) = self.names.queue(get(&mut self.fields)?)?;
            let (kind, kind_name) = self.names.kind(get(&mut self.fields)?)?;
            let attempt = u16::try_from(get(&mut self.fields)?)
                .map_err(|_too_large| corrupt("an attempt is too large"))?;
            self.context = Context { queue, kind, attempt, ..self.context };
            self.named = Some((queue_name, kind_name));
            return self.task().map(Some);
        }
        let (at, fields) = (from_micros(self.context.at), &mut self.fields);
        let event = match code {
            code::PRUNED => Event::pruned(at, get(fields)?),
            code::QUEUE_PAUSED => {
                Event::queue(at, self.names.queue(get(fields)?)?.1, QueueEvent::Paused)
            }
            code::QUEUE_RESUMED => {
                Event::queue(at, self.names.queue(get(fields)?)?.1, QueueEvent::Resumed)
            }
            code::SERVER_STARTED => {
                Event::server(at, get_server(fields, &mut self.context)?, ServerEvent::Started)
            }
            code::SERVER_DRAINING => {
                Event::server(at, get_server(fields, &mut self.context)?, ServerEvent::Draining)
            }
            code::SERVER_STOPPED => {
                let server = get_server(fields, &mut self.context)?;
                Event::server(at, server, ServerEvent::Stopped { left: get(fields)? })
            }
            code => return Err(corrupt(format!("unknown event {code} of the journal"))),
        };
        Ok(Some(event))
    }

    fn task(&mut self) -> Result<Event, StoreError> {
        let early = || corrupt("an event of the journal repeats what is not there");
        let (queue, kind) = self.named.clone().ok_or_else(early)?;
        let id = get_long(&mut self.fields)?.cast_unsigned();
        self.context.id = self.context.id.wrapping_add(id);
        let id = TaskId::from_u128(self.context.id).map_err(|error| corrupt(error.to_string()))?;
        let event = task::get_content(&mut self.fields, &mut self.context)?;
        let task = TaskRef { id, queue, kind, attempt: self.context.attempt };
        Ok(Event::task(from_micros(self.context.at), task, event))
    }
}

/// An instant in microseconds as the way there from the instant of the event.
fn put_instant(out: &mut Vec<u8>, context: &Context, instant: jiff::Timestamp) {
    put_signed(out, to_micros(instant).wrapping_sub(context.at));
}

fn get_instant(fields: &mut Decoder<'_>, context: &Context) -> Result<jiff::Timestamp, StoreError> {
    Ok(from_micros(context.at.wrapping_add(get_signed(fields)?)))
}

#[cfg(test)]
mod tests;
