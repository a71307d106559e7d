//! The manager's two views: what is read and what is changed.

use ergon_core::{
    Command, CommandVerdict, Manager, Order, Page, Selection, State, StoreError, time::after,
};

use super::*;

fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

#[tokio::test(start_paused = true)]
async fn tasks_are_read_counted_and_listed() {
    let (client, store) = client();
    let manager = Manager::new(store);
    let enqueued = client.enqueue_many((0..5).map(Plain)).await.unwrap();
    let mail = client.enqueue(mail("a")).await.unwrap().into_handle();
    let tasks = manager.tasks();
    assert_eq!(tasks.get(mail.id()).await.unwrap().unwrap().spec.queue, queue("mail"));
    assert_eq!(tasks.get(TaskId::MAX).await.unwrap(), None);
    let tagged = TaskFilter::all().tag("kind".parse().unwrap());
    assert_eq!(tasks.count(&tagged).await.unwrap().value, 1);
    assert_eq!(tasks.count(&TaskFilter::all()).await.unwrap().value, 6);
    // Page by page, in both orders.
    let ids: Vec<_> = enqueued.iter().map(|enqueued| enqueued.id()).chain([mail.id()]).collect();
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let mut page = Page::of(4).order(order);
        let mut seen = Vec::new();
        loop {
            let read = tasks.list(&TaskFilter::all(), &page).await.unwrap();
            seen.extend(read.tasks.iter().map(|task| task.id));
            let Some(next) = read.next else { break };
            page = page.after(next);
        }
        if order == Order::NewestFirst {
            seen.reverse();
        }
        assert_eq!(seen, ids, "{order:?}");
    }
    let refused = tasks.list(&TaskFilter::all(), &Page::of(0)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Rejected { .. }), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn queues_are_read_with_their_tasks_by_state() {
    let (client, store) = client();
    client.enqueue_many((0..3).map(Plain)).await.unwrap();
    client.enqueue(mail("a")).delay(SECOND).await.unwrap();
    run(&store, complete("1")).await;
    let queues = Manager::new(store).tasks().queues().await.unwrap();
    let names: Vec<_> = queues.iter().map(|queue| queue.name.as_str()).collect();
    assert_eq!(names, ["default", "mail"]);
    assert_eq!(queues[0].counts.get(State::Pending), 2);
    assert_eq!(queues[0].counts.get(State::Completed), 1);
    assert_eq!(queues[1].counts.get(State::Scheduled), 1);
    assert_eq!((queues[0].counts.total(), queues[1].counts.total()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn one_task_is_steered_through_its_life() {
    let (client, store) = client();
    let id = client.enqueue(Plain(1)).await.unwrap().id();
    let manager = Manager::new(store.clone());
    let control = manager.control();
    assert_eq!(control.set_priority(id, 9).await.unwrap(), CommandVerdict::Applied);
    assert_eq!(control.set_priority(id, 9).await.unwrap(), CommandVerdict::Unchanged);
    let later = after(store.clock().now(), SECOND);
    assert_eq!(control.reschedule(id, later).await.unwrap(), CommandVerdict::Applied);
    let task = read(&store, id).await;
    assert_eq!((task.progress.priority, task.state), (9, State::Scheduled));
    assert_eq!(control.retry(id).await.unwrap(), CommandVerdict::Applied);
    let (_, _) = claim(&store, "plain").await;
    let illegal = CommandVerdict::Illegal(State::Running);
    assert_eq!(control.delete(id).await.unwrap(), illegal);
    assert_eq!(control.cancel(id, "stop").await.unwrap(), CommandVerdict::Requested);
    assert_eq!(control.cancel(id, "stop").await.unwrap(), CommandVerdict::Unchanged);
    let other = client.enqueue(Plain(2)).await.unwrap().id();
    assert_eq!(control.cancel(other, "moot").await.unwrap(), CommandVerdict::Applied);
    assert_eq!(control.delete(other).await.unwrap(), CommandVerdict::Applied);
    assert_eq!(control.delete(other).await.unwrap(), CommandVerdict::NotFound);
    assert_eq!(control.retry(TaskId::MAX).await.unwrap(), CommandVerdict::NotFound);
    let horizon = after(store.clock().now(), Duration::MAX);
    let refused = control.reschedule(id, horizon).await.unwrap_err();
    assert!(matches!(refused, StoreError::Rejected { .. }), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn many_tasks_take_the_same_command() {
    let (client, store) = client();
    client.enqueue_many((0..5).map(Plain)).await.unwrap();
    client.enqueue(mail("a")).await.unwrap();
    let manager = Manager::new(store.clone());
    let plain = TaskFilter::all().kind("plain".parse().unwrap());
    let selection = Selection::Matching { filter: plain.clone(), limit: 3 };
    let cancel = Command::Cancel { reason: "moot".to_owned() };
    let applied = manager.control().apply(&selection, &cancel).await.unwrap();
    assert_eq!((applied.changed(), applied.more), (3, true));
    let cancelled = plain.states(State::Cancelled);
    assert_eq!(manager.tasks().count(&cancelled).await.unwrap().value, 3);
}

#[tokio::test(start_paused = true)]
async fn a_paused_queue_hands_out_nothing_until_it_is_resumed() {
    let (client, store) = client();
    client.enqueue(Plain(1)).await.unwrap();
    let manager = Manager::new(store.clone());
    let default = QueueName::default();
    let kinds = [KindName::new("plain").unwrap()];
    let slots = QueueSlots { queue: default.clone(), slots: 1 };
    let request = ClaimRequest::new(ServerId::from_u128(1), kinds, [slots]);
    manager.control().pause_queue(&default).await.unwrap();
    assert!(manager.tasks().queues().await.unwrap()[0].is_paused);
    assert!(store.claim(&request).await.unwrap().is_empty());
    manager.control().resume_queue(&default).await.unwrap();
    assert!(!manager.tasks().queues().await.unwrap()[0].is_paused);
    assert_eq!(store.claim(&request).await.unwrap().len(), 1);
}
