//! Transactions on Postgres: a row and a task that commit together, and a handler whose writes happen
//! exactly once, since they commit together with the end of its task.
#![expect(clippy::print_stdout, reason = "a program talks to its terminal")]

use std::time::Duration;

use ergon_core::{Client, Handle, Manager, RetryPolicy, Task, TaskError, TaskFilter, Verdict};
use ergon_examples::Database;
use ergon_postgres::{EnqueueInTransaction, PostgresStore};
use ergon_server::{Context, Server, State};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

/// What the example leaves behind, which is removed when it begins again.
const TABLES: &str = "DROP SCHEMA IF EXISTS ergon_shop CASCADE;
    CREATE SCHEMA ergon_shop;
    CREATE TABLE ergon_shop.orders (number int PRIMARY KEY, article text NOT NULL, shipped int NOT NULL)";

#[derive(Serialize, Deserialize, Task)]
#[task(output = String, retry = RetryPolicy::Fixed(Duration::from_millis(20)))]
struct Ship {
    order: i32,
}

/// What handlers share. The pool is the application's; the store uses it too.
#[derive(Clone)]
struct Shop {
    pool: PgPool,
    store: PostgresStore,
}

async fn ship(ship: Ship, State(shop): State<Shop>, context: Context) -> Result<String, TaskError> {
    let mut transaction = shop.pool.begin().await?;
    let update = "UPDATE ergon_shop.orders SET shipped = shipped + 1 WHERE number = $1
        RETURNING article";
    // The task would not exist without the order.
    let article: String =
        sqlx::query_scalar(update).bind(ship.order).fetch_one(&mut *transaction).await?;
    if context.attempt() == 1 {
        // Whatever happens before the commit, a crash as well: nothing was written.
        return Err(TaskError::retry("the lights went out"));
    }
    let done = format!("shipped order {}: {article}, by attempt {}", ship.order, context.attempt());

    // The last statement: from the commit on the task is completed, and never without it.
    let verdict = shop.store.finish_in_transaction(&mut transaction, context.held(), &done).await?;
    if verdict == Verdict::Applied {
        transaction.commit().await?;
    } else {
        // Another server runs the task, or it was cancelled: what was written here must not count.
        transaction.rollback().await?;
    }
    Ok(done)
}

/// Takes an order, and enqueues what is to be done about it, in one transaction.
async fn order(shop: &Shop, number: i32, article: &str) -> anyhow::Result<Handle<String>> {
    let mut transaction = shop.pool.begin().await?;
    let insert = "INSERT INTO ergon_shop.orders VALUES ($1, $2, 0)";
    sqlx::query(insert).bind(number).bind(article).execute(&mut *transaction).await?;
    let client = Client::new(shop.store.clone());
    let enqueue = client.enqueue(Ship { order: number });
    let task = enqueue.in_transaction(&shop.store, &mut transaction).await?;
    anyhow::ensure!(number < 2, "out of {article}"); // without a commit: rolled back
    transaction.commit().await?;
    Ok(task.into_handle())
}

async fn show(when: &str, shop: &Shop) -> anyhow::Result<()> {
    let tasks = Manager::new(shop.store.clone()).tasks().count(&TaskFilter::all()).await?;
    let count = "SELECT count(*) FROM ergon_shop.orders";
    let orders: i64 = sqlx::query_scalar(count).fetch_one(&shop.pool).await?;
    println!("{when}: {orders} orders, {} tasks", tasks.value);
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let database = Database::open()?; // DATABASE_URL, or a server for the time of this program
    let pool = PgPool::connect(database.url()).await?;
    sqlx::raw_sql(TABLES).execute(&pool).await?;
    // An application would leave the schema at its default, `ergon`.
    let store = PostgresStore::builder().schema("ergon_shop").from_pool(pool.clone()).await?;
    let shop = Shop { pool, store };

    let task = order(&shop, 1, "a kettle").await?;
    show("committed", &shop).await?;
    if let Err(error) = order(&shop, 2, "teapots").await {
        show(&format!("rolled back, {error}"), &shop).await?;
    }

    let server = Server::builder(shop.store.clone()).state(shop.clone()).handler(ship);
    let server = server.build()?.start();
    println!("{}", task.result().await?);
    let shipped = "SELECT shipped FROM ergon_shop.orders WHERE number = 1";
    let shipped: i32 = sqlx::query_scalar(shipped).fetch_one(&shop.pool).await?;
    println!("times that order 1 was shipped: {shipped}");
    server.shutdown().await;
    shop.store.close().await;
    Ok(())
}
