//! What the tests share: tasks, stores, short ways to look.

use std::{sync::Arc, time::Duration};

use ergon_core::{
    Client, Enqueued, Handle, Manager, Task, TaskError, TaskOptions, TaskRecord, store::IntoStore,
};
use ergon_server::{RunningServer, Server, ServerBuilder};
use ergon_testing::{MemoryStore, TokioClock};
use serde::{Deserialize, Serialize};

/// A second.
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Far longer than anything that works takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20 * 60);

/// A task that answers a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Work {
    pub(crate) number: u32,
}

impl Task for Work {
    const KIND: &'static str = "work";
    type Output = u32;
}

/// A task of another kind that answers nothing.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Chore;

impl Task for Chore {
    const KIND: &'static str = "chore";
    type Output = ();
}

/// A memory store on the clock of the runtime.
pub(crate) fn memory() -> MemoryStore {
    MemoryStore::builder().clock(Arc::new(TokioClock::default())).build()
}

/// Starts a server of one handler, with the defaults.
pub(crate) fn serve<F, Fut>(store: impl IntoStore, work: F) -> RunningServer
where
    F: Fn(Work) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<u32, TaskError>> + Send + 'static,
{
    start(Server::builder(store).handler(work))
}

/// Starts what was built.
pub(crate) fn start<S: Send + Sync + 'static>(builder: ServerBuilder<S>) -> RunningServer {
    builder.build().unwrap().start()
}

/// Enqueues one task of work.
pub(crate) async fn enqueue(store: impl IntoStore, options: TaskOptions) -> Handle<u32> {
    let work = Client::new(store).enqueue(Work { number: 7 }).options(options);
    work.await.unwrap().into_handle()
}

/// Enqueues tasks of work numbered from 0.
pub(crate) async fn enqueue_many(
    store: impl IntoStore,
    count: u32,
    options: TaskOptions,
) -> Vec<Handle<u32>> {
    let works = (0..count).map(|number| Work { number });
    let enqueued = Client::new(store).enqueue_many(works).options(options).await;
    enqueued.unwrap().into_iter().map(Enqueued::into_handle).collect()
}

/// Waits until the task is finished, and reads it.
pub(crate) async fn finished<O>(handle: &Handle<O>, store: impl IntoStore) -> TaskRecord {
    let store = store.into_store();
    assert!(store.wait_for_finish(handle.id(), PATIENCE).await.unwrap(), "it has to finish");
    read(handle, store).await
}

/// Reads the task.
pub(crate) async fn read<O>(handle: &Handle<O>, store: impl IntoStore) -> TaskRecord {
    let manager = Manager::new(store);
    manager.tasks().get(handle.id()).await.unwrap().expect("it has to exist")
}

/// Lets so much time pass.
pub(crate) async fn pass(time: Duration) {
    // The clock is paused: it moves on as soon as nothing else can.
    tokio::time::sleep(time).await;
}
