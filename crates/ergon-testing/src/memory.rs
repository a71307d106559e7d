//! `MemoryStore`: the reference model of a store, to be read as the specification.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ergon_core::{
    Clock, Event, KindName, Limits, Now, Phase, Progress, QueueName, Retention, Rng, ServerId,
    SystemClock, SystemRng, TaskEvent, TaskId, TaskRecord, TaskSpec, Token, UniqueScope,
    event::TaskRef, report::KeptReport, time::between, transition,
};
use jiff::Timestamp;
use tokio::sync::Notify;

use self::{
    document::Documents,
    journal::{Journal, Window},
};

mod control;
mod dispatch;
mod document;
mod enqueue;
mod inspect;
mod journal;
mod maintain;
mod observe;

/// A store in memory that obeys every law of [`ergon_core::store`] in the plainest way.
///
/// It is the model that other stores are compared with, and the store for tests of applications: it
/// scans everything, sorts it and takes what was asked for. There is no index, no cache and no
/// thread. With the same calls, the same ids, a clock that tests turn and a
/// [journal](MemoryStoreBuilder::journal) of the same number, it answers the same.
///
/// Where the laws leave a choice, it takes this one:
///
/// * Tokens are one counter for the whole store: each claim gets the next number, from 1.
/// * A beat renews a claim whose lease is over, as long as no sweep took the task back.
/// * An id that is stored is [`AlreadyExists`](ergon_core::store::Inserted::AlreadyExists),
///   whatever its unique key. So is a new task whose key is held by its own id, as a pruned task
///   may hold one.
/// * A key held [for a time](UniqueScope::For) is held until that time is over, also when the task
///   is finished or pruned before; only [`Command::Delete`](ergon_core::Command::Delete) frees it
///   earlier.
/// * Sweeps take the earliest first: by end of lease, or of retention, then by id.
/// * An invalid lease or limit is refused before an empty request is answered.
/// * A place that a watcher kept outlives its lease. Of those whose lease is over, the one that is over
///   for longest makes room for a new watcher.
/// * While nobody watches, who reads at the end of the journal is told so with every read.
///
/// Cheap to clone; clones share one store. Nothing is durable. A call takes time in proportion to
/// the number of tasks stored.
///
/// ```
/// # use ergon_core::{Client, EnqueueError, Manager};
/// # use ergon_testing::MemoryStore;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new();
/// let client = Client::new(store.clone());
/// client.enqueue_json("greet", "Ada").await?;
///
/// let queues = Manager::new(store).tasks().queues().await?;
/// assert_eq!(queues[0].counts.total(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Arc<dyn Clock>,
    limits: Limits,
    retention: Retention,
    model: Mutex<Model>,
    /// Rings after every change.
    changed: Notify,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store on the machine's clock, with the default limits and retention.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// An empty store, with choices.
    pub fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder {
            clock: Arc::new(SystemClock),
            limits: Limits::default(),
            retention: Retention::default(),
            journal: SystemRng.next_u64(),
            window: Window::default(),
        }
    }

    /// The clock that decides what is due.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    /// The next instant after `now` at which a task comes due or a lease ends; queues that are
    /// paused do not count.
    pub(crate) fn next_instant(&self, now: Timestamp) -> Option<Timestamp> {
        let model = self.read();
        let instants = model.tasks.values().filter_map(|entry| match entry.lease {
            Some(lease) => Some(lease.until),
            None if entry.progress.phase == Phase::Waiting
                && !model.is_paused(&entry.spec.queue) =>
            {
                Some(entry.progress.run_at)
            }
            None => None,
        });
        instants.filter(|&instant| instant > now).min()
    }

    fn now(&self, now: Now) -> Timestamp {
        now.resolve(&*self.shared.clock)
    }

    /// Reads the model: nothing changes meanwhile.
    fn read(&self) -> MutexGuard<'_, Model> {
        let model = self.shared.model.lock();
        // No change can panic half way, so what a panicking thread left behind is whole.
        model.unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the model and records what happened, in one atomic step, then wakes everybody who
    /// waits.
    fn write<R>(&self, change: impl FnOnce(&mut Model, &mut Vec<Event>) -> R) -> R {
        let mut events = Vec::new();
        let mut model = self.read();
        let answer = change(&mut model, &mut events);
        // Who watches is decided by the clock of the store, whatever instant the request names.
        model.journal.record(events, self.shared.clock.now());
        drop(model);
        self.shared.changed.notify_waiters();
        answer
    }
}

/// Chooses how a [`MemoryStore`] works.
#[derive(Clone, Debug)]
#[must_use]
pub struct MemoryStoreBuilder {
    clock: Arc<dyn Clock>,
    limits: Limits,
    retention: Retention,
    journal: u64,
    window: Window,
}

impl MemoryStoreBuilder {
    /// The clock that decides what is due. Default: the machine's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// How large things may be, up to the caps. Default: [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits.capped();
        self
    }

    /// How long finished tasks are kept. Default: [`Retention::default`].
    pub const fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// The number of the journal, by which cursors of other stores are recognised. Default: drawn at
    /// random.
    pub const fn journal(mut self, number: u64) -> Self {
        self.journal = number;
        self
    }

    /// About how many bytes of events the journal keeps; the newest entry is always kept. Default
    /// 64 MiB.
    pub const fn journal_bytes_max(mut self, bytes: usize) -> Self {
        self.window.bytes_max = bytes;
        self
    }

    /// How long the journal keeps events, by the clock of the store. Default one hour.
    pub const fn journal_age_max(mut self, age: Duration) -> Self {
        self.window.age_max = age;
        self
    }

    /// The store, empty.
    #[must_use]
    pub fn build(self) -> MemoryStore {
        let journal = Journal::new(self.journal, self.window);
        MemoryStore {
            shared: Arc::new(Shared {
                clock: self.clock,
                limits: self.limits,
                retention: self.retention,
                model: Mutex::new(Model::new(journal)),
                changed: Notify::new(),
            }),
        }
    }
}

