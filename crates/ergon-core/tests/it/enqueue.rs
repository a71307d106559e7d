//! One enqueue: options and which of them wins, ids, duplicates, refusals.

use std::sync::Arc;

use ergon_core::{
    EnqueueError, Enqueued, Limits, Manager, NewTask, RetryPolicy, RunAt, State, Tag, TaskOptions,
    Unique, UniqueScope,
};
use ergon_testing::{Faulty, MemoryStore, Operation};
use jiff::Timestamp;

use super::*;

fn tags(task: &NewTask) -> Vec<&str> {
    task.spec.tags.iter().map(Tag::as_str).collect()
}

#[tokio::test(start_paused = true)]
async fn the_task_is_stored_with_its_payload_in_the_queue_of_its_kind() {
    let (client, store) = client();
    let enqueued = client.enqueue(mail("a@b.c")).await.unwrap();
    assert!(!enqueued.is_duplicate());
    let task = read(&store, enqueued.id()).await;
    assert_eq!(&task.spec.payload[..], br#"{"to":"a@b.c"}"#);
    assert_eq!(task.spec.kind.as_str(), "mail.send");
    assert_eq!(task.spec.queue.as_str(), "mail");
    assert_eq!((task.progress.priority, task.progress.max_attempts), (7, 8));
    assert_eq!(task.state, State::Pending);
}

#[tokio::test(start_paused = true)]
async fn every_setter_of_the_builder_reaches_the_store() {
    let (client, store) = client();
    let now = store.clock().now();
    let later =
        |seconds: u64| ergon_core::time::after(now, SECOND * u32::try_from(seconds).unwrap());
    let enqueued = client
        .enqueue(Plain(1))
        .queue("q")
        .priority(-3)
        .max_attempts(2)
        .retry(RetryPolicy::Fixed(SECOND))
        .timeout(SECOND * 2)
        .delay(SECOND * 3)
        .deadline(later(4))
        .retention(SECOND * 5)
        .unique(Unique::by_payload().until_started())
        .tag("a")
        .tag("b")
        .metadata(("x", "1"))
        .metadata(("y", "2"))
        .await
        .unwrap();
    let task = read(&store, enqueued.id()).await;
    assert_eq!(task.spec.queue.as_str(), "q");
    assert_eq!((task.progress.priority, task.progress.max_attempts), (-3, 2));
    assert_eq!(task.spec.retry, RetryPolicy::Fixed(SECOND));
    assert_eq!(task.spec.timeout, Some(SECOND * 2));
    assert_eq!(task.progress.run_at, later(3));
    assert_eq!(task.state, State::Scheduled);
    assert_eq!(task.spec.deadline, Some(later(4)));
    assert_eq!(task.spec.retention, Some(SECOND * 5));
    assert_eq!(task.spec.unique.unwrap().scope, UniqueScope::UntilStarted);
    assert_eq!(task.spec.tags, [Tag::new("a").unwrap(), Tag::new("b").unwrap()]);
    assert_eq!((&*task.spec.metadata["x"], &*task.spec.metadata["y"]), ("1", "2"));
    let at = client.enqueue(Plain(2)).scheduled_at(later(9)).await.unwrap();
    assert_eq!(read(&store, at.id()).await.progress.run_at, later(9));
}

#[tokio::test(start_paused = true)]
async fn the_call_wins_over_the_kind_the_kind_over_the_queue_and_it_over_the_defaults() {
    let (client, _store) = client_with(|builder| builder.queue_options("mail", of_queue()));
    let task = client.enqueue(mail("a")).priority(9).tag("call").into_new_task().unwrap();
    // The call, the kind, the queue, nobody.
    assert_eq!(task.priority, 9);
    assert_eq!(task.max_attempts, 8);
    assert_eq!(task.spec.timeout, Some(SECOND));
    assert_eq!((task.run_at, task.spec.retention), (RunAt::Now, None));
    assert_eq!(tags(&task), ["call", "kind", "queue"]);
    let task = client.enqueue(mail("a")).into_new_task().unwrap();
    assert_eq!((task.priority, task.max_attempts), (7, 8));
}

#[tokio::test(start_paused = true)]
async fn the_options_of_a_queue_go_with_the_queue_that_is_used() {
    let (client, _store) = client_with(|builder| builder.queue_options("mail", of_queue()));
    let elsewhere = client.enqueue(mail("a")).queue("other").into_new_task().unwrap();
    assert_eq!((elsewhere.spec.timeout, tags(&elsewhere)), (None, vec!["kind"]));
    let moved_in = client.enqueue(Plain(1)).queue("mail").into_new_task().unwrap();
    assert_eq!((moved_in.priority, moved_in.max_attempts), (2, 4));
    let in_default = client_with(|builder| builder.queue_options("default", of_queue()));
    let task = in_default.0.enqueue(Plain(1)).into_new_task().unwrap();
    assert_eq!(task.priority, 2);
}

#[tokio::test(start_paused = true)]
async fn prepared_options_are_weaker_than_the_builder_and_stronger_than_the_kind() {
    let (client, _store) = client();
    let prepared = TaskOptions::new().priority(1).max_attempts(1).queue("prepared");
    let task = client.enqueue(mail("a")).priority(9).options(prepared).into_new_task().unwrap();
    assert_eq!((task.priority, task.max_attempts), (9, 1));
    assert_eq!(task.spec.queue.as_str(), "prepared");
}

#[tokio::test(start_paused = true)]
async fn a_kind_without_a_type_takes_any_json() {
    let (client, store) = client();
    let enqueued = client.enqueue_json("any.kind", [1, 2]).queue("q").await.unwrap();
    let task = read(&store, enqueued.id()).await;
    assert_eq!(&task.spec.payload[..], b"[1,2]");
    assert_eq!((task.spec.kind.as_str(), task.spec.queue.as_str()), ("any.kind", "q"));
    let refused = client.enqueue_json("any kind", ()).await.unwrap_err();
    assert!(matches!(refused, EnqueueError::InvalidOptions { field: "kind", .. }), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_answers_with_the_task_that_stands_in() {
    let (client, store) = client();
    let unique = || Unique::by_payload();
    let first = client.enqueue(Plain(1)).unique(unique()).await.unwrap();
    let second = client.enqueue(Plain(1)).unique(unique()).await.unwrap();
    assert!(matches!(second, Enqueued::Duplicate(_)));
    assert!(second.is_duplicate());
    assert_eq!(second.id(), first.id());
    let other = client.enqueue(Plain(2)).unique(unique()).await.unwrap();
    assert!(!other.is_duplicate());
    assert_eq!(stored(&store).await, 2);
    // The handle is that of the other task in every respect.
    run(&store, complete("7")).await;
    assert_eq!(second.into_handle().result().await.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_is_an_error_for_those_who_want_it() {
    let (client, store) = client();
    let first = client.enqueue(Plain(1)).unique(Unique::by_kind()).or_error().await.unwrap();
    let second = client.enqueue(Plain(2)).unique(Unique::by_kind()).or_error().await.unwrap_err();
    let EnqueueError::Duplicate { of } = second else { unreachable!("{second:?}") };
    assert_eq!(of, first.id());
    assert_eq!(stored(&store).await, 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_id_is_never_a_second_task() {
    let (client, store) = client();
    let id = client.enqueue(Plain(1)).into_new_task().unwrap().id;
    for payload in [1, 2] {
        let enqueued = client.enqueue(Plain(payload)).id(id).await.unwrap();
        assert!(!enqueued.is_duplicate());
        assert_eq!(enqueued.id(), id);
    }
    assert_eq!(stored(&store).await, 1);
    assert_eq!(&read(&store, id).await.spec.payload[..], b"1");
}

#[tokio::test(start_paused = true)]
async fn an_enqueue_whose_reply_was_lost_is_repeated_with_its_id() {
    let store = MemoryStore::new();
    let faulty = Faulty::new(store.clone());
    let client = Client::new(faulty.clone());
    let id = client.enqueue(Plain(1)).into_new_task().unwrap().id;
    faulty.fail_after(Operation::Insert, 1);
    let unique = || Unique::by_kind();
    let lost = client.enqueue(Plain(1)).unique(unique()).id(id).await.unwrap_err();
    assert!(matches!(lost, EnqueueError::Store { .. }), "{lost:?}");
    // It is neither a second task nor its own duplicate.
    let again = client.enqueue(Plain(1)).unique(unique()).id(id).or_error().await.unwrap();
    assert_eq!((again.id(), again.is_duplicate()), (id, false));
    assert_eq!(stored(&store).await, 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_for_the_client_does_not_reach_the_store() {
    let faulty = Faulty::new(MemoryStore::new());
    let limits = Limits { payload_bytes_max: 10, ..Limits::default() };
    let client = Client::builder(faulty.clone()).limits(limits).build();
    let refused = client.enqueue_json("k", "123456789").await.unwrap_err();
    let EnqueueError::PayloadTooLarge { len, max } = refused else { unreachable!("{refused:?}") };
    assert_eq!((len, max), (11, 10));
    assert_eq!(faulty.calls(Operation::Insert), 0);
    assert!(client.enqueue_json("k", "12345678").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_for_the_store_is_not_stored() {
    let limits = Limits { payload_bytes_max: 10, ..Limits::default() };
    let store = MemoryStore::builder().limits(limits).build();
    let client = Client::new(store.clone());
    let refused = client.enqueue_json("k", "123456789").await.unwrap_err();
    assert!(matches!(refused, EnqueueError::PayloadTooLarge { len: 11, max: 10 }), "{refused:?}");
    let queues = Manager::new(store.clone()).tasks().queues().await.unwrap();
    assert_eq!((stored(&store).await, queues.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn limits_of_the_client_are_capped() {
    let limits = Limits { payload_bytes_max: usize::MAX, ..Limits::default() };
    let (client, _store) = client_with(|builder| builder.limits(limits));
    let refused = client.enqueue_json("k", "x".repeat(16 << 20)).into_new_task().unwrap_err();
    let EnqueueError::PayloadTooLarge { max, .. } = refused else { unreachable!("{refused:?}") };
    assert_eq!(max, 16 << 20);
}

#[tokio::test(start_paused = true)]
async fn options_that_cannot_be_taken_are_named_and_nothing_is_stored() {
    let (client, store) = client();
    let enqueue = || client.enqueue(Plain(1));
    for (builder, expected) in [
        (enqueue().queue("a b"), "queue"),
        (enqueue().max_attempts(0), "max_attempts"),
        (enqueue().timeout(Duration::ZERO), "timeout"),
        (enqueue().delay(Duration::MAX), "run_at"),
        (enqueue().scheduled_at(Timestamp::MAX), "run_at"),
        (enqueue().deadline(Timestamp::MAX), "deadline"),
        (enqueue().retention(Duration::MAX), "retention"),
        (enqueue().retry(RetryPolicy::List(vec![])), "retry"),
        (enqueue().tag("\n"), "tags"),
        (enqueue().metadata(("", "x")), "metadata"),
        (enqueue().unique(Unique::by_fields(["to"])), "unique"),
        (enqueue().unique(Unique::by_kind().period(Duration::ZERO)), "unique"),
    ] {
        let error = builder.await.unwrap_err();
        let EnqueueError::InvalidOptions { field, .. } = error else { unreachable!("{error:?}") };
        assert_eq!(field, expected);
    }
    let error = client.enqueue(unencodable()).await.unwrap_err();
    assert!(matches!(error, EnqueueError::Encode { .. }), "{error:?}");
    assert_eq!(stored(&store).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_builder_that_is_not_awaited_stores_nothing() {
    let (client, store) = client();
    drop(client.enqueue(Plain(1)));
    drop(IntoFuture::into_future(client.enqueue(Plain(1))));
    let (task, answer) = client.enqueue(Plain(1)).into_parts();
    assert_eq!(stored(&store).await, 0);
    // Whoever stores the task in another way gets the same answer.
    let id = task.unwrap().id;
    let created = answer.to(id, ergon_core::store::Inserted::Created).unwrap();
    assert_eq!((created.id(), created.is_duplicate()), (id, false));
}

#[tokio::test(start_paused = true)]
async fn a_client_is_shared_among_tasks() {
    let (client, store) = client();
    let clones: Vec<_> = (0..8).map(|number| (client.clone(), number)).collect();
    let mut running = tokio::task::JoinSet::new();
    for (client, number) in clones {
        running.spawn(async move { client.enqueue(Plain(number)).await.unwrap().id() });
    }
    let mut ids = running.join_all().await;
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), stored(&store).await), (8, 8));
    assert_eq!(Arc::strong_count(client.store()), 1);
}
