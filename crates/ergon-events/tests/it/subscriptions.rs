//! Subscriptions: order, filter, lag, end.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
};

use ergon_core::{EventKind, EventKindSet, EventSink as _};
use ergon_events::{Bus, Item, Role};
use futures_util::{FutureExt as _, Stream, StreamExt as _};

use crate::support::{
    NUMBERED, SECOND, build, event, expect_event, expect_lagged, listener, number, numbers, other,
    publish, publish_together, small,
};

#[tokio::test]
async fn everything_comes_in_order_and_once() {
    let bus = build(Bus::builder());
    publish(&bus, [0]);
    let mut all = bus.subscribe(EventKindSet::EVERY);
    publish_together(&bus, 1..1_000);
    publish(&bus, 1_000..2_000);
    for expected in 1..2_000 {
        assert_eq!(expect_event(all.next().await), expected);
    }
    assert!(all.next().now_or_never().is_none());
    assert_eq!(bus.stats().head, 2_000);
    assert_eq!(listener(&bus, Role::Subscription, "subscription").events, 1_999);
}

#[tokio::test]
async fn a_filter_lets_its_kinds_through_and_nothing_else() {
    let bus = build(Bus::builder());
    let mut pruned = bus.subscribe(EventKind::TasksPruned.into());
    let mut nothing = bus.subscribe(EventKindSet::EMPTY);
    for number in 0..100 {
        bus.publish(&[other(), event(number), other()]);
        bus.publish(&[other()]);
    }
    let batch = pruned.next_batch().await.unwrap();
    assert_eq!(numbers(&batch), (0..100).collect::<Vec<_>>());
    assert!(nothing.next().now_or_never().is_none());
    drop(bus);
    assert!(nothing.next().await.is_none());
    assert!(pruned.next_batch().await.is_none());
}

#[tokio::test]
async fn an_overrun_is_told_once_with_its_numbers() {
    let bus = build(Bus::builder().config(small()));
    let mut slow = bus.subscribe(EventKindSet::EVERY);
    publish(&bus, 0..10);
    assert_eq!(expect_event(slow.next().await), 0);
    publish(&bus, 10..1_000);
    assert_eq!(bus.stats().ring_events, 256);
    assert_eq!(listener(&bus, Role::Subscription, "subscription").lag, Some(1_000));
    let lagged = expect_lagged(slow.next().await);
    assert_eq!((lagged.missed, lagged.from, lagged.to), (743, 1, 744));
    assert_eq!(lagged.resume, None);
    // What is behind the overrun was taken with it: one more overrun cannot come before it.
    publish(&bus, 1_000..2_000);
    assert_eq!(expect_event(slow.next().await), 744);
    let lagged = expect_lagged(slow.next().await);
    assert_eq!((lagged.missed, lagged.from, lagged.to), (999, 745, 1_744));
    for expected in 1_744..2_000 {
        assert_eq!(expect_event(slow.next().await), expected);
    }
    assert!(slow.next().now_or_never().is_none());
    let stats = listener(&bus, Role::Subscription, "subscription");
    assert_eq!((stats.overruns, stats.missed, stats.lag), (2, 1_742, Some(0)));
}

#[tokio::test]
async fn batches_take_what_is_there_up_to_256() {
    let bus = build(Bus::builder().config(small().ring_events_max(300)));
    let mut slow = bus.subscribe(EventKindSet::EVERY);
    publish(&bus, 0..400);
    let batch = slow.next_batch().await.unwrap();
    assert_eq!(batch.lagged().map(|lagged| lagged.missed), Some(100));
    assert_eq!(numbers(&batch), (100..356).collect::<Vec<_>>());
    assert_eq!(numbers(&slow.next_batch().await.unwrap()), (356..400).collect::<Vec<_>>());
    publish_together(&bus, 400..500);
    publish_together(&bus, 500..600);
    assert_eq!(numbers(&slow.next_batch().await.unwrap()), (400..600).collect::<Vec<_>>());
    assert!(slow.next_batch().now_or_never().is_none());
    // What was overrun while a batch is read ends it.
    publish(&bus, 600..603);
    assert_eq!(expect_event(slow.next().await), 600);
    publish(&bus, 603..1_000);
    let batch = slow.next_batch().await.unwrap();
    assert_eq!(batch.lagged().map(|lagged| (lagged.from, lagged.to)), Some((601, 700)));
}

#[tokio::test]
async fn what_is_wanted_is_found_behind_much_that_is_not() {
    let bus = build(Bus::builder());
    let [mut one, mut many] = [NUMBERED; 2].map(|kinds| bus.subscribe(kinds));
    for unwanted in [1_023, 1_024, 5_000] {
        (0..unwanted).for_each(|_| bus.publish(&[other()]));
        publish(&bus, [unwanted]);
        assert_eq!(expect_event(one.next().await), unwanted);
        assert_eq!(numbers(&many.next_batch().await.unwrap()), [unwanted]);
    }
}

