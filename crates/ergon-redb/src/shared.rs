//! What the handles of a store and its writer share.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use ergon_core::{Clock, Limits, Retention, StoreError};
use tokio::sync::oneshot;

use crate::{
    batch::Batch, database::Handle, inbox::Inbox, live::Live, transaction::Adoption, wake::Wake,
};

/// What the handles of a store and its writer share.
pub(crate) struct Shared {
    pub(crate) database: Handle,
    pub(crate) live: Arc<Mutex<Live>>,
    /// Held for writing from a commit until memory has learned of it: who reads file and memory
    /// together holds it for reading.
    pub(crate) gate: RwLock<()>,
    pub(crate) inbox: Inbox,
    pub(crate) wake: Wake,
    /// Tasks that a transaction of the application has added, or not.
    pub(crate) adoptions: Mutex<Vec<Adoption>>,
    /// The writer looks at the running tasks by itself; otherwise a claim has to nudge it.
    pub(crate) is_watching: AtomicBool,
    /// Those who asked for a compaction.
    pub(crate) compactions: Mutex<Vec<oneshot::Sender<Result<bool, StoreError>>>>,
    /// Until then claims are written before they are answered; see [`crate::dispatch`].
    pub(crate) careful_until: Option<Instant>,
    pub(crate) quick_repair_from_bytes: u64,
    /// Why the store takes no writes any more.
    pub(crate) failure: OnceLock<String>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limits: Limits,
    pub(crate) retention: Retention,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("failure", &self.failure).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails once the store has failed.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.failure
            .get()
            .map_or(Ok(()), |reason| Err(StoreError::Failed { reason: reason.clone() }))
    }

    /// Fails once the store is closed, or has failed.
    pub(crate) fn check_open(&self) -> Result<(), StoreError> {
        self.check()?;
        if self.inbox.is_closed() { Err(StoreError::Closed) } else { Ok(()) }
    }

    /// Whether the writer sleeps so deep that a claim has to tell it of running tasks.
    pub(crate) fn must_nudge(&self) -> bool {
        !self.is_watching.load(Ordering::Acquire)
    }

    /// Takes no writes from now on: what the medium holds is uncertain.
    pub(crate) fn fail(&self, reason: &str) {
        self.failure.get_or_init(|| reason.to_owned());
        self.wake.everybody();
    }

    /// Has the writer look whether a transaction of the application added a task, once it is over.
    pub(crate) fn adopt(&self, adoption: Adoption) {
        self.adoptions.lock().unwrap_or_else(PoisonError::into_inner).push(adoption);
        self.inbox.nudge();
    }

    /// Has the writer do something, and answers when it is durable.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&mut Batch<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.check()?;
        match self.inbox.submit(bytes, work).await {
            // The writer dropped it because the store failed in the meantime.
            Err(StoreError::Closed) => self.check().and(Err(StoreError::Closed)),
            answer => answer,
        }
    }
}

/// Runs what reads the file where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::Backend { source: Box::new(error) }),
    }
}
