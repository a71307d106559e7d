//! How a store is opened.

use std::time::Duration;

use ergon_core::{Limits, Retention};
use sqlx::PgPool;

use crate::{ConnectError, PostgresStore, connect, schema::Schema};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How a store is opened; begin with [`PostgresStore::builder`].
///
/// Durations without another source are those that queues on Postgres commonly set, chosen without
/// measurement.
#[derive(Clone, Debug)]
#[must_use]
pub struct PostgresOptions {
    pub(crate) schema: String,
    pub(crate) max_connections: u32,
    pub(crate) acquire_timeout: Duration,
    pub(crate) statement_timeout: Duration,
    pub(crate) lock_timeout: Duration,
    pub(crate) idle_in_transaction_session_timeout: Duration,
    pub(crate) poll_interval: Duration,
    pub(crate) limits: Limits,
    pub(crate) retention: Retention,
    pub(crate) journal_bytes_max: u64,
    pub(crate) journal_age_max: Duration,
    pub(crate) partition_span: Duration,
    pub(crate) housekeeping: bool,
    pub(crate) pooling: Pooling,
    pub(crate) schema_change: SchemaChange,
    pub(crate) listen: bool,
    pub(crate) allow_unsafe_durability: bool,
}

/// Who stands between the store and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// Nobody: a connection is a session.
    Direct,
    /// A pooler that gives every transaction another session.
    Bouncer,
}

/// What is done about tables that are missing or old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SchemaChange {
    /// They are made.
    Migrate,
    /// The store is not opened.
    Refuse,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            schema: crate::schema::SCHEMA_DEFAULT.to_owned(),
            max_connections: 10,
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(2),
            idle_in_transaction_session_timeout: Duration::from_secs(15),
            poll_interval: Duration::from_secs(1),
            limits: Limits::default(),
            retention: Retention::default(),
            journal_bytes_max: 64 << 20,
            journal_age_max: DAY / 24,
            partition_span: DAY,
            housekeeping: true,
            pooling: Pooling::Direct,
            schema_change: SchemaChange::Migrate,
            listen: true,
            allow_unsafe_durability: false,
        }
    }
}

