//! Where a task is and how it stands: what the statements that find tasks answer.

use bytes::Bytes;
use ergon_core::{
    AttemptError, ErrorKind, KindName, Metadata, Outcome, Phase, Progress, ProgressReport,
    StoreError, TaskId, TaskRecord, Token, UniqueKey, outcome::ConclusionKind, progress::Settled,
    report::KeptReport,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::{postgres::PgRow, types::Json};
use uuid::Uuid;

use crate::{
    error::corrupt,
    name::{Lane, Names},
    runner::Runner,
    spec::{Options, Stored},
    sql::{Bound, Statements},
    value::{Instant, column, instant, small, split, task_id},
};

/// A task as it was found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) id: TaskId,
    pub(crate) place: Place,
    pub(crate) progress: Progress,
    /// The version of its row in `task`; 0 when it has none.
    pub(crate) version: i64,
    /// The lane that it waits in, or last waited in.
    pub(crate) lane: Lane,
    pub(crate) kind: i32,
    /// The row of `pack` that holds it: its first offset, and how many tasks.
    pub(crate) pack: (i16, i16),
    /// Attempts that its pack allows.
    pub(crate) max_attempts: u16,
    pub(crate) created_at: Timestamp,
    /// The clock's instant at the read.
    pub(crate) now: Timestamp,
    stored: Stored,
    payload: Bytes,
    report: Option<KeptReport>,
}

/// Where a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It waits, in this row.
    Ready { late: bool, first: i16, n: i16, base: i16 },
    /// It runs, in this lease.
    Lease { token: i64, part: i64, version: i32, until: Timestamp },
    /// It runs in another lease than those that were searched, so that how it stands is not known but
    /// for its last outcome.
    OtherLease,
    /// It completed at its first attempt, in this row.
    Settled { first: i16, n: i16 },
    /// It finished otherwise: its row in `task` says it all.
    Finished,
    /// It was removed; only its payload is left.
    Gone,
}

/// An error of an attempt, in JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StoredError {
    attempt: u16,
    at: i64,
    kind: String,
    message: String,
}

impl StoredError {
    pub(crate) fn of(error: &AttemptError) -> Self {
        let at = crate::value::micros(error.at);
        let (kind, message) = (error.kind.as_str().to_owned(), error.message.clone());
        Self { attempt: error.attempt, at, kind, message }
    }

    fn read(self) -> Result<AttemptError, StoreError> {
        let kind = ErrorKind::ALL.into_iter().find(|kind| kind.as_str() == self.kind);
        let kind = kind.ok_or_else(|| corrupt(format!("kind of error {:?}", self.kind)))?;
        let at = ergon_core::time::from_micros(self.at);
        Ok(AttemptError { attempt: self.attempt, at, kind, message: self.message })
    }
}

/// What an outcome said, as a number.
pub(crate) fn conclusion_number(kind: ConclusionKind) -> i16 {
    let place = ConclusionKind::ALL.iter().position(|&one| one == kind);
    place.and_then(|place| i16::try_from(place).ok()).unwrap_or_default()
}

/// A phase as it is stored in `task`.
pub(crate) const fn phase_number(phase: Phase) -> i16 {
    match phase {
        Phase::Waiting | Phase::Running => 0,
        Phase::Completed => 2,
        Phase::Failed => 3,
        Phase::Cancelled => 4,
    }
}

impl Found {
    /// The task's key, if it is unique, and its own retention.
    pub(crate) fn unique(&self) -> Result<Option<UniqueKey>, StoreError> {
        Ok(self.stored.clone().spec(Bytes::new())?.unique)
    }

    /// How long the task itself wants to be kept.
    pub(crate) fn retention(&self) -> Option<std::time::Duration> {
        self.stored.options.as_ref().and_then(|Json(options)| options.retention())
    }

    /// The whole task, if it was read with its payload.
    pub(crate) fn record(self, now: Timestamp) -> Result<TaskRecord, StoreError> {
        let state = self.progress.state(now);
        let spec = self.stored.spec(self.payload)?;
        let Self { id, created_at, progress, report, .. } = self;
        Ok(TaskRecord { id, spec, created_at, progress, state, report })
    }

