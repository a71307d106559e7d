//! One write transaction: tasks are loaded, changed by the rules, and written as their net effect.
//!
//! An operation sees what the operations before it in the batch have done. Rows are derived from
//! what a task was before the batch and what it is at its end, so that a task that changes twice is
//! written once, and every index agrees with its record.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ergon_core::{
    Phase, Progress, StoreError, TaskId,
    time::{from_micros, to_micros},
    transition::has_left_scope,
};

use crate::{
    error::{backend, corrupt},
    journal::Recorder,
    key::{Lane, NameId, Place, queue_key},
    live::{Live, TaskState},
    queue::QueueRow,
    ready::{Flags, Waiting},
    record::{decode_body_head, decode_head},
    table::{QUARANTINE, Tables},
};

mod flush;
mod keys;
mod publish;
mod tell;

pub(crate) use self::{
    flush::{mark_of, marked_key, parse_started_note},
    publish::Effects,
};

/// What a task was when the batch first met it.
#[derive(Debug, Default)]
struct Before {
    phase: Option<Phase>,
    /// The queue it stood in, if it was there.
    queue: NameId,
    /// Its row in the ready index; a running task keeps it.
    ready: Option<Waiting>,
    has_head: bool,
    is_noted: bool,
    expires_at: Option<i64>,
}

/// A task of this batch.
#[derive(Debug)]
struct Touched {
    queue: NameId,
    before: Before,
    /// What it is now; `None` when it is removed.
    now: Option<Box<TaskState>>,
    /// The body of a new task.
    new_body: Option<Vec<u8>>,
    /// The head has to be written.
    is_changed: bool,
    /// The file has to say that the task runs.
    is_noted: bool,
}

impl Touched {
    fn of(state: Box<TaskState>, before: Before) -> Self {
        Self {
            queue: state.body.queue,
            is_noted: before.is_noted,
            before,
            now: Some(state),
            new_body: None,
            is_changed: false,
        }
    }
}

/// What an operation did to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    /// Nothing.
    Unchanged,
    /// It moved its progress.
    Changed,
    /// It removes the task.
    Removed,
}

/// One write transaction.
pub(crate) struct Batch<'t> {
    tables: Tables<'t>,
    live: Arc<Mutex<Live>>,
    touched: BTreeMap<TaskId, Touched>,
    queues: HashMap<NameId, QueueRow>,
    /// The largest id in the file: larger ones need not be looked for.
    newest: TaskId,
    /// Unique keys to forget at an instant.
    key_expiries: BTreeMap<i64, Vec<[u8; 32]>>,
    /// What happens, for those who watch.
    journal: Recorder,
    /// The transaction is the application's: what it did before is in the file, not in memory.
    is_foreign: bool,
    is_dirty: bool,
}

impl<'t> Batch<'t> {
    pub(crate) fn new(tables: Tables<'t>, live: Arc<Mutex<Live>>, newest: TaskId) -> Self {
        let journal = live.lock().unwrap_or_else(PoisonError::into_inner).journal.recorder();
        Self {
            tables,
            live,
            touched: BTreeMap::new(),
            queues: HashMap::new(),
            newest,
            key_expiries: BTreeMap::new(),
            journal,
            is_foreign: false,
            is_dirty: false,
        }
    }

    /// A batch in a transaction of the application.
    pub(crate) fn foreign(tables: Tables<'t>, live: Arc<Mutex<Live>>) -> Self {
        Self { is_foreign: true, ..Self::new(tables, live, TaskId::MAX) }
    }

