//! Writes the net effect of a batch, table by table, each in the order of its keys.

use std::{collections::BTreeMap, ops::Bound};

use ergon_core::{
    Phase, StoreError, TaskId,
    time::{from_micros, to_micros},
};
use jiff::Timestamp;
use redb::{CursorError, Key, Table, Value};

use super::{Batch, Touched, publish::Effects, waiting_of};
use crate::{
    error::backend,
    expiry::{self, Expiring},
    key::{READY_KEY_LEN, queue_key, ready_key},
    names::Namespace,
    ready::{Flags, Waiting},
    record::encode_head,
    table::NAME,
};

impl Touched {
    /// Whether a row of the file tells what has changed since the enqueue.
    pub(super) const fn has_head(&self) -> bool {
        self.before.has_head || self.is_changed
    }

    pub(super) fn phase(&self) -> Option<Phase> {
        self.now.as_ref().map(|state| state.progress.phase)
    }

    /// Its row in the ready index; a running task keeps the one it was claimed from.
    pub(super) fn ready(&self, id: TaskId) -> Option<Waiting> {
        let state = self.now.as_ref()?;
        match state.progress.phase {
            Phase::Waiting => Some(waiting_of(id, &state.body, &state.progress, self.has_head())),
            Phase::Running => self.before.ready.map(|waiting| {
                let flags = Flags::new(self.has_head(), waiting.flags.is_attempted());
                Waiting { flags, ..waiting }
            }),
            Phase::Completed | Phase::Failed | Phase::Cancelled => None,
        }
    }
}

/// The rows of one table to remove and to write.
struct Rows<K, V> {
    removed: Vec<K>,
    written: Vec<(K, V)>,
}

impl<K: Ord + Copy, V> Rows<K, V> {
    const fn new() -> Self {
        Self { removed: Vec::new(), written: Vec::new() }
    }

    fn set(&mut self, key: K, value: Option<V>) {
        match value {
            Some(value) => self.written.push((key, value)),
            None => self.removed.push(key),
        }
    }

    const fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.written.is_empty()
    }

    fn sort(&mut self) {
        self.removed.sort_unstable();
        self.written.sort_unstable_by_key(|(key, _)| *key);
    }
}

/// The rows of all tables.
struct AllRows {
    bodies: Rows<[u8; 16], Vec<u8>>,
    heads: Rows<[u8; 16], Vec<u8>>,
    ready: Rows<[u8; READY_KEY_LEN], u8>,
    marked: Rows<[u8; 17], ()>,
    started: Rows<[u8; 16], [u8; 8]>,
    expiries: BTreeMap<i64, Vec<TaskId>>,
}

