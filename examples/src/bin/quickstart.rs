//! A task from enqueue to result: the example of the README.
#![expect(clippy::print_stdout, reason = "a program talks to its terminal")]

use std::{io, time::Duration};

use ergon_core::{Client, Task, TaskError};
use ergon_redb::RedbStore;
use ergon_server::{Context, Queue, Server, State};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(kind = "email.send", queue = "mail", output = String, max_attempts = 8, timeout = "30s")]
struct SendEmail {
    to: String,
}

async fn send_email(
    mail: SendEmail,
    State(relay): State<Relay>,
    context: Context,
) -> Result<String, TaskError> {
    if !mail.to.contains('@') {
        return Err(TaskError::cancel("not an address")); // given up
    }
    let receipt = relay.send(&mail.to, &context.idempotency_key()).await?; // any error: tried again
    Ok(receipt)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = RedbStore::open("quickstart.redb").await?; // one file, no server to install
    let client = Client::new(store.clone());
    let mail = client.enqueue(SendEmail { to: "ada@example.com".into() }).priority(10).await?; // on disk

    let server = Server::builder(store.clone())
        .state(Relay)
        .handler(send_email)
        .queue(Queue::new("mail").concurrency(20))
        .build()?;
    let receipt = mail.result().within(Duration::from_secs(30));
    server.run_until(async { println!("{:?}", receipt.await) }).await?; // or .run_until_signal()
    store.close().await?;
    Ok(())
}

#[derive(Clone)]
struct Relay;

impl Relay {
    async fn send(&self, to: &str, key: &str) -> io::Result<String> {
        Ok(format!("sent to {to}, once for {}", key.len())) // your mail service goes here
    }
}
