//! What the handlers did, by what they wrote.

use std::time::Duration;

use anyhow::ensure;
use ergon_core::{Manager, State};
use ergon_postgres::PostgresStore;
use sqlx::PgPool;
use tokio::time::sleep;

/// Without a primary key: a second effect of a task shall be seen, not refused.
pub(crate) const TABLES: &str = "DROP SCHEMA IF EXISTS ergon_multi_process CASCADE;
    CREATE SCHEMA ergon_multi_process;
    CREATE TABLE ergon_multi_process.begun (task bigint NOT NULL);
    CREATE TABLE ergon_multi_process.effect (task bigint NOT NULL)";

/// Waits until there are so many effects, and answers how many there are.
pub(crate) async fn wait_for(pool: &PgPool, wanted: i64) -> anyhow::Result<i64> {
    loop {
        let effects = "SELECT count(*) FROM ergon_multi_process.effect";
        let effects = sqlx::query_scalar(effects).fetch_one(pool).await?;
        if effects >= wanted {
            return Ok(effects);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Prints the counts, and fails unless every task took effect exactly once.
pub(crate) async fn report(pool: &PgPool, store: &PostgresStore, tasks: i64) -> anyhow::Result<()> {
    let queues = Manager::new(store.clone()).tasks().queues().await?;
    let (mut all, mut completed) = (0, 0);
    for queue in &queues {
        all += queue.counts.total();
        completed += queue.counts.get(State::Completed);
    }
    println!("enqueued {all} tasks, completed {completed}");

    let counts =
        "SELECT (SELECT count(*) FROM ergon_multi_process.begun), count(*), count(DISTINCT task)
        FROM ergon_multi_process.effect";
    let (begun, effects, affected): (i64, i64, i64) =
        sqlx::query_as(counts).fetch_one(pool).await?;
    println!("handlers began {begun} times: {} of them again", begun - tasks);
    println!("{affected} tasks took effect, {} of them more than once", effects - affected);
    let tasks_stored = u64::try_from(tasks)?;
    ensure!(all == tasks_stored && completed == tasks_stored, "tasks were lost or are not done");
    ensure!(affected == tasks && effects == tasks, "not every task took effect exactly once");
    println!("every task took effect exactly once");
    Ok(())
}
