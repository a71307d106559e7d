//! The tail: follows the journal of a store into the ring, and keeps the store recording.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use ergon_core::{
    StoreError, WatcherName,
    store::{Changes, Cursor, Watch},
    time::{from_micros, to_micros},
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    call::{Backoff, Throttle, within},
    hub::Hub,
    journal::{Gaps, Idle, Journal, PAUSE_CAP},
    run::Ready,
    stats::TailStats,
};

/// How the tail fares.
#[derive(Debug)]
pub(crate) struct TailGauge {
    is_following: AtomicBool,
    reads: AtomicU64,
    errors: AtomicU64,
    gaps: AtomicU64,
    /// In microseconds; the least when nothing was read.
    newest_at: AtomicI64,
    gaps_told: Throttle,
}

impl Default for TailGauge {
    fn default() -> Self {
        Self {
            is_following: AtomicBool::new(false),
            reads: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            gaps: AtomicU64::new(0),
            newest_at: AtomicI64::new(i64::MIN),
            gaps_told: Throttle::default(),
        }
    }
}

impl TailGauge {
    pub(crate) fn read(&self) -> TailStats {
        let newest = self.newest_at.load(Relaxed);
        TailStats {
            is_following: self.is_following.load(Relaxed),
            reads: self.reads.load(Relaxed),
            errors: self.errors.load(Relaxed),
            gaps: self.gaps.load(Relaxed),
            newest_at: (newest != i64::MIN).then(|| from_micros(newest)),
        }
    }

    fn failed(&self) {
        self.errors.fetch_add(1, Relaxed);
        self.is_following.store(false, Relaxed);
    }

    fn succeeded(&self, changes: &Changes) {
        self.is_following.store(true, Relaxed);
        if let Some(newest) = changes.events.last() {
            self.newest_at.store(to_micros(newest.event.at), Relaxed);
        }
        if let Some(gap) = changes.gap {
            self.gaps.fetch_add(1, Relaxed);
            if self.gaps_told.permits() {
                tracing::warn!(gap = gap.as_str(), "the journal does not hold all that happened");
            }
        }
    }
}

/// Follows a journal.
pub(crate) struct Tail {
    pub(crate) hub: Arc<Hub>,
    pub(crate) gauge: Arc<TailGauge>,
    pub(crate) journal: Journal,
    pub(crate) watcher: WatcherName,
    pub(crate) lease: Duration,
    pub(crate) renew_interval: Duration,
    pub(crate) poll_interval: Duration,
    pub(crate) ready: Ready,
    pub(crate) stop: CancellationToken,
}

impl Tail {
    /// Follows until it is told to stop, and then to what is the end of the journal by that time.
    pub(crate) async fn run(self) {
        let stop = self.stop.clone();
        let Some(Some(mut cursor)) = stop.run_until_cancelled(self.begin()).await else { return };
        self.hub.begin(&cursor);
        self.ready.tell();
        let due_at = Instant::now() + self.renew_interval;
        let mut lease = Lease { due_at, backoff: Backoff::new(PAUSE_CAP) };
        let (mut backoff, mut idle) = (Backoff::new(PAUSE_CAP), Idle::default());
        let mut gaps = Gaps::default();
        loop {
            let is_last = self.stop.is_cancelled();
            self.renew(&mut lease).await;
            match self.read(&cursor).await {
                Ok(mut changes) => {
                    backoff.reset();
                    if changes.gap.is_some() {
                        // The lease may be over, or the store another one.
                        lease.due_at = Instant::now();
                    }
                    changes.gap = gaps.fresh(&changes);
                    self.gauge.succeeded(&changes);
                    cursor = changes.cursor.clone();
                    let (more, was_empty) = (changes.more, changes.events.is_empty());
                    self.hub.append(changes);
                    if !more && is_last {
                        break;
                    }
                    if !more {
                        let within = std::cmp::min(self.poll_interval, self.renew_interval);
                        let wait = idle.wait(&self.journal, &cursor, within, was_empty);
                        stop.run_until_cancelled(wait).await;
                    }
                }
                Err(error) => {
                    backoff.report("follow the journal", &error);
                    if is_last {
                        break;
                    }
                    stop.run_until_cancelled(sleep(backoff.next(&*self.journal.rng))).await;
                }
            }
        }
        self.end().await;
    }

    /// Begins to watch, as soon as the store can be reached.
    async fn begin(&self) -> Option<Cursor> {
        let mut backoff = Backoff::new(PAUSE_CAP);
        loop {
            match self.watch().await {
                Ok(cursor) => return Some(cursor),
                Err(error) => {
                    self.gauge.failed();
                    backoff.report("watch the store", &error);
                    sleep(backoff.next(&*self.journal.rng)).await;
                }
            }
        }
    }

    async fn watch(&self) -> Result<Cursor, StoreError> {
        let watch = Watch::lasting(self.watcher.clone(), self.lease);
        let store = &self.journal.store;
        within(self.journal.timeout, store.watch(&watch)).await.map(|watched| watched.cursor)
    }

    /// Renews the lease when it is time. What is answered tells nothing: the tail knows its place, and if
    /// the lease was over meanwhile, reading over that time finds the gap.
    async fn renew(&self, lease: &mut Lease) {
        if Instant::now() < lease.due_at {
            return;
        }
        match self.watch().await {
            Ok(_end) => {
                lease.backoff.reset();
                lease.due_at = Instant::now() + self.renew_interval;
            }
            Err(error) => {
                self.gauge.failed();
                lease.backoff.report("renew the watch", &error);
                // Reading goes on meanwhile, and shows if that fails too.
                lease.due_at = Instant::now() + lease.backoff.next(&*self.journal.rng);
            }
        }
    }

    async fn read(&self, cursor: &Cursor) -> Result<Changes, StoreError> {
        self.gauge.reads.fetch_add(1, Relaxed);
        let read = self.journal.read(cursor).await;
        if read.is_err() {
            self.gauge.failed();
        }
        read
    }

    /// Lets the store stop recording; if it cannot be reached, the lease ends by itself.
    async fn end(&self) {
        self.gauge.is_following.store(false, Relaxed);
        let unwatch = self.journal.store.unwatch(&self.watcher);
        if let Err(error) = within(self.journal.timeout, unwatch).await {
            tracing::debug!(error = %error, "the watch could not be ended; its lease ends by itself");
        }
    }
}

/// When the lease is to be renewed.
struct Lease {
    due_at: Instant,
    backoff: Backoff,
}
