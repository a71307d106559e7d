//! Enqueues in a transaction of the application, on a database that both share.

use ergon_core::{
    EnqueueError,
    client::{Enqueue, Enqueued},
    store::Inserted,
};
use redb::WriteTransaction;

use crate::{
    RedbStore,
    batch::{Batch, waiting_of},
    enqueue,
    ready::Waiting,
    table::Tables,
};

/// A task that a transaction of the application has added, if it was committed.
pub(crate) struct Adoption {
    pub(crate) waiting: Waiting,
}

/// Enqueues in a transaction of the application.
pub trait EnqueueInTransaction<O> {
    /// Enqueues within a write transaction of the database that the store was
    /// [built on](RedbStore::with_database): the task exists from the commit of the transaction on,
    /// and never if it is aborted.
    ///
    /// While the transaction is open every other write of the store waits for it, as redb has one
    /// writer at a time. Keep it short, and await nothing of the store in it.
    ///
    /// ```
    /// # use ergon_core::{Client, Task};
    /// # use ergon_redb::{EnqueueInTransaction, RedbStore};
    /// # use redb::{Database, TableDefinition, backends::InMemoryBackend};
    /// # use serde::{Deserialize, Serialize};
    /// const USERS: TableDefinition<u64, &str> = TableDefinition::new("users");
    ///
    /// #[derive(Serialize, Deserialize, Task)]
    /// struct Welcome {
    ///     user: u64,
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let database = Database::builder().create_with_backend(InMemoryBackend::new())?;
    /// let database = std::sync::Arc::new(database);
    /// let store = RedbStore::with_database(database.clone()).await?;
    /// let client = Client::new(store.clone());
    ///
    /// let transaction = database.begin_write()?;
    /// transaction.open_table(USERS)?.insert(7, "Ada")?;
    /// let task = client.enqueue(Welcome { user: 7 }).in_transaction(&store, &transaction)?;
    /// transaction.commit()?;
    /// assert!(task.state().await?.is_some());
    /// # store.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of an awaited enqueue, and [`EnqueueError::InvalidOptions`] for a store that was not
    /// built on a database of the application. After one of [`EnqueueError::Store`] the transaction has to be
    /// aborted.
    fn in_transaction(
        self,
        store: &RedbStore,
        transaction: &WriteTransaction,
    ) -> Result<Enqueued<O>, EnqueueError>;
}

impl<O> EnqueueInTransaction<O> for Enqueue<O> {
    fn in_transaction(
        self,
        store: &RedbStore,
        transaction: &WriteTransaction,
    ) -> Result<Enqueued<O>, EnqueueError> {
        let (task, answer) = self.into_parts();
        let task = task?;
        let shared = store.shared();
        shared.check_open()?;
        if !shared.database.is_shared() {
            let reason = "the store has a file of its own; build it on the database of the \
                          transaction: RedbStore::with_database"
                .to_owned();
            return Err(EnqueueError::InvalidOptions { field: "transaction", reason });
        }
        let now = shared.clock.now();
        ergon_core::store::check_insert(std::slice::from_ref(&task), &shared.limits, now)?;
        let row = enqueue::encode(&task, now, &mut shared.live());
        let waiting = waiting_of(row.id, &row.state.body, &row.state.progress, false);
        let mut batch =
            Batch::foreign(Tables::new(transaction), std::sync::Arc::clone(&shared.live));
        let inserted = enqueue::add(&mut batch, row)?;
        // Where the writer numbers rows of the expiry index, a task tells its one row apart: the low
        // half of its id, which is larger than any number of the writer.
        let number = u64::from_be_bytes(crate::key::part(&task.id.as_u128().to_be_bytes(), 8));
        batch.flush(&mut || number)?;
        if inserted == Inserted::Created {
            shared.adopt(Adoption { waiting });
        }
        answer.to(task.id, inserted)
    }
}
