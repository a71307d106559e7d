//! Inline observers: called at once, in order, and harmless.

use std::time::{Duration, Instant};

use ergon_core::{Client, EventKind, EventSink as _, Manager, QueueName};
use ergon_events::{Bus, BusConfig, Role};
use ergon_testing::MemoryStore;

use crate::support::{Seen, build, event, listener, number, publish, publish_together};

#[test]
fn they_are_called_at_once_in_the_order_of_registration() {
    let seen = Seen::default();
    let note = |name: &'static str| {
        let seen = seen.clone();
        move |events: &[ergon_core::Event]| seen.add([(name, events.iter().map(number).collect())])
    };
    let bus = build(Bus::builder().observe_inline("a", note("a")).observe_inline("b", note("b")));
    publish(&bus, [1]);
    publish_together(&bus, 2..4);
    assert_eq!(seen.get(), [("a", vec![1]), ("b", vec![1]), ("a", vec![2, 3]), ("b", vec![2, 3])]);
}

#[test]
fn one_that_panics_is_counted_and_goes_on_being_told_like_the_others() {
    let seen = Seen::default();
    let after = seen.clone();
    let bus = Bus::builder()
        .observe_inline("bad", |events| assert!(number(&events[0]).is_multiple_of(2), "odd"))
        .observe_inline("good", move |events| after.add(events.iter().map(number)));
    let bus = build(bus);
    publish(&bus, 0..10);
    assert_eq!(seen.get(), (0..10).collect::<Vec<_>>());
    let bad = listener(&bus, Role::Inline, "bad");
    assert_eq!((bad.calls, bad.panics, bad.events, bad.lag), (10, 5, 10, None));
    assert_eq!(listener(&bus, Role::Inline, "good").panics, 0);
}

#[test]
fn one_that_exceeds_its_budget_is_counted() {
    let budget = Duration::from_millis(5);
    let bus = Bus::builder().config(BusConfig::new().inline_budget(budget)).observe_inline(
        "slow",
        move |events| {
            let began = Instant::now();
            while number(&events[0]) == 7 && began.elapsed() <= budget {
                std::hint::spin_loop();
            }
        },
    );
    let bus = build(bus);
    publish(&bus, [7, 7]);
    let slow = listener(&bus, Role::Inline, "slow");
    assert_eq!(slow.slow_calls, 2);
    assert!(slow.spent >= budget * 2, "{slow:?}");
}

#[tokio::test]
async fn client_and_manager_tell_the_bus_what_they_commit() {
    let seen = Seen::default();
    let kinds = seen.clone();
    let bus = build(Bus::builder().observe_inline("kinds", move |events| {
        kinds.add(events.iter().map(ergon_core::Event::kind));
    }));
    let store = MemoryStore::new();
    let client = Client::builder(store.clone()).events(bus.sink()).build();
    let manager = Manager::new(store).events(bus.sink());
    let id = client.enqueue_json("k", 1).await.unwrap().id();
    manager.control().cancel(id, "enough").await.unwrap();
    manager.control().cancel(id, "twice").await.unwrap();
    manager.control().pause_queue(&QueueName::default()).await.unwrap();
    let expected = [EventKind::TaskEnqueued, EventKind::TaskCancelled, EventKind::QueuePaused];
    assert_eq!(seen.get(), expected);
    bus.publish(&[event(1)]);
    assert_eq!(bus.stats().published, 4);
}
