//! Makes operations, steers them and carries them out.

use std::{future::Future, time::Duration};

use jiff::Timestamp;

use super::{
    Manager,
    reading::{read_all, read_one, unwritable},
};
use crate::{
    command::{Applied, Selection},
    document::{Document, DocumentRange, Expect, Put, PutVerdict, Space},
    error::StoreError,
    filter::{Count, Order, Page, TaskFilter},
    id::{ServerId, TaskId},
    limits::PAGE_MAX,
    operation::{
        self, Done, KEY_OPEN, NewOperation, Operation, OperationId, OperationState, Preview,
        Stepped, Turn,
    },
    outcome::check_limit,
    text::error_chain,
    time::{Now, after, between},
    transition::check_command,
};

/// Most operations that are open at once, as far as those who look for work see.
const OPEN_MAX: usize = 1_000;

/// How often a write is tried again that others come before.
const TRIES_MAX: usize = 16;

/// Tasks that a preview shows.
const PREVIEWED: usize = 20;

/// Longest pause of somebody who waits for others to carry an operation on.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What is open without an operation for so long never got one.
const ORPHANED_AFTER: Duration = Duration::from_secs(60);

/// Makes operations, steers them and carries them out; see [`operation`] for what is guaranteed.
///
/// ```
/// use ergon_core::{
///     Client, Command, Manager, State, TaskFilter,
///     audit::Actor,
///     operation::{NewOperation, OperationState},
/// };
/// use ergon_testing::MemoryStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new();
/// for name in ["Ada", "Grace"] {
///     Client::new(store.clone()).enqueue_json("greet", name).await?;
/// }
///
/// let manager = Manager::new(store);
/// let (filter, cancel) = (TaskFilter::all(), Command::Cancel { reason: "moot".into() });
/// assert_eq!(manager.operations().preview(&filter).await?.matching.value, 2);
/// let new = NewOperation::new(filter, cancel, Actor::new("ana")).note("ticket 7");
/// let made = manager.operations().create(new).await?;
/// // Any server would carry it out as well.
/// let ended = manager.operations().run_to_end(made.id, tokio::time::sleep).await?.unwrap();
/// assert_eq!((ended.state, ended.changed), (OperationState::Finished, 2));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Operations<'m> {
    manager: &'m Manager,
}

impl<'m> Operations<'m> {
    pub(super) const fn new(manager: &'m Manager) -> Self {
        Self { manager }
    }

    /// Says what an operation of this filter would meet: how many tasks, and the oldest 20 of them.
    ///
    /// # Errors
    ///
    /// What the store reports.
    pub async fn preview(&self, filter: &TaskFilter) -> Result<Preview, StoreError> {
        let store = self.manager.store();
        let matching = store.count(filter, Now::Store).await?;
        let page = Page::of(PREVIEWED).order(Order::OldestFirst);
        let page = store.list(filter, &page, Now::Store).await?;
        Ok(Preview { matching, first: page.tasks.iter().map(|task| task.id).collect() })
    }

    /// Makes an operation. Servers begin to carry it out within a few seconds; the server of this process
    /// does at once, if the manager is [its own].
    ///
    /// It is for the tasks that match now: those with ids up to the newest of them.
    ///
    /// [its own]: Manager::on_operation
    ///
    /// # Errors
    ///
    /// [`StoreError::Rejected`] when no task could take the command; what the store reports.
    pub async fn create(&self, new: NewOperation) -> Result<Operation, StoreError> {
        let (store, now) = (self.manager.store(), self.manager.now());
        let text_max = store.capabilities().limits.error_bytes_max;
        let command = check_command(new.command, text_max, now).map_err(StoreError::rejected)?;
        let new = NewOperation { command, ..new };
        let expected = store.count(&new.filter, Now::Store).await?;
        let newest = store.list(&new.filter, &Page::of(1), Now::Store).await?;
        // A page without a task says how far there is none.
        let until = newest.tasks.first().map(|task| task.id).or(newest.next);
        let id = OperationId::make(self.manager.ids(), now);
        let mut operation = new.make(id, now, expected, until.unwrap_or(TaskId::MIN));
        if until.is_none() {
            operation.expected = Count { value: 0, is_exact: true };
            operation.set_state(OperationState::Finished, now);
        }
        let open = Put::new(Space::Operation, operation::key_open(id), "");
        let put = operation::put(&operation, Expect::Absent).map_err(unwritable)?;
        let puts = if until.is_some() { vec![open, put] } else { vec![put] };
        let verdicts = store.put(&puts).await?;
        if verdicts.contains(&PutVerdict::Conflict) {
            return Err(StoreError::Conflict);
        }
        self.manager.tell_operation();
        Ok(operation)
    }

