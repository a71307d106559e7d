//! Starting and ending a bus.

use ergon_core::EventKindSet;
use ergon_events::{Batch, BoxError, BuildError, Bus, BusConfig, Overflow, Role, StartError};
use ergon_testing::{MemoryStore, Signal};
use tokio::time::Instant;

use crate::support::{
    SECOND, Seen, build, expect_event, listener, numbers, publish, publish_together, until,
};

const EVERY: EventKindSet = EventKindSet::EVERY;

#[tokio::test(start_paused = true)]
async fn an_end_hands_over_everything_that_came() {
    let seen = Seen::default();
    let noted = seen.clone();
    let bus = build(Bus::builder().observe("slow", EVERY, Overflow::Lag, move |batch: Batch| {
        let noted = noted.clone();
        async move {
            tokio::time::sleep(SECOND / 10).await;
            noted.add(numbers(&batch));
            Ok::<_, BoxError>(())
        }
    }));
    let running = bus.start().unwrap();
    let mut all = bus.subscribe(EVERY);
    publish_together(&bus, 0..5_000);
    let report = running.shutdown().await;
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(seen.get(), (0..5_000).collect::<Vec<_>>());
    // What comes now is told to nobody but inline observers.
    publish(&bus, [5_000]);
    for expected in 0..5_000 {
        assert_eq!(expect_event(all.next().await), expected);
    }
    assert!(all.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_end_has_its_time_and_says_what_it_left() {
    let bus = Bus::builder().config(BusConfig::new().observer_grace(SECOND)).observe(
        "slow",
        EVERY,
        Overflow::Lag,
        |_batch| async {
            tokio::time::sleep(SECOND * 2 / 5).await;
            Ok::<_, BoxError>(())
        },
    );
    let bus = build(bus);
    let running = bus.start().unwrap();
    publish_together(&bus, 0..1_024);
    let start = Instant::now();
    let report = running.shutdown().await;
    assert_eq!(start.elapsed(), SECOND);
    // Two batches were done, one was dropped, the last one was never handed over.
    let [left] = &report.left[..] else { unreachable!("{report:?}") };
    assert_eq!((left.role, left.events, left.was_calling), (Role::Observer, 256, true));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_handle_ends_everything() {
    struct OnDrop(Signal);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.fire();
        }
    }
    let (began, dropped) = (Signal::new(), Signal::new());
    let (begins, drops) = (began.clone(), dropped.clone());
    let bus = build(Bus::builder().observe("o", EVERY, Overflow::Lag, move |_batch| {
        let guard = OnDrop(drops.clone());
        begins.fire();
        async move {
            std::future::pending::<()>().await;
            drop(guard);
            Ok::<_, BoxError>(())
        }
    }));
    let running = bus.start().unwrap();
    let mut all = bus.subscribe(EVERY);
    publish(&bus, [1]);
    began.wait().await;
    drop(running);
    dropped.wait().await;
    assert_eq!(expect_event(all.next().await), 1);
    assert!(all.next().await.is_none());
    until("its seat is free", || listener(&bus, Role::Observer, "o").listening == 0).await;
}

#[test]
fn a_bus_starts_once_and_in_a_runtime() {
    let bus = build(Bus::builder());
    assert_eq!(bus.start().map(|_| ()), Err(StartError::NoRuntime));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _entered = runtime.enter();
    let running = bus.start().unwrap();
    assert_eq!(bus.start().map(|_| ()), Err(StartError::AlreadyStarted));
    drop(running);
    assert_eq!(bus.start().map(|_| ()), Err(StartError::AlreadyStarted));
}

#[test]
fn readers_go_on_when_the_runtime_of_the_bus_ends() {
    let bus = build(Bus::builder());
    let ended = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let running = ended.block_on(async { bus.start().unwrap() });
    let mut all = bus.subscribe(EVERY);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        ended.shutdown_background();
        let reader = async { expect_event(all.next().await) };
        let writer = async {
            tokio::task::yield_now().await;
            publish(&bus, [1]);
        };
        assert_eq!(tokio::join!(reader, writer).0, 1);
    });
    drop(running);
}

#[test]
fn what_cannot_work_is_not_built() {
    let sink = |_delivery| async { Ok::<_, BoxError>(()) };
    let observer = |_batch| async { Ok::<_, BoxError>(()) };
    let no_store = Bus::builder().durable_sink("s", EVERY, sink).build();
    assert_eq!(no_store.map(|_| ()), Err(BuildError::NoStore { name: "s".to_owned() }));
    let bad = Bus::builder().store(MemoryStore::new()).durable_sink("a b", EVERY, sink).build();
    assert_eq!(bad.map(|_| ()), Err(BuildError::InvalidSinkName { name: "a b".to_owned() }));
    let twice = Bus::builder()
        .store(MemoryStore::new())
        .durable_sink("s", EVERY, sink)
        .durable_sink("s", EVERY, sink)
        .build();
    assert_eq!(twice.map(|_| ()), Err(BuildError::DuplicateSink { name: "s".to_owned() }));
    let refilled = Bus::builder().observe("o", EVERY, Overflow::Backfill, observer).build();
    assert_eq!(refilled.map(|_| ()), Err(BuildError::NoJournal { name: "o".to_owned() }));
    let small = Bus::builder().config(BusConfig::new().ring_events_max(1)).build();
    assert!(matches!(small, Err(BuildError::InvalidConfig { field: "ring_events_max", .. })));
}
