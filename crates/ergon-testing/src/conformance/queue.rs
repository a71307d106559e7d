//! Cases of queues: pause and resume.

use ergon_core::{State, store::QueueChange};

use crate::harness::{Harness, SECOND, SERVER, claimed_ids, complete, held, queue, retry};

pub async fn a_paused_queue_is_passed_by(h: Harness) {
    h.create(&h.tasks(3)).await;
    let other = h.add(|task| task.spec.queue = queue("other")).await;
    h.set_queue("default", QueueChange::pause()).await;
    let info = h.queue_info("default").await;
    assert!(info.is_paused && info.counts.get(State::Pending) == 3);
    let claimed = h.claim_by(&h.request_from(10, &["default", "other"])).await;
    assert_eq!(claimed_ids(&claimed), [other]);
}

pub async fn a_resumed_queue_is_served_again_in_order(h: Harness) {
    let ids = h.create(&h.tasks(3)).await;
    h.set_queue("default", QueueChange::pause()).await;
    assert_eq!(h.claim(1).await, []);
    h.advance(SECOND);
    let late = h.insert_one(h.task()).await;
    h.set_queue("default", QueueChange::resume()).await;
    assert!(!h.queue_info("default").await.is_paused);
    assert_eq!(claimed_ids(&h.claim(10).await), [ids, vec![late]].concat());
}

pub async fn pausing_and_resuming_twice_is_the_same_as_once(h: Harness) {
    h.insert_one(h.task()).await;
    h.set_queue("default", QueueChange::pause()).await;
    h.changing_nothing("paused", h.set_queue("default", QueueChange::pause())).await;
    h.set_queue("default", QueueChange::resume()).await;
    h.changing_nothing("resumed", h.set_queue("default", QueueChange::resume())).await;
    assert_eq!(h.claim(1).await.len(), 1);
}

pub async fn a_change_of_nothing_changes_nothing_but_makes_the_queue_known(h: Harness) {
    h.set_queue("default", QueueChange::pause()).await;
    h.changing_nothing("no change", h.set_queue("default", QueueChange::default())).await;
    h.set_queue("fresh", QueueChange::default()).await;
    assert!(!h.queue_info("fresh").await.is_paused);
}

pub async fn a_queue_paused_before_its_first_task_is_paused_then(h: Harness) {
    h.set_queue("future", QueueChange::pause()).await;
    h.add(|task| task.spec.queue = queue("future")).await;
    assert_eq!(h.claim_by(&h.request_from(1, &["future"])).await, []);
    h.set_queue("future", QueueChange::resume()).await;
    assert_eq!(h.claim_by(&h.request_from(1, &["future"])).await.len(), 1);
}

pub async fn what_runs_in_a_paused_queue_goes_on(h: Harness) {
    h.create(&h.tasks(2)).await;
    let claimed = h.claim(2).await;
    h.set_queue("default", QueueChange::pause()).await;
    let reply = h.beat(SERVER, &claimed.iter().map(held).collect::<Vec<_>>()).await;
    assert!(reply.lost.is_empty() && reply.cancelled.is_empty());
    h.conclude(&claimed[0], complete()).await;
    h.conclude(&claimed[1], retry(SECOND)).await;
    h.advance(SECOND);
    assert_eq!(h.claim(1).await, [], "its retry waits for the queue");
}

pub async fn queues_are_paused_each_for_itself(h: Harness) {
    let names = ["a", "ab", "a:b", "a/b", "A", "a."];
    for name in names {
        h.add(|task| task.spec.queue = queue(name)).await;
    }
    h.set_queue("a", QueueChange::pause()).await;
    h.set_queue("a/b", QueueChange::pause()).await;
    let claimed = h.claim_by(&h.request_from(5, &names)).await;
    let served: Vec<_> = claimed.iter().map(|task| task.spec.queue.as_str()).collect();
    assert_eq!(served, ["ab", "a:b", "A", "a."]);
}

pub async fn a_change_says_whether_the_queue_was_otherwise_before(h: Harness) {
    h.insert_one(h.task()).await;
    let (pause, resume, nothing) =
        (QueueChange::pause(), QueueChange::resume(), QueueChange::default());
    let changes = [
        (resume, false),
        (nothing, false),
        (pause, true),
        (pause, false),
        (nothing, false),
        (resume, true),
        (resume, false),
        (pause, true),
    ];
    for (change, expected) in changes {
        assert_eq!(h.set_queue("default", change).await, expected, "{change:?}");
    }
    assert!(h.set_queue("unknown", pause).await);
    assert!(!h.set_queue("unknown", pause).await);
    assert!(h.set_queue("default", resume).await);
}
