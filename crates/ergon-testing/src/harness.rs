//! A store under test, and what a conformance case needs around it.

#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a harness fails its test by panicking, when a store answers what no case allows"
)]

mod fixture;
mod reader;
mod snapshot;
mod told;

use std::{
    any::Any,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use ergon_core::{
    ClaimedTask, Command, CommandVerdict, Conclusion, Event, IntoStore, KindName, NewTask, Now,
    Outcome, QueueName, Selection, ServerId, Store, StoreError, Tag, TaskId, TaskRecord, TaskSpec,
    Token, Verdict,
    store::{
        Beat, BeatReply, ClaimRequest, Held, Inserted, PruneRequest, QueueSlots, Report,
        RescueRequest,
    },
    time::{after, from_micros, to_micros},
};
use jiff::Timestamp;

pub use self::{
    fixture::*,
    reader::{Reader, by_task, watcher},
    snapshot::Snapshot,
    told::{Told, ToldTask, tell},
};

/// When a harness begins: 2024-01-01T00:00:00Z, in microseconds since 1970.
const START_MICROS: i64 = 1_704_067_200_000_000;

/// A store under test with an instant of its own, deterministic ids and builders.
///
/// Every request names the harness's instant, so that no case depends on the store's clock and none
/// sleeps. The store begins empty, with the default [`Limits`](ergon_core::Limits) and
/// [`Retention`](ergon_core::Retention). Clones share the store, the instant and the ids.
///
/// Unless a method says otherwise, it panics when the store answers an error.
#[derive(Clone)]
pub struct Harness {
    /// The store under test.
    pub store: Arc<dyn Store>,
    now_micros: Arc<AtomicI64>,
    ids: Arc<AtomicU64>,
    /// Dropped after the store: the order of the fields is the order of their drop.
    guards: Vec<Arc<dyn Any + Send + Sync>>,
}

impl fmt::Debug for Harness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harness")
            .field("store", &self.store)
            .field("now", &self.instant())
            .field("guards", &self.guards.len())
            .finish_non_exhaustive()
    }
}

impl Harness {
    /// Puts an empty store under test.
    #[must_use]
    pub fn new(store: impl IntoStore) -> Self {
        Self {
            store: store.into_store(),
            now_micros: Arc::new(AtomicI64::new(START_MICROS)),
            ids: Arc::new(AtomicU64::new(0)),
            guards: Vec::new(),
        }
    }

    /// Keeps something alive as long as the store, such as the directory of its file.
    #[must_use]
    pub fn guard(mut self, guard: impl Send + Sync + 'static) -> Self {
        self.guards.push(Arc::new(guard));
        self
    }
}

/// Time and ids.
impl Harness {
    /// The present instant, for a request.
    #[must_use]
    pub fn now(&self) -> Now {
        Now::At(self.instant())
    }

    /// The present instant. Begins at 2024-01-01T00:00:00Z.
    #[must_use]
    pub fn instant(&self) -> Timestamp {
        from_micros(self.now_micros.load(Ordering::SeqCst))
    }

    /// The instant `delay` from now.
    #[must_use]
    pub fn later(&self, delay: Duration) -> Timestamp {
        after(self.instant(), delay)
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let now_micros = to_micros(self.later(by));
        self.now_micros.store(now_micros, Ordering::SeqCst);
    }

    /// Makes an id larger than every one made before.
    #[must_use]
    pub fn id(&self) -> TaskId {
        let millis = u64::try_from(self.instant().as_millisecond()).unwrap();
        TaskId::from_parts(millis, self.ids.fetch_add(1, Ordering::SeqCst), 0)
    }
}

/// New tasks.
impl Harness {
    /// A task of kind [`KIND`] for the default queue, due at once, and nothing else chosen.
    #[must_use]
    pub fn task(&self) -> NewTask {
        NewTask::new(self.id(), TaskSpec::new(kind(KIND), "{}"))
    }

    /// A [`task`](Self::task) with changes.
    #[must_use]
    pub fn task_with(&self, change: impl FnOnce(&mut NewTask)) -> NewTask {
        let mut task = self.task();
        change(&mut task);
        task
    }

