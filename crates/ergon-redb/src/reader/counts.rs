//! Counts by state, from maintained counters.
//!
//! Scheduled, retrying and pending tasks are one stored phase. Of the waiting tasks only those that
//! are not due yet are looked at in the ready index, never the backlog.

use ergon_core::{State, StoreError, TaskId, store::StateCounts};

use super::Snapshot;
use crate::{
    error::backend,
    key::{Lane, NameId, Place, READY_KEY_LEN, parse_ready_key, ready_key},
    ready::Flags,
};

/// The tasks of a queue by state, at `now` in microseconds.
pub(crate) fn of_queue(
    snapshot: &Snapshot,
    number: NameId,
    now: i64,
) -> Result<StateCounts, StoreError> {
    let queue = snapshot.queue(number);
    let mut counts = StateCounts::default();
    counts.add(State::Running, queue.running);
    counts.add(State::Completed, queue.row.completed);
    counts.add(State::Failed, queue.row.failed);
    counts.add(State::Cancelled, queue.row.cancelled);
    let later = count_later(snapshot, number, now)?;
    counts.add(State::Scheduled, later.scheduled);
    counts.add(State::Retrying, later.retrying);
    let others = queue.running + later.scheduled + later.retrying;
    counts.add(State::Pending, queue.row.open.saturating_sub(others));
    Ok(counts)
}

#[derive(Default)]
struct Later {
    scheduled: u64,
    retrying: u64,
}

/// Counts the waiting tasks of a queue that are not due yet, lane by lane.
fn count_later(snapshot: &Snapshot, number: NameId, now: i64) -> Result<Later, StoreError> {
    let ready = snapshot.ready()?;
    let end = ready_key(Lane::last_of(number), Place::MAX);
    let mut later = Later::default();
    let mut from = ready_key(Lane::first_of(number), Place::MIN);
    loop {
        let first = ready.range::<&[u8; READY_KEY_LEN]>(&from..=&end).map_err(backend)?.next();
        let Some(row) = first else { return Ok(later) };
        let (lane, _) = parse_ready_key(row.map_err(backend)?.0.value());
        let due = ready_key(lane, Place { run_at: now, id: u128::MAX });
        let lane_end = ready_key(lane, Place::MAX);
        for row in ready.range::<&[u8; READY_KEY_LEN]>(&due..=&lane_end).map_err(backend)? {
            let (key, flags) = row.map_err(backend)?;
            let (_, place) = parse_ready_key(key.value());
            let is_running =
                TaskId::from_u128(place.id).is_ok_and(|id| snapshot.running.contains_key(&id));
            if place.run_at <= now || is_running {
                continue;
            }
            if Flags(flags.value()).is_attempted() {
                later.retrying += 1;
            } else {
                later.scheduled += 1;
            }
        }
        // No task stands at the very end of a lane.
        from = lane_end;
    }
}
