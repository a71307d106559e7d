//! Calls that make no sense are refused, or harmless.

use std::{sync::Arc, time::Duration};

use ergon_core::{
    Client, EnqueueError, Now, StoreError,
    store::{Dispatch as _, Inspect as _},
};
use ergon_redb::{EnqueueInTransaction as _, RedbStore};
use ergon_testing::harness::{Harness, KIND, kind, queue};
use redb::{Database, backends::InMemoryBackend};

fn database() -> Arc<Database> {
    let database = Database::builder().create_with_backend(InMemoryBackend::new());
    Arc::new(database.unwrap())
}

#[tokio::test]
async fn a_closed_store_of_a_shared_database_does_nothing_any_more() {
    let database = database();
    let store = RedbStore::with_database(Arc::clone(&database)).await.unwrap();
    let h = Harness::new(store.clone());
    let id = h.insert_one(h.task()).await;
    store.close().await.unwrap();
    let is_closed = |outcome| matches!(outcome, Err(StoreError::Closed));
    assert!(is_closed(store.claim(&h.request(1)).await.map(drop)));
    assert!(is_closed(store.tasks(&[id], Now::Store).await.map(drop)));
    assert!(is_closed(store.wait_for_finish(id, Duration::MAX).await.map(drop)));
    let transaction = database.begin_write().unwrap();
    let refused =
        Client::new(store.clone()).enqueue_json(KIND, ()).in_transaction(&store, &transaction);
    assert!(matches!(refused, Err(EnqueueError::Store { source: StoreError::Closed })));
    drop(transaction);
    let again = RedbStore::with_database(database).await.unwrap();
    let h = Harness::new(again);
    assert_eq!(h.claim_one().await.spec.kind, kind(KIND));
}

#[tokio::test]
async fn a_transaction_of_another_database_is_refused() {
    let store = RedbStore::in_memory().unwrap();
    let transaction = database().begin_write().unwrap();
    let refused =
        Client::new(store.clone()).enqueue_json(KIND, ()).in_transaction(&store, &transaction);
    let Err(EnqueueError::InvalidOptions { field, .. }) = refused else {
        unreachable!("a store with a file of its own shares no transaction");
    };
    assert_eq!(field, "transaction");
    assert_eq!(transaction.list_tables().unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn waits_without_end_are_waits() {
    let store = RedbStore::in_memory().unwrap();
    let h = Harness::new(store.clone());
    let mut later = h.task();
    later.run_at = ergon_core::RunAt::After(Duration::from_secs(3_600 * 24 * 3_000));
    let id = h.insert_one(later).await;
    let (queues, kinds) = ([queue("default")], [kind(KIND)]);
    let work = store.wait_for_work(&queues, &kinds, Duration::MAX);
    assert!(tokio::time::timeout(Duration::from_secs(60), work).await.is_err());
    let finish = store.wait_for_finish(id, Duration::MAX);
    assert!(tokio::time::timeout(Duration::from_secs(60), finish).await.is_err());
}
