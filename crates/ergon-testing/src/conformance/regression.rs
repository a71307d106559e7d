//! Cases of the defects of the library that this one takes the place of: none may come back.
//!
//! The numbers G1 to G24 are those of its list of defects; those of them that no store can have
//! (handlers, shutdown, monitor) are tested elsewhere.

use ergon_core::{
    Command, CommandVerdict, Conclusion, ErrorKind, Order, RetryPolicy, RunAt, State, TaskFilter,
    UniqueScope, Verdict,
    store::{Beat, Inserted, LEASE_DEFAULT, QueueChange, Report},
};

use crate::harness::{
    DAY, HOUR, Harness, MICROSECOND, MINUTE, OTHER_SERVER, SECOND, SERVER, cancel_command,
    claimed_ids, complete, every_conclusion, held, kind, queue, retry, snooze, unique,
};

pub async fn g1_a_task_of_a_crashed_server_runs_again(h: Harness) {
    let ids = h.create(&h.tasks(50)).await;
    assert_eq!(h.claim(50).await.len(), 50);
    h.advance(LEASE_DEFAULT);
    assert_eq!(h.rescue().await, Report { done: 50, ..Report::default() });
    assert_eq!(claimed_ids(&h.claim_as(OTHER_SERVER, 50).await), ids);
}

pub async fn g2_a_beat_extends_a_lease_by_what_it_says(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let claimed = h.claim_this(id).await;
    let started_at = h.get(id).await.progress.started_at;
    h.advance(SECOND);
    let beat = Beat::new(SERVER, vec![held(&claimed)]).lease(HOUR).now(h.now());
    h.store.beat(&beat).await.unwrap();
    assert_eq!(h.get(id).await.progress.started_at, started_at, "a start is no heartbeat");
    h.advance(HOUR - MICROSECOND);
    assert_eq!(h.rescue().await.done, 0);
    h.advance(MICROSECOND);
    assert_eq!(h.rescue().await.done, 1);
}

pub async fn g3_a_cancelled_task_cannot_become_completed(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let claimed = h.claim_this(id).await;
    h.conclude(&claimed, Conclusion::Release).await;
    h.apply(id, cancel_command()).await;
    for conclusion in every_conclusion() {
        if conclusion != Conclusion::Release {
            let finish = h.finish(&claimed, conclusion);
            assert_eq!(h.changing_nothing("cancelled", finish).await, Verdict::Stale);
        }
    }
    assert_eq!(h.state(id).await, Some(State::Cancelled));
}

pub async fn g4_an_outcome_given_back_in_a_shutdown_frees_the_task_at_once(h: Harness) {
    let id = h.add(|task| task.max_attempts = 1).await;
    let claimed = h.claim_this(id).await;
    h.conclude(&claimed, Conclusion::Release).await;
    let again = h.claim_as(OTHER_SERVER, 1).await;
    assert_eq!((claimed_ids(&again), again[0].attempt), (vec![id], 1));
}

pub async fn g5_a_paused_queue_is_not_served(h: Harness) {
    h.create(&h.tasks(2)).await;
    h.set_queue("default", QueueChange::pause()).await;
    for _ in 0..3 {
        assert_eq!(h.changing_nothing("paused", h.claim(1)).await, []);
        h.advance(HOUR);
    }
    h.set_queue("default", QueueChange::resume()).await;
    assert_eq!(h.claim(5).await.len(), 2);
}

pub async fn g6_a_task_of_an_unknown_kind_waits_for_its_handler(h: Harness) {
    let id = h.add(|task| task.spec.kind = kind("of-the-next-release")).await;
    for _ in 0..10 {
        assert_eq!(h.changing_nothing("unknown kind", h.claim(5)).await, []);
        h.advance(DAY);
    }
    let progress = h.get(id).await.progress;
    assert_eq!((progress.attempt, progress.errors.len()), (0, 0));
    assert_eq!(h.state(id).await, Some(State::Pending));
}

pub async fn g7_a_unique_key_is_enforced_and_freed_with_the_task(h: Harness) {
    let key = Some(unique(7, UniqueScope::UntilFinished));
    let mut holder = h.add(|task| task.spec.unique = key).await;
    for _ in 0..5 {
        let another = h.task_with(|task| task.spec.unique = key);
        let answer = h.insert(std::slice::from_ref(&another)).await;
        assert_eq!(answer, [Inserted::Duplicate { of: holder }]);
        h.claim_and_conclude(holder, complete()).await;
        holder = h.insert_one(another).await;
    }
}

pub async fn g11_a_snooze_spends_no_attempt(h: Harness) {
    let id = h.add(|task| task.max_attempts = 2).await;
    h.claim_and_conclude(id, retry(SECOND)).await;
    h.advance(SECOND);
    for _ in 0..100 {
        assert_eq!(h.get(id).await.progress.attempt, 1);
        h.claim_and_conclude(id, snooze(SECOND)).await;
        h.advance(SECOND);
    }
    h.claim_and_conclude(id, complete()).await;
}

pub async fn g13_a_rescheduled_task_does_not_block_its_queue(h: Harness) {
    let ids = h.create(&h.tasks(20)).await;
    for (at, id) in ids.iter().enumerate() {
        let command = match at % 4 {
            0 => Command::Reschedule { run_at: h.later(HOUR) },
            1 => Command::Delete,
            2 => cancel_command(),
            _ => Command::SetPriority { priority: -5 },
        };
        assert_eq!(h.apply(*id, command).await, CommandVerdict::Applied);
    }
    let later = h.insert_one(h.task()).await;
    assert_eq!(claimed_ids(&h.claim(10).await), [later, ids[3], ids[7], ids[11], ids[15], ids[19]]);
    h.advance(HOUR);
    assert_eq!(claimed_ids(&h.claim(10).await), [ids[0], ids[4], ids[8], ids[12], ids[16]]);
}

