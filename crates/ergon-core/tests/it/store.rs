//! What counts as a store.

use ergon_core::{
    EnqueueError, Manager, NewTask, Outcome, Store, StoreError, TaskPage, WatcherName,
    command::{Applied, Command, Selection},
    document::{Document, DocumentRange, Put, PutVerdict},
    event::ServerEvent,
    filter::{Count, Page},
    record::ClaimedTask,
    report::ClaimReport,
    store::{
        Beat, BeatReply, Capabilities, Changes, Control, Cursor, Enqueue, Inserted, IntoStore,
        Maintain, Observe, PruneRequest, QueueChange, QueueInfo, Report, RescueRequest, Watch,
        Watched, WatcherInfo,
    },
};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_store_and_an_arc_of_one_are_taken_and_shared() {
    let store = MemoryStore::new();
    let shared: Arc<dyn Store> = store.clone().into_store();
    for (number, client) in [
        Client::new(store.clone()),
        Client::new(Arc::new(store.clone())),
        Client::new(Arc::clone(&shared)),
        Client::new(&shared),
    ]
    .into_iter()
    .enumerate()
    {
        client.enqueue(Plain(0)).await.unwrap();
        assert_eq!(stored(&store).await, number as u64 + 1);
    }
    let through_client = Manager::new(Client::new(shared).store());
    assert_eq!(through_client.tasks().count(&TaskFilter::all()).await.unwrap().value, 4);
}

/// A store that answers for one task less than it was given, and can do nothing else.
#[derive(Debug)]
struct Miscounting;

#[async_trait::async_trait]
impl Enqueue for Miscounting {
    async fn insert(&self, tasks: &[NewTask], _: Now) -> Result<Vec<Inserted>, StoreError> {
        Ok(vec![Inserted::Created; tasks.len() - 1])
    }
}

#[async_trait::async_trait]
impl Dispatch for Miscounting {
    async fn claim(&self, _: &ClaimRequest) -> Result<Vec<ClaimedTask>, StoreError> {
        Err(StoreError::Closed)
    }

    async fn finish(&self, _: &[Outcome], _: Now) -> Result<Vec<Verdict>, StoreError> {
        Err(StoreError::Closed)
    }

    async fn beat(&self, _: &Beat) -> Result<BeatReply, StoreError> {
        Err(StoreError::Closed)
    }

    async fn report(&self, _: &[ClaimReport], _: Now) -> Result<Vec<Verdict>, StoreError> {
        Err(StoreError::Closed)
    }

    async fn wait_for_work(&self, _: &[QueueName], _: &[KindName], _: Duration) {}
}

#[async_trait::async_trait]
impl Maintain for Miscounting {
    async fn rescue_expired(&self, _: &RescueRequest) -> Result<Report, StoreError> {
        Err(StoreError::Closed)
    }

    async fn prune(&self, _: &PruneRequest) -> Result<Report, StoreError> {
        Err(StoreError::Closed)
    }
}

#[async_trait::async_trait]
impl Inspect for Miscounting {
    async fn tasks(&self, _: &[TaskId], _: Now) -> Result<Vec<Option<TaskRecord>>, StoreError> {
        Err(StoreError::Closed)
    }

    async fn list(&self, _: &TaskFilter, _: &Page, _: Now) -> Result<TaskPage, StoreError> {
        Err(StoreError::Closed)
    }

    async fn count(&self, _: &TaskFilter, _: Now) -> Result<Count, StoreError> {
        Err(StoreError::Closed)
    }

    async fn queues(&self, _: Now) -> Result<Vec<QueueInfo>, StoreError> {
        Err(StoreError::Closed)
    }

    async fn documents(&self, _: &DocumentRange) -> Result<Vec<Document>, StoreError> {
        Err(StoreError::Closed)
    }

    async fn wait_for_finish(&self, _: TaskId, _: Duration) -> Result<bool, StoreError> {
        Err(StoreError::Closed)
    }
}

#[async_trait::async_trait]
impl Control for Miscounting {
    async fn apply(&self, _: &Selection, _: &Command, _: Now) -> Result<Applied, StoreError> {
        Ok(Applied::default())
    }

    async fn set_queue(&self, _: &QueueName, _: &QueueChange) -> Result<bool, StoreError> {
        Err(StoreError::Closed)
    }

    async fn put(&self, _: &[Put]) -> Result<Vec<PutVerdict>, StoreError> {
        Err(StoreError::Closed)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::none()
    }
}

#[async_trait::async_trait]
impl Observe for Miscounting {
    async fn watch(&self, _: &Watch) -> Result<Watched, StoreError> {
        Err(StoreError::Closed)
    }

    async fn unwatch(&self, _: &WatcherName) -> Result<bool, StoreError> {
        Err(StoreError::Closed)
    }

    async fn watchers(&self) -> Result<Vec<WatcherInfo>, StoreError> {
        Err(StoreError::Closed)
    }

    async fn latest(&self) -> Result<Cursor, StoreError> {
        Err(StoreError::Closed)
    }

    async fn changes(&self, _: &Cursor, _: usize) -> Result<Changes, StoreError> {
        Err(StoreError::Closed)
    }

    async fn wait_for_changes(&self, _: &Cursor, _: Duration) {}

    async fn announce(&self, _: ServerId, _: &ServerEvent) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_answers_for_too_few_is_not_believed() {
    let client = Client::new(Miscounting);
    let is_of_store = |error| matches!(error, EnqueueError::Store { .. });
    assert!(is_of_store(client.enqueue(Plain(1)).await.unwrap_err()));
    assert!(is_of_store(client.enqueue_many([Plain(1), Plain(2)]).await.unwrap_err()));
}