    /// Reads an operation; `None` when there is none, or not any more.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] when this version cannot read it; what the store reports.
    pub async fn get(&self, id: OperationId) -> Result<Option<Operation>, StoreError> {
        Ok(self.read(id).await?.map(|(operation, _)| operation))
    }

    /// Reads a page of 1 to 1,000 operations, the newest first: behind `after`, or from the newest on.
    /// Those that this version cannot read are left out, so that only an empty page is the last one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Rejected`] when the limit is out of range; what the store reports.
    pub async fn list(
        &self,
        limit: usize,
        after: Option<OperationId>,
    ) -> Result<Vec<Operation>, StoreError> {
        check_limit(limit, PAGE_MAX)?;
        let range = DocumentRange::prefix(Space::Operation, operation::KEY).reversed();
        let range = match after {
            Some(after) => range.to(operation::key(after)),
            None => range,
        };
        let mut operations = Vec::new();
        read_all(&**self.manager.store(), range, limit, |document| {
            operations.extend(Operation::read(&document));
        })
        .await?;
        Ok(operations)
    }

    /// The operations that are not over, the oldest first; at most 1,000.
    ///
    /// # Errors
    ///
    /// What the store reports.
    pub async fn open(&self) -> Result<Vec<OperationId>, StoreError> {
        let range = DocumentRange::prefix(Space::Operation, KEY_OPEN);
        let mut open = Vec::new();
        read_all(&**self.manager.store(), range, OPEN_MAX, |document| {
            open.extend(OperationId::of_open(&document.key));
        })
        .await?;
        Ok(open)
    }

    /// Halts an operation: at most the page under way is still carried out. `None` when there is no such
    /// operation; one that is over stays as it is.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); [`StoreError::Conflict`] when others write it again and again.
    pub async fn pause(&self, id: OperationId) -> Result<Option<Operation>, StoreError> {
        self.set_state(id, OperationState::Paused).await
    }

    /// Lets a halted operation go on. `None` when there is no such operation.
    ///
    /// # Errors
    ///
    /// As [`pause`](Self::pause).
    pub async fn resume(&self, id: OperationId) -> Result<Option<Operation>, StoreError> {
        let resumed = self.set_state(id, OperationState::Running).await?;
        self.manager.tell_operation();
        Ok(resumed)
    }

    /// Ends an operation; what was done stays done. `None` when there is no such operation.
    ///
    /// # Errors
    ///
    /// As [`pause`](Self::pause).
    pub async fn stop(&self, id: OperationId) -> Result<Option<Operation>, StoreError> {
        let stopped = self.set_state(id, OperationState::Stopped).await?;
        self.close(id).await?;
        Ok(stopped)
    }

    async fn set_state(
        &self,
        id: OperationId,
        state: OperationState,
    ) -> Result<Option<Operation>, StoreError> {
        let now = self.manager.now();
        self.change(id, |operation| operation.set_state(state, now)).await
    }

    /// Carries an operation out to its end, or until it is paused. While another process works on it,
    /// this one waits for it. `pause` waits for so long, such as `tokio::time::sleep`. `None` when there
    /// is no such operation.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step).
    ///
    /// # Cancel safety
    ///
    /// As [`step`](Self::step); somebody else carries it on.
    pub async fn run_to_end<F, P>(
        &self,
        id: OperationId,
        pause: P,
    ) -> Result<Option<Operation>, StoreError>
    where
        F: Future<Output = ()>,
        P: Fn(Duration) -> F,
    {
        loop {
            let Some(stepped) = self.step(id).await? else { return Ok(None) };
            let Some(next_at) = stepped.next_at else { return Ok(Some(stepped.operation)) };
            let left = between(self.manager.now(), next_at);
            if !left.is_zero() {
                pause(std::cmp::min(left, LOOK_AGAIN)).await;
            }
        }
    }

    /// Carries out the next page of an operation, if it is this manager's turn; `None` when there is no
    /// such operation.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get). A command that the store refuses stops the operation, and is no error here.
    ///
    /// # Cancel safety
    ///
    /// A page may be carried out that is not written down: it is carried out again.
    pub async fn step(&self, id: OperationId) -> Result<Option<Stepped>, StoreError> {
        let me = self.manager.owner();
        let now = self.manager.now();
        let Some((mut operation, version)) = self.read(id).await? else {
            self.close_orphan(id, now).await?;
            return Ok(None);
        };
        match operation.turn(me, now) {
            Turn::Mine => {}
            Turn::Claim => {
                operation.own(me, now);
                if self.put(&operation, version).await?.is_none() {
                    // Somebody was faster; whose turn it is now is found out next.
                    return Ok(Some(Stepped { operation, met: 0, next_at: Some(now) }));
                }
            }
            Turn::Later(at) => {
                return Ok(Some(Stepped { operation, met: 0, next_at: Some(at) }));
            }
            Turn::Nobody => {
                if operation.state.is_over() {
                    self.close(id).await?;
                }
                return Ok(Some(Stepped { operation, met: 0, next_at: None }));
            }
        }
        let done = self.carry_out(&operation).await;
        self.write_down(id, me, done).await
    }

