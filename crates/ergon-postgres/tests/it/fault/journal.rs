//! Readers of the journal over restarts and crashes of the server.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ergon_cluster::{Mode, Settings};
use ergon_core::{
    EventKind, Now, Page, StoreError, TaskFilter, TaskId, WatcherName,
    limits::PAGE_MAX,
    store::{Cursor, Dispatch as _, Enqueue as _, Inspect as _, Observe as _, Recorded, Watch},
    text::error_chain,
};
use ergon_postgres::PostgresStore;
use tokio::task::JoinSet;

use super::{LONG, claim, completed, healed, millis, options, pause, site, tasks};
use crate::support::beside;

/// Follows the journal until it is told to stop, and everything was read.
async fn follow(
    store: PostgresStore,
    mut cursor: Cursor,
    is_over: Arc<AtomicBool>,
) -> Vec<Recorded> {
    let mut told = Vec::new();
    loop {
        let was_over = is_over.load(Ordering::SeqCst);
        let page = healed(|| store.changes(&cursor, 20)).await;
        assert_eq!(page.gap, None);
        told.extend(page.events);
        cursor = page.cursor;
        if !page.more {
            if was_over {
                return told;
            }
            store.wait_for_changes(&cursor, millis(500)).await;
        }
    }
}

/// Enqueues and runs tasks whatever the server does, until it is told to stop.
async fn work(store: PostgresStore, by: u128, is_over: Arc<AtomicBool>) {
    let may_fail = |result: Result<(), StoreError>| {
        if let Err(error) = result {
            assert!(error.is_transient(), "{}", error_chain(&error));
        }
    };
    while !is_over.load(Ordering::SeqCst) {
        may_fail(store.insert(&tasks(2), Now::Store).await.map(drop));
        match store.claim(&claim(by, 3, LONG)).await {
            Ok(claimed) => {
                may_fail(store.finish(&completed(&claimed), Now::Store).await.map(drop));
            }
            Err(error) => may_fail(Err(error)),
        }
        pause(millis(2)).await;
    }
}

/// Every task that is stored.
async fn stored(store: &PostgresStore) -> BTreeSet<TaskId> {
    let (mut all, mut page) = (BTreeSet::new(), Page::of(PAGE_MAX));
    loop {
        let read = store.list(&TaskFilter::all(), &page, Now::Store).await.unwrap();
        all.extend(read.tasks.iter().map(|task| task.id));
        match read.next {
            Some(next) => page = page.after(next),
            None => return all,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_goes_on_over_crashes_and_restarts_and_misses_nothing() {
    let Some(site) = site(Settings::default()).await else { return };
    let stores = [site.store(options()).await, site.store(options()).await];
    let watch = Watch::durable(WatcherName::new("test").unwrap());
    let watched = stores[0].watch(&watch).await.unwrap();
    let (is_over, is_read) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let mut writers = JoinSet::new();
    for (by, store) in (1..).zip(&stores) {
        writers.spawn(work(store.clone(), by, Arc::clone(&is_over)));
    }
    let follower = follow(stores[1].clone(), watched.cursor, Arc::clone(&is_read));
    let follower = beside(follower);
    for mode in [Mode::Immediate, Mode::Fast, Mode::Immediate, Mode::Immediate] {
        pause(millis(700)).await;
        site.act(|cluster| cluster.restart(mode)).unwrap();
    }
    pause(millis(700)).await;
    is_over.store(true, Ordering::SeqCst);
    writers.join_all().await;
    healed(|| stores[0].queues(Now::Store)).await;
    is_read.store(true, Ordering::SeqCst);
    let told = follower.await.unwrap();
    let distinct: BTreeSet<_> = told.iter().map(|recorded| recorded.id).collect();
    assert_eq!(distinct.len(), told.len(), "an event was read twice");
    let of = |kind: EventKind| -> Vec<TaskId> {
        let events = told.iter().map(|recorded| &recorded.event);
        let events = events.filter(|event| event.kind() == kind);
        events.filter_map(|event| event.task_ref()).map(|task| task.id).collect()
    };
    let enqueued = of(EventKind::TaskEnqueued);
    let distinct: BTreeSet<TaskId> = enqueued.iter().copied().collect();
    assert_eq!(distinct.len(), enqueued.len());
    assert_eq!(distinct, stored(&stores[0]).await);
    let completed = site.number("SELECT coalesce(sum(n), 0) FROM ergon.settled");
    assert_eq!(i64::try_from(of(EventKind::TaskCompleted).len()).unwrap(), completed);
    for store in stores {
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_while_the_server_restarts_hears_of_what_comes_after() {
    let Some(site) = site(Settings::default()).await else { return };
    let (store, other) = (site.store(options()).await, site.store(options()).await);
    let watch = Watch::durable(WatcherName::new("test").unwrap());
    let cursor = store.watch(&watch).await.unwrap().cursor;
    let (reader, place) = (store.clone(), cursor.clone());
    let waiting = beside(async move {
        reader.wait_for_changes(&place, Duration::from_secs(600)).await;
    });
    pause(millis(300)).await;
    site.act(|cluster| cluster.restart(Mode::Fast)).unwrap();
    let batch = tasks(1);
    healed(|| other.insert(&batch, Now::Store)).await;
    tokio::time::timeout(LONG, waiting).await.expect("the wait ends").unwrap();
    let page = healed(|| store.changes(&cursor, 10)).await;
    assert_eq!((page.gap, page.events.len()), (None, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_of_transactions_that_a_crash_gives_again_are_read() {
    let slow = Settings::default().set("wal_writer_delay", "10s").set("autovacuum", "off");
    let Some(site) = site(slow).await else { return };
    let store = site.store(options().listen(false).housekeeping(false)).await;
    let watch = Watch::durable(WatcherName::new("test").unwrap());
    let watched = store.watch(&watch).await.unwrap().cursor;
    for is_latest in [true, false] {
        store.insert(&tasks(1), Now::Store).await.unwrap();
        // They end without waiting for the disk, and nobody would know of them after a crash.
        let forgotten = "SET synchronous_commit = off; \
                         CREATE TABLE IF NOT EXISTS forgotten (); INSERT INTO forgotten DEFAULT VALUES";
        for _ in 0..20 {
            site.act(|cluster| cluster.execute(forgotten)).unwrap();
        }
        let cursor = match is_latest {
            true => store.latest().await.unwrap(),
            false => store.changes(&watched, 100).await.unwrap().cursor,
        };
        site.act(|cluster| cluster.restart(Mode::Immediate)).unwrap();
        let mut expected = BTreeSet::new();
        for _ in 0..10 {
            let batch = tasks(1);
            healed(|| store.insert(&batch, Now::Store)).await;
            expected.insert(batch[0].id);
        }
        let page = store.changes(&cursor, 100).await.unwrap();
        let told = page.events.iter().filter_map(|recorded| recorded.event.task_ref());
        assert_eq!(told.map(|task| task.id).collect::<BTreeSet<_>>(), expected, "{is_latest}");
        assert_eq!((page.gap, page.more), (None, false));
    }
}
