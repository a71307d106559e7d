//! The lists of rows that a change takes away, changes and adds.

use std::collections::BTreeMap;

use ergon_core::{Phase, StoreError, TaskEvent, event::Fact};
use serde::Serialize;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Change, Entry, frees_key};
use crate::{
    journal::Item,
    name::Names,
    place::{Place, StoredError, conclusion_number, phase_number},
    range::{Runs, pieces},
    sql::{Bound, Statements},
    value::{micros, small, split},
};

/// The key of a range in `ready`, or a piece of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Ready {
    lane: i32,
    late: bool,
    run_at: i64,
    pack: Uuid,
    first: i16,
    n: i16,
    kind: i32,
    base: i16,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Range {
    pack: Uuid,
    first: i16,
    n: i16,
}

/// A lease that ends, or of which some tasks are left.
#[derive(Clone, Debug, Serialize)]
struct Lease {
    token: i64,
    part: i64,
    version: i32,
    until: Option<i64>,
    cancels: i32,
    packs: Option<Vec<Uuid>>,
    firsts: Option<Vec<i16>>,
    ns: Option<Vec<i16>>,
}

#[derive(Debug, Serialize)]
struct Settled {
    pack: Uuid,
    off: i16,
    token: i64,
    started_at: Option<i64>,
    finished_at: Option<i64>,
    expires_at: Option<i64>,
    lane: i32,
    result: Option<String>,
}

#[derive(Debug, Serialize)]
struct TaskOut {
    pack: Uuid,
    off: i16,
    version: i64,
}

#[derive(Debug, Serialize)]
struct Task {
    pack: Uuid,
    off: i16,
    version: i64,
    waits: bool,
    base: i16,
    kind: i32,
    lane: i32,
    due: i64,
    attempt: u16,
    max_attempts: u16,
    crash_count: u16,
    token: i64,
    settled_token: Option<i64>,
    settled_kind: Option<i16>,
    phase: i16,
    cancel_requested: bool,
    started_at: Option<i64>,
    finished_at: Option<i64>,
    expires_at: Option<i64>,
    result: Option<String>,
    errors: Option<Vec<StoredError>>,
}

#[derive(Debug, Serialize)]
struct Key {
    hash: String,
    pack: Uuid,
    off: i16,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Delta {
    queue: i32,
    waiting: i32,
    running: i32,
    completed: i32,
    failed: i32,
    cancelled: i32,
}

impl Delta {
    fn count(&mut self, phase: Phase, by: i32) {
        match phase {
            Phase::Waiting => self.waiting += by,
            Phase::Running => self.running += by,
            Phase::Completed => self.completed += by,
            Phase::Failed => self.failed += by,
            Phase::Cancelled => self.cancelled += by,
        }
    }
}

/// Everything that one statement writes.
#[derive(Debug, Default)]
pub(super) struct Lists {
    ready_out: Vec<Ready>,
    ready_left: Vec<Ready>,
    lease_out: Vec<Lease>,
    lease_cut: Vec<Lease>,
    settled_out: Vec<Range>,
    settled_left: Vec<Range>,
    settled_new: Vec<Settled>,
    task_out: Vec<TaskOut>,
    task: Vec<Task>,
    keys: Vec<Key>,
    deltas: BTreeMap<i32, Delta>,
    items: Vec<Item>,
    /// When they happened.
    at: i64,
}

/// A lease of which tasks are taken, or of which a task was asked to stop.
#[derive(Debug)]
struct LeaseChange {
    version: i32,
    /// Checked only when a task is taken because its lease is over: a beat may come first.
    until: Option<i64>,
    cancels: i32,
    runs: Runs,
    is_cut: bool,
}

/// The bytes of a result as JSON carries them to a `bytea`.
fn hex_bytes(bytes: &bytes::Bytes) -> String {
    format!("\\x{}", hex::encode(bytes))
}

impl Lists {
    /// The lists for a change; `leases` are those that its tasks run in.
    pub(super) fn of(
        change: &Change,
        names: &Names,
        leases: BTreeMap<(i64, i64), Runs>,
    ) -> Result<Self, StoreError> {
        let mut lists = Self::default();
        let mut ready = BTreeMap::<Ready, Vec<i16>>::new();
        let mut settled = BTreeMap::<Range, Vec<i16>>::new();
        let mut cuts = BTreeMap::<(i64, i64), LeaseChange>::new();
        for entry in change.changed() {
            let (pack, off) = split(entry.found.id);
            match entry.found.place {
                Place::Ready { late, first, n, base } => {
                    let run_at = micros(entry.found.progress.run_at);
                    let (lane, kind) = (entry.found.lane.id, entry.found.kind);
                    let row = Ready { lane, late, run_at, pack, first, n, kind, base };
                    ready.entry(row).or_default().push(off);
                }
                Place::Settled { first, n } => {
                    settled.entry(Range { pack, first, n }).or_default().push(off);
                }
                Place::Lease { token, part, version, until } => {
                    let runs = leases.get(&(token, part)).ok_or(StoreError::Conflict)?;
                    let cut = cuts.entry((token, part)).or_insert_with(|| LeaseChange {
                        version,
                        until: None,
                        cancels: 0,
                        runs: runs.clone(),
                        is_cut: false,
                    });
                    cut.take(entry, until)?;
                }
                Place::OtherLease | Place::Finished | Place::Gone => {}
            }
            lists.add(entry, names)?;
        }
        lists.cut_ranges(ready, settled);
        lists.cut_leases(cuts);
        lists.tell(change, names)?;
        Ok(lists)
    }

