//! Those who watch are told of transactions of the application: of each that was committed, once.

use std::sync::Arc;

use ergon_core::{
    Client, EventKind, TaskId,
    client::Enqueue,
    store::{Gap, Observe, QueueChange},
};
use ergon_redb::{EnqueueInTransaction, RedbStore};
use ergon_testing::harness::{Harness, KIND, Reader, Told};
use redb::{
    Database, Durability, ReadableDatabase, ReadableTableMetadata, TableDefinition,
    WriteTransaction, backends::InMemoryBackend,
};

use crate::{
    medium::Medium,
    rig::{OnMedium, check, on},
};

const JOURNAL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("ergon.journal");

struct App {
    database: Arc<Database>,
    store: RedbStore,
    client: Client,
    h: Harness,
}

impl App {
    async fn new() -> Self {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let database = Arc::new(database);
        let store = RedbStore::with_database(Arc::clone(&database)).await.unwrap();
        Self::of(database, store)
    }

    fn of(database: Arc<Database>, store: RedbStore) -> Self {
        let (client, h) = (Client::new(store.clone()), Harness::new(store.clone()));
        Self { database, store, client, h }
    }

    fn work(&self) -> Enqueue<serde_json::Value> {
        self.client.enqueue_json(KIND, &serde_json::Value::Null)
    }

    fn add(&self, transaction: &WriteTransaction) -> TaskId {
        self.work().in_transaction(&self.store, transaction).unwrap().id()
    }

    fn begin(&self) -> WriteTransaction {
        self.database.begin_write().unwrap()
    }

    fn entries(&self) -> u64 {
        let table = self.database.begin_read().unwrap().open_table(JOURNAL).unwrap();
        table.len().unwrap()
    }
}

async fn ids(reader: &mut Reader) -> Vec<TaskId> {
    let events = reader.events().await;
    assert!(events.iter().all(|event| event.kind() == EventKind::TaskEnqueued), "{events:?}");
    events.iter().filter_map(|event| Some(event.task_ref()?.id)).collect()
}

#[tokio::test]
async fn a_commit_is_told_and_an_abort_is_not() {
    let app = App::new().await;
    let mut reader = app.h.watch("suite").await;
    let transaction = app.begin();
    let mut added = vec![app.add(&transaction), app.add(&transaction)];
    transaction.commit().unwrap();
    assert_eq!(ids(&mut reader).await, added);
    let transaction = app.begin();
    app.add(&transaction);
    transaction.abort().unwrap();
    assert_eq!(ids(&mut reader).await, []);
    // Between the store's own commits, and twice before it looks.
    added = vec![app.h.insert_one(app.h.task()).await];
    for _ in 0..2 {
        let transaction = app.begin();
        added.push(app.add(&transaction));
        transaction.commit().unwrap();
    }
    added.push(app.h.insert_one(app.h.task()).await);
    let mut read = ids(&mut reader).await;
    read.sort_unstable();
    added.sort_unstable();
    assert_eq!(read, added);
    check(&app.store).await;
}

#[tokio::test]
async fn what_was_answered_is_before_the_end_of_the_journal() {
    let app = App::new().await;
    app.h.watch("suite").await;
    for _ in 0..20 {
        let transaction = app.begin();
        app.add(&transaction);
        transaction.commit().unwrap();
        let mut reader = app.h.reader_at_end().await;
        assert_eq!(ids(&mut reader).await, []);
    }
}

#[tokio::test]
async fn a_commit_ends_a_wait_for_changes() {
    let app = App::new().await;
    let reader = app.h.watch("suite").await;
    let patience = crate::medium::PATIENCE;
    let wait = tokio::time::timeout(patience, reader.wait(patience * 2));
    let (woken, ()) = tokio::join!(wait, async {
        tokio::task::yield_now().await;
        let transaction = app.begin();
        app.add(&transaction);
        transaction.commit().unwrap();
    });
    woken.expect("a commit of the application is news");
    assert_eq!(ids(&mut reader.clone()).await.len(), 1);
}

