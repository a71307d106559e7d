//! Many enqueues at once: packs, batches, all or nothing.

use std::sync::Arc;

use ergon_core::{
    EnqueueError, Limits, RunAt, SystemIds, SystemRng, Tag, TaskId, Unique, id::PACK_LEN_MAX,
    limits::BATCH_MAX,
};
use ergon_testing::{Faulty, MemoryStore, Operation};

use super::*;

#[tokio::test(start_paused = true)]
async fn the_tasks_of_a_pack_share_an_id_and_count_its_offsets() {
    let (client, store) = client();
    let enqueued = client.enqueue_many((0..5).map(Plain)).await.unwrap();
    let pack = enqueued[0].id().pack();
    for (offset, enqueued) in (0..5).zip(&enqueued) {
        assert_eq!(enqueued.id(), pack.with_offset(offset));
        let task = read(&store, enqueued.id()).await;
        assert_eq!(task.spec.payload, offset.to_string());
    }
    let next = client.enqueue(Plain(9)).await.unwrap();
    assert!(next.id() > enqueued[4].id());
    assert_ne!(next.id().pack(), pack);
}

#[tokio::test(start_paused = true)]
async fn tasks_enqueued_singly_in_one_millisecond_share_a_pack_and_never_that_of_a_batch() {
    let (client, _store) = client_with(|builder| builder.ids(Arc::new(SystemIds::new(SystemRng))));
    let single = async |number| client.enqueue(Plain(number)).await.unwrap().id();
    // The clock is paused: all of this is one millisecond.
    let (first, second) = (single(1).await, single(2).await);
    assert_eq!(second, first.with_offset(1));
    let batch = client.enqueue_many([3, 4].map(Plain)).await.unwrap();
    let third = single(5).await;
    assert_eq!((batch[0].id().offset(), third.offset()), (0, 0));
    let packs = [second, batch[1].id(), third].map(TaskId::pack);
    assert!(packs.is_sorted_by(|before, after| before < after), "{packs:?}");
}

#[tokio::test(start_paused = true)]
async fn a_full_pack_is_followed_by_another() {
    let (client, _store) = client();
    let len = PACK_LEN_MAX + 2;
    let tasks = client.enqueue_many((0..len as u64).map(Plain)).into_new_tasks().unwrap();
    let first = tasks[0].id.pack();
    assert!(tasks[..PACK_LEN_MAX].iter().all(|task| task.id.pack() == first));
    let second = tasks[PACK_LEN_MAX].id;
    assert_ne!(second.pack(), first);
    assert_eq!((second.offset(), tasks[len - 1].id), (0, second.with_offset(1)));
    assert!(tasks.is_sorted_by(|one, next| one.id < next.id));
}

#[tokio::test(start_paused = true)]
async fn more_than_a_batch_are_several_in_order() {
    let (_, store) = client();
    let faulty = Faulty::new(store.clone());
    let client = Client::new(faulty.clone());
    let many = || client.enqueue_many((0..2 * BATCH_MAX as u64 + 1).map(Plain));
    let enqueued = many().await.unwrap();
    assert_eq!(faulty.calls(Operation::Insert), 3);
    assert_eq!(enqueued.len(), 2 * BATCH_MAX + 1);
    assert!(enqueued.is_sorted_by(|one, next| one.id() < next.id()));
    assert_eq!(stored(&store).await, enqueued.len() as u64);
    let last = read(&store, enqueued[2 * BATCH_MAX].id()).await;
    assert_eq!(last.spec.payload, (2 * BATCH_MAX).to_string());
}

#[tokio::test(start_paused = true)]
async fn exactly_a_batch_is_one_and_nothing_is_none() {
    let faulty = Faulty::new(MemoryStore::new());
    let client = Client::new(faulty.clone());
    client.enqueue_many((0..BATCH_MAX as u64).map(Plain)).await.unwrap();
    assert_eq!(faulty.calls(Operation::Insert), 1);
    assert!(client.enqueue_many(Vec::<Plain>::new()).await.unwrap().is_empty());
    assert_eq!(faulty.calls(Operation::Insert), 1);
}

#[tokio::test(start_paused = true)]
async fn large_payloads_make_smaller_batches() {
    let store = MemoryStore::builder().limits(Limits::CAPS).build();
    let faulty = Faulty::new(store);
    let client = Client::builder(faulty.clone()).limits(Limits::CAPS).build();
    // Four and a half fit 64 MiB.
    let to = "x".repeat(14 << 20);
    let enqueued = client.enqueue_many((0..5).map(|_| mail(&to))).await.unwrap();
    assert_eq!((enqueued.len(), faulty.calls(Operation::Insert)), (5, 2));
}

#[tokio::test(start_paused = true)]
async fn every_task_is_checked_before_the_first_is_stored() {
    let (client, store) =
        client_with(|builder| builder.limits(Limits { payload_bytes_max: 5, ..Limits::default() }));
    let payloads = (0..BATCH_MAX as u64).chain([123_456]).map(Plain);
    let refused = client.enqueue_many(payloads).await.unwrap_err();
    assert!(matches!(refused, EnqueueError::PayloadTooLarge { len: 6, max: 5 }), "{refused:?}");
    let refused = client.enqueue_many([unencodable()]).await.unwrap_err();
    assert!(matches!(refused, EnqueueError::Encode { .. }), "{refused:?}");
    assert_eq!(stored(&store).await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_store_refuses_takes_its_batch_with_it() {
    let limits = Limits { payload_bytes_max: 1, ..Limits::default() };
    let store = MemoryStore::builder().limits(limits).build();
    let refused = Client::new(store.clone()).enqueue_many([1, 2, 33].map(Plain)).await.unwrap_err();
    assert!(matches!(refused, EnqueueError::PayloadTooLarge { len: 2, max: 1 }), "{refused:?}");
    assert_eq!(stored(&store).await, 0);
}

#[tokio::test(start_paused = true)]
async fn options_hold_for_every_task_and_win_as_for_one() {
    let (client, _store) = client_with(|builder| builder.queue_options("mail", of_queue()));
    let prepared = TaskOptions::new().max_attempts(1).priority(1);
    let many = client.enqueue_many(["a", "b"].map(mail)).priority(9).delay(SECOND);
    for task in many.options(prepared).into_new_tasks().unwrap() {
        assert_eq!((task.priority, task.max_attempts), (9, 1));
        assert_eq!(task.run_at, RunAt::After(SECOND));
        assert_eq!(task.spec.timeout, Some(SECOND));
        let tags: Vec<_> = task.spec.tags.iter().map(Tag::as_str).collect();
        assert_eq!(tags, ["kind", "queue"]);
    }
}

#[tokio::test(start_paused = true)]
async fn duplicates_are_answered_one_by_one() {
    let (client, store) = client();
    let unique = || Unique::by_payload();
    let before = client.enqueue(Plain(2)).unique(unique()).await.unwrap();
    let enqueued = client.enqueue_many([1, 2, 1, 3].map(Plain)).unique(unique()).await.unwrap();
    let duplicates: Vec<_> = enqueued.iter().map(|enqueued| enqueued.is_duplicate()).collect();
    assert_eq!(duplicates, [false, true, true, false]);
    assert_eq!(enqueued[1].id(), before.id());
    // The key is decided against the tasks earlier in the batch, too.
    assert_eq!(enqueued[2].id(), enqueued[0].id());
    assert_eq!(stored(&store).await, 3);
}
