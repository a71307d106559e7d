//! One task where many were asked for: unique by payload, by fields, for a time.
#![expect(clippy::print_stdout, reason = "a program talks to its terminal")]

use std::time::Duration;

use ergon_core::{Client, EnqueueError, Enqueued, Task, TaskError, Unique};
use ergon_redb::RedbStore;
use ergon_server::Server;
use serde::{Deserialize, Serialize};

/// One invoice task for a customer at a time: a second enqueue is answered with the first task,
/// until that is finished.
#[derive(Serialize, Deserialize, Task)]
#[task(output = u64, unique = Unique::by_fields(["customer"]))]
struct Invoice {
    customer: u64,
    requested_by: String,
}

async fn invoice(invoice: Invoice) -> Result<u64, TaskError> {
    Ok(invoice.customer * 100)
}

fn of(customer: u64, by: &str) -> Invoice {
    Invoice { customer, requested_by: by.to_owned() }
}

fn show(what: &str, enqueued: &Enqueued<u64>) {
    println!("{what}: {}", if enqueued.is_duplicate() { "the same task" } else { "a new task" });
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = RedbStore::in_memory()?;
    let client = Client::new(store.clone());

    let first = client.enqueue(of(7, "ada")).await?;
    show("customer 7", &first);
    let second = client.enqueue(of(7, "grace")).await?;
    show("customer 7 again", &second);
    show("customer 8", &client.enqueue(of(8, "ada")).await?);
    assert_eq!(first.id(), second.id());

    // Who does not want to share asks for an error.
    match client.enqueue(of(7, "edsger")).or_error().await {
        Err(EnqueueError::Duplicate { of }) => {
            println!("refused, as the first holds the key: {}", of == first.id());
        }
        other => println!("unexpected: {other:?}"),
    }

    let server = Server::builder(store.clone()).handler(invoice).build()?.start();
    // Both handles wait for the one task.
    println!("results: {} and {}", first.result().await?, second.result().await?);
    show("customer 7 after the end", &client.enqueue(of(7, "ada")).await?);

    // The call can choose otherwise: at most one in an hour, whatever became of it.
    let hourly = || Unique::by_fields(["customer"]).period(Duration::from_secs(3600));
    let paced = client.enqueue(of(9, "ada")).unique(hourly()).await?;
    show("customer 9", &paced);
    paced.result().await?;
    show("customer 9 within the hour", &client.enqueue(of(9, "ada")).unique(hourly()).await?);

    server.shutdown().await;
    store.close().await?;
    Ok(())
}