    /// What type of task it is.
    pub(crate) fn kind_name(&self) -> KindName {
        self.stored.kind.clone()
    }
}

/// Whether payloads are read too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    Read,
    Skip,
}

/// The statement that finds tasks by their ids.
pub(crate) fn by_id(sql: &Statements, ids: &[TaskId], payload: Payload) -> Bound {
    let (packs, offsets): (Vec<Uuid>, Vec<i16>) = ids.iter().copied().map(split).unzip();
    sql.found_by_id.with(payload == Payload::Read).with(packs).with(offsets)
}

/// The statement that finds the tasks of outcomes.
pub(crate) fn by_token(sql: &Statements, outcomes: &[Outcome]) -> Bound {
    let ids = outcomes.iter().map(|outcome| split(outcome.id));
    let (packs, offsets): (Vec<Uuid>, Vec<i16>) = ids.unzip();
    // A token beyond the range of the sequence was never given.
    let tokens: Vec<i64> =
        outcomes.iter().filter_map(|o| i64::try_from(o.token.get()).ok()).collect();
    sql.found_by_token.with(false).with(packs).with(offsets).with(tokens)
}

/// Reads what a statement that finds tasks answered.
pub(crate) async fn read(
    runner: &mut Runner<'_>,
    sql: &Statements,
    names: &Names,
    rows: &[PgRow],
) -> Result<Vec<Found>, StoreError> {
    let is_known = |row: &PgRow| -> Result<bool, StoreError> {
        let lane =
            column::<Option<i32>>(row, "t_lane")?.map_or_else(|| column(row, "p_lane"), Ok)?;
        let kind = column(row, "kind")?;
        Ok(names.lane_by_id(lane).is_some() && names.kind_by_id(kind).is_some())
    };
    for row in rows {
        if !is_known(row)? {
            names.refresh(runner, sql).await?;
            break;
        }
    }
    rows.iter().map(|row| found(names, row)).collect()
}

fn found(names: &Names, row: &PgRow) -> Result<Found, StoreError> {
    let id = task_id(column(row, "pack")?, column(row, "off")?)?;
    let own_lane: Option<i32> = column(row, "t_lane")?;
    let lane = own_lane.map_or_else(|| column(row, "p_lane"), Ok)?;
    let lane = names.lane_by_id(lane).ok_or_else(|| corrupt(format!("lane {lane}")))?;
    let kind: i32 = column(row, "kind")?;
    let kind_name = names.kind_by_id(kind).ok_or_else(|| corrupt(format!("kind {kind}")))?;
    let max_attempts = small::<u16, i32>(column(row, "p_max_attempts")?)?;
    let (place, progress) = stand(row, &lane, max_attempts)?;
    let payload: Option<&[u8]> = column(row, "payload")?;
    Ok(Found {
        id,
        place,
        progress,
        version: column::<Option<i64>>(row, "version")?.unwrap_or(0),
        kind,
        pack: (column(row, "p_first")?, column(row, "p_n")?),
        max_attempts,
        created_at: column::<Instant>(row, "created_at")?.0,
        now: column::<Instant>(row, "clock")?.0,
        stored: Stored {
            kind: kind_name,
            queue: lane.queue.clone(),
            options: column::<Option<Json<Options>>>(row, "options")?,
            metadata: column::<Option<Json<Metadata>>>(row, "metadata")?,
            tags: column::<Option<Json<Vec<String>>>>(row, "tags")?,
        },
        lane,
        payload: Bytes::copy_from_slice(payload.unwrap_or_default()),
        report: kept_report(row)?,
    })
}

/// How far it has come, if it runs and its handler told.
fn kept_report(row: &PgRow) -> Result<Option<KeptReport>, StoreError> {
    let Some(at) = instant(row, "h_at")? else { return Ok(None) };
    let report = ProgressReport {
        done: column::<i64>(row, "h_done")?.cast_unsigned(),
        total: column::<Option<i64>>(row, "h_total")?.map(i64::cast_unsigned),
        message: column(row, "h_message")?,
    };
    Ok(Some(KeptReport { at, report }))
}

