//! Role *dispatch*: claims from memory, outcomes through the writer.
//!
//! A claim writes nothing: when the process is gone, so are its claims. Only that a task has been
//! running for a while is written down, with whatever commit comes next, so that the death of its
//! owner can be counted. In the first minute after a crash claims are written down before they are
//! answered: a task that kills its owner at once is found out all the same.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use ergon_core::{
    Conclusion, KindName, Now, Outcome, QueueName, Rejection, Retention, StoreError, TaskEvent,
    TaskId, Verdict,
    outcome::check_batch,
    record::ClaimedTask,
    report::ClaimReport,
    store::{Beat, BeatReply, ClaimRequest, Dispatch, Held},
    time::to_micros,
    transition,
};
use jiff::Timestamp;

use crate::{
    RedbStore,
    batch::{Batch, Edit},
    key::NameId,
    live::TaskState,
    shared::Shared,
};

mod claim;
mod report;

/// How often a claim asks for its windows to be refilled before it answers that there is nothing.
const REFILLS_MAX: usize = 3;

#[async_trait]
impl Dispatch for RedbStore {
    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<ClaimedTask>, StoreError> {
        check_batch(request.limit)?;
        check_lease(request.lease)?;
        let shared = self.shared();
        for _ in 0..REFILLS_MAX {
            shared.check_open()?;
            // Not handed to a blocking thread: from the cache it takes a microsecond a task, less
            // than the way there and back.
            let claim = claim::claim(shared, request)?;
            if !claim.is_starved() {
                return self.hand_over(claim).await;
            }
            // Answered once the windows are full again.
            shared.write(0, |_batch| Ok(())).await?;
        }
        Ok(Vec::new())
    }

    async fn finish(&self, outcomes: &[Outcome], now: Now) -> Result<Vec<Verdict>, StoreError> {
        check_batch(outcomes.len())?;
        if outcomes.is_empty() {
            return Ok(Vec::new());
        }
        let shared = Arc::clone(self.shared());
        let now = now.resolve(&*shared.clock);
        let outcomes: Vec<Outcome> = outcomes
            .iter()
            .map(|outcome| Outcome {
                conclusion: outcome.conclusion.clone().storable(&shared.limits),
                ..*outcome
            })
            .collect();
        let bytes = outcomes.iter().map(|outcome| bytes_of(&outcome.conclusion)).sum();
        let retention = shared.retention;
        shared
            .write(bytes, move |batch| {
                batch.take_running(&outcomes.iter().map(|outcome| outcome.id).collect::<Vec<_>>());
                outcomes
                    .iter()
                    .map(|outcome| conclude(batch, retention, outcome, now))
                    .collect::<Result<Vec<_>, StoreError>>()
            })
            .await
    }

    async fn beat(&self, beat: &Beat) -> Result<BeatReply, StoreError> {
        check_batch(beat.held.len())?;
        check_lease(beat.lease)?;
        let shared = self.shared();
        shared.check_open()?;
        let lease_until =
            to_micros(ergon_core::time::after(beat.now.resolve(&*shared.clock), beat.lease));
        let mut reply = BeatReply::default();
        let mut live = shared.live();
        for &held in &beat.held {
            let claim = live.running.get_mut(&held.id);
            let own = claim.filter(|claim| {
                claim.token == held.token && claim.server == beat.server && !claim.is_over
            });
            let Some(claim) = own else {
                reply.lost.push(held);
                continue;
            };
            claim.lease_until = lease_until;
            claim.lease = beat.lease;
            claim.renewed = Instant::now();
            if claim.is_cancel_requested {
                reply.cancelled.push(held);
            }
        }
        Ok(reply)
    }

    async fn report(&self, reports: &[ClaimReport], now: Now) -> Result<Vec<Verdict>, StoreError> {
        check_batch(reports.len())?;
        if reports.is_empty() {
            return Ok(Vec::new());
        }
        let shared = self.shared();
        shared.check_open()?;
        let now = now.resolve(&*shared.clock);
        report::report(shared, reports, now).await
    }

    async fn wait_for_work(&self, queues: &[QueueName], kinds: &[KindName], within: Duration) {
        let shared = self.shared();
        let deadline = far_from_now(within);
        loop {
            let notified = shared.wake.work.notified();
            tokio::pin!(notified);
            // From here on no change is missed; only then may be looked.
            notified.as_mut().enable();
            let delay = match next_due(shared, queues, kinds) {
                Some(Duration::ZERO) => return,
                delay => delay.unwrap_or(Duration::MAX),
            };
            let until = std::cmp::min(deadline, far_from_now(delay));
            if tokio::time::timeout_at(until, notified).await.is_err() && until == deadline {
                return;
            }
            if shared.check_open().is_err() {
                return;
            }
        }
    }
}

/// An instant so far ahead, or as far as instants go.
pub(crate) fn far_from_now(delay: Duration) -> tokio::time::Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    tokio::time::Instant::now() + std::cmp::min(delay, FAR)
}

