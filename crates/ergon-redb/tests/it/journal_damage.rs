//! A journal that is damaged, and a file that has none yet.

use std::path::Path;

use ergon_core::{
    EventKind, TaskId,
    store::{Gap, Watch},
};
use ergon_redb::RedbStore;
use ergon_testing::harness::{Reader, watcher};
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use crate::{
    journal::{again, work},
    rig::Rig,
};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("ergon.meta");
const JOURNAL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("ergon.journal");
const WATCHER: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("ergon.watcher");
const STARTED: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("ergon.started");

/// Changes a file that nobody has open.
fn change(path: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

/// A store with ten entries, closed; and a reader from before the first.
async fn ten_entries() -> (Rig, Reader, Vec<TaskId>) {
    let rig = Rig::new().await;
    let reader = rig.h.watch("suite").await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(rig.h.insert_one(rig.h.task()).await);
    }
    rig.store.close().await.unwrap();
    (rig, reader, ids)
}

/// Damages an entry, and reads over it.
async fn read_over_damage(number: u64, damage: fn(&mut Vec<u8>)) {
    let (mut rig, reader, ids) = ten_entries().await;
    change(&rig.path, |transaction| {
        let mut table = transaction.open_table(JOURNAL).unwrap();
        let mut record = table.get(number).unwrap().unwrap().value().to_vec();
        damage(&mut record);
        table.insert(number, record.as_slice()).unwrap();
    });
    rig.reopen().await;
    let (gaps, recorded) = again(&rig, &reader).read_over_gaps(3).await;
    let at = usize::try_from(number - 1).unwrap();
    let expected: Vec<_> = [&ids[..at], &ids[at + 1..]].concat();
    let read: Vec<_> = recorded.iter().filter_map(|it| Some(it.event.task_ref()?.id)).collect();
    assert_eq!((gaps, read), (vec![Gap::Unrecorded], expected), "entry {number}");
    let problems = rig.store.check().await.unwrap().problems;
    assert!(problems.iter().any(|it| it.contains("journal")), "{problems:?}");
    // Everything goes on, and numbers are given on.
    let mut end = rig.h.reader_at_end().await;
    let id = rig.h.insert_one(rig.h.task()).await;
    let recorded = end.read_all(1).await;
    assert_eq!(recorded[0].event.task_ref().unwrap().id, id);
    assert_eq!(recorded[0].id.entry, 11);
    assert_eq!(rig.h.claim(20).await.len(), 11);
}

#[tokio::test]
async fn an_entry_that_does_not_read_back_is_a_gap() {
    for number in [1, 5, 10] {
        read_over_damage(number, |record| *record.last_mut().unwrap() ^= 1).await;
        read_over_damage(number, |record| record.truncate(9)).await;
        read_over_damage(number, Vec::clear).await;
        read_over_damage(number, |record| record[0] = 7).await;
    }
}

#[tokio::test]
async fn entries_that_are_missing_are_a_gap() {
    let (mut rig, reader, ids) = ten_entries().await;
    change(&rig.path, |transaction| {
        let mut table = transaction.open_table(JOURNAL).unwrap();
        for number in [4, 5] {
            table.remove(number).unwrap();
        }
    });
    rig.reopen().await;
    let (gaps, recorded) = again(&rig, &reader).read_over_gaps(2).await;
    assert_eq!((gaps, recorded.len()), (vec![Gap::Unrecorded], 8));
    assert_eq!(recorded[3].event.task_ref().unwrap().id, ids[5]);
    assert!(!rig.store.check().await.unwrap().problems.is_empty());
}

#[tokio::test]
async fn a_window_that_holds_damage_is_trimmed_all_the_same() {
    let (mut rig, reader, _) = ten_entries().await;
    change(&rig.path, |transaction| {
        let mut table = transaction.open_table(JOURNAL).unwrap();
        for number in [1, 2, 9] {
            table.insert(number, [7; 40].as_slice()).unwrap();
        }
    });
    rig.kill_with(|options| options.journal_bytes_max(64 << 10)).await;
    for _ in 0..100 {
        rig.h.create(&rig.h.tasks(200)).await;
    }
    let (gaps, recorded) = again(&rig, &reader).read_over_gaps(10_000).await;
    assert_eq!(gaps, [Gap::Expired]);
    assert!(!recorded.is_empty());
    rig.check().await;
}

#[tokio::test]
async fn a_watcher_that_does_not_read_back_watches_on() {
    let (mut rig, reader, _) = ten_entries().await;
    change(&rig.path, |transaction| {
        let mut table = transaction.open_table(WATCHER).unwrap();
        table.insert("suite", [0].as_slice()).unwrap();
    });
    rig.reopen().await;
    rig.h.insert_one(rig.h.task()).await;
    assert_eq!(again(&rig, &reader).events().await.len(), 11);
    assert!(!rig.h.watch_by(&Watch::durable(watcher("suite"))).await.is_resumed);
}

/// Makes a file of format 1 of one that nobody has open.
fn downgrade(path: &Path) {
    change(path, |transaction| {
        transaction.delete_table(JOURNAL).unwrap();
        transaction.delete_table(WATCHER).unwrap();
        let mut meta = transaction.open_table(META).unwrap();
        meta.insert("format", 1).unwrap();
        meta.remove("journal").unwrap();
        let mut started = transaction.open_table(STARTED).unwrap();
        let noted: Vec<[u8; 16]> =
            started.iter().unwrap().map(|row| *row.unwrap().0.value()).collect();
        for id in noted {
            started.insert(&id, [].as_slice()).unwrap();
        }
    });
}

#[tokio::test]
async fn a_file_of_the_format_before_is_upgraded() {
    let mut rig = Rig::new().await;
    // Careful from here on: a claim is written down.
    rig.kill().await;
    work(&rig.h).await;
    let running = rig.h.claim(9).await;
    let before = rig.h.projection().await;
    let copy = rig.path.with_extension("old");
    std::fs::copy(&rig.path, &copy).unwrap();
    downgrade(&copy);
    let store = RedbStore::open(&copy).await.unwrap();
    let h = crate::rig::on(&rig.h, &store);
    let after = h.projection().await;
    assert_eq!(after.tasks.len(), before.tasks.len());
    let deaths: u16 = after.tasks.iter().map(|task| task.progress.crash_count).sum();
    assert!(running.is_empty() || deaths > 0);
    let mut reader = h.watch("suite").await;
    h.insert_one(h.task()).await;
    assert_eq!(reader.event().await.kind(), EventKind::TaskEnqueued);
    crate::rig::check(&store).await;
    store.close().await.unwrap();
    let database = Database::open(&copy).unwrap();
    let meta = database.begin_read().unwrap().open_table(META).unwrap();
    assert_eq!(meta.get("format").unwrap().unwrap().value(), 2);
    assert_eq!(meta.len().unwrap(), 4);
}