/// Everything that the store knows.
#[derive(Debug)]
struct Model {
    tasks: BTreeMap<TaskId, Entry>,
    /// Who holds a unique key, by its hash.
    keys: BTreeMap<[u8; 32], Holder>,
    queues: BTreeMap<QueueName, Queue>,
    documents: Documents,
    /// The token of the newest claim.
    newest_token: u64,
    journal: Journal,
}

#[derive(Debug)]
struct Entry {
    spec: TaskSpec,
    created_at: Timestamp,
    progress: Progress,
    /// Whose claim it is and how long it lives; there is one exactly while the task is running.
    lease: Option<Lease>,
    /// How far it has come, while it runs.
    report: Option<KeptReport>,
}

impl Entry {
    /// What happened to this task now, in its newest attempt.
    fn event(&self, id: TaskId, attempt: u16, event: TaskEvent, at: Timestamp) -> Event {
        let TaskSpec { queue, kind, .. } = &self.spec;
        let task = TaskRef { id, queue: queue.clone(), kind: kind.clone(), attempt };
        Event::task(at, task, event)
    }

    /// The attempt that runs, or else the last one, counted from 1; 0 before the first.
    fn newest_attempt(&self) -> u16 {
        let Progress { phase, attempt, .. } = self.progress;
        if phase == Phase::Running { attempt.saturating_add(1) } else { attempt }
    }

    /// How long the newest claim is held, or was.
    fn ran(&self, now: Timestamp) -> Duration {
        self.progress.started_at.map_or(Duration::ZERO, |started_at| between(started_at, now))
    }

    fn record(&self, id: TaskId, now: Timestamp) -> TaskRecord {
        TaskRecord {
            id,
            spec: self.spec.clone(),
            created_at: self.created_at,
            progress: self.progress.clone(),
            state: self.progress.state(now),
            report: self.report.clone(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    server: ServerId,
    until: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    id: TaskId,
    /// When the key becomes free, if time alone decides.
    until: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Queue {
    is_paused: bool,
}

impl Model {
    fn new(journal: Journal) -> Self {
        Self {
            tasks: BTreeMap::new(),
            keys: BTreeMap::new(),
            queues: BTreeMap::new(),
            documents: Documents::new(),
            newest_token: 0,
            journal,
        }
    }

    /// Changes one task, and sees to what follows from any change: a task that is not running has
    /// neither lease nor report, and one that left the scope of its unique key does not hold it. `None` when there
    /// is no such task.
    fn change<R>(&mut self, id: TaskId, change: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let entry = self.tasks.get_mut(&id)?;
        let answer = change(entry);
        if entry.progress.phase != Phase::Running {
            entry.lease = None;
            entry.report = None;
        }
        let key = entry.spec.unique;
        let has_left = |scope: UniqueScope| transition::has_left_scope(scope, &entry.progress);
        if let Some(key) = key.filter(|key| has_left(key.scope)) {
            self.free_key(&key.hash, id);
        }
        Some(answer)
    }

    /// Frees a unique key, if this task holds it.
    fn free_key(&mut self, hash: &[u8; 32], id: TaskId) {
        if self.keys.get(hash).is_some_and(|holder| holder.id == id) {
            self.keys.remove(hash);
        }
    }

    /// Who holds a unique key at `now`.
    fn holder(&self, hash: &[u8; 32], now: Timestamp) -> Option<TaskId> {
        let holder = self.keys.get(hash)?;
        let is_over = holder.until.is_some_and(|until| until <= now);
        (!is_over).then_some(holder.id)
    }

    /// The tasks that a server could be given, in the order in which it is given them.
    fn due(&self, queue: &QueueName, kinds: &[KindName], now: Timestamp) -> Vec<TaskId> {
        if self.is_paused(queue) {
            return Vec::new();
        }
        let mut due: Vec<_> = self
            .tasks
            .iter()
            .filter(|(_, entry)| {
                entry.spec.queue == *queue
                    && kinds.contains(&entry.spec.kind)
                    && entry.progress.phase == Phase::Waiting
                    && entry.progress.run_at <= now
            })
            .map(|(&id, Entry { progress, .. })| {
                (std::cmp::Reverse(progress.priority), progress.run_at, id)
            })
            .collect();
        due.sort_unstable();
        due.into_iter().map(|(_, _, id)| id).collect()
    }

    /// Gives a waiting task to a server, with the next token.
    fn claim(&mut self, id: TaskId, lease: Lease, now: Timestamp) {
        self.newest_token += 1;
        let token = Token::new(self.newest_token);
        self.change(id, |entry| {
            transition::claim(&mut entry.progress, token, now);
            entry.lease = Some(lease);
        });
    }

    fn is_paused(&self, queue: &QueueName) -> bool {
        self.queues.get(queue).is_some_and(|queue| queue.is_paused)
    }

    /// When a task of these kinds comes due in these queues; in the past when one is.
    fn next_due(&self, queues: &[QueueName], kinds: &[KindName]) -> Option<Timestamp> {
        let waiting = self.tasks.values().filter(|Entry { spec, progress, .. }| {
            progress.phase == Phase::Waiting
                && queues.contains(&spec.queue)
                && kinds.contains(&spec.kind)
                && !self.is_paused(&spec.queue)
        });
        waiting.map(|entry| entry.progress.run_at).min()
    }
}

#[cfg(test)]
mod tests;
