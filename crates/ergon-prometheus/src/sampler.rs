//! Reads the queues of a store now and then, so that no scrape has to.

use std::{future::pending, sync::Arc, time::Duration};

use ergon_core::{Now, Store, StoreError, store::QueueInfo};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    board::{Owner, ReadFailure, rows},
    metrics::Metrics,
};

/// How often the queues are read when nothing is chosen. Chosen without measurement: three reads fit
/// in the usual interval of a scraper.
pub const SAMPLE_PERIOD_DEFAULT: Duration = Duration::from_secs(5);

/// How long a read may take when nothing is chosen. Chosen without measurement.
pub const SAMPLE_DEADLINE_DEFAULT: Duration = Duration::from_secs(4);

/// What is raised to this is short enough for everybody, and cannot keep a store busy.
const PERIOD_MIN: Duration = Duration::from_millis(10);

/// Whether this process shows what the queues hold.
///
/// Every process that shares a store could read the same numbers; if more than one shows them, a sum
/// over processes is wrong. Choose one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum StoreGauges {
    /// It does.
    #[default]
    Always,
    /// It does not, and asks the store nothing.
    Never,
}

/// Reads the queues of a store again and again, and shows them in [`Metrics`] while it runs.
///
/// When a read fails, what was read before is still shown: `ergon_sampler_errors_total` counts it,
/// and `ergon_sampler_last_success_timestamp_seconds` says how old it is. Ages of tasks go on.
///
/// [`Metrics`] show one store. If a second sampler is started, it takes over, and the first one ends.
#[derive(Debug)]
#[must_use = "nothing is read until it is started"]
pub struct Sampler {
    metrics: Metrics,
    store: Arc<dyn Store>,
    period: Duration,
    deadline: Duration,
    store_gauges: StoreGauges,
}

impl Sampler {
    pub(crate) const fn new(metrics: Metrics, store: Arc<dyn Store>) -> Self {
        Self {
            metrics,
            store,
            period: SAMPLE_PERIOD_DEFAULT,
            deadline: SAMPLE_DEADLINE_DEFAULT,
            store_gauges: StoreGauges::Always,
        }
    }

    /// How often the queues are read. Default 5 s, at least 10 ms.
    pub fn period(mut self, period: Duration) -> Self {
        self.period = std::cmp::max(period, PERIOD_MIN);
        self
    }

    /// How long a read may take; then it is dropped and counted as failed. Default 4 s, at least
    /// 10 ms.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = std::cmp::max(deadline, PERIOD_MIN);
        self
    }

    /// Whether this process shows what the queues hold, to begin with. Default
    /// [`Always`](StoreGauges::Always).
    pub const fn store_gauges(mut self, store_gauges: StoreGauges) -> Self {
        self.store_gauges = store_gauges;
        self
    }

    /// Reads at once, and then again and again, in a task of its own.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its timer enabled.
    #[must_use = "it ends when this is dropped"]
    pub fn start(self) -> RunningSampler {
        let seat =
            Arc::new(Seat { owner: self.metrics.board().own(), metrics: self.metrics.clone() });
        let (store_gauges, told) = watch::channel(self.store_gauges);
        seat.open(self.store_gauges);
        let mut task = JoinSet::new();
        let sampling = Sampling { seat: Arc::clone(&seat), sampler: self, told, is_failing: false };
        task.spawn(sampling.run());
        RunningSampler { seat, store_gauges, task }
    }
}

/// A sampler at work; it ends when this is dropped, and what it showed is gone at once.
#[derive(Debug)]
#[must_use = "it ends when this is dropped"]
pub struct RunningSampler {
    seat: Arc<Seat>,
    store_gauges: watch::Sender<StoreGauges>,
    task: JoinSet<()>,
}

impl RunningSampler {
    /// Says whether this process shows what the queues hold, as when it becomes or ceases to be the
    /// one that does. With [`Never`](StoreGauges::Never) the series are gone when this returns, and a
    /// read under way is dropped.
    pub fn set_store_gauges(&self, store_gauges: StoreGauges) {
        self.seat.open(store_gauges);
        self.store_gauges.send_replace(store_gauges);
    }

    /// Ends it, and waits until it holds the store no more.
    ///
    /// # Cancel safety
    ///
    /// It ends also when this is dropped.
    pub async fn stop(mut self) {
        self.seat.open(StoreGauges::Never);
        self.task.shutdown().await;
    }
}

impl Drop for RunningSampler {
    fn drop(&mut self) {
        self.seat.open(StoreGauges::Never);
    }
}

/// A place at the board of some metrics.
#[derive(Debug)]
struct Seat {
    owner: Owner,
    metrics: Metrics,
}

impl Seat {
    /// Shows something or nothing from now on.
    fn open(&self, store_gauges: StoreGauges) {
        self.metrics.board().open(self.owner, store_gauges == StoreGauges::Always);
    }
}

struct Sampling {
    seat: Arc<Seat>,
    sampler: Sampler,
    told: watch::Receiver<StoreGauges>,
    is_failing: bool,
}

impl Sampling {
    async fn run(mut self) {
        let mut ticks = interval(self.sampler.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if !self.seat.metrics.board().is_owner(self.seat.owner) {
                return;
            }
            let store_gauges = *self.told.borrow_and_update();
            let read = async {
                if store_gauges == StoreGauges::Never {
                    return pending().await;
                }
                ticks.tick().await;
                timeout(self.sampler.deadline, self.sampler.store.queues(Now::Store)).await
            };
            let read = tokio::select! {
                read = read => read,
                told = self.told.changed() => match told {
                    Ok(()) => continue,
                    Err(_gone) => return,
                },
            };
            match read {
                Ok(Ok(queues)) => self.show(&queues),
                Ok(Err(error)) => self.fail(ReadFailure::Store, Some(&error)),
                Err(_elapsed) => self.fail(ReadFailure::Deadline, None),
            }
        }
    }

    fn show(&mut self, queues: &[QueueInfo]) {
        self.is_failing = false;
        let metrics = &self.seat.metrics;
        let (rows, folded) = rows(metrics.names(), queues);
        metrics.add_folded_queues(folded);
        metrics.board().write(self.seat.owner, rows, metrics.clock().now());
    }

    /// Counts a failure, and says so once until a read succeeds.
    fn fail(&mut self, failure: ReadFailure, error: Option<&StoreError>) {
        self.seat.metrics.board().fail(failure);
        if !std::mem::replace(&mut self.is_failing, true) {
            let deadline = self.sampler.deadline;
            if let Some(error) = error {
                tracing::warn!(%error, "cannot read the queues for the metrics");
            } else {
                tracing::warn!(?deadline, "reading the queues for the metrics took too long");
            }
        }
    }
}
