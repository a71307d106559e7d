//! Who is first: by priority within a queue, by priority and weight among queues.
#![expect(clippy::print_stdout, reason = "a program talks to its terminal")]

use ergon_core::{Client, Task, TaskError};
use ergon_redb::RedbStore;
use ergon_server::{Context, Queue, Server, ServerConfig};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
struct Say {
    words: String,
}

async fn say(say: Say, context: Context) -> Result<(), TaskError> {
    println!("{}: {} (priority {})", context.queue(), say.words, context.priority());
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = RedbStore::in_memory()?;
    let client = Client::new(store.clone());
    let mut said = Vec::new();
    for (queue, priority, words) in [
        ("reports", 0, "the monthly report"),
        ("default", -10, "when there is time"),
        ("default", 0, "first come"),
        ("default", 0, "first served"),
        ("default", 10, "the house is on fire"),
        ("reports", i16::MAX, "the yearly report"),
    ] {
        let say = Say { words: words.to_owned() };
        said.push(client.enqueue(say).queue(queue).priority(priority).await?);
    }

    // One attempt at a time, to see the order. A task's priority counts within its queue; which
    // queue is served first is the server's choice. Queues of the same priority share by weight.
    let server = Server::builder(store.clone())
        .handler(say)
        .queue(Queue::new("reports").weight(1))
        .queue(Queue::new("default").priority(1).weight(3))
        .config(ServerConfig::new().concurrency(1))
        .build()?
        .start();
    for said in said {
        said.result().await?;
    }
    server.shutdown().await;
    store.close().await?;
    Ok(())
}
