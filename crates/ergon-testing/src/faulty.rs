//! `Faulty`: a store that fails when a test tells it to.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use ergon_core::{
    Applied, ClaimedTask, Command, Count, KindName, NewTask, Now, Outcome, Page, QueueName,
    Selection, ServerId, Store, StoreError, TaskFilter, TaskId, TaskPage, TaskRecord, Verdict,
    WatcherName,
    document::{Document, DocumentRange, Put, PutVerdict},
    event::ServerEvent,
    report::ClaimReport,
    store::{
        Beat, BeatReply, Capabilities, Changes, ClaimRequest, Control, Cursor, Dispatch, Enqueue,
        Inserted, Inspect, IntoStore, Maintain, Observe, PruneRequest, QueueChange, QueueInfo,
        Report, RescueRequest, Watch, Watched, WatcherInfo,
    },
};

/// A call of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// [`Enqueue::insert`]
    Insert,
    /// [`Dispatch::claim`]
    Claim,
    /// [`Dispatch::finish`]
    Finish,
    /// [`Dispatch::beat`]
    Beat,
    /// [`Dispatch::report`]
    Report,
    /// [`Dispatch::wait_for_work`], which cannot fail: a failed one returns for nothing.
    WaitForWork,
    /// [`Maintain::rescue_expired`]
    RescueExpired,
    /// [`Maintain::prune`]
    Prune,
    /// [`Inspect::tasks`]
    Tasks,
    /// [`Inspect::list`]
    List,
    /// [`Inspect::count`]
    Count,
    /// [`Inspect::queues`]
    Queues,
    /// [`Inspect::wait_for_finish`]
    WaitForFinish,
    /// [`Control::apply`]
    Apply,
    /// [`Control::set_queue`]
    SetQueue,
    /// [`Control::put`]
    Put,
    /// [`Inspect::documents`]
    Documents,
    /// [`Observe::watch`]
    Watch,
    /// [`Observe::unwatch`]
    Unwatch,
    /// [`Observe::watchers`]
    Watchers,
    /// [`Observe::latest`]
    Latest,
    /// [`Observe::changes`]
    Changes,
    /// [`Observe::wait_for_changes`], which cannot fail: a failed one returns for nothing.
    WaitForChanges,
    /// [`Observe::announce`]
    Announce,
}

/// What is planned for one operation.
#[derive(Clone, Copy, Debug, Default)]
struct Plan {
    calls: usize,
    failures_before: usize,
    failures_after: usize,
    delay: Duration,
}

/// What a test planned for one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Before,
    After,
}

/// A store around another that fails, or is slow, when a test tells it to; otherwise it behaves as
/// the other does.
///
/// A planned failure answers [`StoreError::Unavailable`]. Cheap to clone; clones share the store and
/// the plan, so a test keeps one and hands the other to what it tests.
///
/// ```
/// # use ergon_core::{Client, EnqueueError, StoreError};
/// # use ergon_testing::{Faulty, MemoryStore, Operation};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let faulty = Faulty::new(MemoryStore::new());
/// let client = Client::new(faulty.clone());
///
/// faulty.fail_before(Operation::Insert, 1);
/// assert!(client.enqueue_json("greet", "Ada").await.is_err());
/// assert!(client.enqueue_json("greet", "Ada").await.is_ok());
/// assert_eq!(faulty.calls(Operation::Insert), 2);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Faulty {
    store: Arc<dyn Store>,
    plans: Arc<Mutex<BTreeMap<Operation, Plan>>>,
}

impl Faulty {
    /// Nothing planned yet.
    #[must_use]
    pub fn new(store: impl IntoStore) -> Self {
        Self { store: store.into_store(), plans: Arc::default() }
    }

    /// Lets the next `times` calls fail without reaching the store: nothing happened.
    ///
    /// These come before failures by [`fail_after`](Self::fail_after). `usize::MAX` stands for every
    /// call until [`heal`](Self::heal).
    pub fn fail_before(&self, operation: Operation, times: usize) {
        self.plans().entry(operation).or_default().failures_before = times;
    }

    /// Lets the next `times` calls happen, and then loses their answer, as a connection that breaks
    /// at the wrong moment does. What the store itself refuses is answered as it is.
    pub fn fail_after(&self, operation: Operation, times: usize) {
        self.plans().entry(operation).or_default().failures_after = times;
    }

    /// Makes every further call wait this long, by tokio's clock, before anything else happens.
    pub fn delay(&self, operation: Operation, delay: Duration) {
        self.plans().entry(operation).or_default().delay = delay;
    }

    /// Forgets every planned failure and delay, and keeps counting.
    pub fn heal(&self) {
        for plan in self.plans().values_mut() {
            *plan = Plan { calls: plan.calls, ..Plan::default() };
        }
    }

    /// How many calls there were, those that failed among them.
    #[must_use]
    pub fn calls(&self, operation: Operation) -> usize {
        self.plans().get(&operation).map_or(0, |plan| plan.calls)
    }

    fn plans(&self) -> MutexGuard<'_, BTreeMap<Operation, Plan>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and takes what is planned for it.
    async fn begin(&self, operation: Operation) -> Fault {
        let (fault, delay) = {
            let mut plans = self.plans();
            let plan = plans.entry(operation).or_default();
            plan.calls += 1;
            let fault = if plan.failures_before > 0 {
                plan.failures_before -= 1;
                Fault::Before
            } else if plan.failures_after > 0 {
                plan.failures_after -= 1;
                Fault::After
            } else {
                Fault::None
            };
            (fault, plan.delay)
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        fault
    }

    async fn run<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        match self.begin(operation).await {
            Fault::None => call.await,
            Fault::Before => Err(unavailable(operation, "before it reached the store")),
            Fault::After => {
                call.await?;
                Err(unavailable(operation, "and its answer was lost"))
            }
        }
    }
}

