//! One version of the tables, made or removed in one transaction.

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::{EXISTS, Migration, Migrator, VERSION, VERSION_KNOWN, version_of};
use crate::{
    MigrateError,
    database::{Database, Loan, Statement},
    schema::Schema,
};

const BEGIN: &str = include_str!("../queries/migrate/begin.sql");
const LOCK: &str = include_str!("../queries/migrate/lock.sql");
const FORGET: &str = include_str!("../queries/migrate/forget.sql");
pub(super) const RECORD: &str = include_str!("../queries/migrate/record.sql");
pub(super) const TABLE: &str = include_str!("../queries/migrate/table.sql");

/// What is done to a version.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Up,
    Down,
}

impl Step {
    /// Does it in one transaction, unless it was done.
    pub(super) async fn carry_out(
        self,
        database: &Database,
        schema: &Schema,
        migration: &Migration,
    ) -> Result<(), MigrateError> {
        match self {
            Self::Up => up(database, schema, migration).await,
            Self::Down => down(database, schema, migration).await,
        }
    }
}

/// Makes a version, unless it was made.
async fn up(
    database: &Database,
    schema: &Schema,
    migration: &Migration,
) -> Result<(), MigrateError> {
    let mut transaction = Transaction::begin(database, schema).await?;
    let connection = transaction.loan.connection()?;
    let found = exists(schema).fetch_one(&mut *connection).await?;
    if !found.try_get("has_schema")? {
        // Not with IF NOT EXISTS, which asks for the right to make one even if there is one.
        raw(connection, create_schema(schema)).await?;
    }
    if !found.try_get("has_table")? {
        raw(connection, schema.qualify(TABLE)).await?;
    }
    let found = version_on(connection, schema).await?;
    if found > VERSION_KNOWN {
        return Migrator::check(found);
    }
    if found < migration.version {
        raw(connection, schema.qualify(migration.up)).await?;
        sqlx::query(AssertSqlSafe(schema.qualify(RECORD)))
            .bind(stored(migration))
            .bind(migration.name)
            .persistent(false)
            .execute(&mut *connection)
            .await?;
    }
    transaction.commit().await
}

/// Removes a version, if it is the newest that was made.
async fn down(
    database: &Database,
    schema: &Schema,
    migration: &Migration,
) -> Result<(), MigrateError> {
    let mut transaction = Transaction::begin(database, schema).await?;
    let connection = transaction.loan.connection()?;
    let has_table = exists(schema).fetch_one(&mut *connection).await?.try_get("has_table")?;
    if has_table && version_on(connection, schema).await? == migration.version {
        raw(connection, schema.qualify(migration.down)).await?;
        sqlx::query(AssertSqlSafe(schema.qualify(FORGET)))
            .bind(stored(migration))
            .persistent(false)
            .execute(&mut *connection)
            .await?;
        if migration.version == 1 {
            raw(connection, schema.qualify("DROP TABLE ergon.migration")).await?;
        }
    }
    transaction.commit().await
}

/// Asks whether there are the schema and its table of versions.
pub(super) fn exists(schema: &Schema) -> Statement {
    sqlx::query(EXISTS).bind(schema.name().to_owned()).persistent(false)
}

/// Asks for the version of the tables, given that there is the table of versions.
pub(super) fn version(schema: &Schema) -> Statement {
    sqlx::query(AssertSqlSafe(schema.qualify(VERSION))).persistent(false)
}

async fn version_on(connection: &mut PgConnection, schema: &Schema) -> Result<u32, MigrateError> {
    Ok(version_of(version(schema).fetch_one(connection).await?.try_get("version")?))
}

pub(super) fn create_schema(schema: &Schema) -> String {
    format!("CREATE SCHEMA \"{}\"", schema.name())
}

/// The number of a version as it is stored.
fn stored(migration: &Migration) -> i32 {
    i32::try_from(migration.version).unwrap_or(i32::MAX)
}

async fn raw(connection: &mut PgConnection, sql: String) -> Result<(), MigrateError> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}

/// A transaction that holds the lock of the schema. Its connection is closed unless it is committed,
/// which undoes it.
struct Transaction {
    loan: Loan,
}

impl Transaction {
    async fn begin(database: &Database, schema: &Schema) -> Result<Self, MigrateError> {
        let mut loan = database.acquire().await?;
        let connection = loan.connection()?;
        sqlx::raw_sql(BEGIN).execute(&mut *connection).await?;
        let lock = sqlx::query(LOCK).bind(schema.name()).persistent(false);
        lock.execute(connection).await?;
        Ok(Self { loan })
    }

    async fn commit(mut self) -> Result<(), MigrateError> {
        sqlx::raw_sql("COMMIT").execute(self.loan.connection()?).await?;
        self.loan.give_back();
        Ok(())
    }
}