pub async fn g14_queue_and_kind_are_not_run_together(h: Harness) {
    let one = h.add(|task| (task.spec.queue, task.spec.kind) = (queue("a:b"), kind("c"))).await;
    let two = h.add(|task| (task.spec.queue, task.spec.kind) = (queue("a"), kind("b:c"))).await;
    for (queue_name, kind_name, id) in [("a:b", "c", one), ("a", "b:c", two)] {
        let by_queue = TaskFilter::all().queue(queue(queue_name));
        let by_kind = TaskFilter::all().kind(kind(kind_name));
        for filter in [by_queue, by_kind] {
            let found = h.walk(&filter, 10, Order::OldestFirst).await;
            assert_eq!(crate::harness::record_ids(&found), [id]);
        }
    }
    h.set_queue("a", QueueChange::pause()).await;
    assert!(!h.queue_info("a:b").await.is_paused);
    // A queue may have the name of anything that a store keeps beside queues.
    for name in ["info", "queues", "default:info", "pending", "unique"] {
        h.add(|task| task.spec.queue = queue(name)).await;
    }
    assert_eq!(h.queues().await.len(), 7);
}

pub async fn g15_a_large_batch_is_never_stored_by_halves(h: Harness) {
    let payload = bytes::Bytes::from(vec![b'x'; 4_096]);
    let mut batch = h.tasks(5_000);
    batch.iter_mut().for_each(|task| task.spec.payload = payload.clone());
    batch[4_999].max_attempts = 0;
    let answer = h.changing_nothing("a bad last task", h.try_insert(&batch)).await;
    assert_eq!(super::rejection(answer).0, 4_999);
    batch[4_999].max_attempts = 1;
    h.create(&batch).await;
    assert_eq!(h.insert(&batch).await, vec![Inserted::AlreadyExists; 5_000]);
}

pub async fn g16_filters_take_text_for_text(h: Harness) {
    h.create(&h.tasks(3)).await;
    let hostile = "' OR 1=1; DELETE FROM tasks; --";
    let filter = TaskFilter::all().metadata(hostile, hostile).tag(crate::harness::tag(hostile));
    assert_eq!(h.walk(&filter, 10, Order::NewestFirst).await, []);
    assert_eq!(h.count(&filter).await.value, 0);
    let selection = ergon_core::Selection::Matching { filter, limit: 10 };
    assert_eq!(h.apply_to(selection, Command::Delete).await.verdicts, []);
    assert_eq!(h.projection().await.tasks.len(), 3);
}

pub async fn g18_counts_survive_pause_and_resume(h: Harness) {
    h.create(&h.tasks(4)).await;
    h.claim(1).await;
    for change in [QueueChange::pause(), QueueChange::resume(), QueueChange::pause()] {
        let before = h.queue_info("default").await.counts;
        h.set_queue("default", change).await;
        assert_eq!(h.queue_info("default").await.counts, before);
        h.insert_one(h.task()).await;
        h.check_counters().await;
    }
}

pub async fn g19_a_finished_claim_leaves_nothing_to_rescue(h: Harness) {
    let id = h.add(|task| task.max_attempts = 1_000).await;
    for round in 0..30 {
        let server = if round % 2 == 0 { SERVER } else { OTHER_SERVER };
        let claimed = h.claim_as(server, 1).await;
        h.conclude(&claimed[0], retry(SECOND)).await;
        h.advance(SECOND);
    }
    h.claim_and_conclude(id, complete()).await;
    h.advance(HOUR);
    assert_eq!(h.changing_nothing("finished", h.rescue()).await.done, 0);
    assert_eq!(h.state(id).await, Some(State::Completed));
}

pub async fn g20_a_backoff_never_overflows(h: Harness) {
    let id = h.add(|task| task.max_attempts = u16::MAX).await;
    let policy = RetryPolicy::default();
    for attempt in 1..=70 {
        let delay = policy.ceiling(attempt);
        assert!(delay >= SECOND && delay <= HOUR);
        let error = attempt.to_string();
        let kind = ErrorKind::Error;
        h.claim_and_conclude(id, Conclusion::Retry { delay, kind, error }).await;
        let progress = h.get(id).await.progress;
        assert_eq!((progress.run_at, progress.attempt), (h.later(delay), attempt));
        assert_eq!(h.claim(1).await, [], "a hot loop");
        h.advance(delay);
    }
}

pub async fn g21_instants_are_instants_wherever_they_were_written(h: Harness) {
    let zoned: jiff::Timestamp = "2024-06-01T03:00:00.123456+05:30".parse().unwrap();
    let id = h.add(|task| task.run_at = RunAt::At(zoned)).await;
    let deadline: jiff::Timestamp = "2025-03-30T02:30:00.000001+01:00".parse().unwrap();
    let other = h.add(|task| task.spec.deadline = Some(deadline)).await;
    assert_eq!(h.get(id).await.progress.run_at, zoned);
    assert_eq!(h.get(other).await.spec.deadline, Some(deadline));
    assert_eq!(h.get(id).await.progress.run_at.to_string(), "2024-05-31T21:30:00.123456Z");
}

pub async fn g24_tasks_of_a_priority_run_in_the_order_of_their_enqueue(h: Harness) {
    let mut expected = Vec::new();
    for round in 0..40 {
        // Ids that fall with every enqueue: the order is not theirs.
        let id = ergon_core::TaskId::from_parts(1_000_000 - round, round, 0);
        expected.push(h.add(|task| task.id = id).await);
        h.advance(MICROSECOND);
    }
    h.advance(MINUTE);
    assert_eq!(claimed_ids(&h.claim(100).await), expected);
}
