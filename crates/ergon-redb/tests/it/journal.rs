//! The journal in its file: closed, killed, unwatched and full.

use std::{path::Path, time::Duration};

use ergon_core::{
    EventKind, RunAt, State, TaskEvent, TaskId,
    event::Fact,
    store::{Gap, Inspect, Observe, Recorded, Watch},
};
use ergon_redb::RedbOptions;
use ergon_testing::harness::{
    HOUR, Harness, MINUTE, Reader, SECOND, Told, cancel_command, complete, retry, watcher,
};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::rig::Rig;

const JOURNAL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("ergon.journal");

/// The entries of the journal in a file that nobody has open: their numbers and their bytes.
fn entries(path: &Path) -> Vec<(u64, usize)> {
    let database = Database::open(path).unwrap();
    let table = database.begin_read().unwrap().open_table(JOURNAL).unwrap();
    let rows = table.iter().unwrap().map(|row| row.unwrap());
    rows.map(|(number, record)| (number.value(), record.value().len())).collect()
}

/// Reads on with the store that is open now.
pub(crate) fn again(rig: &Rig, reader: &Reader) -> Reader {
    rig.h.reader(reader.cursor.clone())
}

fn kinds(recorded: &[Recorded]) -> Vec<EventKind> {
    recorded.iter().map(|recorded| recorded.event.kind()).collect()
}

/// Fails unless what was told is what the store shows.
async fn check_told(h: &Harness, recorded: &[Recorded]) {
    let mut told = Told::default();
    recorded.iter().for_each(|recorded| told.hear(&recorded.event).unwrap());
    told.check(&h.projection().await, h.instant()).unwrap();
}

/// Some of everything; one task goes on running.
pub(crate) async fn work(h: &Harness) {
    let ids = h.create(&h.tasks(4)).await;
    let claimed = h.claim(3).await;
    h.conclude(&claimed[0], complete()).await;
    h.conclude(&claimed[1], retry(MINUTE)).await;
    h.apply(ids[3], cancel_command()).await;
}

