//! Operations on many tasks: carried out once, by one at a time, through failures.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use ergon_core::{
    Command, Manager, State, StoreError, Timestamp,
    audit::Actor,
    document::{Put, Space},
    operation::{NewOperation, Operation, OperationId, OperationState},
    store::Control as _,
    time::after,
};
use ergon_testing::{Faulty, Operation as Call};

use super::*;

fn cancel() -> Command {
    Command::Cancel { reason: "moot".to_owned() }
}

fn new(filter: TaskFilter, command: Command) -> NewOperation {
    NewOperation::new(filter, command, Actor::new("ana"))
}

fn manager(store: impl ergon_core::store::IntoStore, clock: &MemoryStore) -> Manager {
    Manager::new(store).clock(Arc::clone(clock.clock()))
}

async fn in_state(store: &MemoryStore, state: State) -> u64 {
    store.count(&TaskFilter::all().states(state), Now::Store).await.unwrap().value
}

async fn step(manager: &Manager, id: OperationId) -> ergon_core::operation::Stepped {
    manager.operations().step(id).await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn every_task_that_matched_is_met_once_and_later_ones_are_not() {
    let (client, store) = client();
    client.enqueue_many((0..1_200).map(Plain)).await.unwrap();
    client.enqueue(mail("a")).await.unwrap();
    let manager = manager(store.clone(), &store);
    let plain = TaskFilter::all().kind("plain".parse().unwrap());
    let preview = manager.operations().preview(&plain).await.unwrap();
    assert_eq!((preview.matching.value, preview.first.len()), (1_200, 20));
    let priority = Command::SetPriority { priority: 3 };
    let made = manager.operations().create(new(plain, priority).note("why")).await.unwrap();
    assert_eq!((made.expected.value, made.state), (1_200, OperationState::Running));
    client.enqueue_many((0..100).map(Plain)).await.unwrap();
    let first = step(&manager, made.id).await;
    assert_eq!((first.met, first.operation.seen), (500, 500));
    let ended = manager.operations().run_to_end(made.id, tokio::time::sleep).await.unwrap();
    let ended = ended.unwrap();
    let Operation { seen, changed, unchanged, state, .. } = &ended;
    assert_eq!((*seen, *changed, *unchanged), (1_200, 1_200, 0));
    assert_eq!((*state, ended.note.as_str()), (OperationState::Finished, "why"));
    assert_eq!(manager.operations().get(made.id).await.unwrap(), Some(ended.clone()));
    assert_eq!(manager.operations().open().await.unwrap(), []);
    assert_eq!(manager.operations().list(10, None).await.unwrap(), [ended]);
}

#[tokio::test(start_paused = true)]
async fn nothing_to_do_is_finished_at_once() {
    let (_client, store) = client();
    let manager = manager(store.clone(), &store);
    let made = manager.operations().create(new(TaskFilter::all(), cancel())).await.unwrap();
    assert_eq!((made.state, made.expected.value), (OperationState::Finished, 0));
    assert_eq!(manager.operations().open().await.unwrap(), []);
    let far = Command::Reschedule { run_at: Timestamp::MAX };
    let refused = manager.operations().create(new(TaskFilter::all(), far)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Rejected { .. }), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_take_the_command_is_told() {
    let (client, store) = client();
    client.enqueue_many((0..4).map(Plain)).await.unwrap();
    let (running, _) = claim(&store, "plain").await;
    let manager = manager(store.clone(), &store);
    let made = manager.operations().create(new(TaskFilter::all(), Command::Delete)).await.unwrap();
    let ended = manager.operations().run_to_end(made.id, tokio::time::sleep).await.unwrap();
    let ended = ended.unwrap();
    assert_eq!((ended.seen, ended.changed, ended.illegal), (4, 3, 1));
    assert_eq!(ended.problems.iter().map(|it| it.id).collect::<Vec<_>>(), [running]);
}

#[tokio::test(start_paused = true)]
async fn a_paused_one_rests_a_stopped_one_is_over() {
    let (client, store) = client();
    client.enqueue_many((0..1_500).map(Plain)).await.unwrap();
    let manager = manager(store.clone(), &store);
    let operations = manager.operations();
    let made = operations.create(new(TaskFilter::all(), cancel())).await.unwrap();
    step(&manager, made.id).await;
    let paused = operations.pause(made.id).await.unwrap().unwrap();
    assert_eq!((paused.state, paused.changed), (OperationState::Paused, 500));
    let rests = step(&manager, made.id).await;
    assert_eq!((rests.met, rests.next_at), (0, None));
    let waited = operations.run_to_end(made.id, tokio::time::sleep).await.unwrap().unwrap();
    assert_eq!(waited.state, OperationState::Paused);
    assert_eq!(operations.open().await.unwrap(), [made.id]);
    operations.resume(made.id).await.unwrap();
    assert_eq!(step(&manager, made.id).await.operation.changed, 1_000);
    let stopped = operations.stop(made.id).await.unwrap().unwrap();
    assert_eq!((stopped.state, stopped.changed), (OperationState::Stopped, 1_000));
    assert!(stopped.ended_at.is_some());
    assert_eq!(operations.open().await.unwrap(), []);
    assert_eq!(in_state(&store, State::Cancelled).await, 1_000);
    // What is over stays so.
    let resumed = operations.resume(made.id).await.unwrap().unwrap();
    assert_eq!(resumed.state, OperationState::Stopped);
    let unknown = OperationId::clone(&made.id);
    tokio::time::advance(SECOND * 31 * 24 * 3600).await;
    assert_eq!(operations.pause(unknown).await.unwrap(), None, "it has expired");
}

#[tokio::test(start_paused = true)]
async fn one_process_works_on_it_and_another_takes_over_when_it_dies() {
    let (client, store) = client();
    client.enqueue_many((0..1_200).map(Plain)).await.unwrap();
    let (one, other) = (manager(store.clone(), &store), manager(store.clone(), &store));
    let made = one.operations().create(new(TaskFilter::all(), cancel())).await.unwrap();
    assert_eq!(step(&one, made.id).await.met, 500);
    let waits = step(&other, made.id).await;
    let now = store.clock().now();
    assert_eq!((waits.met, waits.next_at), (0, Some(after(now, SECOND * 30))));
    // The first one is never heard of again.
    let began = tokio::time::Instant::now();
    let ended = other.operations().run_to_end(made.id, tokio::time::sleep).await.unwrap();
    assert_eq!(ended.unwrap().changed, 1_200);
    assert!((SECOND * 30..SECOND * 32).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_page_that_was_not_written_down_is_carried_out_again() {
    let (client, store) = client();
    client.enqueue_many((0..1_200).map(Plain)).await.unwrap();
    let faulty = Faulty::new(store.clone());
    let manager = manager(faulty.clone(), &store);
    let made = manager.operations().create(new(TaskFilter::all(), cancel())).await.unwrap();
    step(&manager, made.id).await;
    // The command is carried out, and its answer is lost.
    faulty.fail_after(Call::Apply, 1);
    assert!(manager.operations().step(made.id).await.is_err());
    assert_eq!(in_state(&store, State::Cancelled).await, 1_000);
    // The counts are not written, or are and nobody hears of it.
    faulty.fail_before(Call::Put, 1);
    assert!(manager.operations().step(made.id).await.is_err());
    faulty.fail_after(Call::Put, 1);
    assert!(manager.operations().step(made.id).await.is_err());
    let ended = manager.operations().run_to_end(made.id, tokio::time::sleep).await.unwrap();
    let ended = ended.unwrap();
    assert_eq!(
        (ended.state, in_state(&store, State::Cancelled).await),
        (OperationState::Finished, 1_200)
    );
    assert_eq!((ended.seen, ended.unchanged), (1_200, 1_000 - 500), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept() {
    let (client, store) = client();
    client.enqueue_many((0..100).map(Plain)).await.unwrap();
    let manager = manager(store.clone(), &store);
    let slow = new(TaskFilter::all(), cancel()).rate_per_second(10);
    let made = manager.operations().create(slow).await.unwrap();
    let began = tokio::time::Instant::now();
    let ended = manager.operations().run_to_end(made.id, tokio::time::sleep).await.unwrap();
    assert_eq!(ended.unwrap().changed, 100);
    assert!((SECOND * 9..SECOND * 11).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn whoever_makes_or_resumes_one_has_it_begun_at_once() {
    let (client, store) = client();
    client.enqueue(Plain(1)).await.unwrap();
    let told = Arc::<AtomicUsize>::default();
    let telling = Arc::clone(&told);
    let manager = manager(store.clone(), &store).on_operation(move || {
        telling.fetch_add(1, SeqCst);
    });
    let made = manager.operations().create(new(TaskFilter::all(), cancel())).await.unwrap();
    manager.operations().pause(made.id).await.unwrap();
    assert_eq!(told.load(SeqCst), 1);
    manager.operations().resume(made.id).await.unwrap();
    assert_eq!(told.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn one_of_a_newer_form_is_left_alone() {
    let (client, store) = client();
    client.enqueue(Plain(1)).await.unwrap();
    let manager = manager(store.clone(), &store);
    let made = manager.operations().create(new(TaskFilter::all(), cancel())).await.unwrap();
    let json = serde_json::to_string(&made).unwrap();
    let newer = json.replace(r#""filter":{}"#, r#""filter":{"tenant":"a"}"#);
    let key = format!("operation|{}", made.id);
    store.put(&[Put::new(Space::Operation, key, newer)]).await.unwrap();
    let refused = manager.operations().step(made.id).await.unwrap_err();
    assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused:?}");
    assert_eq!(in_state(&store, State::Pending).await, 1);
    assert_eq!(manager.operations().list(10, None).await.unwrap(), []);
    // One that was never made is closed after a while.
    store.put(&[Put::remove(Space::Operation, format!("operation|{}", made.id))]).await.unwrap();
    assert_eq!(manager.operations().step(made.id).await.unwrap(), None);
    assert_eq!(manager.operations().open().await.unwrap(), [made.id]);
    tokio::time::advance(SECOND * 61).await;
    assert_eq!(manager.operations().step(made.id).await.unwrap(), None);
    assert_eq!(manager.operations().open().await.unwrap(), []);
}
