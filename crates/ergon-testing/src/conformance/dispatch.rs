//! Cases of the role *dispatch*: what a claim takes, and in which order.

use ergon_core::{
    NewTask, Rejection, RunAt, State, StoreError, TaskId, Token,
    store::{ClaimRequest, LEASE_DEFAULT, QueueSlots},
};
use jiff::SignedDuration;

use super::{full_spec, rejection};
use crate::harness::{
    Harness, KIND, MICROSECOND, MINUTE, OTHER_SERVER, SECOND, SERVER, claimed_ids, complete, kind,
    queue, retry,
};

pub async fn a_claim_hands_over_what_was_enqueued(h: Harness) {
    let mut task = h.task_with(|task| task.spec = full_spec(&h));
    (task.priority, task.max_attempts) = (11, 4);
    task.spec.queue = queue("default");
    task.spec.kind = kind(KIND);
    let (created_at, run_at) = (h.instant(), h.later(MINUTE));
    task.run_at = RunAt::At(run_at);
    h.insert_one(task.clone()).await;
    h.advance(MINUTE * 2);
    let claimed = h.claim_one().await;
    assert!(claimed.token > Token::NONE);
    assert_eq!((claimed.id, &claimed.spec), (task.id, &task.spec));
    assert_eq!((claimed.priority, claimed.attempt), (11, 1));
    assert_eq!((claimed.max_attempts, claimed.crash_count), (4, 0));
    assert_eq!((claimed.created_at, claimed.run_at), (created_at, run_at));
    assert_eq!(claimed.claimed_at, h.instant());
}

pub async fn a_claimed_task_is_running_since_the_claim(h: Harness) {
    let id = h.insert_one(h.task()).await;
    h.advance(SECOND);
    let claimed = h.claim_one().await;
    let task = h.get(id).await;
    assert_eq!((task.state, task.progress.token), (State::Running, claimed.token));
    assert_eq!(task.progress.started_at, Some(h.instant()));
    assert_eq!(task.progress.attempt, 0);
}

pub async fn a_claimed_task_is_not_claimed_again(h: Harness) {
    h.insert_one(h.task()).await;
    h.claim_one().await;
    for server in [SERVER, OTHER_SERVER] {
        let none = h.changing_nothing("nothing is due", h.claim_as(server, 5)).await;
        assert_eq!(none, []);
    }
    // Not even when its lease is over: only a rescue takes it back.
    h.advance(LEASE_DEFAULT * 2);
    assert_eq!(h.claim(5).await, []);
}

pub async fn the_larger_priority_comes_first(h: Harness) {
    let priorities = [0, -1, 1, i16::MIN, 100, i16::MAX, -100, i16::MIN + 1, 256, -256, 255, 127];
    let mut expected = Vec::new();
    for priority in priorities {
        expected.push((priority, h.add(|task| task.priority = priority).await));
    }
    expected.sort_by_key(|&(priority, _)| std::cmp::Reverse(priority));
    let claimed = h.claim(100).await;
    let order: Vec<_> = claimed.iter().map(|task| (task.priority, task.id)).collect();
    assert_eq!(order, expected);
}

pub async fn within_a_priority_the_earlier_due_time_comes_first(h: Harness) {
    let micros = [500, 3, 999_999, 4, 65_536, 1, 255, 256];
    let mut expected = Vec::new();
    for at in micros {
        let run_at = h.instant() + SignedDuration::from_micros(at);
        expected.push((run_at, h.add(|task| task.run_at = RunAt::At(run_at)).await));
    }
    expected.sort_unstable();
    h.advance(SECOND);
    let order: Vec<_> = h.claim(100).await.iter().map(|task| (task.run_at, task.id)).collect();
    assert_eq!(order, expected);
}

pub async fn at_the_same_due_time_the_smaller_id_comes_first(h: Harness) {
    let mut batch = [h.tasks(10), h.pack(10)].concat();
    let expected: Vec<TaskId> = batch.iter().map(|task| task.id).collect();
    batch.reverse();
    for task in batch {
        h.insert_one(task).await;
    }
    assert_eq!(claimed_ids(&h.claim(20).await), expected);
}

pub async fn a_priority_weighs_more_than_a_due_time(h: Harness) {
    let early = h.insert_one(h.task()).await;
    h.advance(MINUTE);
    let urgent = h.add(|task| task.priority = 1).await;
    assert_eq!(claimed_ids(&h.claim(2).await), [urgent, early]);
}

pub async fn the_order_holds_over_many_small_claims(h: Harness) {
    let mut expected = Vec::new();
    for index in 0_i16..60 {
        let (priority, delay) = (index * 7 % 3, u32::try_from(index * 11 % 5).unwrap());
        let task = h.task_with(|task| {
            (task.priority, task.run_at) = (priority, RunAt::After(SECOND * delay));
        });
        expected.push((std::cmp::Reverse(priority), h.later(SECOND * delay), task.id));
        h.insert_one(task).await;
    }
    expected.sort_unstable();
    h.advance(SECOND * 5);
    let mut order = Vec::new();
    for slots in [1, 2, 3, 5, 8, 13, 21, 34] {
        order.extend(claimed_ids(&h.claim(slots).await));
    }
    assert_eq!(order, expected.into_iter().map(|(.., id)| id).collect::<Vec<_>>());
}

