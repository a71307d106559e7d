//! A schema for each test, which is dropped with it.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use ergon_core::{Clock, SystemClock};
use ergon_postgres::{PostgresOptions, PostgresStore};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, postgres::PgPoolOptions};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// Counts the schemas of this process.
static SCHEMAS: AtomicU32 = AtomicU32::new(0);

/// A schema of one test, not made yet; dropped at its end, however it ends.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) url: String,
    pub(crate) schema: String,
}

/// A schema that nobody else has, if there is a server to be tested with.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
pub(crate) fn sandbox() -> Option<Sandbox> {
    let Ok(url) = std::env::var("DATABASE_URL") else {
        eprintln!("skipped: DATABASE_URL is not set");
        return None;
    };
    let micros = SystemClock.now().as_microsecond();
    let count = SCHEMAS.fetch_add(1, Ordering::Relaxed);
    let schema = format!("ergon_test_{}_{micros}_{count}", std::process::id());
    Some(Sandbox { url, schema })
}

/// The URL of a `PgBouncer` in transaction mode before the same server, if there is one.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
pub(crate) fn pooler() -> Option<String> {
    let url = std::env::var("ERGON_PGBOUNCER_URL").ok();
    if url.is_none() {
        eprintln!("skipped: ERGON_PGBOUNCER_URL is not set");
    }
    url
}

/// A store in a schema of its own, if there is a server to be tested with.
pub(crate) async fn store() -> Option<(Sandbox, PostgresStore)> {
    let sandbox = sandbox()?;
    let store = sandbox.options().connect(&sandbox.url).await.expect("the server is reachable");
    Some((sandbox, store))
}

/// Does something beside the test; dropped, it goes on.
pub(crate) fn beside<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    TaskTracker::new().spawn(work)
}

impl Sandbox {
    /// Options with the schema of this test, and few connections, since many tests run at once.
    pub(crate) fn options(&self) -> PostgresOptions {
        PostgresStore::builder().schema(self.schema.as_str()).max_connections(4)
    }

    /// The URL with something after its `?`.
    pub(crate) fn url_with(&self, parameter: &str) -> String {
        let separator = if self.url.contains('?') { '&' } else { '?' };
        format!("{}{separator}{parameter}", self.url)
    }

    /// A pool as an application has one.
    pub(crate) async fn pool(&self, connections: u32) -> PgPool {
        let options = PgPoolOptions::new().max_connections(connections);
        options.connect(&self.url).await.expect("the server is reachable")
    }

    /// Runs statements in which `ergon.` stands for the schema.
    pub(crate) async fn run(&self, sql: &str) {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        let sql = sql.replace("ergon.", &format!("{}.", self.schema));
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let (url, schema) = (self.url.clone(), self.schema.clone());
        // On a thread of its own, since a test may end on a runtime, where nobody can block.
        let dropped = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let sql = format!("DROP SCHEMA IF EXISTS {schema} CASCADE");
                let mut connection = PgConnection::connect(&url).await?;
                sqlx::raw_sql("SET lock_timeout = '10s'").execute(&mut connection).await?;
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
                // The role of the test, if it has one.
                let sql = format!("DROP ROLE IF EXISTS {schema}_app");
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
                connection.close().await
            })
        });
        // A schema that stays harms nobody, and a panic here would hide the one that matters.
        drop(dropped.join());
    }
}
