//! Role *dispatch* of the memory store: hands tasks to servers and records what became of them.

use std::{cmp::min, pin::pin, time::Duration};

use async_trait::async_trait;
use ergon_core::{
    ClaimedTask, Event, KindName, Limits, Now, Outcome, Phase, ProgressReport, QueueName,
    Rejection, Retention, StoreError, TaskEvent, TaskId, Verdict,
    outcome::check_batch,
    report::{ClaimReport, KeptReport},
    store::{Beat, BeatReply, ClaimRequest, Dispatch, QueueSlots},
    time::{after, between},
    transition,
};
use jiff::Timestamp;
use tokio::time::timeout;

use super::{Entry, Lease, MemoryStore, Model};

#[async_trait]
impl Dispatch for MemoryStore {
    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<ClaimedTask>, StoreError> {
        check_lease(request.lease)?;
        check_batch(request.limit)?;
        let now = self.now(request.now);
        Ok(self.write(|model, events| model.claim_due(request, now, events)))
    }

    async fn finish(&self, outcomes: &[Outcome], now: Now) -> Result<Vec<Verdict>, StoreError> {
        check_batch(outcomes.len())?;
        let (limits, retention) = (&self.shared.limits, self.shared.retention);
        let now = self.now(now);
        Ok(self.write(|model, events| {
            let finish = |outcome| model.finish(outcome, limits, retention, now, events);
            outcomes.iter().map(finish).collect()
        }))
    }

    async fn beat(&self, beat: &Beat) -> Result<BeatReply, StoreError> {
        check_lease(beat.lease)?;
        check_batch(beat.held.len())?;
        let now = self.now(beat.now);
        Ok(self.write(|model, _events| model.beat(beat, now)))
    }

    async fn report(&self, reports: &[ClaimReport], now: Now) -> Result<Vec<Verdict>, StoreError> {
        check_batch(reports.len())?;
        let now = self.now(now);
        Ok(self.write(|model, events| {
            reports.iter().map(|report| model.report(report, now, events)).collect()
        }))
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
    fn claim_due(
        &mut self,
        request: &ClaimRequest,
        now: Timestamp,
        events: &mut Vec<Event>,
    ) -> Vec<ClaimedTask> {
        let lease = Lease { server: request.server, until: after(now, request.lease) };
        let mut claimed = Vec::new();
        for QueueSlots { queue, slots } in &request.queues {
            let due = self.due(queue, &request.kinds, now);
            let room = min(*slots, request.limit - claimed.len());
            for &id in due.iter().take(room) {
                self.claim(id, lease, now);
                let Some(entry) = self.tasks.get(&id) else { continue };
                let task = entry.claimed(id, now);
                let waited = between(task.run_at, now);
                let started = TaskEvent::Started { server: request.server, waited };
                events.push(entry.event(id, task.attempt, started, now));
                claimed.push(task);
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
        events: &mut Vec<Event>,
    ) -> Verdict {
        let conclusion = outcome.conclusion.clone().storable(limits);
        let Outcome { id, token, .. } = *outcome;
        let verdict = self.change(id, |entry| {
            let (attempt, ran) = (entry.newest_attempt(), entry.ran(now));
            let retention = retention.chosen_by(entry.spec.retention);
            let progress = &mut entry.progress;
            let verdict = transition::conclude(progress, &retention, token, &conclusion, now);
            let event = TaskEvent::of_outcome(progress, &conclusion, verdict, ran);
            events.extend(event.map(|event| entry.event(id, attempt, event, now)));
            verdict
        });
        verdict.unwrap_or(Verdict::Stale)
    }

    fn report(&mut self, claim: &ClaimReport, now: Timestamp, events: &mut Vec<Event>) -> Verdict {
        let live = self.tasks.get_mut(&claim.id).filter(|Entry { progress, .. }| {
            progress.phase == Phase::Running && progress.token == claim.token
        });
        let Some(entry) = live else { return Verdict::Stale };
        let ProgressReport { done, total, message } = claim.report.clone();
        // The setter makes the message storable, whoever wrote it into the field.
        let report = ProgressReport { done, total, ..ProgressReport::default() }.message(message);
        entry.report = Some(KeptReport { at: now, report });
        let progressed = TaskEvent::Progressed { done, total };
        events.push(entry.event(claim.id, entry.newest_attempt(), progressed, now));
        Verdict::Applied
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
