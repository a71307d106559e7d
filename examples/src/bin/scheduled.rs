//! Tasks for later: after a delay, at an instant, not after a deadline, and moved by an operator.
#![expect(clippy::print_stdout, reason = "a program talks to its terminal")]

use std::time::Duration;

use ergon_core::{Client, Clock, Manager, ResultError, SystemClock, Task, TaskError};
use ergon_redb::RedbStore;
use ergon_server::{Context, Server};
use serde::{Deserialize, Serialize};

const SOON: Duration = Duration::from_millis(150);
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Serialize, Deserialize, Task)]
#[task(output = i64)]
struct Remind {
    about: String,
}

/// Answers when it was run, by the clock of the store.
async fn remind(_remind: Remind, context: Context) -> Result<i64, TaskError> {
    Ok(context.claimed_at().as_microsecond())
}

fn about(text: &str) -> Remind {
    Remind { about: text.to_owned() }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = RedbStore::in_memory()?;
    let client = Client::new(store.clone());
    let now = SystemClock.now();

    let delayed = client.enqueue(about("the tea")).delay(SOON).await?;
    let timed = client.enqueue(about("the train")).scheduled_at(now + SOON * 2).await?;
    let late = client.enqueue(about("yesterday")).deadline(now - HOUR).await?;
    let moved = client.enqueue(about("the dentist")).delay(HOUR).await?;
    let dropped = client.enqueue(about("the party")).delay(HOUR).await?;
    if let Some(state) = moved.state().await? {
        println!("the dentist: {state}");
    }

    // Becoming due is no event and no write: nothing has to promote a task whose time has come.
    let server = Server::builder(store.clone()).handler(remind).build()?.start();
    let manager = Manager::new(store.clone());
    println!("the dentist: {:?}", manager.control().reschedule(moved.id(), now).await?);
    println!("the party: {:?}", manager.control().cancel(dropped.id(), "rained off").await?);

    let is_after = |micros: i64, delay: Duration| micros >= (now + delay).as_microsecond();
    println!("the tea had its time: {}", is_after(delayed.result().await?, SOON));
    println!("the train had its time: {}", is_after(timed.result().await?, SOON * 2));
    println!("the dentist came early: {}", !is_after(moved.result().await?, HOUR));
    if let Err(ResultError::Failed { .. }) = late.result().await {
        println!("yesterday: too late");
    }
    if let Err(error) = dropped.result().await {
        println!("the party: {error}");
    }
    server.shutdown().await;
    store.close().await?;
    Ok(())
}
