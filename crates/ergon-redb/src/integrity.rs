//! Compares counters and indexes with the records they stand for, and reads the journal.

use std::collections::{BTreeMap, HashMap};

use ergon_core::{Phase, StoreError, TaskId};
use redb::ReadableTable;

use crate::{
    batch::{mark_of, marked_key, parse_id, waiting_of},
    error::backend,
    journal,
    key::{LAST_TASK, NameId, parse_ready_key, ready_key},
    queue::QueueRow,
    reader::Snapshot,
    record::{decode_body_head, decode_head},
    shared::Shared,
    table::{BODY, HEAD, JOURNAL, MARKED, QUARANTINE, READY, UNIQUE},
    unique::Holder,
};

/// What a check of a store found.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Integrity {
    /// Tasks that were looked at.
    pub tasks: u64,
    /// What does not agree, in words; at most 100 of them.
    pub problems: Vec<String>,
}

const PROBLEMS_MAX: usize = 100;

impl Integrity {
    fn expect(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds && self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem());
        }
    }
}

pub(crate) fn check(shared: &Shared) -> Result<Integrity, StoreError> {
    let snapshot = Snapshot::open(shared)?;
    let transaction = snapshot.transaction();
    let bodies = transaction.open_table(BODY).map_err(backend)?;
    let heads = transaction.open_table(HEAD).map_err(backend)?;
    let ready = transaction.open_table(READY).map_err(backend)?;
    let marked = transaction.open_table(MARKED).map_err(backend)?;
    let mut found = Integrity::default();
    let mut counted: BTreeMap<NameId, QueueRow> = BTreeMap::new();
    let (mut waiting, mut marks) = (0_u64, 0_u64);
    let mut aside: HashMap<TaskId, String> = quarantine(&snapshot)?.into_iter().collect();
    for row in bodies.range::<&[u8; 16]>(..=&LAST_TASK).map_err(backend)? {
        let (key, body) = row.map_err(backend)?;
        let id = parse_id(key.value())?;
        if aside.remove(&id).is_some() {
            continue;
        }
        found.tasks += 1;
        let head = heads.get(key.value()).map_err(backend)?;
        let has_head = head.is_some();
        let read = decode_body_head(body.value()).and_then(|body| {
            let progress = head.map(|head| decode_head(head.value())).transpose()?;
            let progress = progress.unwrap_or_else(|| body.fresh());
            Ok((body, progress))
        });
        let (body, progress) = match read {
            Ok(read) => read,
            Err(error) => {
                found.expect(false, || format!("task {id} does not read back: {error}"));
                continue;
            }
        };
        counted.entry(body.queue).or_default().count(None, Some(progress.phase));
        if progress.phase == Phase::Waiting {
            waiting += 1;
            let expected = waiting_of(id, &body, &progress, has_head);
            let flags = ready.get(&ready_key(expected.lane, expected.place)).map_err(backend)?;
            let flags = flags.map(|flags| flags.value());
            found.expect(flags == Some(expected.flags.0), || {
                format!("task {id} waits, and its row in the ready index says {flags:?}")
            });
        }
        if let Some(mark) = mark_of(progress.phase) {
            marks += 1;
            let is_marked = marked.get(&marked_key(mark, *key.value())).map_err(backend)?.is_some();
            found.expect(is_marked, || format!("task {id} has no mark"));
        }
    }
    let rows = redb::ReadableTableMetadata::len(&ready).map_err(backend)?;
    found.expect(rows == waiting, || format!("{rows} rows in the ready index, {waiting} tasks"));
    let rows = redb::ReadableTableMetadata::len(&marked).map_err(backend)?;
    found.expect(rows == marks, || format!("{rows} marks, {marks} tasks to mark"));
    for (number, name) in snapshot.queue_names() {
        let kept = snapshot.queue(number).row;
        let is_paused = kept.is_paused;
        let scanned = QueueRow { is_paused, ..counted.remove(&number).unwrap_or_default() };
        found.expect(kept == scanned, || format!("queue {name}: {kept:?}, a scan {scanned:?}"));
    }
    check_windows(shared, &snapshot, &mut found)?;
    check_keys(&snapshot, &mut found)?;
    let entries = transaction.open_table(JOURNAL).map_err(backend)?;
    journal::check(&entries, snapshot.names(), |problem| found.expect(false, || problem))?;
    Ok(found)
}

/// Every row of the ready index is known to memory, or lies behind what a window knows.
fn check_windows(
    shared: &Shared,
    snapshot: &Snapshot,
    found: &mut Integrity,
) -> Result<(), StoreError> {
    let ready = snapshot.transaction().open_table(READY).map_err(backend)?;
    for row in ready.iter().map_err(backend)? {
        let (lane, place) = parse_ready_key(row.map_err(backend)?.0.value());
        let Ok(id) = TaskId::from_u128(place.id) else { continue };
        let live = shared.live();
        let is_known = live.running.contains_key(&id) || live.lanes.knows(lane, place);
        drop(live);
        // It may have been finished while this check walked on; only what is still there counts.
        let is_known = is_known || !is_there(shared, lane, place)?;
        found.expect(is_known, || format!("waiting task {id} is out of the reach of claims"));
    }
    Ok(())
}

fn is_there(
    shared: &Shared,
    lane: crate::key::Lane,
    place: crate::key::Place,
) -> Result<bool, StoreError> {
    let snapshot = Snapshot::open(shared)?;
    let ready = snapshot.transaction().open_table(READY).map_err(backend)?;
    Ok(ready.get(&ready_key(lane, place)).map_err(backend)?.is_some())
}

/// Every unique key that a state holds is held by a task that exists.
fn check_keys(snapshot: &Snapshot, found: &mut Integrity) -> Result<(), StoreError> {
    let keys = snapshot.transaction().open_table(UNIQUE).map_err(backend)?;
    let bodies = snapshot.transaction().open_table(BODY).map_err(backend)?;
    for row in keys.iter().map_err(backend)? {
        let holder = Holder::decode(row.map_err(backend)?.1.value())?;
        let key = holder.task.as_u128().to_be_bytes();
        let is_there = bodies.get(&key).map_err(backend)?.is_some();
        found.expect(is_there || holder.until.is_some(), || {
            format!("a unique key is held by {}, which does not exist", holder.task)
        });
    }
    Ok(())
}

pub(crate) fn quarantined(shared: &Shared) -> Result<Vec<(TaskId, String)>, StoreError> {
    quarantine(&Snapshot::open(shared)?)
}

fn quarantine(snapshot: &Snapshot) -> Result<Vec<(TaskId, String)>, StoreError> {
    let table = snapshot.transaction().open_table(QUARANTINE).map_err(backend)?;
    let rows = table.iter().map_err(backend)?;
    rows.map(|row| {
        let (key, why) = row.map_err(backend)?;
        Ok((parse_id(key.value())?, why.value().to_owned()))
    })
    .collect()
}
