//! The two records of a task: its body, written once, and its head, written when it changes.
//!
//! `FORMAT.md` draws their bytes.

use std::time::Duration;

use bytes::Bytes;
use ergon_core::{
    AttemptError, ErrorKind, Jitter, KindName, Metadata, NewTask, Phase, Progress, QueueName,
    RetryPolicy, StateSet, StoreError, Tag, TaskSpec, Token, UniqueKey, UniqueScope,
    outcome::ConclusionKind,
    progress::Settled,
    time::{from_micros, to_micros},
};
use jiff::Timestamp;

use crate::{
    codec::{Decoder, Encoder},
    error::corrupt,
    key::NameId,
};

mod retry;

/// Which optional fields a body has.
mod has {
    pub(super) const RETRY: u8 = 1;
    pub(super) const TIMEOUT: u8 = 1 << 1;
    pub(super) const DEADLINE: u8 = 1 << 2;
    pub(super) const RETENTION: u8 = 1 << 3;
    pub(super) const UNIQUE: u8 = 1 << 4;
    pub(super) const TAGS: u8 = 1 << 5;
    pub(super) const METADATA: u8 = 1 << 6;
}

/// What of a body decides where the task stands: read without looking at the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BodyHead {
    pub(crate) queue: NameId,
    pub(crate) kind: NameId,
    pub(crate) priority: i16,
    pub(crate) max_attempts: u16,
    pub(crate) created_at: i64,
    pub(crate) run_at: i64,
    pub(crate) retention: Option<Duration>,
    pub(crate) unique: Option<UniqueKey>,
}

impl BodyHead {
    /// The progress of the task as long as nothing has changed.
    pub(crate) fn fresh(&self) -> Progress {
        Progress::fresh(self.priority, self.max_attempts, from_micros(self.run_at))
    }
}

/// Encodes the body of a new task, taken by the store at `now`.
pub(crate) fn encode_body(
    task: &NewTask,
    queue: NameId,
    kind: NameId,
    now: Timestamp,
) -> (BodyHead, Vec<u8>) {
    let spec = &task.spec;
    let head = BodyHead {
        queue,
        kind,
        priority: task.priority,
        max_attempts: task.max_attempts,
        created_at: to_micros(now),
        run_at: to_micros(task.run_at.resolve(now)),
        retention: spec.retention,
        unique: spec.unique,
    };
    let retry = (spec.retry != RetryPolicy::default()).then_some(&spec.retry);
    let tags = (!spec.tags.is_empty()).then_some(&spec.tags);
    let metadata = (!spec.metadata.is_empty()).then_some(&spec.metadata);
    let mut out = Encoder::with_capacity(40 + spec.bytes());
    out.u8(flag(has::RETRY, retry.is_some())
        | flag(has::TIMEOUT, spec.timeout.is_some())
        | flag(has::DEADLINE, spec.deadline.is_some())
        | flag(has::RETENTION, spec.retention.is_some())
        | flag(has::UNIQUE, spec.unique.is_some())
        | flag(has::TAGS, tags.is_some())
        | flag(has::METADATA, metadata.is_some()));
    out.u32(queue);
    out.u32(kind);
    out.i16(task.priority);
    out.u16(task.max_attempts);
    out.i64(head.created_at);
    out.i64(head.run_at);
    spec.retention.into_iter().for_each(|kept| out.duration(kept));
    spec.unique.into_iter().for_each(|unique| encode_unique(&mut out, unique));
    retry.into_iter().for_each(|policy| retry::encode(&mut out, policy));
    spec.timeout.into_iter().for_each(|timeout| out.duration(timeout));
    spec.deadline.into_iter().for_each(|deadline| out.instant(deadline));
    if let Some(tags) = tags {
        out.u8(u8::try_from(tags.len()).unwrap_or(u8::MAX));
        tags.iter().for_each(|tag| out.bytes(tag.as_str().as_bytes()));
    }
    if let Some(metadata) = metadata {
        out.u32(u32::try_from(metadata.len()).unwrap_or(u32::MAX));
        for (key, value) in metadata {
            out.bytes(key.as_bytes());
            out.bytes(value.as_bytes());
        }
    }
    out.raw(&spec.payload);
    (head, out.finish())
}

const fn flag(bit: u8, is_set: bool) -> u8 {
    if is_set { bit } else { 0 }
}

