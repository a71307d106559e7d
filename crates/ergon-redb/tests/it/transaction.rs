//! Enqueues in transactions of the application: together with its rows, or not at all.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ergon_core::{
    Client, EnqueueError, Rejection, State, TaskId, Unique,
    client::{Enqueue, Enqueued},
    store::{Dispatch, QueueChange},
};
use ergon_redb::{EnqueueInTransaction, RedbOptions, RedbStore};
use ergon_testing::{
    VirtualClock,
    harness::{Harness, KIND, claimed_ids, complete, kind, queue},
};
use redb::{
    Database, ReadableDatabase, ReadableTableMetadata, TableDefinition, WriteTransaction,
    backends::InMemoryBackend,
};

use crate::{
    medium::Medium,
    rig::{OnMedium, check, on},
};

const ROWS: TableDefinition<'_, u64, &str> = TableDefinition::new("rows");

/// The clock of the store shows the instant of a harness.
fn options() -> RedbOptions {
    let h = Harness::new(RedbStore::in_memory().unwrap());
    RedbStore::builder().clock(Arc::new(VirtualClock::new(h.instant())))
}

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
        let options = options().window_tasks(1_024);
        let store = options.with_database(Arc::clone(&database)).await.unwrap();
        Self::of(database, store)
    }

    fn of(database: Arc<Database>, store: RedbStore) -> Self {
        let (client, h) = (Client::new(store.clone()), Harness::new(store.clone()));
        Self { database, store, client, h }
    }

    /// Begins a transaction, and writes a row of the application.
    fn begin(&self, row: u64) -> WriteTransaction {
        let transaction = self.database.begin_write().unwrap();
        transaction.open_table(ROWS).unwrap().insert(row, "Ada").unwrap();
        transaction
    }

    fn work(&self) -> Enqueue<serde_json::Value> {
        self.client.enqueue_json(KIND, &serde_json::Value::Null)
    }

    fn add(
        &self,
        task: Enqueue<serde_json::Value>,
        transaction: &WriteTransaction,
    ) -> Enqueued<serde_json::Value> {
        task.in_transaction(&self.store, transaction).unwrap()
    }

    /// Claims, once what was committed is known.
    async fn claim(&self, slots: usize) -> Vec<TaskId> {
        self.h.queues().await;
        claimed_ids(&self.h.claim(slots).await)
    }

    fn rows(&self) -> u64 {
        let transaction = self.database.begin_read().unwrap();
        transaction.open_table(ROWS).map_or(0, |table| table.len().unwrap())
    }

    async fn check(&self) {
        check(&self.store).await;
        self.h.check_counters().await;
    }
}

#[tokio::test]
async fn a_commit_brings_the_task_and_the_rows() {
    let app = App::new().await;
    let transaction = app.begin(1);
    let task = app.add(app.work(), &transaction);
    transaction.commit().unwrap();
    assert_eq!(task.state().await.unwrap(), Some(State::Pending));
    assert_eq!(app.rows(), 1);
    app.check().await;
    assert_eq!(app.claim(9).await, [task.id()]);
    app.check().await;
}

#[tokio::test]
async fn an_abort_brings_neither_and_leaves_no_trace() {
    let app = App::new().await;
    for is_dropped in [true, false] {
        let transaction = app.begin(1);
        let task = app.add(app.work().queue("new").priority(3), &transaction);
        let key = Unique::by_key("k");
        app.add(app.work().queue("newer").unique(key), &transaction);
        if is_dropped {
            drop(transaction);
        } else {
            transaction.abort().unwrap();
        }
        assert_eq!(task.state().await.unwrap(), None);
        assert_eq!((app.rows(), app.h.queues().await.len()), (0, 0));
        app.check().await;
    }
    // Names that were used first in what was aborted are as good as new.
    let later = app.work().queue("newer").unique(Unique::by_key("k")).await.unwrap();
    assert!(!later.is_duplicate());
    let transaction = app.begin(2);
    app.add(app.work().queue("new"), &transaction);
    transaction.commit().unwrap();
    assert_eq!(app.h.queue_info("new").await.counts.total(), 1);
    assert_eq!(app.h.queue_info("newer").await.counts.total(), 1);
    app.check().await;
    app.store.close().await.unwrap();
    let store = RedbStore::with_database(Arc::clone(&app.database)).await.unwrap();
    let again = App::of(Arc::clone(&app.database), store);
    assert_eq!(again.h.queue_info("new").await.counts.total(), 1);
    again.check().await;
}

