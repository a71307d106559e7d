//! Following the journal of a store.

use std::time::Duration;

use ergon_core::{
    Client, EventKind, EventKindSet, EventSink as _,
    store::{Gap, Observe as _},
};
use ergon_events::{Bus, Item, Source};
use ergon_testing::{Faulty, MemoryStore, Operation};

use crate::support::{
    NUMBERED, SECOND, build, event, expect_event, expect_lagged, number, on_tokio_time, record,
    small, until,
};

fn follow(store: impl ergon_core::store::IntoStore) -> Bus {
    build(Bus::builder().source(Source::journal(store)))
}

#[tokio::test(start_paused = true)]
async fn everybody_is_told_what_every_process_commits_once_and_in_one_order() {
    let store = on_tokio_time().build();
    let buses = [follow(store.clone()), follow(store.clone())];
    let running = buses.each_ref().map(|bus| bus.start().unwrap());
    for running in &running {
        running.ready().await;
    }
    let mut readers = buses.each_ref().map(|bus| bus.subscribe(EventKindSet::EVERY));
    let clients =
        buses.each_ref().map(|bus| Client::builder(store.clone()).events(bus.sink()).build());
    for number in 0..100 {
        clients[number % 2].enqueue_json("k", number).await.unwrap();
    }
    let mut told = Vec::new();
    for reader in &mut readers {
        let mut ids = Vec::new();
        while ids.len() < 100 {
            let Some(Item::Event(event)) = reader.next().await else { unreachable!() };
            assert_eq!(event.kind(), EventKind::TaskEnqueued);
            ids.push((event.id().unwrap(), event.task_ref().unwrap().id));
        }
        told.push(ids);
    }
    assert_eq!(told[0], told[1]);
    assert!(told[0].is_sorted());
    assert_eq!(buses[0].stats().published, 50, "its own; told once nevertheless");
    for running in running {
        assert!(running.shutdown().await.is_complete());
    }
    assert!(readers[0].next().await.is_none());
    assert!(store.watchers().await.unwrap().is_empty(), "nothing is recorded for nobody");
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_store_delay_and_lose_nothing() {
    let store = on_tokio_time().build();
    let faulty = Faulty::new(store.clone());
    faulty.fail_before(Operation::Watch, 2);
    let bus = follow(faulty.clone());
    let running = bus.start().unwrap();
    running.ready().await;
    let mut all = bus.subscribe(NUMBERED);
    for round in 0..10 {
        faulty.fail_before(Operation::Changes, 2);
        faulty.fail_after(Operation::Changes, 1);
        faulty.fail_before(Operation::WaitForChanges, 5);
        record(&store, round * 10..round * 10 + 10).await;
        for expected in round * 10..round * 10 + 10 {
            assert_eq!(expect_event(all.next().await), expected);
        }
    }
    let tail = bus.stats().tail.unwrap();
    assert!(tail.is_following && tail.errors >= 32 && tail.gaps == 0, "{tail:?}");
    faulty.fail_before(Operation::Changes, usize::MAX);
    until("it is seen", || !bus.stats().tail.unwrap().is_following).await;
    let report = running.shutdown().await;
    assert!(report.is_journal_read, "an end does not wait for a store that is gone");
}

#[tokio::test(start_paused = true)]
async fn a_store_whose_calls_hang_is_waited_for() {
    let store = on_tokio_time().build();
    let faulty = Faulty::new(store.clone());
    let bus = follow(faulty.clone());
    let running = bus.start().unwrap();
    running.ready().await;
    let mut all = bus.subscribe(NUMBERED);
    faulty.delay(Operation::Changes, SECOND * 3600);
    record(&store, 0..1).await;
    tokio::time::sleep(SECOND * 30).await;
    assert!(bus.stats().tail.unwrap().errors >= 2);
    faulty.heal();
    assert_eq!(expect_event(all.next().await), 0);
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_gives_no_hints_is_polled() {
    let store = on_tokio_time().build();
    let faulty = Faulty::new(store.clone());
    faulty.delay(Operation::WaitForChanges, SECOND * 3600);
    let bus = follow(faulty.clone());
    let _running = bus.start().unwrap();
    _running.ready().await;
    let mut all = bus.subscribe(NUMBERED);
    let start = tokio::time::Instant::now();
    for number in 0..5 {
        record(&store, [number]).await;
        assert_eq!(expect_event(all.next().await), number);
    }
    assert!(start.elapsed() <= SECOND * 5, "{:?}", start.elapsed());
    // A store that hints for nothing is not asked without a pause.
    faulty.heal();
    faulty.fail_before(Operation::WaitForChanges, usize::MAX);
    let before = faulty.calls(Operation::Changes);
    tokio::time::sleep(SECOND * 60).await;
    let reads = faulty.calls(Operation::Changes) - before;
    assert!(reads < 100, "{reads} reads in a minute");
}

#[tokio::test(start_paused = true)]
async fn what_left_the_window_is_told_as_a_gap() {
    let store = on_tokio_time().journal_bytes_max(10 * size_of::<ergon_core::Event>()).build();
    let faulty = Faulty::new(store.clone());
    let bus = follow(faulty.clone());
    let running = bus.start().unwrap();
    running.ready().await;
    let mut all = bus.subscribe(NUMBERED);
    record(&store, 0..1).await;
    assert_eq!(expect_event(all.next().await), 0);
    faulty.fail_before(Operation::Changes, 3);
    record(&store, 1..101).await;
    let Some(Item::Gap(Gap::Expired)) = all.next().await else { unreachable!() };
    for expected in 91..101 {
        assert_eq!(expect_event(all.next().await), expected);
    }
    assert_eq!(bus.stats().tail.unwrap().gaps, 1);
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_renewed_and_a_lost_one_is_told_as_a_gap() {
    let store = on_tokio_time().build();
    let bus = follow(store.clone());
    let running = bus.start().unwrap();
    running.ready().await;
    let mut all = bus.subscribe(NUMBERED);
    tokio::time::sleep(SECOND * 3600).await;
    let [watcher] = &store.watchers().await.unwrap()[..] else { unreachable!() };
    record(&store, 0..1).await;
    assert_eq!(expect_event(all.next().await), 0);
    assert!(store.unwatch(&watcher.name).await.unwrap());
    record(&store, 1..2).await;
    let Some(Item::Gap(Gap::Unrecorded)) = all.next().await else { unreachable!() };
    until("it watches again", || bus.stats().tail.unwrap().reads > 0).await;
    tokio::time::sleep(SECOND * 2).await;
    assert_eq!(store.watchers().await.unwrap().len(), 1);
    record(&store, 2..3).await;
    assert_eq!(expect_event(all.next().await), 2, "the gap is told once");
    drop(running);
    tokio::time::sleep(SECOND * 61).await;
    assert!(store.watchers().await.unwrap().is_empty(), "the lease of one that died ends");
}

#[tokio::test(start_paused = true)]
async fn an_overrun_says_where_the_journal_makes_up_for_it() {
    let store = on_tokio_time().build();
    let bus = build(Bus::builder().config(small()).source(Source::journal(store.clone())));
    let mut early = bus.subscribe(NUMBERED);
    let running = bus.start().unwrap();
    running.ready().await;
    let mut slow = bus.subscribe(NUMBERED);
    record(&store, 0..10).await;
    assert_eq!(expect_event(slow.next().await), 0);
    for number in 10..2_000 {
        record(&store, [number]).await;
        if number % 50 == 0 {
            tokio::time::sleep(SECOND).await;
        }
    }
    tokio::time::sleep(SECOND).await;
    // It goes on with the slot that it holds.
    let (mut next, lagged) = loop {
        match slow.next().await {
            Some(Item::Event(_)) => {}
            item => break (0, expect_lagged(item)),
        }
    };
    let mut cursor = lagged.resume.unwrap();
    let first_left = expect_event(slow.next().await);
    assert_eq!(first_left, lagged.to);
    let mut missed = Vec::new();
    while next < first_left {
        let changes = store.changes(&cursor, 1_000).await.unwrap();
        assert_eq!(changes.gap, None);
        missed.extend(changes.events.iter().map(|recorded| number(&recorded.event)));
        next = *missed.last().unwrap() + 1;
        cursor = changes.cursor;
    }
    assert!(missed.contains(&lagged.from) && missed.contains(&(lagged.to - 1)));
    assert!(missed[0] <= lagged.from);
    // One that was there before the journal was followed knows its beginning too.
    let lagged = expect_lagged(early.next().await);
    let changes = store.changes(&lagged.resume.unwrap(), 1).await.unwrap();
    assert_eq!(number(&changes.events[0].event), 0);
}

#[tokio::test(start_paused = true)]
async fn the_cursor_of_a_subscription_is_where_another_process_goes_on() {
    let store = on_tokio_time().build();
    let bus = follow(store.clone());
    let running = bus.start().unwrap();
    running.ready().await;
    let mut all = bus.subscribe(NUMBERED);
    assert!(all.cursor().is_some());
    for range in [0..5, 5..7] {
        record(&store, range.clone()).await;
        for expected in range.clone() {
            assert_eq!(expect_event(all.next().await), expected);
        }
        record(&store, range.end + 100..range.end + 101).await;
        let changes = store.changes(all.cursor().unwrap(), 1_000).await.unwrap();
        assert_eq!(number(&changes.events[0].event), range.end + 100);
        assert_eq!(expect_event(all.next().await), range.end + 100);
    }
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn an_end_reads_what_was_committed_before_it() {
    let store = MemoryStore::new();
    let bus = follow(store.clone());
    let running = bus.start().unwrap();
    running.ready().await;
    let mut all = bus.subscribe(NUMBERED);
    record(&store, 0..5_000).await;
    assert!(running.shutdown().await.is_complete());
    for expected in 0..5_000 {
        assert_eq!(expect_event(all.next().await), expected);
    }
    assert!(all.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_end_without_a_store_comes_all_the_same() {
    let faulty = Faulty::new(MemoryStore::new());
    faulty.fail_before(Operation::Watch, usize::MAX);
    let bus = follow(faulty);
    let running = bus.start().unwrap();
    let is_ready = tokio::time::timeout(Duration::from_secs(600), running.ready()).await;
    assert!(is_ready.is_err());
    bus.publish(&[event(1)]);
    assert!(running.shutdown().await.is_complete());
}