    /// Carries out a page.
    async fn carry_out(&self, operation: &Operation) -> Result<Done, StoreError> {
        let store = self.manager.store();
        let page = store.list(&operation.filter, &operation.page(), Now::Store).await?;
        let (ids, cursor) = operation.of_page(&page);
        if ids.is_empty() {
            return Ok(Done { verdicts: Vec::new(), cursor });
        }
        let Applied { verdicts, .. } =
            self.manager.control().apply(&Selection::Ids(ids), &operation.command).await?;
        Ok(Done { verdicts, cursor })
    }

    /// Writes down what came of a page, in whatever state the operation is by now.
    async fn write_down(
        &self,
        id: OperationId,
        me: ServerId,
        done: Result<Done, StoreError>,
    ) -> Result<Option<Stepped>, StoreError> {
        let refused = match &done {
            Err(error @ StoreError::Rejected { .. }) => Some(error_chain(error)),
            Ok(_) | Err(_) => None,
        };
        let done = match done {
            Err(error) if refused.is_none() => return Err(error),
            Ok(done) => done,
            Err(_refused) => Done { verdicts: Vec::new(), cursor: None },
        };
        let now = self.manager.now();
        let changed = self.change(id, |operation| {
            match &refused {
                Some(error) => operation.refuse(error.clone(), now),
                // Whoever took over carries the same page out again, and counts it.
                None if operation.owner.is_some() && !operation.is_owned_by(me) => return false,
                None => operation.note(me, &done, now),
            }
            true
        });
        let Some(operation) = changed.await? else { return Ok(None) };
        if operation.state.is_over() {
            self.close(id).await?;
        }
        let next_at = match operation.turn(me, now) {
            Turn::Mine | Turn::Claim => Some(now),
            Turn::Later(at) => Some(at),
            Turn::Nobody => None,
        };
        Ok(Some(Stepped { operation, met: done.verdicts.len(), next_at }))
    }

    /// Changes an operation, however often others come before; `change` says whether it changed
    /// anything.
    async fn change(
        &self,
        id: OperationId,
        change: impl Fn(&mut Operation) -> bool,
    ) -> Result<Option<Operation>, StoreError> {
        for _ in 0..TRIES_MAX {
            let Some((mut operation, version)) = self.read(id).await? else { return Ok(None) };
            if !change(&mut operation) || self.put(&operation, version).await?.is_some() {
                return Ok(Some(operation));
            }
        }
        Err(StoreError::Conflict)
    }

    /// Reads an operation and its version.
    async fn read(&self, id: OperationId) -> Result<Option<(Operation, u64)>, StoreError> {
        let range = DocumentRange::one(Space::Operation, operation::key(id));
        let Some(document) = read_one(&**self.manager.store(), range).await? else {
            return Ok(None);
        };
        let unreadable = || StoreError::Corrupt { what: format!("operation {id}") };
        let Document { version, .. } = document;
        Ok(Some((Operation::read(&document).ok_or_else(unreadable)?, version)))
    }

    /// Writes an operation in the place of this version; `None` when another one is there.
    async fn put(&self, operation: &Operation, version: u64) -> Result<Option<()>, StoreError> {
        let put = operation::put(operation, Expect::Version(version)).map_err(unwritable)?;
        let verdicts = self.manager.store().put(&[put]).await?;
        Ok(matches!(verdicts.first(), Some(PutVerdict::Done { .. })).then_some(()))
    }

    /// Says that an operation is over.
    async fn close(&self, id: OperationId) -> Result<(), StoreError> {
        let put = Put::remove(Space::Operation, operation::key_open(id));
        self.manager.store().put(&[put]).await.map(drop)
    }

    /// The same of one that is open and does not exist, unless it is about to be made.
    async fn close_orphan(&self, id: OperationId, now: Timestamp) -> Result<(), StoreError> {
        if after(id.made_at(), ORPHANED_AFTER) < now { self.close(id).await } else { Ok(()) }
    }
}
