//! Role *maintain*: takes tasks back from dead servers, removes what outlived its retention.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use ergon_core::{
    Now, Phase, StoreError, TaskId, UniqueScope,
    limits::BATCH_MAX,
    outcome::check_limit,
    store::{Held, Maintain, PruneRequest, Report, RescueRequest},
    time::to_micros,
    transition,
};
use redb::ReadableTable;

use crate::{
    RedbStore,
    batch::Batch,
    error::backend,
    expiry::{self, Expiring},
    shared::Shared,
};

/// Rows of the expiry index that one sweep looks at, at the most.
const EXPIRY_ROWS_MAX: usize = 10_000;

#[async_trait]
impl Maintain for RedbStore {
    async fn rescue_expired(&self, request: &RescueRequest) -> Result<Report, StoreError> {
        check_limit(request.limit, BATCH_MAX)?;
        let shared = Arc::clone(self.shared());
        shared.check()?;
        let now = request.now.resolve(&*shared.clock);
        let mut expired = expired_claims(&shared, request.now, to_micros(now));
        let more = expired.len() > request.limit;
        expired.truncate(request.limit);
        if expired.is_empty() {
            return Ok(Report::default());
        }
        let (deaths_max, renewals) = (request.deaths_max, Arc::clone(&shared));
        let rescue = move |batch: &mut Batch<'_>, held: Held| -> Result<bool, StoreError> {
            let is_over = renewals
                .live()
                .running
                .get(&held.id)
                .is_some_and(|claim| claim.lease_until <= to_micros(now));
            if !is_over {
                return Ok(false);
            }
            let Some(mut state) = batch.load(held.id)? else { return Ok(false) };
            let progress = &mut state.progress;
            if progress.phase != Phase::Running || progress.token != held.token {
                return Ok(false);
            }
            let retention = renewals.retention.chosen_by(state.body.retention);
            transition::rescue(progress, &retention, deaths_max, now);
            batch.put(held.id, state)?;
            Ok(true)
        };
        let done = shared
            .write(expired.len() * 64, move |batch| {
                let mut done = 0;
                for held in expired {
                    done += usize::from(rescue(batch, held)?);
                }
                Ok(done)
            })
            .await?;
        Ok(Report { done, more, skipped: 0 })
    }

    async fn prune(&self, request: &PruneRequest) -> Result<Report, StoreError> {
        check_limit(request.limit, BATCH_MAX)?;
        let shared = self.shared();
        let now = to_micros(request.now.resolve(&*shared.clock));
        let limit = request.limit;
        shared
            .write(limit * 64, move |batch| prune(batch, limit, now))
            .await
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
        .filter(|(_, claim)| {
            mode != Now::Store || claim.renewed.elapsed() >= trusted(claim.lease)
        })
        .map(|(&id, claim)| (claim.lease_until, Held { id, token: claim.token }))
        .collect();
    expired.sort_unstable();
    expired.into_iter().map(|(_, held)| held).collect()
}

/// How much of a lease has to pass by both clocks: all but a sixth, the room of a sweep.
const fn trusted(lease: Duration) -> Duration {
    lease.saturating_sub(Duration::from_nanos(lease.as_nanos() as u64 / 6))
}

fn prune(batch: &mut Batch<'_>, limit: usize, now: i64) -> Result<Report, StoreError> {
    let due = take_due(batch, limit, now)?;
    for hash in &due.keys {
        batch.expire_key(hash, now)?;
    }
    let mut report = Report::default();
    let mut rest = Vec::new();
    for (expires_at, id) in due.tasks {
        let Some(state) = batch.load(id)? else { continue };
        // A task that an operator reopened has another row, or none, for its new end.
        let is_due = state.progress.phase.is_terminal()
            && state.progress.expires_at.map(to_micros) == Some(expires_at);
        if !is_due {
            continue;
        }
        if report.done == limit {
            rest.push((expires_at, id));
            continue;
        }
        match state.body.unique {
            Some(unique) if !matches!(unique.scope, UniqueScope::For(_)) => {
                batch.free_key(&unique, id)?;
            }
            Some(_) | None => {}
        }
        batch.remove(id);
        report.done += 1;
    }
    report.more = due.is_cut || !rest.is_empty();
    for (number, same) in (0..).zip(rest.chunk_by(|one, next| one.0 == next.0)) {
        let ids = Expiring::Tasks(same.iter().map(|&(_, id)| id).collect());
        batch.write_expiry(same[0].0, number, &ids)?;
    }
    Ok(report)
}

/// What the expiry index says is due.
#[derive(Default)]
struct Due {
    tasks: Vec<(i64, TaskId)>,
    keys: Vec<[u8; 32]>,
    /// More is due, and still in the index.
    is_cut: bool,
}

/// Takes rows out of the expiry index, the earliest first, until they name enough tasks. Rows of
/// one instant are taken together, so that their tasks go in the order of their ids.
fn take_due(batch: &mut Batch<'_>, limit: usize, now: i64) -> Result<Due, StoreError> {
    let mut due = Due::default();
    let mut taken = Vec::new();
    let table = batch.tables().expiry()?;
    for row in table.range::<&[u8; 16]>(..=&expiry::key(now, u64::MAX)).map_err(backend)? {
        let (key, record) = row.map_err(backend)?;
        let at = expiry::parse_key(key.value());
        let is_new_instant = due.tasks.last().is_none_or(|&(last, _)| last != at);
        if is_new_instant && (due.tasks.len() >= limit || taken.len() >= EXPIRY_ROWS_MAX) {
            due.is_cut = true;
            break;
        }
        match Expiring::decode(record.value())? {
            Expiring::Tasks(ids) => due.tasks.extend(ids.into_iter().map(|id| (at, id))),
            Expiring::Keys(hashes) => due.keys.extend(hashes),
        }
        taken.push(*key.value());
    }
    for key in &taken {
        table.remove(key).map_err(backend)?;
    }
    if !taken.is_empty() {
        batch.mark_dirty();
    }
    due.tasks.sort_unstable();
    Ok(due)
}
