//! Enqueues and outcomes in a transaction of the application, on the database that both share.

use std::time::Duration;

use ergon_core::{
    Clock as _, Conclusion, EnqueueError, NewTask, Now, Outcome, QueueName, StoreError,
    SystemClock, Verdict,
    client::{Enqueue, EnqueueMany, Enqueued},
    store::{Held, Inserted, check_insert},
};
use serde::Serialize;
use sqlx::PgConnection;
use tokio::time::timeout;

use crate::{
    PostgresStore,
    dispatch::resolve,
    doorbell::{self, Channels},
    enqueue::{Insertion, insert_within},
    error, place,
    runner::Runner,
    shared::Shared,
    value::{column, split},
};

/// How often an outcome in a transaction is decided anew when something came first.
const ATTEMPTS_MAX: u32 = 10;

/// Longest time for giving a task a lease of its own, the wait for a connection included.
const APART_TIME_MAX: Duration = Duration::from_secs(1);

/// What an outcome that lost goes back to, within the transaction of the application.
const SAVE: &str = "SAVEPOINT ergon_finish";
const BACK: &str = "ROLLBACK TO SAVEPOINT ergon_finish";

/// Enqueues in a transaction of the application.
pub trait EnqueueInTransaction {
    /// What an enqueue answers.
    type Answer;

    /// Enqueues on a connection of the application that is in a transaction: the task exists from the
    /// commit on, and never if it is rolled back. The connection may be of any pool, to the database
    /// and by a role that the store could use.
    ///
    /// Unlike other enqueues this one lets the commit itself ring for whoever waits, which makes
    /// commits on one server wait for each other a little. A unique key that another transaction has
    /// just taken is waited for until that one ends.
    ///
    /// ```no_run
    /// # use ergon_core::{Client, Task};
    /// # use ergon_postgres::{EnqueueInTransaction, PostgresStore};
    /// # use serde::{Deserialize, Serialize};
    /// #[derive(Serialize, Deserialize, Task)]
    /// struct Welcome {
    ///     user: i64,
    /// }
    ///
    /// # async fn run(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
    /// let store = PostgresStore::from_pool(pool.clone()).await?;
    /// let client = Client::new(store.clone());
    ///
    /// let mut transaction = pool.begin().await?;
    /// sqlx::query("INSERT INTO users VALUES (7)").execute(&mut *transaction).await?;
    /// client.enqueue(Welcome { user: 7 }).in_transaction(&store, &mut transaction).await?;
    /// transaction.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of an awaited enqueue. After one of [`EnqueueError::Store`] the transaction has to be
    /// rolled back; [`StoreError::Conflict`] in it says that doing all of it again may help.
    ///
    /// # Cancel safety
    ///
    /// Roll the transaction back when the future was dropped.
    fn in_transaction(
        self,
        store: &PostgresStore,
        connection: &mut PgConnection,
    ) -> impl Future<Output = Result<Self::Answer, EnqueueError>> + Send;
}

impl<O: Send> EnqueueInTransaction for Enqueue<O> {
    type Answer = Enqueued<O>;

    async fn in_transaction(
        self,
        store: &PostgresStore,
        connection: &mut PgConnection,
    ) -> Result<Enqueued<O>, EnqueueError> {
        let (task, answer) = self.into_parts();
        let task = task?;
        let id = task.id;
        let inserted = store.shared().insert_for(connection, vec![task]).await?;
        let inserted = inserted.first().copied().unwrap_or(Inserted::Created);
        answer.to(id, inserted)
    }
}

impl<O: Send> EnqueueInTransaction for EnqueueMany<O> {
    type Answer = Vec<Inserted>;

    async fn in_transaction(
        self,
        store: &PostgresStore,
        connection: &mut PgConnection,
    ) -> Result<Vec<Inserted>, EnqueueError> {
        let tasks = self.into_new_tasks()?;
        let mut inserted = Vec::with_capacity(tasks.len());
        for batch in tasks.chunks(ergon_core::limits::BATCH_MAX) {
            inserted.extend(store.shared().insert_for(connection, batch.to_vec()).await?);
        }
        Ok(inserted)
    }
}

