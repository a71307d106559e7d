//! What becomes of attempts that do not end well: retried, failed for good, cancelled, snoozed.
#![expect(clippy::print_stdout, reason = "a program talks to its terminal")]

use std::time::Duration;

use ergon_core::{Client, RetryPolicy, Task, TaskError};
use ergon_redb::RedbStore;
use ergon_server::{Context, Server};
use serde::{Deserialize, Serialize};

const PAUSE: Duration = Duration::from_millis(20);

/// The policy belongs to the kind; without one it is exponential from 1 s to 1 h, with jitter.
#[derive(Serialize, Deserialize, Task)]
#[task(kind = "visit", output = u16, max_attempts = 3, retry = RetryPolicy::Fixed(PAUSE))]
struct Visit {
    site: String,
}

async fn visit(visit: Visit, context: Context) -> Result<u16, TaskError> {
    match (visit.site.as_str(), context.attempt()) {
        // Any error means: again, after the delay of the policy. So does a panic.
        ("shaky", 1) => Err(std::io::Error::other("connection reset"))?,
        ("shaky", 2) => panic!("a bug in the parser"),
        // The error chooses the delay, as when a server says when to come back.
        ("busy", 1) => Err(TaskError::retry_in(PAUSE * 2, "429 too many requests")),
        // Attempts are used up: failed.
        ("down", _) => Err(TaskError::retry("timed out")),
        // Trying again would not help: failed at once, or called off.
        ("gone", _) => Err(TaskError::fail("404 not found")),
        ("unwanted", _) => Err(TaskError::cancel("robots.txt says no")),
        (_, attempt) => Ok(attempt),
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = RedbStore::in_memory()?;
    let client = Client::new(store.clone());
    let sites = ["shaky", "busy", "down", "gone", "unwanted", "fine"];
    let visits = client.enqueue_many(sites.map(|site| Visit { site: site.to_owned() })).await?;

    let server = Server::builder(store.clone()).handler(visit).build()?.start();
    for (site, visit) in sites.iter().zip(&visits) {
        match visit.result().await {
            Ok(attempt) => println!("{site}: completed by attempt {attempt}"),
            Err(error) => println!("{site}: {error}"),
        }
        // Every failed attempt is kept with the task, up to the newest ten.
        let Some(task) = visit.task().await? else { continue };
        for error in task.progress.errors {
            println!("    attempt {}, {}: {}", error.attempt, error.kind.as_str(), error.message);
        }
    }
    server.shutdown().await;
    store.close().await?;
    Ok(())
}
