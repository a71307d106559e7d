//! The writer: one thread, one transaction at a time, one commit for all that came meanwhile.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use ergon_core::{StoreError, TaskId, text::error_chain};
use redb::{ReadableTable, WriteTransaction};

use crate::{
    batch::{Batch, Effects, parse_id},
    error::backend,
    inbox::{Answer, Delivery, Operation},
    journal::Window,
    key::{Lane, Place, READY_KEY_LEN, parse_ready_key, queue_key, ready_key},
    queue::QueueRow,
    ready::Flags,
    shared::Shared,
    table::{BODY, META, READY, Tables},
};

/// Operations of one commit at the most, so that none waits long for its fellows. The caps are
/// chosen without measurement.
const OPERATIONS_MAX: usize = 512;
/// Bytes of one commit, about.
const BYTES_MAX: usize = 8 << 20;
/// A commit begins at the latest so long after its first operation did.
const COLLECT_MAX: Duration = Duration::from_millis(5);

/// How long a compaction waits before it looks again.
const READERS_PAUSE: Duration = Duration::from_millis(1);

/// The size of the file is looked at once in so many commits.
const SIZE_EVERY: u64 = 64;

/// How long a compaction waits for readers to end.
const COMPACT_WAIT_MAX: Duration = Duration::from_secs(1);

/// A task that has been running for so long is written down as running, so that the death of its
/// owner can be counted. Most tasks are done sooner and cost nothing.
const NOTE_AFTER: Duration = Duration::from_millis(25);

/// Runs until the inbox is closed; then writes down that the store was closed.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    newest: TaskId,
    /// Tells rows of the expiry index apart: rises over the incarnations of the store.
    number: u64,
    /// When a running task has to be written down, or something to be told of one.
    notes_at: Option<Instant>,
    commits: u64,
    is_large: bool,
}

/// The end of the writer, be it by a panic.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.inbox.close();
        if std::thread::panicking() {
            self.0.fail("the writer panicked");
        }
        self.0.inbox.abandon();
        // Whoever asked for a compaction in the last moment is told that the store is closed.
        self.0.compactions.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.0.wake.everybody();
    }
}

impl Writer {
    pub(crate) const fn new(shared: Arc<Shared>, newest: TaskId, incarnation: u64) -> Self {
        let number = incarnation << 40;
        Self { shared, newest, number, notes_at: None, commits: 0, is_large: false }
    }

    /// Carries out what waits already and fills the windows, before anybody can claim or ask for more.
    pub(crate) fn begin(&mut self) -> Result<(), StoreError> {
        let now = Some(Instant::now());
        while let Delivery::Operations(operations) =
            self.shared.inbox.receive(OPERATIONS_MAX, BYTES_MAX, now)
        {
            self.guarded(|writer| writer.commit(operations));
        }
        self.guarded(Self::refill);
        self.shared.check()
    }

    pub(crate) fn run(mut self) {
        // However this thread ends, nobody waits for it in vain.
        let _end = End(Arc::clone(&self.shared));
        loop {
            let notes_at = self.notes_at;
            let delivery = self.shared.inbox.receive(OPERATIONS_MAX, BYTES_MAX, notes_at);
            if matches!(delivery, Delivery::Closed) {
                break;
            }
            self.guarded(|writer| writer.turn(delivery));
        }
        if self.shared.check().is_ok() {
            self.guarded(Self::close);
        }
        if let Err(error) = self.shared.database.close() {
            self.shared.fail(&error.to_string());
        }
    }

    /// Does what has come, and what there is to do by itself.
    fn turn(&mut self, delivery: Delivery) -> Result<(), StoreError> {
        // A failed store has nothing to look after; what comes is told of the failure.
        self.notes_at = None;
        self.shared.check()?;
        // Before the commit, so that a claim that asked for it finds its window full.
        self.refill()?;
        match delivery {
            Delivery::Operations(operations) => {
                self.commit(operations)?;
                self.refill()?;
            }
            Delivery::Time if self.has_duties() => self.commit(Vec::new())?,
            Delivery::Time | Delivery::Closed => {}
        }
        self.compact();
        self.notes_at = self.next_note();
        Ok(())
    }

    /// Latches the store when something fails: what the medium holds is uncertain then.
    fn guarded(&mut self, work: impl FnOnce(&mut Self) -> Result<(), StoreError>) {
        let shared = Arc::clone(&self.shared);
        match catch_unwind(AssertUnwindSafe(|| work(self))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => shared.fail(&error_chain(&error)),
            Err(_panic) => shared.fail("the writer panicked"),
        }
    }

