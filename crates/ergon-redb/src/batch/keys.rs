//! Unique keys, decided at once: an operation sees the keys that those before it took and freed.

use ergon_core::{
    StoreError, TaskId, UniqueKey, UniqueScope,
    time::{after, from_micros, to_micros},
};

use super::Batch;
use crate::{error::backend, table::Tables, unique::Holder};

impl Batch<'_> {
    /// The task that holds a unique key at `now`, in microseconds.
    pub(crate) fn key_holder(
        &mut self,
        hash: &[u8; 32],
        now: i64,
    ) -> Result<Option<TaskId>, StoreError> {
        let Some(row) = Tables::read(self.tables.unique()?, hash)? else { return Ok(None) };
        let holder = Holder::decode(&row)?;
        if holder.until.is_some_and(|until| until <= now) {
            return Ok(None);
        }
        // The key of a task that has to hold it only until it starts is free once it runs, though
        // a claim writes nothing.
        let is_started = holder.is_until_started && self.live().running.contains_key(&holder.task);
        Ok((!is_started).then_some(holder.task))
    }

    /// Gives a unique key to a task.
    pub(crate) fn take_key(
        &mut self,
        unique: &UniqueKey,
        task: TaskId,
        now: i64,
    ) -> Result<(), StoreError> {
        let until = match unique.scope {
            UniqueScope::For(period) => {
                let until = to_micros(after(from_micros(now), period));
                self.key_expiries.entry(until).or_default().push(unique.hash);
                Some(until)
            }
            UniqueScope::UntilStarted | UniqueScope::UntilFinished | UniqueScope::While(_) => None,
        };
        let is_until_started = unique.scope == UniqueScope::UntilStarted;
        let row = Holder { task, until, is_until_started }.encode();
        self.tables.unique()?.insert(&unique.hash, row.as_slice()).map_err(backend)?;
        self.is_dirty = true;
        Ok(())
    }

    /// Takes a unique key from a task, if it holds it.
    pub(crate) fn free_key(&mut self, unique: &UniqueKey, task: TaskId) -> Result<(), StoreError> {
        let table = self.tables.unique()?;
        let Some(row) = Tables::read(table, &unique.hash)? else { return Ok(()) };
        if Holder::decode(&row)?.task == task {
            table.remove(&unique.hash).map_err(backend)?;
            self.is_dirty = true;
        }
        Ok(())
    }

    /// Forgets a unique key whose time is over.
    pub(crate) fn expire_key(&mut self, hash: &[u8; 32], now: i64) -> Result<(), StoreError> {
        let table = self.tables.unique()?;
        let Some(row) = Tables::read(table, hash)? else { return Ok(()) };
        if Holder::decode(&row)?.until.is_some_and(|until| until <= now) {
            table.remove(hash).map_err(backend)?;
            self.is_dirty = true;
        }
        Ok(())
    }
}
