//! Claims tasks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use ergon_core::{
    ClaimedTask, Metadata, State, StoreError, TaskId, TaskSpec, Token,
    store::{ClaimRequest, QueueSlots},
};
use jiff::Timestamp;
use sqlx::{postgres::PgRow, types::Json};
use uuid::Uuid;

use super::claims::Run;
use crate::{
    error::corrupt,
    shared::{Shared, given},
    spec::{Options, Stored},
    value::{Instant, column, place, small, task_id},
};

/// How many tasks the rows of `ready` held that were claimed last, in hundredths: by it a claim
/// guesses how many rows it needs.
#[derive(Debug)]
pub(crate) struct RowLen(AtomicUsize);

impl Default for RowLen {
    fn default() -> Self {
        Self(AtomicUsize::new(100))
    }
}

impl RowLen {
    /// Rows enough for so many tasks, if they are as long as those before.
    fn rows_for(&self, tasks: usize) -> usize {
        let guess = tasks.saturating_mul(100).div_ceil(std::cmp::max(100, self.0.load(Relaxed)));
        std::cmp::min(tasks, guess.saturating_add(guess / 4).saturating_add(1))
    }

    fn learn(&self, rows: usize, tasks: usize) {
        let seen = tasks.saturating_mul(100) / std::cmp::max(1, rows);
        // Half of the way: one odd claim changes little.
        let old = self.0.load(Relaxed);
        self.0.store(old / 2 + seen / 2 + 1, Relaxed);
    }
}

/// What one statement gave.
struct Given {
    tasks: Vec<ClaimedTask>,
    /// Whether it looked at as many rows as it was allowed to.
    was_cut: bool,
}

impl Shared {
    pub(super) async fn claim(self: &Arc<Self>, request: &ClaimRequest) -> Result<Vec<ClaimedTask>, StoreError> {
        self.names.ensure_kinds(&self.database, &self.sql, request.kinds.iter()).await?;
        let kinds: Vec<i32> = request.kinds.iter().filter_map(|kind| self.names.kind(kind)).collect();
        let mut claimed = Vec::new();
        for pass in passes(&request.queues) {
            let mut slots: Vec<usize> = pass.iter().map(|queue| queue.slots).collect();
            loop {
                let open: Vec<_> = pass
                    .iter()
                    .zip(&slots)
                    .filter(|(_, slots)| **slots > 0)
                    .map(|(queue, &slots)| QueueSlots { queue: queue.queue.clone(), slots })
                    .collect();
                let room = request.limit - claimed.len();
                if open.is_empty() || room == 0 || kinds.is_empty() {
                    break;
                }
                let given = self.claim_once(request, &kinds, &open, room).await?;
                for task in &given.tasks {
                    let at = pass.iter().position(|queue| queue.queue == task.spec.queue);
                    if let Some(slots) = at.and_then(|at| slots.get_mut(at)) {
                        *slots = slots.saturating_sub(1);
                    }
                }
                claimed.extend(given.tasks);
                if !given.was_cut {
                    break;
                }
            }
        }
        Ok(claimed)
    }

    /// Sends one statement for queues that are all different.
    async fn claim_once(
        self: &Arc<Self>,
        request: &ClaimRequest,
        kinds: &[i32],
        queues: &[QueueSlots],
        room: usize,
    ) -> Result<Given, StoreError> {
        let names: Vec<&str> = queues.iter().map(|queue| queue.queue.as_str()).collect();
        let number = |slots: usize| i32::try_from(slots).unwrap_or(i32::MAX);
        let slots: Vec<i32> = queues.iter().map(|queue| number(queue.slots)).collect();
        let wanted = queues.iter().fold(0_usize, |sum, queue| sum.saturating_add(queue.slots));
        let rows_max = self.row_len.rows_for(std::cmp::min(wanted, room));
        // With one queue, twice as many rows are enough: those that are late, and those that are not.
        // With more, a queue must not take the rows of the next.
        let all_max = if queues.len() == 1 { rows_max.saturating_mul(2) } else { usize::MAX };
        let lease = i64::try_from(request.lease.as_micros()).unwrap_or(i64::MAX / 4);
        let (lanes, bounds) = self.bounds.columns();
        let query = self
            .sql
            .claim
            .with(names)
            .with(slots)
            .with(kinds)
            .with(number(rows_max))
            .with(i64::try_from(all_max).unwrap_or(i64::MAX))
            .with(number(room))
            .with(Uuid::from_u128(request.server.as_u128()))
            .with(std::cmp::min(lease, i64::MAX / 4))
            .with(given(request.now))
            .with(lanes)
            .with(bounds);
        let rows = self.database.rows(|| query.query()).await?;
        let tasks = self.claimed(&rows).await?;
        let found = rows.first().map(|row| place::<i64>(row, 2)).transpose()?.unwrap_or(0);
        let was_cut = usize::try_from(found).unwrap_or(0) >= rows_max && tasks.len() < std::cmp::min(wanted, room);
        Ok(Given { tasks, was_cut })
    }

