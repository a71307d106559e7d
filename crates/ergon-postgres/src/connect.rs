//! Opens a store: the pool, what the server has to be, and the tables.

use std::{str::FromStr, time::Duration};

use ergon_core::{Clock, SystemClock, time::to_micros};
use sqlx::{
    Connection, PgConnection, PgPool, Row,
    postgres::{PgConnectOptions, PgPoolOptions, PgRow},
};
use tokio::time::timeout;

use crate::{
    ConnectError, Migrator, PostgresOptions,
    database::{Database, GRACE, Ownership, Sessions},
    migrate::VERSION_KNOWN,
    options::{Pooling, SchemaChange},
    schema::Schema,
};

/// What the server is, and what it has of the schema.
const SERVER: &str = include_str!("queries/connect/server.sql");

/// The oldest server that will do.
const NEEDED: &str = "13";
const NEEDED_NUMBER: i32 = 130_000;

/// From this difference of the clocks on, in microseconds, one is wrong: times that a client gives
/// are compared with the server's.
const OFFSET_MAX: u64 = 1_000_000;

/// A connection that was idle for longer is asked whether it is alive before it is used; one that
/// was just used is not, which saves a round trip a call.
const TRUSTED: Duration = Duration::from_secs(1);

/// Longest wait for the connection that tells why there was none. Short, since the caller waited.
const LAST_TRY: Duration = Duration::from_secs(1);

/// An open database and the options that it was opened with.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) database: Database,
    pub(crate) schema: Schema,
    pub(crate) options: PostgresOptions,
}

/// Connects with a pool of the store's own.
pub(crate) async fn by_url(options: PostgresOptions, url: &str) -> Result<Connected, ConnectError> {
    let schema = options.check()?;
    let session = session(&options, parse(url)?);
    let pool = pool(&options, session);
    let connected = open(options, schema, pool.clone(), Ownership::Own).await;
    if connected.is_err() {
        pool.close().await;
    }
    connected
}

/// Connects with a pool of the application's.
pub(crate) async fn by_pool(
    options: PostgresOptions,
    pool: PgPool,
) -> Result<Connected, ConnectError> {
    let schema = options.check()?;
    open(options, schema, pool, Ownership::Lent).await
}

fn parse(url: &str) -> Result<PgConnectOptions, ConnectError> {
    let invalid = |reason: String| ConnectError::InvalidOption { field: "url", reason };
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(invalid("does not begin with postgres://".to_owned()));
    }
    PgConnectOptions::from_str(url).map_err(|error| match error {
        // Says what is wrong about the URL without quoting it.
        sqlx::Error::Configuration(source) => invalid(source.to_string()),
        _ => invalid("is not the URL of a database".to_owned()),
    })
}

/// Adds to a URL what every session of the store's own has to be.
fn session(options: &PostgresOptions, mut url: PgConnectOptions) -> PgConnectOptions {
    if url.get_application_name().is_none() {
        url = url.application_name("ergon");
    }
    match options.pooling {
        // A pooler refuses settings that it does not know, and sessions are not ours to configure.
        Pooling::Bouncer => url.statement_cache_capacity(0).extra_float_digits(None),
        Pooling::Direct => {
            let millis = |duration: Duration| format!("{}ms", duration.as_millis());
            let idle = options.idle_in_transaction_session_timeout;
            url.options([
                // What our statements are written for, whatever the role's default.
                ("default_transaction_isolation", "read committed".to_owned()),
                ("statement_timeout", millis(options.statement_timeout + GRACE)),
                ("lock_timeout", millis(options.lock_timeout)),
                ("idle_in_transaction_session_timeout", millis(idle)),
                // Every table that grows is read by its keys, also when the statistics of the planner are old.
                ("enable_seqscan", "off".to_owned()),
                // Planning takes longer than running: the plans do not depend on the arguments.
                ("plan_cache_mode", "force_generic_plan".to_owned()),
                // Compiling takes longer than any of our statements.
                ("jit", "off".to_owned()),
            ])
        }
    }
}

