//! New tasks as rows: runs of ids that are alike share one.

use std::{borrow::Cow, time::Duration};

use ergon_core::{Metadata, NewTask, RunAt, StoreError, TaskSpec, time::whole_micros};
use sqlx::types::Json;
use uuid::Uuid;

use crate::{
    name::{Lane, Names},
    spec::{Options, metadata, tags},
    sql::{Bound, Statements},
    value::{Instant, split},
};

/// Ids are locked by bucket while they are stored: so many that strangers hardly ever meet in one, also
/// when a transaction of the application is long.
const BUCKETS: u128 = 1 << 16;

/// The bucket of a pack.
fn bucket(pack: Uuid) -> i32 {
    // The random bits above the offset.
    i32::try_from((pack.as_u128() >> 12) % BUCKETS).unwrap_or_default()
}

/// Longest run: offsets have 12 bits.
const RUN_MAX: i16 = 4095;

/// A row of `pack`.
#[derive(Debug)]
struct Row<'t> {
    pack: Uuid,
    first: i16,
    n: i16,
    lane: Lane,
    kind: i32,
    task: &'t NewTask,
    payload: Cow<'t, [u8]>,
    ends: Vec<i32>,
    /// Which call it is of: a run never goes over two, so that a call that is repeated forms the same.
    call: usize,
    /// How many tasks its row in `ready` holds; 0 when an earlier one covers it.
    ready: i16,
}

/// A run of ids, whatever the tasks are like.
#[derive(Debug)]
struct Ids {
    pack: Uuid,
    first: i16,
    last: i16,
    /// Whether some of them share a row.
    shares_row: bool,
}

/// All rows of one statement.
#[derive(Debug)]
pub(super) struct Rows<'t> {
    rows: Vec<Row<'t>>,
    ids: Vec<Ids>,
    deltas: Vec<(i32, i32)>,
}

impl<'t> Rows<'t> {
    /// Forms the rows; every name is known already.
    pub(super) fn of(calls: &[&'t [NewTask]], names: &Names) -> Result<Self, StoreError> {
        let mut rows: Vec<Row<'t>> = Vec::new();
        for (call, tasks) in calls.iter().enumerate() {
            for task in *tasks {
                let (pack, off) = split(task.id);
                if let Some(row) = rows.last_mut().filter(|row| row.call == call)
                    && row.continues(pack, off, task)
                {
                    row.push(&task.spec.payload);
                    continue;
                }
                let lane = names.lane(&task.spec.queue, task.priority);
                let lane = lane.ok_or(StoreError::Conflict)?;
                let kind = names.kind(&task.spec.kind).ok_or(StoreError::Conflict)?;
                rows.push(Row {
                    pack,
                    first: off,
                    n: 1,
                    lane,
                    kind,
                    task,
                    payload: Cow::Borrowed(&task.spec.payload),
                    ends: Vec::new(),
                    call,
                    ready: 1,
                });
            }
        }
        // Rows in the order of their ids: locks are taken in one order, neighbours meet.
        rows.sort_by_key(|row| (row.pack, row.first));
        let mut all = Self { rows, ids: Vec::new(), deltas: Vec::new() };
        all.join();
        Ok(all)
    }

    /// Whether two calls hold the same id, as when one of them repeats a part of the other.
    pub(super) fn overlap(&self) -> bool {
        !self.rows.is_sorted_by(|row, next| row.pack != next.pack || row.last() < next.first)
    }

    /// Whether the statement fails, and does not answer, when an id is taken.
    pub(super) fn may_fail(&self) -> bool {
        self.rows.len() > 1 && self.rows.iter().any(|row| row.n == 1 && row.first == 0)
    }

    /// Lets neighbours that wait alike share a row in `ready`, and gathers runs of ids and counts.
    fn join(&mut self) {
        let mut head = 0;
        for at in 0..self.rows.len() {
            let (before, from) = self.rows.split_at_mut(at);
            let Some(row) = from.first_mut() else { break };
            row.ready = row.n;
            match self
                .ids
                .last_mut()
                .filter(|ids| ids.pack == row.pack && ids.last + 1 == row.first)
            {
                Some(ids) => {
                    ids.last += row.n;
                    ids.shares_row |= row.n > 1;
                }
                None => self.ids.push(Ids {
                    pack: row.pack,
                    first: row.first,
                    last: row.last(),
                    shares_row: row.n > 1,
                }),
            }
            let n = i32::from(row.n);
            match self.deltas.iter_mut().find(|(queue, _)| *queue == row.lane.queue_id) {
                Some((_, sum)) => *sum += n,
                None => self.deltas.push((row.lane.queue_id, n)),
            }
            match before.get_mut(head) {
                Some(first) if first.waits_beside(row) => {
                    first.ready += row.n;
                    row.ready = 0;
                }
                _ => head = at,
            }
        }
        // A single task at the start of a pack can only be in a row with the same key.
        self.ids.retain(|ids| ids.shares_row || ids.last > 0);
        self.ids.sort_by_key(|ids| (bucket(ids.pack), ids.pack, ids.first));
    }

    /// The statement that stores them.
    pub(super) fn bind(&self, sql: &Statements, now: Option<Instant>) -> Bound {
        match self.rows.as_slice() {
            [row] if row.n == 1 => row.bind(sql, now),
            _ => self.bind_all(sql, now),
        }
    }

    fn bind_all(&self, sql: &Statements, now: Option<Instant>) -> Bound {
        fn column<'r, 't, T>(rows: &'r [Row<'t>], of: impl Fn(&'r Row<'t>) -> T) -> Vec<T> {
            rows.iter().map(of).collect()
        }
        let rows = &self.rows;
        let mut ends = Vec::new();
        let mut ends_at = Vec::with_capacity(rows.len());
        for row in rows {
            ends_at.push(i32::try_from(ends.len()).unwrap_or(i32::MAX));
            ends.extend_from_slice(&row.ends);
        }
        sql.insert
            .with(now)
            .with(column(rows, |row| row.pack))
            .with(column(rows, |row| row.first))
            .with(column(rows, |row| row.n))
            .with(column(rows, |row| row.lane.id))
            .with(column(rows, |row| row.kind))
            .with(column(rows, |row| row.at()))
            .with(column(rows, |row| row.delay()))
            .with(column(rows, |row| i32::from(row.task.max_attempts)))
            .with(column(rows, |row| &*row.payload))
            .with(ends)
            .with(ends_at)
            .with(column(rows, |row| Options::of(&row.task.spec)))
            .with(column::<Option<Json<&Metadata>>>(rows, |row| metadata(&row.task.spec)))
            .with(column::<Option<Json<Vec<&str>>>>(rows, |row| tags(&row.task.spec)))
            .with(column(rows, |row| row.ready))
            .with(self.ids.iter().map(|ids| ids.pack).collect::<Vec<_>>())
            .with(self.ids.iter().map(|ids| i32::from(ids.first)).collect::<Vec<_>>())
            .with(self.ids.iter().map(|ids| i32::from(ids.last)).collect::<Vec<_>>())
            .with(self.deltas.iter().map(|delta| delta.0).collect::<Vec<_>>())
            .with(self.deltas.iter().map(|delta| delta.1).collect::<Vec<_>>())
            .with(self.ids.iter().map(|ids| bucket(ids.pack)).collect::<Vec<_>>())
            .with(self.ids.iter().map(|ids| ids.shares_row).collect::<Vec<_>>())
    }
}