/// Where a task is and how it stands, of the places that were looked at.
fn stand(row: &PgRow, lane: &Lane, max_attempts: u16) -> Result<(Place, Progress), StoreError> {
    let run_at = column::<Instant>(row, "p_run_at")?.0;
    let mut progress = Progress::fresh(lane.priority, max_attempts, run_at);
    let phase = own_story(row, &mut progress)?;
    if let Some(token) = column::<Option<i64>>(row, "s_token")? {
        settled_story(row, token, &mut progress)?;
        let place = Place::Settled { first: column(row, "s_first")?, n: column(row, "s_n")? };
        return Ok((place, progress));
    }
    if let Some(token) = column::<Option<i64>>(row, "l_token")? {
        progress.phase = Phase::Running;
        progress.token = Token::new(small(token)?);
        progress.started_at = instant(row, "l_started_at")?;
        let (part, version) = (column(row, "part")?, column(row, "l_version")?);
        let until = column::<Instant>(row, "until")?.0;
        return Ok((Place::Lease { token, part, version, until }, progress));
    }
    if let Some(first) = column::<Option<i16>>(row, "r_first")? {
        let late =
            column::<Option<bool>>(row, "t_late")?.map_or_else(|| column(row, "p_late"), Ok)?;
        let (n, base) = (column(row, "r_n")?, column(row, "r_base")?);
        return Ok((Place::Ready { late, first, n, base }, progress));
    }
    let place = match phase {
        Some(Phase::Completed | Phase::Failed | Phase::Cancelled) => Place::Finished,
        Some(Phase::Waiting | Phase::Running) => Place::OtherLease,
        None => Place::Gone,
    };
    Ok((place, progress))
}

/// Reads the row in `task`, if there is one; says in which phase it leaves the task.
fn own_story(row: &PgRow, progress: &mut Progress) -> Result<Option<Phase>, StoreError> {
    let Some(phase) = column::<Option<i16>>(row, "phase")? else { return Ok(None) };
    progress.phase = match phase {
        0 => Phase::Waiting,
        2 => Phase::Completed,
        3 => Phase::Failed,
        4 => Phase::Cancelled,
        other => return Err(corrupt(format!("phase {other}"))),
    };
    progress.run_at = column::<Instant>(row, "t_run_at")?.0;
    progress.attempt = small::<u16, i32>(column(row, "attempt")?)?;
    progress.max_attempts = small::<u16, i32>(column(row, "t_max_attempts")?)?;
    progress.crash_count = small::<u16, i32>(column(row, "crash_count")?)?;
    progress.token = Token::new(small::<u64, i64>(column(row, "t_token")?)?);
    progress.cancel_requested = column(row, "cancel_requested")?;
    progress.started_at = instant(row, "t_started_at")?;
    progress.finished_at = instant(row, "t_finished_at")?;
    progress.expires_at = instant(row, "t_expires_at")?;
    progress.result = column::<Option<&[u8]>>(row, "t_result")?.map(Bytes::copy_from_slice);
    if let Some(token) = column::<Option<i64>>(row, "settled_token")? {
        let number: i16 = column(row, "settled_kind")?;
        let kind = usize::try_from(number).ok().and_then(|at| ConclusionKind::ALL.get(at));
        let kind = *kind.ok_or_else(|| corrupt(format!("conclusion {number}")))?;
        progress.settled = Some(Settled { token: Token::new(small(token)?), kind });
    }
    if let Some(Json(errors)) = column::<Option<Json<Vec<StoredError>>>>(row, "errors")? {
        progress.errors = errors.into_iter().map(StoredError::read).collect::<Result<_, _>>()?;
    }
    Ok(Some(progress.phase))
}

fn settled_story(row: &PgRow, token: i64, progress: &mut Progress) -> Result<(), StoreError> {
    let token = Token::new(small(token)?);
    progress.phase = Phase::Completed;
    progress.attempt = 1;
    progress.token = token;
    progress.settled = Some(Settled { token, kind: ConclusionKind::Complete });
    progress.started_at = instant(row, "s_started_at")?;
    progress.finished_at = instant(row, "s_finished_at")?;
    progress.expires_at = instant(row, "s_expires_at")?;
    progress.result = column::<Option<&[u8]>>(row, "s_result")?.map(Bytes::copy_from_slice);
    Ok(())
}
