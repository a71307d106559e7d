//! The versions of the tables: made, removed, told, printed.

use std::{future::Future, time::Duration};

use ergon_core::{SystemRng, Timestamp, rng, time::from_micros};
use sqlx::{AssertSqlSafe, PgPool, Row, postgres::PgRow};
use tokio::time::{sleep, timeout};

use crate::{
    MigrateError,
    database::{Database, Ownership, Sessions},
    error::code,
    migrate::step::Step,
    schema::Schema,
};

mod print;
mod step;

const EXISTS: &str = include_str!("queries/migrate/exists.sql");
const STATUS: &str = include_str!("queries/migrate/status.sql");
const VERSION: &str = include_str!("queries/migrate/version.sql");

/// One version of the tables. `ergon.` stands for the schema in its statements.
struct Migration {
    version: u32,
    name: &'static str,
    up: &'static str,
    down: &'static str,
}

/// All versions, from the first on, without gaps.
const MIGRATIONS: [Migration; 1] = [Migration {
    version: 1,
    name: "packs, ranges, leases",
    up: include_str!("../migrations/0001_up.sql"),
    down: include_str!("../migrations/0001_down.sql"),
}];

/// The newest version, which this program works with.
pub(crate) const VERSION_KNOWN: u32 = 1;

/// Most attempts to get the locks, each of which waits 3 s at most.
const ATTEMPTS_MAX: u32 = 10;

/// Longest wait between two attempts. Chosen without measurement: what stood in line behind us
/// proceeds in the meantime.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Longest wait for a lock at an attempt; `begin.sql` says the same.
const LOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest time for one version, in which the server is told to give up after 10 minutes.
const STEP_TIME_MAX: Duration = Duration::from_secs(11 * 60);

/// Makes, changes and removes the tables of one schema.
///
/// A store does it by itself when it is opened, unless it was
/// [told not to](crate::PostgresOptions::migrate). Do it here to let one role own the tables and
/// another, which may change no tables, use them:
///
/// ```no_run
/// # async fn example(owner: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
/// use ergon_postgres::{Migrator, PostgresStore};
///
/// let migrator = Migrator::new("ergon")?;
/// migrator.up(&owner).await?;
/// for statement in migrator.grants("app") {
///     sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&owner).await?;
/// }
///
/// let url = "postgres://app@localhost/app";
/// let store = PostgresStore::builder().migrate(false).connect(url).await?;
/// # drop(store);
/// # Ok(())
/// # }
/// ```
///
/// # Guarantees
///
/// Each version is one transaction under a lock that ends with it: any number of programs may
/// migrate at the same time, and one that dies leaves whole versions. Tables that are newer than
/// this program are never touched.
#[derive(Clone, Debug)]
pub struct Migrator {
    schema: Schema,
}

/// What a schema has, and what this program knows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchemaStatus {
    /// The version of the tables; 0 when there are none.
    pub version: u32,
    /// The newest version that this program knows.
    pub known: u32,
    /// The versions that were made, from the first on.
    pub applied: Vec<AppliedMigration>,
}

/// A version of the tables that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AppliedMigration {
    /// Its number.
    pub version: u32,
    /// What it brought.
    pub name: String,
    /// When it was made, by the server's clock.
    pub applied_at: Timestamp,
}

impl Migrator {
    /// A migrator of this schema, usually `ergon`.
    ///
    /// # Errors
    ///
    /// [`MigrateError::InvalidSchema`].
    pub fn new(schema: &str) -> Result<Self, MigrateError> {
        Schema::new(schema).map(Self::of).ok_or(MigrateError::InvalidSchema)
    }

    pub(crate) const fn of(schema: Schema) -> Self {
        Self { schema }
    }

    /// Makes the tables, or brings them to the newest version; says which that is.
    ///
    /// Makes the schema as well, if it is missing; a role without the right to do so uses one that
    /// somebody else made. Tables that are up to date are found so by reading one row.
    ///
    /// # Errors
    ///
    /// See [`MigrateError`].
    ///
    /// # Cancel safety
    ///
    /// What has begun goes on in the background, and is committed as a whole or not at all.
    pub async fn up(&self, pool: &PgPool) -> Result<u32, MigrateError> {
        let database = database(pool);
        if self.found(&database).await? == VERSION_KNOWN {
            return Ok(VERSION_KNOWN);
        }
        let migrator = self.clone();
        detached(async move {
            for migration in &MIGRATIONS {
                carry_out(Step::Up, &database, &migrator.schema, migration).await?;
            }
            Ok(VERSION_KNOWN)
        })
        .await
    }

    /// Removes the versions after `to`, the newest first; 0 removes all tables, **and all tasks**.
    /// The schema itself stays. Nothing happens if the tables are not newer than `to`.
    ///
    /// # Errors
    ///
    /// See [`MigrateError`].
    ///
    /// # Cancel safety
    ///
    /// As [`up`](Self::up).
    pub async fn down(&self, pool: &PgPool, to: u32) -> Result<(), MigrateError> {
        let database = database(pool);
        let found = self.found(&database).await?;
        let migrator = self.clone();
        detached(async move {
            let undone =
                |migration: &&Migration| migration.version > to && migration.version <= found;
            for migration in MIGRATIONS.iter().rev().filter(undone) {
                carry_out(Step::Down, &database, &migrator.schema, migration).await?;
            }
            Ok(())
        })
        .await
    }

