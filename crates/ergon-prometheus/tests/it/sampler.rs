//! The sampler reads the queues, and its numbers are there exactly while it may show them.

use std::{sync::Arc, time::Duration};

use ergon_core::{Client, Clock, Manager, State, Timestamp};
use ergon_prometheus::{Metrics, RunningSampler, StoreGauges};
use ergon_testing::{Faulty, MemoryStore, Operation, VirtualClock};

use crate::scrape::{Scrape, queue};

const PERIOD: Duration = Duration::from_secs(5);
const LAST_SUCCESS: &str = "ergon_sampler_last_success_timestamp_seconds";
const OLDEST: &str = r#"ergon_queue_oldest_ready_age_seconds{queue="mail"}"#;

struct World {
    clock: VirtualClock,
    store: Faulty,
    client: Client,
    metrics: Metrics,
}

impl World {
    fn new() -> Self {
        let clock = VirtualClock::new(Timestamp::from_second(1_000).unwrap());
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let store = Faulty::new(MemoryStore::builder().clock(Arc::clone(&shared)).build());
        let client = Client::builder(store.clone()).clock(Arc::clone(&shared)).build();
        let metrics = Metrics::builder().clock(shared).build().unwrap();
        Self { clock, store, client, metrics }
    }

    async fn enqueue(&self, name: &str) {
        self.client.enqueue_json("k", 7).queue(name).await.unwrap();
    }