    /// Reads what a claim answered, and notes the claim.
    async fn claimed(self: &Arc<Self>, rows: &[PgRow]) -> Result<Vec<ClaimedTask>, StoreError> {
        let mut tasks = Vec::with_capacity(rows.len());
        let mut runs = BTreeMap::new();
        let mut token = 0;
        for row in rows {
            let (lane, kind): (i32, i32) = (column(row, "lane")?, column(row, "kind")?);
            if self.names.lane_by_id(lane).is_none() || self.names.kind_by_id(kind).is_none() {
                self.names.refresh(&mut self.each(), &self.sql).await?;
            }
            token = small::<u64, i64>(column(row, "token")?)?;
            self.claimed_run(row, token, &mut tasks, &mut runs)?;
        }
        if !rows.is_empty() {
            let (mut lanes, mut ranges) = (BTreeSet::new(), BTreeSet::new());
            for row in rows {
                lanes.insert(column::<i32>(row, "lane")?);
                ranges.insert(column::<i64>(row, "place_in_claim")?);
            }
            self.row_len.learn(ranges.len(), tasks.len());
            self.note_rows(&lanes, ranges.len());
            self.claims.note(token, runs);
        }
        Ok(tasks)
    }

    /// Reads one row: the tasks of a claimed range that one row of `pack` holds.
    fn claimed_run(
        &self,
        row: &PgRow,
        token: u64,
        tasks: &mut Vec<ClaimedTask>,
        runs: &mut BTreeMap<TaskId, Run>,
    ) -> Result<(), StoreError> {
        let (lane, kind): (i32, i32) = (column(row, "lane")?, column(row, "kind")?);
        let lane = self.names.lane_by_id(lane).ok_or_else(|| corrupt(format!("lane {lane}")))?;
        let kind = self.names.kind_by_id(kind).ok_or_else(|| corrupt(format!("kind {kind}")))?;
        let options: Option<Json<Options>> = column(row, "options")?;
        let retention = options.as_ref().and_then(|Json(options)| options.retention());
        let is_unique = options.as_ref().is_some_and(|Json(options)| options.is_unique());
        let own: bool = column(row, "own")?;
        let stored = Stored {
            kind,
            queue: lane.queue.clone(),
            options,
            metadata: column::<Option<Json<Metadata>>>(row, "metadata")?,
            tags: column::<Option<Json<Vec<String>>>>(row, "tags")?,
        };
        let spec = stored.spec(Bytes::new())?;
        let (skip, stop): (i32, i32) = (column(row, "skip")?, column(row, "stop")?);
        let first = task_id(column(row, "pack")?, small::<i16, i32>(
            i32::from(column::<i16>(row, "pack_first")?) + skip,
        )?)?;
        let n: u16 = small(stop - skip)?;
        let retention = self.retention.chosen_by(retention).of(State::Completed);
        let run = Run {
            n,
            lane: lane.id,
            queue: lane.queue_id,
            retention: i64::try_from(retention.as_micros()).unwrap_or(i64::MAX / 4),
            is_plain: !own && !is_unique,
        };
        runs.insert(first, run);
        let attempt = small::<u16, i32>(column(row, "attempt")?)?;
        let task = ClaimedTask {
            id: first,
            token: Token::new(token),
            spec: TaskSpec { payload: Bytes::new(), ..spec },
            priority: lane.priority,
            attempt: attempt.saturating_add(1),
            max_attempts: small::<u16, i32>(column(row, "max_attempts")?)?,
            crash_count: small::<u16, i32>(column(row, "crash_count")?)?,
            created_at: instant(row, "created_at")?,
            run_at: instant(row, "run_at")?,
            claimed_at: instant(row, "now")?,
        };
        let payload = Bytes::copy_from_slice(column(row, "payload")?);
        let at: i32 = column(row, "payload_at")?;
        let ends: Option<Vec<i32>> = column(row, "ends")?;
        for (index, payload) in payloads(&payload, at, ends.as_deref(), n)?.into_iter().enumerate() {
            let offset = first.offset() + small::<u16, usize>(index)?;
            let mut task = task.clone();
            task.id = first.with_offset(offset);
            task.spec.payload = payload;
            tasks.push(task);
        }
        Ok(())
    }
}

