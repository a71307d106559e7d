//! Code of others that runs where the bus would rather have it not.

use std::{
    sync::{Arc, mpsc},
    task::{Context, Wake, Waker},
};

use ergon_core::{EventKindSet, EventSink as _, Now, limits::BATCH_MAX, store::Enqueue as _};
use ergon_events::{Batch, BoxError, Bus, BusConfig, Overflow, Role, Source};
use ergon_testing::{Faulty, Operation, harness::Harness};
use futures_util::StreamExt as _;

use crate::support::{
    NUMBERED, SECOND, Seen, build, event, listener, number, numbers, on_tokio_time, publish,
    record, until,
};

const EVERY: EventKindSet = EventKindSet::EVERY;

/// Runs what may hang in a thread of its own.
fn ends(work: impl FnOnce() + Send + 'static) {
    let (done, on_done) = mpsc::channel();
    std::thread::spawn(move || {
        work();
        done.send(()).unwrap();
    });
    on_done.recv_timeout(SECOND * 10).expect("it ends");
}

/// A waker that looks at the bus when it is dropped.
struct Nosy(Bus);

impl Wake for Nosy {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Nosy {
    fn drop(&mut self) {
        assert!(self.0.stats().listeners.iter().any(|it| it.name == "subscription"));
    }
}

fn poll_nosily(bus: &Bus, all: &mut ergon_events::Subscription) -> bool {
    let waker = Waker::from(Arc::new(Nosy(bus.clone())));
    all.poll_next_unpin(&mut Context::from_waker(&waker)).is_ready()
}

#[test]
fn wakers_are_dropped_where_they_may_use_the_bus() {
    ends(|| {
        let bus = build(Bus::builder());
        let mut all = bus.subscribe(EVERY);
        for _ in 0..2 {
            // The first waker goes when the second comes, and that when there is something to read.
            assert!(!poll_nosily(&bus, &mut all));
            assert!(!poll_nosily(&bus, &mut all));
            publish(&bus, [1]);
            assert!(poll_nosily(&bus, &mut all));
        }
        assert!(!poll_nosily(&bus, &mut all));
        drop(all);
    });
}

#[tokio::test(start_paused = true)]
async fn observers_may_use_their_bus_in_every_way() {
    let (seen, numbers_seen) = (Seen::default(), Seen::default());
    let (slot, later) = (Arc::new(std::sync::OnceLock::<Bus>::new()), Seen::<u64>::default());
    let (own, own_inline) = (Arc::clone(&slot), Arc::clone(&slot));
    let (noted, noted_later) = (numbers_seen.clone(), later.clone());
    let inline = seen.clone();
    let bus = Bus::builder()
        .observe_inline("inline", move |events| {
            inline.add(events.iter().map(number));
            let bus = own_inline.get().unwrap();
            let mut all = bus.subscribe(EVERY);
            // It publishes once more for each that came from outside.
            if number(&events[0]) < 100 {
                bus.publish(&[event(number(&events[0]) + 100)]);
                assert!(matches!(futures_util::FutureExt::now_or_never(all.next()), Some(Some(_))));
            }
            assert!(bus.stats().published > 0);
        })
        .observe("task", EVERY, Overflow::Lag, move |batch: Batch| {
            let (noted, later, bus) = (noted.clone(), noted_later.clone(), own.get().cloned());
            async move {
                let bus = bus.unwrap();
                noted.add(numbers(&batch));
                for told in &batch {
                    if number(told) < 100 {
                        let mut all = bus.subscribe_as("inner", NUMBERED);
                        bus.publish(&[event(number(told) + 200)]);
                        later.add(all.next_batch().await.iter().flat_map(numbers));
                    }
                }
                Ok::<_, BoxError>(())
            }
        });
    let bus = build(bus);
    slot.set(bus.clone()).unwrap();
    let running = bus.start().unwrap();
    publish(&bus, [1, 2]);
    until("all is told", || numbers_seen.get().len() == 6).await;
    assert!(running.shutdown().await.is_complete());
    assert_eq!(seen.get(), [1, 101, 2, 102, 201, 202]);
    let mut all = numbers_seen.get();
    all.sort_unstable();
    assert_eq!(all, [1, 2, 101, 102, 201, 202]);
    assert_eq!(later.get(), [201, 202]);
    assert_eq!(listener(&bus, Role::Subscription, "inner").listening, 0);
}

#[tokio::test(start_paused = true)]
async fn an_observer_may_end_its_bus() {
    let handle = Arc::new(std::sync::Mutex::new(None));
    let own = Arc::clone(&handle);
    let bus = build(Bus::builder().observe("end", EVERY, Overflow::Lag, move |_batch| {
        let running = own.lock().unwrap().take();
        async move {
            drop(running);
            Ok::<_, BoxError>(())
        }
    }));
    *handle.lock().unwrap() = Some(bus.start().unwrap());
    let mut all = bus.subscribe(EVERY);
    publish(&bus, [1]);
    assert!(all.next().await.is_some());
    assert!(all.next().await.is_none());
    until("its seat is free", || listener(&bus, Role::Observer, "end").listening == 0).await;
}

/// The journal is not read to its end; who has nothing to do leaves nothing all the same.
#[tokio::test(start_paused = true)]
async fn an_end_while_the_store_does_not_answer_leaves_no_one_who_is_idle() {
    let store = on_tokio_time().build();
    let faulty = Faulty::new(store.clone());
    let seen = Seen::default();
    let noted = seen.clone();
    let bus = Bus::builder().source(Source::journal(faulty.clone())).observe(
        "idle",
        NUMBERED,
        Overflow::Lag,
        move |batch: Batch| {
            noted.add(numbers(&batch));
            async { Ok::<_, BoxError>(()) }
        },
    );
    let bus = build(bus);
    let running = bus.start().unwrap();
    running.ready().await;
    record(&store, 0..3).await;
    until("they are told", || seen.get().len() == 3).await;
    faulty.delay(Operation::Changes, SECOND * 3600);
    let reads = faulty.calls(Operation::Changes);
    until("it hangs", || faulty.calls(Operation::Changes) > reads).await;
    let began = tokio::time::Instant::now();
    let report = running.shutdown().await;
    assert!(began.elapsed() <= BusConfig::new().observer_grace);
    assert!(!report.is_journal_read);
    assert_eq!(report.left, []);
}

/// What one commit recorded is not cut when it is read: it comes to the ring in many slots.
#[tokio::test(start_paused = true)]
async fn a_commit_of_very_many_events_is_passed_on_in_order() {
    let store = on_tokio_time().build();
    let bus = build(Bus::builder().source(Source::journal(store.clone())));
    let running = bus.start().unwrap();
    running.ready().await;
    let mut all = bus.subscribe(EVERY);
    let tasks = Harness::new(store.clone()).tasks(BATCH_MAX);
    store.insert(&tasks, Now::Store).await.unwrap();
    let mut told = Vec::new();
    while told.len() < tasks.len() {
        let batch = all.next_batch().await.unwrap();
        told.extend((&batch).into_iter().map(|told| told.task_ref().unwrap().id));
    }
    assert_eq!(told, tasks.iter().map(|task| task.id).collect::<Vec<_>>());
    assert!(running.shutdown().await.is_complete());
    assert!(all.next().await.is_none());
}
