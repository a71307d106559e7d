//! Role *dispatch* of the memory store: hands tasks to servers and records what became of them.

use std::{cmp::min, pin::pin, time::Duration};

use async_trait::async_trait;
use ergon_core::{
    ClaimedTask, KindName, Limits, Now, Outcome, Phase, QueueName, Rejection, Retention,
    StoreError, TaskId, Verdict,
    outcome::check_batch,
    store::{Beat, BeatReply, ClaimRequest, Dispatch, QueueSlots},
    time::after,
    transition,
};
use jiff::Timestamp;
use tokio::time::timeout;

use super::{Entry, Lease, MemoryStore, Model, between};

#[async_trait]
impl Dispatch for MemoryStore {
    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<ClaimedTask>, StoreError> {
        check_lease(request.lease)?;
        check_batch(request.limit)?;
        let now = self.now(request.now);
        Ok(self.write(|model| model.claim_due(request, now)))
    }

    async fn finish(&self, outcomes: &[Outcome], now: Now) -> Result<Vec<Verdict>, StoreError> {
        check_batch(outcomes.len())?;
        let (limits, retention) = (&self.shared.limits, self.shared.retention);
        let now = self.now(now);
        Ok(self.write(|model| {
            let finish = |outcome| model.finish(outcome, limits, retention, now);
            outcomes.iter().map(finish).collect()
        }))
    }

    async fn beat(&self, beat: &Beat) -> Result<BeatReply, StoreError> {
        check_lease(beat.lease)?;
        check_batch(beat.held.len())?;
        let now = self.now(beat.now);
        Ok(self.write(|model| model.beat(beat, now)))
    }

    async fn wait_for_work(&self, queues: &[QueueName], kinds: &[KindName], within: Duration) {
        let news = async {
            loop {
                let mut changed = pin!(self.shared.changed.notified());
                // From here on no change is missed; only then may be looked.
                changed.as_mut().enable();
                let now = self.shared.clock.now();
                let next = self.read().next_due(queues, kinds);
                match next {
                    Some(due) if due <= now => return,
                    // Whether it is a change or the time, the next look tells.
                    Some(due) => timeout(between(now, due), changed).await.unwrap_or_default(),
                    None => changed.await,
                }
            }
        };
        // Work and the end of the time are answered alike.
        timeout(within, news).await.unwrap_or_default();
    }
}

impl Model {
    fn claim_due(&mut self, request: &ClaimRequest, now: Timestamp) -> Vec<ClaimedTask> {
        let lease = Lease { server: request.server, until: after(now, request.lease) };
        let mut claimed = Vec::new();
        for QueueSlots { queue, slots } in &request.queues {
            let due = self.due(queue, &request.kinds, now);
            let room = min(*slots, request.limit - claimed.len());
            for &id in due.iter().take(room) {
                self.claim(id, lease, now);
                claimed.extend(self.tasks.get(&id).map(|entry| entry.claimed(id, now)));
            }
        }
        claimed
    }

    fn finish(
        &mut self,
        outcome: &Outcome,
        limits: &Limits,
        retention: Retention,
        now: Timestamp,
    ) -> Verdict {
        let conclusion = outcome.conclusion.clone().storable(limits);
        let Outcome { id, token, .. } = *outcome;
        let verdict = self.change(id, |Entry { progress, spec, .. }| {
            let retention = retention.chosen_by(spec.retention);
            transition::conclude(progress, &retention, token, &conclusion, now)
        });
        verdict.unwrap_or(Verdict::Stale)
    }

    fn beat(&mut self, beat: &Beat, now: Timestamp) -> BeatReply {
        let mut reply = BeatReply::default();
        for &held in &beat.held {
            let live = self.tasks.get_mut(&held.id).and_then(|entry| {
                let is_live =
                    entry.progress.phase == Phase::Running && entry.progress.token == held.token;
                let lease = entry.lease.as_mut().filter(|_| is_live)?;
                (lease.server == beat.server).then_some((lease, &entry.progress))
            });
            let Some((lease, progress)) = live else {
                reply.lost.push(held);
                continue;
            };
            lease.until = after(now, beat.lease);
            if progress.cancel_requested {
                reply.cancelled.push(held);
            }
        }
        reply
    }
}

impl Entry {
    fn claimed(&self, id: TaskId, now: Timestamp) -> ClaimedTask {
        let progress = &self.progress;
        ClaimedTask {
            id,
            token: progress.token,
            spec: self.spec.clone(),
            priority: progress.priority,
            attempt: progress.attempt.saturating_add(1),
            max_attempts: progress.max_attempts,
            crash_count: progress.crash_count,
            created_at: self.created_at,
            run_at: progress.run_at,
            claimed_at: now,
        }
    }
}

fn check_lease(lease: Duration) -> Result<(), StoreError> {
    if lease.is_zero() {
        Err(StoreError::rejected(Rejection::ZeroDuration { what: "lease" }))
    } else {
        Ok(())
    }
}