impl PostgresStore {
    /// Completes a running task in a transaction of the application: what the transaction writes and
    /// that the task is done are committed together, or not at all. With it a handler's writes to this
    /// database happen exactly once, whatever crashes.
    ///
    /// Roll the transaction back unless the verdict is [`Verdict::Applied`]: of a claim that is
    /// [stale](Verdict::Stale) somebody else runs the task, and nothing was changed here. After the
    /// commit the handler returns as usual; its server finds the outcome recorded.
    ///
    /// Keep the transaction short: until it ends, the task's lease is not renewed, and nobody takes the
    /// task back either.
    ///
    /// # Errors
    ///
    /// [`StoreError::Backend`] when `output` cannot be encoded, [`StoreError::Conflict`] when something
    /// came first (doing all of it again may help), and what the database reports; roll back.
    ///
    /// # Cancel safety
    ///
    /// Roll the transaction back when the future was dropped.
    pub async fn finish_in_transaction<T: Serialize + Sync>(
        &self,
        connection: &mut PgConnection,
        task: Held,
        output: &T,
    ) -> Result<Verdict, StoreError> {
        let output = serde_json::to_vec(output)
            .map_err(|source| StoreError::Backend { source: Box::new(source) })?;
        let conclusion = Conclusion::Complete { result: Some(output.into()) };
        self.shared().finish_for(connection, task, conclusion).await
    }
}

impl Shared {
    async fn insert_for(
        &self,
        connection: &mut PgConnection,
        tasks: Vec<NewTask>,
    ) -> Result<Vec<Inserted>, StoreError> {
        check_insert(&tasks, &self.limits, SystemClock.now())?;
        self.know(&tasks).await?;
        let mut runner = Runner::within(&self.database, connection);
        let Insertion { inserted, is_recorded } = insert_within(self, &mut runner, &tasks).await?;
        let created = tasks.iter().zip(&inserted);
        let created = created.filter(|(_, answer)| **answer == Inserted::Created);
        let mut queues: Vec<&QueueName> = created.map(|(task, _)| &task.spec.queue).collect();
        queues.sort_unstable();
        queues.dedup();
        self.ring_within(connection, &queues, is_recorded).await?;
        Ok(inserted)
    }

    /// Has the commit ring for work in these queues, and for readers of the journal if something was
    /// recorded.
    async fn ring_within(
        &self,
        connection: &mut PgConnection,
        queues: &[&QueueName],
        is_recorded: bool,
    ) -> Result<(), StoreError> {
        let Some(Channels { work, journal }) = self.channels() else { return Ok(()) };
        let mut messages: Vec<&str> = queues.iter().map(|queue| queue.as_str()).collect();
        let mut channels = vec![work.as_str(); messages.len()];
        if is_recorded {
            channels.push(journal);
            messages.push("");
        }
        if !channels.is_empty() {
            let ring = sqlx::query(doorbell::RING).bind(channels).bind(messages);
            let ring = ring.persistent(self.database.is_persistent());
            ring.execute(connection).await.map_err(error::map)?;
        }
        Ok(())
    }

    async fn finish_for(
        &self,
        connection: &mut PgConnection,
        task: Held,
        conclusion: Conclusion,
    ) -> Result<Verdict, StoreError> {
        self.set_apart(task).await?;
        let conclusion = conclusion.storable(&self.limits);
        let outcome = Outcome { id: task.id, token: task.token, conclusion };
        let find = place::by_token(&self.sql, std::slice::from_ref(&outcome));
        let mut decide = |change: &mut crate::change::Change| {
            let now = change.now().map(|clock| resolve(Now::Store, clock));
            Ok(change.conclude(&outcome, &self.retention, now))
        };
        for attempt in 0..ATTEMPTS_MAX {
            sqlx::raw_sql(SAVE).execute(&mut *connection).await.map_err(error::map)?;
            let mut runner = Runner::within(&self.database, connection);
            match self.change_once(&mut runner, &find, &mut decide).await {
                // A beat, or a neighbour that was set apart, came first: nothing of it happened.
                Err(StoreError::Conflict) => {
                    sqlx::raw_sql(BACK).execute(&mut *connection).await.map_err(error::map)?;
                }
                Ok((change, verdict)) => {
                    self.ring_within(connection, &[], change.is_recorded()).await?;
                    return Ok(verdict);
                }
                Err(error) => return Err(error),
            }
            self.step_back(attempt).await;
        }
        Err(StoreError::Conflict)
    }

    /// Gives a task a lease of its own, so that the transaction does not lock those that were claimed
    /// with it.
    async fn set_apart(&self, task: Held) -> Result<(), StoreError> {
        let Ok(token) = i64::try_from(task.token.get()) else { return Ok(()) };
        let (pack, off) = split(task.id);
        let query = self.sql.apart.with(token).with(pack).with(off);
        // It takes a second connection, and others may hold those that there are while they wait for one as
        // well. Without it more is locked than need be.
        let apart = timeout(APART_TIME_MAX, self.database.row(|| query.query())).await;
        let Ok(row) = apart else { return Ok(()) };
        let row = row?;
        if column::<i64>(&row, "apart")? > 0 {
            self.claims.set_apart(task.token.get(), task.id);
        }
        Ok(())
    }
}