fn pool(options: &PostgresOptions, session: PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(options.max_connections)
        .acquire_timeout(options.acquire_timeout)
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > TRUSTED {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(session)
}

async fn open(
    options: PostgresOptions,
    schema: Schema,
    pool: PgPool,
    ownership: Ownership,
) -> Result<Connected, ConnectError> {
    let sessions = match options.pooling {
        Pooling::Direct => Sessions::Kept,
        Pooling::Bouncer => Sessions::Shared { lock_timeout: options.lock_timeout },
    };
    let database = Database::new(pool, options.statement_timeout, ownership, sessions);
    let server = Server::ask(&database, &schema, &options).await?;
    server.check(&options)?;
    let migrator = Migrator::of(schema.clone());
    let found = match server.has_tables {
        true => migrator.version(&database).await?,
        false => 0,
    };
    if options.schema_change == SchemaChange::Refuse || found > VERSION_KNOWN {
        Migrator::check(found)?;
    } else if found < VERSION_KNOWN {
        migrator.up(database.pool()).await?;
    }
    Ok(Connected { database, schema, options })
}

/// What the server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Server {
    version_number: i32,
    version: String,
    is_read_only: bool,
    fsync: String,
    full_page_writes: String,
    synchronous_commit: String,
    encoding: String,
    /// Tables of the schema that are emptied by a crash.
    unlogged: Option<String>,
    has_tables: bool,
    /// How far its clock is ahead of ours, in microseconds.
    offset: i64,
}

impl Server {
    async fn ask(
        database: &Database,
        schema: &Schema,
        options: &PostgresOptions,
    ) -> Result<Self, ConnectError> {
        let loan = timeout(options.acquire_timeout, database.acquire()).await;
        match loan.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
            Ok(loan) => loan.give_back(),
            Err(error) => return Err(unreachable(database, error).await),
        }
        let before = to_micros(SystemClock.now());
        let statement = sqlx::query(SERVER).bind(schema.name().to_owned()).persistent(false);
        let rows = timeout(options.statement_timeout, database.ask(statement)).await;
        let after = to_micros(SystemClock.now());
        rows.unwrap_or(Err(sqlx::Error::PoolTimedOut))
            .and_then(|rows| Self::read(rows.first(), before.midpoint(after)))
            .map_err(|source| ConnectError::Unreachable { source })
    }

    fn read(row: Option<&PgRow>, asked: i64) -> Result<Self, sqlx::Error> {
        let row = row.ok_or(sqlx::Error::RowNotFound)?;
        Ok(Self {
            version_number: row.try_get("version_number")?,
            version: row.try_get("version")?,
            is_read_only: row.try_get("read_only")?,
            fsync: row.try_get("fsync")?,
            full_page_writes: row.try_get("full_page_writes")?,
            synchronous_commit: row.try_get("synchronous_commit")?,
            encoding: row.try_get("encoding")?,
            unlogged: row.try_get("unlogged")?,
            has_tables: row.try_get("migrated")?,
            offset: row.try_get::<i64, _>("micros")?.saturating_sub(asked),
        })
    }

    fn check(&self, options: &PostgresOptions) -> Result<(), ConnectError> {
        if self.version_number < NEEDED_NUMBER {
            let found = self.version.clone();
            return Err(ConnectError::Unsupported { found, needed: NEEDED });
        }
        if self.is_read_only {
            return Err(ConnectError::ReadOnly);
        }
        if self.encoding != "UTF8" {
            return Err(ConnectError::Encoding { found: self.encoding.clone() });
        }
        if let Some((setting, value)) = self.weakness() {
            if !options.allow_unsafe_durability {
                return Err(ConnectError::NotDurable { setting, value });
            }
            tracing::warn!(setting, value, "the server may lose what it acknowledges");
        }
        if self.offset.unsigned_abs() > OFFSET_MAX {
            let micros = self.offset;
            tracing::warn!(micros, "the clock of the server and that of this machine differ");
        }
        Ok(())
    }

    /// What makes the server lose acknowledged writes when it crashes, if anything does.
    fn weakness(&self) -> Option<(&'static str, String)> {
        let off = [
            ("fsync", &self.fsync),
            ("full_page_writes", &self.full_page_writes),
            ("synchronous_commit", &self.synchronous_commit),
        ];
        let setting = off.into_iter().find(|(_, value)| *value == "off");
        let setting = setting.map(|(setting, value)| (setting, value.clone()));
        setting.or_else(|| Some(("unlogged tables", self.unlogged.clone()?)))
    }
}

/// Says why there is no connection. A pool says only that it was too late, since it waits for servers
/// that are starting; so one more is tried.
async fn unreachable(database: &Database, source: sqlx::Error) -> ConnectError {
    let options = database.connect_options();
    let source = match source {
        sqlx::Error::PoolTimedOut => {
            match timeout(LAST_TRY, Box::pin(PgConnection::connect_with(&options))).await {
                Ok(Err(reason)) => reason,
                Ok(Ok(_)) | Err(_) => source,
            }
        }
        source => source,
    };
    ConnectError::Unreachable { source }
}

#[cfg(test)]
mod tests;