impl Batch<'_> {
    /// Writes everything, and answers what memory has to learn once it is committed.
    pub(crate) fn flush(
        mut self,
        next_number: &mut dyn FnMut() -> u64,
    ) -> Result<Effects, StoreError> {
        let mut touched = std::mem::take(&mut self.touched);
        let mut rows = AllRows {
            bodies: Rows::new(),
            heads: Rows::new(),
            ready: Rows::new(),
            marked: Rows::new(),
            started: Rows::new(),
            expiries: BTreeMap::new(),
        };
        for (&id, task) in &mut touched {
            self.rows_of(id, task, &mut rows)?;
        }
        self.write(rows, next_number)?;
        self.write_expiring_keys(next_number)?;
        self.write_queues()?;
        let journal = self.write_journal()?;
        let saved_names = self.write_names()?;
        let newest = touched.last_key_value().map_or(self.newest, |(&id, _)| id);
        Ok(Effects {
            touched,
            queues: self.queues,
            journal,
            saved_names,
            newest: std::cmp::max(newest, self.newest),
            has_rows: self.is_dirty,
        })
    }

    fn rows_of(
        &mut self,
        id: TaskId,
        task: &mut Touched,
        rows: &mut AllRows,
    ) -> Result<(), StoreError> {
        let key = id.as_u128().to_be_bytes();
        let (old_phase, phase) = (task.before.phase, task.phase());
        match task.new_body.take() {
            Some(body) if phase.is_some() => rows.bodies.set(key, Some(body)),
            Some(_) | None if phase.is_none() && old_phase.is_some() => rows.bodies.set(key, None),
            // Untouched, or added and removed by this batch.
            Some(_) | None => {}
        }
        match &task.now {
            Some(state) if task.is_changed => {
                rows.heads.set(key, Some(encode_head(&state.progress)));
            }
            None if task.before.has_head => rows.heads.set(key, None),
            Some(_) | None => {}
        }
        let (old, new) = (task.before.ready, task.ready(id));
        if let Some(old) = old
            && new.is_none_or(|new| (new.lane, new.place) != (old.lane, old.place))
        {
            rows.ready.set(ready_key(old.lane, old.place), None);
        }
        if let Some(new) = new
            && old != Some(new)
        {
            rows.ready.set(ready_key(new.lane, new.place), Some(new.flags.0));
        }
        if old_phase.and_then(mark_of) != phase.and_then(mark_of) {
            let old_mark = old_phase.and_then(mark_of);
            old_mark.into_iter().for_each(|mark| rows.marked.set(marked_key(mark, key), None));
            let mark = phase.and_then(mark_of);
            mark.into_iter().for_each(|mark| rows.marked.set(marked_key(mark, key), Some(())));
        }
        task.is_noted &= phase == Some(Phase::Running);
        if task.is_noted != task.before.is_noted {
            let claimed_at = task.now.as_ref().and_then(|state| state.progress.started_at);
            let note = started_note(claimed_at);
            rows.started.set(key, task.is_noted.then_some(note));
        }
        if let Some(state) = &task.now
            && let Some(expires_at) = state.progress.expires_at.map(to_micros)
            && task.before.expires_at != Some(expires_at)
        {
            rows.expiries.entry(expires_at).or_default().push(id);
        }
        let old_count = old_phase.map(|phase| (task.before.queue, stored(phase)));
        if old_count != phase.map(|phase| (task.queue, stored(phase))) {
            if old_phase.is_some() {
                self.queue_row(task.before.queue)?.count(old_phase, None);
            }
            if phase.is_some() {
                self.queue_row(task.queue)?.count(None, phase);
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        rows: AllRows,
        next_number: &mut dyn FnMut() -> u64,
    ) -> Result<(), StoreError> {
        let AllRows { bodies, heads, ready, marked, started, expiries } = rows;
        self.is_dirty |= !(bodies.is_empty()
            && heads.is_empty()
            && ready.is_empty()
            && marked.is_empty()
            && started.is_empty()
            && expiries.is_empty());
        if !bodies.is_empty() {
            apply(self.tables.body()?, bodies, |key| key, Vec::as_slice)?;
        }
        if !heads.is_empty() {
            apply(self.tables.head()?, heads, |key| key, Vec::as_slice)?;
        }
        if !ready.is_empty() {
            apply(self.tables.ready()?, ready, |key| key, |flags| *flags)?;
        }
        if !marked.is_empty() {
            apply(self.tables.marked()?, marked, |key| key, |()| ())?;
        }
        if !started.is_empty() {
            apply(self.tables.started()?, started, |key| key, <[u8; 8]>::as_slice)?;
        }
        for (expires_at, ids) in expiries {
            self.write_expiry(expires_at, next_number(), &Expiring::Tasks(ids))?;
        }
        Ok(())
    }

    fn write_expiring_keys(
        &mut self,
        next_number: &mut dyn FnMut() -> u64,
    ) -> Result<(), StoreError> {
        for (until, hashes) in std::mem::take(&mut self.key_expiries) {
            self.write_expiry(until, next_number(), &Expiring::Keys(hashes))?;
        }
        Ok(())
    }

    fn write_expiry(&mut self, at: i64, number: u64, what: &Expiring) -> Result<(), StoreError> {
        let row = what.encode();
        let table = self.tables.expiry()?;
        table.insert(&expiry::key(at, number), row.as_slice()).map_err(backend)?;
        self.is_dirty = true;
        Ok(())
    }

    fn write_queues(&mut self) -> Result<(), StoreError> {
        if self.queues.is_empty() {
            return Ok(());
        }
        let table = self.tables.body()?;
        for (&number, row) in &self.queues {
            table.insert(&queue_key(number), row.encode().as_slice()).map_err(backend)?;
        }
        self.is_dirty = true;
        Ok(())
    }

    /// Writes the names that the file may lack, and answers how many.
    fn write_names(&mut self) -> Result<usize, StoreError> {
        let unsaved = self.live().names.unsaved().to_vec();
        if unsaved.is_empty() {
            return Ok(0);
        }
        let mut table = self.tables.transaction().open_table(NAME).map_err(backend)?;
        for name in &unsaved {
            let key = name_key(name.space, name.number);
            table.insert(&key, &*name.name).map_err(backend)?;
        }
        self.is_dirty = true;
        Ok(unsaved.len())
    }
}

/// What is noted of a running task: when it was claimed.
fn started_note(claimed_at: Option<Timestamp>) -> [u8; 8] {
    to_micros(claimed_at.unwrap_or_default()).to_le_bytes()
}

/// Reads a note of a running task; none of one that does not say when the task was claimed.
pub(crate) fn parse_started_note(note: &[u8]) -> Option<Timestamp> {
    let note = <[u8; 8]>::try_from(note).ok()?;
    Some(from_micros(i64::from_le_bytes(note)))
}

fn name_key(space: Namespace, number: u32) -> [u8; 5] {
    let mut key = [space.tag(); 5];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

/// What the counters tell apart: open, or which way finished.
const fn stored(phase: Phase) -> u8 {
    match phase {
        Phase::Waiting | Phase::Running => 0,
        Phase::Completed => 1,
        Phase::Failed => 2,
        Phase::Cancelled => 3,
    }
}

/// The mark of a finished phase that few tasks reach: an index leads to them.
pub(crate) const fn mark_of(phase: Phase) -> Option<u8> {
    match phase {
        Phase::Failed => Some(1),
        Phase::Cancelled => Some(2),
        Phase::Waiting | Phase::Running | Phase::Completed => None,
    }
}

pub(crate) fn marked_key(mark: u8, id: [u8; 16]) -> [u8; 17] {
    let mut key = [mark; 17];
    key[1..].copy_from_slice(&id);
    key
}

/// Rows that follow each other are written through one cursor from here on: below, finding the
/// place for each is as cheap. Chosen without measurement.
const CURSOR_RUN_MIN: usize = 4;

/// Applies the rows of one table in the order of their keys.
fn apply<K, V, Tk, Tv>(
    table: &mut Table<'_, Tk, Tv>,
    mut rows: Rows<K, V>,
    key_of: impl for<'r> Fn(&'r K) -> Tk::SelfType<'r>,
    value_of: impl for<'r> Fn(&'r V) -> Tv::SelfType<'r>,
) -> Result<(), StoreError>
where
    K: Ord + Copy,
    Tk: Key + 'static,
    Tv: Value + 'static,
{
    rows.sort();
    for key in &rows.removed {
        table.remove(key_of(key)).map_err(backend)?;
    }
    let mut rest = rows.written.as_slice();
    while let [(first, _), ..] = rest {
        if rest.len() < CURSOR_RUN_MIN {
            break;
        }
        let mut cursor = table.lower_bound_mut(Bound::Included(key_of(first))).map_err(backend)?;
        let mut written = 0;
        for (key, value) in rest {
            match cursor.insert_before(key_of(key), value_of(value)) {
                Ok(()) => written += 1,
                // The key is there already, or another stands between: go on behind it.
                Err(CursorError::UnorderedKey) => break,
                Err(CursorError::Storage(error)) => return Err(backend(error)),
                Err(error) => return Err(StoreError::Backend { source: Box::new(error) }),
            }
        }
        cursor.close().map_err(backend)?;
        rest = rest.get(written..).unwrap_or_default();
        if let [(key, value), behind @ ..] = rest {
            table.insert(key_of(key), value_of(value)).map_err(backend)?;
            rest = behind;
        }
    }
    for (key, value) in rest {
        table.insert(key_of(key), value_of(value)).map_err(backend)?;
    }
    Ok(())
}
