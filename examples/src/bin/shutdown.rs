//! How a server ends: nothing is claimed any more, handlers get their time, the rest is given back.
#![expect(clippy::print_stdout, reason = "a program talks to its terminal")]

use std::{future::pending, time::Duration};

use ergon_core::{Client, Task, TaskError};
use ergon_redb::RedbStore;
use ergon_server::{Context, Queue, Server, ServerConfig, State};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, Task)]
#[task(output = String)]
struct Work {
    manner: String,
}

/// Tells which handlers have begun.
type Begun = mpsc::Sender<()>;

async fn work(
    work: Work,
    State(begun): State<Begun>,
    context: Context,
) -> Result<String, TaskError> {
    begun.send(()).await?;
    match work.manner.as_str() {
        // Ends in the grace period.
        "quick" => Ok("done".to_owned()),
        // Ends when it is told to: by an error, since the work is not done.
        "polite" => Err(TaskError::retry(format!("stopped: {:?}", context.cancelled().await))),
        // Has to be dropped.
        _ => pending().await,
    }
}

async fn finish(work: Work, context: Context) -> Result<String, TaskError> {
    Ok(format!("{} is done by attempt {}", work.manner, context.attempt()))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = RedbStore::in_memory()?;
    let client = Client::new(store.clone());
    let manners = ["quick", "polite", "stubborn"];
    let tasks = client.enqueue_many(manners.map(|manner| Work { manner: manner.to_owned() }));
    let tasks = tasks.await?;

    let (begun, mut has_begun) = mpsc::channel(manners.len());
    let config = ServerConfig::new()
        .grace_period(Duration::from_millis(200)) // default 30 s
        .abort_period(Duration::from_millis(100)); // default 5 s
    let server = Server::builder(store.clone())
        .state(begun)
        .handler(work)
        .queue(Queue::new("default"))
        .config(config)
        .build()?;
    // In production: `server.run_until_signal()`, for Ctrl-C and SIGTERM.
    let report = server
        .run_until(async {
            for _ in manners {
                has_begun.recv().await;
            }
        })
        .await?;
    println!("completed {}, given back {}", report.completed, report.released.len());
    println!("nothing is left behind: {}", report.is_clean());
    for (manner, task) in manners.iter().zip(&tasks) {
        let Some(task) = task.task().await? else { continue };
        println!("{manner}: {}, {} attempts spent", task.state, task.progress.attempt);
    }

    // The next server goes on with what was given back; no attempt was spent on it.
    let server = Server::builder(store.clone()).handler(finish).build()?.start();
    for task in &tasks[1..] {
        println!("{}", task.result().await?);
    }
    server.shutdown().await;
    store.close().await?;
    Ok(())
}
