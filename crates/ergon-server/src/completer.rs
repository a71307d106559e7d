//! Records outcomes in batches: at once when the store is idle, together when it is not.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use ergon_core::{Conclusion, Now, Outcome, TaskId, Verdict, store::Held};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    call::{Backoff, Restarts, caught_async, step_back, within},
    shared::{BACKOFF_CAP, Finished, Shared},
    telling::Ended,
};

/// Calls of the store under way at once: while one waits for its commit, the next is prepared.
const FLIGHTS_MAX: usize = 2;

/// Below this many outcomes a first batch lets the attempts that are ready end first.
const YIELD_BELOW: usize = 64;

/// Records outcomes until no more come, and then those that are left.
pub(crate) async fn run(shared: Arc<Shared>, mut outcomes: mpsc::Receiver<Finished>) {
    // Outlives a panic, so that what was gathered is recorded all the same.
    let mut batch: Vec<Finished> = Vec::new();
    let mut restarts = Restarts::new(&shared.gauges.finish, &shared.signals.give_up);
    while let Err(panic) = caught_async(complete(&shared, &mut outcomes, &mut batch)).await
        && restarts.wait(panic).await
    {}
}

async fn complete(
    shared: &Arc<Shared>,
    outcomes: &mut mpsc::Receiver<Finished>,
    batch: &mut Vec<Finished>,
) {
    let batch_max = shared.config.flush_batch_max;
    let mut oldest = Instant::now();
    let mut flights = FuturesUnordered::new();
    let mut is_open = true;
    loop {
        if flights.is_empty() && !batch.is_empty() && batch.len() < YIELD_BELOW && is_open {
            step_back().await;
            while batch.len() < batch_max
                && let Ok(finished) = outcomes.try_recv()
            {
                batch.push(finished);
            }
        }
        let is_due = flights.is_empty()
            || batch.len() >= batch_max
            || oldest.elapsed() >= shared.config.flush_age
            || !is_open;
        if !batch.is_empty() && is_due && flights.len() < FLIGHTS_MAX {
            flights.push(flush(Arc::clone(shared), std::mem::take(batch)));
        }
        if !is_open && batch.is_empty() && flights.is_empty() {
            return;
        }
        let was_empty = batch.is_empty();
        let room = batch_max.saturating_sub(batch.len());
        let ages = !was_empty && flights.len() < FLIGHTS_MAX;
        tokio::select! {
            biased;
            Some(()) = flights.next(), if !flights.is_empty() => {}
            received = outcomes.recv_many(batch, room), if is_open && room > 0 => {
                is_open = received > 0;
            }
            () = sleep_until(oldest + shared.config.flush_age), if ages => {}
            () = shared.signals.close.cancelled(), if !outcomes.is_closed() => outcomes.close(),
        }
        if was_empty && !batch.is_empty() {
            oldest = Instant::now();
        }
    }
}

/// Records a batch, however often that takes, unless the server gives up.
///
/// A call whose answer was lost is repeated as it was: outcomes that were applied are recognised.
async fn flush(shared: Arc<Shared>, mut batch: Vec<Finished>) {
    let mut flight = Flight { shared: &shared, outcomes: Vec::with_capacity(batch.len()) };
    let mut marks = Vec::with_capacity(batch.len());
    let ended = Ended::of(&shared, &mut batch);
    for Finished { attempt, conclusion, .. } in batch {
        marks.push(Mark::of(&conclusion, attempt.task.attempt >= attempt.task.max_attempts));
        let Held { id, token } = attempt.held();
        flight.outcomes.push(Outcome { id, token, conclusion });
    }
    let record = record(&shared, &flight.outcomes);
    if let Some(verdicts) = shared.signals.give_up.run_until_cancelled(record).await {
        settle(&shared, &flight.outcomes, &marks, &verdicts);
        ended.tell(&shared, &flight.outcomes, &verdicts);
        flight.land();
    }
}

/// Outcomes on their way. However the way ends, their claims are let go of: those that were not
/// recorded are reported, and others take the tasks when their leases end.
struct Flight<'s> {
    shared: &'s Shared,
    outcomes: Vec<Outcome>,
}

impl Flight<'_> {
    /// Says that all are recorded.
    fn land(&mut self) {
        let held = |outcome: Outcome| Held { id: outcome.id, token: outcome.token };
        let held: Vec<_> = self.outcomes.drain(..).map(held).collect();
        self.shared.held.remove(&held);
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        for outcome in &self.outcomes {
            self.shared.tally.unrecorded.push(outcome.id);
        }
        self.land();
    }
}

/// Calls the store until it answers.
async fn record(shared: &Shared, outcomes: &[Outcome]) -> Vec<Verdict> {
    let mut backoff = Backoff::new(BACKOFF_CAP);
    loop {
        let call = shared.store.finish(outcomes, Now::Store);
        match within(shared.config.store_timeout, call).await {
            Ok(verdicts) => {
                shared.gauges.finish.succeeded(outcomes.len(), 0);
                return verdicts;
            }
            Err(error) => {
                backoff.report("record outcomes", &error);
                shared.gauges.finish.failed();
                sleep(backoff.next(&*shared.rng)).await;
            }
        }
    }
}

/// What an outcome means for the tally.
#[derive(Clone, Copy)]
enum Mark {
    Completed,
    Retried,
    Failed,
    Cancelled,
    Snoozed,
    Released,
}

impl Mark {
    const fn of(conclusion: &Conclusion, is_last_attempt: bool) -> Self {
        match conclusion {
            Conclusion::Complete { .. } => Self::Completed,
            Conclusion::Retry { .. } if is_last_attempt => Self::Failed,
            Conclusion::Retry { .. } => Self::Retried,
            Conclusion::Fail { .. } => Self::Failed,
            Conclusion::Cancel { .. } => Self::Cancelled,
            Conclusion::Snooze { .. } => Self::Snoozed,
            Conclusion::Release => Self::Released,
        }
    }
}

/// Counts what came of a batch.
fn settle(shared: &Shared, outcomes: &[Outcome], marks: &[Mark], verdicts: &[Verdict]) {
    let mut counts = [0_u64; 6];
    for ((outcome, &mark), verdict) in outcomes.iter().zip(marks).zip(verdicts) {
        let mark = match verdict {
            Verdict::Applied | Verdict::AlreadyApplied => mark,
            Verdict::CancelRequested => Mark::Cancelled,
            Verdict::Stale => {
                trace_stale(outcome.id);
                if let Some(stale) = counts.last_mut() {
                    *stale += 1;
                }
                continue;
            }
        };
        match mark {
            Mark::Completed => counts[0] += 1,
            Mark::Retried => counts[1] += 1,
            Mark::Failed => counts[2] += 1,
            Mark::Cancelled => counts[3] += 1,
            Mark::Snoozed => counts[4] += 1,
            Mark::Released if shared.signals.stop.is_cancelled() => {
                shared.tally.released.push(outcome.id);
            }
            Mark::Released => {}
        }
    }
    let tally = &shared.tally;
    let totals = [
        &tally.completed,
        &tally.retried,
        &tally.failed,
        &tally.cancelled,
        &tally.snoozed,
        &tally.stale,
    ];
    for (total, count) in totals.into_iter().zip(counts) {
        if count > 0 {
            total.fetch_add(count, Relaxed);
        }
    }
}

fn trace_stale(id: TaskId) {
    tracing::debug!(%id, "an outcome came too late: the lease was lost");
}
