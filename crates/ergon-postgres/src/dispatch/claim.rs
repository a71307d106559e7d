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
    ClaimedTask, KindName, Metadata, Retention, State, StoreError, TaskId, Token,
    store::{ClaimRequest, QueueSlots},
};
use jiff::Timestamp;
use sqlx::{postgres::PgRow, types::Json};
use uuid::Uuid;

use super::claims::Run;
use crate::{
    error::corrupt,
    name::{Lane, Names},
    shared::{Shared, given},
    spec::{Options, Stored},
    value::{Instant, place, small, task_id},
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
    pub(super) async fn claim(
        self: &Arc<Self>,
        request: &ClaimRequest,
    ) -> Result<Vec<ClaimedTask>, StoreError> {
        let (database, deadline) = (&self.database, self.database.deadline());
        let knowing = self.names.ensure_kinds(database, &self.sql, request.kinds.iter());
        database.until(deadline, Box::pin(knowing)).await?;
        let kinds: Vec<i32> =
            request.kinds.iter().filter_map(|kind| self.names.kind(kind)).collect();
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
                let claiming = Box::pin(self.claim_once(request, &kinds, &open, room));
                let given = match database.until(deadline, claiming).await {
                    Ok(given) => given,
                    Err(error) if claimed.is_empty() => return Err(error),
                    // What was claimed is not lost with a later statement.
                    Err(_) => return Ok(claimed),
                };
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
        let found = rows.first().map(|row| place::<i64>(row, FOUND)).transpose()?.unwrap_or(0);
        let was_cut = usize::try_from(found).unwrap_or(0) >= rows_max
            && tasks.len() < std::cmp::min(wanted, room);
        Ok(Given { tasks, was_cut })
    }

    /// Reads what a claim answered, and notes the claim.
    async fn claimed(self: &Arc<Self>, rows: &[PgRow]) -> Result<Vec<ClaimedTask>, StoreError> {
        let Some(row) = rows.first() else { return Ok(Vec::new()) };
        if place(row, RECORDED)? {
            self.ring_journal();
        }
        let token = small::<u64, i64>(place(row, TOKEN)?)?;
        let mut claimed = Claimed {
            token,
            now: place::<Instant>(row, NOW)?.0,
            retention: self.retention,
            like: None,
            tasks: Vec::with_capacity(rows.len()),
            runs: BTreeMap::new(),
        };
        let (mut lanes, mut ranges, mut last) = (BTreeSet::new(), 0, None);
        for row in rows {
            let lane = place::<i32>(row, LANE)?;
            let range = Some(place::<i64>(row, RANGE)?);
            ranges += usize::from(range != last);
            last = range;
            if lanes.insert(lane) && self.names.lane_by_id(lane).is_none() {
                self.names.refresh(&mut self.each(), &self.sql).await?;
            }
            claimed.read(row, &self.names)?;
        }
        let Claimed { tasks, runs, .. } = claimed;
        self.row_len.learn(ranges, tasks.len());
        self.note_rows(&lanes, ranges);
        self.claims.note(token, runs);
        Ok(tasks)
    }
}

// The columns of claim.sql, by their places.
const TOKEN: usize = 0;
const NOW: usize = 1;
const FOUND: usize = 2;
const RANGE: usize = 3;
const PACK: usize = 4;
const LANE: usize = 5;
const KIND: usize = 6;
const RUN_AT: usize = 7;
const OWN: usize = 8;
const CREATED_AT: usize = 9;
const PACK_FIRST: usize = 10;
const SKIP: usize = 11;
const STOP: usize = 12;
const MAX_ATTEMPTS: usize = 13;
const ATTEMPT: usize = 14;
const CRASH_COUNT: usize = 15;
const OPTIONS: usize = 16;
const METADATA: usize = 17;
const TAGS: usize = 18;
const PAYLOAD: usize = 19;
const PAYLOAD_AT: usize = 20;
const ENDS: usize = 21;
const RECORDED: usize = 22;

/// What a claim gave, while it is read.
struct Claimed {
    token: u64,
    now: Timestamp,
    retention: Retention,
    /// Lane and kind of the row before, which most often are those of the next.
    like: Option<(i32, i32, Lane, KindName)>,
    tasks: Vec<ClaimedTask>,
    runs: BTreeMap<TaskId, Run>,
}

impl Claimed {
    /// Reads one row: the tasks of a claimed range that one row of `pack` holds.
    fn read(&mut self, row: &PgRow, names: &Names) -> Result<(), StoreError> {
        let (lane, kind_id): (i32, i32) = (place(row, LANE)?, place(row, KIND)?);
        if self.like.as_ref().is_none_or(|like| (like.0, like.1) != (lane, kind_id)) {
            let known = names.lane_by_id(lane).ok_or_else(|| corrupt(format!("lane {lane}")))?;
            let name = names.kind_by_id(kind_id);
            let name = name.ok_or_else(|| corrupt(format!("kind {kind_id}")))?;
            self.like = Some((lane, kind_id, known, name));
        }
        let Some((_, _, lane, kind)) = &self.like else { return Ok(()) };
        let stored = Stored {
            kind: kind.clone(),
            queue: lane.queue.clone(),
            options: place::<Option<Json<Options>>>(row, OPTIONS)?,
            metadata: place::<Option<Json<Metadata>>>(row, METADATA)?,
            tags: place::<Option<Json<Vec<String>>>>(row, TAGS)?,
        };
        let retention = stored.options.as_ref().and_then(|Json(options)| options.retention());
        let is_unique = stored.options.as_ref().is_some_and(|Json(options)| options.is_unique());
        let (skip, stop): (i32, i32) = (place(row, SKIP)?, place(row, STOP)?);
        let first = i32::from(place::<i16>(row, PACK_FIRST)?) + skip;
        let first = task_id(place(row, PACK)?, small(first)?)?;
        let n: u16 = small(stop - skip)?;
        let retention = self.retention.chosen_by(retention).of(State::Completed);
        let run = Run {
            n,
            lane: lane.id,
            queue: lane.queue_id,
            kind: kind_id,
            // What is added to an instant has to leave one that Postgres knows.
            retention: std::cmp::min(
                i64::try_from(retention.as_micros()).unwrap_or(i64::MAX),
                i64::MAX / 4,
            ),
            is_plain: !place::<bool>(row, OWN)? && !is_unique,
        };
        self.runs.insert(first, run);
        let attempt = small::<u16, i32>(place(row, ATTEMPT)?)?;
        let task = ClaimedTask {
            id: first,
            token: Token::new(self.token),
            priority: lane.priority,
            spec: stored.spec(Bytes::new())?,
            attempt: attempt.saturating_add(1),
            max_attempts: small::<u16, i32>(place(row, MAX_ATTEMPTS)?)?,
            crash_count: small::<u16, i32>(place(row, CRASH_COUNT)?)?,
            created_at: place::<Instant>(row, CREATED_AT)?.0,
            run_at: place::<Instant>(row, RUN_AT)?.0,
            claimed_at: self.now,
        };
        let payload = Bytes::copy_from_slice(place(row, PAYLOAD)?);
        let at: i32 = place(row, PAYLOAD_AT)?;
        let ends: Option<Vec<i32>> = place(row, ENDS)?;
        for (index, payload) in payloads(&payload, at, ends.as_deref(), n)?.into_iter().enumerate()
        {
            let offset = first.offset() + small::<u16, usize>(index)?;
            let mut task = task.clone();
            task.id = first.with_offset(offset);
            task.spec.payload = payload;
            self.tasks.push(task);
        }
        Ok(())
    }
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
