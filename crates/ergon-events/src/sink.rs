//! Durable sinks: each reads the journal from a place that the store keeps for it.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use ergon_core::{
    EventKindSet, StoreError, WatcherName,
    store::{Changes, Cursor, Gap, Recorded, Watch, Watched},
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    call::{Backoff, within},
    journal::{Gaps, Idle, Journal, PAUSE_CAP},
    observer::{Call, Progress, invoke},
    run::Ready,
    stats::Tally,
};

/// How often the place of a sink is kept that is handed nothing, since its filter leaves out what happens.
const SAVE_INTERVAL: Duration = Duration::from_secs(10);

/// What a durable sink is handed; what it acknowledges it is not handed again.
///
/// Cheap to clone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Delivery {
    /// Why the journal does not hold everything that happened before these events: the other system
    /// lacks something that this one cannot tell any more.
    pub gap: Option<Gap>,
    /// What happened, in order; empty only when there is a gap. The [id](Recorded::id) of an event is the
    /// same at every delivery, so that who gets one twice can tell.
    pub events: Arc<[Recorded]>,
    /// How often this delivery was tried before by this process.
    pub failures: u32,
}

/// A durable sink with a task of its own.
pub(crate) struct DurableSink {
    pub(crate) name: WatcherName,
    pub(crate) kinds: EventKindSet,
    pub(crate) call: Call<Delivery>,
    pub(crate) journal: Journal,
    pub(crate) poll_interval: Duration,
    pub(crate) pause_max: Duration,
    pub(crate) tally: Arc<Tally>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) ready: Ready,
    pub(crate) stop: CancellationToken,
}

/// That the bus was told to stop.
struct Stopped;

impl DurableSink {
    /// Hands over until the bus is told to stop; a call under way is waited for, and what it acknowledged
    /// is kept.
    pub(crate) async fn run(mut self) {
        Tally::add(&self.tally.listening, 1);
        // Whichever way it ended, nothing more is to be done.
        let _stopped = self.deliver_all().await;
        self.tally.listening.fetch_sub(1, Relaxed);
        self.progress.is_done.store(true, Relaxed);
    }

    async fn deliver_all(&mut self) -> Result<(), Stopped> {
        let Watched { mut cursor, is_resumed } =
            self.watch(Watch::durable(self.name.clone())).await?;
        if !is_resumed {
            // Otherwise one that died before its first delivery would begin where it is started next.
            self.keep(&cursor).await?;
        }
        self.ready.tell();
        let mut saved = Saved { cursor: cursor.clone(), at: Instant::now() };
        let (mut idle, mut gaps) = (Idle::default(), Gaps::default());
        loop {
            let mut changes = self.read(&cursor).await?;
            changes.gap = gaps.fresh(&changes);
            let (more, was_empty) = (changes.more, changes.events.is_empty());
            cursor = changes.cursor.clone();
            let is_due = saved.at.elapsed() >= SAVE_INTERVAL || self.stop.is_cancelled();
            if self.deliver(changes).await? || (is_due && saved.cursor != cursor) {
                self.keep(&cursor).await?;
                saved = Saved { cursor: cursor.clone(), at: Instant::now() };
            }
            if self.stop.is_cancelled() {
                return Err(Stopped);
            }
            if !more {
                let stop = self.stop.clone();
                let wait = idle.wait(&self.journal, &cursor, self.poll_interval, was_empty);
                stop.run_until_cancelled(wait).await;
            }
        }
    }

    /// Hands over what it wants of what was read, again and again until it is acknowledged; says whether
    /// there was anything.
    async fn deliver(&mut self, changes: Changes) -> Result<bool, Stopped> {
        let wanted = changes.events.into_iter();
        let wanted = wanted.filter(|recorded| self.kinds.contains(recorded.event.kind()));
        let events: Arc<[Recorded]> = wanted.collect();
        if events.is_empty() && changes.gap.is_none() {
            return Ok(false);
        }
        if let Some(gap) = changes.gap {
            Tally::add(&self.tally.gaps, 1);
            let name = self.name.as_str();
            tracing::warn!(name, gap = gap.as_str(), "a durable sink is not told everything");
        }
        let mut delivery = Delivery { gap: changes.gap, events, failures: 0 };
        let mut backoff = Backoff::new(self.pause_max);
        while !invoke(&mut self.call, delivery.clone(), &self.tally).await {
            delivery.failures = delivery.failures.saturating_add(1);
            self.pause(&mut backoff).await?;
        }
        Tally::count(&self.tally.events, delivery.events.len());
        Ok(true)
    }

    async fn keep(&mut self, reached: &Cursor) -> Result<(), Stopped> {
        let watch = Watch::durable(self.name.clone()).reached(reached.clone());
        self.watch(watch).await.map(|_watched| ())
    }

    async fn watch(&mut self, watch: Watch) -> Result<Watched, Stopped> {
        let mut backoff = Backoff::new(PAUSE_CAP);
        loop {
            match within(self.journal.timeout, self.journal.store.watch(&watch)).await {
                Ok(watched) => return Ok(watched),
                Err(error) => self.failed("keep the place of a durable sink", &error, &mut backoff),
            }
            self.pause(&mut backoff).await?;
        }
    }

    async fn read(&mut self, after: &Cursor) -> Result<Changes, Stopped> {
        let mut backoff = Backoff::new(PAUSE_CAP);
        loop {
            match self.journal.read(after).await {
                Ok(changes) => return Ok(changes),
                Err(error) => self.failed("read the journal for a sink", &error, &mut backoff),
            }
            self.pause(&mut backoff).await?;
        }
    }

    fn failed(&self, what: &'static str, error: &StoreError, backoff: &mut Backoff) {
        Tally::add(&self.tally.store_errors, 1);
        backoff.report(what, error);
    }

    /// Waits before something is tried again, unless the bus stops.
    async fn pause(&mut self, backoff: &mut Backoff) -> Result<(), Stopped> {
        let pause = sleep(backoff.next(&*self.journal.rng));
        self.stop.run_until_cancelled(pause).await.ok_or(Stopped)
    }
}

/// What the store was told last.
struct Saved {
    cursor: Cursor,
    at: Instant,
}
