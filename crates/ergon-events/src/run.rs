//! A running bus: its tasks, and their end.

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use ergon_core::{EventKindSet, WatcherName};
use tokio::{
    runtime::Handle,
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    bus::{Bus, Listeners, PendingSink},
    observer::Progress,
    sink::DurableSink,
    stats::{Role, Tally},
    tail::Tail,
};

/// A bus that runs.
///
/// Dropping it ends everything at once: what observers are busy with is dropped, and what they were not
/// handed is not handed over. [`shutdown`](Self::shutdown) waits. Either way readers are told the end,
/// once they have read what there is; inline observers go on being called.
#[derive(Debug)]
#[must_use = "a bus ends when its handle is dropped"]
pub struct BusHandle {
    bus: Bus,
    /// Fills the ring.
    feed: JoinSet<()>,
    /// Observers and sinks.
    workers: JoinSet<()>,
    ringer: JoinSet<()>,
    posts: Vec<WorkerPost>,
    unready: watch::Receiver<usize>,
    stop: CancellationToken,
}

/// The part of the grace that is left to observers when the store does not answer: without it those who
/// have nothing to do would not come to hear of the end. Chosen without measurement.
const FAREWELL: u32 = 8;

/// What is known of an observer or a sink from outside its task.
#[derive(Debug)]
struct WorkerPost {
    tally: Arc<Tally>,
    progress: Arc<Progress>,
    /// Where an observer sits, and what it wants.
    seat: Option<(u64, EventKindSet)>,
}

/// What an end left undone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Those who did not end in time.
    pub left: Vec<Left>,
    /// What the journal held at the beginning of the end was read; also when none is followed.
    pub is_journal_read: bool,
}

impl ShutdownReport {
    /// Says whether everything was handed over, and every call has ended.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.left.is_empty() && self.is_journal_read
    }
}

/// An observer or a sink that did not end in time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Left {
    /// What it is.
    pub role: Role,
    /// Its name.
    pub name: String,
    /// Events that came to the bus and were not handed over to it; of a call that was dropped they were.
    /// Zero for a durable sink, which is handed after the next start what it did not acknowledge.
    pub events: u64,
    /// A call of it was dropped.
    pub was_calling: bool,
}

/// Tells once that its owner has begun, at the latest when it is dropped.
#[derive(Debug)]
pub(crate) struct Ready(watch::Sender<usize>, std::sync::atomic::AtomicBool);

impl Ready {
    fn new(unready: &watch::Sender<usize>) -> Self {
        unready.send_modify(|unready| *unready += 1);
        Self(unready.clone(), false.into())
    }

    pub(crate) fn tell(&self) {
        if !self.1.swap(true, Relaxed) {
            self.0.send_modify(|unready| *unready = unready.saturating_sub(1));
        }
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.tell();
    }
}

/// Spawns what runs beside a bus.
pub(crate) fn start(bus: &Bus, listeners: Listeners, runtime: &Handle) -> BusHandle {
    let shared = bus.shared();
    let stop = CancellationToken::new();
    let (unready, on_ready) = watch::channel(0);
    let mut feed = JoinSet::new();
    if let Some(journal) = shared.followed.clone() {
        let name = format!("events.{:016x}", journal.rng.next_u64());
        // Without a name there is no tail; it is one of the right characters.
        if let Ok(watcher) = WatcherName::new(name) {
            let tail = Tail {
                hub: Arc::clone(&shared.hub),
                gauge: Arc::clone(&shared.tail),
                journal,
                watcher,
                lease: shared.config.watch_lease,
                renew_interval: shared.config.renew_interval(),
                poll_interval: shared.config.poll_interval,
                ready: Ready::new(&unready),
                stop: stop.clone(),
            };
            feed.spawn_on(tail.run(), runtime);
        }
    }
    let mut ringer = JoinSet::new();
    ringer.spawn_on(Arc::clone(&shared.hub).ringer(), runtime);
    let mut handle = BusHandle {
        bus: bus.clone(),
        feed,
        workers: JoinSet::new(),
        ringer,
        posts: Vec::new(),
        unready: on_ready,
        stop,
    };
    for observer in listeners.observers {
        let seat = Some((observer.parts.reader().seat(), observer.parts.kinds()));
        let tally = Arc::clone(&observer.parts.reader().tally);
        let progress = Arc::clone(&observer.progress);
        handle.employ(WorkerPost { tally, progress, seat }, observer.run(), runtime);
    }
    for PendingSink { name, kinds, call, journal, tally } in listeners.sinks {
        let progress = Arc::new(Progress::default());
        let post =
            WorkerPost { tally: Arc::clone(&tally), progress: Arc::clone(&progress), seat: None };
        let sink = DurableSink {
            name,
            kinds,
            call,
            journal,
            poll_interval: shared.config.poll_interval,
            pause_max: shared.config.sink_pause_max,
            tally,
            progress,
            ready: Ready::new(&unready),
            stop: handle.stop.clone(),
        };
        handle.employ(post, sink.run(), runtime);
    }
    handle
}

