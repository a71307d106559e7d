//! Cases of the role *enqueue*.

use std::time::Duration;

use ergon_core::{
    NewTask, Now, Rejection, RetryPolicy, RunAt, State, StoreError, TaskId, Token, UniqueScope,
    progress::Progress, store::Inserted, time::whole_micros,
};
use jiff::{SignedDuration, Timestamp};

use super::{full_spec, rejection};
use crate::harness::{Harness, MINUTE, REACHABLE, SECOND, claimed_ids, kind, queue, unique};

pub async fn a_new_task_is_pending_and_reads_back_as_it_was_given(h: Harness) {
    let mut task = h.task_with(|task| task.spec = full_spec(&h));
    (task.priority, task.max_attempts) = (-7, 3);
    let id = h.insert_one(task.clone()).await;
    let read = h.get(id).await;
    assert_eq!(read.spec, task.spec);
    assert_eq!(read.progress, Progress::fresh(-7, 3, h.instant()));
    assert_eq!((read.state, read.created_at), (State::Pending, h.instant()));
}

pub async fn what_was_not_chosen_reads_back_as_not_chosen(h: Harness) {
    let task = h.task();
    h.insert_one(task.clone()).await;
    let read = h.get(task.id).await;
    assert_eq!(read.spec, task.spec);
    assert_eq!(read.progress, Progress::fresh(0, 25, h.instant()));
}

pub async fn answers_come_in_the_order_of_the_input(h: Harness) {
    let key = Some(unique(1, UniqueScope::UntilFinished));
    let holder = h.add(|task| task.spec.unique = key).await;
    let known = h.insert_one(h.task()).await;
    let batch = [
        h.task(),
        h.task_with(|task| task.spec.unique = key),
        h.task_with(|task| task.id = known),
        h.task(),
    ];
    let expected = [
        Inserted::Created,
        Inserted::Duplicate { of: holder },
        Inserted::AlreadyExists,
        Inserted::Created,
    ];
    assert_eq!(h.insert(&batch).await, expected);
    assert!(h.find(batch[0].id).await.is_some() && h.find(batch[3].id).await.is_some());
    assert!(h.find(batch[1].id).await.is_none());
}

pub async fn a_delay_counts_from_the_time_of_the_store(h: Harness) {
    let id = h.add(|task| task.run_at = RunAt::After(MINUTE)).await;
    let task = h.get(id).await;
    assert_eq!(task.state, State::Scheduled);
    assert_eq!((task.progress.run_at, task.created_at), (h.later(MINUTE), h.instant()));
}

pub async fn an_instant_in_the_past_is_due_at_once_in_the_order_of_the_instants(h: Harness) {
    let ago = |seconds| h.instant() - SignedDuration::from_secs(seconds);
    let [now, short, long] = [h.task(), h.task(), h.task()].map(|task| task.id);
    let at = |id, instant| h.task_with(|task| (task.id, task.run_at) = (id, RunAt::At(instant)));
    h.create(&[at(now, ago(0)), at(short, ago(5)), at(long, ago(5_000_000))]).await;
    assert_eq!(h.get(long).await.progress.run_at, ago(5_000_000));
    assert_eq!(claimed_ids(&h.claim(3).await), [long, short, now]);
}

pub async fn an_instant_before_1970_is_kept(h: Harness) {
    let long_ago = Timestamp::from_microsecond(-1_234_567).unwrap();
    let id = h.add(|task| task.run_at = RunAt::At(long_ago)).await;
    assert_eq!(h.get(id).await.progress.run_at, long_ago);
    assert_eq!(h.claim_one().await.run_at, long_ago);
}

pub async fn instants_are_cut_to_microseconds(h: Harness) {
    let fine = h.later(SECOND) + SignedDuration::from_nanos(1_999);
    let task = h.task_with(|task| task.run_at = RunAt::At(fine));
    let now = h.instant() + SignedDuration::from_nanos(999);
    h.store.insert(std::slice::from_ref(&task), Now::At(now)).await.unwrap();
    let read = h.get(task.id).await;
    assert_eq!(read.progress.run_at, whole_micros(fine));
    assert_eq!(read.created_at, h.instant());
}

