//! Reports of progress: kept in memory beside the claim, as long as it goes on.

use std::sync::Arc;

use ergon_core::{
    Phase, ProgressReport, StoreError, TaskEvent, Verdict,
    report::{ClaimReport, KeptReport},
    time::to_micros,
};
use jiff::Timestamp;

use crate::{batch::Batch, live::Live, shared::Shared};

/// Keeps reports, and answers for each whether its claim is live.
pub(super) async fn report(
    shared: &Shared,
    reports: &[ClaimReport],
    now: Timestamp,
) -> Result<Vec<Verdict>, StoreError> {
    let mut verdicts = Vec::with_capacity(reports.len());
    let mut undecided = Vec::new();
    let mut must_nudge = false;
    {
        let mut live = shared.live();
        for (at, report) in reports.iter().enumerate() {
            let taken = take(&mut live, report, now);
            verdicts.push(taken.map_or(Verdict::Stale, |taken| taken.verdict));
            must_nudge |= taken.is_some_and(|taken| taken.must_nudge);
            if taken.is_none() {
                undecided.push((at, report.clone()));
            }
        }
    }
    if must_nudge {
        shared.inbox.nudge();
    }
    if !undecided.is_empty() {
        let decided = shared.write(undecided.len() * 64, move |batch| {
            let decide = |(at, report): (usize, ClaimReport)| Ok((at, decide(batch, report, now)?));
            undecided.into_iter().map(decide).collect::<Result<Vec<_>, StoreError>>()
        });
        for (at, verdict) in decided.await? {
            if let Some(answer) = verdicts.get_mut(at) {
                *answer = verdict;
            }
        }
    }
    Ok(verdicts)
}

/// What came of a report.
#[derive(Clone, Copy)]
struct Taken {
    verdict: Verdict,
    must_nudge: bool,
}

/// Keeps a report; `None` when a batch has the task in its hands, and may be about to end the claim.
fn take(live: &mut Live, report: &ClaimReport, now: Timestamp) -> Option<Taken> {
    let claim = live.running.get_mut(&report.id);
    let Some(claim) = claim.filter(|claim| claim.token == report.token && !claim.is_over) else {
        return Some(Taken { verdict: Verdict::Stale, must_nudge: false });
    };
    if claim.state.is_none() || live.journal.is_full() {
        return None;
    }
    claim.report = Some(kept(&report.report, now));
    let key = claim.key(report.id);
    let must_nudge = if live.journal.is_watched() {
        live.journal.push(to_micros(now), key, progressed(&report.report))
    } else {
        live.journal.miss();
        false
    };
    Some(Taken { verdict: Verdict::Applied, must_nudge })
}

/// Keeps a report within a batch.
fn decide(
    batch: &mut Batch<'_>,
    report: ClaimReport,
    now: Timestamp,
) -> Result<Verdict, StoreError> {
    let ClaimReport { id, token, report } = report;
    let key = batch.look(id, |state| {
        let is_live = state.progress.phase == Phase::Running && state.progress.token == token;
        is_live.then(|| state.key(id))
    })?;
    let Some(key) = key.flatten() else { return Ok(Verdict::Stale) };
    if let Some(claim) = batch.live().running.get_mut(&id) {
        claim.report = Some(kept(&report, now));
    }
    batch.tell(now, key, &progressed(&report));
    Ok(Verdict::Applied)
}

const fn progressed(report: &ProgressReport) -> TaskEvent {
    TaskEvent::Progressed { done: report.done, total: report.total }
}

fn kept(report: &ProgressReport, at: Timestamp) -> Arc<KeptReport> {
    let ProgressReport { done, total, message } = report.clone();
    // The setter makes the message storable, whoever wrote it into the field.
    let report = ProgressReport { done, total, ..ProgressReport::default() }.message(message);
    Arc::new(KeptReport { at, report })
}