impl PostgresOptions {
    /// The schema that holds the tables: 1 to 48 of `a-z`, `0-9` and `_`, no digit first. Default
    /// `ergon`. Stores in different schemas know nothing of each other.
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = name.into();
        self
    }

    /// Most connections of the pool. Default 10, as in sqlx; at least 2. One more is used to listen.
    ///
    /// No call waits for a second connection while it holds one, so a small pool is slow, but it
    /// never stands still. Ignored by [`from_pool`](Self::from_pool).
    pub const fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections;
        self
    }

    /// Longest wait for a connection, a new one included. Default 5 s; more than zero.
    ///
    /// A server that refuses connections since it starts is asked again until then. Ignored by
    /// [`from_pool`](Self::from_pool), but for the first connection.
    pub const fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout;
        self
    }

    /// Deadline of each call of the store, from waiting for a connection to the last row. Default
    /// 10 s; more than zero, at most a day.
    ///
    /// What exceeds it is answered [`Unavailable`](ergon_core::StoreError::Unavailable), and its
    /// connection is closed. The server is told to give up one second later, so that nothing runs
    /// on for nobody.
    pub const fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// Longest wait of a statement for a lock. Default 2 s; more than zero, at most a day. What
    /// exceeds it is answered [`Conflict`](ergon_core::StoreError::Conflict).
    pub const fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// How long the server lets a session of this store sit in a transaction without a statement
    /// before it ends the session. Default 15 s; more than zero, at most a day. The store itself
    /// keeps no transaction open; this bounds what a frozen process leaves behind.
    pub const fn idle_in_transaction_session_timeout(mut self, timeout: Duration) -> Self {
        self.idle_in_transaction_session_timeout = timeout;
        self
    }

    /// How often a waiting server looks for work that nobody announced. Default 1 s; at least 10 ms,
    /// at most an hour.
    pub const fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// How large things may be, up to the caps. Default: [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits.capped();
        self
    }

    /// How long finished tasks are kept. Default: [`Retention::default`].
    pub const fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// About how many bytes of events the journal keeps. Default 64 MiB; at least 64 KiB. Older ones go,
    /// within some seconds, and who has not read them is told of a gap.
    ///
    /// The store that keeps [house](Self::housekeeping) decides for all that share the journal. Chosen
    /// without measurement: some 300,000 statements on single tasks, or millions of events of batches.
    pub const fn journal_bytes_max(mut self, bytes: u64) -> Self {
        self.journal_bytes_max = bytes;
        self
    }

    /// How long the journal keeps events. Default one hour; from a second to 366 days. Like
    /// [`journal_bytes_max`](Self::journal_bytes_max) otherwise.
    pub const fn journal_age_max(mut self, age: Duration) -> Self {
        self.journal_age_max = age;
        self
    }

    /// How much time one partition of the payloads holds. Default 24 hours; whole minutes, from an hour
    /// to 366 days. Partitions that exist stay as they are.
    ///
    /// A partition is dropped once nothing of it lives, so that a shorter span frees space sooner; each
    /// one makes every statement that looks for a payload slower, measured by some 3 µs.
    pub const fn partition_span(mut self, span: Duration) -> Self {
        self.partition_span = span;
        self
    }

    /// Whether this store takes part in keeping house in the background: folding counters, making and
    /// dropping partitions, removing what nobody needs any more. Default true; at most one store at a
    /// time does it. Without any, everything works, but grows and becomes slow, unless
    /// [`PostgresStore::housekeep`] is called from time to time.
    ///
    /// The role needs no right to change tables for it, only what
    /// [`Migrator::grants`](crate::Migrator::grants) lists.
    pub const fn housekeeping(mut self, yes: bool) -> Self {
        self.housekeeping = yes;
        self
    }

    /// Whether the URL leads to `PgBouncer`, or another pooler, in transaction mode. Default false.
    ///
    /// Then each statement has a transaction to itself, since a pooler keeps a session only for as
    /// long as one is open: two round trips more a call. The timeouts are set in it. Nothing is
    /// listened for, whatever [`listen`](Self::listen) says.
    pub const fn pooled_by_bouncer(mut self, yes: bool) -> Self {
        self.pooling = if yes { Pooling::Bouncer } else { Pooling::Direct };
        self
    }

    /// Whether waiting servers are woken by `LISTEN`, on a connection of its own. Default true;
    /// otherwise they find work by [polling](Self::poll_interval) alone.
    pub const fn listen(mut self, yes: bool) -> Self {
        self.listen = yes;
        self
    }

    /// Whether connecting makes the tables, or brings them up to date. Default true; otherwise
    /// tables that are missing or old are an error, and a [`Migrator`](crate::Migrator) makes them.
    pub const fn migrate(mut self, yes: bool) -> Self {
        self.schema_change = if yes { SchemaChange::Migrate } else { SchemaChange::Refuse };
        self
    }

    /// Whether a server is accepted that may lose what it acknowledged: one with `fsync`,
    /// `full_page_writes` or `synchronous_commit` off, or with unlogged tables. Default false; when
    /// true they are warned of. Only for tests and for tasks that may get lost.
    pub const fn allow_unsafe_durability(mut self, yes: bool) -> Self {
        self.allow_unsafe_durability = yes;
        self
    }

    /// Connects to the database of a URL such as `postgres://user:password@host/database`, with a
    /// pool of the store's own.
    ///
    /// What the URL leaves out is taken from the environment (`PGHOST`, `PGUSER`, …), as `psql`
    /// does.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`]; nothing was changed, unless a migration is what failed.
    ///
    /// # Cancel safety
    ///
    /// A migration that has begun goes on, and is committed as a whole or not at all.
    pub async fn connect(self, url: &str) -> Result<PostgresStore, ConnectError> {
        connect::by_url(self, url).await.map(PostgresStore::new)
    }

    /// Makes a store of a pool that the application uses too.
    ///
    /// Its sessions are the application's, so that the store configures nothing: the deadline of a
    /// call holds in this process alone. A session that the application left in a transaction is
    /// found out and closed before the store uses it, at the price of one short round trip a call.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    ///
    /// As [`connect`](Self::connect).
    pub async fn from_pool(self, pool: PgPool) -> Result<PostgresStore, ConnectError> {
        connect::by_pool(self, pool).await.map(PostgresStore::new)
    }

    /// Says whether every option is within its range, and what the schema is.
    pub(crate) fn check(&self) -> Result<Schema, ConnectError> {
        let day = DAY;
        let within =
            |value: Duration, least: Duration, most: Duration| (least..=most).contains(&value);
        let millisecond = Duration::from_millis(1);
        let timeout = "not within 1 ms and a day";
        let rules = [
            ("max_connections", self.max_connections >= 2, "less than 2"),
            ("acquire_timeout", within(self.acquire_timeout, millisecond, day), timeout),
            ("statement_timeout", within(self.statement_timeout, millisecond, day), timeout),
            ("lock_timeout", within(self.lock_timeout, millisecond, day), timeout),
            (
                "idle_in_transaction_session_timeout",
                within(self.idle_in_transaction_session_timeout, millisecond, day),
                timeout,
            ),
            (
                "poll_interval",
                within(self.poll_interval, Duration::from_millis(10), Duration::from_secs(3600)),
                "not within 10 ms and an hour",
            ),
            ("journal_bytes_max", self.journal_bytes_max >= 64 << 10, "less than 64 KiB"),
            (
                "journal_age_max",
                within(self.journal_age_max, Duration::from_secs(1), day * 366),
                "not within a second and 366 days",
            ),
            (
                "partition_span",
                within(self.partition_span, DAY / 24, DAY * 366)
                    && self.partition_span.as_nanos().is_multiple_of(60_000_000_000),
                "not whole minutes within an hour and 366 days",
            ),
        ];
        if let Some(&(field, _, reason)) = rules.iter().find(|(_, holds, _)| !holds) {
            return Err(ConnectError::InvalidOption { field, reason: reason.to_owned() });
        }
        Schema::new(&self.schema).ok_or_else(|| ConnectError::InvalidOption {
            field: "schema",
            reason: "not 1 to 48 of a-z, 0-9 and _ without a digit first".to_owned(),
        })
    }
}