impl BusHandle {
    fn employ(
        &mut self,
        post: WorkerPost,
        work: impl Future<Output = ()> + Send + 'static,
        runtime: &Handle,
    ) {
        self.posts.push(post);
        self.workers.spawn_on(work, runtime);
    }

    /// The bus that runs.
    #[must_use]
    pub const fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Waits until the journal is followed and every durable sink has its place, if there are any: what
    /// is committed from then on is told. Without a journal that is at once. It waits as long as the
    /// store cannot be reached.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn ready(&self) {
        let mut unready = self.unready.clone();
        // When the sender is gone, so is whoever had to begin.
        let _none_left = unready.wait_for(|&unready| unready == 0).await;
    }

    /// Ends the bus: reads the journal to its end, hands over what came until now, and waits for
    /// observers and sinks, all together for the [grace](crate::BusConfig::observer_grace). Then what is
    /// still under way is dropped. A durable sink ends after the call that it is busy with; the rest is
    /// handed over after its next start.
    ///
    /// End what publishes before.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends everything at once.
    pub async fn shutdown(mut self) -> ShutdownReport {
        let grace = self.bus.shared().config.observer_grace;
        let deadline = Instant::now() + grace;
        self.stop.cancel();
        let is_journal_read = joined(&mut self.feed, deadline - grace / FAREWELL).await;
        self.feed.abort_all();
        self.bus.shared().hub.close();
        joined(&mut self.workers, deadline).await;
        let left = self.posts.iter().filter_map(|post| self.left(post)).collect();
        self.workers.abort_all();
        self.ringer.abort_all();
        ShutdownReport { left, is_journal_read }
    }

    /// What one who did not end leaves.
    fn left(&self, post: &WorkerPost) -> Option<Left> {
        let WorkerPost { tally, progress, seat } = post;
        if progress.is_done.load(Relaxed) {
            return None;
        }
        let in_ring = seat.map_or(0, |(seat, kinds)| self.bus.shared().hub.left(seat, kinds));
        let events = in_ring.saturating_add(progress.held.load(Relaxed));
        let (role, name) = (tally.role, tally.name.clone());
        tracing::warn!(role = role.as_str(), name, events, "an observer did not end in time");
        Some(Left { role, name, events, was_calling: tally.is_calling() })
    }
}

impl Drop for BusHandle {
    fn drop(&mut self) {
        self.bus.shared().hub.close();
    }
}

/// Waits for all of them, at most until then; says whether they ended.
async fn joined(tasks: &mut JoinSet<()>, deadline: Instant) -> bool {
    let all = async {
        while let Some(joined) = tasks.join_next().await {
            if let Err(error) = joined {
                tracing::error!(error = %error, "a task of the bus did not end well");
            }
        }
    };
    timeout_at(deadline, all).await.is_ok()
}