pub async fn a_task_is_due_at_its_microsecond_and_not_before(h: Harness) {
    let id = h.add(|task| task.run_at = RunAt::After(SECOND)).await;
    h.advance(SECOND - MICROSECOND);
    assert_eq!(h.get(id).await.state, State::Scheduled);
    assert_eq!(h.changing_nothing("one microsecond early", h.claim(1)).await, []);
    h.advance(MICROSECOND);
    assert_eq!(h.get(id).await.state, State::Pending);
    assert_eq!(claimed_ids(&h.claim(1).await), [id]);
}

pub async fn tasks_that_become_due_are_ordered_with_those_that_were(h: Harness) {
    let later = h.add(|task| task.run_at = RunAt::After(SECOND)).await;
    let latest = h.add(|task| task.run_at = RunAt::After(SECOND * 3)).await;
    h.advance(SECOND * 2);
    let fresh = h.insert_one(h.task()).await;
    h.advance(SECOND * 2);
    assert_eq!(claimed_ids(&h.claim(3).await), [later, fresh, latest]);
}

pub async fn only_due_tasks_are_claimed(h: Harness) {
    let states = [
        State::Running,
        State::Retrying,
        State::Scheduled,
        State::Completed,
        State::Failed,
        State::Cancelled,
    ];
    for state in states {
        h.in_state(state).await;
        let claimed = h.changing_nothing(state.as_str(), h.claim(10)).await;
        assert_eq!(claimed, [], "{state}");
    }
    let pending = h.in_state(State::Pending).await;
    assert_eq!(claimed_ids(&h.claim(10).await), [pending]);
}

pub async fn kinds_not_handled_are_passed_by(h: Harness) {
    let mut batch: Vec<NewTask> = h.tasks(300);
    batch.iter_mut().for_each(|task| {
        (task.spec.kind, task.priority) = (kind("foreign"), 5);
    });
    h.create(&batch).await;
    let own = h.create(&h.tasks(3)).await;
    assert_eq!(claimed_ids(&h.claim(50).await), own);
    assert_eq!(h.queue_info("default").await.counts.get(State::Pending), 300);
    let request = ClaimRequest::new(
        OTHER_SERVER,
        [kind("foreign"), kind(KIND)],
        [QueueSlots { queue: queue("default"), slots: 500 }],
    );
    assert_eq!(h.claim_by(&request.now(h.now())).await.len(), 300);
}

pub async fn a_claim_of_several_kinds_keeps_the_order(h: Harness) {
    let mut ids = Vec::new();
    for name in ["b", "a", "c", "a", "b", "d"] {
        ids.push((h.add(|task| task.spec.kind = kind(name)).await, name));
        h.advance(SECOND);
    }
    let queues = [QueueSlots { queue: queue("default"), slots: 10 }];
    let request = ClaimRequest::new(SERVER, [kind("c"), kind("b"), kind("a")], queues);
    let claimed = claimed_ids(&h.claim_by(&request.now(h.now())).await);
    let expected: Vec<_> = ids.iter().filter(|(_, name)| *name != "d").map(|&(id, _)| id).collect();
    assert_eq!(claimed, expected);
}

pub async fn a_claim_of_no_kinds_or_no_queues_takes_nothing(h: Harness) {
    h.insert_one(h.task()).await;
    let queues = || [QueueSlots { queue: queue("default"), slots: 5 }];
    let no_kinds = ClaimRequest::new(SERVER, [], queues()).now(h.now());
    assert_eq!(h.changing_nothing("no kinds", h.claim_by(&no_kinds)).await, []);
    let no_queues = ClaimRequest::new(SERVER, [kind(KIND)], []).limit(5).now(h.now());
    assert_eq!(h.changing_nothing("no queues", h.claim_by(&no_queues)).await, []);
    let unknown = h.request_from(5, &["unknown"]);
    assert_eq!(h.changing_nothing("unknown queue", h.claim_by(&unknown)).await, []);
}

pub async fn queues_not_named_are_passed_by(h: Harness) {
    for name in ["one", "two", "three"] {
        h.create(&of_queue(&h, name, 3)).await;
    }
    let claimed = h.claim_by(&h.request_from(10, &["two"])).await;
    assert!(claimed.len() == 3 && claimed.iter().all(|task| task.spec.queue == queue("two")));
}

pub async fn queues_are_served_in_the_order_of_the_request(h: Harness) {
    for (name, priority) in [("low", -5), ("mid", 0), ("high", 5)] {
        let mut batch = of_queue(&h, name, 4);
        batch.iter_mut().for_each(|task| task.priority = priority);
        h.create(&batch).await;
    }
    let request = h.request_from(3, &["mid", "low", "high"]).limit(7);
    let claimed = h.claim_by(&request).await;
    let order: Vec<_> = claimed.iter().map(|task| task.spec.queue.as_str()).collect();
    assert_eq!(order, ["mid", "mid", "mid", "low", "low", "low", "high"]);
}