impl RedbStore {
    /// Hands claimed tasks to the caller; until it has them, they go back when the call is dropped.
    async fn hand_over(&self, claim: claim::Claim) -> Result<Vec<ClaimedTask>, StoreError> {
        let shared = self.shared();
        let is_careful = shared.careful_until.is_some_and(|until| Instant::now() < until);
        if is_careful && !claim.tasks().is_empty() {
            let ids: Vec<TaskId> = claim.tasks().iter().map(|task| task.id).collect();
            shared.write(0, move |batch| ids.into_iter().try_for_each(|id| batch.note(id))).await?;
        } else if !claim.tasks().is_empty() && shared.must_nudge() {
            shared.inbox.nudge();
        }
        Ok(claim.accept())
    }
}

/// How long it is until a task of these kinds is due in one of these queues; nothing when one is.
fn next_due(shared: &Shared, queues: &[QueueName], kinds: &[KindName]) -> Option<Duration> {
    let now = to_micros(shared.clock.now());
    let live = shared.live();
    let kinds = kinds.iter().filter_map(|kind| live.names.kind_number(kind)).collect();
    let due = queues.iter().filter_map(|queue| {
        let number = live.names.queue_number(queue)?;
        let is_paused = live.queue(number).row.is_paused;
        if is_paused { None } else { live.lanes.next_due(number, &kinds) }
    });
    let left = due.min()?.saturating_sub(now);
    Some(Duration::from_micros(u64::try_from(left).unwrap_or(0)))
}

/// Gives every running task back, as when the store is closed; a cancel that was asked for is
/// carried out.
pub(crate) fn give_everything_back(
    batch: &mut Batch<'_>,
    shared: &Shared,
) -> Result<(), StoreError> {
    let held: Vec<Held> = {
        let mut live = shared.live();
        live.is_closed = true;
        live.running.iter().map(|(&id, claim)| Held { id, token: claim.token }).collect()
    };
    let now = shared.clock.now();
    held.into_iter().try_for_each(|held| give_back(batch, shared, held, now))
}

/// Gives a claim back, if it is live.
pub(crate) fn give_back(
    batch: &mut Batch<'_>,
    shared: &Shared,
    held: Held,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Held { id, token } = held;
    let release = Outcome { id, token, conclusion: Conclusion::Release };
    conclude(batch, shared.retention, &release, now).map(drop)
}

/// Applies an outcome to its task, and tells what came of it.
fn conclude(
    batch: &mut Batch<'_>,
    retention: Retention,
    outcome: &Outcome,
    now: Timestamp,
) -> Result<Verdict, StoreError> {
    let Outcome { id, token, ref conclusion } = *outcome;
    let is_watched = batch.is_watched();
    let concluded = batch.edit(id, |task| {
        let (key, ran) = (task.key(id), task.ran(now));
        let TaskState { body, progress } = task;
        let retention = retention.chosen_by(body.retention);
        let verdict = transition::conclude(progress, &retention, token, conclusion, now);
        let edit = edit_of(verdict);
        // An event may take a copy of a text, which nobody needs who does not watch.
        let event =
            is_watched.then(|| TaskEvent::of_outcome(progress, conclusion, verdict, ran)).flatten();
        ((verdict, edit, event.map(|event| (key, event))), edit)
    })?;
    let Some((verdict, edit, event)) = concluded else { return Ok(Verdict::Stale) };
    match event {
        Some((key, event)) => batch.tell(now, key, &event),
        None if edit == Edit::Changed => batch.miss(),
        None => {}
    }
    Ok(verdict)
}

const fn edit_of(verdict: Verdict) -> Edit {
    match verdict {
        Verdict::Applied | Verdict::CancelRequested => Edit::Changed,
        Verdict::AlreadyApplied | Verdict::Stale => Edit::Unchanged,
    }
}

const fn check_lease(lease: Duration) -> Result<(), StoreError> {
    if lease.is_zero() {
        Err(StoreError::rejected(Rejection::ZeroDuration { what: "lease" }))
    } else {
        Ok(())
    }
}

/// What an outcome adds to a commit, about.
fn bytes_of(conclusion: &Conclusion) -> usize {
    let content = match conclusion {
        Conclusion::Complete { result } => result.as_ref().map_or(0, bytes::Bytes::len),
        Conclusion::Retry { error, .. } | Conclusion::Fail { error, .. } => error.len(),
        Conclusion::Cancel { reason } => reason.len(),
        Conclusion::Snooze { .. } | Conclusion::Release => 0,
    };
    64 + content
}

/// The kinds and queues of a request, by name and by number.
type Names<T> = Vec<(NameId, T)>;

/// The names that a request knows by the numbers that records hold.
#[derive(Debug, Default)]
struct Known {
    kinds: Names<KindName>,
    queues: Names<QueueName>,
}

impl Known {
    fn numbers(&self) -> BTreeSet<NameId> {
        self.kinds.iter().map(|&(number, _)| number).collect()
    }
}
