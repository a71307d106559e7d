//! Claims tasks: exactly as many as can be started, as soon as they can be.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use ergon_core::{ClaimedTask, QueueName, store::ClaimRequest};
use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;

use crate::{
    call::{Backoff, Restarts, caught_async, guarded, jittered},
    executor,
    shared::{BACKOFF_CAP, Finished, Shared},
    slots::Plan,
};

/// How long a saturated server waits for more slots to come free before it claims for those that
/// are: one claim for many tasks costs little more than one for a single task.
const GATHER_MAX: Duration = Duration::from_millis(1);

/// First pause between looks for work when a store gives no hints; doubles up to the configured one.
const POLL_FLOOR: Duration = Duration::from_millis(50);

/// Longest pause after a hint that led to nothing. Without it, hints about tasks that this server
/// cannot take would keep it busy.
const FRUITLESS_MAX: Duration = Duration::from_millis(50);

/// Claims until the server stops. A claim under way is awaited, and what it took is given back.
pub(crate) async fn run(shared: Arc<Shared>, attempts: TaskTracker) {
    let mut restarts = Restarts::new(&shared.gauges.fetch, &shared.signals.stop);
    while let Err(panic) = caught_async(fetch(Arc::clone(&shared), attempts.clone())).await
        && restarts.wait(panic).await
    {}
}

async fn fetch(shared: Arc<Shared>, attempts: TaskTracker) {
    let places = shared.slots.len();
    let mut fetcher = Fetcher {
        maybe_more: vec![true; places],
        credits: vec![0; places],
        was_full: false,
        poll: POLL_FLOOR,
        fruitless: 0,
        backoff: Backoff::new(BACKOFF_CAP),
        shared,
        attempts,
    };
    let stop = fetcher.shared.signals.stop.clone();
    while !stop.is_cancelled() {
        // Waiting claims nothing, so it can be dropped; a claim is never dropped.
        if stop.run_until_cancelled(fetcher.wait()).await.is_none() {
            break;
        }
        let pause = fetcher.claim().await;
        if pause > Duration::ZERO {
            // Stopping ends the pause, and then the loop.
            stop.run_until_cancelled(sleep(pause)).await;
        }
    }
}

struct Fetcher {
    shared: Arc<Shared>,
    attempts: TaskTracker,
    /// By place of the queue: it may hold more tasks than were taken by the last claim.
    maybe_more: Vec<bool>,
    /// By place of the queue: what it is owed by its weight.
    credits: Vec<i64>,
    /// The last claim returned all that it asked for.
    was_full: bool,
    /// How long to wait for a hint.
    poll: Duration,
    /// Hints in a row that led to nothing.
    fruitless: u32,
    backoff: Backoff,
}

impl Fetcher {
    /// Waits until a claim may return something.
    async fn wait(&mut self) {
        loop {
            self.shared.slots.listen();
            if self.has_candidate() {
                break;
            }
            let idle = self.shared.slots.room() > 0;
            let idle = if idle { self.shared.slots.with_room() } else { Vec::new() };
            if idle.is_empty() {
                self.shared.slots.freed().await;
            } else if self.wait_for_work(&idle).await {
                self.maybe_more.fill(true);
                self.was_full = false;
            }
        }
        if self.was_full {
            // A slow handler does not hold the others up for longer than this.
            let gathered = timeout(GATHER_MAX, self.shared.slots.quarter_free()).await;
            drop(gathered);
        }
    }

    /// Says whether a queue that may hold tasks can take one.
    fn has_candidate(&self) -> bool {
        let mut places = self.maybe_more.iter().enumerate();
        places.any(|(place, &maybe)| maybe && self.shared.slots.has_room(place))
    }

    /// Waits for a hint about queues that were empty, or for a slot of one that was not; says
    /// whether it was a hint.
    async fn wait_for_work(&mut self, queues: &[QueueName]) -> bool {
        let shared = &self.shared;
        let pause = match self.fruitless {
            0 => Duration::ZERO,
            hints => std::cmp::min(
                Duration::from_millis(1) * (1 << std::cmp::min(hints, 6)),
                FRUITLESS_MAX,
            ),
        };
        let within = jittered(self.poll, &*shared.rng);
        let hint = async {
            if !pause.is_zero() {
                sleep(pause).await;
            }
            let began = Instant::now();
            let waited = shared.store.wait_for_work(queues, shared.registry.kinds(), within);
            if AssertUnwindSafe(waited).catch_unwind().await.is_err() {
                tracing::error!("the store panicked while the server waited for work");
                sleep(within).await;
            }
            began.elapsed() < within
        };
        let may_free = self.maybe_more.contains(&true);
        tokio::select! {
            biased;
            was_early = hint => {
                if was_early {
                    self.fruitless = self.fruitless.saturating_add(1);
                } else {
                    self.fruitless = 0;
                    self.poll = std::cmp::min(self.poll * 2, shared.config.poll_interval);
                }
                true
            }
            () = shared.slots.freed(), if may_free => false,
        }
    }

    /// Claims for every free slot and starts what came; says how long to pause before the next.
    async fn claim(&mut self) -> Duration {
        let shared = Arc::clone(&self.shared);
        if shared.cannot_hold.load(Relaxed) {
            return shared.config.poll_interval;
        }
        let mut plan = shared.slots.plan(&mut self.credits);
        if plan.limit == 0 {
            return Duration::ZERO;
        }
        let queues = std::mem::take(&mut plan.queues);
        let request = ClaimRequest::new(shared.id, Arc::clone(shared.registry.kinds()), queues)
            .limit(plan.limit)
            .lease(shared.config.lease);
        let sent = shared.age();
        let claimed = match guarded(shared.store.claim(&request)).await {
            Ok(claimed) => claimed,
            Err(error) => {
                self.backoff.report("claim tasks", &error);
                shared.gauges.fetch.failed();
                return self.backoff.next(&*shared.rng);
            }
        };
        self.backoff.reset();
        shared.gauges.fetch.succeeded(claimed.len(), 0);
        self.learn(&plan, &claimed);
        let finished = if shared.signals.stop.is_cancelled() {
            executor::release(&shared, claimed, sent)
        } else {
            executor::start(&shared, &self.attempts, claimed, sent)
        };
        hand_in(&shared, finished).await;
        Duration::ZERO
    }

    /// Learns from what came which queues are empty.
    fn learn(&mut self, plan: &Plan, claimed: &[ClaimedTask]) {
        if !claimed.is_empty() {
            self.fruitless = 0;
            self.poll = std::cmp::min(POLL_FLOOR, self.shared.config.poll_interval);
        }
        self.was_full = claimed.len() >= plan.limit;
        if self.was_full {
            self.maybe_more.fill(true);
            return;
        }
        let mut left = plan.asked.clone();
        for task in claimed {
            let place = self.shared.slots.place(&task.spec.queue);
            if let Some(left) = place.and_then(|place| left.get_mut(place)) {
                *left = left.saturating_sub(1);
            }
        }
        for (maybe, left) in self.maybe_more.iter_mut().zip(left) {
            // A queue without slots was not asked, and one that filled them may hold more.
            *maybe = left == 0;
        }
    }
}

/// Hands outcomes in for tasks that were not started.
async fn hand_in(shared: &Shared, finished: Vec<Finished>) {
    for finished in finished {
        if shared.outcomes.send(finished).await.is_err() {
            tracing::warn!(
                "claimed tasks were not given back; others take them when their leases end"
            );
            return;
        }
    }
}
