//! Role *dispatch*: hands tasks to servers and records what became of them.

mod beat;
pub(crate) mod claim;
pub(crate) mod claims;
mod report;

use std::time::Duration;

use async_trait::async_trait;
use ergon_core::{
    ClaimedTask, Conclusion, KindName, Now, Outcome, QueueName, Rejection, StoreError, Verdict,
    outcome::check_batch,
    report::ClaimReport,
    store::{Beat, BeatReply, ClaimRequest, Dispatch},
};

use self::claims::Settling;
use crate::{
    PostgresStore, place,
    shared::{Shared, given},
    value::{column, small},
};

/// Most bytes of results that one statement records without a read: what one message can hold, and half of
/// that for the rest.
const SETTLED_BYTES_MAX: usize = 256 << 20;

/// Most outcomes, and most bytes of their results, that one statement records with a read. They are sent as
/// JSON, of which Postgres takes 256 MiB, with up to 160 KiB of earlier errors each.
const CAREFUL_MAX: usize = 1_000;
const CAREFUL_BYTES_MAX: usize = 32 << 20;

#[async_trait]
impl Dispatch for PostgresStore {
    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<ClaimedTask>, StoreError> {
        check_lease(request.lease)?;
        check_batch(request.limit)?;
        self.shared().claim(request).await
    }

    async fn finish(&self, outcomes: &[Outcome], now: Now) -> Result<Vec<Verdict>, StoreError> {
        check_batch(outcomes.len())?;
        let shared = self.shared();
        shared.database.within_deadline(Box::pin(shared.finish(outcomes, now))).await
    }

    async fn beat(&self, beat: &Beat) -> Result<BeatReply, StoreError> {
        check_lease(beat.lease)?;
        check_batch(beat.held.len())?;
        let shared = self.shared();
        shared.database.within_deadline(Box::pin(shared.beat(beat))).await
    }

    async fn report(&self, reports: &[ClaimReport], now: Now) -> Result<Vec<Verdict>, StoreError> {
        check_batch(reports.len())?;
        self.shared().report(reports, now).await
    }

    async fn wait_for_work(&self, queues: &[QueueName], kinds: &[KindName], within: Duration) {
        self.shared().wait_for_work(queues, kinds, within).await;
    }
}

fn check_lease(lease: Duration) -> Result<(), StoreError> {
    if lease.is_zero() {
        Err(StoreError::rejected(Rejection::ZeroDuration { what: "lease" }))
    } else {
        Ok(())
    }
}

impl Shared {
    async fn finish(&self, outcomes: &[Outcome], now: Now) -> Result<Vec<Verdict>, StoreError> {
        if outcomes.is_empty() {
            return Ok(Vec::new());
        }
        let mut verdicts = vec![None; outcomes.len()];
        self.settle(outcomes, now, &mut verdicts).await?;
        let careful: Vec<usize> =
            (0..outcomes.len()).filter(|&at| verdicts.get(at) == Some(&None)).collect();
        if !careful.is_empty() {
            let chosen: Vec<Outcome> = careful
                .iter()
                .filter_map(|&at| outcomes.get(at))
                .map(|outcome| Outcome {
                    conclusion: outcome.conclusion.clone().storable(&self.limits),
                    ..outcome.clone()
                })
                .collect();
            let mut decided = Vec::with_capacity(chosen.len());
            for part in parts(&chosen) {
                decided.extend(self.conclude(part, now).await?);
            }
            for ((at, outcome), verdict) in careful.into_iter().zip(&chosen).zip(decided) {
                if matches!(verdict, Verdict::Stale | Verdict::AlreadyApplied) {
                    self.claims.leave(outcome.token.get(), outcome.id);
                }
                if let Some(slot) = verdicts.get_mut(at) {
                    *slot = Some(verdict);
                }
            }
        }
        Ok(verdicts.into_iter().map(|verdict| verdict.unwrap_or(Verdict::Stale)).collect())
    }

