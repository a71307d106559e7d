//! The seam for tracing: new tasks carry where they come from, and enqueues are followed.

use std::fmt;

use crate::{
    error::StoreError,
    limits::Limits,
    record::{Metadata, NewTask, check_metadata},
    store::Inserted,
};

/// What an enqueue does with the tasks that it made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Stores them, and answers what came of it.
    Send,
    /// Hands them to the caller, who stores them in a transaction, or not at all.
    Create,
}

/// Lets new tasks carry where they come from, such as the trace that enqueued them, and follows
/// their enqueues.
///
/// It is asked once an enqueue, however many tasks that has, by whoever enqueues, who has work to
/// do: it must not block, nor panic.
pub trait Propagation: fmt::Debug + Send + Sync {
    /// Begins to follow an enqueue of these tasks, which are one at least, and of one kind and queue.
    ///
    /// What it puts into `metadata`, which is empty, is added to that of every task, under keys that
    /// begin with `ergon.` as well, which no application can choose. All of it or nothing: nothing if
    /// one of the keys is there already, and nothing if a limit on metadata would be exceeded. It never
    /// makes an enqueue fail.
    fn begin(
        &self,
        purpose: Purpose,
        tasks: &[NewTask],
        metadata: &mut Metadata,
    ) -> Box<dyn Underway>;
}

/// An enqueue under way. It is dropped without an [`end`](Self::end) if its tasks were
/// [created](Purpose::Create) only, and if the enqueue itself was dropped before it was answered.
pub trait Underway: fmt::Debug + Send {
    /// The enqueue was answered.
    fn end(self: Box<Self>, sent: &Sent<'_>);
}

/// What came of the tasks of an enqueue.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Sent<'a> {
    /// How many were stored.
    pub created: usize,
    /// How many were stored before: the enqueue was repeated.
    pub repeated: usize,
    /// How many were not stored, as another task holds their unique key.
    pub duplicates: usize,
    /// Why those that are left were not stored, or not for certain.
    pub error: Option<&'a StoreError>,
}

impl<'a> Sent<'a> {
    pub(super) fn of(inserted: &[Inserted], error: Option<&'a StoreError>) -> Self {
        let mut sent = Self { error, ..Self::default() };
        for inserted in inserted {
            match inserted {
                Inserted::Created => sent.created += 1,
                Inserted::AlreadyExists => sent.repeated += 1,
                Inserted::Duplicate { .. } => sent.duplicates += 1,
            }
        }
        sent
    }
}

/// Adds entries to the metadata of tasks that are alike: all of them or none.
pub(super) fn carry(tasks: &mut [NewTask], entries: &Metadata, limits: &Limits) {
    let Some(NewTask { spec, .. }) = tasks.first() else {
        return;
    };
    if entries.is_empty() || entries.keys().any(|key| spec.metadata.contains_key(key)) {
        return;
    }
    let mut metadata = spec.metadata.clone();
    metadata.extend(entries.clone());
    if check_metadata(&metadata, limits).is_err() {
        return;
    }
    for task in tasks {
        task.spec.metadata.clone_from(&metadata);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::TaskId,
        name::KindName,
        record::{MAX_ATTEMPTS_DEFAULT, TaskSpec},
    };

    fn metadata(entries: &[(&str, &str)]) -> Metadata {
        entries.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// What two tasks with this metadata carry in the end.
    #[track_caller]
    fn check(own: &[(&str, &str)], entries: &[(&str, &str)], expected: &[(&str, &str)]) {
        let mut task = NewTask::new(TaskId::MIN, TaskSpec::new(KindName::new("k").unwrap(), "{}"));
        task.spec.metadata = metadata(own);
        let mut tasks = [task.clone(), task];
        let limits = Limits { metadata_bytes_max: 20, ..Limits::default() };
        carry(&mut tasks, &metadata(entries), &limits);
        for task in tasks {
            assert_eq!(task.spec.metadata, metadata(expected));
            assert_eq!(task.max_attempts, MAX_ATTEMPTS_DEFAULT);
        }
    }

    #[test]
    fn every_task_carries_all_entries_or_none() {
        check(&[], &[], &[]);
        check(&[("a", "1")], &[("ergon.t", "2")], &[("a", "1"), ("ergon.t", "2")]);
        // What is there already is never replaced, and no half of another context is added to it.
        let own = [("ergon.t", "1")];
        check(&own, &[("ergon.t", "2"), ("ergon.s", "3")], &own);
        // The last byte that fits, and the first that does not.
        let long = [("a", "1234567890")];
        check(&long, &[("ergon.t", "12")], &[("a", "1234567890"), ("ergon.t", "12")]);
        check(&long, &[("ergon.t", "123")], &long);
        check(&[], &[("ergon.t", "\0")], &[]);
    }

    #[test]
    fn answers_are_counted() {
        let inserted = [
            Inserted::Created,
            Inserted::AlreadyExists,
            Inserted::Duplicate { of: TaskId::MIN },
            Inserted::Created,
        ];
        let sent = Sent::of(&inserted, Some(&StoreError::Closed));
        assert_eq!((sent.created, sent.repeated, sent.duplicates), (2, 1, 1));
        assert!(matches!(sent.error, Some(StoreError::Closed)));
    }
}
