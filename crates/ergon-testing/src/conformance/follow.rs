//! Cases of reading from cursor to cursor: in order, each event once, and what was dropped whole.

use std::{collections::BTreeMap, time::Duration};

use ergon_core::{
    ClaimedTask, Command, Conclusion, Event, EventKind, NewTask, Outcome, ProgressReport,
    Selection, TaskId, Verdict,
    report::ClaimReport,
    store::{Inserted, LEASE_DEFAULT, QueueChange, Recorded},
};

use super::law::{POLLS, abandon};
use crate::harness::{
    DAY, Harness, MINUTE, Reader, SECOND, Told, cancel_command, complete, fail, retry, snooze,
};

/// Most looks at a store whose dropped calls may still be under way.
const SETTLE_READS_MAX: usize = 200;

/// What happened to each task, in order.
pub(super) fn lives(events: &[Event]) -> BTreeMap<TaskId, Vec<EventKind>> {
    let mut lives: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for event in events {
        if let Some(task) = event.task_ref() {
            lives.entry(task.id).or_default().push(event.kind());
        }
    }
    lives
}

pub(super) fn hear(told: &mut Told, recorded: &[Recorded]) {
    for recorded in recorded {
        told.hear(&recorded.event).unwrap();
    }
}

/// Fails unless what was told is what the store shows.
pub(super) async fn check_told(h: &Harness, told: &Told) {
    told.check(&h.projection().await, h.instant()).unwrap();
}

pub(super) async fn report(h: &Harness, claimed: &ClaimedTask, done: u64) -> Verdict {
    let report = ProgressReport::new(done);
    let claim = ClaimReport { id: claimed.id, token: claimed.token, report };
    h.store.report(&[claim], h.now()).await.unwrap()[0]
}

pub async fn the_events_of_a_task_come_in_the_order_of_its_life(h: Harness) {
    let reader = h.watch("suite").await;
    let (id, other) = (h.insert_one(h.task()).await, h.id());
    h.apply(id, Command::Reschedule { run_at: h.later(MINUTE) }).await;
    h.apply(id, Command::Retry).await;
    h.apply(id, Command::SetPriority { priority: i16::MAX }).await;
    h.insert_one(NewTask { id: other, ..h.task() }).await;
    for conclusion in [snooze(SECOND), Conclusion::Release, retry(SECOND)] {
        h.claim_and_conclude(id, conclusion).await;
        h.advance(SECOND);
    }
    h.claim_this(id).await;
    h.advance(LEASE_DEFAULT);
    h.rescue().await;
    let claimed = h.claim_this(id).await;
    assert_eq!(report(&h, &claimed, 1).await, Verdict::Applied);
    h.apply(other, cancel_command()).await;
    h.conclude(&claimed, complete()).await;
    h.apply(id, Command::Retry).await;
    let claimed = h.claim_this(id).await;
    h.apply(id, cancel_command()).await;
    assert_eq!(h.finish(&claimed, fail()).await, Verdict::CancelRequested);
    h.apply(id, Command::Delete).await;
    use EventKind as E;
    let life = [
        (E::TaskEnqueued, 0),
        (E::TaskRescheduled, 0),
        (E::TaskReopened, 0),
        (E::TaskReprioritized, 0),
        (E::TaskStarted, 1),
        (E::TaskSnoozed, 1),
        (E::TaskStarted, 1),
        (E::TaskReleased, 1),
        (E::TaskStarted, 1),
        (E::TaskRetried, 1),
        (E::TaskStarted, 2),
        (E::TaskRescued, 2),
        (E::TaskStarted, 2),
        (E::TaskProgressed, 2),
        (E::TaskCompleted, 2),
        (E::TaskReopened, 2),
        (E::TaskStarted, 3),
        (E::TaskCancelRequested, 3),
        (E::TaskCancelled, 3),
        (E::TaskDeleted, 3),
    ];
    for limit in [1, 2, 10_000] {
        let recorded = reader.clone().read_all(limit).await;
        let of_task = recorded.iter().filter_map(|recorded| {
            let event = &recorded.event;
            let task = event.task_ref().filter(|task| task.id == id)?;
            Some((event.kind(), task.attempt))
        });
        assert_eq!(of_task.collect::<Vec<_>>(), life);
        let mut told = Told::default();
        hear(&mut told, &recorded);
        check_told(&h, &told).await;
    }
}

