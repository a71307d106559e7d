//! Role *maintain*: takes tasks back from dead servers, removes what outlived its retention.

use std::{ops::Bound, sync::Arc, time::Duration};

use async_trait::async_trait;
use ergon_core::{
    Event, Now, Phase, Retention, StoreError, TaskEvent, TaskId, Token, UniqueScope,
    limits::BATCH_MAX,
    outcome::check_limit,
    store::{Held, Maintain, PruneRequest, Report, RescueRequest},
    time::{between, to_micros},
    transition,
};
use jiff::Timestamp;
use redb::ReadableTable;

use crate::{
    RedbStore,
    batch::{Batch, Edit},
    document,
    error::backend,
    expiry::{self, Expiring},
    journal::TaskKey,
    live::TaskState,
    shared::Shared,
};

/// Instants of the expiry index that one sweep looks at, at the most: each is the end of one commit
/// or more.
const INSTANTS_MAX: usize = 10_000;

#[async_trait]
impl Maintain for RedbStore {
    async fn rescue_expired(&self, request: &RescueRequest) -> Result<Report, StoreError> {
        check_limit(request.limit, BATCH_MAX)?;
        let shared = Arc::clone(self.shared());
        shared.check_open()?;
        let now = request.now.resolve(&*shared.clock);
        let mut expired = expired_claims(&shared, request.now, to_micros(now));
        let more = expired.len() > request.limit;
        expired.truncate(request.limit);
        if expired.is_empty() {
            return Ok(Report::default());
        }
        let (deaths_max, renewals) = (request.deaths_max, Arc::clone(&shared));
        shared
            .write(expired.len() * 64, move |batch| {
                let rescue = Rescue { retention: renewals.retention, deaths_max, now };
                let mut report = Report { more, ..Report::default() };
                for Held { id, token } in expired {
                    if end_lease(&renewals, Held { id, token }, to_micros(now)) {
                        let events = &mut report.events;
                        let is_done = rescue.carry_out(batch, id, Some(token), None, events)?;
                        report.done += usize::from(is_done);
                    }
                }
                Ok(report)
            })
            .await
    }

    async fn prune(&self, request: &PruneRequest) -> Result<Report, StoreError> {
        check_limit(request.limit, BATCH_MAX)?;
        let shared = self.shared();
        let now = request.now.resolve(&*shared.clock);
        let limit = request.limit;
        shared
            .write(limit * 64, move |batch| {
                let mut report = prune(batch, limit, to_micros(now))?;
                if report.done > 0 {
                    let tasks = u64::try_from(report.done).unwrap_or(u64::MAX);
                    batch.tell_pruned(now, tasks);
                    report.events.push(Event::pruned(now, tasks));
                }
                batch.tidy_journal();
                document::prune(batch, to_micros(now))?;
                Ok(report)
            })
            .await
    }
}

/// Takes tasks back from an owner that is dead, or as good as.
#[derive(Clone, Copy)]
pub(crate) struct Rescue {
    pub(crate) retention: Retention,
    pub(crate) deaths_max: u16,
    pub(crate) now: Timestamp,
}

impl Rescue {
    /// Takes a task back, if the claim is live, and tells of it; says whether it did. Without a token
    /// it is a claim of an earlier incarnation, which was made at this instant if that is known.
    pub(crate) fn carry_out(
        self,
        batch: &mut Batch<'_>,
        id: TaskId,
        token: Option<Token>,
        claimed_at: Option<Timestamp>,
        events: &mut Vec<Event>,
    ) -> Result<bool, StoreError> {
        let Self { retention, deaths_max, now } = self;
        let rescued = batch.edit(id, |task| {
            let (mut key, mut ran) = (task.key(id), task.ran(now));
            let TaskState { body, progress } = task;
            match token {
                Some(token) if progress.phase != Phase::Running || progress.token != token => {
                    return (None, Edit::Unchanged);
                }
                Some(_) => {}
                // The file does not say that it runs, nor since when.
                None => {
                    key.attempt = progress.attempt.saturating_add(1);
                    ran = claimed_at.map_or(Duration::ZERO, |at| between(at, now));
                }
            }
            let retention = retention.chosen_by(body.retention);
            transition::rescue(progress, &retention, deaths_max, now);
            (Some((key, TaskEvent::of_rescue(progress, ran))), Edit::Changed)
        })?;
        let Some((key, event)) = rescued.flatten() else { return Ok(false) };
        batch.tell(now, key, &event);
        events.extend(batch.event(now, key, event));
        Ok(true)
    }

    /// Tells that a claim of an earlier incarnation is over, of which nothing but the journal knows:
    /// its task waits, as if it had never been claimed.
    pub(crate) fn tell_lost(
        self,
        batch: &mut Batch<'_>,
        id: TaskId,
        attempt: u16,
    ) -> Result<(), StoreError> {
        let lost = batch.look(id, |task| {
            let TaskState { progress, .. } = task;
            let is_lost = progress.phase == Phase::Waiting
                && progress.attempt.checked_add(1) == Some(attempt);
            is_lost.then(|| TaskKey { attempt, ..task.key(id) })
        })?;
        if let Some(key) = lost.flatten() {
            batch.tell(self.now, key, &TaskEvent::Rescued);
        }
        Ok(())
    }
}

