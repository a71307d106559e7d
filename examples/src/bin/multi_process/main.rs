//! Many processes on one queue, some of them killed at any moment: each task takes effect exactly once.
//!
//! The program starts itself again in other roles: one process enqueues, three run handlers. Workers
//! are killed without warning and replaced. At the end the effects are counted.
#![expect(clippy::print_stdout, reason = "a program talks to its terminal")]

mod audit;
mod process;
mod worker;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum};
use ergon_core::Client;
use ergon_examples::Database;
use ergon_postgres::PostgresStore;
use rand::RngExt as _;
use sqlx::PgPool;

use crate::{process::Process, worker::Charge};

const WORKERS: usize = 3;

/// Longest time for all of it.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Parser)]
struct Args {
    /// Tasks that are enqueued
    #[arg(long, default_value_t = 2_000)]
    tasks: i64,
    /// How often a worker is killed
    #[arg(long, default_value_t = 8)]
    kills: usize,
    /// What this process does; the main one starts the others
    #[arg(long, hide = true, value_enum, default_value_t = Role::Main)]
    role: Role,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    Main,
    Enqueue,
    Work,
}

/// The store as every process opens it.
async fn store(url: &str) -> anyhow::Result<PostgresStore> {
    // An application would leave the schema at its default, `ergon`.
    Ok(PostgresStore::builder().schema("ergon_multi_process").connect(url).await?)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let database = Database::open()?; // DATABASE_URL, or a server for the time of this program
    match args.role {
        Role::Main => {
            let run = run(&args, database.url());
            tokio::time::timeout(PATIENCE, run).await.context("finish within two minutes")?
        }
        Role::Enqueue => enqueue(&args, database.url()).await,
        Role::Work => worker::run(database.url()).await,
    }
}

/// The role of those who only enqueue: they need no handlers and no server.
async fn enqueue(args: &Args, url: &str) -> anyhow::Result<()> {
    let store = store(url).await?;
    let client = Client::new(store.clone());
    for number in 1..=args.tasks {
        client.enqueue(Charge { number }).await?; // one commit each
    }
    store.close().await;
    Ok(())
}

/// Starts the others, kills some of them, and looks at what came of it.
async fn run(args: &Args, url: &str) -> anyhow::Result<()> {
    let pool = PgPool::connect(url).await?;
    sqlx::raw_sql(audit::TABLES).execute(&pool).await?;
    let store = store(url).await?; // makes the tables of the store

    let mut enqueuer = Process::start(Role::Enqueue, args, url)?;
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        workers.push(Process::start(Role::Work, args, url)?);
    }
    // The moments of the kills, as numbers of tasks that are done by then.
    let mut kills: Vec<i64> =
        (0..args.kills).map(|_| rand::rng().random_range(0..args.tasks.max(1))).collect();
    kills.sort_unstable();
    for moment in kills {
        let done = audit::wait_for(&pool, moment).await?;
        let chosen = rand::rng().random_range(0..WORKERS);
        workers[chosen].kill()?;
        println!("{done} tasks done: killed worker {}", workers[chosen].id());
        workers[chosen] = Process::start(Role::Work, args, url)?;
    }
    ensure!(enqueuer.end()?.success(), "the process that enqueues failed");
    audit::wait_for(&pool, args.tasks).await?;
    for worker in &mut workers {
        ensure!(worker.end()?.success(), "a worker failed");
    }
    audit::report(&pool, &store, args.tasks).await?;
    store.close().await;
    Ok(())
}
