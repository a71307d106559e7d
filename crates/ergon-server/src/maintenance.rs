//! The driver of the maintenance loops.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use ergon_core::{StoreError, rng::duration_up_to, store::Report};
use tokio::{task::yield_now, time::sleep};

use crate::{
    call::{Backoff, jittered, within},
    shared::Shared,
    status::Gauge,
};

mod pruner;
mod rescuer;

pub(crate) use self::{pruner::Pruner, rescuer::Rescuer};

/// How long one sweep may take: it touches many tasks, so longer than other calls.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest pause of a loop that fails again and again, unless its interval is longer.
const PAUSE_CAP: Duration = Duration::from_secs(60);

/// Something that has to be done now and then.
///
/// It takes no input: whatever activates it, it looks for itself what there is to do, so that a
/// missed or doubled activation changes nothing.
#[async_trait]
pub(crate) trait Loop: Send + Sync + 'static {
    /// What failed, in the words of a log.
    fn name(&self) -> &'static str;

    /// Time between two runs.
    fn interval(&self, shared: &Shared) -> Duration;

    /// Where its status is kept.
    fn gauge<'s>(&self, shared: &'s Shared) -> &'s Gauge;

    /// Does a limited part of what there is to do.
    async fn run(&self, shared: &Shared) -> Result<Report, StoreError>;
}

/// Drives a loop until the server stops; it never ends before.
///
/// The first run comes at a random time within the interval, so that servers started together do
/// not sweep together. A run that leaves something is followed by the next at once. A run that fails
/// is repeated at the next tick, and later and later when it keeps failing.
pub(crate) async fn drive(shared: Arc<Shared>, driven: impl Loop) {
    let stop = shared.signals.stop.clone();
    // A sweep that is dropped has changed each task or not.
    stop.run_until_cancelled(ticks(&shared, driven)).await;
}

async fn ticks(shared: &Shared, driven: impl Loop) {
    let interval = driven.interval(shared);
    let gauge = driven.gauge(shared);
    let mut backoff = Backoff::new(std::cmp::max(PAUSE_CAP, interval));
    let mut pause = duration_up_to(&*shared.rng, interval);
    loop {
        sleep(pause).await;
        pause = loop {
            match within(SWEEP_TIMEOUT, driven.run(shared)).await {
                Ok(report) => {
                    backoff.reset();
                    gauge.succeeded(report.done, report.skipped);
                    if !report.more || report.done == 0 {
                        break jittered(interval, &*shared.rng);
                    }
                    yield_now().await;
                }
                Err(error) => {
                    backoff.report(driven.name(), &error);
                    gauge.failed();
                    let tick = jittered(interval, &*shared.rng);
                    break std::cmp::max(tick, backoff.next(&*shared.rng));
                }
            }
        };
    }
}
