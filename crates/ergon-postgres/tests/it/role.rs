//! What a role can do that was given the least that a store needs.

use ergon_postgres::{ConnectError, MigrateError, Migrator, PostgresStore};
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::{Sandbox, sandbox};

/// A role of one test.
struct Role {
    sandbox: Sandbox,
    name: String,
    owner: PgPool,
}

impl Role {
    /// A role that may do nothing, if there is a server to be tested with.
    async fn new() -> Option<Self> {
        let sandbox = sandbox()?;
        let name = format!("{}_app", sandbox.schema);
        sandbox.run(&format!("CREATE ROLE {name} NOSUPERUSER NOCREATEDB NOCREATEROLE")).await;
        let owner = sandbox.pool(2).await;
        Some(Self { sandbox, name, owner })
    }

    async fn grant(&self) {
        let migrator = Migrator::new(&self.sandbox.schema).unwrap();
        for statement in migrator.grants(&self.name) {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&self.owner).await.unwrap();
        }
    }

    /// The URL of a session of this role.
    fn url(&self) -> String {
        self.sandbox.url_with(&format!("options[role]={}", self.name))
    }

    async fn connect(&self) -> Result<PostgresStore, ConnectError> {
        self.sandbox.options().migrate(false).connect(&self.url()).await
    }

    /// The SQLSTATE with which a statement of this role fails, if it fails.
    async fn fails(&self, sql: &str) -> Option<String> {
        let pool = PgPool::connect(&self.url()).await.unwrap();
        let sql = sql.replace("ergon.", &format!("{}.", self.sandbox.schema));
        let error = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.err()?;
        Some(error.as_database_error().unwrap().code().unwrap().into_owned())
    }

    async fn end(self) {
        let (schema, name) = (&self.sandbox.schema, &self.name);
        let sql = format!("DROP SCHEMA IF EXISTS {schema} CASCADE; DROP ROLE {name}");
        self.sandbox.run(&sql).await;
    }
}

#[tokio::test]
async fn a_role_that_was_given_nothing_is_told_so() {
    let Some(role) = Role::new().await else { return };
    Migrator::new(&role.sandbox.schema).unwrap().up(&role.owner).await.unwrap();
    let error = role.connect().await.unwrap_err();
    let is_denied = matches!(&error, ConnectError::Migrate { source: MigrateError::Denied { .. } });
    assert!(is_denied, "{error:?}");
    role.end().await;
}

#[tokio::test]
async fn a_role_without_the_right_to_make_a_schema_uses_one_that_was_made() {
    let Some(role) = Role::new().await else { return };
    let migrator = Migrator::new(&role.sandbox.schema).unwrap();
    let pool = PgPool::connect(&role.url()).await.unwrap();
    let error = migrator.up(&pool).await.unwrap_err();
    assert!(matches!(error, MigrateError::Denied { .. }), "{error:?}");
    let (schema, name) = (&role.sandbox.schema, &role.name);
    role.sandbox.run(&format!("CREATE SCHEMA {schema} AUTHORIZATION {name}")).await;
    assert_eq!(migrator.up(&pool).await.unwrap(), 1);
    pool.close().await;
    role.connect().await.unwrap();
    role.end().await;
}

#[tokio::test]
async fn a_role_with_the_grants_uses_the_tables_and_changes_none() {
    let Some(role) = Role::new().await else { return };
    Migrator::new(&role.sandbox.schema).unwrap().up(&role.owner).await.unwrap();
    role.grant().await;
    role.connect().await.unwrap();
    let denied = Some("42501".to_owned());
    for sql in [
        "CREATE TABLE ergon.mine (x int)",
        "ALTER TABLE ergon.task ADD x int",
        "DROP TABLE ergon.task",
        "TRUNCATE ergon.task",
        "INSERT INTO ergon.migration VALUES (2, 'mine')",
        "DELETE FROM ergon.migration",
    ] {
        assert_eq!(role.fails(sql).await, denied, "{sql}");
    }
    for sql in [
        "SELECT nextval('ergon.token')",
        "INSERT INTO ergon.queue (name) VALUES ('mail')",
        "DELETE FROM ergon.ready",
        "SELECT version FROM ergon.migration",
    ] {
        assert_eq!(role.fails(sql).await, None, "{sql}");
    }
    role.end().await;
}