fn unavailable(operation: Operation, when: &str) -> StoreError {
    StoreError::Unavailable { source: format!("planned: {operation:?} failed {when}").into() }
}

#[async_trait]
impl Enqueue for Faulty {
    async fn insert(&self, tasks: &[NewTask], now: Now) -> Result<Vec<Inserted>, StoreError> {
        self.run(Operation::Insert, self.store.insert(tasks, now)).await
    }
}

#[async_trait]
impl Dispatch for Faulty {
    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<ClaimedTask>, StoreError> {
        self.run(Operation::Claim, self.store.claim(request)).await
    }

    async fn finish(&self, outcomes: &[Outcome], now: Now) -> Result<Vec<Verdict>, StoreError> {
        self.run(Operation::Finish, self.store.finish(outcomes, now)).await
    }

    async fn beat(&self, beat: &Beat) -> Result<BeatReply, StoreError> {
        self.run(Operation::Beat, self.store.beat(beat)).await
    }

    async fn report(&self, reports: &[ClaimReport], now: Now) -> Result<Vec<Verdict>, StoreError> {
        self.run(Operation::Report, self.store.report(reports, now)).await
    }

    async fn wait_for_work(&self, queues: &[QueueName], kinds: &[KindName], within: Duration) {
        match self.begin(Operation::WaitForWork).await {
            Fault::Before => {}
            Fault::None | Fault::After => self.store.wait_for_work(queues, kinds, within).await,
        }
    }
}

#[async_trait]
impl Maintain for Faulty {
    async fn rescue_expired(&self, request: &RescueRequest) -> Result<Report, StoreError> {
        self.run(Operation::RescueExpired, self.store.rescue_expired(request)).await
    }

    async fn prune(&self, request: &PruneRequest) -> Result<Report, StoreError> {
        self.run(Operation::Prune, self.store.prune(request)).await
    }
}

#[async_trait]
impl Inspect for Faulty {
    async fn tasks(&self, ids: &[TaskId], now: Now) -> Result<Vec<Option<TaskRecord>>, StoreError> {
        self.run(Operation::Tasks, self.store.tasks(ids, now)).await
    }

    async fn list(
        &self,
        filter: &TaskFilter,
        page: &Page,
        now: Now,
    ) -> Result<TaskPage, StoreError> {
        self.run(Operation::List, self.store.list(filter, page, now)).await
    }

    async fn count(&self, filter: &TaskFilter, now: Now) -> Result<Count, StoreError> {
        self.run(Operation::Count, self.store.count(filter, now)).await
    }

    async fn queues(&self, now: Now) -> Result<Vec<QueueInfo>, StoreError> {
        self.run(Operation::Queues, self.store.queues(now)).await
    }

    async fn documents(&self, range: &DocumentRange) -> Result<Vec<Document>, StoreError> {
        self.run(Operation::Documents, self.store.documents(range)).await
    }

    async fn wait_for_finish(&self, id: TaskId, within: Duration) -> Result<bool, StoreError> {
        self.run(Operation::WaitForFinish, self.store.wait_for_finish(id, within)).await
    }
}

#[async_trait]
impl Control for Faulty {
    async fn apply(
        &self,
        selection: &Selection,
        command: &Command,
        now: Now,
    ) -> Result<Applied, StoreError> {
        self.run(Operation::Apply, self.store.apply(selection, command, now)).await
    }

    async fn set_queue(&self, queue: &QueueName, change: &QueueChange) -> Result<bool, StoreError> {
        self.run(Operation::SetQueue, self.store.set_queue(queue, change)).await
    }

    async fn put(&self, puts: &[Put]) -> Result<Vec<PutVerdict>, StoreError> {
        self.run(Operation::Put, self.store.put(puts)).await
    }

    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }
}

#[async_trait]
impl Observe for Faulty {
    async fn watch(&self, watch: &Watch) -> Result<Watched, StoreError> {
        self.run(Operation::Watch, self.store.watch(watch)).await
    }

    async fn unwatch(&self, name: &WatcherName) -> Result<bool, StoreError> {
        self.run(Operation::Unwatch, self.store.unwatch(name)).await
    }

    async fn watchers(&self) -> Result<Vec<WatcherInfo>, StoreError> {
        self.run(Operation::Watchers, self.store.watchers()).await
    }

    async fn latest(&self) -> Result<Cursor, StoreError> {
        self.run(Operation::Latest, self.store.latest()).await
    }

    async fn changes(&self, after: &Cursor, limit: usize) -> Result<Changes, StoreError> {
        self.run(Operation::Changes, self.store.changes(after, limit)).await
    }

    async fn wait_for_changes(&self, after: &Cursor, within: Duration) {
        match self.begin(Operation::WaitForChanges).await {
            Fault::Before => {}
            Fault::None | Fault::After => self.store.wait_for_changes(after, within).await,
        }
    }

    async fn announce(&self, server: ServerId, event: &ServerEvent) -> Result<(), StoreError> {
        self.run(Operation::Announce, self.store.announce(server, event)).await
    }
}

#[cfg(test)]
mod tests;
