//! The driver of the maintenance loops.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use ergon_core::{StoreError, rng::duration_up_to, store::Report};
use tokio::time::sleep;

use crate::{
    call::{Backoff, Restarts, caught_async, jittered, step_back, within},
    shared::Shared,
    status::Gauge,
    telling,
};

pub(crate) mod operator;
mod pruner;
mod rescuer;

pub(crate) use self::{operator::Operator, pruner::Pruner, rescuer::Rescuer};

/// How long one sweep may take: it touches many tasks, so longer than other calls.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest pause of a loop that fails again and again, unless its interval is longer.
const PAUSE_CAP: Duration = Duration::from_secs(60);

/// Runs in a row that may find nothing to do and yet say that there is more, as a sweep does that
/// skips what others left behind. After that the loop waits for its next tick.
const FRUITLESS_MAX: u32 = 16;

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

    /// Waits for a reason to look before the interval is over; there is none unless the loop says so.
    async fn woken(&self, _shared: &Shared) {
        std::future::pending::<()>().await;
    }

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
    let ticking = async {
        let mut restarts = Restarts::new(driven.gauge(&shared), &stop);
        while let Err(panic) = caught_async(ticks(&shared, &driven)).await
            && restarts.wait(panic).await
        {}
    };
    // A sweep that is dropped has changed each task or not.
    stop.run_until_cancelled(ticking).await;
}

async fn ticks(shared: &Shared, driven: &impl Loop) {
    let interval = driven.interval(shared);
    let gauge = driven.gauge(shared);
    let mut backoff = Backoff::new(std::cmp::max(PAUSE_CAP, interval));
    let mut pause = duration_up_to(&*shared.rng, interval);
    loop {
        tokio::select! {
            () = sleep(pause) => {}
            () = driven.woken(shared) => {}
        }
        let mut fruitless = 0;
        pause = loop {
            match within(SWEEP_TIMEOUT, driven.run(shared)).await {
                Ok(report) => {
                    backoff.reset();
                    telling::publish(shared, &report.events);
                    gauge.succeeded(report.done, report.skipped);
                    fruitless = if report.done == 0 { fruitless + 1 } else { 0 };
                    if !report.more || fruitless >= FRUITLESS_MAX {
                        break jittered(interval, &*shared.rng);
                    }
                    step_back().await;
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
