//! One claim: taken out of the windows, then read from the file.

use std::{ops::RangeInclusive, sync::Arc, time::Instant};

use ergon_core::{
    StoreError, TaskId,
    record::ClaimedTask,
    store::{ClaimRequest, Held},
    time::{after, from_micros, to_micros},
    transition,
};
use redb::ReadOnlyTable;

use super::Known;
use crate::{
    error::backend,
    live::{Running, TaskState},
    ready::Waiting,
    record::{decode_body, decode_head},
    shared::Shared,
    table::{BODY, HEAD},
};

/// Claimed tasks that the caller does not have yet: they go back when this is dropped.
pub(super) struct Claim {
    shared: Arc<Shared>,
    held: Vec<Held>,
    tasks: Vec<ClaimedTask>,
    is_starved: bool,
}

impl Claim {
    pub(super) fn tasks(&self) -> &[ClaimedTask] {
        &self.tasks
    }

    /// Whether there is nothing only because a window has to be refilled.
    pub(super) const fn is_starved(&self) -> bool {
        self.is_starved && self.held.is_empty()
    }

    /// The tasks; they are the caller's from now on.
    pub(super) fn accept(mut self) -> Vec<ClaimedTask> {
        self.held.clear();
        std::mem::take(&mut self.tasks)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        for &held in &self.held {
            let shared = Arc::clone(&self.shared);
            let now = shared.clock.now();
            let given_back =
                self.shared.inbox.post(move |batch| super::give_back(batch, &shared, held, now));
            // A closed store gives everything back by itself.
            drop(given_back);
        }
    }
}

/// Claims what the request asks for.
pub(super) fn claim(shared: &Arc<Shared>, request: &ClaimRequest) -> Result<Claim, StoreError> {
    let now = request.now.resolve(&*shared.clock);
    let mut claim = Claim {
        shared: Arc::clone(shared),
        held: Vec::new(),
        tasks: Vec::new(),
        is_starved: false,
    };
    let (known, taken, is_starved) = take(shared, request, to_micros(now));
    claim.is_starved = is_starved;
    claim.held = taken.iter().map(|&(held, _)| held).collect();
    let states = read(shared, &known, &taken, now)?;
    claim.tasks = begin(shared, states);
    Ok(claim)
}

/// Begins the claims that were read, unless they are over already, and tells of them.
fn begin(shared: &Shared, states: Vec<(TaskState, ClaimedTask)>) -> Vec<ClaimedTask> {
    let mut tasks = Vec::with_capacity(states.len());
    let mut guard = shared.live();
    let live = &mut *guard;
    // From here on it is decided by this lock whether a watch that was answered learns of them.
    let is_watched = live.journal.is_watched();
    let mut must_nudge = false;
    for (state, task) in states {
        let running = live.running.get_mut(&task.id);
        let Some(running) = running.filter(|running| running.token == task.token) else { continue };
        // A commit may have changed the task since it was read.
        running.is_cancel_requested |= state.progress.cancel_requested;
        running.state.get_or_insert_with(|| Box::new(state));
        if running.attempt.replace(task.attempt).is_some() {
            // The commit has told of the claim.
        } else if is_watched {
            let (key, event) = (running.key(task.id), running.started(task.run_at));
            must_nudge |= live.journal.push(running.claimed_at, key, event);
        } else {
            live.journal.miss();
        }
        tasks.push(task);
    }
    drop(guard);
    if must_nudge {
        shared.inbox.nudge();
    }
    tasks
}

/// Takes tasks out of the windows: they are running from here on.
fn take(shared: &Shared, request: &ClaimRequest, now: i64) -> (Known, Vec<(Held, Waiting)>, bool) {
    let lease_until = to_micros(after(from_micros(now), request.lease));
    let instant = Instant::now();
    let mut live = shared.live();
    let mut known = Known::default();
    for kind in &*request.kinds {
        known.kinds.extend(live.names.kind_number(kind).map(|number| (number, kind.clone())));
    }
    let kinds = known.numbers();
    let mut taken = Vec::new();
    let mut is_starved = false;
    for wanted in &request.queues {
        let Some(number) = live.names.queue_number(&wanted.queue) else { continue };
        known.queues.push((number, wanted.queue.clone()));
        if live.queue(number).row.is_paused || live.is_closed {
            continue;
        }
        let room = std::cmp::min(wanted.slots, request.limit - taken.len());
        is_starved |= live.lanes.take(number, &kinds, now, room, &mut taken);
    }
    let held = taken.into_iter().filter_map(|waiting| {
        let id = TaskId::from_u128(waiting.place.id).ok()?;
        let token = live.next_token();
        let running = Running {
            token,
            server: request.server,
            lease: request.lease,
            lease_until,
            claimed_at: now,
            claimed: instant,
            renewed: instant,
            waiting,
            is_over: false,
            is_noted: false,
            is_cancel_requested: false,
            attempt: None,
            report: None,
            state: None,
        };
        live.start(waiting, running);
        Some((Held { id, token }, waiting))
    });
    let held = held.collect();
    (known, held, is_starved)
}