pub async fn the_same_id_is_never_a_second_task_whatever_its_state(h: Harness) {
    for state in REACHABLE {
        let id = h.in_state(state).await;
        let other = h.task_with(|task| {
            task.id = id;
            task.spec.kind = kind("other");
            task.spec.queue = queue("elsewhere");
            task.spec.payload = "other".into();
            task.priority = 9;
        });
        let before = h.projection().await;
        assert_eq!(h.insert(&[other]).await, [Inserted::AlreadyExists], "{state}");
        assert_eq!(h.projection().await.tasks, before.tasks, "{state}");
        // Running and pending fixtures would stand in the way of the next one.
        if state == State::Pending {
            h.apply(id, ergon_core::Command::Delete).await;
        }
    }
}

pub async fn repeating_a_batch_creates_nothing_anew(h: Harness) {
    let batch: Vec<NewTask> = [h.tasks(20), h.pack(20)].concat();
    h.create(&batch).await;
    let again = h.changing_nothing("a repeated batch", h.insert(&batch)).await;
    assert_eq!(again, vec![Inserted::AlreadyExists; 40]);
}

pub async fn a_batch_with_known_ids_creates_the_others(h: Harness) {
    let batch = h.tasks(5);
    h.create(&[batch[1].clone(), batch[3].clone()]).await;
    let (new, known) = (Inserted::Created, Inserted::AlreadyExists);
    assert_eq!(h.insert(&batch).await, [new, known, new, known, new]);
    assert_eq!(h.projection().await.tasks.len(), 5);
}

pub async fn the_same_id_twice_in_a_batch_is_rejected_at_its_place(h: Harness) {
    let mut batch = h.tasks(4);
    batch[2].id = batch[0].id;
    let id = batch[0].id;
    let answer = h.changing_nothing("a repeated id", h.try_insert(&batch)).await;
    assert_eq!(rejection(answer), (2, Rejection::RepeatedId { id }));
}

pub async fn a_bad_task_in_the_middle_is_named_and_nothing_is_stored(h: Harness) {
    h.insert_one(h.task()).await;
    for bad in [0, 1, 250, 499] {
        let mut batch = h.tasks(500);
        batch[bad].max_attempts = 0;
        let answer = h.changing_nothing("a bad task", h.try_insert(&batch)).await;
        assert_eq!(rejection(answer), (bad, Rejection::NoAttempts));
        batch[bad].max_attempts = 1;
        batch.truncate(bad + 1);
        h.create(&batch).await;
    }
}

pub async fn the_first_of_several_bad_tasks_is_named(h: Harness) {
    let mut batch = h.tasks(6);
    batch[4].max_attempts = 0;
    batch[2].spec.timeout = Some(Duration::ZERO);
    let answer = h.changing_nothing("bad tasks", h.try_insert(&batch)).await;
    assert_eq!(rejection(answer), (2, Rejection::ZeroDuration { what: "timeout" }));
}

pub async fn ids_may_come_in_any_order(h: Harness) {
    let mut batch = [h.pack(7), h.tasks(5), h.pack(3)].concat();
    let mut expected: Vec<TaskId> = batch.iter().map(|task| task.id).collect();
    batch.reverse();
    batch.rotate_left(4);
    h.create(&batch).await;
    let stored: Vec<TaskId> = h.projection().await.tasks.iter().map(|task| task.id).collect();
    expected.sort_unstable();
    assert_eq!(stored, expected);
    assert_eq!(claimed_ids(&h.claim(100).await), expected);
}

pub async fn an_id_older_than_every_other_is_taken(h: Harness) {
    h.create(&h.tasks(3)).await;
    let old = TaskId::from_parts(1, 2, 3);
    h.add(|task| task.id = old).await;
    assert_eq!(h.projection().await.tasks[0].id, old);
    assert_eq!(claimed_ids(&h.claim(1).await), [old]);
}

