//! Passes on how far running tasks have come.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ergon_core::{
    Event, Now, ProgressReport, StoreError, TaskEvent, Verdict, limits::BATCH_MAX,
    report::ClaimReport, store::Held,
};
use tokio::{sync::Notify, time::sleep};

use crate::{
    attempt::{Attempt, flag},
    call::{Backoff, caught_async, within},
    shared::{BACKOFF_CAP, Shared},
    telling,
};

/// Pause between two calls of the store: no task is heard of more often. Chosen without measurement:
/// as often as people look.
const INTERVAL: Duration = Duration::from_secs(1);

/// The newest reports that the store has not been told, one a claim.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    newest: Mutex<BTreeMap<Held, (Arc<Attempt>, ProgressReport)>>,
    came: Notify,
}

impl Reports {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Held, (Arc<Attempt>, ProgressReport)>> {
        // No change can panic half way, so what a panicking thread left behind is whole.
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a report, in the place of one that was not passed on yet.
    pub(crate) fn put(&self, attempt: &Arc<Attempt>, report: ProgressReport) {
        self.lock().insert(attempt.held(), (Arc::clone(attempt), report));
        self.came.notify_one();
    }

    /// Takes out what is to be passed on: of attempts that have ended nobody needs to know.
    fn take(&self) -> Vec<(Arc<Attempt>, ProgressReport)> {
        let newest = std::mem::take(&mut *self.lock());
        newest.into_values().filter(|(attempt, _)| !attempt.has(flag::ENDED)).collect()
    }

    /// Puts back what could not be passed on, unless there is a newer one.
    fn put_back(&self, reports: Vec<(Arc<Attempt>, ProgressReport)>) {
        let mut newest = self.lock();
        for (attempt, report) in reports {
            newest.entry(attempt.held()).or_insert((attempt, report));
        }
        drop(newest);
        self.came.notify_one();
    }
}

/// Passes reports on until the server has ended.
pub(crate) async fn run(shared: Arc<Shared>) {
    let end = shared.signals.end.clone();
    let passing = async {
        while let Err(panic) = caught_async(pass_on(&shared)).await {
            tracing::error!(panic, "passing progress reports on panicked");
            sleep(INTERVAL).await;
        }
    };
    // What is dropped at the end is the progress of attempts that ended with it.
    end.run_until_cancelled(passing).await;
}

async fn pass_on(shared: &Shared) {
    let mut backoff = Backoff::new(BACKOFF_CAP);
    loop {
        shared.home.reports.came.notified().await;
        let reports = shared.home.reports.take();
        let mut chunks = reports.chunks(BATCH_MAX);
        let failed = loop {
            let Some(chunk) = chunks.next() else { break None };
            if let Err(error) = record(shared, chunk).await {
                break Some(error);
            }
        };
        let pause = match failed {
            None => {
                backoff.reset();
                INTERVAL
            }
            Some(error) => {
                // Before it is counted, so that a streak is told of once.
                backoff.report("record progress", &error);
                // Those of earlier chunks are told again, which changes nothing.
                shared.home.reports.put_back(reports);
                std::cmp::max(INTERVAL, backoff.next(&*shared.rng))
            }
        };
        sleep(pause).await;
    }
}

async fn record(
    shared: &Shared,
    reports: &[(Arc<Attempt>, ProgressReport)],
) -> Result<(), StoreError> {
    let claims: Vec<_> = reports
        .iter()
        .map(|(attempt, report)| {
            let Held { id, token } = attempt.held();
            ClaimReport { id, token, report: report.clone() }
        })
        .collect();
    let call = shared.store.report(&claims, Now::Store);
    let verdicts = within(shared.config.store_timeout, call).await?;
    if shared.sinks.is_empty() {
        return Ok(());
    }
    let now = shared.clock.now();
    let kept = reports.iter().zip(verdicts).filter(|(_, verdict)| *verdict == Verdict::Applied);
    let event = |(attempt, report): &(Arc<Attempt>, ProgressReport)| {
        let event = TaskEvent::Progressed { done: report.done, total: report.total };
        Event::task(now, telling::reference(&attempt.task), event)
    };
    shared.sinks.publish(&kept.map(|(report, _)| event(report)).collect::<Vec<_>>());
    Ok(())
}
