//! Cases of the role *observe*: reads of the journal, by any cursor.

use std::time::{Duration, Instant};

use ergon_core::{
    Command, Event, EventKind, Rejection, TaskId,
    event::ServerEvent,
    limits::BATCH_MAX,
    store::{Cursor, EventId, Gap, Observe, QueueChange, Recorded, Watch},
};

use super::rejection;
use crate::{
    MemoryStore,
    harness::{Harness, SERVER, claimed_ids, watcher},
};

/// How long a test waits for what takes milliseconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn durable(name: &str) -> Watch {
    Watch::durable(watcher(name))
}

/// The ids of the tasks that were enqueued.
pub(super) fn enqueued(recorded: &[Recorded]) -> Vec<TaskId> {
    let enqueued = recorded.iter().map(|recorded| &recorded.event);
    enqueued
        .filter(|event| event.kind() == EventKind::TaskEnqueued)
        .filter_map(|event| event.task_ref().map(|task| task.id))
        .collect()
}

pub async fn a_read_at_the_end_answers_nothing_and_the_same_place(h: Harness) {
    let mut reader = h.watch("suite").await;
    for _ in 0..3 {
        let changes = reader.read(10).await;
        assert_eq!((changes.gap, changes.events, changes.more), (None, vec![], false));
    }
    let id = h.insert_one(h.task()).await;
    assert_eq!(enqueued(&reader.read_all(10).await), [id]);
    let changes = reader.read(10).await;
    assert_eq!((changes.gap, changes.events, changes.more), (None, vec![], false));
}

pub async fn a_read_changes_nothing_and_can_be_repeated(h: Harness) {
    let reader = h.watch("suite").await;
    h.create(&h.tasks(5)).await;
    h.insert_one(h.task()).await;
    let first = reader.clone().read_all(BATCH_MAX).await;
    let again = h.changing_nothing("reads", reader.clone().read_all(BATCH_MAX)).await;
    assert_eq!((first.len(), &first), (6, &again));
    // Also by one who reads in other steps, from the text of the cursor.
    let cursor = Cursor::new(reader.cursor.as_str()).unwrap();
    assert_eq!(h.reader(cursor).read_all(1).await, first);
    assert_eq!(enqueued(&first).len(), 6);
}

pub async fn every_event_has_an_identity_of_its_own_for_ever(h: Harness) {
    let reader = h.watch("suite").await;
    for _ in 0..4 {
        h.create(&h.tasks(3)).await;
        let claimed = h.claim(3).await;
        h.conclude(&claimed[0], crate::harness::complete()).await;
        h.store.announce(SERVER, &ServerEvent::Started).await.unwrap();
    }
    let recorded = reader.clone().read_all(2).await;
    let mut ids: Vec<EventId> = recorded.iter().map(|recorded| recorded.id).collect();
    assert!(ids.iter().all(|id| id.journal == ids[0].journal), "{ids:?}");
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), recorded.len()), (32, 32));
    h.create(&h.tasks(3)).await;
    let longer = reader.clone().read_all(BATCH_MAX).await;
    assert_eq!((longer.len(), &longer[..32]), (35, recorded.as_slice()));
    assert!(longer[32..].iter().all(|recorded| !ids.contains(&recorded.id)));
}

pub async fn a_limit_is_about_so_many_events(h: Harness) {
    let reader = h.watch("suite").await;
    let mut ids = Vec::new();
    for _ in 0..9 {
        ids.push(h.insert_one(h.task()).await);
    }
    for limit in [1, 2, 3, 8, 9, 10, BATCH_MAX] {
        let (mut reader, mut read) = (reader.clone(), Vec::new());
        loop {
            let changes = reader.read(limit).await;
            assert_eq!(changes.gap, None);
            assert!(changes.events.len() <= limit, "each is a commit of its own");
            assert!(!changes.events.is_empty(), "at least one event is read");
            read.extend(changes.events);
            assert_eq!(changes.more, read.len() < ids.len(), "with limit {limit}");
            if !changes.more {
                break;
            }
        }
        assert_eq!(enqueued(&read), ids, "with limit {limit}");
    }
}

pub async fn a_commit_is_never_cut(h: Harness) {
    let mut reader = h.watch("suite").await;
    let ids = h.create(&h.tasks(50)).await;
    let id = h.insert_one(h.task()).await;
    let changes = reader.read(1).await;
    let mut read = enqueued(&changes.events);
    read.sort_unstable();
    assert!(changes.more && read == ids, "{changes:?}");
    let changes = reader.read(1).await;
    assert_eq!((enqueued(&changes.events), changes.more), (vec![id], false));
}