    /// So many tasks with consecutive ids.
    #[must_use]
    pub fn tasks(&self, len: usize) -> Vec<NewTask> {
        (0..len).map(|_| self.task()).collect()
    }

    /// So many tasks of one pack: ids that differ in their offset alone. At most
    /// [`PACK_LEN_MAX`](ergon_core::id::PACK_LEN_MAX).
    #[must_use]
    pub fn pack(&self, len: usize) -> Vec<NewTask> {
        let first = self.id();
        let at = |offset: usize| first.with_offset(u16::try_from(offset).unwrap());
        (0..len).map(|offset| NewTask { id: at(offset), ..self.task() }).collect()
    }

    /// Inserts tasks.
    pub async fn insert(&self, tasks: &[NewTask]) -> Vec<Inserted> {
        let inserted = self.try_insert(tasks).await.unwrap();
        assert_eq!(inserted.len(), tasks.len(), "one answer a task");
        inserted
    }

    /// Inserts tasks that the store may refuse.
    ///
    /// # Errors
    ///
    /// What the store answers.
    pub async fn try_insert(&self, tasks: &[NewTask]) -> Result<Vec<Inserted>, StoreError> {
        self.store.insert(tasks, self.now()).await
    }

    /// Inserts tasks that have to be created, and answers their ids.
    pub async fn create(&self, tasks: &[NewTask]) -> Vec<TaskId> {
        let inserted = self.insert(tasks).await;
        let first_bad = inserted.iter().find(|&&answer| answer != Inserted::Created);
        assert_eq!(first_bad, None, "every task has to be created");
        tasks.iter().map(|task| task.id).collect()
    }

    /// Inserts a task that has to be created.
    pub async fn insert_one(&self, task: NewTask) -> TaskId {
        let id = task.id;
        assert_eq!(self.insert(&[task]).await, [Inserted::Created], "{id}");
        id
    }

    /// Inserts a [`task`](Self::task) with changes.
    pub async fn add(&self, change: impl FnOnce(&mut NewTask)) -> TaskId {
        self.insert_one(self.task_with(change)).await
    }
}

/// Claims and what becomes of them.
impl Harness {
    /// A request of [`SERVER`] for up to so many tasks of kind [`KIND`] from the default queue.
    #[must_use]
    pub fn request(&self, slots: usize) -> ClaimRequest {
        self.request_from(slots, &[QueueName::DEFAULT])
    }

    /// A request of [`SERVER`] for up to so many tasks of kind [`KIND`] from each of these queues.
    #[must_use]
    pub fn request_from(&self, slots: usize, queues: &[&str]) -> ClaimRequest {
        let queues = queues.iter().map(|name| QueueSlots { queue: queue(name), slots });
        ClaimRequest::new(SERVER, [kind(KIND)], queues).now(self.now())
    }

    /// Claims up to so many tasks of kind [`KIND`] from the default queue.
    pub async fn claim(&self, slots: usize) -> Vec<ClaimedTask> {
        self.claim_by(&self.request(slots)).await
    }

    /// Claims as another server.
    pub async fn claim_as(&self, server: ServerId, slots: usize) -> Vec<ClaimedTask> {
        let mut request = self.request(slots);
        request.server = server;
        self.claim_by(&request).await
    }

    /// Claims with a request of the case's making.
    pub async fn claim_by(&self, request: &ClaimRequest) -> Vec<ClaimedTask> {
        let claimed = self.store.claim(request).await.unwrap();
        assert!(claimed.len() <= request.limit, "a claim exceeds its limit");
        claimed
    }

    /// Claims the one task that is due.
    pub async fn claim_one(&self) -> ClaimedTask {
        let mut claimed = self.claim(2).await;
        assert_eq!(claimed.len(), 1, "one task has to be due: {claimed:?}");
        claimed.remove(0)
    }

    /// Ends a claim.
    pub async fn finish(&self, claimed: &ClaimedTask, conclusion: Conclusion) -> Verdict {
        self.settle(claimed.id, claimed.token, conclusion).await
    }

    /// Ends a claim that has to be live.
    pub async fn conclude(&self, claimed: &ClaimedTask, conclusion: Conclusion) {
        let verdict = self.finish(claimed, conclusion).await;
        assert_eq!(verdict, Verdict::Applied, "{}", claimed.id);
    }

