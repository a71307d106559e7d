//! Role *control*: carries out an operator's commands.

use async_trait::async_trait;

use crate::{
    command::{Applied, Command, Selection},
    document::{Put, PutVerdict},
    error::StoreError,
    limits::Limits,
    name::QueueName,
    time::Now,
};

/// What is to change of a queue; what is not chosen stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct QueueChange {
    /// Whether claims pass the queue by.
    pub paused: Option<bool>,
}

impl QueueChange {
    /// Claims pass the queue by; what runs goes on.
    #[must_use]
    pub const fn pause() -> Self {
        Self { paused: Some(true) }
    }

    /// Claims serve the queue again.
    #[must_use]
    pub const fn resume() -> Self {
        Self { paused: Some(false) }
    }
}

/// What a store can do that not every store can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Capabilities {
    /// An acknowledged write survives a crash of the machine.
    pub durable: bool,
    /// Several processes can share the store.
    pub multi_process: bool,
    /// How large things may be. Default: [`Limits::default`].
    pub limits: Limits,
}

impl Capabilities {
    /// Nothing beyond what every store can do.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether an acknowledged write survives a crash of the machine.
    #[must_use]
    pub const fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// How large things may be.
    #[must_use]
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Whether several processes can share the store.
    #[must_use]
    pub const fn multi_process(mut self, multi_process: bool) -> Self {
        self.multi_process = multi_process;
        self
    }
}

/// Carries out an operator's commands.
#[async_trait]
pub trait Control: Send + Sync {
    /// Carries a command out for each selected task, durably, by
    /// [`command`](crate::transition::command), and answers task by task.
    ///
    /// # Errors
    ///
    /// By law 3; [`StoreError::Rejected`] when the selection's limit is out of range or
    /// [`check_command`](crate::transition::check_command) refuses the command.
    ///
    /// # Cancel safety
    ///
    /// All or nothing for each task.
    async fn apply(
        &self,
        selection: &Selection,
        command: &Command,
        now: Now,
    ) -> Result<Applied, StoreError>;

    /// Changes a queue, durably; one that does not exist yet begins to. Says whether it was otherwise
    /// before.
    ///
    /// After a pause was answered no claim takes a task of the queue.
    ///
    /// # Errors
    ///
    /// What the backend reports.
    async fn set_queue(&self, queue: &QueueName, change: &QueueChange) -> Result<bool, StoreError>;

    /// Writes documents, durably, and answers one by one: each is written, or changes nothing.
    ///
    /// # Errors
    ///
    /// By law 3; [`StoreError::Rejected`] as [`check_puts`](crate::document::check_puts) says; what the
    /// backend reports.
    ///
    /// # Cancel safety
    ///
    /// All or nothing for each document.
    async fn put(&self, puts: &[Put]) -> Result<Vec<PutVerdict>, StoreError>;

    /// What this store can do that not every store can.
    fn capabilities(&self) -> Capabilities;
}
