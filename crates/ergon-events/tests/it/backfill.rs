//! Observers that read again what they missed.

use ergon_core::store::Gap;
use ergon_events::{Batch, BoxError, Bus, Overflow, Role, Source};
use ergon_testing::{Faulty, MemoryStore, Operation};

use crate::support::{
    NUMBERED, SECOND, Seen, build, listener, number, on_tokio_time, record, small, until,
};

/// A bus with one slow observer that is backfilled, on this store.
fn bus(store: impl ergon_core::store::IntoStore, seen: Seen<(Option<Gap>, Vec<u64>)>) -> Bus {
    let slow = move |batch: Batch| {
        assert!(batch.lagged().is_none());
        let told = batch.events().iter().map(|event| number(event)).collect();
        seen.add([(batch.gap(), told)]);
        async {
            tokio::time::sleep(SECOND).await;
            Ok::<_, BoxError>(())
        }
    };
    let source = Source::journal(store);
    let builder = Bus::builder().config(small()).source(source);
    build(builder.observe("slow", NUMBERED, Overflow::Backfill, slow))
}

fn told(seen: &Seen<(Option<Gap>, Vec<u64>)>) -> Vec<u64> {
    seen.get().into_iter().flat_map(|(_, numbers)| numbers).collect()
}

async fn record_slowly(store: &MemoryStore, to: u64) {
    for from in (0..to).step_by(100) {
        record(store, from..from + 100).await;
        tokio::time::sleep(SECOND / 100).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_left_the_ring_is_read_from_the_journal_in_order() {
    let (store, seen) = (on_tokio_time().build(), Seen::default());
    let faulty = Faulty::new(store.clone());
    let bus = bus(faulty.clone(), seen.clone());
    let running = bus.start().unwrap();
    running.ready().await;
    record_slowly(&store, 10_000).await;
    faulty.fail_before(Operation::Changes, 3);
    until("all is told", || told(&seen).len() >= 10_000).await;
    assert_eq!(told(&seen), (0..10_000).collect::<Vec<_>>());
    let slow = listener(&bus, Role::Observer, "slow");
    assert!(slow.overruns > 0 && slow.missed == 0 && slow.gaps == 0, "{slow:?}");
    assert!(running.shutdown().await.is_complete());
}

#[tokio::test(start_paused = true)]
async fn what_left_the_journal_too_is_a_gap() {
    let seen = Seen::default();
    let store = on_tokio_time().journal_bytes_max(1_000 * size_of::<ergon_core::Event>()).build();
    let bus = bus(store.clone(), seen.clone());
    let running = bus.start().unwrap();
    running.ready().await;
    record_slowly(&store, 10_000).await;
    until("the last is told", || told(&seen).last() == Some(&9_999)).await;
    let gaps: Vec<_> = seen.get().iter().filter_map(|(gap, _)| *gap).collect();
    assert!(!gaps.is_empty() && gaps.iter().all(|&gap| gap == Gap::Expired), "{gaps:?}");
    let told = told(&seen);
    // At least once within the window: what comes twice comes from a step back, and order is kept.
    let steps_back = told.windows(2).filter(|pair| pair[1] <= pair[0]).count();
    assert!(steps_back <= gaps.len(), "{steps_back} steps back, {} gaps", gaps.len());
    assert!(running.shutdown().await.is_complete());
}
