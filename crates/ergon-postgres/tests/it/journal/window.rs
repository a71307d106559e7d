//! The window of the journal: what left it, and who is told.

use std::time::Duration;

use ergon_core::{Client, store::Gap};

use super::{Scene, is_told};

/// As if it had been recorded two hours earlier.
const AGE: &str = "UPDATE ergon.journal SET recorded_at = recorded_at - interval '2 hours'";

#[tokio::test(flavor = "multi_thread")]
async fn who_is_behind_the_window_is_told_once_and_reads_on() {
    let Some(scene) = Scene::new().await else { return };
    let mut slow = scene.watch().await;
    scene.enqueue().await;
    let mut there = scene.watch().await;
    there.read_all(10).await;
    scene.sandbox.run(AGE).await;
    assert_eq!(scene.store.housekeep().await.unwrap().trimmed, 2);
    let id = scene.enqueue().await;
    let page = slow.read(10).await;
    assert_eq!(page.gap, Some(Gap::Expired));
    is_told(&page.events, [id]);
    assert_eq!(slow.read_all(10).await, []);
    is_told(&there.read_all(10).await, [id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_read_a_part_is_behind_when_the_rest_has_gone() {
    let Some(scene) = Scene::new().await else { return };
    let mut reader = scene.watch().await;
    for _ in 0..4 {
        scene.enqueue().await;
    }
    assert!(reader.read(1).await.more);
    let mut ahead = reader.clone();
    assert!(ahead.read(2).await.more);
    let aged = "WHERE id < (SELECT max(id) FROM ergon.journal)";
    scene.sandbox.run(&format!("{AGE} {aged}")).await;
    scene.store.housekeep().await.unwrap();
    let page = reader.read(10).await;
    assert_eq!((page.gap, page.events.len()), (Some(Gap::Expired), 1));
    assert_eq!(reader.read_all(10).await, []);
    // Everything that went was read.
    assert_eq!(ahead.read_all(10).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_when_its_time_is_over_is_told_as_gone() {
    use ergon_postgres::EnqueueInTransaction as _;

    for keeps in [true, false] {
        let Some(scene) = Scene::new().await else { return };
        let mut reader = scene.watch().await;
        let mut long = scene.pool.begin().await.unwrap();
        let enqueue = scene.client.enqueue_json("k", "long");
        enqueue.in_transaction(&scene.store, &mut long).await.unwrap();
        scene.enqueue().await;
        assert_eq!(reader.read_all(10).await.len(), 1);
        if keeps {
            long.commit().await.unwrap();
        } else {
            long.rollback().await.unwrap();
        }
        scene.sandbox.run(AGE).await;
        scene.store.housekeep().await.unwrap();
        scene.enqueue().await;
        let (gaps, told) = reader.read_over_gaps(10).await;
        assert_eq!(gaps, if keeps { vec![Gap::Expired] } else { vec![] });
        assert_eq!(told.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_keeps_about_as_many_bytes_as_it_may() {
    let Some(scene) = Scene::new().await else { return };
    let mut reader = scene.watch().await;
    let small = scene.sandbox.options().housekeeping(false).journal_bytes_max(64 << 10);
    let small = small.journal_age_max(Duration::from_secs(3600));
    let small = small.connect(&scene.sandbox.url).await.unwrap();
    let fill = "INSERT INTO ergon.journal (at, events, event, note) \
                SELECT now(), 1, '{20}', '[{\"tasks\": 1}]' FROM generate_series(1, 12000)";
    scene.sandbox.run(fill).await;
    let mut last = None;
    for _ in 0..3 {
        last = Some(Client::new(small.clone()).enqueue_json("k", "{}").await.unwrap().id());
    }
    let trimmed = small.housekeep().await.unwrap().trimmed;
    assert!(trimmed > 10_000, "{trimmed}");
    let bytes = scene.number("SELECT sum(pg_column_size(j.*)) FROM ergon.journal j").await;
    assert!((60 << 10..=64 << 10).contains(&bytes), "{bytes}");
    // How a short row is carried within a query makes some bytes of difference.
    let counted = scene.number("SELECT bytes FROM ergon.journal_state").await;
    assert!(bytes.abs_diff(counted) < 64, "{bytes} {counted}");
    assert_eq!(small.housekeep().await.unwrap().trimmed, 0);
    let (gaps, told) = reader.read_over_gaps(1_000).await;
    assert_eq!(gaps, [Gap::Expired]);
    let ids = super::enqueued(&told);
    assert_eq!((ids.len(), ids.last().copied()), (3, last));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_larger_than_the_window_is_kept_until_the_next() {
    let Some(scene) = Scene::new().await else { return };
    let mut reader = scene.watch().await;
    let small = scene.sandbox.options().housekeeping(false).journal_bytes_max(64 << 10);
    let small = small.connect(&scene.sandbox.url).await.unwrap();
    let large = "INSERT INTO ergon.journal (at, events, event, note) SELECT now(), 1, '{20}', \
                 jsonb_build_array(jsonb_build_object('tasks', 1, 'error', \
                   (SELECT string_agg(gen_random_uuid()::text, '') FROM generate_series(1, 5000))))";
    // What a query makes of a row that is stored elsewhere is small: so count it as it was before.
    scene.sandbox.run(large).await;
    scene.sandbox.run("UPDATE ergon.journal_state SET bytes = 1 << 20").await;
    small.housekeep().await.unwrap();
    assert_eq!(reader.read_over_gaps(10).await.1.len(), 1);
}
