//! Opening: locks, files that are none of ours, damage of every kind.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ergon_core::State;
use ergon_redb::{OpenError, RedbOptions, RedbStore};
use ergon_testing::{
    SeededRng,
    harness::{Harness, Snapshot},
};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableHandle};

use crate::{
    medium::below,
    rig::{Rig, check, on},
};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("ergon.meta");

async fn refused(path: &Path) -> OpenError {
    let opened = RedbStore::open(path).await;
    opened.expect_err("the file is refused")
}

#[tokio::test]
async fn a_file_has_one_owner_and_the_error_names_it() {
    let rig = Rig::new().await;
    let error = refused(&rig.path).await;
    assert!(matches!(error, OpenError::Locked { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("by this process") && text.contains("tasks.redb"), "{text}");
    rig.store.close().await.unwrap();
    RedbStore::open(&rig.path).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_none_of_ours_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notes.txt");
    for content in ["x".to_owned(), "Remember the milk.\n".repeat(10_000), "redb\n".to_owned()] {
        fs::write(&path, &content).unwrap();
        let error = refused(&path).await;
        assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
}

#[tokio::test]
async fn an_empty_file_is_a_new_store() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let h = Harness::new(RedbStore::open(file.path()).await.unwrap());
    h.create(&h.tasks(1)).await;
}

#[tokio::test]
async fn a_path_that_cannot_be_a_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let orphan = directory.path().join("missing").join("tasks.redb");
    for path in [directory.path(), &orphan] {
        let error = refused(path).await;
        assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
    }
    assert!(!orphan.parent().unwrap().exists());
}

#[tokio::test]
async fn options_out_of_range_are_refused_before_anything_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tasks.redb");
    type Change = fn(RedbOptions) -> RedbOptions;
    let bad: [(&str, Change); 6] = [
        ("cache_bytes", |options| options.cache_bytes((1 << 20) - 1)),
        ("window_tasks", |options| options.window_tasks(1_023)),
        ("deaths_max", |options| options.deaths_max(0)),
        ("journal_bytes_max", |options| options.journal_bytes_max((64 << 10) - 1)),
        ("journal_age_max", |options| options.journal_age_max(Duration::from_millis(999))),
        ("journal_age_max", |options| options.journal_age_max(Duration::MAX)),
    ];
    for (name, change) in bad {
        let error = change(RedbStore::builder()).open(&path).await.unwrap_err();
        assert!(matches!(error, OpenError::InvalidOption { field, .. } if field == name));
        assert!(!path.exists());
    }
    let least = RedbStore::builder().cache_bytes(1 << 20).window_tasks(1_024).deaths_max(1);
    let least = least.journal_bytes_max(64 << 10).journal_age_max(Duration::from_secs(1));
    least.careful_time(Duration::ZERO).open(&path).await.unwrap();
}

/// Every row of every table, as far as redb tells.
fn tables(path: &Path) -> Vec<(String, u64)> {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_read().unwrap();
    let mut tables: Vec<(String, u64)> = transaction
        .list_tables()
        .unwrap()
        .map(|table| {
            let name = table.name().to_owned();
            let table = transaction.open_untyped_table(table).unwrap();
            (name, redb::ReadableTableMetadata::len(&table).unwrap())
        })
        .collect();
    tables.sort();
    tables
}

