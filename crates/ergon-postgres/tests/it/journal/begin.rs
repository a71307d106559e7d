//! The beginning of a watch: what is committed after it is recorded, whatever began before.

use std::time::Duration;

use ergon_core::{
    NewTask, Now, TaskId, TaskSpec,
    store::{Enqueue as _, Gap, Inspect as _, Observe as _, Watch},
};
use ergon_postgres::EnqueueInTransaction as _;
use ergon_testing::harness::{kind, watcher};
use tokio::time::timeout;

use super::{LONG, Scene, is_told};
use crate::support::beside;

/// The first number of the locks of ids: see the function `is_free` of the schema.
const ID_LOCKS: i32 = 1_701_996_398;

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_waits_for_statements_that_did_not_see_it() {
    let Some(scene) = Scene::new().await else { return };
    // A single task that is not the first of its pack waits for the lock of its bucket, half way through
    // its statement.
    let id = TaskId::from_parts(1_704_067_200_000, 77, 1);
    let bucket = i32::try_from((id.pack().as_u128() >> 12) % (1 << 16)).unwrap();
    let mut lock = scene.pool.begin().await.unwrap();
    let locking = sqlx::query("SELECT pg_advisory_xact_lock($1, $2)").bind(ID_LOCKS).bind(bucket);
    locking.execute(&mut *lock).await.unwrap();
    let task = NewTask::new(id, TaskSpec::new(kind("k"), "{}"));
    let store = scene.store.clone();
    let inserting = beside(async move { store.insert(&[task], Now::Store).await });
    let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND \
                 classid = 1701996398 AND objid = ";
    let waits = format!("{waits}{bucket}");
    while scene.number(&waits).await == 0 {
        tokio::task::yield_now().await;
    }
    let store = scene.store.clone();
    let mut watching =
        beside(async move { store.watch(&Watch::durable(watcher("test"))).await.unwrap().cursor });
    let early = timeout(Duration::from_millis(200), &mut watching).await;
    assert!(early.is_err(), "the statement goes on");
    lock.rollback().await.unwrap();
    let cursor = watching.await.unwrap();
    // It is not recorded, and was committed before.
    assert!(scene.store.tasks(&[id], Now::Store).await.unwrap()[0].is_some());
    inserting.await.unwrap().unwrap();
    let mut reader = scene.reader(cursor);
    let after = scene.enqueue().await;
    is_told(&reader.read_all(10).await, [after]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_transaction_that_changed_tasks_unrecorded_is_a_gap_once() {
    for keeps in [true, false] {
        let Some(scene) = Scene::new().await else { return };
        let mut old = scene.pool.begin().await.unwrap();
        let enqueue = scene.client.enqueue_json("k", "old");
        enqueue.in_transaction(&scene.store, &mut old).await.unwrap();
        // It is not waited for long.
        let mut reader = timeout(LONG, scene.watch()).await.expect("a watch begins");
        let first = scene.enqueue().await;
        is_told(&reader.read_all(10).await, [first]);
        if keeps {
            old.commit().await.unwrap();
        } else {
            old.rollback().await.unwrap();
        }
        let second = scene.enqueue().await;
        let (gaps, told) = reader.read_over_gaps(1).await;
        assert_eq!(gaps, if keeps { vec![Gap::Unrecorded] } else { vec![] });
        is_told(&told, [second]);
        scene.enqueue().await;
        assert_eq!(reader.read_all(1).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_have_nothing_to_do_with_tasks_are_not_waited_for() {
    let Some(scene) = Scene::new().await else { return };
    let mut other = scene.pool.begin().await.unwrap();
    sqlx::raw_sql("SELECT pg_current_xact_id()").execute(&mut *other).await.unwrap();
    let mut reader = scene.watch().await;
    other.commit().await.unwrap();
    scene.enqueue().await;
    assert_eq!(reader.read_all(10).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_watches_that_begin_at_once_both_wait() {
    let Some(scene) = Scene::new().await else { return };
    let mut old = scene.pool.begin().await.unwrap();
    let enqueue = scene.client.enqueue_json("k", "old");
    let id = enqueue.in_transaction(&scene.store, &mut old).await.unwrap().id();
    let watch = |name: &'static str| {
        let store = scene.store.clone();
        beside(async move { store.watch(&Watch::durable(watcher(name))).await.unwrap().cursor })
    };
    let watches = [watch("one"), watch("other")];
    while scene.number("SELECT count(*) FROM ergon.watcher").await < 2 {
        tokio::task::yield_now().await;
    }
    old.commit().await.unwrap();
    for watching in watches {
        let mut reader = scene.reader(watching.await.unwrap());
        assert!(scene.store.tasks(&[id], Now::Store).await.unwrap()[0].is_some());
        assert_eq!(reader.read_all(10).await, [], "what was not recorded lies before");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_lease_goes_on_without_a_gap_and_a_late_one_begins_anew() {
    let Some(scene) = Scene::new().await else { return };
    let mut reader = scene.watch().await;
    let name = watcher("short");
    for _ in 0..3 {
        scene.store.watch(&Watch::lasting(name.clone(), LONG)).await.unwrap();
    }
    scene.store.unwatch(&watcher("test")).await.unwrap();
    let first = scene.enqueue().await;
    scene.store.watch(&Watch::lasting(name.clone(), LONG)).await.unwrap();
    is_told(&reader.read_all(10).await, [first]);
    scene.sandbox.run("UPDATE ergon.watcher SET until = clock_timestamp()").await;
    scene.enqueue().await;
    scene.store.watch(&Watch::lasting(name, LONG)).await.unwrap();
    let second = scene.enqueue().await;
    let (gaps, told) = reader.read_over_gaps(10).await;
    assert_eq!(gaps, [Gap::Unrecorded]);
    is_told(&told, [second]);
    assert_eq!(scene.number("SELECT count(*) FROM ergon.journal WHERE events = 0").await, 2);
}
