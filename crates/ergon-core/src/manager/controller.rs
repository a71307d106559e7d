//! Changes tasks and queues.

use jiff::Timestamp;

use crate::{
    command::{Applied, Command, CommandVerdict, Selection},
    error::StoreError,
    event::{Event, QueueEvent, Sinks},
    id::TaskId,
    name::QueueName,
    store::{QueueChange, Store},
    time::{Clock as _, Now, SystemClock},
};

/// Changes tasks and queues; what is answered is durable.
///
/// Commands for one task and for many are the same [`apply`](Self::apply).
#[derive(Clone, Copy, Debug)]
pub struct Controller<'m> {
    store: &'m dyn Store,
    sinks: &'m Sinks,
}

impl<'m> Controller<'m> {
    pub(super) const fn new(store: &'m dyn Store, sinks: &'m Sinks) -> Self {
        Self { store, sinks }
    }

    /// Carries out a command for every selected task, and answers task by task.
    ///
    /// # Errors
    ///
    /// [`StoreError::BatchTooLarge`] and [`StoreError::Rejected`] when the selection or the command
    /// is out of range; what the store reports.
    pub async fn apply(
        &self,
        selection: &Selection,
        command: &Command,
    ) -> Result<Applied, StoreError> {
        let applied = self.store.apply(selection, command, Now::Store).await?;
        self.sinks.publish(&applied.events);
        Ok(applied)
    }

    /// Calls a task off. See [`Command::Cancel`].
    ///
    /// # Errors
    ///
    /// What the store reports.
    pub async fn cancel(
        &self,
        id: TaskId,
        reason: impl Into<String>,
    ) -> Result<CommandVerdict, StoreError> {
        self.one(id, Command::Cancel { reason: reason.into() }).await
    }

    /// Runs a task again at once. See [`Command::Retry`].
    ///
    /// # Errors
    ///
    /// What the store reports.
    pub async fn retry(&self, id: TaskId) -> Result<CommandVerdict, StoreError> {
        self.one(id, Command::Retry).await
    }

    /// Removes a task that is not running. See [`Command::Delete`].
    ///
    /// # Errors
    ///
    /// What the store reports.
    pub async fn delete(&self, id: TaskId) -> Result<CommandVerdict, StoreError> {
        self.one(id, Command::Delete).await
    }

    /// Moves a waiting task to another time. See [`Command::Reschedule`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Rejected`] for a time more than ten years ahead; what the store reports.
    pub async fn reschedule(
        &self,
        id: TaskId,
        run_at: Timestamp,
    ) -> Result<CommandVerdict, StoreError> {
        self.one(id, Command::Reschedule { run_at }).await
    }

    /// Changes the priority of a waiting task. See [`Command::SetPriority`].
    ///
    /// # Errors
    ///
    /// What the store reports.
    pub async fn set_priority(
        &self,
        id: TaskId,
        priority: i16,
    ) -> Result<CommandVerdict, StoreError> {
        self.one(id, Command::SetPriority { priority }).await
    }

    /// Makes claims pass a queue by, from the answer on; what runs goes on.
    ///
    /// # Errors
    ///
    /// What the store reports.
    pub async fn pause_queue(&self, queue: &QueueName) -> Result<(), StoreError> {
        self.set_queue(queue, &QueueChange::pause(), QueueEvent::Paused).await
    }

    /// Makes claims serve a queue again.
    ///
    /// # Errors
    ///
    /// What the store reports.
    pub async fn resume_queue(&self, queue: &QueueName) -> Result<(), StoreError> {
        self.set_queue(queue, &QueueChange::resume(), QueueEvent::Resumed).await
    }

    async fn set_queue(
        &self,
        queue: &QueueName,
        change: &QueueChange,
        event: QueueEvent,
    ) -> Result<(), StoreError> {
        if self.store.set_queue(queue, change).await? {
            self.sinks.publish(&[Event::queue(SystemClock.now(), queue.clone(), event)]);
        }
        Ok(())
    }

    async fn one(&self, id: TaskId, command: Command) -> Result<CommandVerdict, StoreError> {
        let applied = self.apply(&Selection::Ids(vec![id]), &command).await?;
        let verdict = applied.verdicts.first().map(|&(_, verdict)| verdict);
        Ok(verdict.unwrap_or(CommandVerdict::NotFound))
    }
}
