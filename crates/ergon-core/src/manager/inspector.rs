//! Reads tasks and queues.

use jiff::Timestamp;

use super::servers::Servers;
use crate::{
    error::StoreError,
    explain::{Explanation, explain},
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
    now: Timestamp,
}

impl<'m> Inspector<'m> {
    pub(super) const fn new(store: &'m dyn Store, now: Timestamp) -> Self {
        Self { store, now }
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

    /// Says why a task is not running, or how it stands: from what the store knows of it and of its
    /// queue, and what servers tell of themselves. `None` when it does not exist.
    ///
    /// A server that has just begun or ended may not have told yet.
    ///
    /// # Errors
    ///
    /// What the store reports.
    pub async fn explain(&self, id: TaskId) -> Result<Option<Explanation>, StoreError> {
        let Some(task) = self.get(id).await? else { return Ok(None) };
        let queues = self.queues().await?;
        let queue = queues.iter().find(|queue| queue.name == task.spec.queue);
        let servers = Servers::new(self.store, self.now).list().await?;
        Ok(Some(explain(&task, queue, &servers, self.now)))
    }
}