    fn commit(&mut self, operations: Vec<Box<dyn Operation>>) -> Result<(), StoreError> {
        // Operations that are dropped unanswered are told of the failure by the inbox.
        self.shared.check()?;
        let transaction = self.shared.database.begin_write()?;
        let mut batch = self.batch(&transaction)?;
        let mut answers = Vec::with_capacity(operations.len());
        let outcome = self.collect(&mut batch, operations, &mut answers).and_then(|()| {
            self.note_long_running(&mut batch)?;
            let number = &mut self.number;
            batch.flush(&mut || {
                *number += 1;
                *number
            })
        });
        let committed = outcome.and_then(|effects| self.finish(transaction, effects));
        let failure = committed.as_ref().err().map(|error| error_chain(error));
        for answer in answers {
            let failure = failure.clone();
            answer(failure.map(|reason| StoreError::Failed { reason }));
        }
        committed
    }

    /// Begins a batch, in the knowledge of what transactions of the application have done.
    fn batch<'t>(&mut self, transaction: &'t WriteTransaction) -> Result<Batch<'t>, StoreError> {
        let has_adopted = self.adopt(transaction)?;
        let tables = Tables::new(transaction);
        let mut batch = Batch::new(tables, Arc::clone(&self.shared.live), self.newest);
        if has_adopted {
            let known = self.shared.live().journal.window().newest;
            let (window, is_broken) = Window::read(batch.tables().journal()?)?;
            if window.newest > known {
                batch.adopt_journal(window, is_broken);
            }
        }
        Ok(batch)
    }

    fn collect(
        &self,
        batch: &mut Batch<'_>,
        operations: Vec<Box<dyn Operation>>,
        answers: &mut Vec<Answer>,
    ) -> Result<(), StoreError> {
        let began = Instant::now();
        let mut operations = operations.into_iter();
        while let Some(operation) = operations.next() {
            answers.push(operation.run(batch)?);
            if began.elapsed() > COLLECT_MAX {
                self.shared.inbox.put_back(operations);
                break;
            }
        }
        Ok(())
    }

    /// Commits, lets memory learn of it, and wakes who waits for it.
    fn finish(
        &mut self,
        mut transaction: WriteTransaction,
        effects: Effects,
    ) -> Result<(), StoreError> {
        self.newest = effects.newest();
        let is_large = effects.has_rows() && self.is_large();
        let gate = self.shared.gate.write().unwrap_or_else(PoisonError::into_inner);
        if effects.has_rows() {
            transaction.set_quick_repair(is_large);
            transaction.commit().map_err(backend)?;
        } else {
            transaction.abort().map_err(backend)?;
        }
        let notices = effects.publish(&mut self.shared.live());
        drop(gate);
        if notices.has_work {
            self.shared.wake.work.notify_waiters();
        }
        if notices.has_events {
            self.shared.wake.journal.notify_waiters();
        }
        self.shared.wake.finished(&notices.finished);
        Ok(())
    }

    /// Whether the file is so large that repairing it has to be quick. Asking for its size is a system
    /// call, so it is asked now and then.
    fn is_large(&mut self) -> bool {
        if self.commits.is_multiple_of(SIZE_EVERY) {
            let bytes = self.shared.database.file_bytes();
            self.is_large = bytes >= self.shared.quick_repair_from_bytes;
        }
        self.commits += 1;
        self.is_large
    }

    /// Writes down which tasks have been running for a while.
    fn note_long_running(&self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        let Some(before) = Instant::now().checked_sub(NOTE_AFTER) else { return Ok(()) };
        let ids = self.shared.live().unnoted_before(before);
        ids.into_iter().try_for_each(|id| batch.note(id))
    }

    /// When the next running task has to be written down, or something to be told of one.
    fn next_note(&self) -> Option<Instant> {
        let mut live = self.shared.live();
        let next = live.oldest_unnoted().map(|claimed| claimed + NOTE_AFTER);
        let tell_at = live.journal.tell_at();
        drop(live);
        self.shared.is_watching.store(next.is_some(), Ordering::Release);
        next.into_iter().chain(tell_at).min()
    }

    /// Whether there is something to commit though nobody waits for it.
    fn has_duties(&self) -> bool {
        let adoptions = self.shared.adoptions.lock().unwrap_or_else(PoisonError::into_inner);
        !adoptions.is_empty() || self.next_note().is_some_and(|at| at <= Instant::now())
    }

    /// Compacts the file, if somebody asked for it; readers hold it up for a while at the most.
    fn compact(&self) {
        let replies = std::mem::take(
            &mut *self.shared.compactions.lock().unwrap_or_else(PoisonError::into_inner),
        );
        for reply in replies {
            let began = Instant::now();
            let outcome = loop {
                match self.shared.database.compact() {
                    Err(StoreError::Conflict) if began.elapsed() < COMPACT_WAIT_MAX => {
                        std::thread::park_timeout(READERS_PAUSE);
                    }
                    outcome => break outcome,
                }
            };
            // A caller that is gone does not hear the answer; that changes nothing.
            drop(reply.send(outcome));
        }
    }

    /// Takes over what transactions of the application have added, and says whether they have. Having
    /// the write transaction means that theirs are over, one way or the other.
    fn adopt(&mut self, transaction: &WriteTransaction) -> Result<bool, StoreError> {
        let adoptions = || self.shared.adoptions.lock().unwrap_or_else(PoisonError::into_inner);
        if adoptions().is_empty() {
            return Ok(false);
        }
        self.shared.live().is_adopting = true;
        let adoptions = std::mem::take(&mut *adoptions());
        let bodies = transaction.open_table(BODY).map_err(backend)?;
        let ready = transaction.open_table(READY).map_err(backend)?;
        let mut has_work = false;
        for adoption in adoptions {
            let waiting = adoption.waiting;
            // An aborted enqueue may have been repeated with the same id and another place.
            let row = ready_key(waiting.lane, waiting.place);
            if ready.get(&row).map_err(backend)?.is_none() {
                continue;
            }
            let key = waiting.place.id.to_be_bytes();
            let queue = waiting.lane.queue;
            let row = bodies.get(&queue_key(queue)).map_err(backend)?;
            let row = row.map(|row| QueueRow::decode(row.value())).transpose()?;
            let mut live = self.shared.live();
            live.set_row(queue, row.unwrap_or_default());
            let id = parse_id(&key)?;
            // A window that was refilled meanwhile knows it already, and may have given it away.
            if !live.running.contains_key(&id) {
                live.lanes.insert(waiting);
            }
            self.newest = std::cmp::max(self.newest, id);
            has_work = true;
        }
        if has_work {
            self.shared.wake.work.notify_waiters();
        }
        Ok(has_work)
    }

    /// Refills the windows that run low.
    fn refill(&mut self) -> Result<(), StoreError> {
        if !self.shared.live().lanes.has_low() {
            return Ok(());
        }
        let snapshot = self.shared.database.begin_read()?;
        let ready = snapshot.open_table(READY).map_err(backend)?;
        loop {
            let (lane, bound, room) = {
                let live = self.shared.live();
                let Some((lane, bound)) = live.lanes.next_low() else { break };
                (lane, bound, live.lanes.window_max() / 2)
            };
            let (rows, bound) = read_lane(&ready, lane, bound, room)?;
            let mut live = self.shared.live();
            let running = &live.running;
            let rows: Vec<_> = rows
                .into_iter()
                .filter(|(place, _)| {
                    let id = TaskId::from_u128(place.id);
                    id.is_ok_and(|id| !running.contains_key(&id))
                })
                .collect();
            live.lanes.refill(lane, rows, bound);
        }
        self.shared.wake.work.notify_waiters();
        Ok(())
    }

    /// Writes down that the store was closed: what was running is given back, and no death of an
    /// owner is to be counted.
    fn close(&mut self) -> Result<(), StoreError> {
        let transaction = self.shared.database.begin_write()?;
        let mut batch = self.batch(&transaction)?;
        crate::dispatch::give_everything_back(&mut batch, &self.shared)?;
        batch.mark_dirty();
        let number = &mut self.number;
        let effects = batch.flush(&mut || {
            *number += 1;
            *number
        })?;
        {
            let mut meta = transaction.open_table(META).map_err(backend)?;
            meta.insert(crate::open::IS_CLEAN, 1).map_err(backend)?;
        }
        self.finish(transaction, effects)
    }
}

/// Rows of one lane, in their order.
type LaneRows = Vec<(Place, Flags)>;

/// Reads rows of a lane behind a place, and the last place that was read unless the lane ended.
pub(crate) fn read_lane(
    ready: &impl ReadableTable<&'static [u8; READY_KEY_LEN], u8>,
    lane: Lane,
    behind: Place,
    limit: usize,
) -> Result<(LaneRows, Option<Place>), StoreError> {
    use std::ops::Bound::{Excluded, Included};
    let (from, to) = (ready_key(lane, behind), ready_key(lane, Place::MAX));
    let mut rows = Vec::new();
    let range = (Excluded(&from), Included(&to));
    for row in ready.range::<&[u8; READY_KEY_LEN]>(range).map_err(backend)? {
        let (key, flags) = row.map_err(backend)?;
        rows.push((parse_ready_key(key.value()).1, Flags(flags.value())));
        if rows.len() >= limit {
            let last = rows.last().map(|&(place, _)| place);
            return Ok((rows, last));
        }
    }
    Ok((rows, None))
}