#[tokio::test]
async fn a_reader_goes_on_over_closing_dropping_and_killing() {
    let mut rig = Rig::with(|options| options.careful_time(Duration::ZERO)).await;
    let first = rig.h.watch("suite").await;
    let mut reader = first.clone();
    let mut read = Vec::new();
    for way in ["closed", "dropped", "killed", "killed", "closed"] {
        work(&rig.h).await;
        // Some of it is read before, the rest behind the opening.
        let changes = again(&rig, &reader).read(3).await;
        reader.cursor = changes.cursor.clone();
        assert_eq!((changes.gap, changes.more), (None, true), "{way}");
        read.extend(changes.events);
        match way {
            "closed" => rig.reopen().await,
            "dropped" => rig.drop_and_reopen().await,
            _ => rig.kill().await,
        }
        let mut after = again(&rig, &reader);
        read.extend(after.read_all(4).await);
        reader.cursor = after.cursor;
        let whole = again(&rig, &first).read_all(10_000).await;
        assert!(whole == read, "{way}: each event is read once, and is the same at every read");
        check_told(&rig.h, &whole).await;
        rig.check().await;
    }
    assert_eq!(rig.store.watchers().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_kept_place_is_there_after_a_kill() {
    let mut rig = Rig::new().await;
    let mut reader = rig.h.watch("suite").await;
    work(&rig.h).await;
    reader.read(1).await;
    let watch = Watch::durable(watcher("suite")).reached(reader.cursor.clone());
    rig.h.watch_by(&watch).await;
    rig.kill().await;
    let watched = rig.h.watch_by(&Watch::durable(watcher("suite"))).await;
    assert_eq!((watched.is_resumed, &watched.cursor), (true, &reader.cursor));
    assert!(rig.h.unwatch("suite").await);
    rig.kill().await;
    assert_eq!(rig.store.watchers().await.unwrap(), []);
    assert!(!rig.h.watch_by(&Watch::durable(watcher("suite"))).await.is_resumed);
}

#[tokio::test]
async fn a_claim_that_was_told_of_is_told_to_be_over_after_a_kill() {
    let mut rig = Rig::with(|options| options.careful_time(Duration::ZERO)).await;
    let mut reader = rig.h.watch("suite").await;
    let id = rig.h.insert_one(rig.h.task()).await;
    rig.h.claim_this(id).await;
    // Reading sees to it that the claim is written to the journal, though to nothing else.
    assert_eq!(reader.events().await.len(), 2);
    rig.kill().await;
    let mut reader = again(&rig, &reader);
    assert_eq!(kinds(&reader.read_all(9).await), [EventKind::TaskRescued]);
    assert_eq!(rig.h.state(id).await, Some(State::Pending));
    rig.kill().await;
    assert_eq!(again(&rig, &reader).events().await, []);
    // What nobody was told of is not told to be over.
    rig.h.claim_this(id).await;
    rig.kill().await;
    let rest = kinds(&again(&rig, &reader).read_all(9).await);
    assert!(
        rest.is_empty() || rest == [EventKind::TaskStarted, EventKind::TaskRescued],
        "{rest:?}"
    );
}

#[tokio::test]
async fn a_death_is_told_with_the_time_that_the_claim_lasted() {
    let mut rig = Rig::new().await;
    // Careful from here on: claims are written down.
    rig.kill_with(|options| options.deaths_max(1)).await;
    let mut reader = rig.h.watch("suite").await;
    let id = rig.h.insert_one(rig.h.task()).await;
    rig.h.claim_this(id).await;
    assert_eq!(reader.events().await.len(), 2);
    rig.h.advance(MINUTE);
    rig.kill().await;
    let event = again(&rig, &reader).event().await;
    let Fact::Task { task, event: TaskEvent::Failed { ran, .. } } = event.fact else {
        panic!("{event:?}")
    };
    assert_eq!((task.id, task.attempt, ran), (id, 1, MINUTE));
}

#[tokio::test]
async fn a_claim_alone_is_told_within_moments() {
    let rig = Rig::new().await;
    let mut reader = rig.h.watch("suite").await;
    rig.h.create(&rig.h.tasks(2)).await;
    reader.events().await;
    let claimed = rig.h.claim(1).await;
    let patience = crate::medium::PATIENCE;
    tokio::time::timeout(patience, reader.wait(patience * 2)).await.expect("the claim is told");
    assert_eq!(reader.event().await.kind(), EventKind::TaskStarted);
    let report = ergon_core::report::ClaimReport {
        id: claimed[0].id,
        token: claimed[0].token,
        report: ergon_core::ProgressReport::new(1),
    };
    rig.h.store.report(&[report], rig.h.now()).await.unwrap();
    tokio::time::timeout(patience, reader.wait(patience * 2)).await.expect("the report is told");
    assert_eq!(reader.event().await.kind(), EventKind::TaskProgressed);
}

#[tokio::test]
async fn what_nobody_watches_leaves_one_short_row() {
    let mut rig = Rig::new().await;
    for _ in 0..3 {
        work(&rig.h).await;
    }
    let reader = rig.h.reader_at_end().await;
    work(&rig.h).await;
    rig.store.close().await.unwrap();
    assert_eq!(entries(&rig.path), [(1, 22)]);
    rig.reopen().await;
    // Opening alone changes nothing that anybody could watch.
    rig.store.close().await.unwrap();
    assert_eq!(entries(&rig.path), [(1, 22)]);
    rig.reopen().await;
    let mut fresh = rig.h.watch("suite").await;
    let id = rig.h.insert_one(rig.h.task()).await;
    assert_eq!(fresh.event().await.task_ref().unwrap().id, id);
    let changes = again(&rig, &reader).read(9).await;
    assert_eq!((changes.gap, changes.events.len()), (Some(Gap::Unrecorded), 1));
    rig.h.unwatch("suite").await;
    for way in ["killed", "dropped"] {
        work(&rig.h).await;
        if way == "killed" {
            rig.kill().await;
        } else {
            rig.drop_and_reopen().await;
        }
    }
    let changes = again(&rig, &fresh).read(9).await;
    assert_eq!((changes.gap, changes.events), (Some(Gap::Unrecorded), vec![]));
    rig.store.close().await.unwrap();
    // A break for each of the openings that changed something, and the one event.
    assert!(entries(&rig.path).len() <= 5, "{:?}", entries(&rig.path));
}

#[tokio::test]
async fn a_lease_that_ends_while_the_store_is_closed_is_over() {
    let mut rig = Rig::new().await;
    let watched = rig.h.watch_by(&Watch::lasting(watcher("suite"), MINUTE)).await;
    let mut reader = rig.h.reader(watched.cursor);
    let first = rig.h.insert_one(rig.h.task()).await;
    rig.reopen().await;
    assert_eq!(rig.store.watchers().await.unwrap().len(), 1);
    let second = rig.h.insert_one(rig.h.task()).await;
    rig.store.close().await.unwrap();
    rig.h.advance(MINUTE);
    rig.reopen().await;
    assert_eq!(rig.store.watchers().await.unwrap(), []);
    rig.h.insert_one(rig.h.task()).await;
    reader = again(&rig, &reader);
    let (gaps, recorded) = reader.read_over_gaps(1).await;
    let ids: Vec<TaskId> = recorded.iter().filter_map(|it| Some(it.event.task_ref()?.id)).collect();
    assert_eq!((gaps, ids), (vec![Gap::Unrecorded], vec![first, second]));
}

/// A store with a small journal.
async fn small() -> Rig {
    Rig::with(|options| options.journal_bytes_max(64 << 10).journal_age_max(HOUR)).await
}

#[tokio::test]
async fn the_oldest_entries_go_and_who_is_behind_is_told() {
    let mut rig = small().await;
    let first = rig.h.watch("suite").await;
    let mut reader = first.clone();
    let mut seen = Vec::new();
    for round in 0..200 {
        rig.h.create(&rig.h.tasks(150)).await;
        if round == 100 {
            rig.reopen().await;
        }
        reader = again(&rig, &reader);
        seen.extend(reader.read_all(10_000).await);
    }
    assert_eq!(seen.len(), 30_000);
    let mut late = again(&rig, &first);
    let (gaps, rest) = late.read_over_gaps(100).await;
    assert_eq!(gaps, [Gap::Expired]);
    assert!(seen.ends_with(&rest) && !rest.is_empty());
    rig.check().await;
    rig.store.close().await.unwrap();
    let kept = entries(&rig.path);
    let bytes: usize = kept.iter().map(|(_, len)| len).sum();
    assert!((48 << 10..=64 << 10).contains(&bytes), "{bytes} bytes in {} entries", kept.len());
    assert!(kept.is_sorted_by(|(one, _), (next, _)| one + 1 == *next));
}

#[tokio::test]
async fn old_entries_go_with_the_next_ones_and_with_a_sweep() {
    let mut rig = small().await;
    let reader = rig.h.watch("suite").await;
    // The clock of the store stands between two openings.
    for _ in 0..5 {
        rig.h.insert_one(rig.h.task()).await;
        rig.h.advance(HOUR / 4);
        rig.reopen().await;
    }
    let id = rig.h.insert_one(rig.h.task()).await;
    let (gaps, recorded) = again(&rig, &reader).read_over_gaps(1).await;
    assert_eq!((gaps, recorded.len()), (vec![Gap::Expired], 5));
    rig.h.advance(HOUR * 2);
    rig.reopen().await;
    rig.h.prune().await;
    let (gaps, recorded) = again(&rig, &reader).read_over_gaps(1).await;
    assert_eq!((gaps, recorded.len()), (vec![Gap::Expired], 1));
    assert_eq!(recorded[0].event.task_ref().unwrap().id, id, "the newest is kept");
    rig.check().await;
}

#[tokio::test]
async fn the_file_does_not_grow_under_a_watcher() {
    let rig = Rig::with(|options| {
        let retention = ergon_core::Retention::uniform(Duration::ZERO);
        options.journal_bytes_max(64 << 10).retention(retention)
    })
    .await;
    rig.h.watch("suite").await;
    let mut sizes = Vec::new();
    for _ in 0..12 {
        for _ in 0..10 {
            rig.h.create(&rig.h.tasks(200)).await;
            let end = |task: ergon_core::ClaimedTask| ergon_core::Outcome {
                id: task.id,
                token: task.token,
                conclusion: complete(),
            };
            let outcomes: Vec<_> = rig.h.claim(200).await.into_iter().map(end).collect();
            rig.h.finish_all(&outcomes).await;
            rig.h.advance(SECOND);
            rig.h.prune().await;
        }
        sizes.push(std::fs::metadata(&rig.path).unwrap().len());
    }
    assert!(sizes[11] <= sizes[5], "{sizes:?}");
}

#[tokio::test]
async fn journals_are_told_apart_by_their_numbers() {
    let (one, other) = (Rig::new().await, Rig::new().await);
    let mut cursor = one.h.watch("suite").await;
    let changes = other.store.changes(&cursor.cursor, 1).await.unwrap();
    assert_eq!(changes.gap, Some(Gap::Foreign));
    one.h.insert_one(one.h.task()).await;
    assert_eq!(cursor.events().await.len(), 1);
}

#[tokio::test]
async fn the_oldest_due_task_is_found_behind_a_window() {
    const LEN: u64 = 3_000;
    let options: fn(RedbOptions) -> RedbOptions = |options| options.window_tasks(1_024);
    let mut rig = Rig::with(options).await;
    let start = rig.h.instant();
    let tasks: Vec<_> = (0..LEN)
        .map(|number| {
            let due = rig.h.later(Duration::from_secs(number));
            rig.h.task_with(|task| task.run_at = RunAt::At(due))
        })
        .collect();
    rig.h.create(&tasks).await;
    rig.h.advance(Duration::from_secs(LEN * 2));
    rig.reopen().await;
    let oldest = async |rig: &Rig| rig.h.queue_info("default").await.oldest_due_at;
    assert_eq!(oldest(&rig).await, Some(start));
    let mut claimed = 0;
    while claimed < LEN {
        claimed += u64::try_from(rig.h.claim(777).await.len()).unwrap();
        let next = ergon_core::time::after(start, Duration::from_secs(claimed));
        let expected = (claimed < LEN).then_some(next);
        assert_eq!(oldest(&rig).await, expected, "after {claimed} claims");
    }
    let queues = rig.store.queues(ergon_core::Now::At(start)).await.unwrap();
    assert_eq!(queues[0].oldest_due_at, None);
}
