//! A reader of the journal, who goes on from cursor to cursor.

use std::{sync::Arc, time::Duration};

use ergon_core::{
    Event, Store, WatcherName,
    limits::BATCH_MAX,
    store::{Changes, Cursor, Gap, Recorded, Watch, Watched},
};

use super::Harness;

/// Most reads in a row until nothing more is to be read: far beyond what any case records.
const READS_MAX: usize = 100_000;

/// Reads a journal from cursor to cursor.
///
/// Unless a method says otherwise, it panics when the store answers an error.
#[derive(Clone, Debug)]
pub struct Reader {
    store: Arc<dyn Store>,
    /// The place that it has come to.
    pub cursor: Cursor,
}

impl Reader {
    /// Reads on, gap or not.
    pub async fn read(&mut self, limit: usize) -> Changes {
        let changes = self.store.changes(&self.cursor, limit).await.unwrap();
        self.cursor = changes.cursor.clone();
        changes
    }

    /// Reads everything that is there, in steps of about `limit` events. Panics at a gap.
    pub async fn read_all(&mut self, limit: usize) -> Vec<Recorded> {
        let (gaps, recorded) = self.read_over_gaps(limit).await;
        assert_eq!(gaps, [], "nothing is missing");
        recorded
    }

    /// Reads everything that is there, and the gaps on the way.
    pub async fn read_over_gaps(&mut self, limit: usize) -> (Vec<Gap>, Vec<Recorded>) {
        let (mut gaps, mut recorded) = (Vec::new(), Vec::new());
        for _ in 0..READS_MAX {
            let changes = self.read(limit).await;
            gaps.extend(changes.gap);
            recorded.extend(changes.events);
            if !changes.more {
                return (gaps, recorded);
            }
        }
        panic!("there is always more to be read behind {}", self.cursor)
    }

    /// The events that were recorded since the last read. Panics at a gap.
    pub async fn events(&mut self) -> Vec<Event> {
        let recorded = self.read_all(BATCH_MAX).await;
        recorded.into_iter().map(|recorded| recorded.event).collect()
    }

    /// The one event that was recorded since the last read. Panics at a gap.
    pub async fn event(&mut self) -> Event {
        let mut events = self.events().await;
        assert_eq!(events.len(), 1, "one event has to be recorded: {events:?}");
        events.remove(0)
    }

    /// Waits for something to read.
    pub async fn wait(&self, within: Duration) {
        self.store.wait_for_changes(&self.cursor, within).await;
    }
}

/// Brings events into an order that stores agree on: by task, those of no task first. What happened
/// to one task stays in its order.
#[must_use]
pub fn by_task(mut events: Vec<Event>) -> Vec<Event> {
    events.sort_by_key(|event| event.task_ref().map(|task| task.id));
    events
}

/// Watchers and readers.
impl Harness {
    /// Watches until told otherwise, and reads from where everything is recorded.
    pub async fn watch(&self, name: &str) -> Reader {
        let watched = self.watch_by(&Watch::durable(watcher(name))).await;
        self.reader(watched.cursor)
    }

    /// Watches as a case wants it.
    pub async fn watch_by(&self, watch: &Watch) -> Watched {
        self.store.watch(watch).await.unwrap()
    }

    /// Ends a watch; says whether there was one.
    pub async fn unwatch(&self, name: &str) -> bool {
        self.store.unwatch(&watcher(name)).await.unwrap()
    }

    /// Reads from this place on.
    #[must_use]
    pub fn reader(&self, cursor: Cursor) -> Reader {
        Reader { store: Arc::clone(&self.store), cursor }
    }

    /// Reads from the end of the journal on.
    pub async fn reader_at_end(&self) -> Reader {
        self.reader(self.store.latest().await.unwrap())
    }
}

/// The name of a watcher.
#[must_use]
pub fn watcher(name: &str) -> WatcherName {
    WatcherName::new(name).unwrap()
}
