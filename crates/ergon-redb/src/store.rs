//! The store: a handle on what the writer and the readers share.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use ergon_core::{StoreError, TaskId};
use redb::Database;
use tokio::sync::oneshot;

use crate::{
    Integrity, OpenError, RedbOptions, integrity,
    shared::{Shared, blocking},
};

/// A store in one file of this process, or in memory. Cheap to clone.
///
/// # Guarantees
///
/// What was acknowledged survives a crash of the process and of the machine, as far as the medium
/// keeps what it was told to keep. One process uses a file at a time. After a crash everything that
/// was running is ready again as soon as the file is open.
///
/// A failed write latches the store: every later write answers
/// [`StoreError::Failed`] until the file is reopened, since what the medium holds is uncertain.
///
/// # Closing
///
/// Dropping the last handle closes the store and waits for what was acknowledged to be written;
/// [`close`](Self::close) does the same without blocking, and says whether it went well.
///
/// ```
/// # use ergon_core::{Client, Task};
/// # use ergon_redb::RedbStore;
/// # use serde::{Deserialize, Serialize};
/// #[derive(Serialize, Deserialize, Task)]
/// struct Greet {
///     name: String,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = RedbStore::in_memory()?; // or RedbStore::open("tasks.redb").await?
/// let client = Client::new(store.clone());
/// client.enqueue(Greet { name: "Ada".into() }).await?;
/// store.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RedbStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Inner {
    /// Ends the writer; says whether it went well.
    fn close(&self) -> Result<(), StoreError> {
        self.shared.inbox.close();
        // Held while the writer ends, so that whoever closes too waits for it as well.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Err(_panic)) = writer.take().map(JoinHandle::join) {
            self.shared.fail("the writer panicked");
        }
        drop(writer);
        self.shared.check()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Whoever wants to know how it went calls `close`.
        drop(self.close());
    }
}

impl RedbStore {
    pub(crate) fn new(shared: Arc<Shared>, writer: JoinHandle<()>) -> Self {
        Self { inner: Arc::new(Inner { shared, writer: Mutex::new(Some(writer)) }) }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    /// Opens a file with the defaults, or creates it if there is none.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]; nothing was changed.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::builder().open(path).await
    }

    /// Makes a store without a file; it is gone when its last handle is.
    ///
    /// # Errors
    ///
    /// What redb reports.
    pub fn in_memory() -> Result<Self, OpenError> {
        Self::builder().in_memory()
    }

    /// Makes a store of a database that the application uses too, so that both can write in
    /// [one transaction](crate::EnqueueInTransaction).
    ///
    /// The tables of the store begin with `ergon.`; leave them alone. Make one store of a database:
    /// two would each believe to be its only owner. The database stays open when the store is
    /// closed.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]; nothing was changed.
    pub async fn with_database(database: Arc<Database>) -> Result<Self, OpenError> {
        Self::builder().with_database(database).await
    }

    /// Chooses how a store is opened.
    pub fn builder() -> RedbOptions {
        RedbOptions::default()
    }

    /// Whether what is acknowledged survives the process.
    pub(crate) fn is_durable(&self) -> bool {
        self.shared().database.is_file()
    }

    /// Writes what was acknowledged, gives running tasks back, and closes the file.
    ///
    /// Other handles answer [`StoreError::Closed`] from now on.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] when a write failed, now or before.
    pub async fn close(&self) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.close()).await
    }

    /// Moves what is stored together and gives the rest of the file back; says whether anything was
    /// moved. Nothing else happens in the meantime; a GiB takes some seconds.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] when reads did not end within a second;
    /// [`StoreError::Closed`]. On a [shared database](Self::with_database) nothing is moved: it is
    /// the application's to compact.
    pub async fn compact(&self) -> Result<bool, StoreError> {
        let shared = self.shared();
        shared.check()?;
        let (reply, answer) = oneshot::channel();
        shared.compactions.lock().unwrap_or_else(PoisonError::into_inner).push(reply);
        shared.inbox.nudge();
        if shared.inbox.is_closed() {
            return Err(StoreError::Closed);
        }
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Compares every counter and index with the records of the tasks, and reads the journal. Reads the
    /// whole store.
    ///
    /// # Errors
    ///
    /// What redb reports.
    pub async fn check(&self) -> Result<Integrity, StoreError> {
        let shared = Arc::clone(self.shared());
        blocking(move || integrity::check(&shared)).await
    }

    /// Tasks that were set aside since their records do not read back, and why. Their bytes are
    /// still in the file.
    ///
    /// # Errors
    ///
    /// What redb reports.
    pub async fn quarantined(&self) -> Result<Vec<(TaskId, String)>, StoreError> {
        let shared = Arc::clone(self.shared());
        blocking(move || integrity::quarantined(&shared)).await
    }
}
