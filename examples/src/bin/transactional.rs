//! An application's own write and an enqueue that commit together, or not at all.
#![expect(clippy::print_stdout, reason = "a program talks to its terminal")]

use std::sync::Arc;

use ergon_core::{Client, Manager, Task, TaskError, TaskFilter};
use ergon_redb::{EnqueueInTransaction, RedbStore};
use ergon_server::{Server, State};
use redb::{
    Database, ReadableDatabase, ReadableTableMetadata, TableDefinition, backends::InMemoryBackend,
};
use serde::{Deserialize, Serialize};

const ORDERS: TableDefinition<'_, u64, &str> = TableDefinition::new("orders");

#[derive(Serialize, Deserialize, Task)]
#[task(output = String)]
struct Ship {
    order: u64,
}

/// The handler finds the order: the task would not exist without it.
async fn ship(ship: Ship, State(database): State<Arc<Database>>) -> Result<String, TaskError> {
    let orders = database.begin_read()?.open_table(ORDERS)?;
    let article = orders.get(ship.order)?;
    let article = article.ok_or_else(|| TaskError::fail("no such order"))?;
    Ok(format!("shipped order {}: {}", ship.order, article.value()))
}

async fn show(when: &str, database: &Database, manager: &Manager) -> anyhow::Result<()> {
    let orders = database.begin_read()?.open_table(ORDERS)?.len()?;
    let tasks = manager.tasks().count(&TaskFilter::all()).await?;
    println!("{when}: {orders} orders, {} tasks", tasks.value);
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // A file does as well: `Database::create("app.redb")`.
    let database = Arc::new(Database::builder().create_with_backend(InMemoryBackend::new())?);
    let store = RedbStore::with_database(Arc::clone(&database)).await?;
    let client = Client::new(store.clone());
    let manager = Manager::new(store.clone());

    let transaction = database.begin_write()?;
    transaction.open_table(ORDERS)?.insert(1, "a kettle")?;
    let task = client.enqueue(Ship { order: 1 }).in_transaction(&store, &transaction)?;
    transaction.commit()?;
    show("committed", &database, &manager).await?;

    let transaction = database.begin_write()?;
    transaction.open_table(ORDERS)?.insert(2, "a second thought")?;
    client.enqueue(Ship { order: 2 }).in_transaction(&store, &transaction)?;
    transaction.abort()?;
    show("rolled back", &database, &manager).await?;

    let server = Server::builder(store.clone()).state(database).handler(ship).build()?.start();
    println!("{}", task.result().await?);
    server.shutdown().await;
    store.close().await?;
    Ok(())
}