#[tokio::test]
async fn the_ring_is_bounded_in_bytes_and_keeps_nothing_for_nobody() {
    let bus =
        build(Bus::builder().config(small().ring_events_max(1 << 20).ring_bytes_max(256 << 10)));
    publish_together(&bus, 0..10_000);
    assert_eq!((bus.stats().ring_events, bus.stats().ring_bytes), (0, 0));
    let reader = bus.subscribe(EventKindSet::EVERY);
    publish_together(&bus, 0..100_000);
    let stats = bus.stats();
    assert!(stats.ring_bytes <= 256 << 10 && stats.ring_events > 1_000, "{stats:?}");
    assert_eq!(stats.head, 110_000);
    drop(reader);
    assert_eq!((bus.stats().ring_events, bus.stats().ring_bytes), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_readers_are_each_told_everything_in_order() {
    for is_started in [false, true] {
        let bus = build(Bus::builder());
        let running = is_started.then(|| bus.start().unwrap());
        let mut readers = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let mut all = bus.subscribe(NUMBERED);
            readers.spawn(async move {
                for expected in 0..5_000 {
                    assert_eq!(expect_event(all.next().await), expected);
                }
            });
        }
        let publisher = bus.clone();
        readers.spawn_blocking(move || {
            for number in (0..5_000).step_by(10) {
                publish_together(&publisher, number..number + 10);
                std::thread::yield_now();
            }
        });
        readers.join_all().await;
        drop(running);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_publisher_keeps_its_order() {
    let bus = build(Bus::builder());
    let mut all = bus.subscribe(EventKindSet::EVERY);
    let mut publishers = tokio::task::JoinSet::new();
    for publisher in 0..4 {
        let bus = bus.clone();
        publishers.spawn_blocking(move || {
            publish(&bus, (0..2_000).map(|number| publisher * 10_000 + number));
        });
    }
    publishers.join_all().await;
    let mut next = [0; 4];
    for _ in 0..8_000 {
        let number = expect_event(all.next().await);
        let publisher = usize::try_from(number / 10_000).unwrap();
        assert_eq!(number % 10_000, next[publisher]);
        next[publisher] += 1;
    }
    assert!(all.next().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_next_that_is_dropped_loses_nothing() {
    let bus = build(Bus::builder());
    let mut all = bus.subscribe(EventKindSet::EVERY);
    for number in 0..100 {
        assert!(tokio::time::timeout(SECOND, all.next()).await.is_err());
        publish(&bus, [number]);
        // Its waker is woken although nobody polls it any more.
        tokio::task::yield_now().await;
        assert_eq!(expect_event(all.next().await), number);
    }
}

#[tokio::test]
async fn a_subscription_is_a_stream() {
    let bus = build(Bus::builder());
    let all = bus.subscribe(EventKindSet::EVERY);
    publish(&bus, 0..10);
    drop(bus);
    let told = all.filter_map(async |item| match item {
        Item::Event(event) => Some(number(&event)),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>().await, (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn readers_that_are_gone_leave_nothing_behind() {
    let bus = build(Bus::builder());
    for _ in 0..1_000 {
        let mut reader = bus.subscribe(EventKindSet::EVERY);
        assert!(reader.next().now_or_never().is_none());
    }
    publish(&bus, [1]);
    let stats = listener(&bus, Role::Subscription, "subscription");
    assert_eq!((stats.listening, stats.lag), (0, Some(0)));
}

/// A waker that panics.
struct Bomb(AtomicUsize);

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
        unreachable!("a waker with a bug");
    }
}

#[tokio::test]
async fn a_waker_that_panics_harms_nobody() {
    let bus = build(Bus::builder());
    let mut bad = bus.subscribe(EventKindSet::EVERY);
    let mut good = bus.subscribe(EventKindSet::EVERY);
    let bomb = Arc::new(Bomb(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&bomb));
    let poll = |bad: &mut ergon_events::Subscription| {
        Pin::new(bad).poll_next(&mut Context::from_waker(&waker)).is_pending()
    };
    assert!(poll(&mut bad));
    assert!(good.next().now_or_never().is_none());
    publish(&bus, [1]);
    assert_eq!(bomb.0.load(Ordering::SeqCst), 1);
    assert_eq!(expect_event(good.next().await), 1);
    assert!(!poll(&mut bad));
}

#[tokio::test]
async fn names_of_subscriptions_are_counted_apart() {
    let bus = build(Bus::builder());
    let mut page = bus.subscribe_as("page", EventKindSet::EVERY);
    let _second = bus.subscribe_as("page", EventKindSet::EVERY);
    publish(&bus, 0..3);
    poll_fn(|cx| Pin::new(&mut page).poll_next(cx)).await.unwrap();
    let stats = listener(&bus, Role::Subscription, "page");
    assert_eq!((stats.listening, stats.events, stats.lag), (2, 1, Some(3)));
}
