//! A task from enqueue to result: the example of the README.
#![expect(clippy::print_stdout, reason = "a program talks to its terminal")]
#![expect(clippy::unused_async, reason = "what stands for a mail service has nothing to wait for")]

use std::{io, time::Duration};

use ergon_core::{Client, Task, TaskError};
use ergon_redb::RedbStore;
use ergon_server::{Context, Queue, Server};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(kind = "email.send", queue = "mail", output = String, max_attempts = 8, timeout = "30s")]
struct SendEmail {
    to: String,
}

async fn send_email(mail: SendEmail, context: Context) -> Result<String, TaskError> {
    if !mail.to.contains('@') {
        return Err(TaskError::cancel("not an address")); // not tried again
    }
    let receipt = deliver(&mail.to, &context.idempotency_key()).await?; // any error: tried again
    Ok(receipt)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = RedbStore::open("quickstart.redb").await?; // one file, no server to install
    let client = Client::new(store.clone());
    let mail = client.enqueue(SendEmail { to: "ada@example.com".into() }).await?; // on disk now

    let server = Server::builder(store.clone())
        .handler(send_email)
        .queue(Queue::new("mail").concurrency(20))
        .build()?
        .start(); // a service calls `.run_until_signal().await?` instead
    println!("{}", mail.result().within(Duration::from_secs(30)).await?);
    server.shutdown().await; // drains
    store.close().await?;
    Ok(())
}

async fn deliver(to: &str, _idempotency_key: &str) -> io::Result<String> {
    Ok(format!("delivered to {to}")) // your mail service goes here
}
