//! Transactions that overlap: each event is read once, whenever its transaction ends.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use ergon_core::{
    Conclusion, Now, TaskEvent, Verdict,
    event::Fact,
    store::{Dispatch as _, Held, Observe as _},
};
use ergon_postgres::EnqueueInTransaction as _;
use sqlx::Connection as _;
use tokio::task::JoinSet;

use super::{Scene, is_told};

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_begins_first_and_ends_last_is_read_once() {
    for limit in [1, 2, 1_000] {
        let Some(scene) = Scene::new().await else { return };
        let mut reader = scene.watch().await;
        let mut early = scene.pool.begin().await.unwrap();
        let enqueue = scene.client.enqueue_json("k", "early");
        let first = enqueue.in_transaction(&scene.store, &mut early).await.unwrap().id();
        let mut told = Vec::new();
        let mut expected = vec![first];
        for _ in 0..4 {
            expected.push(scene.enqueue().await);
            let page = reader.read(limit).await;
            assert!(page.gap.is_none() && page.events.len() <= limit);
            told.extend(page.events);
        }
        told.extend(reader.read_all(limit).await);
        is_told(&told, expected[1..].to_vec());
        early.commit().await.unwrap();
        told.extend(reader.read_all(limit).await);
        is_told(&told, expected);
        assert_eq!(reader.read_all(limit).await, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_goes_on_where_it_was_cut_whatever_ends_meanwhile() {
    let Some(scene) = Scene::new().await else { return };
    let mut reader = scene.watch().await;
    let mut early = scene.pool.begin().await.unwrap();
    let enqueue = scene.client.enqueue_json("k", "early");
    let mut expected = vec![enqueue.in_transaction(&scene.store, &mut early).await.unwrap().id()];
    for _ in 0..5 {
        expected.push(scene.enqueue().await);
    }
    let page = reader.read(2).await;
    assert!(page.more && page.events.len() == 2);
    let mut told = page.events;
    // It has the smallest number of all, and is behind the page all the same.
    early.commit().await.unwrap();
    expected.push(scene.enqueue().await);
    let again = scene.store.changes(&reader.cursor, 2).await.unwrap();
    let page = reader.read(2).await;
    assert_eq!((&again.events, &again.cursor), (&page.events, &page.cursor), "the same again");
    told.extend(page.events);
    told.extend(reader.read_all(2).await);
    is_told(&told, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_at_repeatable_read_that_began_before_the_watch_is_told() {
    let Some(scene) = Scene::new().await else { return };
    let mut old = scene.pool.begin().await.unwrap();
    let begin = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM pg_class LIMIT 1";
    sqlx::raw_sql(begin).execute(&mut *old).await.unwrap();
    let mut reader = scene.watch().await;
    let enqueue = scene.client.enqueue_json("k", "old");
    let id = enqueue.in_transaction(&scene.store, &mut old).await.unwrap().id();
    let after = scene.enqueue().await;
    is_told(&reader.read_all(10).await, [after]);
    old.commit().await.unwrap();
    is_told(&reader.read_all(10).await, [id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_transaction_takes_back_is_not_told() {
    let Some(scene) = Scene::new().await else { return };
    let mut reader = scene.watch().await;
    let (store, client) = (&scene.store, &scene.client);
    let mut transaction = scene.pool.begin().await.unwrap();
    let mut nested = transaction.begin().await.unwrap();
    client.enqueue_json("k", "lost").in_transaction(store, &mut nested).await.unwrap();
    nested.rollback().await.unwrap();
    let mut nested = transaction.begin().await.unwrap();
    let kept = client.enqueue_json("k", "kept").in_transaction(store, &mut nested).await.unwrap();
    nested.commit().await.unwrap();
    transaction.commit().await.unwrap();
    is_told(&reader.read_all(10).await, [kept.id()]);
    let mut transaction = scene.pool.begin().await.unwrap();
    client.enqueue_json("k", "lost").in_transaction(store, &mut transaction).await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(reader.read_all(10).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_task_is_told_with_its_transaction() {
    let Some(scene) = Scene::new().await else { return };
    let h = ergon_testing::harness::Harness::new(scene.store.clone());
    h.create(&h.tasks(3)).await;
    let claimed = h.claim(3).await;
    let mut reader = scene.watch().await;
    let held = |at: usize| Held { id: claimed[at].id, token: claimed[at].token };
    let mut back = scene.pool.begin().await.unwrap();
    let verdict = scene.store.finish_in_transaction(&mut back, held(0), &()).await.unwrap();
    assert_eq!(verdict, Verdict::Applied);
    back.rollback().await.unwrap();
    let mut kept = scene.pool.begin().await.unwrap();
    scene.store.finish_in_transaction(&mut kept, held(1), &()).await.unwrap();
    assert_eq!(reader.read_all(10).await, []);
    kept.commit().await.unwrap();
    let event = reader.event().await;
    assert_eq!(event.task_ref().map(|task| (task.id, task.attempt)), Some((claimed[1].id, 1)));
    assert!(matches!(event.fact, Fact::Task { event: TaskEvent::Completed { .. }, .. }));
    // What was rolled back can be done still.
    let conclusion = Conclusion::Complete { result: None };
    let outcome = ergon_core::Outcome { id: claimed[0].id, token: claimed[0].token, conclusion };
    assert_eq!(scene.store.finish(&[outcome], Now::Store).await.unwrap(), [Verdict::Applied]);
    assert_eq!(reader.event().await.task_ref().map(|task| task.id), Some(claimed[0].id));
}

/// Whether something happens by chance, by a number that nobody foresees.
fn by_chance(of: u128) -> bool {
    uuid::Uuid::from_u128(ergon_core::Rng::next_u64(&ergon_core::SystemRng).into())
        .as_u128()
        .is_multiple_of(of)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_who_commit_and_take_back_at_once_are_told_exactly_once() {
    let Some(scene) = Scene::new().await else { return };
    let mut readers = [scene.watch().await, scene.watch().await];
    let is_over = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for _ in 0..6 {
        let (store, client, pool) = (scene.store.clone(), scene.client.clone(), scene.pool.clone());
        writers.spawn(async move {
            let mut kept = Vec::new();
            for _ in 0..25 {
                if by_chance(3) {
                    kept.push(client.enqueue_json("k", "alone").await.unwrap().id());
                    continue;
                }
                let mut transaction = pool.begin().await.unwrap();
                let mut mine = Vec::new();
                for _ in 0..3 {
                    let mut nested = transaction.begin().await.unwrap();
                    let enqueue = client.enqueue_json("k", "nested");
                    let id = enqueue.in_transaction(&store, &mut nested).await.unwrap().id();
                    if by_chance(3) {
                        nested.rollback().await.unwrap();
                    } else {
                        nested.commit().await.unwrap();
                        mine.push(id);
                    }
                }
                if by_chance(4) {
                    transaction.rollback().await.unwrap();
                } else {
                    transaction.commit().await.unwrap();
                    kept.extend(mine);
                }
            }
            kept
        });
    }
    let following = async {
        let mut told = [Vec::new(), Vec::new()];
        while !is_over.load(Ordering::SeqCst) {
            for ((reader, told), limit) in readers.iter_mut().zip(&mut told).zip([2, 7]) {
                let page = reader.read(limit).await;
                assert_eq!(page.gap, None);
                told.extend(page.events);
            }
        }
        told
    };
    let writing = async {
        let mut kept = Vec::new();
        while let Some(mine) = writers.join_next().await {
            kept.extend(mine.unwrap());
        }
        is_over.store(true, Ordering::SeqCst);
        kept
    };
    let (mut told, kept) = tokio::join!(following, writing);
    for (reader, told) in readers.iter_mut().zip(&mut told) {
        told.extend(reader.read_all(3).await);
        is_told(told, kept.iter().copied());
    }
    let inside = |told: &[ergon_core::store::Recorded]| {
        told.iter().map(|recorded| recorded.id).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(inside(&told[0]), inside(&told[1]), "events are the same for all who read them");
}
