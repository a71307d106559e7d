//! Servers carry out operations, whoever made them.

use std::sync::Arc;

use ergon_core::{
    Command, Manager, State, TaskFilter, TaskOptions,
    audit::Actor,
    operation::{NewOperation, OperationId, OperationState},
};
use ergon_server::{RunningServer, Server, ServerConfig};
use ergon_testing::{Faulty, MemoryStore, Operation};

use crate::support::{Chore, SECOND, enqueue_many, memory, pass, start};

fn manager(store: &MemoryStore) -> Manager {
    Manager::new(store.clone()).clock(Arc::clone(store.clock()))
}

/// A server that runs none of the tasks.
fn server(store: impl ergon_core::store::IntoStore, clock: &MemoryStore) -> RunningServer {
    let chore = async |_chore: Chore| Ok(());
    start(Server::builder(store).clock(Arc::clone(clock.clock())).handler(chore))
}

fn cancel() -> NewOperation {
    let command = Command::Cancel { reason: "moot".to_owned() };
    NewOperation::new(TaskFilter::all(), command, Actor::new("ana"))
}

async fn cancelled(store: &MemoryStore) -> u64 {
    let filter = TaskFilter::all().states(State::Cancelled);
    manager(store).tasks().count(&filter).await.unwrap().value
}

async fn state(store: &MemoryStore, id: OperationId) -> OperationState {
    manager(store).operations().get(id).await.unwrap().unwrap().state
}

#[tokio::test(start_paused = true)]
async fn what_others_make_is_carried_out_within_seconds() {
    let store = memory();
    enqueue_many(store.clone(), 3_000, TaskOptions::new()).await;
    let servers = [server(store.clone(), &store), server(store.clone(), &store)];
    pass(SECOND * 10).await;
    let made = manager(&store).operations().create(cancel()).await.unwrap();
    pass(SECOND * 4).await;
    assert_eq!(state(&store, made.id).await, OperationState::Finished);
    let ended = manager(&store).operations().get(made.id).await.unwrap().unwrap();
    assert_eq!((ended.seen, ended.changed, cancelled(&store).await), (3_000, 3_000, 3_000));
    for server in servers {
        assert!(server.shutdown().await.is_clean());
    }
}

#[tokio::test(start_paused = true)]
async fn what_its_own_manager_makes_is_carried_out_at_once() {
    let store = memory();
    enqueue_many(store.clone(), 600, TaskOptions::new()).await;
    let server = server(store.clone(), &store);
    pass(SECOND * 10).await;
    let made = server.manager().operations().create(cancel()).await.unwrap();
    pass(SECOND / 10).await;
    assert_eq!(state(&store, made.id).await, OperationState::Finished);
    assert_eq!(cancelled(&store).await, 600);
    assert!(server.shutdown().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn rates_are_kept_and_operations_share_the_time() {
    let store = memory();
    enqueue_many(store.clone(), 100, TaskOptions::new()).await;
    let server = server(store.clone(), &store);
    let slow = server.manager().operations().create(cancel().rate_per_second(2)).await.unwrap();
    pass(SECOND * 20).await;
    let done = manager(&store).operations().get(slow.id).await.unwrap().unwrap().changed;
    assert!((36..=44).contains(&done), "{done}");
    let priority = Command::SetPriority { priority: 1 };
    let quick = NewOperation::new(TaskFilter::all(), priority, Actor::new("bob"));
    let quick = server.manager().operations().create(quick).await.unwrap();
    pass(SECOND * 4).await;
    assert_eq!(state(&store, quick.id).await, OperationState::Finished);
    assert_eq!(state(&store, slow.id).await, OperationState::Running);
    manager(&store).operations().pause(slow.id).await.unwrap();
    pass(SECOND * 2).await;
    let paused = cancelled(&store).await;
    pass(SECOND * 30).await;
    assert_eq!(cancelled(&store).await, paused);
    manager(&store).operations().resume(slow.id).await.unwrap();
    pass(SECOND * 60).await;
    assert_eq!(state(&store, slow.id).await, OperationState::Finished);
    assert!(server.shutdown().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn an_operation_outlives_the_servers_that_work_on_it() {
    let store = memory();
    enqueue_many(store.clone(), 200, TaskOptions::new()).await;
    let made = manager(&store).operations().create(cancel().rate_per_second(10)).await.unwrap();
    for _ in 0..4 {
        let server = server(store.clone(), &store);
        pass(SECOND * 6).await;
        server.shutdown_handle().shutdown_now();
        drop(server);
        assert_eq!(state(&store, made.id).await, OperationState::Running);
    }
    let last = server(store.clone(), &store);
    pass(SECOND * 90).await;
    let ended = manager(&store).operations().get(made.id).await.unwrap().unwrap();
    assert_eq!((ended.state, cancelled(&store).await), (OperationState::Finished, 200));
    assert!(last.shutdown().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_for_a_while_only_delays_it() {
    let store = memory();
    enqueue_many(store.clone(), 1_100, TaskOptions::new()).await;
    let faulty = Faulty::new(store.clone());
    let server = server(faulty.clone(), &store);
    pass(SECOND * 4).await;
    for (operation, times) in
        [(Operation::Documents, 3), (Operation::Apply, 2), (Operation::List, 2)]
    {
        faulty.fail_before(operation, times);
    }
    faulty.fail_after(Operation::Put, 2);
    let made = manager(&store).operations().create(cancel()).await.unwrap();
    pass(SECOND * 120).await;
    assert_eq!(state(&store, made.id).await, OperationState::Finished);
    assert_eq!(cancelled(&store).await, 1_100);
    assert!(server.loops().iter().all(|status| !status.is_late()));
    assert!(server.shutdown().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn sinks_hear_what_an_operation_changes() {
    #[derive(Debug, Default)]
    struct Heard(std::sync::atomic::AtomicUsize);
    impl ergon_core::EventSink for Heard {
        fn publish(&self, events: &[ergon_core::Event]) {
            let cancelled = events.iter().filter(|event| event.task_ref().is_some()).count();
            self.0.fetch_add(cancelled, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let (store, heard) = (memory(), Arc::<Heard>::default());
    enqueue_many(store.clone(), 20, TaskOptions::new()).await;
    let sink: Arc<dyn ergon_core::EventSink> = Arc::<Heard>::clone(&heard);
    let chore = async |_chore: Chore| Ok(());
    let config = ServerConfig::new().statistics(false);
    let builder = Server::builder(store.clone()).clock(Arc::clone(store.clock()));
    let server = start(builder.config(config).events(sink).handler(chore));
    server.manager().operations().create(cancel()).await.unwrap();
    pass(SECOND).await;
    assert_eq!(heard.0.load(std::sync::atomic::Ordering::SeqCst), 20);
    assert!(server.shutdown().await.is_clean());
}