impl Row<'_> {
    /// The statement that stores it, when it is alone.
    fn bind(&self, sql: &Statements, now: Option<Instant>) -> Bound {
        sql.insert_one
            .with(now)
            .with(self.pack)
            .with(self.first)
            .with(self.lane.id)
            .with(self.kind)
            .with(self.at())
            .with(self.delay())
            .with(i32::from(self.task.max_attempts))
            .with(&*self.payload)
            .with(Options::of(&self.task.spec))
            .with(metadata(&self.task.spec))
            .with(tags(&self.task.spec))
            .with(self.lane.queue_id)
            .with(bucket(self.pack))
    }

    const fn last(&self) -> i16 {
        self.first + self.n - 1
    }

    /// Whether a task is the next of this run.
    fn continues(&self, pack: Uuid, off: i16, task: &NewTask) -> bool {
        pack == self.pack
            && off == self.first + self.n
            && self.n < RUN_MAX
            && is_alike(self.task, task)
            && self.payload.len() + task.spec.payload.len() <= i32::MAX.unsigned_abs() as usize
    }

    fn push(&mut self, payload: &[u8]) {
        let end = |bytes: &[u8]| i32::try_from(bytes.len()).unwrap_or(i32::MAX);
        let bytes = self.payload.to_mut();
        if self.ends.is_empty() {
            self.ends.push(end(bytes));
        }
        bytes.extend_from_slice(payload);
        self.ends.push(end(bytes));
        self.n += 1;
    }

    /// Whether the tasks of `next` follow those that wait in this row, and wait alike.
    fn waits_beside(&self, next: &Self) -> bool {
        self.pack == next.pack
            && self.first + self.ready == next.first
            && i32::from(self.ready) + i32::from(next.n) <= i32::from(RUN_MAX)
            && (self.lane.id, self.kind) == (next.lane.id, next.kind)
            && self.task.run_at == next.task.run_at
            && self.task.spec.unique.is_none()
            && next.task.spec.unique.is_none()
    }

    /// When it is due, if that is an instant.
    fn at(&self) -> Option<Instant> {
        match self.task.run_at {
            RunAt::Now | RunAt::After(_) => None,
            RunAt::At(instant) => Some(Instant(whole_micros(instant))),
        }
    }

    /// How long after the insert it is due, in microseconds.
    fn delay(&self) -> i64 {
        let delay = match self.task.run_at {
            RunAt::After(delay) => delay,
            RunAt::Now | RunAt::At(_) => Duration::ZERO,
        };
        i64::try_from(delay.as_micros()).unwrap_or(i64::MAX)
    }
}

/// Whether two tasks differ in their ids and payloads alone. Unique tasks are rows of their own.
fn is_alike(one: &NewTask, two: &NewTask) -> bool {
    let TaskSpec {
        kind,
        queue,
        payload: _,
        retry,
        timeout,
        deadline,
        retention,
        metadata,
        tags,
        unique,
    } = &one.spec;
    let other = &two.spec;
    unique.is_none()
        && other.unique.is_none()
        && (one.priority, one.max_attempts, one.run_at)
            == (two.priority, two.max_attempts, two.run_at)
        && (kind, queue, retry, timeout, deadline, retention)
            == (
                &other.kind,
                &other.queue,
                &other.retry,
                &other.timeout,
                &other.deadline,
                &other.retention,
            )
        && (metadata, tags) == (&other.metadata, &other.tags)
}
