//! Cases of the role *inspect*: reads by id, counts and queues.

use ergon_core::{
    Command, Count, RunAt, State, StateSet, StoreError, TaskFilter, TaskId, store::QueueChange,
};

use super::full_spec;
use crate::harness::{
    HOUR, Harness, MINUTE, REACHABLE, SECOND, WAITING, cancel_command, complete, kind, queue,
    record_ids, retry, tag,
};

const fn exactly(value: u64) -> Count {
    Count { value, is_exact: true }
}

pub async fn reads_come_in_the_order_of_the_ids(h: Harness) {
    let ids = h.create(&h.pack(5)).await;
    let asked = [ids[3], h.id(), ids[0], ids[3], TaskId::MIN, ids[4]];
    let read = h.store.tasks(&asked, h.now()).await.unwrap();
    let found: Vec<_> = read.iter().map(|task| task.as_ref().map(|task| task.id)).collect();
    let expected = [Some(ids[3]), None, Some(ids[0]), Some(ids[3]), None, Some(ids[4])];
    assert_eq!(found, expected);
}

pub async fn a_list_shows_what_a_read_by_id_shows(h: Harness) {
    h.add(|task| task.spec = full_spec(&h)).await;
    for state in REACHABLE {
        let id = h.in_state(state).await;
        if state == State::Pending {
            h.apply(id, Command::SetPriority { priority: 0 }).await;
        }
    }
    let listed = h.projection().await.tasks;
    let ids = record_ids(&listed);
    let read = h.store.tasks(&ids, h.now()).await.unwrap();
    assert_eq!(read.into_iter().flatten().collect::<Vec<_>>(), listed);
}

pub async fn the_state_is_that_at_the_instant_of_the_read(h: Harness) {
    let id = h.add(|task| task.run_at = RunAt::After(MINUTE)).await;
    let retried = h.insert_one(h.task()).await;
    h.claim_and_conclude(retried, retry(MINUTE)).await;
    let early = h.projection().await;
    h.advance(MINUTE);
    let late = h.projection().await;
    assert_eq!(
        early.tasks.iter().map(|t| t.state).collect::<Vec<_>>(),
        [State::Scheduled, State::Retrying]
    );
    assert!(late.tasks.iter().all(|task| task.state == State::Pending));
    for (early, late) in early.tasks.iter().zip(&late.tasks) {
        assert_eq!(early.progress, late.progress, "becoming due is not a write");
    }
    assert_eq!(late.queues[0].counts.get(State::Pending), 2);
    assert_eq!(h.state(id).await, Some(State::Pending));
}

pub async fn every_write_is_read_at_once(h: Harness) {
    let id = h.insert_one(h.task()).await;
    assert_eq!(h.state(id).await, Some(State::Pending));
    let claimed = h.claim_this(id).await;
    assert_eq!(h.state(id).await, Some(State::Running));
    h.conclude(&claimed, complete()).await;
    assert_eq!(h.state(id).await, Some(State::Completed));
    h.apply(id, Command::Delete).await;
    assert_eq!(h.state(id).await, None);
    assert_eq!(h.projection().await.tasks, []);
}

pub async fn counts_by_state_follow_a_task_through_its_life(h: Harness) {
    for (number, state) in (1..).zip(REACHABLE) {
        let id = h.in_state(state).await;
        let filter = TaskFilter::all().states(state);
        assert_eq!(h.count(&filter).await, exactly(1), "{state}");
        assert_eq!(h.count(&TaskFilter::all()).await, exactly(number), "{state}");
        h.check_counters().await;
        if state == State::Pending {
            // Out of the way of the next fixture, and pending as before.
            h.apply(id, Command::SetPriority { priority: -1 }).await;
        }
    }
    assert_eq!(h.count(&TaskFilter::all().states(WAITING)).await, exactly(3));
    assert_eq!(h.count(&TaskFilter::all().states(StateSet::TERMINAL)).await, exactly(3));
}

pub async fn counts_tell_queues_apart(h: Harness) {
    for (name, len) in [("a", 3), ("b", 5), ("c", 7)] {
        let mut tasks = h.tasks(len);
        tasks.iter_mut().for_each(|task| task.spec.queue = queue(name));
        h.create(&tasks).await;
    }
    h.claim_by(&h.request_from(2, &["b"])).await;
    let all = TaskFilter::all;
    assert_eq!(h.count(&all().queue(queue("b"))).await, exactly(5));
    assert_eq!(h.count(&all().queue(queue("c")).queue(queue("a"))).await, exactly(10));
    let running = all().states(State::Running);
    assert_eq!(h.count(&running.clone().queue(queue("b"))).await, exactly(2));
    assert_eq!(h.count(&running.queue(queue("a"))).await, exactly(0));
    assert_eq!(h.count(&all().queue(queue("unknown"))).await, exactly(0));
}