/// Reads the tasks from the file, each where the one before left off if it can.
///
/// A record that does not read back is set aside, and its task is not claimed.
fn read(
    shared: &Arc<Shared>,
    known: &Known,
    taken: &[(Held, Waiting)],
    now: jiff::Timestamp,
) -> Result<Vec<(TaskState, ClaimedTask)>, StoreError> {
    if taken.is_empty() {
        return Ok(Vec::new());
    }
    let snapshot = shared.database.begin_read()?;
    let mut bodies = Walk::new(snapshot.open_table(BODY).map_err(backend)?);
    let heads = snapshot.open_table(HEAD).map_err(backend)?;
    let mut read = Vec::with_capacity(taken.len());
    for &(held, waiting) in taken {
        match read_one(&mut bodies, &heads, known, held, waiting, now) {
            Ok(found) => read.push(found),
            Err(StoreError::Corrupt { what }) => set_aside(shared, held, waiting, what)?,
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

fn read_one(
    bodies: &mut Walk,
    heads: &ReadOnlyTable<&'static [u8; 16], &'static [u8]>,
    known: &Known,
    held: Held,
    waiting: Waiting,
    now: jiff::Timestamp,
) -> Result<(TaskState, ClaimedTask), StoreError> {
    let key = held.id.as_u128().to_be_bytes();
    let (body, spec) = bodies.get(&key, |record| {
        decode_body(record, |body| {
            let queue = known.queues.iter().find(|(number, _)| *number == body.queue);
            let kind = known.kinds.iter().find(|(number, _)| *number == body.kind);
            queue
                .zip(kind)
                .map(|((_, queue), (_, kind))| (queue.clone(), kind.clone()))
                .ok_or_else(|| crate::error::corrupt("a body does not match its index row"))
        })
    })?;
    let head = if waiting.flags.has_head() {
        heads.get(&key).map_err(backend)?.map(|record| decode_head(record.value())).transpose()?
    } else {
        None
    };
    let mut progress = head.unwrap_or_else(|| body.fresh());
    transition::claim(&mut progress, held.token, now);
    let task = ClaimedTask {
        id: held.id,
        token: held.token,
        spec,
        priority: progress.priority,
        attempt: progress.attempt.saturating_add(1),
        max_attempts: progress.max_attempts,
        crash_count: progress.crash_count,
        created_at: from_micros(body.created_at),
        run_at: progress.run_at,
        claimed_at: now,
    };
    Ok((TaskState { body, progress }, task))
}

/// Has the writer set a task aside, so that it does not come back.
fn set_aside(
    shared: &Arc<Shared>,
    held: Held,
    waiting: Waiting,
    what: String,
) -> Result<(), StoreError> {
    shared.live().end(held.id);
    shared.inbox.post(move |batch| {
        batch.set_aside(held.id, &what)?;
        batch.drop_ready(waiting)
    })
}

type Key = &'static [u8; 16];
type Record = &'static [u8];

/// Reads records by rising keys: one that follows soon is reached by walking on, which is many
/// times cheaper than looking for it anew.
struct Walk {
    table: ReadOnlyTable<Key, Record>,
    range: Option<redb::Range<'static, Key, Record>>,
}

/// Rows passed by before looking anew is cheaper; chosen without measurement.
const WALK_MAX: usize = 4;

impl Walk {
    const fn new(table: ReadOnlyTable<Key, Record>) -> Self {
        Self { table, range: None }
    }

    fn get<T>(
        &mut self,
        key: &[u8; 16],
        decode: impl FnOnce(&[u8]) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if let Some(range) = &mut self.range {
            for _ in 0..WALK_MAX {
                let Some(row) = range.next() else { break };
                let (found, record) = row.map_err(backend)?;
                match found.value().cmp(key) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => return decode(record.value()),
                    std::cmp::Ordering::Greater => break,
                }
            }
        }
        let rows: RangeInclusive<&[u8; 16]> = key..=&[u8::MAX; 16];
        let range = self.range.insert(self.table.range::<&[u8; 16]>(rows).map_err(backend)?);
        match range.next() {
            Some(row) => {
                let (found, record) = row.map_err(backend)?;
                if found.value() == key {
                    decode(record.value())
                } else {
                    Err(crate::error::corrupt("a task of the ready index has no body"))
                }
            }
            None => Err(crate::error::corrupt("a task of the ready index has no body")),
        }
    }
}
