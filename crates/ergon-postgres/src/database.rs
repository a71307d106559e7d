//! Runs statements: a connection, a deadline, and what may be repeated is repeated.
//!
//! Every statement is committed by itself, so no transaction of ours is ever open between two calls.
//!
//! Behind a pooler that shares sessions every statement is put into a transaction of its own: it is
//! parsed and executed by two messages, and between them the pooler may change the session, where
//! another statement without a name may be waiting for the very same arguments.

mod loan;

use std::{fmt, sync::Arc, time::Duration};

use ergon_core::{StoreError, SystemRng, rng};
use futures_util::future::BoxFuture;
use sqlx::{
    AssertSqlSafe, Executor, PgConnection, PgPool, Postgres, Row,
    postgres::{PgArguments, PgConnectOptions, PgRow},
    query::Query,
};
use tokio::time::{Instant, sleep, timeout_at};

use self::loan::Kept;
pub(crate) use self::loan::Loan;
use crate::error::{self, Repeat};

/// A statement with its arguments.
pub(crate) type Statement = Query<'static, Postgres, PgArguments>;

/// How a statement is sent and its answer collected.
type Way<T> = for<'e> fn(&'e mut PgConnection, Statement) -> BoxFuture<'e, Result<T, sqlx::Error>>;

/// Most repetitions of a statement that lost against others.
const CONFLICTS_MAX: u32 = 3;

/// Most repetitions on another connection, beyond one for each of the pool.
const BROKEN_MAX: u32 = 3;

/// Wait before the first repetition, and the longest before any. Chosen without measurement: long
/// enough for a statement of others to end, short beside a deadline.
const WAIT_MIN: Duration = Duration::from_millis(5);
const WAIT_MAX: Duration = Duration::from_millis(500);

/// How much later than this process the server gives up a statement, so that it is the process who
/// knows why.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// Longest wait for a lock in a transaction of several statements.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether the session is outside of any transaction.
const OUTSIDE: &str = include_str!("queries/connect/outside.sql");

/// Whose connections are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// The store's own: nobody else leaves anything in them.
    Own,
    /// The application's: any of them may have been left in a transaction.
    Lent,
}

/// Whether a connection leads to one session for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sessions {
    /// It does; statements are prepared once a connection.
    Kept,
    /// A pooler gives each transaction another one, in which nothing is configured.
    Shared {
        /// Longest wait for a lock.
        lock_timeout: Duration,
    },
}

/// The database: where statements are run. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Database {
    pool: PgPool,
    deadline: Duration,
    ownership: Ownership,
    sessions: Sessions,
    kept: Arc<Kept>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("connections", &self.pool.size())
            .field("deadline", &self.deadline)
            .field("ownership", &self.ownership)
            .field("sessions", &self.sessions)
            .finish_non_exhaustive()
    }
}

impl Database {
    pub(crate) fn new(
        pool: PgPool,
        deadline: Duration,
        ownership: Ownership,
        sessions: Sessions,
    ) -> Self {
        let kept = Arc::new(Kept::new(&pool));
        Self { pool, deadline, ownership, sessions, kept }
    }

    /// The same database, where each statement has a transaction to itself.
    pub(crate) fn in_transactions(&self, deadline: Duration, lock_timeout: Duration) -> Self {
        Self { deadline, sessions: Sessions::Shared { lock_timeout }, ..self.clone() }
    }

    pub(crate) const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// How a connection of one's own is made, for listening.
    pub(crate) fn connect_options(&self) -> Arc<PgConnectOptions> {
        self.pool.connect_options()
    }

    /// Closes the pool, if it is the store's; calls answer [`StoreError::Closed`] from then on.
    pub(crate) async fn close(&self) {
        self.kept.close();
        if self.ownership == Ownership::Own {
            self.pool.close().await;
        }
    }

    /// Whether connections keep statements prepared.
    pub(crate) fn is_persistent(&self) -> bool {
        self.sessions == Sessions::Kept
    }