pub async fn counts_follow_the_due_time(h: Harness) {
    for seconds in 1..=20 {
        h.add(|task| task.run_at = RunAt::After(SECOND * seconds)).await;
    }
    for due in 0..=20 {
        let pending = TaskFilter::all().states(State::Pending);
        let scheduled = TaskFilter::all().states(State::Scheduled);
        assert_eq!(h.count(&pending).await, exactly(due));
        assert_eq!(h.count(&scheduled).await, exactly(20 - due));
        assert_eq!(h.queue_info("default").await.counts.get(State::Scheduled), 20 - due);
        h.advance(SECOND);
    }
}

pub async fn few_matches_are_counted_exactly_by_any_filter(h: Harness) {
    let started = h.instant();
    for (kind_name, label, len) in [("k1", "red", 4), ("k2", "red", 3), ("k1", "blue", 2)] {
        let mut tasks = h.tasks(len);
        for task in &mut tasks {
            task.spec.kind = kind(kind_name);
            task.spec.tags = vec![tag(label)];
            task.spec.metadata.insert("colour".to_owned(), label.to_owned());
        }
        h.create(&tasks).await;
        h.advance(SECOND);
    }
    let all = TaskFilter::all;
    assert_eq!(h.count(&all().kind(kind("k1"))).await, exactly(6));
    assert_eq!(h.count(&all().tag(tag("red"))).await, exactly(7));
    assert_eq!(h.count(&all().kind(kind("k1")).metadata("colour", "red")).await, exactly(4));
    let later = ergon_core::time::after(started, SECOND);
    assert_eq!(h.count(&all().created_from(later)).await, exactly(5));
    assert_eq!(h.count(&all().created_before(later)).await, exactly(4));
    assert_eq!(h.count(&all().kind(kind("unknown"))).await, exactly(0));
}

pub async fn queues_come_by_name(h: Harness) {
    let names = ["b", "a", "a:b", "A", "a/b", "ab", "0", "a.b", "z-9", "_"];
    for name in names {
        h.add(|task| task.spec.queue = queue(name)).await;
    }
    h.set_queue("never-used", QueueChange::pause()).await;
    let mut expected = [names.as_slice(), &["never-used"]].concat();
    expected.sort_unstable();
    let queues = h.queues().await;
    let found: Vec<_> = queues.iter().map(|info| info.name.as_str()).collect();
    assert_eq!(found, expected);
    for info in queues {
        let is_new = info.name.as_str() == "never-used";
        assert_eq!((info.is_paused, info.counts.total() == 0), (is_new, is_new), "{}", info.name);
    }
}

pub async fn a_queue_outlives_its_tasks(h: Harness) {
    let id = h.add(|task| task.spec.queue = queue("once")).await;
    h.apply(id, Command::Delete).await;
    let info = h.queue_info("once").await;
    assert!(!info.is_paused && info.counts.total() == 0);
}

pub async fn counters_equal_a_scan_after_a_busy_history(h: Harness) {
    for round in 0_u8..12 {
        let mut tasks = [h.tasks(5), h.pack(5)].concat();
        for (at, task) in (0_u32..).zip(&mut tasks) {
            task.spec.queue = queue(["default", "x", "x:y"][at as usize % 3]);
            task.priority = i16::from(round) % 3 - 1;
            if at % 4 == 0 {
                task.run_at = RunAt::After(MINUTE * (at + 1));
            }
        }
        let ids = h.create(&tasks).await;
        let claimed = h.claim_by(&h.request_from(3, &["x", "default", "x:y"])).await;
        let endings = crate::harness::every_conclusion();
        for (claimed, ending) in claimed.iter().zip(endings.iter().cycle().skip(round.into())) {
            h.conclude(claimed, ending.clone()).await;
        }
        h.claim_by(&h.request_from(1, &["x:y", "x"])).await;
        h.apply(ids[0], cancel_command()).await;
        h.apply(ids[7], Command::Delete).await;
        h.apply(ids[8], Command::Reschedule { run_at: h.later(HOUR) }).await;
        h.apply(ids[4], Command::Retry).await;
        h.apply(ids[5], cancel_command()).await;
        h.check_counters().await;
        h.advance(HOUR * 5);
        h.rescue().await;
        h.check_counters().await;
        h.prune().await;
        h.check_counters().await;
    }
}

pub async fn too_many_ids_are_refused(h: Harness) {
    let answer = h.store.tasks(&vec![TaskId::MIN; 10_001], h.now()).await;
    let is_refused = matches!(answer, Err(StoreError::BatchTooLarge { len: 10_001, max: 10_000 }));
    assert!(is_refused, "{answer:?}");
}

/// When the oldest due task of the default queue came due.
async fn oldest(h: &Harness) -> Option<jiff::Timestamp> {
    h.queue_info("default").await.oldest_due_at
}