#[tokio::test]
async fn several_enqueues_of_one_transaction_count_together() {
    let app = App::new().await;
    let holder = app.work().unique(Unique::by_key("taken")).await.unwrap();
    let transaction = app.begin(1);
    let mut ids = BTreeSet::from([holder.id()]);
    for number in 0..5 {
        let name = format!("queue-{}", number % 2);
        let task = app.client.enqueue_json(format!("kind-{number}"), &serde_json::Value::Null);
        ids.insert(app.add(task.queue(name), &transaction).id());
    }
    let later = app.add(app.work().delay(Duration::from_secs(3_600)), &transaction);
    ids.insert(later.id());
    let first = app.add(app.work().unique(Unique::by_key("fresh")), &transaction);
    ids.insert(first.id());
    let inside = app.add(app.work().unique(Unique::by_key("fresh")), &transaction);
    assert!(inside.is_duplicate() && inside.id() == first.id());
    let outside = app.work().unique(Unique::by_key("taken")).or_error();
    let refused = outside.in_transaction(&app.store, &transaction).unwrap_err();
    assert!(matches!(refused, EnqueueError::Duplicate { of } if of == holder.id()));
    let repeated = app.add(app.work().id(first.id()), &transaction);
    assert_eq!(repeated.id(), first.id());
    transaction.commit().unwrap();
    let tasks = app.h.projection().await.tasks;
    assert_eq!(tasks.iter().map(|task| task.id).collect::<BTreeSet<_>>(), ids);
    assert_eq!(later.state().await.unwrap(), Some(State::Scheduled));
    assert_eq!(app.h.queue_info("queue-0").await.counts.total(), 3);
    app.check().await;
    // The key is held as any other, and freed as any other.
    let taken = app.work().unique(Unique::by_key("fresh")).await.unwrap();
    assert!(taken.is_duplicate());
    assert_eq!(app.claim(9).await, [holder.id(), first.id()]);
}

#[tokio::test]
async fn what_cannot_be_taken_is_refused_and_the_transaction_goes_on() {
    let app = App::new().await;
    let transaction = app.begin(1);
    let huge = serde_json::Value::String("x".repeat(2 << 20));
    let refused = app.client.enqueue_json(KIND, &huge).in_transaction(&app.store, &transaction);
    assert!(matches!(refused, Err(EnqueueError::PayloadTooLarge { .. })), "{refused:?}");
    let far = app.work().delay(Duration::from_secs(u64::MAX / 2_000_000));
    let refused = far.in_transaction(&app.store, &transaction).unwrap_err();
    let reason = Rejection::BeyondHorizon { what: "run_at" }.to_string();
    assert!(refused.to_string().contains(&reason), "{refused}");
    let task = app.add(app.work(), &transaction);
    transaction.commit().unwrap();
    assert_eq!(app.claim(9).await, [task.id()]);
    app.check().await;
}

#[tokio::test]
async fn other_writes_wait_for_the_transaction_and_lose_nothing() {
    let app = App::new().await;
    app.h.set_queue("default", QueueChange::pause()).await;
    for commits in [true, false, true] {
        let before = app.h.queue_info("default").await.counts.total();
        let transaction = app.begin(1);
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..5 {
            let h = app.h.clone();
            callers.spawn(async move { h.create(&h.tasks(2)).await });
        }
        tokio::task::yield_now().await;
        app.add(app.work(), &transaction);
        app.add(app.work(), &transaction);
        if commits {
            transaction.commit().unwrap();
        } else {
            transaction.abort().unwrap();
        }
        callers.join_all().await;
        let info = app.h.queue_info("default").await;
        assert_eq!(info.counts.total(), before + 10 + if commits { 2 } else { 0 });
        assert!(info.is_paused);
        app.check().await;
    }
}

