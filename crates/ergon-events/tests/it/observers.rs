//! Observers: batches, lag, and isolation.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use ergon_core::EventKindSet;
use ergon_events::{Batch, BoxError, Bus, Overflow, Role};
use ergon_testing::Signal;
use tokio::time::Instant;

use crate::support::{
    MILLISECOND, NUMBERED, SECOND, Seen, build, listener, numbers, publish, publish_together,
    small, until,
};

const EVERY: EventKindSet = EventKindSet::EVERY;

#[tokio::test(start_paused = true)]
async fn events_come_in_batches_by_size_or_by_age() {
    let start = Instant::now();
    let seen = Seen::default();
    let batches = seen.clone();
    let bus = build(Bus::builder().observe("o", NUMBERED, Overflow::Lag, move |batch: Batch| {
        batches.add([(start.elapsed(), numbers(&batch))]);
        async { Ok::<_, BoxError>(()) }
    }));
    let running = bus.start().unwrap();
    publish_together(&bus, 0..600);
    until("all were told", || seen.get().len() == 3).await;
    publish(&bus, [600]);
    tokio::time::sleep(MILLISECOND * 15).await;
    publish(&bus, [601]);
    tokio::time::sleep(MILLISECOND * 15).await;
    publish(&bus, [602]);
    assert!(running.shutdown().await.is_complete());
    let seen = seen.get();
    let lens: Vec<_> = seen.iter().map(|(_, batch)| batch.len()).collect();
    assert_eq!(lens, [256, 256, 88, 2, 1]);
    assert!(seen[1].0 < MILLISECOND, "what is full does not wait");
    let waited = seen[2].0;
    assert!(waited >= MILLISECOND * 20 && waited < MILLISECOND * 23, "{waited:?}");
    let told: Vec<_> = seen.into_iter().flat_map(|(_, batch)| batch).collect();
    assert_eq!(told, (0..603).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn one_that_panics_or_fails_goes_on_being_told() {
    let seen = Seen::default();
    let (panics, fails, well) = (seen.clone(), seen.clone(), seen.clone());
    let bus = Bus::builder()
        .observe("panics", EVERY, Overflow::Lag, move |batch: Batch| {
            panics.add([("panics", numbers(&batch))]);
            async move {
                assert!(numbers(&batch).is_empty(), "a bug");
                Ok::<_, BoxError>(())
            }
        })
        .observe("panics at once", EVERY, Overflow::Lag, |batch: Batch| {
            assert!(numbers(&batch).is_empty(), "a bug before the first await");
            async { Ok::<_, BoxError>(()) }
        })
        .observe("fails", EVERY, Overflow::Lag, move |batch: Batch| {
            fails.add([("fails", numbers(&batch))]);
            async { Err("no network") }
        })
        .observe("well", EVERY, Overflow::Lag, move |batch: Batch| {
            well.add([("well", numbers(&batch))]);
            async { Ok::<_, BoxError>(()) }
        });
    let bus = build(bus);
    let running = bus.start().unwrap();
    for number in 0..3 {
        publish(&bus, [number]);
        tokio::time::sleep(SECOND).await;
    }
    assert!(running.shutdown().await.is_complete());
    for name in ["panics", "fails", "well"] {
        let seen = seen.get().into_iter().filter(|seen| seen.0 == name).map(|seen| seen.1);
        assert_eq!(seen.collect::<Vec<_>>(), [[0], [1], [2]], "{name}");
    }
    let counts = |name| {
        let stats = listener(&bus, Role::Observer, name);
        (stats.calls, stats.panics, stats.errors)
    };
    assert_eq!(counts("panics"), (3, 3, 0));
    assert_eq!(counts("panics at once"), (3, 3, 0));
    assert_eq!(counts("fails"), (3, 0, 3));
    assert_eq!(counts("well"), (3, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn one_that_never_returns_stops_itself_alone() {
    let told = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&told);
    let began = Signal::new();
    let begins = began.clone();
    let bus = Bus::builder()
        .config(small())
        .observe("stuck", EVERY, Overflow::Lag, move |_batch| {
            begins.fire();
            std::future::pending::<Result<(), BoxError>>()
        })
        .observe("well", EVERY, Overflow::Lag, move |batch: Batch| {
            counted.fetch_add(batch.events().len(), Ordering::SeqCst);
            async { Ok::<_, BoxError>(()) }
        });
    let bus = build(bus);
    let running = bus.start().unwrap();
    publish(&bus, [0]);
    began.wait().await;
    for number in (1..10_001).step_by(100) {
        publish_together(&bus, number..number + 100);
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(told.load(Ordering::SeqCst), 10_001);
    let stuck = listener(&bus, Role::Observer, "stuck");
    assert_eq!((stuck.lag, stuck.calls), (Some(10_000), 1));
    assert!(stuck.calling.is_some_and(|calling| calling >= SECOND * 90), "{stuck:?}");
    assert_eq!(listener(&bus, Role::Observer, "well").lag, Some(0));
    let began = Instant::now();
    let report = running.shutdown().await;
    assert_eq!(began.elapsed(), SECOND * 5, "the period of grace");
    let [left] = &report.left[..] else { unreachable!("{report:?}") };
    assert_eq!((left.name.as_str(), left.events, left.was_calling), ("stuck", 10_000, true));
    assert!(!report.is_complete());
}

#[tokio::test(start_paused = true)]
async fn one_that_is_slow_is_told_how_much_it_missed() {
    let seen = Seen::default();
    let noted = seen.clone();
    let bus = Bus::builder().config(small()).observe(
        "slow",
        NUMBERED,
        Overflow::Lag,
        move |batch: Batch| {
            noted.add([(batch.lagged().map(|lagged| lagged.missed), numbers(&batch))]);
            async {
                tokio::time::sleep(SECOND * 10).await;
                Ok::<_, BoxError>(())
            }
        },
    );
    let bus = build(bus);
    let running = bus.start().unwrap();
    publish(&bus, [0]);
    tokio::time::sleep(SECOND).await;
    publish(&bus, 1..1_001);
    tokio::time::sleep(SECOND * 30).await;
    assert!(running.shutdown().await.is_complete());
    assert_eq!(seen.get(), [(None, vec![0]), (Some(744), (745..1_001).collect())]);
    let slow = listener(&bus, Role::Observer, "slow");
    assert_eq!((slow.overruns, slow.missed, slow.events), (1, 744, 257));
    assert!(slow.spent >= SECOND * 20, "{slow:?}");
}

#[tokio::test(start_paused = true)]
async fn what_came_before_the_start_is_told_after_it() {
    let seen = Seen::default();
    let noted = seen.clone();
    let bus = build(Bus::builder().observe("o", NUMBERED, Overflow::Lag, move |batch: Batch| {
        noted.add(numbers(&batch));
        async { Ok::<_, BoxError>(()) }
    }));
    publish(&bus, 0..5);
    assert!(bus.start().unwrap().shutdown().await.is_complete());
    assert_eq!(seen.get(), (0..5).collect::<Vec<_>>());
}
