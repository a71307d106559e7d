//! Tells the sinks what this server committed.

use std::{sync::Arc, time::Duration};

use ergon_core::{
    ClaimedTask, Outcome, TaskEvent, Verdict,
    attempt::{AttemptEnd, Followers},
    event::{Event, ServerEvent, TaskRef},
    time::{after, between},
};

use crate::{
    attempt::Attempt,
    call::{caught, within},
    shared::{Finished, Shared},
};

/// How long the store may take to record what happened to the server, so that it does not hold the
/// end up.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(1);

/// Tells which tasks the server has claimed.
pub(crate) fn started(shared: &Shared, claimed: &[ClaimedTask]) {
    let event = |task: &ClaimedTask| {
        let waited = between(task.run_at, task.claimed_at);
        TaskEvent::Started { server: shared.id, waited }
    };
    if let Some(counting) = &shared.counting
        && !claimed.is_empty()
    {
        counting.count(|count| claimed.iter().for_each(|task| count.add(task, &event(task))));
    }
    if !shared.sinks.is_empty() {
        let event = |task: &ClaimedTask| Event::task(task.claimed_at, reference(task), event(task));
        shared.sinks.publish(&claimed.iter().map(event).collect::<Vec<_>>());
    }
}

/// Tells what a sweep changed.
pub(crate) fn publish(shared: &Shared, events: &[Event]) {
    if let Some(counting) = &shared.counting
        && !events.is_empty()
    {
        counting.count(|count| count.fold(events));
    }
    shared.sinks.publish(events);
}

/// What there is to tell of outcomes once they are recorded.
#[derive(Debug)]
pub(crate) struct Ended(Vec<End>);

#[derive(Debug)]
struct End {
    attempt: Arc<Attempt>,
    ran: Duration,
    followers: Followers,
}

impl Ended {
    /// Keeps what is needed of attempts that ended.
    pub(crate) fn of(shared: &Shared, batch: &mut [Finished]) -> Self {
        let is_heard = shared.counting.is_some() || !shared.sinks.is_empty();
        if !is_heard && batch.iter().all(|finished| finished.followers.is_empty()) {
            return Self(Vec::new());
        }
        let end = |Finished { attempt, ran, followers, .. }: &mut Finished| End {
            attempt: Arc::clone(attempt),
            ran: *ran,
            followers: std::mem::take(followers),
        };
        Self(batch.iter_mut().map(end).collect())
    }

    /// Tells what the outcomes that were applied made of the tasks.
    pub(crate) fn tell(self, shared: &Shared, outcomes: &[Outcome], verdicts: &[Verdict]) {
        if self.0.is_empty() {
            return;
        }
        let now = shared.clock.now();
        let mut told = Vec::with_capacity(self.0.len());
        for ((end, outcome), verdict) in self.0.into_iter().zip(outcomes).zip(verdicts) {
            let End { attempt, ran, followers } = end;
            let conclusion = &outcome.conclusion;
            let event = match verdict {
                // The first answer was lost, and with it the word to the sinks.
                Verdict::Applied | Verdict::AlreadyApplied => {
                    let is_last = attempt.task.attempt >= attempt.task.max_attempts;
                    let run_at = after(now, conclusion.delay());
                    TaskEvent::of_conclusion(conclusion, is_last, run_at, ran)
                }
                Verdict::CancelRequested => TaskEvent::Cancelled { ran: Some(ran) },
                Verdict::Stale => continue,
            };
            follow(followers, &AttemptEnd::new(conclusion, &event));
            told.push((attempt, event));
        }
        if let Some(counting) = &shared.counting {
            counting.count(|count| {
                told.iter().for_each(|(attempt, event)| count.add(&attempt.task, event));
            });
        }
        if !shared.sinks.is_empty() {
            let event = |(attempt, event): (Arc<Attempt>, TaskEvent)| {
                Event::task(now, reference(&attempt.task), event)
            };
            shared.sinks.publish(&told.into_iter().map(event).collect::<Vec<_>>());
        }
    }
}

/// Tells the followers of an attempt. They are code of others: what panics is not recorded twice.
fn follow(followers: Followers, end: &AttemptEnd<'_>) {
    if !followers.is_empty()
        && let Err(panic) = caught(|| followers.tell(end))
    {
        tracing::error!(panic, "a follower of an attempt panicked");
    }
}

/// Tells what happened to the server, and has the store record it.
pub(crate) async fn announce(shared: &Shared, event: ServerEvent) {
    let announced = within(ANNOUNCE_TIMEOUT, shared.store.announce(shared.id, &event)).await;
    if let Err(error) = announced {
        tracing::debug!(%error, ?event, "what happened to the server is not in the journal");
    }
    shared.sinks.publish(&[Event::server(shared.clock.now(), shared.id, event)]);
}

pub(crate) fn reference(task: &ClaimedTask) -> TaskRef {
    let ClaimedTask { id, spec, attempt, .. } = task;
    TaskRef { id: *id, queue: spec.queue.clone(), kind: spec.kind.clone(), attempt: *attempt }
}