    /// Tells which versions were made. Takes no lock.
    ///
    /// # Errors
    ///
    /// See [`MigrateError`]; a version that this program does not know is none.
    pub async fn status(&self, pool: &PgPool) -> Result<SchemaStatus, MigrateError> {
        let database = database(pool);
        let mut applied = Vec::new();
        if self.exists(&database).await? {
            let status = sqlx::query(AssertSqlSafe(self.schema.qualify(STATUS)));
            for row in unless_gone(database.ask(status).await)? {
                applied.push(AppliedMigration {
                    version: version_of(row.try_get("version")?),
                    name: row.try_get("name")?,
                    applied_at: from_micros(row.try_get("micros")?),
                });
            }
        }
        let version = applied.last().map_or(0, |last| last.version);
        Ok(SchemaStatus { version, known: VERSION_KNOWN, applied })
    }

    /// The statements of [`up`](Self::up) for an empty database, for administrators who run
    /// statements by themselves. They fail as a whole where the tables exist already.
    #[must_use]
    pub fn sql(&self) -> String {
        print::up(&self.schema)
    }

    /// The statements that give a role what it needs to use the store, and nothing else: no right to
    /// change tables, to see other schemas, or to say which version the tables have.
    ///
    /// Run them as the owner of the tables, after each [`up`](Self::up). The role needs the right to
    /// connect as well, which everybody has unless it was revoked.
    #[must_use]
    pub fn grants(&self, role: &str) -> Vec<String> {
        print::grants(&self.schema, role)
    }

    /// The version of the tables; 0 when there are none. Fails when it is not known.
    async fn found(&self, database: &Database) -> Result<u32, MigrateError> {
        let found = match self.exists(database).await? {
            true => self.version(database).await?,
            false => 0,
        };
        if found > VERSION_KNOWN { Self::check(found).map(|()| found) } else { Ok(found) }
    }

    async fn exists(&self, database: &Database) -> Result<bool, MigrateError> {
        let rows = database.ask(step::exists(&self.schema)).await?;
        Ok(rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get("has_table")?)
    }

    /// The version of the tables, given that there was the table of versions a moment ago.
    pub(crate) async fn version(&self, database: &Database) -> Result<u32, MigrateError> {
        let rows = unless_gone(database.ask(step::version(&self.schema)).await)?;
        let version = rows.first().map(|row| row.try_get("version")).transpose()?;
        Ok(version.map_or(0, version_of))
    }

    /// Says whether this program works with tables of this version.
    pub(crate) const fn check(found: u32) -> Result<(), MigrateError> {
        if found > VERSION_KNOWN {
            Err(MigrateError::Newer { found, known: VERSION_KNOWN })
        } else if found < VERSION_KNOWN {
            Err(MigrateError::Older { found, needed: VERSION_KNOWN })
        } else {
            Ok(())
        }
    }
}

/// Any pool may be handed over, with sessions in any state, behind any pooler.
fn database(pool: &PgPool) -> Database {
    let sessions = Sessions::Shared { lock_timeout: LOCK_TIMEOUT };
    Database::new(pool.clone(), STEP_TIME_MAX, Ownership::Lent, sessions)
}

/// No rows, when others removed the table before it was read.
fn unless_gone(rows: Result<Vec<PgRow>, sqlx::Error>) -> Result<Vec<PgRow>, sqlx::Error> {
    match rows {
        Err(error) if code(&error).as_deref() == Some("42P01") => Ok(Vec::new()),
        rows => rows,
    }
}

/// A version as it is stored. Nobody stores negative ones; they would be newer than any known.
fn version_of(stored: i32) -> u32 {
    u32::try_from(stored).unwrap_or(u32::MAX)
}

/// Runs to the end even if whoever waits for it stops waiting.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, MigrateError>> + Send + 'static,
) -> Result<T, MigrateError> {
    #[expect(
        clippy::disallowed_methods,
        reason = "it must outlive its caller, and ends by itself: every step has a limit"
    )]
    let work = tokio::spawn(work);
    // Invariant: nobody aborts the handle, so what fails to join is the end of the runtime.
    work.await.unwrap_or(Err(MigrateError::Interrupted))
}

/// Carries a step out, again and again while others hold the locks that it needs.
async fn carry_out(
    step: Step,
    database: &Database,
    schema: &Schema,
    migration: &Migration,
) -> Result<(), MigrateError> {
    let mut attempt = 1;
    loop {
        let done = timeout(STEP_TIME_MAX, step.carry_out(database, schema, migration)).await;
        let done = done.unwrap_or(Err(MigrateError::Failed { source: sqlx::Error::PoolTimedOut }));
        match done {
            Err(error) if attempt < ATTEMPTS_MAX && lost_against_others(&error) => {
                sleep(rng::duration_up_to(&SystemRng, PAUSE_MAX)).await;
                attempt += 1;
            }
            done => return done,
        }
    }
}

fn lost_against_others(error: &MigrateError) -> bool {
    match error {
        MigrateError::Busy { .. } => true,
        MigrateError::Failed { source } => {
            matches!(code(source).as_deref(), Some("40001" | "40P01"))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