#[tokio::test]
async fn a_newer_format_is_refused_and_left_alone() {
    let rig = Rig::new().await;
    rig.h.create(&rig.h.tasks(3)).await;
    rig.store.close().await.unwrap();
    let set_format = |format: u64| {
        let database = Database::open(&rig.path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(META).unwrap().insert("format", format).unwrap();
        transaction.commit().unwrap();
    };
    let rows = || {
        let database = Database::open(&rig.path).unwrap();
        let transaction = database.begin_read().unwrap();
        let meta = transaction.open_table(META).unwrap();
        meta.iter()
            .unwrap()
            .map(|row| row.map(|(key, value)| (key.value().to_owned(), value.value())).unwrap())
            .collect::<Vec<_>>()
    };
    let supported = rows().iter().find(|(key, _)| key == "format").unwrap().1;
    for format in [supported + 1, u64::MAX, 0] {
        set_format(format);
        let before = (tables(&rig.path), rows());
        let error = refused(&rig.path).await;
        assert!(matches!(error, OpenError::Format { .. }), "{error:?}");
        assert_eq!((tables(&rig.path), rows()), before);
    }
    set_format(supported);
    let store = RedbStore::open(&rig.path).await.unwrap();
    assert_eq!(on(&rig.h, &store).projection().await.tasks.len(), 3);
}

#[tokio::test]
async fn a_database_of_an_application_is_refused_and_left_alone() {
    const USERS: TableDefinition<'_, u64, &str> = TableDefinition::new("users");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.redb");
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(USERS).unwrap().insert(7, "Ada").unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = refused(&path).await;
    assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
    assert_eq!(tables(&path), [("users".to_owned(), 1)]);
    // Handed over by its owner it is shared, and may be opened as a store from then on.
    let database = Arc::new(Database::open(&path).unwrap());
    let store = RedbStore::with_database(Arc::clone(&database)).await.unwrap();
    store.close().await.unwrap();
    drop((store, database));
    RedbStore::open(&path).await.unwrap();
}

#[tokio::test]
async fn a_table_of_another_shape_is_an_error() {
    const ODD: TableDefinition<'_, u64, u64> = TableDefinition::new("ergon.ready");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("odd.redb");
    let database = Arc::new(Database::create(&path).unwrap());
    let transaction = database.begin_write().unwrap();
    transaction.open_table(ODD).unwrap().insert(1, 1).unwrap();
    transaction.commit().unwrap();
    let error = RedbStore::with_database(Arc::clone(&database)).await.unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
    drop(database);
    assert_eq!(tables(&path), [("ergon.ready".to_owned(), 1)]);
}

/// A store of some hundred tasks, closed or killed, as bytes; and what it shows.
struct Sample {
    bytes: Vec<u8>,
    shown: Snapshot,
    is_closed: bool,
    h: Harness,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Sample {
    async fn new(is_closed: bool) -> Self {
        let rig = Rig::new().await;
        for number in 0..60 {
            let len = usize::from(number % 7 == 0) * 5_000;
            let id = rig.h.add(|task| task.spec.payload = vec![number; len].into()).await;
            match number % 4 {
                0 => drop(rig.h.apply(id, ergon_testing::harness::cancel_command()).await),
                1 => {
                    let claimed = rig.h.claim_this(id).await;
                    rig.h.conclude(&claimed, ergon_testing::harness::complete()).await;
                }
                _ => drop(rig.h.apply(id, ergon_core::Command::SetPriority { priority: -1 }).await),
            }
        }
        let shown = rig.h.projection().await;
        if is_closed {
            rig.store.close().await.unwrap();
        }
        let bytes = fs::read(&rig.path).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("damaged.redb");
        Self { bytes, shown, is_closed, h: rig.h.clone(), path, _directory: directory }
    }

    /// Opens damaged bytes: either they are refused, or they show what was stored.
    async fn open(&self, bytes: &[u8], context: &str) -> Result<(), OpenError> {
        fs::write(&self.path, bytes).unwrap();
        let store = RedbStore::open(&self.path).await?;
        let h = on(&self.h, &store);
        let shown = h.projection().await;
        if self.is_closed {
            assert!(shown == self.shown, "{context}: shows something else");
        } else {
            // A commit slot that is damaged looks like one that was not written to its end: what
            // was committed before counts.
            assert!(shown.tasks.len() + 1 >= self.shown.tasks.len(), "{context}: tasks are lost");
        }
        check(&store).await;
        store.close().await.unwrap();
        Ok(())
    }

    async fn is_damaged(&self, bytes: &[u8], context: &str) {
        let error = self.open(bytes, context).await.expect_err(context);
        let is_typed = matches!(error, OpenError::Damaged { .. } | OpenError::Io { .. });
        assert!(is_typed, "{context}: {error:?}");
    }
}

#[tokio::test]
async fn a_file_that_ends_early_is_refused() {
    for is_closed in [true, false] {
        let sample = Sample::new(is_closed).await;
        let len = sample.bytes.len();
        let cuts = [1, 8, 9, 64, 320, 511, 512, 4_095, 4_096, 8_192, len / 3, len / 2];
        for cut in cuts {
            sample.is_damaged(&sample.bytes[..cut], &format!("cut to {cut} of {len}")).await;
        }
        // The end of the file may hold nothing.
        for cut in [len - 1, len - 512, len - 4_096] {
            drop(sample.open(&sample.bytes[..cut], &format!("cut to {cut} of {len}")).await);
        }
    }
}

#[tokio::test]
async fn a_file_without_its_header_is_refused() {
    let sample = Sample::new(true).await;
    for len in [1, 9, 64, 512, 4_096, sample.bytes.len()] {
        let mut bytes = sample.bytes.clone();
        bytes[..len].fill(0);
        sample.is_damaged(&bytes, &format!("{len} zeros")).await;
        assert_eq!(fs::read(&sample.path).unwrap(), bytes, "a refused file stays as it is");
    }
}

#[tokio::test]
async fn flipped_bits_are_noticed_or_harmless() {
    for (seed, is_closed) in [(1, true), (2, false)] {
        let sample = Sample::new(is_closed).await;
        let rng = SeededRng::new(seed);
        let mut noticed = 0;
        for number in 0..200 {
            let mut bytes = sample.bytes.clone();
            // The header is small, and matters most.
            let end = if number % 4 == 0 { 320 } else { bytes.len() };
            let (at, bit) = (below(&rng, end), below(&rng, 8));
            bytes[at] ^= 1 << bit;
            let context = format!("seed {seed}, byte {at}, bit {bit}");
            noticed += usize::from(sample.open(&bytes, &context).await.is_err());
        }
        assert!(noticed > 20, "{noticed} noticed");
    }
}

#[tokio::test]
async fn a_file_grown_by_garbage_is_noticed_or_harmless() {
    for is_closed in [true, false] {
        let sample = Sample::new(is_closed).await;
        for more in [1, 512, 4_096, 100_000] {
            let mut bytes = sample.bytes.clone();
            bytes.extend(std::iter::repeat_n(0xa5, more));
            drop(sample.open(&bytes, &format!("{more} bytes more")).await);
        }
    }
}

#[tokio::test]
async fn compacting_gives_space_back_and_keeps_everything() {
    let mut rig = Rig::new().await;
    let big = |task: &mut ergon_core::NewTask| task.spec.payload = vec![7; 20_000].into();
    let tasks: Vec<_> = (0..300).map(|_| rig.h.task_with(big)).collect();
    let ids = rig.h.create(&tasks).await;
    rig.h
        .apply_to(ergon_core::Selection::Ids(ids[10..].to_vec()), ergon_core::Command::Delete)
        .await;
    let before = rig.h.projection().await;
    assert_eq!(before.tasks.len(), 10);
    let size = || fs::metadata(&rig.path).unwrap().len();
    let full = size();
    let (one, two) = tokio::join!(rig.store.compact(), rig.store.compact());
    assert!(one.unwrap() | two.unwrap());
    assert!(size() * 4 < full, "{full} bytes before, {} after", size());
    rig.h.projection().await.assert_same(&before, "compacted");
    rig.check().await;
    rig.h.create(&rig.h.tasks(3)).await;
    rig.kill().await;
    assert_eq!(rig.h.projection().await.tasks.len(), 13);
    assert_eq!(rig.h.claim(20).await.len(), 13);
}

#[tokio::test]
async fn a_repair_is_told_of_and_an_orderly_opening_is_none() {
    let rig = Rig::new().await;
    rig.h.create(&rig.h.tasks(500)).await;
    let copy = rig.path.with_extension("copy");
    fs::copy(&rig.path, &copy).unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    for (round, expected) in [(0, true), (1, false)] {
        let told = Arc::clone(&calls);
        let store = RedbStore::builder()
            .on_repair(move |progress| {
                assert!((0.0..=1.0).contains(&progress));
                told.fetch_add(1, Ordering::SeqCst);
            })
            .open(&copy)
            .await
            .unwrap();
        assert_eq!(calls.swap(0, Ordering::SeqCst) > 0, expected, "round {round}");
        assert_eq!(on(&rig.h, &store).projection().await.tasks.len(), 500);
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn quick_repair_needs_no_repair() {
    let mut rig = Rig::with(|options| options.quick_repair_from_bytes(0)).await;
    rig.h.create(&rig.h.tasks(500)).await;
    for _ in 0..2 {
        // Killed after a commit, and right after the opening.
        rig.kill_with(|options| {
            let told = |_| unreachable!("commits keep what is needed");
            options.quick_repair_from_bytes(0).on_repair(told)
        })
        .await;
    }
    assert_eq!(rig.h.count(&ergon_core::TaskFilter::all().states(State::Pending)).await.value, 500);
    rig.check().await;
}