/// Reads the deciding fields of a body.
pub(crate) fn decode_body_head(record: &[u8]) -> Result<BodyHead, StoreError> {
    decode_head_fields(&mut Decoder::new(record)?).map(|(_, head)| head)
}

fn decode_head_fields(fields: &mut Decoder<'_>) -> Result<(u8, BodyHead), StoreError> {
    let flags = fields.u8()?;
    let mut head = BodyHead {
        queue: fields.u32()?,
        kind: fields.u32()?,
        priority: fields.i16()?,
        max_attempts: fields.u16()?,
        created_at: fields.i64()?,
        run_at: fields.i64()?,
        retention: None,
        unique: None,
    };
    if flags & has::RETENTION != 0 {
        head.retention = Some(fields.duration()?);
    }
    if flags & has::UNIQUE != 0 {
        head.unique = Some(decode_unique(fields)?);
    }
    Ok((flags, head))
}

/// Reads a whole body; `names` tells the names of its queue and its kind.
pub(crate) fn decode_body(
    record: &[u8],
    names: impl FnOnce(&BodyHead) -> Result<(QueueName, KindName), StoreError>,
) -> Result<(BodyHead, TaskSpec), StoreError> {
    let mut fields = Decoder::new(record)?;
    let (flags, head) = decode_head_fields(&mut fields)?;
    let (queue, kind) = names(&head)?;
    let mut spec = TaskSpec::new(kind, Bytes::new());
    spec.queue = queue;
    spec.retention = head.retention;
    spec.unique = head.unique;
    if flags & has::RETRY != 0 {
        spec.retry = retry::decode(&mut fields)?;
    }
    if flags & has::TIMEOUT != 0 {
        spec.timeout = Some(fields.duration()?);
    }
    if flags & has::DEADLINE != 0 {
        spec.deadline = Some(fields.instant()?);
    }
    if flags & has::TAGS != 0 {
        for _ in 0..fields.u8()? {
            spec.tags.push(Tag::new(fields.text()?).map_err(|error| corrupt(error.to_string()))?);
        }
    }
    if flags & has::METADATA != 0 {
        spec.metadata = decode_metadata(&mut fields)?;
    }
    spec.payload = Bytes::copy_from_slice(fields.rest());
    Ok((head, spec))
}

fn decode_metadata(fields: &mut Decoder<'_>) -> Result<Metadata, StoreError> {
    let mut metadata = Metadata::new();
    for _ in 0..fields.u32()? {
        let key = fields.text()?.to_owned();
        metadata.insert(key, fields.text()?.to_owned());
    }
    Ok(metadata)
}

fn encode_unique(out: &mut Encoder, unique: UniqueKey) {
    out.raw(&unique.hash);
    let (tag, value) = match unique.scope {
        UniqueScope::UntilStarted => (0, 0),
        UniqueScope::UntilFinished => (1, 0),
        UniqueScope::While(states) => (2, u64::from(states.bits())),
        UniqueScope::For(period) => (3, u64::try_from(period.as_micros()).unwrap_or(u64::MAX)),
    };
    out.u8(tag);
    out.u64(value);
}

fn decode_unique(fields: &mut Decoder<'_>) -> Result<UniqueKey, StoreError> {
    let hash = fields.array()?;
    let scope = match (fields.u8()?, fields.u64()?) {
        (0, _) => UniqueScope::UntilStarted,
        (1, _) => UniqueScope::UntilFinished,
        (2, bits) => UniqueScope::While(StateSet::from_bits(u16::try_from(bits).unwrap_or(0))),
        (3, micros) => UniqueScope::For(Duration::from_micros(micros)),
        (tag, _) => return Err(corrupt(format!("unknown uniqueness scope {tag}"))),
    };
    Ok(UniqueKey { hash, scope })
}

/// Which optional fields a head has.
mod head_has {
    pub(super) const SETTLED: u8 = 1;
    pub(super) const CANCEL_REQUESTED: u8 = 1 << 1;
    pub(super) const STARTED_AT: u8 = 1 << 2;
    pub(super) const FINISHED: u8 = 1 << 3;
    pub(super) const RESULT: u8 = 1 << 4;
    pub(super) const ERRORS: u8 = 1 << 5;
}