#[tokio::test]
async fn what_nobody_watches_is_a_gap_and_one_row() {
    let app = App::new().await;
    let mut reader = app.h.reader_at_end().await;
    for _ in 0..5 {
        let transaction = app.begin();
        app.add(&transaction);
        app.add(&transaction);
        transaction.commit().unwrap();
        app.h.queues().await;
    }
    assert_eq!(app.entries(), 1);
    let mut fresh = app.h.watch("suite").await;
    let transaction = app.begin();
    let id = app.add(&transaction);
    transaction.commit().unwrap();
    assert_eq!(ids(&mut fresh).await, [id]);
    let changes = reader.read(9).await;
    assert_eq!((changes.gap, changes.events.len()), (Some(Gap::Unrecorded), 1));
    // Not even an abort hides that something was not told.
    app.h.unwatch("suite").await;
    let transaction = app.begin();
    app.add(&transaction);
    transaction.abort().unwrap();
    let transaction = app.begin();
    app.add(&transaction);
    transaction.commit().unwrap();
    app.h.watch("suite").await;
    app.h.insert_one(app.h.task()).await;
    let (gaps, recorded) = reader.read_over_gaps(9).await;
    assert_eq!((gaps, recorded.len()), (vec![Gap::Unrecorded], 1));
    check(&app.store).await;
}

#[tokio::test]
async fn a_watch_that_waits_for_a_transaction_does_not_hear_of_it() {
    let app = App::new().await;
    app.h.insert_one(app.h.task()).await;
    let transaction = app.begin();
    let h = app.h.clone();
    let mut callers = tokio::task::JoinSet::new();
    callers.spawn(async move { h.watch("suite").await });
    tokio::task::yield_now().await;
    app.add(&transaction);
    transaction.commit().unwrap();
    let mut reader = callers.join_next().await.unwrap().unwrap();
    // It was committed before everything was recorded.
    assert_eq!(ids(&mut reader).await, []);
    let transaction = app.begin();
    let id = app.add(&transaction);
    transaction.commit().unwrap();
    assert_eq!(ids(&mut reader).await, [id]);
}

#[tokio::test]
async fn what_is_shown_of_a_transaction_cannot_vanish() {
    let medium = Medium::default();
    let rig = OnMedium::open(&medium, RedbStore::builder()).await;
    let app = App::of(Arc::clone(&rig.database), rig.store.clone());
    let first = app.h.watch("suite").await;
    for number in 0..10 {
        let mut transaction = app.begin();
        transaction.set_durability(Durability::None).unwrap();
        app.add(&transaction);
        transaction.commit().unwrap();
        let mut reader = first.clone();
        let read = reader.read_all(100).await;
        assert_eq!(read.len(), number + 1);
        // What lies on the medium at the moment of a cut without its unsynced changes.
        let mut history = medium.history();
        let changes = history.len();
        let rng = ergon_testing::SeededRng::new(1);
        let image = history.cut(changes, crate::medium::Loss::All, &rng);
        let after = OnMedium::open(&Medium::new(image), RedbStore::builder()).await;
        let h = on(&app.h, &after.store);
        assert!(h.reader(first.cursor.clone()).read_all(100).await.starts_with(&read));
        let place = after.store.changes(&reader.cursor, 9).await.unwrap();
        assert_eq!(place.gap, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_and_calls_at_once_are_told_in_one_order() {
    const LEN: u64 = 300;
    let app = App::new().await;
    app.h.set_queue("other", QueueChange::pause()).await;
    let mut reader = app.h.watch("suite").await;
    let enqueuer = {
        let app = App::of(Arc::clone(&app.database), app.store.clone());
        tokio::task::spawn_blocking(move || {
            for number in 0..LEN {
                let transaction = app.begin();
                app.add(&transaction);
                if number % 3 == 0 {
                    transaction.abort().unwrap();
                } else {
                    transaction.commit().unwrap();
                }
            }
        })
    };
    // The clock is the machine's, which the tasks of the application are due by.
    let mut request = app.h.request(7);
    request.now = ergon_core::Now::Store;
    let mut told = Told::default();
    let mut done = 0;
    while done < LEN / 3 * 2 {
        for task in app.store_claim(&request).await {
            done += 1;
            let outcome = ergon_core::Outcome {
                id: task.id,
                token: task.token,
                conclusion: ergon_testing::harness::complete(),
            };
            let dispatch = &app.h.store;
            dispatch.finish(&[outcome], ergon_core::Now::Store).await.unwrap();
        }
        reader.events().await.iter().for_each(|event| told.hear(event).unwrap());
    }
    enqueuer.await.unwrap();
    reader.events().await.iter().for_each(|event| told.hear(event).unwrap());
    for task in app.h.projection().await.tasks {
        assert_eq!(told.task(task.id).unwrap().phase, task.progress.phase);
    }
    check(&app.store).await;
}

impl App {
    async fn store_claim(
        &self,
        request: &ergon_core::store::ClaimRequest,
    ) -> Vec<ergon_core::ClaimedTask> {
        self.h.store.claim(request).await.unwrap()
    }
}
