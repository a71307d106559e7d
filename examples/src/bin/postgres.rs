//! The quickstart on Postgres: another store, and nothing else changes.
#![expect(clippy::print_stdout, reason = "a program talks to its terminal")]

use std::time::Duration;

use ergon_core::{Client, Task, TaskError};
use ergon_examples::Database;
use ergon_postgres::PostgresStore;
use ergon_server::{Context, Queue, Server};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(kind = "invoice.print", queue = "paper", output = String, timeout = "30s")]
struct PrintInvoice {
    number: u32,
}

async fn print_invoice(invoice: PrintInvoice, context: Context) -> Result<String, TaskError> {
    if invoice.number == 0 {
        return Err(TaskError::cancel("there is no such invoice")); // not tried again
    }
    Ok(format!("printed invoice {}, by attempt {}", invoice.number, context.attempt()))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let database = Database::open()?; // DATABASE_URL, or a server for the time of this program
    // Makes the tables in the schema `ergon` when they are missing.
    let store = PostgresStore::connect(database.url()).await?;
    let client = Client::new(store.clone());
    let invoice = client.enqueue(PrintInvoice { number: 7 }).await?; // committed now

    // In another process, on another machine, or, as here, in this one.
    let server = Server::builder(store.clone())
        .handler(print_invoice)
        .queue(Queue::new("paper").concurrency(20))
        .build()?
        .start(); // a service calls `.run_until_signal().await?` instead
    println!("{}", invoice.result().within(Duration::from_secs(30)).await?);
    server.shutdown().await; // drains
    store.close().await;
    Ok(())
}
