//! Counts what this server did, and writes the counts down.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ergon_core::{
    ClaimedTask, Clock, Event, ServerId, StoreError, TaskEvent, Timestamp, document::Put, failure,
    record::TaskSpec, statistics,
};
use tokio::time::sleep;

use crate::{
    call::{Backoff, Restarts, caught_async, jittered, within},
    shared::Shared,
};

/// Time between two writes of the counts: so much is lost when a server dies. Chosen without
/// measurement.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);

/// Counts of one call of the store: together far less than it takes.
const CHUNK: usize = 500;

/// How long the store may take for the last counts, so that they do not hold the end up.
const LAST_TIMEOUT: Duration = Duration::from_secs(1);

/// Counts what the server commits, as its sinks are told it.
#[derive(Debug)]
pub(crate) struct Counting {
    clock: Arc<dyn Clock>,
    collectors: Mutex<Collectors>,
}

#[derive(Debug)]
struct Collectors {
    statistics: statistics::Collector,
    failures: failure::Collector,
}

impl Counting {
    pub(crate) fn new(server: ServerId, clock: Arc<dyn Clock>) -> Self {
        let collectors = Collectors {
            statistics: statistics::Collector::new(server),
            failures: failure::Collector::new(server),
        };
        Self { clock, collectors: Mutex::new(collectors) }
    }

    fn lock(&self) -> MutexGuard<'_, Collectors> {
        // No count can panic half way, so what a panicking thread left behind is whole.
        self.collectors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is not written down.
    fn unwritten(&self) -> Vec<Put> {
        let now = self.clock.now();
        let mut collectors = self.lock();
        let mut puts = collectors.statistics.flush(now);
        puts.extend(collectors.failures.flush(now));
        puts
    }

    /// Notes that these are written down.
    fn written(&self, puts: &[Put]) {
        let mut collectors = self.lock();
        collectors.statistics.written(puts);
        collectors.failures.written(puts);
    }

    /// Counts several events.
    pub(crate) fn count(&self, count: impl FnOnce(&mut Count<'_>)) {
        count(&mut Count { now: self.clock.now(), collectors: &mut self.lock() });
    }
}

/// Counts events one by one, without making any: names need not be cloned to be counted.
pub(crate) struct Count<'c> {
    now: Timestamp,
    collectors: &'c mut Collectors,
}

impl Count<'_> {
    pub(crate) fn add(&mut self, task: &ClaimedTask, event: &TaskEvent) {
        let Self { now, collectors } = self;
        let TaskSpec { queue, kind, .. } = &task.spec;
        collectors.statistics.count(queue, kind, event, *now);
        collectors.failures.count(task.id, kind, event, *now);
    }

    pub(crate) fn fold(&mut self, events: &[Event]) {
        self.collectors.statistics.fold(events, self.now);
        self.collectors.failures.fold(events, self.now);
    }
}

/// Writes the counts down now and then, until the server has ended.
pub(crate) async fn run(shared: Arc<Shared>) {
    let Some(counting) = &shared.counting else { return };
    let end = shared.signals.end.clone();
    let writing = async {
        let mut restarts = Restarts::new(&shared.gauges.count, &end);
        while let Err(panic) = caught_async(writes(&shared, counting)).await
            && restarts.wait(panic).await
        {}
    };
    // Writing again what was written replaces it by itself.
    end.run_until_cancelled(writing).await;
}

async fn writes(shared: &Shared, counting: &Counting) {
    let mut backoff = Backoff::new(INTERVAL);
    loop {
        sleep(jittered(INTERVAL, &*shared.rng)).await;
        match write(shared, counting, shared.config.store_timeout).await {
            Ok(()) => {
                backoff.reset();
                shared.gauges.count.succeeded(0, 0);
            }
            Err(error) => {
                tracing::debug!(%error, "statistics are not written; they will be");
                shared.gauges.count.failed();
                sleep(backoff.next(&*shared.rng)).await;
            }
        }
    }
}

/// Writes the last counts down, if the store takes them soon.
pub(crate) async fn write_last(shared: &Shared) {
    let Some(counting) = &shared.counting else { return };
    if let Err(error) = write(shared, counting, LAST_TIMEOUT).await {
        tracing::debug!(%error, "the last statistics of this server are not written");
    }
}

async fn write(shared: &Shared, counting: &Counting, limit: Duration) -> Result<(), StoreError> {
    let puts = counting.unwritten();
    for chunk in puts.chunks(CHUNK) {
        within(limit, shared.store.put(chunk)).await?;
        counting.written(chunk);
    }
    Ok(())
}
