//! Counts by state, from maintained counters.
//!
//! Scheduled, retrying and pending tasks are one stored phase. Of the waiting tasks only those that
//! are not due yet, and the first of each lane, are looked at in the ready index, never the backlog.

use ergon_core::{State, StoreError, TaskId, store::StateCounts, time::from_micros};
use jiff::Timestamp;
use redb::AccessGuard;

use super::Snapshot;
use crate::{
    error::backend,
    key::{Lane, NameId, Place, READY_KEY_LEN, parse_ready_key, ready_key},
    ready::Flags,
};

/// The tasks of a queue by state, at `now` in microseconds, and when the one came due that waits for
/// longest.
pub(crate) fn of_queue(
    snapshot: &Snapshot,
    number: NameId,
    now: i64,
) -> Result<(StateCounts, Option<Timestamp>), StoreError> {
    let queue = snapshot.queue(number);
    let mut counts = StateCounts::default();
    counts.add(State::Running, queue.running);
    counts.add(State::Completed, queue.row.completed);
    counts.add(State::Failed, queue.row.failed);
    counts.add(State::Cancelled, queue.row.cancelled);
    let Waiting { later, oldest } = look(snapshot, number, now)?;
    counts.add(State::Scheduled, later.scheduled);
    counts.add(State::Retrying, later.retrying);
    let others = queue.running + later.scheduled + later.retrying;
    counts.add(State::Pending, queue.row.open.saturating_sub(others));
    let oldest_due_at = oldest.filter(|oldest| *oldest <= now).map(from_micros);
    Ok((counts, oldest_due_at))
}

/// What the ready index tells of a queue.
#[derive(Default)]
struct Waiting {
    later: Later,
    /// When the first waiting task is due.
    oldest: Option<i64>,
}

type Row = Result<
    (AccessGuard<'static, &'static [u8; READY_KEY_LEN]>, AccessGuard<'static, u8>),
    redb::StorageError,
>;

#[derive(Default)]
struct Later {
    scheduled: u64,
    retrying: u64,
}

/// Finds the first waiting task of a queue and counts those that are not due yet, lane by lane.
fn look(snapshot: &Snapshot, number: NameId, now: i64) -> Result<Waiting, StoreError> {
    let ready = snapshot.ready()?;
    let end = ready_key(Lane::last_of(number), Place::MAX);
    let Waiting { mut later, mut oldest } = Waiting::default();
    let mut from = ready_key(Lane::first_of(number), Place::MIN);
    loop {
        let mut rows = ready.range::<&[u8; READY_KEY_LEN]>(&from..=&end).map_err(backend)?;
        let Some(row) = rows.next() else { return Ok(Waiting { later, oldest }) };
        let (lane, place) = parse_ready_key(row.map_err(backend)?.0.value());
        let first = first_waiting(snapshot, lane, place, rows)?;
        oldest = [oldest, first].into_iter().flatten().min();
        let due = ready_key(lane, Place { run_at: now, id: u128::MAX });
        let lane_end = ready_key(lane, Place::MAX);
        for row in ready.range::<&[u8; READY_KEY_LEN]>(&due..=&lane_end).map_err(backend)? {
            let (key, flags) = row.map_err(backend)?;
            let (_, place) = parse_ready_key(key.value());
            if place.run_at <= now || is_running(snapshot, place) {
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

/// When the first task of a lane is due that is not running: running ones, which keep their rows,
/// are few, and stand before it.
fn first_waiting(
    snapshot: &Snapshot,
    lane: Lane,
    mut place: Place,
    rows: impl Iterator<Item = Row>,
) -> Result<Option<i64>, StoreError> {
    let mut behind = rows;
    while is_running(snapshot, place) {
        let Some(row) = behind.next() else { return Ok(None) };
        let (row, _) = row.map_err(backend)?;
        let (next_lane, next) = parse_ready_key(row.value());
        if next_lane != lane {
            return Ok(None);
        }
        place = next;
    }
    Ok(Some(place.run_at))
}

fn is_running(snapshot: &Snapshot, place: Place) -> bool {
    TaskId::from_u128(place.id).is_ok_and(|id| snapshot.running.contains_key(&id))
}
