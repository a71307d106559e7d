//! What the tests share: events that carry a number, stores, short ways to look.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ergon_core::{
    Event, EventKind, EventKindSet, EventSink as _, QueueName, ServerId, Store, Timestamp,
    event::{Fact, QueueEvent, ServerEvent},
};
use ergon_events::{Batch, Bus, BusBuilder, BusConfig, Item, Lagged, ListenerStats, Role};
use ergon_testing::{MemoryStore, MemoryStoreBuilder, TokioClock};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);

/// The kinds of the numbered events.
pub(crate) const NUMBERED: EventKindSet =
    EventKindSet::of(&[EventKind::TasksPruned, EventKind::ServerStopped]);

/// An event that carries a number.
pub(crate) const fn event(number: u64) -> Event {
    Event::pruned(Timestamp::UNIX_EPOCH, number)
}

/// An event of another kind.
pub(crate) fn other() -> Event {
    Event::queue(Timestamp::UNIX_EPOCH, QueueName::default(), QueueEvent::Paused)
}

/// The number that an event carries.
#[track_caller]
pub(crate) fn number(event: &Event) -> u64 {
    match &event.fact {
        Fact::Pruned { tasks } => *tasks,
        Fact::Server { event: ServerEvent::Stopped { left }, .. } => *left,
        other => unreachable!("{other:?} has no number"),
    }
}

pub(crate) fn numbers(batch: &Batch) -> Vec<u64> {
    batch.into_iter().map(|event| number(event)).collect()
}

/// Publishes these numbers, each by a call of its own.
pub(crate) fn publish(bus: &Bus, range: impl IntoIterator<Item = u64>) {
    range.into_iter().for_each(|number| bus.publish(&[event(number)]));
}

/// Publishes these numbers at once.
pub(crate) fn publish_together(bus: &Bus, range: impl IntoIterator<Item = u64>) {
    bus.publish(&range.into_iter().map(event).collect::<Vec<_>>());
}

/// Records these numbers in the journal of a store, each by a call of its own.
pub(crate) async fn record(store: &dyn Store, range: impl IntoIterator<Item = u64>) {
    for left in range {
        let event = ServerEvent::Stopped { left };
        store.announce(ServerId::from_u128(7), &event).await.unwrap();
    }
}

#[track_caller]
pub(crate) fn expect_event(item: Option<Item>) -> u64 {
    match item {
        Some(Item::Event(event)) => number(&event),
        other => unreachable!("{other:?} instead of an event"),
    }
}

#[track_caller]
pub(crate) fn expect_lagged(item: Option<Item>) -> Lagged {
    match item {
        Some(Item::Lagged(lagged)) => lagged,
        other => unreachable!("{other:?} instead of lag"),
    }
}

/// The smallest ring.
pub(crate) fn small() -> BusConfig {
    BusConfig::new().ring_events_max(256)
}

pub(crate) fn build(builder: BusBuilder) -> Bus {
    builder.build().unwrap()
}

/// A memory store on the clock of the runtime.
pub(crate) fn on_tokio_time() -> MemoryStoreBuilder {
    MemoryStore::builder().clock(Arc::new(TokioClock::default()))
}

#[track_caller]
pub(crate) fn listener(bus: &Bus, role: Role, name: &str) -> ListenerStats {
    let found = bus.stats().listeners.into_iter().find(|it| it.role == role && it.name == name);
    found.unwrap()
}

/// What observers were handed, in order.
#[derive(Clone, Debug)]
pub(crate) struct Seen<T>(Arc<Mutex<Vec<T>>>);

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> Seen<T> {
    fn all(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, seen: impl IntoIterator<Item = T>) {
        self.all().extend(seen);
    }

    pub(crate) fn get(&self) -> Vec<T> {
        self.all().clone()
    }
}

/// Waits until it is so, letting others run; in a paused runtime time passes.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..100_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(MILLISECOND).await;
    }
    unreachable!("not so: {what}");
}