    /// Begins a transaction of the store's own. To be called in a task that is not aborted: a caller
    /// who goes away costs the connection.
    pub(crate) async fn begin(&self) -> Result<Transaction, StoreError> {
        let lock_timeout = match self.sessions {
            Sessions::Kept => LOCK_TIMEOUT,
            Sessions::Shared { lock_timeout } => lock_timeout,
        };
        let mut loan = self.acquire().await.map_err(error::map)?;
        let begin = AssertSqlSafe(begin(self.deadline, lock_timeout));
        let connection = loan.connection().map_err(error::map)?;
        sqlx::raw_sql(begin).execute(connection).await.map_err(error::map)?;
        Ok(Transaction(loan))
    }

    /// Does something of several steps, and of waiting for others, within the deadline of one
    /// statement. What is dropped for it may have happened.
    pub(crate) async fn within_deadline<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.until(self.deadline(), work).await
    }

    /// When a call that begins now has to be answered.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.deadline
    }

    /// Does one step of a call that has to be answered by `deadline`.
    pub(crate) async fn until<T>(
        &self,
        deadline: Instant,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let outcome = timeout_at(deadline, work).await;
        outcome.unwrap_or_else(|_elapsed| Err(error::too_late(self.deadline)))
    }

    /// Runs a statement and collects its rows. It is committed when this returns them.
    ///
    /// `statement` builds it anew for each repetition.
    pub(crate) async fn rows(
        &self,
        statement: impl Fn() -> Statement + Send + Sync,
    ) -> Result<Vec<PgRow>, StoreError> {
        self.run(&statement, |connection, statement| connection.fetch_all(statement)).await
    }

    /// Runs a statement that answers at most one row; further ones are dropped.
    pub(crate) async fn optional(
        &self,
        statement: impl Fn() -> Statement + Send + Sync,
    ) -> Result<Option<PgRow>, StoreError> {
        self.run(&statement, |connection, statement| connection.fetch_optional(statement)).await
    }

    /// Runs a statement that answers one row; it is [`StoreError::Backend`] when there is none.
    pub(crate) async fn row(
        &self,
        statement: impl Fn() -> Statement + Send + Sync,
    ) -> Result<PgRow, StoreError> {
        let row = self.optional(statement).await?;
        row.ok_or_else(|| error::map(sqlx::Error::RowNotFound))
    }

    /// Runs a statement for its effect; answers how many rows it changed.
    pub(crate) async fn execute(
        &self,
        statement: impl Fn() -> Statement + Send + Sync,
    ) -> Result<u64, StoreError> {
        let done = self.run(&statement, |connection, statement| connection.execute(statement));
        Ok(done.await?.rows_affected())
    }

    /// Runs a statement until it succeeds, may not be repeated, or the deadline is over.
    async fn run<T: Send>(
        &self,
        statement: &(impl Fn() -> Statement + Send + Sync),
        way: Way<T>,
    ) -> Result<T, StoreError> {
        let deadline = Instant::now() + self.deadline;
        let broken_max = self.pool.options().get_max_connections().saturating_add(BROKEN_MAX);
        let (mut conflicts, mut broken) = (0, 0);
        loop {
            // What is abandoned here closes its connection: see `Loan`.
            let attempt = timeout_at(deadline, self.once(statement(), way)).await;
            let Ok(outcome) = attempt else { return Err(error::too_late(self.deadline)) };
            let error = match outcome {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let may_repeat = match error::repeat(&error) {
                Repeat::Never => false,
                Repeat::Soon => {
                    conflicts += 1;
                    conflicts <= CONFLICTS_MAX
                }
                Repeat::OnAnotherConnection => {
                    broken += 1;
                    broken <= broken_max
                }
            };
            // The first dead connection of many is no reason to wait.
            let wait = pause(conflicts + broken.saturating_sub(BROKEN_MAX));
            if !may_repeat || deadline.saturating_duration_since(Instant::now()) <= wait {
                return Err(error::map(error));
            }
            sleep(wait).await;
        }
    }

    /// Runs a statement once, without a deadline, and collects its rows.
    pub(crate) async fn ask(&self, statement: Statement) -> Result<Vec<PgRow>, sqlx::Error> {
        self.once(statement, |connection, statement| connection.fetch_all(statement)).await
    }

    async fn once<T: Send>(&self, statement: Statement, way: Way<T>) -> Result<T, sqlx::Error> {
        let mut loan = self.acquire().await?;
        let answer = match self.sessions {
            Sessions::Kept => way(loan.connection()?, statement).await,
            Sessions::Shared { lock_timeout } => {
                let begin = begin(self.deadline, lock_timeout);
                in_transaction(loan.connection()?, begin, statement.persistent(false), way).await
            }
        };
        if answer.as_ref().err().is_none_or(error::spares_connection) {
            loan.give_back();
        }
        answer
    }

    /// Waits for a connection that is outside of any transaction.
    pub(crate) async fn acquire(&self) -> Result<Loan, sqlx::Error> {
        if self.ownership == Ownership::Own {
            return self.kept.acquire(&self.pool).await;
        }
        // Ends: each turn closes a connection, and a new one is outside.
        loop {
            // Boxed, since connecting makes a large future, which that of every caller would hold.
            let mut loan = Loan::of_pool(Box::pin(self.pool.acquire()).await?);
            match is_outside(loan.connection()?).await {
                Ok(true) => return Ok(loan),
                // Left in a transaction, or dead; nothing of ours was sent yet.
                Ok(false) | Err(sqlx::Error::Io(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Says whether a session is outside of any transaction.
///
/// A `BEGIN` whose future was dropped leaves its connection in a transaction, and the pool hands it
/// on like that. What is run in it seems to succeed, and is rolled back some time later.
async fn is_outside(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    // By the simple protocol, since only there a statement and its transaction begin at one instant.
    match sqlx::raw_sql(OUTSIDE).fetch_one(connection).await {
        Ok(row) => row.try_get(0),
        Err(error) if error::code(&error).as_deref() == Some("25P02") => Ok(false),
        Err(error) => Err(error),
    }
}

/// Begins a transaction as our statements need it, and tells the server when to give up.
fn begin(deadline: Duration, lock_timeout: Duration) -> String {
    format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = {statement}; \
         SET LOCAL lock_timeout = {lock}",
        statement = (deadline + GRACE).as_millis(),
        lock = lock_timeout.as_millis(),
    )
}

/// Runs a statement in a transaction of its own. It is committed, or rolled back, when this returns;
/// while it is open, a pooler keeps the session.
async fn in_transaction<T: Send>(
    connection: &mut PgConnection,
    begin: String,
    statement: Statement,
    way: Way<T>,
) -> Result<T, sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut *connection).await?;
    match way(connection, statement).await {
        Ok(answer) => {
            sqlx::raw_sql("COMMIT").execute(connection).await?;
            Ok(answer)
        }
        Err(error) => {
            // A connection that is of no use is closed, which rolls back as well.
            if error::spares_connection(&error) {
                sqlx::raw_sql("ROLLBACK").execute(connection).await?;
            }
            Err(error)
        }
    }
}

/// A random wait before a repetition that grows with the failures so far.
fn pause(failures: u32) -> Duration {
    let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
    let ceiling = WAIT_MIN.saturating_mul(2_u32.saturating_pow(doublings));
    rng::duration_up_to(&SystemRng, std::cmp::min(ceiling, WAIT_MAX))
}

/// A transaction of the store's own. Dropped, it is rolled back with its connection.
pub(crate) struct Transaction(Loan);

impl Transaction {
    pub(crate) fn connection(&mut self) -> Result<&mut PgConnection, StoreError> {
        self.0.connection().map_err(error::map)
    }

    /// Ends it: keeps what was done when `keep` says so.
    pub(crate) async fn end(mut self, keep: bool) -> Result<(), StoreError> {
        let end = if keep { "COMMIT" } else { "ROLLBACK" };
        sqlx::raw_sql(end).execute(self.connection()?).await.map_err(error::map)?;
        self.0.give_back();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
