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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{limits::BATCH_MAX, name::KindName, record::TaskSpec};

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    /// Tasks with these ids, which share one payload.
    fn tasks(ids: impl IntoIterator<Item = u64>, payload: &Bytes) -> Vec<NewTask> {
        let spec = TaskSpec::new(KindName::new("k").unwrap(), payload.clone());
        let ids = ids.into_iter().map(|id| TaskId::from_parts(id, 0, 0));
        ids.map(|id| NewTask::new(id, spec.clone())).collect()
    }

    fn small(ids: impl IntoIterator<Item = u64>) -> Vec<NewTask> {
        tasks(ids, &Bytes::from_static(b"{}"))
    }

    /// Which item is refused, and why.
    fn rejected(tasks: &[NewTask], limits: &Limits) -> (usize, Rejection) {
        match check_insert(tasks, limits, NOW) {
            Err(StoreError::Rejected { index, reason }) => (index, reason),
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn good_batches_are_taken_in_any_order_of_their_ids() {
        for ids in [vec![], vec![1], vec![1, 2, 3], vec![3, 1, 2]] {
            assert!(check_insert(&small(ids), &Limits::default(), NOW).is_ok());
        }
        let full = small(0..BATCH_MAX as u64);
        assert!(check_insert(&full, &Limits::default(), NOW).is_ok());
    }

    #[test]
    fn a_batch_of_too_many_is_refused_whatever_is_in_it() {
        let tasks = small(0..=BATCH_MAX as u64);
        let refused = check_insert(&tasks, &Limits::default(), NOW);
        let Err(StoreError::BatchTooLarge { len, max }) = refused else {
            unreachable!("{refused:?}");
        };
        assert_eq!((len, max), (BATCH_MAX + 1, BATCH_MAX));
    }

    #[test]
    fn an_id_that_stands_twice_is_refused_at_its_second_place() {
        for (ids, index) in [(vec![1, 1], 1), (vec![1, 2, 1], 2), (vec![3, 1, 2, 2, 3], 3)] {
            let tasks = small(ids);
            let expected = Rejection::RepeatedId { id: tasks[index].id };
            assert_eq!(rejected(&tasks, &Limits::default()), (index, expected));
        }
    }

    #[test]
    fn the_first_bad_task_is_named() {
        let mut tasks = small([1, 2, 3]);
        tasks[1].max_attempts = 0;
        tasks[2].max_attempts = 0;
        assert_eq!(rejected(&tasks, &Limits::default()), (1, Rejection::NoAttempts));
    }

    #[test]
    fn the_bytes_of_a_batch_are_limited() {
        let max = BATCH_BYTES_MAX;
        let quarter = Bytes::from(vec![b' '; max / 4]);
        assert!(check_insert(&tasks(0..4, &quarter), &Limits::CAPS, NOW).is_ok());
        let mut over = tasks(0..4, &quarter);
        over.extend(tasks([9], &Bytes::from_static(b"1")));
        let expected = Rejection::BatchBytes { len: max + 1, max };
        assert_eq!(rejected(&over, &Limits::CAPS), (4, expected));
        // Metadata counts too.
        let mut over = tasks(0..4, &quarter);
        over[3].spec.metadata.insert("k".to_owned(), String::new());
        let expected = Rejection::BatchBytes { len: max + 1, max };
        assert_eq!(rejected(&over, &Limits::CAPS), (3, expected));
    }
}
