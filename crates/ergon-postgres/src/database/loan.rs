//! Connections, from the pool and back.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use sqlx::{Connection as _, PgConnection, PgPool, Postgres, pool::PoolConnection};
use tokio::time::Instant;

/// Most connections that are kept.
const KEPT_MAX: usize = 8;

/// How long a connection is kept before the pool may look after it again.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// A connection that was idle for longer is asked whether it is alive before it is used.
const TRUSTED: Duration = Duration::from_secs(1);

/// Connections that are kept between two statements: when one is given back to the pool, the pool asks
/// the server whether it is sound, which is a round trip for each statement.
#[derive(Debug)]
pub(super) struct Kept {
    /// How many at the most: one of the pool is never kept.
    max: usize,
    idle: Mutex<Idle>,
    /// Who waits for the pool: to them a connection goes through it.
    waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct Idle {
    connections: Vec<KeptConnection>,
    is_closed: bool,
}

#[derive(Debug)]
struct KeptConnection {
    connection: PoolConnection<Postgres>,
    /// When it came from the pool, and when it was last used.
    since: Instant,
    used_at: Instant,
}

/// Counts somebody who waits for the pool.
struct Waiting<'k>(&'k AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Kept {
    pub(super) fn new(pool: &PgPool) -> Self {
        let spare = pool.options().get_max_connections().saturating_sub(1);
        let max = std::cmp::min(usize::try_from(spare).unwrap_or(KEPT_MAX), KEPT_MAX);
        Self { max, idle: Mutex::default(), waiting: AtomicUsize::new(0) }
    }

    fn with<R>(&self, change: impl FnOnce(&mut Idle) -> R) -> R {
        // Every change is one push or pop.
        change(&mut self.idle.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A connection that is kept, if there is one that lives.
    async fn take(self: &Arc<Self>) -> Option<Loan> {
        loop {
            let KeptConnection { mut connection, since, used_at } =
                self.with(|idle| idle.connections.pop())?;
            if used_at.elapsed() > TRUSTED && Box::pin(connection.ping()).await.is_err() {
                connection.close_on_drop();
                continue;
            }
            let kept = Some(Arc::clone(self));
            return Some(Loan { connection: Some(connection), since, is_sound: false, kept });
        }
    }

    /// A connection that is kept, or else one of the pool.
    pub(super) async fn acquire(self: &Arc<Self>, pool: &PgPool) -> Result<Loan, sqlx::Error> {
        if let Some(loan) = self.take().await {
            return Ok(loan);
        }
        self.waiting.fetch_add(1, SeqCst);
        let waiting = Waiting(&self.waiting);
        // One may have been kept just before it could be seen that somebody waits.
        let loan = match self.take().await {
            Some(loan) => Ok(loan),
            // Boxed, since connecting makes a large future, which that of every caller would hold.
            None => Box::pin(pool.acquire()).await.map(|connection| Loan {
                connection: Some(connection),
                since: Instant::now(),
                is_sound: false,
                kept: Some(Arc::clone(self)),
            }),
        };
        drop(waiting);
        loan
    }

    /// Keeps a connection, unless it is time that the pool gets it.
    fn put(&self, connection: PoolConnection<Postgres>, since: Instant) {
        if since.elapsed() > KEPT_FOR || self.waiting.load(SeqCst) > 0 {
            return;
        }
        let kept = KeptConnection { connection, since, used_at: Instant::now() };
        let refused = self.with(|idle| {
            if idle.is_closed || idle.connections.len() >= self.max {
                return Some(kept);
            }
            idle.connections.push(kept);
            None
        });
        drop(refused);
        if self.waiting.load(SeqCst) > 0 {
            drop(self.with(|idle| idle.connections.pop()));
        }
    }

    /// Gives everything back to the pool, from now on.
    pub(super) fn close(&self) {
        let kept = self.with(|idle| {
            idle.is_closed = true;
            std::mem::take(&mut idle.connections)
        });
        drop(kept);
    }
}

/// A connection that is closed, and not given back, unless [`give_back`](Self::give_back) is called:
/// when a future is dropped half-way its statement may be running still, and whoever got the connection
/// next would wait for it.
#[derive(Debug)]
pub(crate) struct Loan {
    /// There until it is dropped.
    connection: Option<PoolConnection<Postgres>>,
    since: Instant,
    is_sound: bool,
    /// Where it is kept; `None` when it goes to the pool.
    kept: Option<Arc<Kept>>,
}

impl Loan {
    /// A connection that goes back to the pool at once.
    pub(super) fn of_pool(connection: PoolConnection<Postgres>) -> Self {
        Self { connection: Some(connection), since: Instant::now(), is_sound: false, kept: None }
    }

    /// The connection; it is there as long as the loan is.
    ///
    /// # Errors
    ///
    /// None.
    pub(crate) fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.connection.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }

    /// Nothing is under way in it: others may have it.
    pub(crate) fn give_back(mut self) {
        self.is_sound = true;
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        match &self.kept {
            Some(kept) if self.is_sound => kept.put(connection, self.since),
            _ if self.is_sound => {}
            _ => connection.close_on_drop(),
        }
    }
}
