//! What one process does, the waits of others hear.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ergon_core::{
    Client, Conclusion, IntoStore as _, KindName, Manager, Now, Outcome, QueueName, ServerId,
    Store, Task, TaskId,
    store::{ClaimRequest, QueueSlots},
};
use ergon_postgres::PostgresStore;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::support::{Sandbox, sandbox};

const HOUR: Duration = Duration::from_secs(3600);

/// Sooner than anybody looks who hears others.
const SOON: Duration = Duration::from_secs(4);

#[derive(Debug, Serialize, Deserialize, Task)]
#[task(kind = "job", queue = "jobs")]
struct Job;

/// Two processes, as far as the database can tell, of which nobody looks for work in vain.
async fn two(sandbox: &Sandbox) -> (PostgresStore, PostgresStore) {
    let options = sandbox.options().poll_interval(HOUR);
    let one = options.clone().connect(&sandbox.url).await.unwrap();
    (one, options.connect(&sandbox.url).await.unwrap())
}

fn queues() -> [QueueName; 1] {
    [QueueName::new("jobs").unwrap()]
}

fn kinds() -> [KindName; 1] {
    [KindName::new("job").unwrap()]
}

fn claim(slots: usize) -> ClaimRequest {
    let [queue] = queues();
    ClaimRequest::new(ServerId::from_u128(1), kinds(), [QueueSlots { queue, slots }])
}

/// Waits for work in a task of its own; answers when there was some.
fn wait_for_work(store: &PostgresStore) -> JoinSet<Instant> {
    let mut waiting = JoinSet::new();
    let store: Arc<dyn Store> = store.clone().into_store();
    waiting.spawn(async move {
        store.wait_for_work(&queues(), &kinds(), HOUR).await;
        Instant::now()
    });
    waiting
}

/// Waits for the end of a task in a task of its own.
fn wait_for_finish(store: &PostgresStore, id: TaskId) -> JoinSet<bool> {
    let mut waiting = JoinSet::new();
    let store: Arc<dyn Store> = store.clone().into_store();
    waiting.spawn(async move { store.wait_for_finish(id, HOUR).await.unwrap() });
    waiting
}

async fn joined<T: 'static>(mut waiting: JoinSet<T>) -> T {
    waiting.join_next().await.unwrap().unwrap()
}

#[tokio::test]
async fn work_that_another_process_brings_ends_a_wait() {
    let Some(sandbox) = sandbox() else { return };
    let (one, other) = two(&sandbox).await;
    let client = Client::new(other.clone());
    for delay in [0, 0, 100] {
        let waiting = wait_for_work(&one);
        let began = Instant::now();
        let delay = Duration::from_millis(delay);
        client.enqueue(Job).delay(delay).await.unwrap();
        let mut heard = joined(waiting).await;
        let one: Arc<dyn Store> = one.clone().into_store();
        while one.claim(&claim(1)).await.unwrap().is_empty() {
            one.wait_for_work(&queues(), &kinds(), HOUR).await;
            heard = Instant::now();
        }
        assert!(heard - began < delay + SOON, "{:?}", heard - began);
    }
    one.close().await;
    other.close().await;
}

#[tokio::test]
async fn what_another_process_releases_or_resumes_ends_a_wait() {
    let Some(sandbox) = sandbox() else { return };
    let (one, other) = two(&sandbox).await;
    let (client, manager) = (Client::new(other.clone()), Manager::new(other.clone()));
    client.enqueue(Job).await.unwrap();
    let other: Arc<dyn Store> = other.into_store();
    let claimed = other.claim(&claim(1)).await.unwrap();
    let waiting = wait_for_work(&one);
    let began = Instant::now();
    let released = claimed.iter().map(|task| Outcome {
        id: task.id,
        token: task.token,
        conclusion: Conclusion::Release,
    });
    other.finish(&released.collect::<Vec<_>>(), Now::Store).await.unwrap();
    assert!(joined(waiting).await - began < SOON);

    let [queue] = queues();
    manager.control().pause_queue(&queue).await.unwrap();
    let waiting = wait_for_work(&one);
    let began = Instant::now();
    manager.control().resume_queue(&queue).await.unwrap();
    assert!(joined(waiting).await - began < SOON);
    one.close().await;
}

#[tokio::test]
async fn a_task_that_another_process_ends_ends_a_wait() {
    let Some(sandbox) = sandbox() else { return };
    let (one, other) = two(&sandbox).await;
    let (client, manager) = (Client::new(other.clone()), Manager::new(other.clone()));
    let other: Arc<dyn Store> = other.into_store();
    let cancelled = client.enqueue(Job).await.unwrap().id();
    let waiting = wait_for_finish(&one, cancelled);
    manager.control().cancel(cancelled, "no need").await.unwrap();
    assert!(joined(waiting).await);

    let completed = client.enqueue(Job).await.unwrap().id();
    let waiting = wait_for_finish(&one, completed);
    let claimed = other.claim(&claim(1)).await.unwrap();
    let done = claimed.iter().map(|task| Outcome {
        id: task.id,
        token: task.token,
        conclusion: Conclusion::Complete { result: None },
    });
    other.finish(&done.collect::<Vec<_>>(), Now::Store).await.unwrap();
    assert!(joined(waiting).await);

    let deleted = client.enqueue(Job).await.unwrap().id();
    let waiting = wait_for_finish(&one, deleted);
    manager.control().delete(deleted).await.unwrap();
    assert!(joined(waiting).await);
    assert!(joined(wait_for_finish(&one, TaskId::MIN)).await);
    one.close().await;
}

#[tokio::test]
async fn without_listening_work_is_found_by_polling() {
    let Some(sandbox) = sandbox() else { return };
    let options = sandbox.options().listen(false).poll_interval(Duration::from_millis(20));
    let one = options.clone().connect(&sandbox.url).await.unwrap();
    let other = options.connect(&sandbox.url).await.unwrap();
    let waiting = wait_for_work(&one);
    let began = Instant::now();
    Client::new(other.clone()).enqueue(Job).await.unwrap();
    assert!(joined(waiting).await - began < SOON);
    one.close().await;
    other.close().await;
}