    /// Lets the task of the sampler run until it has nothing to do but wait.
    async fn settle(&self) {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    async fn pass(&self, time: Duration) {
        tokio::time::advance(time).await;
        self.settle().await;
    }

    fn get(&self, series: &str) -> Option<f64> {
        Scrape::of(&self.metrics).get(series)
    }

    fn pending(&self) -> Option<f64> {
        self.get(r#"ergon_queue_tasks{queue="mail",state="pending"}"#)
    }

    fn errors(&self, reason: &str) -> Option<f64> {
        self.get(&format!(r#"ergon_sampler_errors_total{{reason="{reason}"}}"#))
    }

    /// No number of the store is shown.
    #[track_caller]
    fn check_gone(&self) {
        let scrape = Scrape::of(&self.metrics);
        assert_eq!(scrape.all("ergon_queue_").count(), 0, "{scrape:#?}");
        assert_eq!(scrape.get(LAST_SUCCESS), None);
        assert_eq!(self.errors("error"), Some(0.0), "counters stay");
    }
}

/// A sampler of some queue that has read it once.
pub(crate) async fn sampling_something(metrics: &Metrics) -> RunningSampler {
    let store = Faulty::new(MemoryStore::new());
    Client::new(store.clone()).enqueue_json("k", 7).queue("mail").await.unwrap();
    let sampling = metrics.sampler(store).start();
    while Scrape::of(metrics).all("ergon_queue_tasks").count() == 0 {
        tokio::task::yield_now().await;
    }
    sampling
}

#[tokio::test(start_paused = true)]
async fn queues_are_shown_as_the_store_has_them() {
    let world = World::new();
    world.enqueue("mail").await;
    world.enqueue("mail").await;
    world.enqueue("reports").await;
    let control = Manager::new(world.store.clone());
    control.control().pause_queue(&queue("reports")).await.unwrap();
    world.check_gone();

    let sampling = world.metrics.sampler(world.store.clone()).start();
    assert_eq!(world.get(LAST_SUCCESS), Some(0.0), "not yet");
    world.settle().await;
    assert_eq!(world.get(LAST_SUCCESS), Some(1_000.0));
    let scrape = Scrape::of(&world.metrics);
    for info in control.tasks().queues().await.unwrap() {
        for state in State::ALL {
            let series = format!(r#"ergon_queue_tasks{{queue="{}",state="{state}"}}"#, info.name);
            assert_eq!(scrape.get(&series), Some(info.counts.get(state) as f64), "{series}");
        }
        let paused = format!(r#"ergon_queue_paused{{queue="{}"}}"#, info.name);
        assert_eq!(scrape.get(&paused), Some(f64::from(u8::from(info.is_paused))));
    }
    assert_eq!(scrape.all("ergon_queue_tasks").count(), 2 * State::ALL.len());

    world.enqueue("mail").await;
    assert_eq!(world.pending(), Some(2.0));
    world.pass(PERIOD).await;
    assert_eq!(world.pending(), Some(3.0));
    sampling.stop().await;
    world.check_gone();
}

#[tokio::test(start_paused = true)]
async fn a_scrape_asks_the_store_nothing() {
    let world = World::new();
    world.enqueue("mail").await;
    let _sampling = world.metrics.sampler(world.store.clone()).start();
    world.settle().await;
    assert_eq!(world.store.calls(Operation::Queues), 1);
    // A read that hangs holds up no scrape either.
    world.store.delay(Operation::Queues, Duration::from_secs(3600));
    world.pass(PERIOD).await;
    assert_eq!(world.store.calls(Operation::Queues), 2);
    for _ in 0..100 {
        assert_eq!(world.pending(), Some(1.0));
    }
    assert_eq!(world.store.calls(Operation::Queues), 2);
}

#[tokio::test(start_paused = true)]
async fn ages_go_on_between_reads() {
    let world = World::new();
    world.enqueue("mail").await;
    let _sampling = world.metrics.sampler(world.store.clone()).start();
    world.settle().await;
    assert_eq!(world.get(OLDEST), Some(0.0));
    world.clock.advance(Duration::from_millis(1_500));
    assert_eq!(world.get(OLDEST), Some(1.5));
    world.store.fail_before(Operation::Queues, usize::MAX);
    world.pass(PERIOD).await;
    world.clock.advance(Duration::from_secs(30));
    assert_eq!(world.get(OLDEST), Some(31.5));
    // A clock that is behind that of the store makes no age negative.
    world.clock.set(Timestamp::UNIX_EPOCH);
    assert_eq!(world.get(OLDEST), Some(0.0));
}

#[tokio::test(start_paused = true)]
async fn failures_are_counted_and_the_last_answer_stands() {
    let world = World::new();
    world.enqueue("mail").await;
    let _sampling = world.metrics.sampler(world.store.clone()).start();
    world.settle().await;
    world.store.fail_before(Operation::Queues, 2);
    world.pass(PERIOD).await;
    world.pass(PERIOD).await;
    world.clock.advance(Duration::from_secs(60));
    assert_eq!((world.errors("error"), world.errors("timeout")), (Some(2.0), Some(0.0)));
    assert_eq!((world.pending(), world.get(LAST_SUCCESS)), (Some(1.0), Some(1_000.0)));

    world.store.delay(Operation::Queues, Duration::from_secs(3600));
    world.pass(PERIOD).await;
    world.pass(Duration::from_secs(4)).await;
    assert_eq!((world.errors("error"), world.errors("timeout")), (Some(2.0), Some(1.0)));

    world.store.heal();
    world.pass(PERIOD).await;
    assert_eq!(world.get(LAST_SUCCESS), Some(1_060.0));
}

#[tokio::test(start_paused = true)]
async fn who_is_told_to_show_nothing_does_so_at_once() {
    let world = World::new();
    world.enqueue("mail").await;
    let sampling = world.metrics.sampler(world.store.clone()).store_gauges(StoreGauges::Never);
    let sampling = sampling.start();
    world.pass(PERIOD * 3).await;
    world.check_gone();
    assert_eq!(world.store.calls(Operation::Queues), 0, "nor is the store asked");

    sampling.set_store_gauges(StoreGauges::Always);
    world.settle().await;
    assert_eq!(world.pending(), Some(1.0));

    // Also while it reads: what comes late is not shown.
    world.store.delay(Operation::Queues, Duration::from_secs(1));
    world.pass(PERIOD).await;
    sampling.set_store_gauges(StoreGauges::Never);
    world.check_gone();
    world.pass(PERIOD * 3).await;
    world.check_gone();
}

#[tokio::test(start_paused = true)]
async fn what_a_dropped_sampler_showed_is_gone_at_once() {
    let world = World::new();
    world.enqueue("mail").await;
    let sampling = world.metrics.sampler(world.store.clone()).start();
    world.settle().await;
    assert_eq!(world.pending(), Some(1.0));
    drop(sampling);
    world.check_gone();
    let calls = world.store.calls(Operation::Queues);
    world.pass(PERIOD * 3).await;
    world.check_gone();
    assert_eq!(world.store.calls(Operation::Queues), calls);
}

#[tokio::test(start_paused = true)]
async fn the_newest_sampler_takes_over() {
    let (first, second) = (World::new(), World::new());
    first.enqueue("mail").await;
    second.enqueue("other").await;
    let sampling = first.metrics.sampler(first.store.clone()).start();
    first.settle().await;
    let newest = first.metrics.sampler(second.store.clone()).start();
    first.pass(PERIOD).await;
    first.pass(PERIOD).await;
    assert_eq!(first.pending(), None);
    assert_eq!(first.get(r#"ergon_queue_tasks{queue="other",state="pending"}"#), Some(1.0));
    // The end of the one that was taken over from takes nothing away.
    drop(sampling);
    assert_eq!(first.get(r#"ergon_queue_paused{queue="other"}"#), Some(0.0));
    drop(newest);
    first.check_gone();
}

#[tokio::test(start_paused = true)]
async fn queues_beyond_the_bound_are_shown_together() {
    let world = World::new();
    for number in 0..300 {
        world.enqueue(&format!("q{number:03}")).await;
    }
    let _sampling = world.metrics.sampler(world.store.clone()).start();
    world.settle().await;
    let scrape = Scrape::of(&world.metrics);
    assert_eq!(scrape.all("ergon_queue_paused").count(), 201);
    assert_eq!(scrape.sum("ergon_queue_tasks", "pending"), 300.0);
    let of_others = r#"ergon_queue_tasks{queue="_other",state="pending"}"#;
    assert_eq!(scrape.get(of_others), Some(100.0));
    let overflow = r#"ergon_metrics_label_overflow_total{label="queue"}"#;
    assert_eq!(scrape.get(overflow), Some(100.0));
}