    pub(crate) const fn tables(&mut self) -> &mut Tables<'t> {
        &mut self.tables
    }

    pub(crate) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a table was changed directly, so that the transaction has to be committed.
    pub(crate) const fn mark_dirty(&mut self) {
        self.is_dirty = true;
    }

    /// Says whether a task is in the file, or was added by this batch.
    pub(crate) fn exists(&mut self, id: TaskId) -> Result<bool, StoreError> {
        if let Some(touched) = self.touched.get(&id) {
            return Ok(touched.now.is_some());
        }
        if id > self.newest {
            return Ok(false);
        }
        let found = redb::ReadableTable::get(self.tables.body()?, &id.as_u128().to_be_bytes());
        Ok(found.map_err(backend)?.is_some())
    }

    /// Changes a task by the rules; `None` when it does not exist. A waiting one is out of the reach
    /// of claims from now on.
    ///
    /// A record that does not read back is [set aside](Self::set_aside) and not found.
    pub(crate) fn edit<T>(
        &mut self,
        id: TaskId,
        change: impl FnOnce(&mut TaskState) -> (T, Edit),
    ) -> Result<Option<T>, StoreError> {
        if !self.touched.contains_key(&id) && !self.take_running(&[id]) && !self.read(id)? {
            return Ok(None);
        }
        let Some(touched) = self.touched.get_mut(&id) else { return Ok(None) };
        let Some(state) = touched.now.as_deref_mut() else { return Ok(None) };
        let (answer, edit) = change(state);
        match edit {
            Edit::Unchanged => {}
            Edit::Removed => touched.now = None,
            Edit::Changed => {
                touched.is_changed = true;
                let unique = state.body.unique;
                let left = unique.filter(|it| has_left_scope(it.scope, &state.progress));
                if let Some(unique) = left {
                    self.free_key(&unique, id)?;
                }
            }
        }
        Ok(Some(answer))
    }

    /// Looks at a task as [`edit`](Self::edit) does.
    pub(crate) fn look<T>(
        &mut self,
        id: TaskId,
        look: impl FnOnce(&TaskState) -> T,
    ) -> Result<Option<T>, StoreError> {
        self.edit(id, |state| (look(state), Edit::Unchanged))
    }

    /// Takes the states of running tasks over from memory, all under one lock; says whether there
    /// was any. They go back when the batch is committed.
    pub(crate) fn take_running(&mut self, ids: &[TaskId]) -> bool {
        let shared = Arc::clone(&self.live);
        let mut live = shared.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the same lock, so that what was told of a task comes before what happens now.
        self.journal.absorb(live.journal.take_pending());
        let mut has_taken = false;
        for &id in ids {
            if self.touched.contains_key(&id) {
                continue;
            }
            let Some(claim) = live.running.get_mut(&id) else { continue };
            let Some(state) = claim.state.take() else { continue };
            let before = Before {
                phase: Some(Phase::Running),
                queue: state.body.queue,
                ready: Some(claim.waiting),
                has_head: claim.waiting.flags.has_head(),
                is_noted: claim.is_noted,
                expires_at: None,
            };
            self.touched.insert(id, Touched::of(state, before));
            has_taken = true;
        }
        has_taken
    }

    /// Reads a task from the file; says whether it is there.
    fn read(&mut self, id: TaskId) -> Result<bool, StoreError> {
        match self.read_record(id) {
            Ok(Some((state, before))) => {
                self.touched.insert(id, Touched::of(Box::new(state), before));
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(StoreError::Corrupt { what }) => self.set_aside(id, &what).map(|()| false),
            Err(error) => Err(error),
        }
    }

    fn read_record(&mut self, id: TaskId) -> Result<Option<(TaskState, Before)>, StoreError> {
        let key = id.as_u128().to_be_bytes();
        let Some(body) = Tables::read(self.tables.body()?, &key)? else { return Ok(None) };
        let body = decode_body_head(&body)?;
        let head = Tables::read(self.tables.head()?, &key)?;
        let has_head = head.is_some();
        let mut progress = match head {
            Some(head) => decode_head(&head)?,
            None => body.fresh(),
        };
        let mut before = Before {
            phase: Some(progress.phase),
            queue: body.queue,
            has_head,
            expires_at: progress.expires_at.map(to_micros),
            ..Before::default()
        };
        if progress.phase == Phase::Waiting {
            let waiting = waiting_of(id, &body, &progress, has_head);
            before.ready = Some(waiting);
            self.take_waiting(waiting, &mut progress, &mut before);
        }
        Ok(Some((TaskState { body, progress }, before)))
    }

    /// Takes a waiting task out of the reach of claims, or finds that one has just taken it.
    fn take_waiting(&mut self, waiting: Waiting, progress: &mut Progress, before: &mut Before) {
        let shared = Arc::clone(&self.live);
        let mut live = shared.lock().unwrap_or_else(PoisonError::into_inner);
        self.journal.absorb(live.journal.take_pending());
        let id = TaskId::from_u128(waiting.place.id).ok();
        // Between the look at the claims and here, a claim may have taken it.
        let Some((id, claim)) = id.and_then(|id| Some((id, live.running.get_mut(&id)?))) else {
            live.lanes.remove(waiting.lane, waiting.place);
            return;
        };
        let claimed_at = from_micros(claim.claimed_at);
        ergon_core::transition::claim(progress, claim.token, claimed_at);
        before.phase = Some(Phase::Running);
        before.is_noted = claim.is_noted;
        // The claim would tell of itself too late: something is about to happen to the task.
        if claim.attempt.replace(progress.attempt.saturating_add(1)).is_none() {
            let event = claim.started(progress.run_at);
            self.journal.task(claim.claimed_at, claim.key(id), &event);
        }
    }

    /// Adds a task that [does not exist](Self::exists).
    pub(crate) fn add(&mut self, id: TaskId, state: TaskState, body: Vec<u8>) {
        let before = self.touched.remove(&id).map(|gone| gone.before).unwrap_or_default();
        let mut touched = Touched::of(Box::new(state), before);
        touched.new_body = Some(body);
        // A task of the same id that this batch removed may have left a head.
        touched.is_changed = touched.before.has_head;
        self.touched.insert(id, touched);
    }

    /// Sees to it that the file says that a running task runs.
    pub(crate) fn note(&mut self, id: TaskId) -> Result<(), StoreError> {
        let is_running = self.look(id, |state| state.progress.phase == Phase::Running)?;
        if let Some(touched) = self.touched.get_mut(&id) {
            touched.is_noted |= is_running == Some(true);
        }
        Ok(())
    }

    /// Lets the file forget that a task runs, which it did when its owner died.
    pub(crate) fn forget_note(&mut self, id: TaskId) {
        if let Some(touched) = self.touched.get_mut(&id) {
            touched.before.is_noted = true;
            touched.is_noted = false;
        }
    }

    /// The row of a queue, to be changed.
    pub(crate) fn queue_row(&mut self, number: NameId) -> Result<&mut QueueRow, StoreError> {
        if !self.queues.contains_key(&number) {
            let row = if self.is_foreign { self.read_queue_row(number)? } else { None };
            let row = row.unwrap_or_else(|| self.live().queue(number).row);
            self.queues.insert(number, row);
        }
        Ok(self.queues.entry(number).or_default())
    }

    fn read_queue_row(&mut self, number: NameId) -> Result<Option<QueueRow>, StoreError> {
        let row = Tables::read(self.tables.body()?, &queue_key(number))?;
        row.map(|row| QueueRow::decode(&row)).transpose()
    }

    /// Sets a task aside whose record does not read back: nothing runs it or stumbles over it
    /// again, and its bytes stay in the file.
    pub(crate) fn set_aside(&mut self, id: TaskId, why: &str) -> Result<(), StoreError> {
        let key = id.as_u128().to_be_bytes();
        let transaction = self.tables.transaction();
        let mut table = transaction.open_table(QUARANTINE).map_err(backend)?;
        table.insert(&key, why).map_err(backend)?;
        self.is_dirty = true;
        Ok(())
    }

    /// Removes the row of a task that was set aside from the ready index.
    pub(crate) fn drop_ready(&mut self, waiting: Waiting) -> Result<(), StoreError> {
        let key = crate::key::ready_key(waiting.lane, waiting.place);
        if self.tables.ready()?.remove(&key).map_err(backend)?.is_some() {
            self.queue_row(waiting.lane.queue)?.count(Some(Phase::Waiting), None);
        }
        self.is_dirty = true;
        Ok(())
    }
}

/// Where a waiting task stands.
pub(crate) fn waiting_of(
    id: TaskId,
    body: &crate::record::BodyHead,
    progress: &Progress,
    has_head: bool,
) -> Waiting {
    Waiting {
        lane: Lane::new(body.queue, progress.priority, body.kind),
        place: Place::new(progress.run_at, id),
        flags: Flags::new(has_head, progress.attempt > 0),
    }
}

/// The id behind a key of the file.
pub(crate) fn parse_id(key: &[u8; 16]) -> Result<TaskId, StoreError> {
    TaskId::from_u128(u128::from_be_bytes(*key)).map_err(|error| corrupt(error.to_string()))
}
