//! Durable sinks: at least once, across restarts.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ergon_core::{
    EventKind, EventKindSet, Store, WatcherName,
    store::{EventId, Gap, IntoStore, Observe as _, Watch},
};
use ergon_events::{BoxError, Bus, Delivery, Role};
use ergon_testing::{Faulty, MemoryStore, Operation, Signal};

use crate::support::{
    MILLISECOND, NUMBERED, SECOND, Seen, build, listener, number, on_tokio_time, record, until,
};

type Told = (EventId, u64);

/// A bus with a sink that takes a little time for each delivery, and notes what it acknowledges.
fn bus(store: impl IntoStore, seen: &Seen<Told>) -> Bus {
    let seen = seen.clone();
    let sink = move |delivery: Delivery| {
        let seen = seen.clone();
        async move {
            assert_eq!(delivery.gap, None);
            tokio::time::sleep(MILLISECOND).await;
            seen.add(delivery.events.iter().map(|it| (it.id, number(&it.event))));
            Ok::<_, BoxError>(())
        }
    };
    build(Bus::builder().store(store).durable_sink("bridge", NUMBERED, sink))
}

fn numbers(seen: &Seen<Told>) -> Vec<u64> {
    seen.get().into_iter().map(|(_, number)| number).collect()
}

#[tokio::test(start_paused = true)]
async fn twenty_shutdowns_under_load_lose_and_repeat_nothing() {
    let (store, seen) = (on_tokio_time().build(), Seen::default());
    let mut next = 0;
    for round in 0..20_u32 {
        let running = bus(store.clone(), &seen).start().unwrap();
        running.ready().await;
        for _ in 0..50 {
            record(&store, next..next + 20).await;
            next += 20;
            tokio::time::sleep(MILLISECOND * (round % 3)).await;
        }
        assert!(running.shutdown().await.is_complete());
        record(&store, next..next + 20).await;
        next += 20;
    }
    let running = bus(store.clone(), &seen).start().unwrap();
    until("all is told", || numbers(&seen).last() == Some(&(next - 1))).await;
    assert_eq!(numbers(&seen), (0..next).collect::<Vec<_>>());
    let ids: BTreeSet<_> = seen.get().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), seen.get().len());
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn twenty_deaths_under_load_lose_nothing_and_repeat_the_last_batch_at_most() {
    let store = on_tokio_time().build();
    let faulty = Faulty::new(store.clone());
    let seen = Seen::default();
    let (mut next, mut repeated) = (0, 0);
    for round in 0..20_u32 {
        let running = bus(faulty.clone(), &seen).start().unwrap();
        running.ready().await;
        let before = numbers(&seen).len();
        // Some die after the acknowledgement and before it is noted.
        if round % 2 == 1 {
            faulty.delay(Operation::Watch, MILLISECOND);
        }
        for _ in 0..30 {
            record(&store, next..next + 20).await;
            next += 20;
            tokio::time::sleep(MILLISECOND * (round % 3)).await;
        }
        drop(running);
        faulty.heal();
        tokio::task::yield_now().await;
        let all = numbers(&seen);
        let (old, new) = all.split_at(before);
        let again = new.iter().filter(|number| old.contains(number)).count();
        assert!(again <= 256, "{again} were told twice");
        repeated += again;
    }
    let running = bus(store.clone(), &seen).start().unwrap();
    until("all is told", || numbers(&seen).last() == Some(&(next - 1))).await;
    let ids: BTreeSet<_> = seen.get().into_iter().collect();
    assert_eq!(ids.iter().map(|told| told.1).collect::<Vec<_>>(), (0..next).collect::<Vec<_>>());
    assert!(seen.get().len() - ids.len() >= repeated && repeated > 0, "{repeated}");
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_acknowledged_comes_again_later_and_later() {
    let store = on_tokio_time().build();
    let is_well = Arc::new(AtomicBool::new(false));
    let (seen, well) = (Seen::default(), Arc::clone(&is_well));
    let (noted, start) = (seen.clone(), tokio::time::Instant::now());
    let sink = move |delivery: Delivery| {
        let first = delivery.events.first().map(|recorded| number(&recorded.event));
        noted.add([(start.elapsed(), first, delivery.failures)]);
        let is_well = well.load(Ordering::SeqCst);
        async move {
            assert!(is_well || delivery.failures.is_multiple_of(2), "a bug");
            if is_well { Ok(()) } else { Err("503") }
        }
    };
    let bus = build(Bus::builder().store(store.clone()).durable_sink("s", NUMBERED, sink));
    let running = bus.start().unwrap();
    running.ready().await;
    record(&store, [1]).await;
    tokio::time::sleep(SECOND).await;
    record(&store, [2]).await;
    tokio::time::sleep(SECOND * 600).await;
    let tries = seen.get();
    assert!(tries.iter().all(|&(_, first, _)| first == Some(1)), "order is kept");
    assert!(tries.len() > 20 && tries.len() < 80, "{} tries", tries.len());
    let stats = listener(&bus, Role::DurableSink, "s");
    assert!(stats.errors > 10 && stats.panics > 10 && stats.events == 0, "{stats:?}");
    is_well.store(true, Ordering::SeqCst);
    until("both are told", || seen.get().last().is_some_and(|last| last.1 == Some(2))).await;
    assert_eq!(seen.get().last().unwrap().2, 0);
    assert!(running.shutdown().await.is_complete());
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_store_delay_and_lose_nothing() {
    let (store, seen) = (on_tokio_time().build(), Seen::default());
    let faulty = Faulty::new(store.clone());
    faulty.fail_before(Operation::Watch, 2);
    faulty.fail_after(Operation::Watch, 1);
    let bus = bus(faulty.clone(), &seen);
    let running = bus.start().unwrap();
    running.ready().await;
    for round in 0..10 {
        faulty.fail_before(Operation::Changes, 2);
        faulty.fail_before(Operation::Watch, 1);
        faulty.fail_after(Operation::Watch, 1);
        record(&store, round * 10..round * 10 + 10).await;
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(numbers(&seen), (0..100).collect::<Vec<_>>());
    assert!(listener(&bus, Role::DurableSink, "bridge").store_errors >= 30);
    assert!(running.shutdown().await.is_complete());
}

/// Delivers to a sink that notes gaps and numbers.
fn noting(store: MemoryStore, seen: &Seen<(Option<Gap>, Vec<u64>)>) -> Bus {
    let seen = seen.clone();
    let sink = move |delivery: Delivery| {
        let told = delivery.events.iter().map(|recorded| number(&recorded.event)).collect();
        seen.add([(delivery.gap, told)]);
        async { Ok::<_, BoxError>(()) }
    };
    build(Bus::builder().store(store).durable_sink("s", NUMBERED, sink))
}

#[tokio::test(start_paused = true)]
async fn what_the_journal_does_not_hold_is_told_as_a_gap() {
    let seen = Seen::default();
    let store = on_tokio_time().journal_bytes_max(10 * size_of::<ergon_core::Event>()).build();
    let running = noting(store.clone(), &seen).start().unwrap();
    running.ready().await;
    record(&store, [0]).await;
    until("it is told", || seen.get().len() == 1).await;
    assert!(running.shutdown().await.is_complete());
    // Away for longer than the window.
    record(&store, 1..100).await;
    let running = noting(store.clone(), &seen).start().unwrap();
    until("the rest is told", || seen.get().len() == 2).await;
    assert_eq!(seen.get()[1], (Some(Gap::Expired), (90..100).collect()));
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn a_place_in_another_journal_is_told_as_a_gap() {
    let (store, seen) = (on_tokio_time().build(), Seen::default());
    let foreign = MemoryStore::new().latest().await.unwrap();
    let name = WatcherName::new("s").unwrap();
    store.watch(&Watch::durable(name).reached(foreign)).await.unwrap();
    record(&store, 0..10).await;
    let running = noting(store.clone(), &seen).start().unwrap();
    until("it is told", || seen.get().len() == 1).await;
    record(&store, 10..11).await;
    until("it goes on", || seen.get().len() == 2).await;
    assert_eq!(seen.get(), [(Some(Gap::Foreign), vec![]), (None, vec![10])]);
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn the_place_moves_also_over_what_is_not_wanted() {
    let store = on_tokio_time().build();
    let sink = |_delivery| async { Ok::<_, BoxError>(()) };
    let only = EventKindSet::of(&[EventKind::TaskFailed]);
    let bus = build(Bus::builder().store(store.clone()).durable_sink("s", only, sink));
    let running = bus.start().unwrap();
    running.ready().await;
    for number in 0..30 {
        record(&store, [number]).await;
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(listener(&bus, Role::DurableSink, "s").calls, 0);
    let [watcher] = &store.watchers().await.unwrap()[..] else { unreachable!() };
    let behind = store.changes(watcher.reached.as_ref().unwrap(), 1_000).await.unwrap();
    assert!(behind.events.len() <= 11, "{} are behind it", behind.events.len());
    record(&store, 30..35).await;
    assert!(running.shutdown().await.is_complete());
    let [watcher] = &store.watchers().await.unwrap()[..] else { unreachable!() };
    assert_eq!(watcher.until, None, "it is recorded for also while nobody runs");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_never_returns_stops_itself_alone() {
    let store: Arc<dyn Store> = Arc::new(on_tokio_time().build());
    let (began, seen) = (Signal::new(), Seen::default());
    let (begins, noted) = (began.clone(), seen.clone());
    let bus = Bus::builder()
        .store(&store)
        .durable_sink("stuck", NUMBERED, move |_delivery| {
            begins.fire();
            std::future::pending::<Result<(), BoxError>>()
        })
        .durable_sink("well", NUMBERED, move |delivery: Delivery| {
            noted.add(delivery.events.iter().map(|recorded| number(&recorded.event)));
            async { Ok::<_, BoxError>(()) }
        });
    let running = build(bus).start().unwrap();
    running.ready().await;
    record(&*store, 0..10).await;
    began.wait().await;
    until("the other one is told", || seen.get().len() == 10).await;
    let report = running.shutdown().await;
    let [left] = &report.left[..] else { unreachable!("{report:?}") };
    assert_eq!((left.name.as_str(), left.events, left.was_calling), ("stuck", 0, true));
}