pub async fn tasks_of_a_pack_may_differ_in_everything(h: Harness) {
    let mut pack = h.pack(6);
    pack[1].spec.kind = kind("other");
    pack[2].spec.queue = queue("elsewhere");
    pack[3].priority = 5;
    pack[4].run_at = RunAt::After(MINUTE);
    pack[5].spec.payload = "different".into();
    h.create(&pack).await;
    for task in &pack {
        let read = h.get(task.id).await;
        assert_eq!((&read.spec, read.progress.priority), (&task.spec, task.priority));
        assert_eq!(read.progress.run_at, task.run_at.resolve(h.instant()));
    }
    let expected = [pack[3].id, pack[0].id, pack[5].id];
    assert_eq!(claimed_ids(&h.claim(10).await), expected);
}

pub async fn a_full_pack_is_stored_and_claimed_task_by_task(h: Harness) {
    let pack = h.pack(ergon_core::id::PACK_LEN_MAX);
    let ids = h.create(&pack).await;
    let mut claimed = Vec::new();
    while claimed.len() < ids.len() {
        let some = h.claim(1_000).await;
        assert!(!some.is_empty(), "{} of the pack are lost", ids.len() - claimed.len());
        claimed.extend(claimed_ids(&some));
    }
    assert_eq!(claimed, ids);
}

pub async fn a_pack_may_arrive_in_several_batches(h: Harness) {
    let pack = h.pack(30);
    for part in [&pack[10..20], &pack[..10], &pack[20..]] {
        h.create(part).await;
    }
    let ids: Vec<TaskId> = pack.iter().map(|task| task.id).collect();
    assert_eq!(claimed_ids(&h.claim(30).await), ids);
}

pub async fn the_largest_batch_is_stored_whole(h: Harness) {
    let batch = h.tasks(ergon_core::limits::BATCH_MAX);
    h.create(&batch).await;
    assert_eq!(h.queue_info("default").await.counts.total(), 10_000);
}

pub async fn a_batch_over_the_byte_limit_is_rejected_whole(h: Harness) {
    let payload = bytes::Bytes::from(vec![b'x'; 1 << 20]);
    let mut batch = h.tasks(65);
    batch.iter_mut().for_each(|task| task.spec.payload = payload.clone());
    let answer = h.changing_nothing("65 MiB", h.try_insert(&batch)).await;
    let (index, reason) = rejection(answer);
    assert!(index == 64 && matches!(reason, Rejection::BatchBytes { .. }), "{reason:?}");
}

pub async fn a_task_never_claimed_has_no_token(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let progress = h.get(id).await.progress;
    assert_eq!((progress.token, progress.started_at), (Token::NONE, None));
}

pub async fn a_queue_is_known_from_its_first_task_on(h: Harness) {
    assert_eq!(h.queues().await, []);
    h.add(|task| task.spec.queue = queue("fresh")).await;
    let info = h.queue_info("fresh").await;
    assert!(!info.is_paused && info.counts.get(State::Pending) == 1);
}

pub async fn extreme_values_read_back(h: Harness) {
    for (priority, max_attempts) in [(i16::MIN, 1), (i16::MAX, u16::MAX), (-1, 2), (0, 256)] {
        let id = h.add(|task| (task.priority, task.max_attempts) = (priority, max_attempts)).await;
        let progress = h.get(id).await.progress;
        assert_eq!((progress.priority, progress.max_attempts), (priority, max_attempts));
    }
    let retry = RetryPolicy::List(vec![SECOND; 100]);
    let id = h.add(|task| task.spec.retry = retry.clone()).await;
    assert_eq!(h.get(id).await.spec.retry, retry);
}

pub async fn a_batch_too_large_is_refused_before_its_tasks_are_looked_at(h: Harness) {
    let mut batch = h.tasks(10_001);
    batch[0].max_attempts = 0;
    let answer = h.try_insert(&batch).await;
    let is_refused = matches!(answer, Err(StoreError::BatchTooLarge { len: 10_001, max: 10_000 }));
    assert!(is_refused, "{answer:?}");
}