    /// Adds what happens.
    fn tell(&mut self, change: &Change, names: &Names) -> Result<(), StoreError> {
        for event in &change.events {
            let Fact::Task { task, event: what } = &event.fact else { continue };
            let Some(entry) = change.entries.get(&task.id) else { continue };
            let found = &entry.found;
            let lane = match what {
                TaskEvent::Reprioritized { priority } => {
                    names.lane(&found.lane.queue, *priority).ok_or(StoreError::Conflict)?.id
                }
                _ => found.lane.id,
            };
            self.at = micros(event.at);
            self.items.extend(Item::of(event.at, task, what, lane, found.kind));
        }
        Ok(())
    }

    /// Adds what becomes of a task, but for the row that it leaves.
    fn add(&mut self, entry: &Entry, names: &Names) -> Result<(), StoreError> {
        let (pack, off) = split(entry.found.id);
        if let Some(hash) = frees_key(entry)? {
            self.keys.push(Key { hash: format!("\\x{}", hex::encode(hash)), pack, off });
        }
        let queue = entry.found.lane.queue_id;
        let delta = self.deltas.entry(queue).or_default();
        delta.queue = queue;
        delta.count(entry.found.progress.phase, -1);
        if !entry.is_removed {
            delta.count(entry.progress.phase, 1);
        }
        let version = entry.found.version;
        if version > 0 {
            self.task_out.push(TaskOut { pack, off, version });
        }
        if entry.is_removed {
            return Ok(());
        }
        let progress = &entry.progress;
        let lane = names.lane(&entry.found.lane.queue, progress.priority);
        let lane = lane.ok_or(StoreError::Conflict)?.id;
        let token = small(progress.token.get())?;
        let result = progress.result.as_ref().map(hex_bytes);
        let instants = [progress.started_at, progress.finished_at, progress.expires_at];
        let [started_at, finished_at, expires_at] = instants.map(|instant| instant.map(micros));
        if entry.is_plain() {
            let row =
                Settled { pack, off, token, started_at, finished_at, expires_at, lane, result };
            self.settled_new.push(row);
            return Ok(());
        }
        let settled_token =
            progress.settled.map(|settled| small(settled.token.get())).transpose()?;
        let errors = progress.errors.iter().map(StoredError::of).collect();
        self.task.push(Task {
            pack,
            off,
            version: version + 1,
            waits: progress.phase == Phase::Waiting,
            base: entry.found.pack.0,
            kind: entry.found.kind,
            lane,
            due: micros(progress.run_at),
            attempt: progress.attempt,
            max_attempts: progress.max_attempts,
            crash_count: progress.crash_count,
            token,
            settled_token,
            settled_kind: progress.settled.map(|settled| conclusion_number(settled.kind)),
            phase: phase_number(progress.phase),
            cancel_requested: progress.cancel_requested,
            started_at,
            finished_at,
            expires_at,
            result,
            errors: (!progress.errors.is_empty()).then_some(errors),
        });
        Ok(())
    }

    fn cut_ranges(&mut self, ready: BTreeMap<Ready, Vec<i16>>, settled: BTreeMap<Range, Vec<i16>>) {
        for (row, taken) in ready {
            let left = pieces(row.first, row.n, &taken).into_iter();
            self.ready_left.extend(left.map(|(first, n)| Ready { first, n, ..row.clone() }));
            self.ready_out.push(row);
        }
        for (row, taken) in settled {
            let left = pieces(row.first, row.n, &taken).into_iter();
            self.settled_left.extend(left.map(|(first, n)| Range { first, n, ..row.clone() }));
            self.settled_out.push(row);
        }
    }

    fn cut_leases(&mut self, cuts: BTreeMap<(i64, i64), LeaseChange>) {
        for ((token, part), cut) in cuts {
            let LeaseChange { version, until, cancels, runs, is_cut } = cut;
            let (packs, firsts, ns) = runs.columns();
            let mut lease =
                Lease { token, part, version, until, cancels, packs: None, firsts: None, ns: None };
            if runs.is_empty() {
                self.lease_out.push(lease);
                continue;
            }
            if is_cut {
                (lease.packs, lease.firsts, lease.ns) = (Some(packs), Some(firsts), Some(ns));
            }
            self.lease_cut.push(lease);
        }
    }

    /// The statement that writes the lists.
    pub(super) fn bind(&self, sql: &Statements) -> Bound {
        let rows = self.ready_out.len()
            + self.lease_out.len()
            + self.lease_cut.len()
            + self.settled_out.len()
            + self.task_out.len()
            + self.task.len();
        let deltas: Vec<_> = self.deltas.values().collect();
        sql.change
            .with(Json(&self.ready_out))
            .with(Json(&self.ready_left))
            .with(Json(&self.lease_out))
            .with(Json(&self.lease_cut))
            .with(Json(&self.settled_out))
            .with(Json(&self.settled_left))
            .with(Json(&self.settled_new))
            .with(Json(&self.task_out))
            .with(Json(&self.task))
            .with(Json(&self.keys))
            .with(Json(deltas))
            .with(i64::try_from(rows).unwrap_or(i64::MAX))
            .with(Json(&self.items))
            .with(self.at)
    }
}

impl LeaseChange {
    /// Takes a task out, or notes that it was asked to stop.
    fn take(&mut self, entry: &Entry, until: jiff::Timestamp) -> Result<(), StoreError> {
        let was_asked = i32::from(entry.found.progress.cancel_requested);
        if entry.progress.phase == Phase::Running && !entry.is_removed {
            self.cancels += i32::from(entry.progress.cancel_requested) - was_asked;
            return Ok(());
        }
        if entry.progress.crash_count > entry.found.progress.crash_count {
            self.until = Some(micros(until));
        }
        self.cancels -= was_asked;
        self.is_cut = true;
        // The lease was read after the task: somebody may have taken it out in between.
        if self.runs.remove(entry.found.id) { Ok(()) } else { Err(StoreError::Conflict) }
    }
}