    /// Records what can be recorded without a read: tasks of this process's claims that completed at
    /// their first attempt.
    async fn settle(
        &self,
        outcomes: &[Outcome],
        now: Now,
        verdicts: &mut [Option<Verdict>],
    ) -> Result<(), StoreError> {
        let mut order: Vec<usize> = (0..outcomes.len()).collect();
        // Ids of one claim that follow one another become one row; leases are locked in one order.
        let name = |at: usize| outcomes.get(at).map(|outcome| (outcome.token, outcome.id));
        order.sort_by_key(|&at| name(at));
        // Two calls at once would take each other for somebody else who changed the lease.
        let turn = self.settling.lock().await;
        let mut settling = Settling::default();
        let mut settled = Vec::with_capacity(outcomes.len());
        let mut bytes = 0_usize;
        for (place, &at) in order.iter().enumerate() {
            let Some(Outcome { id, token, conclusion }) = outcomes.get(at) else { continue };
            let Conclusion::Complete { result } = conclusion else { continue };
            // Of two outcomes of one claim the first counts: only the careful way knows which that is.
            let is_same = |&other: &usize| {
                order.get(other).is_some_and(|&at| name(at) == Some((*token, *id)))
            };
            if [place.wrapping_sub(1), place + 1].iter().any(is_same) {
                continue;
            }
            let len = result.as_ref().map_or(0, bytes::Bytes::len);
            bytes = bytes.saturating_add(len);
            let is_small = len <= self.limits.result_bytes_max && bytes <= SETTLED_BYTES_MAX;
            if is_small && settling.add(&self.claims, token.get(), *id, result.as_ref()) {
                settled.push((at, token.get()));
            }
        }
        if settling.is_empty() {
            settling.end_unchanged(&self.claims);
            return Ok(());
        }
        let query = settling.bind(&self.sql, given(now));
        let rows = self.database.rows(|| query.query()).await?;
        if let Some(row) = rows.first() {
            self.tell_readers(row)?;
        }
        let held = rows
            .iter()
            .map(|row| small::<u64, i64>(column(row, "token")?))
            .collect::<Result<Vec<_>, _>>()?;
        settling.end(&self.claims, &held);
        drop(turn);
        let mut done = Vec::with_capacity(settled.len());
        for (at, token) in settled {
            if held.contains(&token)
                && let Some(verdict) = verdicts.get_mut(at)
            {
                *verdict = Some(Verdict::Applied);
                done.extend(outcomes.get(at).map(|outcome| outcome.id));
            }
        }
        self.finished(done);
        Ok(())
    }

    /// Records any outcomes, by the rules of core on what is stored.
    async fn conclude(&self, outcomes: &[Outcome], now: Now) -> Result<Vec<Verdict>, StoreError> {
        let find = place::by_token(&self.sql, outcomes);
        self.change(&find, |change| {
            let now = change.now().map(|clock| resolve(now, clock));
            let conclude = |outcome| change.conclude(outcome, &self.retention, now);
            Ok(outcomes.iter().map(conclude).collect())
        })
        .await
    }
}

/// Outcomes in parts, each of which fits one statement.
fn parts(outcomes: &[Outcome]) -> impl Iterator<Item = &[Outcome]> {
    let mut left = outcomes;
    std::iter::from_fn(move || {
        let mut bytes = 0_usize;
        let fitting = left.iter().take(CAREFUL_MAX).take_while(|outcome| {
            bytes = bytes.saturating_add(result_len(&outcome.conclusion));
            bytes <= CAREFUL_BYTES_MAX
        });
        let (part, rest) =
            left.split_at(std::cmp::min(std::cmp::max(1, fitting.count()), left.len()));
        left = rest;
        (!part.is_empty()).then_some(part)
    })
}

fn result_len(conclusion: &Conclusion) -> usize {
    match conclusion {
        Conclusion::Complete { result: Some(result) } => result.len(),
        _ => 0,
    }
}

/// The instant of a request, given the clock's.
pub(crate) fn resolve(now: Now, clock: jiff::Timestamp) -> jiff::Timestamp {
    match now {
        Now::Store => clock,
        Now::At(instant) => ergon_core::time::whole_micros(instant),
    }
}
