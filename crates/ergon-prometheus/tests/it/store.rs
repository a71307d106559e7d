//! The counters say the same as the store when all is at rest.

use std::{sync::Arc, time::Duration};

use ergon_core::{
    Client, Command, Conclusion, ErrorKind, EventSink, KindName, Manager, Now, Outcome, Rng,
    Selection, ServerId, State, Store, TaskFilter, TaskId, WatcherName,
    store::{ClaimRequest, PruneRequest, QueueSlots, RescueRequest, StateCounts, Watch},
};
use ergon_prometheus::Metrics;
use ergon_testing::{MemoryStore, SeededRng, VirtualClock};

use crate::scrape::{Scrape, queue};

const QUEUES: [&str; 3] = ["a", "b", "c"];
const KINDS: [&str; 2] = ["x", "y"];

/// Tasks that come and go, by the journal of their store.
struct World {
    store: Arc<dyn Store>,
    client: Client,
    clock: VirtualClock,
    rng: SeededRng,
    metrics: Metrics,
    cursor: ergon_core::store::Cursor,
}

impl World {
    async fn new(seed: u64) -> Self {
        let clock = VirtualClock::new(ergon_core::Timestamp::UNIX_EPOCH);
        let store: Arc<dyn Store> =
            Arc::new(MemoryStore::builder().clock(Arc::new(clock.clone())).build());
        let watch = Watch::durable(WatcherName::new("metrics").unwrap());
        let cursor = store.watch(&watch).await.unwrap().cursor;
        let client = Client::builder(&store).clock(Arc::new(clock.clone())).build();
        let metrics = Metrics::builder().build().unwrap();
        Self { store, client, clock, rng: SeededRng::new(seed), metrics, cursor }
    }

    fn dice(&self, sides: u64) -> u64 {
        self.rng.next_u64() % sides
    }

    fn one_of<T: Copy>(&self, of: &[T]) -> T {
        let index = self.dice(of.len().try_into().unwrap());
        of[usize::try_from(index).unwrap()]
    }

    async fn enqueue(&self) {
        for _ in 0..self.dice(20) {
            let task = self.client.enqueue_json(self.one_of(&KINDS), 7).queue(self.one_of(&QUEUES));
            let delay = Duration::from_secs(self.dice(3) * 10);
            task.delay(delay).max_attempts(3).await.unwrap();
        }
    }

    async fn work(&self) {
        let kinds: Vec<_> = KINDS.iter().map(|kind| KindName::new(kind).unwrap()).collect();
        let slots = QUEUES.map(|name| QueueSlots { queue: queue(name), slots: 5 });
        let request = ClaimRequest::new(ServerId::from_u128(1), kinds, slots);
        let claimed = self.store.claim(&request).await.unwrap();
        let error = || "no".to_owned();
        let mut outcomes = Vec::new();
        for task in claimed {
            let kind = self.one_of(&[ErrorKind::Error, ErrorKind::Panic, ErrorKind::Timeout]);
            let delay = Duration::from_secs(self.dice(20));
            let conclusion = match self.dice(8) {
                0 => Conclusion::Retry { delay, kind, error: error() },
                1 => Conclusion::Fail { kind, error: error() },
                2 => Conclusion::Cancel { reason: error() },
                3 => Conclusion::Snooze { delay },
                4 => Conclusion::Release,
                // Its server dies.
                5 => continue,
                _ => Conclusion::Complete { result: None },
            };
            outcomes.push(Outcome { id: task.id, token: task.token, conclusion });
        }
        self.clock.advance(Duration::from_secs(1));
        self.store.finish(&outcomes, Now::Store).await.unwrap();
        // A repeated outcome is no second one.
        self.store.finish(&outcomes, Now::Store).await.unwrap();
    }

    async fn meddle(&self) {
        let command = match self.dice(4) {
            0 => Command::Cancel { reason: "no".to_owned() },
            1 => Command::Delete,
            2 => Command::Retry,
            _ => Command::SetPriority { priority: 3 },
        };
        let selection = Selection::Matching { filter: TaskFilter::all(), limit: 5 };
        self.store.apply(&selection, &command, Now::Store).await.unwrap();
        self.store.prune(&PruneRequest::default().limit(3)).await.unwrap();
    }

