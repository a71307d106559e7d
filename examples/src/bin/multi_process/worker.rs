//! The role of those who run handlers.

use std::{io, thread, time::Duration};

use ergon_core::{Task, TaskError, Verdict};
use ergon_postgres::PostgresStore;
use ergon_server::{Context, Queue, Server, ServerConfig, State};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio::{sync::oneshot, time::sleep};

/// Something that must not be done twice.
#[derive(Serialize, Deserialize, Task)]
pub(crate) struct Charge {
    pub(crate) number: i64,
}

/// What handlers share. The pool is the application's; the store has its own.
#[derive(Clone)]
struct Accounts {
    pool: PgPool,
    store: PostgresStore,
}

async fn charge(
    charge: Charge,
    State(accounts): State<Accounts>,
    context: Context,
) -> Result<(), TaskError> {
    // Committed by itself, so that it tells how many attempts there were.
    let begun = "INSERT INTO ergon_multi_process.begun VALUES ($1)";
    sqlx::query(begun).bind(charge.number).execute(&accounts.pool).await?;
    sleep(Duration::from_millis(40)).await; // work, in which the process may be killed

    let mut transaction = accounts.pool.begin().await?;
    let effect = "INSERT INTO ergon_multi_process.effect VALUES ($1)";
    sqlx::query(effect).bind(charge.number).execute(&mut *transaction).await?;
    let claim = context.held();
    match accounts.store.finish_in_transaction(&mut transaction, claim, &()).await? {
        // The effect and the end of the task are one.
        Verdict::Applied => transaction.commit().await?,
        // The lease was lost, and another worker has the task.
        _ => transaction.rollback().await?,
    }
    Ok(())
}

/// Runs handlers until the standard input ends.
pub(crate) async fn run(url: &str) -> anyhow::Result<()> {
    let store = crate::store(url).await?;
    let accounts = Accounts { pool: PgPool::connect(url).await?, store: store.clone() };
    let config = ServerConfig::new()
        // So short that what was killed is back soon; the defaults are 30 s and 5 s.
        .lease(Duration::from_secs(2))
        .rescue_interval(Duration::from_millis(500));
    let server = Server::builder(store.clone())
        .state(accounts)
        .handler(charge)
        .queue(Queue::new("default").concurrency(4))
        .config(config)
        .build()?;
    server.run_until(end_of_input()).await?;
    store.close().await;
    Ok(())
}

/// On a thread of its own, since nothing can interrupt a read.
async fn end_of_input() {
    let (ended, is_over) = oneshot::channel();
    thread::spawn(move || {
        // An error is an end as well.
        io::copy(&mut io::stdin(), &mut io::sink()).ok();
        // Nobody waits for it any more when the server has ended by itself.
        ended.send(()).ok();
    });
    is_over.await.ok();
}
