//! Role *inspect*: reads.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    document::{Document, DocumentRange},
    error::StoreError,
    filter::{Count, Page, TaskFilter, TaskPage},
    id::TaskId,
    name::QueueName,
    record::TaskRecord,
    state::{State, StateSet},
    time::Now,
};

/// How many tasks stand in each state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct StateCounts([u64; State::ALL.len()]);

impl StateCounts {
    /// How many stand in `state`.
    #[must_use]
    pub const fn get(&self, state: State) -> u64 {
        self.0[state.index()]
    }

    /// Adds so many tasks in `state`.
    pub const fn add(&mut self, state: State, tasks: u64) {
        self.0[state.index()] += tasks;
    }

    /// How many stand in one of these states.
    #[must_use]
    pub fn sum(&self, states: StateSet) -> u64 {
        states.iter().map(|state| self.get(state)).sum()
    }

    /// How many there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// A queue as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueInfo {
    /// Its name.
    pub name: QueueName,
    /// Whether claims pass it by.
    pub is_paused: bool,
    /// Its tasks by state.
    pub counts: StateCounts,
    /// When the task came due that has been due and not been claimed for longest; none when no task
    /// is due. A paused queue goes on ageing.
    pub oldest_due_at: Option<Timestamp>,
}

/// Reads.
///
/// What a caller wrote, it reads: an answered write is seen by every later read.
#[async_trait]
pub trait Inspect: Send + Sync {
    /// Reads tasks by id, `None` for one that does not exist. At most
    /// [`BATCH_MAX`](crate::limits::BATCH_MAX).
    ///
    /// # Errors
    ///
    /// By law 3, and what the backend reports.
    async fn tasks(&self, ids: &[TaskId], now: Now) -> Result<Vec<Option<TaskRecord>>, StoreError>;

    /// Reads one page of the tasks that match.
    ///
    /// Pages neither repeat nor miss a task that matches all the while, whatever is written between
    /// them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Rejected`] when the page's limit is out of range, and what the backend reports.
    async fn list(
        &self,
        filter: &TaskFilter,
        page: &Page,
        now: Now,
    ) -> Result<TaskPage, StoreError>;

    /// Counts the tasks that match: exactly and at once when queues and states alone decide,
    /// otherwise up to [`COUNT_SCAN_MAX`](crate::filter::COUNT_SCAN_MAX), or fewer when few of many
    /// match.
    ///
    /// # Errors
    ///
    /// What the backend reports.
    async fn count(&self, filter: &TaskFilter, now: Now) -> Result<Count, StoreError>;

    /// Reads every queue that was ever used or changed, by name, with counts from one snapshot that
    /// equal a scan.
    ///
    /// # Errors
    ///
    /// What the backend reports.
    async fn queues(&self, now: Now) -> Result<Vec<QueueInfo>, StoreError>;

    /// Reads documents by key. Those that have expired are left out.
    ///
    /// A page ends early, but not empty, once its bodies exceed
    /// [`PAGE_BYTES_MAX`](crate::limits::PAGE_BYTES_MAX): go on behind its last key until it is empty.
    ///
    /// # Errors
    ///
    /// [`StoreError::Rejected`] when the limit is out of range; what the backend reports.
    async fn documents(&self, range: &DocumentRange) -> Result<Vec<Document>, StoreError>;

    /// Waits until the task is finished or gone, or `within` has passed; says whether it is.
    ///
    /// # Errors
    ///
    /// What the backend reports.
    async fn wait_for_finish(&self, id: TaskId, within: Duration) -> Result<bool, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_summed_by_state() {
        let mut counts = StateCounts::default();
        counts.add(State::Pending, 2);
        counts.add(State::Pending, 1);
        counts.add(State::Failed, 4);
        assert_eq!((counts.get(State::Pending), counts.get(State::Running)), (3, 0));
        assert_eq!((counts.sum(StateSet::TERMINAL), counts.total()), (4, 7));
        assert_eq!(counts.sum(StateSet::EMPTY), 0);
    }
}