pub async fn each_queue_gives_no_more_than_its_slots(h: Harness) {
    h.create(&of_queue(&h, "one", 10)).await;
    h.create(&of_queue(&h, "two", 10)).await;
    let slots = |name, slots| QueueSlots { queue: queue(name), slots };
    let queues = [slots("one", 4), slots("two", 0), slots("none", 9)];
    let request = ClaimRequest::new(SERVER, [kind(KIND)], queues).now(h.now());
    let claimed = h.claim_by(&request).await;
    assert!(claimed.len() == 4 && claimed.iter().all(|task| task.spec.queue == queue("one")));
}

pub async fn the_limit_holds_over_all_queues(h: Harness) {
    h.create(&of_queue(&h, "one", 10)).await;
    h.create(&of_queue(&h, "two", 10)).await;
    let request = h.request_from(10, &["one", "two"]);
    assert_eq!(h.claim_by(&request.clone().limit(0)).await, []);
    assert_eq!(h.claim_by(&request.clone().limit(3)).await.len(), 3);
    assert_eq!(h.claim_by(&request.clone().limit(12)).await.len(), 12);
    assert_eq!(h.claim_by(&request.limit(10_000)).await.len(), 5);
}

pub async fn a_limit_over_the_batch_limit_is_refused(h: Harness) {
    h.insert_one(h.task()).await;
    let request = h.request(1).limit(10_001);
    let answer = h.changing_nothing("limit", h.store.claim(&request)).await;
    let is_refused = matches!(answer, Err(StoreError::BatchTooLarge { len: 10_001, max: 10_000 }));
    assert!(is_refused, "{answer:?}");
}

pub async fn slots_may_exceed_every_limit(h: Harness) {
    h.create(&h.tasks(3)).await;
    assert_eq!(h.claim(usize::MAX).await.len(), 3);
}

pub async fn a_lease_of_no_length_is_refused(h: Harness) {
    h.insert_one(h.task()).await;
    let request = h.request(1).lease(std::time::Duration::ZERO);
    let answer = h.changing_nothing("no lease", h.store.claim(&request)).await;
    assert!(matches!(rejection(answer).1, Rejection::ZeroDuration { .. }));
}

pub async fn thousands_are_claimed_at_once(h: Harness) {
    let ids = h.create(&[h.pack(3_000), h.tasks(2_000)].concat()).await;
    assert_eq!(claimed_ids(&h.claim(10_000).await), ids);
    assert_eq!(h.queue_info("default").await.counts.get(State::Running), 5_000);
}

pub async fn the_attempt_of_a_claim_counts_from_one(h: Harness) {
    let id = h.insert_one(h.task()).await;
    for attempt in 1..=5 {
        let claimed = h.claim_this(id).await;
        assert_eq!(claimed.attempt, attempt);
        let last = if attempt == 5 { complete() } else { retry(SECOND) };
        h.conclude(&claimed, last).await;
        h.advance(SECOND);
    }
}

pub async fn a_deadline_is_left_to_the_server(h: Harness) {
    let deadline = h.later(SECOND);
    let id = h.add(|task| task.spec.deadline = Some(deadline)).await;
    h.advance(MINUTE);
    let claimed = h.claim_one().await;
    assert_eq!((claimed.id, claimed.spec.deadline), (id, Some(deadline)));
}

pub async fn waiting_for_work_ends_when_a_task_comes(h: Harness) {
    let (store, kind) = (h.store.clone(), h.task().spec.kind);
    let mut waiting = tokio::task::JoinSet::new();
    waiting.spawn(async move {
        store.wait_for_work(&[queue("default")], &[kind], MINUTE * 10).await;
    });
    tokio::task::yield_now().await;
    h.insert_one(h.task()).await;
    waiting.join_next().await.unwrap().unwrap();
}

pub async fn waiting_for_work_ends_at_once_when_there_is_some(h: Harness) {
    h.insert_one(h.task()).await;
    // A claim for other kinds does not make it seen.
    let mut request = h.request(10);
    request.kinds = [kind("other")].into();
    assert_eq!(h.claim_by(&request).await, []);
    h.store.wait_for_work(&[queue("default")], &[h.task().spec.kind], MINUTE * 10).await;
}

pub async fn waiting_for_work_ends_with_its_time(h: Harness) {
    let names = [queue("default"), queue("other")];
    let kinds = [h.task().spec.kind];
    h.store.wait_for_work(&names, &kinds, std::time::Duration::from_millis(5)).await;
    h.store.wait_for_work(&[], &kinds, std::time::Duration::from_millis(5)).await;
    h.store.wait_for_work(&names, &[], std::time::Duration::from_millis(5)).await;
}

fn of_queue(h: &Harness, name: &str, len: usize) -> Vec<NewTask> {
    let mut tasks = h.tasks(len);
    tasks.iter_mut().for_each(|task| task.spec.queue = queue(name));
    tasks
}