#[tokio::test]
async fn a_commit_wakes_those_who_wait_for_work() {
    const LONG: Duration = Duration::from_secs(3_600);
    let app = App::new().await;
    assert!(app.claim(1).await.is_empty());
    let (queues, kinds) = ([queue("default")], [kind(KIND)]);
    let wait = tokio::time::timeout(
        crate::medium::PATIENCE,
        app.store.wait_for_work(&queues, &kinds, LONG),
    );
    let (woken, id) = tokio::join!(wait, async {
        tokio::task::yield_now().await;
        let transaction = app.begin(1);
        let task = app.add(app.work(), &transaction);
        transaction.commit().unwrap();
        task.id()
    });
    woken.expect("a commit of the application wakes who waits");
    assert_eq!(app.claim(1).await, [id]);
}

#[tokio::test]
async fn a_kill_right_after_the_commit_loses_nothing() {
    let medium = Medium::default();
    let rig = OnMedium::open(&medium, options()).await;
    let app = App::of(Arc::clone(&rig.database), rig.store.clone());
    let transaction = app.begin(1);
    let task = app.add(app.work().queue("new").priority(-7), &transaction);
    transaction.commit().unwrap();
    let killed = Medium::new(medium.image());
    let reopened = OnMedium::open(&killed, options()).await;
    let h = on(&app.h, &reopened.store);
    assert_eq!(h.get(task.id()).await.state, State::Pending);
    check(&reopened.store).await;
    let transaction = app.begin(2);
    app.add(app.work().queue("newer"), &transaction);
    drop(transaction);
    let killed = Medium::new(medium.image());
    let reopened = OnMedium::open(&killed, options()).await;
    assert_eq!(on(&app.h, &reopened.store).projection().await.tasks.len(), 1);
    check(&reopened.store).await;
}

#[tokio::test]
async fn an_aborted_enqueue_can_be_repeated_under_its_id() {
    let app = App::new().await;
    for round in 0..100 {
        let id = app.h.id();
        let first = app.begin(round);
        app.add(app.work().id(id).priority(1), &first);
        first.abort().unwrap();
        let second = app.begin(round);
        app.add(app.work().id(id).priority(2), &second);
        second.commit().unwrap();
        assert_eq!(app.claim(9).await, [id], "round {round}");
        assert_eq!(app.claim(9).await, [], "round {round}");
    }
    assert_eq!(app.store.quarantined().await.unwrap(), []);
    app.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_claimed_twice_while_windows_are_refilled() {
    const LEN: usize = 3_000;
    let app = App::new().await;
    let tasks = app.h.tasks(LEN);
    app.h.create(&tasks).await;
    let enqueuer = {
        let app = App::of(Arc::clone(&app.database), app.store.clone());
        tokio::task::spawn_blocking(move || {
            (0..LEN / 4)
                .map(|number| {
                    let transaction = app.begin(u64::try_from(number).unwrap());
                    let task = app.add(app.work(), &transaction);
                    transaction.commit().unwrap();
                    task.id()
                })
                .collect::<Vec<_>>()
        })
    };
    let mut claimed = BTreeSet::new();
    let request = app.h.request(40);
    while claimed.len() < LEN + LEN / 4 {
        for task in app.store.claim(&request).await.unwrap() {
            assert!(claimed.insert(task.id), "{} was claimed twice", task.id);
            let outcome =
                ergon_core::Outcome { id: task.id, token: task.token, conclusion: complete() };
            if claimed.len() % 16 == 0 {
                app.store.finish(&[outcome], app.h.now()).await.unwrap();
            }
        }
        if claimed.len() < LEN {
            continue;
        }
        tokio::task::yield_now().await;
    }
    let enqueued = enqueuer.await.unwrap();
    assert!(enqueued.iter().all(|id| claimed.contains(id)));
    app.check().await;
}
