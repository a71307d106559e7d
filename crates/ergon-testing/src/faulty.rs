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
mod tests {
    use ergon_core::{Client, KindName, TaskSpec};

    use super::*;
    use crate::MemoryStore;

    fn task(number: u64) -> NewTask {
        let kind = KindName::new("k").unwrap();
        NewTask::new(TaskId::from_parts(1, number, 0), TaskSpec::new(kind, "{}"))
    }

    #[tokio::test]
    async fn a_failure_before_leaves_nothing_and_one_after_leaves_everything() {
        let faulty = Faulty::new(MemoryStore::new());
        faulty.fail_before(Operation::Insert, 1);
        faulty.fail_after(Operation::Insert, 1);
        for number in 1..=2 {
            let error = faulty.insert(&[task(number)], Now::Store).await.unwrap_err();
            assert!(error.is_transient(), "{error:?}");
        }
        let again = faulty.insert(&[task(1), task(2)], Now::Store).await.unwrap();
        assert_eq!(again, [Inserted::Created, Inserted::AlreadyExists]);
        assert_eq!(faulty.calls(Operation::Insert), 3);
        assert_eq!(faulty.calls(Operation::Claim), 0);
    }

    #[tokio::test]
    async fn what_the_store_refuses_is_answered_as_it_is() {
        let faulty = Faulty::new(MemoryStore::new());
        faulty.fail_after(Operation::Insert, 1);
        let error = faulty.insert(&[task(1), task(1)], Now::Store).await.unwrap_err();
        assert!(matches!(error, StoreError::Rejected { index: 1, .. }), "{error:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn delays_last_until_the_store_is_healed() {
        let faulty = Faulty::new(MemoryStore::new());
        let start = tokio::time::Instant::now();
        faulty.delay(Operation::Count, Duration::from_secs(5));
        faulty.fail_before(Operation::Count, usize::MAX);
        assert!(faulty.count(&TaskFilter::all(), Now::Store).await.is_err());
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        faulty.heal();
        assert!(faulty.count(&TaskFilter::all(), Now::Store).await.is_ok());
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        assert_eq!(faulty.calls(Operation::Count), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_fails_returns_for_nothing() {
        let faulty = Faulty::new(MemoryStore::new());
        let start = tokio::time::Instant::now();
        faulty.fail_before(Operation::WaitForWork, 1);
        faulty.wait_for_work(&[QueueName::default()], &[], Duration::from_secs(5)).await;
        assert!(start.elapsed().is_zero());
        faulty.wait_for_work(&[QueueName::default()], &[], Duration::from_secs(5)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test]
    async fn every_role_reaches_the_store_behind() {
        let faulty = Faulty::new(MemoryStore::new());
        let client = Client::new(faulty.clone());
        let id = client.enqueue_json("k", 1).await.unwrap().id();
        let found = faulty.tasks(&[id], Now::Store).await.unwrap();
        assert!(found[0].is_some());
        let all = TaskFilter::all();
        assert_eq!(faulty.list(&all, &Page::of(1), Now::Store).await.unwrap().tasks.len(), 1);
        let applied = faulty.apply(&Selection::Ids(vec![id]), &Command::Delete, Now::Store).await;
        assert_eq!(applied.unwrap().changed(), 1);
        assert!(faulty.wait_for_finish(id, Duration::ZERO).await.unwrap());
        faulty.set_queue(&QueueName::default(), &QueueChange::pause()).await.unwrap();
        assert!(faulty.queues(Now::Store).await.unwrap()[0].is_paused);
        assert_eq!(faulty.rescue_expired(&RescueRequest::default()).await.unwrap().done, 0);
        assert_eq!(faulty.prune(&PruneRequest::default()).await.unwrap().done, 0);
        assert_eq!(faulty.capabilities(), Capabilities::none());
    }
}
