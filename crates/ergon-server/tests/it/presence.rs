//! What others see of a server while it lives, drains, ends and dies.

use std::{sync::Arc, time::Duration};

use ergon_core::{
    Manager,
    servers::{ServerInfo, ServerState},
};
use ergon_server::{Queue, RunningServer, Server, ServerConfig, StartError};
use ergon_testing::{Faulty, MemoryStore, Operation, Signal};

use crate::support::{SECOND, Work, enqueue, memory, pass, start};

fn manager(store: &MemoryStore) -> Manager {
    Manager::new(store.clone()).clock(Arc::clone(store.clock()))
}

async fn servers(store: &MemoryStore) -> Vec<ServerInfo> {
    manager(store).servers().list().await.unwrap()
}

async fn states(store: &MemoryStore) -> Vec<ServerState> {
    servers(store).await.iter().map(|server| server.state).collect()
}

/// A server whose handlers wait for a signal.
fn waiting(store: &MemoryStore, gone: &Signal) -> RunningServer {
    let gone = gone.clone();
    let handler = move |work: Work| {
        let gone = gone.clone();
        async move {
            gone.wait().await;
            Ok(work.number)
        }
    };
    let builder = Server::builder(store.clone())
        .clock(Arc::clone(store.clock()))
        .name("worker one")
        .version("1.2.3")
        .queue(Queue::new("default").concurrency(3))
        .queue(Queue::new("mail").concurrency(4))
        .config(ServerConfig::new().concurrency(5));
    start(builder.handler(handler))
}

#[tokio::test(start_paused = true)]
async fn a_server_is_seen_with_what_it_runs_until_it_has_ended_well() {
    let (store, gone) = (memory(), Signal::new());
    enqueue(store.clone(), ergon_core::TaskOptions::new()).await;
    let server = waiting(&store, &gone);
    pass(SECOND * 11).await;
    let seen = servers(&store).await.remove(0);
    assert_eq!((seen.id, seen.state), (server.id(), ServerState::Running));
    assert_eq!((seen.held, seen.slots), (1, 5));
    let profile = &seen.profile;
    assert_eq!((profile.name.as_str(), profile.version.as_str()), ("worker one", "1.2.3"));
    assert_eq!((profile.pid, profile.host.is_empty()), (std::process::id(), false));
    let queues: Vec<_> =
        profile.queues.iter().map(|it| (it.queue.as_str(), it.concurrency)).collect();
    assert_eq!(queues, [("default", 3), ("mail", 4)]);
    assert_eq!(profile.kinds, ["work".parse().unwrap()]);
    let ending = server.shutdown_handle();
    ending.shutdown();
    pass(SECOND).await;
    assert_eq!(states(&store).await, [ServerState::Draining]);
    gone.fire();
    assert!(server.shutdown().await.is_clean());
    assert_eq!(states(&store).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_server_without_a_name_is_called_by_host_and_process() {
    let store = memory();
    let server = start(
        Server::builder(store.clone())
            .clock(Arc::clone(store.clock()))
            .handler(async |work: Work| Ok(work.number)),
    );
    pass(Duration::from_millis(1)).await;
    let profile = servers(&store).await.remove(0).profile;
    assert_eq!(profile.name, format!("{}:{}", profile.host, profile.pid));
    assert!(profile.version.starts_with("ergon "), "{}", profile.version);
    assert!(server.shutdown().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_nobody_hears_of_is_lost_and_one_that_is_heard_again_is_not() {
    let store = memory();
    let faulty = Faulty::new(store.clone());
    let server = start(
        Server::builder(faulty.clone())
            .clock(Arc::clone(store.clock()))
            .handler(async |work: Work| Ok(work.number)),
    );
    pass(SECOND * 15).await;
    assert_eq!(states(&store).await, [ServerState::Running]);
    faulty.fail_before(Operation::Put, usize::MAX);
    pass(SECOND * 40).await;
    assert_eq!(states(&store).await, [ServerState::Lost]);
    // Tasks are run all the same, and no loop that they depend on is late.
    let handle = enqueue(store.clone(), ergon_core::TaskOptions::new()).await;
    assert_eq!(handle.result().within(SECOND).await.unwrap(), 7);
    assert!(server.loops().iter().all(|status| !status.is_late()));
    faulty.heal();
    pass(SECOND * 11).await;
    assert_eq!(states(&store).await, [ServerState::Running]);
    // It cannot take leave: it is not seen to live any more after a while.
    faulty.fail_before(Operation::Put, usize::MAX);
    assert!(server.shutdown().await.is_clean());
    pass(SECOND * 31).await;
    assert_eq!(states(&store).await, [ServerState::Lost]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_leaves_tasks_behind_stays_to_be_seen() {
    let (store, gone) = (memory(), Signal::new());
    enqueue(store.clone(), ergon_core::TaskOptions::new()).await;
    let faulty = Faulty::new(store.clone());
    let going = gone.clone();
    let handler = move |work: Work| {
        let gone = going.clone();
        async move {
            gone.wait().await;
            Ok(work.number)
        }
    };
    let builder = Server::builder(faulty.clone()).clock(Arc::clone(store.clock()));
    let server = start(builder.handler(handler));
    pass(SECOND).await;
    faulty.fail_before(Operation::Finish, usize::MAX);
    gone.fire();
    assert!(!server.shutdown().await.is_clean());
    assert_eq!(states(&store).await, [ServerState::Draining]);
    pass(SECOND * 40).await;
    assert_eq!(states(&store).await, [ServerState::Lost]);
}

#[tokio::test(start_paused = true)]
async fn signs_of_life_come_as_often_as_chosen() {
    for (interval, is_good) in [
        (SECOND, true),
        (SECOND * 60, true),
        (SECOND - Duration::from_millis(1), false),
        (SECOND * 61, false),
    ] {
        let store = memory();
        let config = ServerConfig::new().presence_interval(interval).statistics(false);
        let faulty = Faulty::new(store.clone());
        let work = async |work: Work| Ok(work.number);
        match Server::builder(faulty.clone()).config(config).handler(work).build() {
            Ok(server) => {
                assert!(is_good, "{interval:?}");
                let server = server.start();
                pass(interval * 10 - Duration::from_millis(1)).await;
                assert_eq!(faulty.calls(Operation::Put), 10);
                assert!(server.shutdown().await.is_clean());
            }
            Err(StartError::InvalidConfig { field, .. }) => {
                assert!(!is_good && field == "presence_interval", "{interval:?}");
            }
            Err(error) => unreachable!("{error:?}"),
        }
    }
}
