//! Role *enqueue*: takes new tasks.

use std::collections::HashSet;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    error::{Rejection, StoreError},
    id::TaskId,
    limits::{BATCH_BYTES_MAX, Limits},
    outcome::check_batch,
    record::NewTask,
    time::Now,
};

/// What became of one new task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Inserted {
    /// The task was stored.
    Created,
    /// Another task holds the unique key; nothing was stored.
    Duplicate {
        /// The task that holds it.
        of: TaskId,
    },
    /// A task with this id was stored before; nothing changed. That the two are the same task is
    /// the caller's word: ids are unique.
    AlreadyExists,
}

/// Takes new tasks.
#[async_trait]
pub trait Enqueue: Send + Sync {
    /// Stores new tasks, all or nothing, and answers durably: what was answered `Created` survives
    /// a crash of the process and of the machine, as far as the store's
    /// [`Capabilities`](super::Capabilities) say.
    ///
    /// A unique key is decided against what is stored and against the tasks earlier in the batch. Of
    /// any number of concurrent inserts with the same key exactly one is created.
    ///
    /// # Errors
    ///
    /// [`StoreError::Rejected`] names the first task that [`NewTask::check`] refuses, or the batch
    /// when the same id stands in it twice or its bytes exceed
    /// [`BATCH_BYTES_MAX`]; [`StoreError::BatchTooLarge`] by law 3.
    ///
    /// # Cancel safety
    ///
    /// All or nothing: a dropped call has either stored every task or none.
    async fn insert(&self, tasks: &[NewTask], now: Now) -> Result<Vec<Inserted>, StoreError>;
}

/// Checks a whole batch before anything of it is stored; every store calls it.
///
/// # Errors
///
/// See [`Enqueue::insert`].
pub fn check_insert(tasks: &[NewTask], limits: &Limits, now: Timestamp) -> Result<(), StoreError> {
    check_batch(tasks.len())?;
    let rejected = |index, reason| Err(StoreError::Rejected { index, reason });
    let mut bytes = 0;
    for (index, task) in tasks.iter().enumerate() {
        if let Err(reason) = task.check(limits, now) {
            return rejected(index, reason);
        }
        bytes += task.spec.bytes();
        if bytes > BATCH_BYTES_MAX {
            return rejected(index, Rejection::BatchBytes { len: bytes, max: BATCH_BYTES_MAX });
        }
    }
    // Ids made in a row increase, and need no set to be told apart.
    if tasks.is_sorted_by(|one, next| one.id < next.id) {
        return Ok(());
    }
    let mut seen = HashSet::with_capacity(tasks.len());
    match tasks.iter().position(|task| !seen.insert(task.id)) {
        Some(index) => rejected(index, Rejection::RepeatedId { id: tasks[index].id }),
        None => Ok(()),
    }
}