    /// Counts what the journal recorded since the last time.
    async fn count(&mut self) {
        loop {
            let changes = self.store.changes(&self.cursor, 100).await.unwrap();
            assert_eq!(changes.gap, None);
            let events: Vec<_> = changes.events.into_iter().map(|it| it.event).collect();
            if !events.is_empty() {
                self.metrics.publish(&events);
            }
            self.cursor = changes.cursor;
            if !changes.more {
                return;
            }
        }
    }
}

fn sum(counts: &[StateCounts], state: State) -> f64 {
    counts.iter().map(|it| it.get(state)).sum::<u64>() as f64
}

#[tokio::test]
async fn counters_at_rest_equal_the_store() {
    for seed in 0..20 {
        let mut world = World::new(seed).await;
        for _ in 0..40 {
            world.enqueue().await;
            world.work().await;
            if world.dice(3) == 0 {
                world.meddle().await;
            }
            if world.dice(4) == 0 {
                world.clock.advance(Duration::from_secs(60));
                world.store.rescue_expired(&RescueRequest::default().deaths_max(2)).await.unwrap();
            }
            if world.dice(20) == 0 {
                // Longer than any retention, and than the window of the journal.
                world.count().await;
                world.clock.advance(Duration::from_secs(3600 * 24 * 8));
            }
            world.count().await;
        }
        let queues = world.store.queues(Now::Store).await.unwrap();
        let counts: Vec<_> = queues.iter().map(|queue| queue.counts).collect();
        let scrape = Scrape::of(&world.metrics);
        let of = |name, label| scrape.sum(name, label);

        let stored: u64 = counts.iter().map(StateCounts::total).sum();
        let inserted = of("ergon_tasks_enqueued_total", "inserted");
        let deleted = of("ergon_tasks_deleted_total", "");
        assert_eq!(inserted - deleted, stored as f64, "seed {seed}");

        let started = of("ergon_attempts_started_total", "");
        let finished = of("ergon_attempts_finished_total", "");
        assert_eq!(started - finished, sum(&counts, State::Running), "seed {seed}");
        assert!(started > 100.0 && finished > 100.0, "seed {seed}: {started}");
        assert_eq!(scrape.sum("ergon_task_wait_seconds_count", ""), started);
        let finalized = of("ergon_tasks_finalized_total", "");
        assert_eq!(of("ergon_task_attempts_count", ""), finalized);
    }
}

/// Without removals and second lives, each terminal state alone says the same as well.
#[tokio::test]
async fn finished_tasks_are_counted_by_their_state() {
    let mut world = World::new(77).await;
    for _ in 0..60 {
        world.enqueue().await;
        world.work().await;
        world.clock.advance(Duration::from_secs(31));
        world.store.rescue_expired(&RescueRequest::default()).await.unwrap();
        world.count().await;
    }
    let scrape = Scrape::of(&world.metrics);
    for info in world.store.queues(Now::Store).await.unwrap() {
        for state in [State::Completed, State::Failed, State::Cancelled] {
            let start = format!(r#"ergon_tasks_finalized_total{{queue="{}""#, info.name);
            let of_state = scrape.all(&start).filter(|(series, _)| series.contains(state.as_str()));
            let finalized: f64 = of_state.map(|it| it.1).sum();
            assert_eq!(finalized, info.counts.get(state) as f64, "{} {state}", info.name);
            assert!(finalized > 0.0);
        }
    }
}

#[tokio::test]
async fn clients_and_managers_tell_their_sinks() {
    let store = MemoryStore::new();
    let metrics = Metrics::builder().build().unwrap();
    let client = Client::builder(store.clone()).events(metrics.sink()).build();
    let manager = Manager::new(store).events(metrics.sink());
    let id: TaskId = client.enqueue_json("k", 7).await.unwrap().id();
    client.enqueue_json("k", 8).await.unwrap();
    manager.control().cancel(id, "no").await.unwrap();
    manager.control().delete(id).await.unwrap();
    manager.control().pause_queue(&queue("default")).await.unwrap();
    let scrape = Scrape::of(&metrics);
    let of = r#"{queue="default",kind="k""#;
    for (series, expected) in [
        (format!(r#"ergon_tasks_enqueued_total{of},outcome="inserted"}}"#), 2.0),
        (format!(r#"ergon_tasks_finalized_total{of},state="cancelled"}}"#), 1.0),
        (r#"ergon_tasks_deleted_total{reason="manual"}"#.to_owned(), 1.0),
        (r#"ergon_events_total{type="queue.paused"}"#.to_owned(), 1.0),
    ] {
        assert_eq!(scrape.get(&series), Some(expected), "{series}");
    }
}