fn instant(row: &PgRow, name: &str) -> Result<Timestamp, StoreError> {
    Ok(column::<Instant>(row, name)?.0)
}

/// Cuts payloads that lie end to end: the first begins at `at` of the row in `pack`, and `ends` tells
/// where each ends; without it there is one.
fn payloads(
    payload: &Bytes,
    at: i32,
    ends: Option<&[i32]>,
    n: u16,
) -> Result<Vec<Bytes>, StoreError> {
    let wrong = || corrupt("the ends of payloads");
    let Some(ends) = ends else {
        return if n == 1 { Ok(vec![payload.clone()]) } else { Err(wrong()) };
    };
    if ends.len() != usize::from(n) {
        return Err(wrong());
    }
    let mut begin = 0_usize;
    let mut cut = Vec::with_capacity(ends.len());
    for end in ends {
        let end = usize::try_from(end - at).map_err(|_negative| wrong())?;
        if end < begin || end > payload.len() {
            return Err(wrong());
        }
        cut.push(payload.slice(begin..end));
        begin = end;
    }
    Ok(cut)
}

/// Splits queues so that none stands twice in a part.
fn passes(queues: &[QueueSlots]) -> Vec<Vec<&QueueSlots>> {
    let mut passes: Vec<Vec<&QueueSlots>> = Vec::new();
    for queue in queues.iter().filter(|queue| queue.slots > 0) {
        match passes.last_mut() {
            Some(pass) if pass.iter().all(|other| other.queue != queue.queue) => pass.push(queue),
            _ => passes.push(vec![queue]),
        }
    }
    passes
}

#[cfg(test)]
mod tests {
    use ergon_core::QueueName;

    use super::*;

    #[test]
    fn a_queue_that_stands_twice_is_asked_twice() {
        let queue = |name: &str, slots| QueueSlots { queue: QueueName::new(name).unwrap(), slots };
        let queues = [queue("a", 1), queue("b", 0), queue("b", 2), queue("a", 3), queue("b", 1)];
        let shown: Vec<Vec<usize>> = passes(&queues)
            .iter()
            .map(|pass| pass.iter().map(|queue| queue.slots).collect())
            .collect();
        assert_eq!(shown, [vec![1, 2], vec![3, 1]]);
    }

    #[test]
    fn payloads_are_cut_at_their_ends() {
        let bytes = Bytes::from_static(b"onetwo");
        assert_eq!(payloads(&bytes, 10, Some(&[13, 16]), 2).unwrap(), ["one", "two"]);
        assert_eq!(payloads(&bytes, 0, None, 1).unwrap(), ["onetwo"]);
        assert!(payloads(&bytes, 0, None, 2).is_err());
        assert!(payloads(&bytes, 10, Some(&[9]), 1).is_err());
        assert!(payloads(&bytes, 0, Some(&[7]), 1).is_err());
    }

    #[test]
    fn a_claim_asks_for_as_many_rows_as_its_tasks_may_need() {
        let len = RowLen::default();
        assert_eq!((len.rows_for(1), len.rows_for(100)), (1, 100));
        for _ in 0..20 {
            len.learn(1, 1_000);
        }
        assert!(len.rows_for(1_000) < 10);
    }
}
