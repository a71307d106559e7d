//! What a handler knows of its attempt.

use std::{sync::Arc, time::Duration};

use ergon_core::{
    Client, KindName, Metadata, ProgressReport, QueueName, Tag, TaskId, Token, store::Held,
};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::attempt::{Attempt, CancelReason};

/// What a handler knows of its attempt: take it as an argument. Cheap to clone.
///
/// ```
/// use ergon_core::TaskError;
/// use ergon_server::Context;
/// # use ergon_core::Task;
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Import;
/// # impl Task for Import {
/// #     const KIND: &'static str = "import";
/// #     type Output = ();
/// # }
///
/// async fn import(task: Import, context: Context) -> Result<(), TaskError> {
///     tokio::select! {
///         () = import_rows() => Ok(()),
///         reason = context.cancelled() => Err(TaskError::retry(format!("stopped: {reason:?}"))),
///     }
/// }
/// # async fn import_rows() {}
/// # let _handler = import;
/// ```
#[derive(Clone, Debug)]
pub struct Context {
    attempt: Arc<Attempt>,
}

impl Context {
    pub(crate) const fn new(attempt: Arc<Attempt>) -> Self {
        Self { attempt }
    }

    pub(crate) fn attempt_shared(&self) -> &Arc<Attempt> {
        &self.attempt
    }

    /// The id of the task.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.attempt.task.id
    }

    /// The kind of the task.
    #[must_use]
    pub fn kind(&self) -> &KindName {
        &self.attempt.task.spec.kind
    }

    /// The queue from which the task came.
    #[must_use]
    pub fn queue(&self) -> &QueueName {
        &self.attempt.task.spec.queue
    }

    /// Which attempt this is, counted from 1.
    #[must_use]
    pub fn attempt(&self) -> u16 {
        self.attempt.task.attempt
    }

    /// Attempts until the task fails.
    #[must_use]
    pub fn max_attempts(&self) -> u16 {
        self.attempt.task.max_attempts
    }

    /// How often a server died while it ran the task.
    #[must_use]
    pub fn crash_count(&self) -> u16 {
        self.attempt.task.crash_count
    }

    /// The priority of the task.
    #[must_use]
    pub fn priority(&self) -> i16 {
        self.attempt.task.priority
    }

    /// The fencing token of this attempt, larger than that of every attempt before.
    ///
    /// A system that keeps the largest token it has seen can refuse what a server that lost its
    /// lease still writes.
    #[must_use]
    pub fn token(&self) -> Token {
        self.attempt.task.token
    }

    /// The claim of this attempt: the id of the task and its token.
    ///
    /// A store that can record the end of a task in a transaction of the application asks for it: with
    /// `PostgresStore` a handler calls `store.finish_in_transaction(&mut transaction, context.held(),
    /// &output)` as the last thing before it commits what it wrote, and returns the same output after
    /// the commit. Then its writes to that database happen exactly once.
    #[must_use]
    pub fn held(&self) -> Held {
        self.attempt.held()
    }

    /// A text that is the same for every attempt of the task and for no other task: what to give a
    /// system that recognises repeated requests.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        self.id().to_string()
    }

    /// When the store took the task, by the store's clock.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.attempt.task.created_at
    }

    /// When the task was due, by the store's clock.
    #[must_use]
    pub fn scheduled_at(&self) -> Timestamp {
        self.attempt.task.run_at
    }

    /// When this attempt was claimed, by the store's clock.
    #[must_use]
    pub fn claimed_at(&self) -> Timestamp {
        self.attempt.task.claimed_at
    }

    /// The searchable text that was enqueued with the task.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.attempt.task.spec.metadata
    }

    /// The labels that were enqueued with the task.
    #[must_use]
    pub fn tags(&self) -> &[Tag] {
        &self.attempt.task.spec.tags
    }

    /// How long the attempt may still run before it exceeds its timeout.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.attempt.ends_at().saturating_duration_since(Instant::now())
    }

    /// A client of the same store, for follow-up tasks.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.attempt.home.client
    }

    /// Tells how far the attempt has come, for whoever looks at the task while it runs.
    ///
    /// Returns at once. The newest report is passed on to the store, about once a second; it is gone
    /// when the attempt ends.
    ///
    /// ```
    /// # use ergon_core::{ProgressReport, TaskError};
    /// # use ergon_server::Context;
    /// # async fn convert(pages: Vec<String>, context: Context) -> Result<(), TaskError> {
    /// let total = pages.len() as u64;
    /// for (done, page) in (0..).zip(pages) {
    ///     context.report(ProgressReport::new(done).of(total).message(format!("page {page}")));
    ///     // …
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn report(&self, report: ProgressReport) {
        self.attempt.home.reports.put(&self.attempt, report);
    }

    /// Waits until the attempt is to stop, and says why.
    ///
    /// A handler that was told has the server's
    /// [`abort_period`](crate::ServerConfig::abort_period) to end; then it is dropped. On a timeout
    /// it is dropped at once, so that only clones of the context outside the handler see it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing; what was told stays told.
    pub async fn cancelled(&self) -> CancelReason {
        self.attempt.stopped().await
    }

    /// Says whether the attempt is to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancel_reason().is_some()
    }

    /// Why the attempt is to stop; the gravest reason when there are several.
    #[must_use]
    pub fn cancel_reason(&self) -> Option<CancelReason> {
        self.attempt.cancel_reason()
    }
}
