//! What redb itself can do: the same bytes, straight into it, with nothing of ergon in between.
//!
//! One writer, redb's defaults: every commit is on the medium when it returns, and the rows are put
//! in by plain inserts.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use ergon_core::{Clock as _, IdSource as _, SystemClock, SystemIds, SystemRng, TaskId};
use redb::{Database, TableDefinition};

use crate::workload::Noop;

type Rows = TableDefinition<'static, &'static [u8; 16], &'static [u8]>;
const BODY: Rows = TableDefinition::new("body");
const DONE: Rows = TableDefinition::new("done");

/// Queue, priority, kind, due time and id, as a ready index has them.
const READY_KEY_LEN: usize = 34;
const READY: TableDefinition<'static, &'static [u8; READY_KEY_LEN], u8> =
    TableDefinition::new("ready");

/// What is kept of how a task went.
const DONE_ROW: [u8; 60] = [7; 60];

/// How long each of so many commits of one row takes, one after the other.
pub(crate) fn single_commits(path: &Path, rows: u64) -> Result<Vec<Duration>> {
    let database = create(path)?;
    let mut times = Vec::new();
    for (id, payload) in tasks(rows) {
        let began = Instant::now();
        let transaction = database.begin_write()?;
        transaction.open_table(BODY)?.insert(&id, payload.as_slice())?;
        transaction.commit()?;
        times.push(began.elapsed());
    }
    Ok(times)
}

/// How long it takes to insert so many rows, in commits of so many.
pub(crate) fn batch_commits(path: &Path, rows: u64, in_commit: usize) -> Result<Duration> {
    let database = create(path)?;
    let rows: Vec<_> = tasks(rows).collect();
    let began = Instant::now();
    for batch in rows.chunks(in_commit) {
        let transaction = database.begin_write()?;
        {
            let mut table = transaction.open_table(BODY)?;
            for (id, payload) in batch {
                table.insert(id, payload.as_slice())?;
            }
        }
        transaction.commit()?;
    }
    Ok(began.elapsed())
}

/// How long it takes to move so many rows from a ready index to a table of what is done, in commits
/// of so many. Filling the index does not count.
pub(crate) fn drain(path: &Path, rows: u64, in_commit: usize) -> Result<Duration> {
    let database = create(path)?;
    let ids: Vec<_> = tasks(rows).map(|(id, _)| id).collect();
    for batch in ids.chunks(10_000) {
        let transaction = database.begin_write()?;
        {
            let mut ready = transaction.open_table(READY)?;
            for id in batch {
                ready.insert(&ready_key(id), 0)?;
            }
        }
        transaction.commit()?;
    }
    let began = Instant::now();
    for batch in ids.chunks(in_commit) {
        let transaction = database.begin_write()?;
        {
            let mut ready = transaction.open_table(READY)?;
            let mut done = transaction.open_table(DONE)?;
            for id in batch {
                ready.remove(&ready_key(id))?;
                done.insert(id, DONE_ROW.as_slice())?;
            }
        }
        transaction.commit()?;
    }
    Ok(began.elapsed())
}

/// Ids and payloads as a client makes them for a task enqueued alone.
fn tasks(count: u64) -> impl Iterator<Item = ([u8; 16], Vec<u8>)> {
    let (ids, clock) = (SystemIds::new(SystemRng), SystemClock);
    (0..count).map(move |number| (key(ids.next_id(clock.now())), Noop::payload(number)))
}

const fn key(id: TaskId) -> [u8; 16] {
    id.as_u128().to_be_bytes()
}

fn ready_key(id: &[u8; 16]) -> [u8; READY_KEY_LEN] {
    let mut key = [0; READY_KEY_LEN];
    let (_, place) = key.split_at_mut(READY_KEY_LEN - id.len());
    place.copy_from_slice(id);
    key
}

/// A database with its tables, so that no measure pays for making them.
fn create(path: &Path) -> Result<Database> {
    let database = Database::create(path)?;
    let transaction = database.begin_write()?;
    transaction.open_table(BODY)?;
    transaction.open_table(DONE)?;
    transaction.open_table(READY)?;
    transaction.commit()?;
    Ok(database)
}

/// Bytes of keys and values that a file of any tables holds. The file must not be open elsewhere.
pub(crate) fn stored_bytes(path: &Path) -> Result<u64> {
    let database = Database::open(path)?;
    let transaction = database.begin_write()?;
    let stored = transaction.stats()?.stored_bytes();
    transaction.abort()?;
    Ok(stored)
}
