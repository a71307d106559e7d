//! Reads tasks and queues.

use crate::{
    error::StoreError,
    filter::{Count, Page, TaskFilter, TaskPage},
    id::TaskId,
    record::TaskRecord,
    store::{QueueInfo, Store},
    time::Now,
};

/// Reads tasks and queues; what was answered to a write before is seen.
#[derive(Clone, Copy, Debug)]
pub struct Inspector<'m> {
    store: &'m dyn Store,
}

impl<'m> Inspector<'m> {
    pub(super) const fn new(store: &'m dyn Store) -> Self {
        Self { store }
    }

    /// Reads one task; `None` when it does not exist, or not any more.
    ///
    /// # Errors
    ///
    /// What the store reports.
    pub async fn get(&self, id: TaskId) -> Result<Option<TaskRecord>, StoreError> {
        let found = self.store.tasks(&[id], Now::Store).await?;
        Ok(found.into_iter().next().flatten())
    }

    /// Reads one page of the tasks that match.
    ///
    /// # Errors
    ///
    /// [`StoreError::Rejected`] when the page's limit is out of range; what the store reports.
    pub async fn list(&self, filter: &TaskFilter, page: &Page) -> Result<TaskPage, StoreError> {
        self.store.list(filter, page, Now::Store).await
    }

    /// Counts the tasks that match.
    ///
    /// # Errors
    ///
    /// What the store reports.
    pub async fn count(&self, filter: &TaskFilter) -> Result<Count, StoreError> {
        self.store.count(filter, Now::Store).await
    }

    /// Reads every queue, by name, with its tasks by state.
    ///
    /// # Errors
    ///
    /// What the store reports.
    pub async fn queues(&self) -> Result<Vec<QueueInfo>, StoreError> {
        self.store.queues(Now::Store).await
    }
}