/// Encodes the head of a task. A running task is stored as waiting: that it runs is known to its
/// owner, this process, and over when the process is.
pub(crate) fn encode_head(progress: &Progress) -> Vec<u8> {
    let result_bytes = progress.result.as_ref().map_or(0, Bytes::len);
    let mut out = Encoder::with_capacity(64 + result_bytes);
    let finished = progress.finished_at.zip(progress.expires_at);
    out.u8(flag(head_has::SETTLED, progress.settled.is_some())
        | flag(head_has::CANCEL_REQUESTED, progress.cancel_requested)
        | flag(head_has::STARTED_AT, progress.started_at.is_some())
        | flag(head_has::FINISHED, finished.is_some())
        | flag(head_has::RESULT, progress.result.is_some())
        | flag(head_has::ERRORS, !progress.errors.is_empty()));
    out.u8(match progress.phase {
        Phase::Waiting | Phase::Running => 0,
        Phase::Completed => 1,
        Phase::Failed => 2,
        Phase::Cancelled => 3,
    });
    out.i16(progress.priority);
    out.instant(progress.run_at);
    out.u16(progress.attempt);
    out.u16(progress.max_attempts);
    out.u16(progress.crash_count);
    out.u64(progress.token.get());
    if let Some(settled) = progress.settled {
        out.u64(settled.token.get());
        out.u8(settled.kind as u8);
    }
    progress.started_at.into_iter().for_each(|at| out.instant(at));
    if let Some((finished_at, expires_at)) = finished {
        out.instant(finished_at);
        out.instant(expires_at);
    }
    progress.result.iter().for_each(|result| out.bytes(result));
    if !progress.errors.is_empty() {
        out.u8(u8::try_from(progress.errors.len()).unwrap_or(u8::MAX));
        for error in &progress.errors {
            out.u16(error.attempt);
            out.instant(error.at);
            out.u8(error.kind as u8);
            out.bytes(error.message.as_bytes());
        }
    }
    out.finish()
}

/// Reads a head.
pub(crate) fn decode_head(record: &[u8]) -> Result<Progress, StoreError> {
    let mut fields = Decoder::new(record)?;
    let flags = fields.u8()?;
    let phase = match fields.u8()? {
        0 => Phase::Waiting,
        1 => Phase::Completed,
        2 => Phase::Failed,
        3 => Phase::Cancelled,
        phase => return Err(corrupt(format!("unknown phase {phase}"))),
    };
    let mut progress = Progress::fresh(fields.i16()?, 1, fields.instant()?);
    progress.phase = phase;
    progress.attempt = fields.u16()?;
    progress.max_attempts = fields.u16()?;
    progress.crash_count = fields.u16()?;
    progress.token = Token::new(fields.u64()?);
    if flags & head_has::SETTLED != 0 {
        let token = Token::new(fields.u64()?);
        let kind = numbered(&ConclusionKind::ALL, fields.u8()?)?;
        progress.settled = Some(Settled { token, kind });
    }
    progress.cancel_requested = flags & head_has::CANCEL_REQUESTED != 0;
    if flags & head_has::STARTED_AT != 0 {
        progress.started_at = Some(fields.instant()?);
    }
    if flags & head_has::FINISHED != 0 {
        progress.finished_at = Some(fields.instant()?);
        progress.expires_at = Some(fields.instant()?);
    }
    if flags & head_has::RESULT != 0 {
        progress.result = Some(Bytes::copy_from_slice(fields.bytes()?));
    }
    if flags & head_has::ERRORS != 0 {
        for _ in 0..fields.u8()? {
            progress.errors.push(AttemptError {
                attempt: fields.u16()?,
                at: fields.instant()?,
                kind: numbered(&ErrorKind::ALL, fields.u8()?)?,
                message: fields.text()?.to_owned(),
            });
        }
    }
    Ok(progress)
}

/// The value that stands at this number in the list of all.
pub(crate) fn numbered<T: Copy>(all: &[T], number: u8) -> Result<T, StoreError> {
    all.get(usize::from(number))
        .copied()
        .ok_or_else(|| corrupt(format!("unknown number {number} in a record")))
}

/// The jitter of an exponential policy, by its number.
const JITTERS: [Jitter; 2] = [Jitter::Full, Jitter::None];

#[cfg(test)]
mod tests;
