//! What a server refuses to be built of.

use std::time::Duration;

use ergon_core::{StoreError, Task};
use ergon_server::{Queue, Server, ServerBuilder, ServerConfig, StartError};
use ergon_testing::MemoryStore;
use serde::{Deserialize, Serialize};

use crate::support::{Chore, Work};

fn builder() -> ServerBuilder {
    Server::builder(MemoryStore::new()).handler(async |work: Work| Ok(work.number))
}

#[track_caller]
fn check(builder: ServerBuilder, expected: &str) {
    let error = builder.build().unwrap_err();
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[test]
fn a_kind_has_one_handler() {
    let twice = builder().handler(async |_work: Work| Ok(1));
    let Err(StartError::DuplicateHandler { kind }) = twice.build() else {
        unreachable!("two handlers for one kind have to be refused");
    };
    assert_eq!(kind, "work");
    assert!(builder().handler(async |_chore: Chore| Ok(())).build().is_ok());
}

#[test]
fn a_server_has_something_to_run() {
    let error = Server::builder(MemoryStore::new()).build().unwrap_err();
    assert!(matches!(error, StartError::NoHandlers));
}

#[test]
fn numbers_and_names_are_checked() {
    check(builder().queue(Queue::new("a b")), "queue: ");
    check(builder().queue(Queue::new("a").concurrency(0)), "queue concurrency: ");
    check(builder().queue(Queue::new("a").weight(0)), "queue weight: ");
    check(builder().queue(Queue::new("a")).queue(Queue::new("a")), "queue \"a\" is named twice");
    let config = ServerConfig::new();
    let minute = Duration::from_secs(60);
    check(builder().config(config.clone().lease(Duration::ZERO)), "lease: ");
    check(builder().config(config.clone().heartbeat_interval(minute)), "heartbeat_interval: ");
    check(builder().config(config.clone().concurrency(0)), "concurrency: 0 is not within 1..=");
    check(builder().config(config.clone().flush_batch_max(10_001)), "flush_batch_max: ");
    check(builder().config(config.clone().claim_ahead_max(10_001)), "claim_ahead_max: ");
    check(builder().config(config.poll_interval(Duration::ZERO)), "poll_interval: ");
}

#[test]
fn a_kind_has_a_valid_name() {
    #[derive(Serialize, Deserialize)]
    struct Bad;

    impl Task for Bad {
        const KIND: &'static str = "no good";
        type Output = ();
    }

    check(builder().handler(async |_bad: Bad| Ok(())), "kind: ");
}

#[test]
fn servers_and_their_futures_can_be_sent() {
    fn check<T: Send + 'static>(_: &T) {}
    let server = builder().build().unwrap();
    check(&server);
    check(&server.run_until(std::future::pending::<()>()));
    check(&builder().build().unwrap().run_until_signal());
}

#[test]
fn errors_say_what_to_do() {
    let source = StoreError::Closed;
    assert_eq!(StartError::Store { source }.to_string(), "the store does not work");
    assert!(StartError::NoHandlers.to_string().contains(".handler("));
}