pub async fn a_read_of_no_or_too_many_events_is_refused(h: Harness) {
    let reader = h.watch("suite").await;
    h.insert_one(h.task()).await;
    for limit in [0, BATCH_MAX + 1, usize::MAX] {
        let answer = h.store.changes(&reader.cursor, limit).await;
        assert_eq!(rejection(answer).1, Rejection::InvalidLimit { limit, max: BATCH_MAX });
    }
    assert_eq!(reader.clone().read(BATCH_MAX).await.events.len(), 1);
}

pub async fn two_readers_do_not_disturb_one_another(h: Harness) {
    let mut one = h.watch("one").await;
    let first = h.insert_one(h.task()).await;
    let mut two = h.watch("two").await;
    let second = h.insert_one(h.task()).await;
    assert_eq!(enqueued(&two.read_all(1).await), [second]);
    assert_eq!(enqueued(&one.read_all(1).await), [first, second]);
    assert_eq!((one.events().await, two.events().await), (vec![], vec![]));
    assert!(h.unwatch("one").await);
    let third = h.insert_one(h.task()).await;
    assert_eq!(enqueued(&two.read_all(1).await), [third]);
    // Whoever watches, watches for everybody.
    assert_eq!(enqueued(&one.read_all(1).await), [third]);
}

pub async fn what_nobody_watched_is_a_gap_and_not_recorded(h: Harness) {
    let mut reader = h.watch("suite").await;
    let mut late = reader.clone();
    let before = h.insert_one(h.task()).await;
    assert_eq!(enqueued(&reader.read_all(10).await), [before]);
    assert!(h.unwatch("suite").await);
    let unseen = h.insert_one(h.task()).await;
    assert_eq!(claimed_ids(&h.claim(2).await), [before, unseen]);
    h.set_queue("default", QueueChange::pause()).await;
    h.store.announce(SERVER, &ServerEvent::Started).await.unwrap();
    let fresh = h.watch("suite").await;
    assert_eq!(fresh.clone().events().await, []);
    let after = h.insert_one(h.task()).await;
    let (gaps, recorded) = reader.read_over_gaps(10).await;
    assert_eq!((gaps, enqueued(&recorded)), (vec![Gap::Unrecorded], vec![after]));
    assert_eq!(recorded.len(), 1);
    // Who is further behind reads first what was recorded before the gap.
    let (gaps, recorded) = late.read_over_gaps(10).await;
    assert_eq!((gaps, enqueued(&recorded)), (vec![Gap::Unrecorded], vec![before, after]));
    assert_eq!(enqueued(&fresh.clone().read_all(10).await), [after]);
    assert_eq!((reader.events().await, late.events().await), (vec![], vec![]));
}

pub async fn who_reads_while_nobody_watches_is_told_that_something_is_missing(h: Harness) {
    let mut reader = h.watch("suite").await;
    let before = h.insert_one(h.task()).await;
    assert!(h.unwatch("suite").await);
    h.insert_one(h.task()).await;
    let (gaps, recorded) = reader.read_over_gaps(10).await;
    assert_eq!(enqueued(&recorded), [before], "what was recorded can still be read");
    let later = reader.read(10).await;
    let is_told = gaps.contains(&Gap::Unrecorded) || later.gap == Some(Gap::Unrecorded);
    assert!(is_told && later.events.is_empty(), "{gaps:?}, {later:?}");
}

pub async fn behind_an_unrecorded_time_a_read_goes_on_in_the_same_answer(h: Harness) {
    let mut reader = h.watch("suite").await;
    assert!(h.unwatch("suite").await);
    h.insert_one(h.task()).await;
    h.watch("suite").await;
    let after = h.insert_one(h.task()).await;
    let changes = reader.read(10).await;
    assert_eq!((changes.gap, changes.more), (Some(Gap::Unrecorded), false));
    assert_eq!(enqueued(&changes.events), [after]);
    assert_eq!(reader.events().await, []);
}

/// Asks with a cursor that cannot be followed.
async fn check_foreign(h: &Harness, text: &str) {
    let mut reader = h.reader(Cursor::new(text).unwrap());
    let changes = reader.read(10).await;
    assert_eq!((changes.gap, changes.more), (Some(Gap::Foreign), false), "{text:?}");
    assert_eq!(changes.events, [], "{text:?}");
    let id = h.insert_one(h.task()).await;
    assert_eq!(enqueued(&reader.read_all(10).await), [id], "behind {text:?}");
}