pub async fn the_oldest_due_task_is_told_of_each_queue(h: Harness) {
    let start = h.instant();
    h.set_queue("empty", QueueChange::default()).await;
    h.insert_one(h.task()).await;
    h.advance(SECOND);
    h.insert_one(h.task_with(|task| task.priority = i16::MAX)).await;
    h.add(|task| (task.spec.queue, task.spec.kind) = (queue("other"), kind("any"))).await;
    h.advance(HOUR);
    assert_eq!(oldest(&h).await, Some(start));
    let other = h.queue_info("other").await.oldest_due_at;
    assert_eq!(other, Some(h.instant() - jiff::SignedDuration::from_hours(1)));
    assert_eq!(h.queue_info("empty").await.oldest_due_at, None);
    h.add(|task| task.run_at = RunAt::At(jiff::Timestamp::UNIX_EPOCH)).await;
    assert_eq!(oldest(&h).await, Some(jiff::Timestamp::UNIX_EPOCH));
}

pub async fn a_task_that_is_not_due_is_not_the_oldest_due(h: Harness) {
    let due = h.later(MINUTE);
    h.add(|task| task.run_at = RunAt::At(due)).await;
    h.add(|task| task.run_at = RunAt::After(HOUR)).await;
    assert_eq!(oldest(&h).await, None);
    h.advance(MINUTE - crate::harness::MICROSECOND);
    assert_eq!(oldest(&h).await, None);
    h.advance(crate::harness::MICROSECOND);
    assert_eq!(oldest(&h).await, Some(due));
    h.advance(HOUR);
    assert_eq!(oldest(&h).await, Some(due));
}

pub async fn only_what_waits_is_the_oldest_due(h: Harness) {
    let start = h.instant();
    let id = h.insert_one(h.task()).await;
    let claimed = h.claim_one().await;
    h.advance(SECOND);
    assert_eq!(oldest(&h).await, None, "it runs");
    h.conclude(&claimed, ergon_core::Conclusion::Release).await;
    assert_eq!(oldest(&h).await, Some(start), "it is due as before");
    h.claim_one().await;
    h.advance(ergon_core::store::LEASE_DEFAULT);
    h.rescue().await;
    assert_eq!(oldest(&h).await, Some(start), "it is due as before");
    h.claim_and_conclude(id, retry(MINUTE)).await;
    let due = h.later(MINUTE);
    assert_eq!(oldest(&h).await, None);
    h.advance(MINUTE * 2);
    assert_eq!(oldest(&h).await, Some(due));
    for command in [cancel_command(), Command::Retry, Command::Delete] {
        let is_due = command == Command::Retry;
        h.advance(SECOND);
        h.apply(id, command).await;
        assert_eq!(oldest(&h).await, is_due.then(|| h.instant()));
    }
}

pub async fn the_oldest_due_task_moves_with_an_operators_command(h: Harness) {
    let ids = h.create(&h.tasks(2)).await;
    let start = h.instant();
    h.advance(HOUR);
    let early = start - jiff::SignedDuration::from_secs(5);
    for run_at in [early, h.later(SECOND), h.later(MINUTE)] {
        h.apply(ids[1], Command::Reschedule { run_at }).await;
        assert_eq!(oldest(&h).await, Some(std::cmp::min(run_at, start)));
    }
    h.apply(ids[0], Command::Delete).await;
    assert_eq!(oldest(&h).await, None);
}

pub async fn a_paused_queue_goes_on_ageing(h: Harness) {
    let start = h.instant();
    h.insert_one(h.task()).await;
    h.set_queue("default", QueueChange::pause()).await;
    h.advance(HOUR);
    h.insert_one(h.task()).await;
    assert_eq!(oldest(&h).await, Some(start));
    h.set_queue("default", QueueChange::resume()).await;
    assert_eq!(oldest(&h).await, Some(start));
    assert_eq!(h.claim(1).await.len(), 1);
    assert_eq!(oldest(&h).await, Some(h.instant()));
}

pub async fn the_oldest_due_task_is_found_among_thousands(h: Harness) {
    let start = h.instant();
    let mut tasks = h.tasks(3_000);
    for (task, number) in tasks.iter_mut().zip(0_u64..) {
        // A prime scatters the due times; kinds and priorities are mixed.
        task.run_at = RunAt::After(std::time::Duration::from_millis(number * 7_919 % 3_000));
        task.priority = i16::try_from(number % 7).unwrap();
        task.spec.kind = kind(["work", "other", "third"][usize::try_from(number % 3).unwrap()]);
    }
    h.create(&tasks).await;
    for _ in 0..4 {
        h.advance(std::time::Duration::from_millis(500));
        let shown = h.projection().await;
        let waiting = shown.tasks.iter().filter(|task| task.state == State::Pending);
        let expected = waiting.map(|task| task.progress.run_at).min();
        assert!(expected.is_some_and(|expected| expected >= start));
        assert_eq!(oldest(&h).await, expected);
        h.claim(300).await;
    }
}