/// Claims whose lease is over, the longest ago first.
///
/// When the store's clock decides, a claim that was made or renewed lately by the clock that never
/// jumps is left alone: a jump of the wall clock ends no lease whose owner lives.
fn expired_claims(shared: &Shared, mode: Now, now: i64) -> Vec<Held> {
    let live = shared.live();
    let mut expired: Vec<_> = live
        .running
        .iter()
        .filter(|(_, claim)| claim.lease_until <= now)
        .filter(|(_, claim)| mode != Now::Store || claim.renewed.elapsed() >= trusted(claim.lease))
        .map(|(&id, claim)| (claim.lease_until, Held { id, token: claim.token }))
        .collect();
    expired.sort_unstable();
    expired.into_iter().map(|(_, held)| held).collect()
}

/// Ends the lease of a claim, unless it was renewed: from here on no beat renews it.
fn end_lease(shared: &Shared, held: Held, now: i64) -> bool {
    let mut live = shared.live();
    let claim = live.running.get_mut(&held.id);
    match claim.filter(|claim| claim.token == held.token && claim.lease_until <= now) {
        Some(claim) => {
            claim.is_over = true;
            true
        }
        None => false,
    }
}

/// How much of a lease has to pass by both clocks: all but a sixth, the room of a sweep.
fn trusted(lease: Duration) -> Duration {
    lease - lease / 6
}

fn prune(batch: &mut Batch<'_>, limit: usize, now: i64) -> Result<Report, StoreError> {
    let mut report = Report::default();
    let mut from = expiry::key(i64::MIN, 0);
    let mut instants = 0;
    while let Some(due) = next_due(batch, &from, now)? {
        from = expiry::key(due.at, u64::MAX);
        let mut rest = Vec::new();
        let is_full = report.done == limit;
        for &id in &due.tasks {
            if !is_due(batch, id, due.at)? {
                continue;
            }
            if report.done < limit {
                remove(batch, id)?;
                report.done += 1;
            } else {
                report.more = true;
                rest.push(id);
                if is_full {
                    return Ok(report);
                }
            }
        }
        take(batch, &due, &rest, now)?;
        instants += 1;
        report.more |= instants == INSTANTS_MAX;
        if report.more {
            break;
        }
    }
    Ok(report)
}

/// What may go at one instant, as far as the expiry index says.
struct Due {
    at: i64,
    /// In the order of their ids.
    tasks: Vec<TaskId>,
    keys: Vec<[u8; 32]>,
    rows: Vec<[u8; 16]>,
}

/// Reads all rows of the next instant behind `from` that is due.
fn next_due(batch: &mut Batch<'_>, from: &[u8; 16], now: i64) -> Result<Option<Due>, StoreError> {
    let table = batch.tables().expiry()?;
    let mut due: Option<Due> = None;
    let range = (Bound::Excluded(from), Bound::Included(&expiry::key(now, u64::MAX)));
    for row in table.range::<&[u8; 16]>(range).map_err(backend)? {
        let (key, record) = row.map_err(backend)?;
        let at = expiry::parse_key(key.value());
        if due.as_ref().is_some_and(|due| due.at != at) {
            break;
        }
        let due =
            due.get_or_insert(Due { at, tasks: Vec::new(), keys: Vec::new(), rows: Vec::new() });
        match Expiring::decode(record.value())? {
            Expiring::Tasks(ids) => due.tasks.extend(ids),
            Expiring::Keys(hashes) => due.keys.extend(hashes),
        }
        due.rows.push(*key.value());
    }
    if let Some(due) = &mut due {
        due.tasks.sort_unstable();
    }
    Ok(due)
}

/// Says whether a task is still to go at this instant: one that an operator reopened has another
/// row, or none, for its new end.
fn is_due(batch: &mut Batch<'_>, id: TaskId, at: i64) -> Result<bool, StoreError> {
    let is_due = batch.look(id, |TaskState { progress, .. }| {
        progress.phase.is_terminal() && progress.expires_at.map(to_micros) == Some(at)
    })?;
    Ok(is_due == Some(true))
}

fn remove(batch: &mut Batch<'_>, id: TaskId) -> Result<(), StoreError> {
    let unique = batch.edit(id, |state| (state.body.unique, Edit::Removed))?.flatten();
    match unique {
        Some(unique) if !matches!(unique.scope, UniqueScope::For(_)) => batch.free_key(&unique, id),
        Some(_) | None => Ok(()),
    }
}

/// Removes the rows of an instant, but for the tasks that are left for the next sweep.
fn take(batch: &mut Batch<'_>, due: &Due, rest: &[TaskId], now: i64) -> Result<(), StoreError> {
    for hash in &due.keys {
        batch.expire_key(hash, now)?;
    }
    let table = batch.tables().expiry()?;
    for key in &due.rows {
        table.remove(key).map_err(backend)?;
    }
    batch.mark_dirty();
    match due.rows.first() {
        // In the place of the first row, which is free now.
        Some(key) if !rest.is_empty() => {
            let row = Expiring::Tasks(rest.to_vec()).encode();
            batch.tables().expiry()?.insert(key, row.as_slice()).map_err(backend)?;
            Ok(())
        }
        Some(_) | None => Ok(()),
    }
}