pub async fn a_cursor_of_another_store_is_foreign(h: Harness) {
    h.watch("suite").await;
    let other = MemoryStore::new();
    for _ in 0..3 {
        other.watch(&durable("other")).await.unwrap();
        check_foreign(&h, other.latest().await.unwrap().as_str()).await;
        other.announce(SERVER, &ServerEvent::Started).await.unwrap();
    }
}

pub async fn a_malformed_cursor_is_foreign(h: Harness) {
    h.watch("suite").await;
    let long = "9".repeat(4_096);
    let texts = ["x", "0", ".", "-", "m", "p", "r", "m.", "p.1:", "r.-1", ":,:,:", "a_B-c", &long];
    for text in texts {
        check_foreign(&h, text).await;
    }
}

pub async fn a_cursor_from_the_future_is_foreign(h: Harness) {
    let mut reader = h.watch("suite").await;
    h.insert_one(h.task()).await;
    reader.events().await;
    // Whatever the last number of a cursor means, this one lies far ahead of it.
    let text = reader.cursor.as_str();
    let digits = text.chars().rev().take_while(char::is_ascii_hexdigit).count();
    let (head, _) = text.split_at(text.len() - digits);
    check_foreign(&h, &format!("{head}999999999999")).await;
}

pub async fn a_cursor_that_was_tampered_with_is_no_error(h: Harness) {
    let reader = h.watch("suite").await;
    h.create(&h.tasks(3)).await;
    let text = h.reader_at_end().await.cursor.as_str().to_owned();
    for at in 0..text.len() {
        let (head, tail) = text.split_at(at);
        for middle in ["", "9", "zz", "-", "99999999999999999999999999999999999999999"] {
            let skipped = tail.get(1..).unwrap_or_default();
            for tail in [tail, skipped, ""] {
                let Ok(cursor) = Cursor::new(format!("{head}{middle}{tail}")) else { continue };
                let changes = h.store.changes(&cursor, 10).await.unwrap();
                assert!(changes.events.len() <= 3 && !changes.more, "{cursor}: {changes:?}");
            }
        }
    }
    assert_eq!(reader.clone().events().await.len(), 3);
}

pub async fn the_end_of_the_journal_is_behind_what_was_answered(h: Harness) {
    h.watch("suite").await;
    for _ in 0..5 {
        h.create(&h.tasks(2)).await;
        let mut reader = h.reader_at_end().await;
        assert_eq!(reader.events().await, []);
        let id = h.insert_one(h.task()).await;
        assert_eq!(enqueued(&reader.read_all(10).await), [id]);
        h.apply(id, Command::Delete).await;
        let deleted: Vec<_> = reader.events().await.iter().map(Event::kind).collect();
        assert_eq!(deleted, [EventKind::TaskDeleted]);
    }
}

pub async fn a_wait_ends_when_something_is_recorded(h: Harness) {
    let mut reader = h.watch("suite").await;
    for round in 0..10 {
        let (waiting, patience) = (reader.clone(), PATIENCE * 10);
        let mut waits = tokio::task::JoinSet::new();
        waits.spawn(async move {
            let begin = Instant::now();
            waiting.wait(patience).await;
            begin.elapsed()
        });
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        h.store.announce(SERVER, &ServerEvent::Draining).await.unwrap();
        let elapsed = waits.join_next().await.unwrap().unwrap();
        assert!(elapsed < patience, "the wait did not hear of it");
        assert_eq!(reader.events().await.len(), 1);
    }
}

pub async fn a_wait_ends_at_once_when_something_was_recorded(h: Harness) {
    let mut reader = h.watch("suite").await;
    h.insert_one(h.task()).await;
    let begin = Instant::now();
    reader.wait(PATIENCE * 10).await;
    assert!(begin.elapsed() < PATIENCE * 10);
    assert_eq!(reader.events().await.len(), 1);
}

pub async fn a_wait_ends_with_its_time(h: Harness) {
    let reader = h.watch("suite").await;
    let begin = Instant::now();
    for within in [Duration::ZERO, Duration::from_millis(5)] {
        reader.wait(within).await;
        h.reader(Cursor::new("foreign").unwrap()).wait(within).await;
    }
    assert!(h.unwatch("suite").await);
    reader.wait(Duration::from_millis(5)).await;
    assert!(begin.elapsed() < PATIENCE);
}