    /// Writes an outcome under any token.
    pub async fn settle(&self, id: TaskId, token: Token, conclusion: Conclusion) -> Verdict {
        let verdicts = self.finish_all(&[Outcome { id, token, conclusion }]).await;
        verdicts[0]
    }

    /// Writes outcomes.
    pub async fn finish_all(&self, outcomes: &[Outcome]) -> Vec<Verdict> {
        let verdicts = self.store.finish(outcomes, self.now()).await.unwrap();
        assert_eq!(verdicts.len(), outcomes.len(), "one verdict an outcome");
        verdicts
    }

    /// Renews claims for the default lease.
    pub async fn beat(&self, server: ServerId, held: &[Held]) -> BeatReply {
        let beat = Beat::new(server, held.to_vec()).now(self.now());
        self.store.beat(&beat).await.unwrap()
    }

    /// Takes back what dead servers hold, with the default limits.
    pub async fn rescue(&self) -> Report {
        self.rescue_by(RescueRequest::default()).await
    }

    /// Takes back what dead servers hold, now. The report is told without its events, which have to
    /// be one a task.
    pub async fn rescue_by(&self, request: RescueRequest) -> Report {
        let request = request.now(self.now());
        let mut report = self.store.rescue_expired(&request).await.unwrap();
        assert_eq!(report.events.len(), report.done, "an event a task: {report:?}");
        report.events.clear();
        report
    }

    /// Removes what outlived its retention, with the default limit.
    pub async fn prune(&self) -> Report {
        self.prune_by(PruneRequest::default()).await
    }

    /// Removes what outlived its retention, now. The report is told without its events, which have
    /// to be one that counts the tasks, or none.
    pub async fn prune_by(&self, request: PruneRequest) -> Report {
        let request = request.now(self.now());
        let mut report = self.store.prune(&request).await.unwrap();
        let tasks = u64::try_from(report.done).unwrap();
        let expected = (tasks > 0).then(|| Event::pruned(self.instant(), tasks));
        assert_eq!(report.events, Vec::from_iter(expected), "one event in all");
        report.events.clear();
        report
    }
}

/// Reads and commands.
impl Harness {
    /// Reads a task that has to exist.
    pub async fn get(&self, id: TaskId) -> TaskRecord {
        let found = self.find(id).await;
        assert!(found.is_some(), "task {id} is gone");
        found.unwrap()
    }

    /// Reads a task.
    pub async fn find(&self, id: TaskId) -> Option<TaskRecord> {
        let mut found = self.store.tasks(&[id], self.now()).await.unwrap();
        assert_eq!(found.len(), 1, "one answer an id");
        let task = found.remove(0);
        assert!(task.as_ref().is_none_or(|task| task.id == id), "the task asked for");
        task
    }

    /// Orders something of one task.
    pub async fn apply(&self, id: TaskId, command: Command) -> CommandVerdict {
        let applied = self.apply_to(Selection::Ids(vec![id]), command).await;
        assert!(applied.verdicts.len() == 1 && !applied.more, "{applied:?}");
        assert_eq!(applied.verdicts[0].0, id);
        applied.verdicts[0].1
    }

    /// Orders something of selected tasks.
    pub async fn apply_to(&self, selection: Selection, command: Command) -> ergon_core::Applied {
        let applied = self.store.apply(&selection, &command, self.now()).await.unwrap();
        assert_eq!(applied.events.len(), applied.changed(), "an event a change: {applied:?}");
        applied
    }

    /// Pauses or resumes a queue; says whether it was otherwise before.
    pub async fn set_queue(&self, name: &str, change: ergon_core::store::QueueChange) -> bool {
        self.store.set_queue(&queue(name), &change).await.unwrap()
    }
}

/// The name of a kind.
#[must_use]
pub fn kind(name: &str) -> KindName {
    KindName::new(name).unwrap()
}

/// The name of a queue.
#[must_use]
pub fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

/// A tag.
#[must_use]
pub fn tag(text: &str) -> Tag {
    Tag::new(text).unwrap()
}
