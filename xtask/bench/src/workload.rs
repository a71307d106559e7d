//! The task that does nothing, and filling a queue with it.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use ergon_core::{Client, Now, State, Store, Task, TaskError, store::StateCounts};
use serde::{Deserialize, Serialize};
use tokio::{runtime::Runtime, task::JoinSet};

/// Bytes of a [`Noop`] as it is stored, about; the digits of its number vary.
pub(crate) const PAYLOAD_BYTES: usize = 100;

/// What makes a payload about as long as one that carries something.
const PADDING: &str = "0123456789012345678901234567890123456789012345678901234567890123456789012";

/// A task that does nothing.
#[derive(Serialize, Deserialize)]
pub(crate) struct Noop {
    pub(crate) number: u64,
    padding: String,
}

impl Task for Noop {
    const KIND: &'static str = "bench.noop";
    type Output = ();
}

impl Noop {
    pub(crate) fn new(number: u64) -> Self {
        Self { number, padding: PADDING.to_owned() }
    }

    /// The bytes that are stored of it.
    pub(crate) fn payload(number: u64) -> Vec<u8> {
        serde_json::to_vec(&Self::new(number)).unwrap_or_default()
    }
}

/// What a handler answers when all is well.
pub(crate) type Done = Result<(), TaskError>;

/// Enqueues so many tasks in large batches.
pub(crate) async fn fill(client: &Client, tasks: u64) -> Result<()> {
    enqueue_batches(client, tasks, 10_000).await
}

/// Enqueues so many tasks, batch by batch.
pub(crate) async fn enqueue_batches(client: &Client, tasks: u64, batch: u64) -> Result<()> {
    let mut from = 0;
    while from < tasks {
        let to = std::cmp::min(from + batch, tasks);
        client.enqueue_many((from..to).map(Noop::new)).await.context("enqueue a batch")?;
        from = to;
    }
    Ok(())
}

/// How long so many callers of one client need for so many enqueues each, one at a time.
pub(crate) async fn enqueue_by(client: &Client, callers: u64, of_each: u64) -> Result<Duration> {
    let mut running = JoinSet::new();
    let began = Instant::now();
    for _ in 0..callers {
        let client = client.clone();
        running.spawn(async move {
            for number in 0..of_each {
                client.enqueue(Noop::new(number)).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.context("a caller panicked")??;
    }
    Ok(began.elapsed())
}

/// How long so many callers of one client need for so many tasks each, batch by batch.
pub(crate) async fn enqueue_batches_by(
    client: &Client,
    callers: u64,
    of_each: u64,
    batch: u64,
) -> Result<Duration> {
    let mut running = JoinSet::new();
    let began = Instant::now();
    for _ in 0..callers {
        let client = client.clone();
        running.spawn(async move { enqueue_batches(&client, of_each, batch).await });
    }
    while let Some(ended) = running.join_next().await {
        ended.context("a caller panicked")??;
    }
    Ok(began.elapsed())
}

/// The tasks of all queues by state.
pub(crate) async fn counts(store: &dyn Store) -> Result<StateCounts> {
    let mut counts = StateCounts::default();
    for queue in store.queues(Now::Store).await? {
        for state in State::ALL {
            counts.add(state, queue.counts.get(state));
        }
    }
    Ok(counts)
}

/// Waits until so many tasks are completed, durably.
pub(crate) async fn wait_for_completed(store: &dyn Store, tasks: u64) -> Result<()> {
    loop {
        let counts = counts(store).await?;
        let completed = counts.get(State::Completed);
        ensure!(completed <= tasks, "{completed} tasks are completed of {tasks}");
        if completed == tasks {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Runs a future to its end on a runtime of its own, so that measures do not warm each other up.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    Runtime::new().context("start the runtime")?.block_on(future)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_about_as_long_as_it_says() {
        for number in [0, 1_999_999] {
            let len = Noop::payload(number).len();
            assert!(len.abs_diff(PAYLOAD_BYTES) <= 5, "{len}");
        }
    }
}