pub async fn what_is_read_is_the_same_in_steps_of_any_size(h: Harness) {
    let reader = h.watch("suite").await;
    busy_history(&h).await;
    let whole = reader.clone().read_all(10_000).await;
    for limit in [1, 2, 5, 50] {
        assert_eq!(reader.clone().read_all(limit).await, whole, "in steps of {limit}");
    }
    let mut told = Told::default();
    hear(&mut told, &whole);
    check_told(&h, &told).await;
}

/// Everything that can happen, to many tasks.
pub(super) async fn busy_history(h: &Harness) {
    for round in 0..3_u64 {
        let ids = h.create(&[h.tasks(8), h.pack(8)].concat()).await;
        let claimed = h.claim(12).await;
        for (task, number) in claimed.iter().zip(0..) {
            report(h, task, number).await;
            let conclusion = match (number + round) % 6 {
                0 => complete(),
                1 => retry(SECOND),
                2 => fail(),
                3 => snooze(MINUTE),
                4 => Conclusion::Release,
                _ => continue,
            };
            h.conclude(task, conclusion).await;
        }
        h.apply_to(Selection::Ids(ids[..4].to_vec()), Command::Retry).await;
        h.apply_to(Selection::Ids(ids[3..6].to_vec()), cancel_command()).await;
        h.apply_to(Selection::Ids(ids[6..8].to_vec()), Command::Delete).await;
        let command = Command::Reschedule { run_at: h.later(MINUTE) };
        h.apply_to(Selection::Ids(ids[8..10].to_vec()), command).await;
        let command = Command::SetPriority { priority: 3 };
        h.apply_to(Selection::Ids(ids[9..12].to_vec()), command).await;
        h.set_queue("other", QueueChange::pause()).await;
        h.set_queue("other", QueueChange::resume()).await;
        h.advance(LEASE_DEFAULT);
        h.rescue().await;
        h.advance(DAY + SECOND);
        h.prune().await;
    }
}

/// Fails unless the events read so far and those to come tell what the store shows, as soon as what
/// was dropped has come to its end.
async fn settles(h: &Harness, reader: &mut Reader, told: &mut Told) {
    let mut outcome = Ok(());
    for _ in 0..SETTLE_READS_MAX {
        let shown = h.projection().await;
        hear(told, &reader.read_all(100).await);
        outcome = told.check(&shown, h.instant());
        if outcome.is_ok() {
            return;
        }
        reader.wait(Duration::from_millis(1)).await;
    }
    outcome.unwrap();
}

pub async fn a_dropped_write_and_its_events_are_both_there_or_neither(h: Harness) {
    let (mut reader, mut told) = (h.watch("suite").await, Told::default());
    for polls in POLLS {
        let tasks = h.tasks(10);
        abandon(polls, h.try_insert(&tasks)).await;
        settles(&h, &mut reader, &mut told).await;
        let inserted = h.insert(&tasks).await;
        assert!(!inserted.contains(&Inserted::Duplicate { of: tasks[0].id }));
        let request = h.request(5);
        abandon(polls, h.store.claim(&request)).await;
        settles(&h, &mut reader, &mut told).await;
        let outcomes = h.claim(5).await.into_iter().map(|task| Outcome {
            id: task.id,
            token: task.token,
            conclusion: complete(),
        });
        let outcomes: Vec<_> = outcomes.collect();
        abandon(polls, h.store.finish(&outcomes, h.now())).await;
        settles(&h, &mut reader, &mut told).await;
        let ids: Vec<TaskId> = tasks.iter().map(|task| task.id).collect();
        let selection = Selection::Ids(ids);
        let command = cancel_command();
        abandon(polls, h.store.apply(&selection, &command, h.now())).await;
        settles(&h, &mut reader, &mut told).await;
        h.advance(LEASE_DEFAULT);
        abandon(polls, h.rescue()).await;
        settles(&h, &mut reader, &mut told).await;
        h.advance(DAY + SECOND);
        abandon(polls, h.prune()).await;
        settles(&h, &mut reader, &mut told).await;
    }
}

pub async fn dropped_reads_and_waits_of_the_journal_leave_nothing_behind(h: Harness) {
    let mut reader = h.watch("suite").await;
    let id = h.insert_one(h.task()).await;
    let end = h.reader_at_end().await;
    for polls in POLLS {
        abandon(polls, h.store.changes(&reader.cursor, 10)).await;
        abandon(polls, end.wait(MINUTE)).await;
        abandon(polls, h.store.latest()).await;
        abandon(polls, h.store.watchers()).await;
        abandon(polls, h.watch("dropped")).await;
    }
    let events = reader.events().await;
    assert_eq!(lives(&events), BTreeMap::from([(id, vec![EventKind::TaskEnqueued])]));
}
