//! Client and manager on the reference store.

#![cfg(test)]

use std::{sync::Arc, time::Duration};

use ergon_core::{
    Client, Conclusion, KindName, Now, Outcome, QueueName, ServerId, Task, TaskFilter, TaskId,
    TaskOptions, TaskRecord, Token, Verdict,
    store::{ClaimRequest, Dispatch, Inspect, QueueSlots},
};
use ergon_testing::{CountingIds, MemoryStore, TokioClock};
use serde::{Deserialize, Serialize};

mod enqueue;
mod handle;
mod manager;
mod many;
mod operations;
mod store;
mod views;

const SECOND: Duration = Duration::from_secs(1);

/// A kind that chooses nothing.
#[derive(Serialize, Deserialize, Task)]
#[task(kind = "plain", output = u64)]
struct Plain(u64);

/// A kind that chooses something.
#[derive(Serialize, Deserialize, Task)]
#[task(kind = "mail.send", queue = "mail", priority = 7, max_attempts = 8, tag = "kind")]
struct Mail {
    to: String,
}

/// A task whose payload is no JSON: the keys of its map are no text.
#[derive(Serialize, Deserialize, Task)]
#[task(kind = "unencodable")]
struct Unencodable(std::collections::BTreeMap<(u8, u8), u8>);

fn mail(to: &str) -> Mail {
    Mail { to: to.to_owned() }
}

fn unencodable() -> Unencodable {
    Unencodable([((0, 0), 0)].into())
}

/// A store that goes by the time of the runtime, and a client of it with ids that count.
fn client() -> (Client, MemoryStore) {
    client_with(|builder| builder)
}

fn client_with(
    choose: impl FnOnce(ergon_core::ClientBuilder) -> ergon_core::ClientBuilder,
) -> (Client, MemoryStore) {
    let clock = Arc::new(TokioClock::default());
    let store = MemoryStore::builder().clock(clock.clone()).build();
    let builder = Client::builder(store.clone()).clock(clock).ids(Arc::new(CountingIds::new()));
    (choose(builder).build(), store)
}

async fn read(store: &MemoryStore, id: TaskId) -> TaskRecord {
    store.tasks(&[id], Now::Store).await.unwrap().remove(0).unwrap()
}

async fn stored(store: &MemoryStore) -> u64 {
    store.count(&TaskFilter::all(), Now::Store).await.unwrap().value
}

/// Claims one task of a kind from the default queue, as a server would.
async fn claim(store: &MemoryStore, kind: &str) -> (TaskId, Token) {
    let kinds = [KindName::new(kind).unwrap()];
    let slots = QueueSlots { queue: QueueName::default(), slots: 1 };
    let request = ClaimRequest::new(ServerId::from_u128(1), kinds, [slots]);
    let task = store.claim(&request).await.unwrap().remove(0);
    (task.id, task.token)
}

/// Runs one task of kind `plain` to this end.
async fn run(store: &MemoryStore, conclusion: Conclusion) {
    let (id, token) = claim(store, "plain").await;
    let outcome = Outcome { id, token, conclusion };
    assert_eq!(store.finish(&[outcome], Now::Store).await.unwrap(), [Verdict::Applied]);
}

fn complete(result: &'static str) -> Conclusion {
    Conclusion::Complete { result: Some(result.into()) }
}

/// The options that a queue has in the tests.
fn of_queue() -> TaskOptions {
    TaskOptions::new().priority(2).max_attempts(4).timeout(SECOND).tag("queue")
}
