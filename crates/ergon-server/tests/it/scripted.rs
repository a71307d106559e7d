//! A store that answers what a test scripted, beyond the failures that pass by themselves.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use ergon_core::{
    Applied, ClaimedTask, Command, Count, KindName, NewTask, Now, Outcome, Page, QueueName,
    Selection, ServerId, StoreError, TaskFilter, TaskId, TaskPage, TaskRecord, Verdict,
    WatcherName,
    document::{Document, DocumentRange, Put, PutVerdict},
    event::ServerEvent,
    report::ClaimReport,
    store::{
        Beat, BeatReply, Capabilities, Changes, ClaimRequest, Control, Cursor, Dispatch, Enqueue,
        Inserted, Inspect, Maintain, Observe, PruneRequest, QueueChange, QueueInfo, Report,
        RescueRequest, Watch, Watched, WatcherInfo,
    },
};
use ergon_testing::MemoryStore;

/// What a broken store answers to every call.
type Broken = fn() -> StoreError;

/// A memory store that can break for good, and whose sweeps answer what they are told.
#[derive(Clone, Debug)]
pub(crate) struct Scripted {
    store: MemoryStore,
    broken: Arc<Mutex<Option<Broken>>>,
    sweeps: Arc<Mutex<VecDeque<Report>>>,
    calls: Arc<AtomicUsize>,
}

impl Scripted {
    pub(crate) fn new(store: MemoryStore) -> Self {
        let (broken, sweeps, calls) = (Arc::default(), Arc::default(), Arc::default());
        Self { store, broken, sweeps, calls }
    }

    /// Lets every further call answer this error.
    pub(crate) fn break_with(&self, error: Broken) {
        *self.broken.lock().unwrap() = Some(error);
    }

    /// What the next sweeps for tasks of dead servers answer.
    pub(crate) fn script_sweeps(&self, reports: impl IntoIterator<Item = Report>) {
        self.sweeps.lock().unwrap().extend(reports);
    }

    /// How many of the scripted sweeps are left.
    pub(crate) fn sweeps_left(&self) -> usize {
        self.sweeps.lock().unwrap().len()
    }

    /// How many calls of any kind there were.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    fn begin(&self) -> Result<&MemoryStore, StoreError> {
        self.calls.fetch_add(1, SeqCst);
        match *self.broken.lock().unwrap() {
            Some(error) => Err(error()),
            None => Ok(&self.store),
        }
    }
}

#[async_trait]
impl Enqueue for Scripted {
    async fn insert(&self, tasks: &[NewTask], now: Now) -> Result<Vec<Inserted>, StoreError> {
        self.begin()?.insert(tasks, now).await
    }
}

#[async_trait]
impl Dispatch for Scripted {
    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<ClaimedTask>, StoreError> {
        self.begin()?.claim(request).await
    }

    async fn finish(&self, outcomes: &[Outcome], now: Now) -> Result<Vec<Verdict>, StoreError> {
        self.begin()?.finish(outcomes, now).await
    }

    async fn beat(&self, beat: &Beat) -> Result<BeatReply, StoreError> {
        self.begin()?.beat(beat).await
    }

    async fn report(&self, reports: &[ClaimReport], now: Now) -> Result<Vec<Verdict>, StoreError> {
        self.begin()?.report(reports, now).await
    }

    async fn wait_for_work(&self, queues: &[QueueName], kinds: &[KindName], within: Duration) {
        // A store that is broken has nothing to wait for.
        if let Ok(store) = self.begin() {
            store.wait_for_work(queues, kinds, within).await;
        }
    }
}

#[async_trait]
impl Maintain for Scripted {
    async fn rescue_expired(&self, request: &RescueRequest) -> Result<Report, StoreError> {
        let store = self.begin()?;
        let scripted = self.sweeps.lock().unwrap().pop_front();
        match scripted {
            Some(report) => Ok(report),
            None => store.rescue_expired(request).await,
        }
    }

    async fn prune(&self, request: &PruneRequest) -> Result<Report, StoreError> {
        self.begin()?.prune(request).await
    }
}

#[async_trait]
impl Inspect for Scripted {
    async fn tasks(&self, ids: &[TaskId], now: Now) -> Result<Vec<Option<TaskRecord>>, StoreError> {
        self.begin()?.tasks(ids, now).await
    }

    async fn list(
        &self,
        filter: &TaskFilter,
        page: &Page,
        now: Now,
    ) -> Result<TaskPage, StoreError> {
        self.begin()?.list(filter, page, now).await
    }

    async fn count(&self, filter: &TaskFilter, now: Now) -> Result<Count, StoreError> {
        self.begin()?.count(filter, now).await
    }

    async fn queues(&self, now: Now) -> Result<Vec<QueueInfo>, StoreError> {
        self.begin()?.queues(now).await
    }

    async fn documents(&self, range: &DocumentRange) -> Result<Vec<Document>, StoreError> {
        self.begin()?.documents(range).await
    }

    async fn wait_for_finish(&self, id: TaskId, within: Duration) -> Result<bool, StoreError> {
        self.begin()?.wait_for_finish(id, within).await
    }
}

#[async_trait]
impl Control for Scripted {
    async fn apply(
        &self,
        selection: &Selection,
        command: &Command,
        now: Now,
    ) -> Result<Applied, StoreError> {
        self.begin()?.apply(selection, command, now).await
    }

    async fn set_queue(&self, queue: &QueueName, change: &QueueChange) -> Result<bool, StoreError> {
        self.begin()?.set_queue(queue, change).await
    }

    async fn put(&self, puts: &[Put]) -> Result<Vec<PutVerdict>, StoreError> {
        self.begin()?.put(puts).await
    }

    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }
}

#[async_trait]
impl Observe for Scripted {
    async fn watch(&self, watch: &Watch) -> Result<Watched, StoreError> {
        self.begin()?.watch(watch).await
    }

    async fn unwatch(&self, name: &WatcherName) -> Result<bool, StoreError> {
        self.begin()?.unwatch(name).await
    }

    async fn watchers(&self) -> Result<Vec<WatcherInfo>, StoreError> {
        self.begin()?.watchers().await
    }

    async fn latest(&self) -> Result<Cursor, StoreError> {
        self.begin()?.latest().await
    }

    async fn changes(&self, after: &Cursor, limit: usize) -> Result<Changes, StoreError> {
        self.begin()?.changes(after, limit).await
    }

    async fn wait_for_changes(&self, after: &Cursor, within: Duration) {
        if let Ok(store) = self.begin() {
            store.wait_for_changes(after, within).await;
        }
    }

    async fn announce(&self, server: ServerId, event: &ServerEvent) -> Result<(), StoreError> {
        self.begin()?.announce(server, event).await
    }
}
