//! `TestServer`: runs an application's handlers in a test, with a clock that the test turns.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ergon_core::{
    ClaimedTask, Client, Clock, Conclusion, IdSource, KindName, Limits, Manager, Now, Outcome,
    Phase, Retention, ServerId, StoreError, Task, TaskError, Verdict,
    limits::BATCH_MAX,
    outcome::ConclusionKind,
    store::{ClaimRequest, Dispatch, Inspect, Maintain, QueueSlots, RescueRequest},
    time::after,
};
use jiff::Timestamp;

use self::attempt::Handler;
pub use self::summary::{Run, RunEnd, RunSummary};
use crate::{CountingIds, MemoryStore, SeededRng, VirtualClock};

mod attempt;
mod summary;

/// Most attempts at one instant: what goes beyond is taken for an endless loop.
const RUNS_MAX: usize = 10_000;

/// Runs an application's handlers in a test: one attempt after another, in the caller's task, on a
/// [`MemoryStore`] whose clock only the test turns.
///
/// Everything repeats: ids count, retry delays are drawn from a seed, time stands still between two
/// calls of [`advance`](Self::advance). Attempts go through the same rules and the same store calls
/// as in production: claims with tokens and leases, retries, crashes and their rescue. What a
/// handler does beside that, such as waiting, takes real time, or tokio's paused one.
///
/// A handler here takes its payload alone: wrap one that takes a state too in a closure. One that
/// takes a context needs an `ergon_server::Server`, on a [`MemoryStore`] in a paused runtime.
///
/// ```
/// use std::time::Duration;
///
/// use ergon_core::{State, Task, TaskError};
/// use ergon_testing::{TestServer, assert_enqueued};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Greet {
///     name: String,
/// }
/// # impl Task for Greet {
/// #     const KIND: &'static str = "greet";
/// #     type Output = String;
/// # }
///
/// async fn greet(task: Greet) -> Result<String, TaskError> {
///     Ok(format!("Hello, {}!", task.name))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = TestServer::new().handler(greet);
/// let greeting = server
///     .client()
///     .enqueue(Greet { name: "Ada".into() })
///     .delay(Duration::from_secs(60))
///     .await?;
/// assert_enqueued!(server, Greet, |greet| greet.name == "Ada");
///
/// assert_eq!(server.run_all().await.runs.len(), 0);
/// assert_eq!(server.advance(Duration::from_secs(60)).await.completed, 1);
/// assert_eq!(greeting.result().await?, "Hello, Ada!");
/// # Ok(())
/// # }
/// ```
pub struct TestServer {
    store: MemoryStore,
    clock: VirtualClock,
    client: Client,
    ids: CountingIds,
    rng: SeededRng,
    limits: Limits,
    handlers: BTreeMap<KindName, Handler>,
    process: Mutex<Process>,
}

/// The process that a test server stands for.
#[derive(Clone, Copy, Debug)]
struct Process {
    server: ServerId,
    crash: Option<Crash>,
}

/// When the server dies in its next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crash {
    BeforeHandler,
    AfterHandler,
}

impl fmt::Debug for TestServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestServer")
            .field("now", &self.clock.now())
            .field("kinds", &self.handlers.keys())
            .finish_non_exhaustive()
    }
}

impl Default for TestServer {
    fn default() -> Self {
        Self::new()
    }
}

impl TestServer {
    /// A server without handlers on an empty store, at 2025-01-01T00:00:00Z.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A server without handlers on an empty store, with choices.
    pub fn builder() -> TestServerBuilder {
        TestServerBuilder {
            clock: VirtualClock::default(),
            seed: 0,
            limits: Limits::default(),
            retention: Retention::default(),
        }
    }

    /// Runs tasks of type `T` by this function or closure; it replaces an earlier one.
    ///
    /// A closure names its argument's type: `|task: SendEmail| async move { … }`. Tasks of a kind
    /// without a handler stay where they are.
    ///
    /// # Panics
    ///
    /// When `T::KIND` is no valid name.
    #[must_use]
    pub fn handler<T, F, Fut>(mut self, handler: F) -> Self
    where
        T: Task,
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T::Output, TaskError>> + Send + 'static,
    {
        match KindName::new(T::KIND) {
            Ok(kind) => self.handlers.insert(kind, attempt::handler(handler)),
            Err(error) => panic!("{error}"),
        };
        self
    }

    /// A client of the store.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A manager of the store.
    #[must_use]
    pub fn manager(&self) -> Manager {
        Manager::new(self.store.clone())
    }

    /// The store.
    #[must_use]
    pub const fn store(&self) -> &MemoryStore {
        &self.store
    }

    /// The clock, that of the store and of the client's ids.
    #[must_use]
    pub const fn clock(&self) -> &VirtualClock {
        &self.clock
    }

    /// Lets the server die in its next attempt, before the handler runs, and start anew as another
    /// one.
    ///
    /// The task stays claimed until its lease of 30 seconds is over; the first
    /// [`advance`](Self::advance) beyond that brings it back, with one death counted and no attempt
    /// spent.
    pub fn crash_next(&self) {
        self.with_process(|process| process.crash = Some(Crash::BeforeHandler));
    }

    /// As [`crash_next`](Self::crash_next), but the server dies after the handler has run, before its
    /// outcome reaches the store: the handler will run again, and a task has to bear that.
    pub fn crash_next_after_handler(&self) {
        self.with_process(|process| process.crash = Some(Crash::AfterHandler));
    }

    /// Runs one attempt, that of the task that comes first; `None` when nothing is due.
    ///
    /// # Panics
    ///
    /// When the store refuses a call, which a [`MemoryStore`] does not.
    ///
    /// # Cancel safety
    ///
    /// A dropped call leaves its task claimed, as a crash does.
    pub async fn run_one(&self) -> Option<Run> {
        answered(self.try_run_one().await)
    }

    /// Runs everything that is due, also what handlers enqueue meanwhile, until nothing is due.
    ///
    /// Queues come in the order of their names; in a queue the larger priority comes first, then the
    /// earlier due time, then the smaller id. Tasks whose lease is over are taken back before.
    ///
    /// # Panics
    ///
    /// After 10,000 attempts, while the clock stands still: tasks that enqueue or snooze themselves
    /// without delay never end. As [`run_one`](Self::run_one).
    pub async fn run_all(&self) -> RunSummary {
        let mut summary = RunSummary::default();
        self.run_into(&mut summary).await;
        summary
    }

    /// Turns the clock forward and runs everything that comes due on the way, each task at the
    /// instant at which it is due: a task that fails and is tried again after 10 seconds has its
    /// second attempt within `advance` of a minute.
    ///
    /// What is due already is run first.
    ///
    /// # Panics
    ///
    /// As [`run_all`](Self::run_all).
    pub async fn advance(&self, by: Duration) -> RunSummary {
        let target = after(self.clock.now(), by);
        let mut summary = self.run_all().await;
        while let Some(next) = self.next_instant().filter(|&next| next <= target) {
            self.clock.set(next);
            self.run_into(&mut summary).await;
        }
        // A handler may have turned the clock itself, even beyond the target.
        self.clock.set(std::cmp::max(self.clock.now(), target));
        summary
    }

    async fn run_into(&self, summary: &mut RunSummary) {
        let earlier = summary.runs.len();
        while let Some(run) = self.run_one().await {
            summary.push(run);
            let runs = summary.runs.len() - earlier;
            assert!(runs <= RUNS_MAX, "{runs} attempts at one instant: an endless loop");
        }
    }

    fn next_instant(&self) -> Option<Timestamp> {
        self.store.next_instant(self.clock.now())
    }

    fn with_process<R>(&self, change: impl FnOnce(&mut Process) -> R) -> R {
        change(&mut self.process.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn try_run_one(&self) -> Result<Option<Run>, StoreError> {
        self.rescue_expired().await?;
        let Some(task) = self.claim_one().await? else {
            return Ok(None);
        };
        let crash = self.take_crash();
        if crash == Some(Crash::BeforeHandler) {
            return Ok(Some(Run::new(&task, None, RunEnd::Crashed)));
        }
        let conclusion = self.attempt(&task).await;
        if crash == Some(Crash::AfterHandler) {
            return Ok(Some(Run::new(&task, None, RunEnd::Crashed)));
        }
        self.finish(&task, conclusion).await.map(Some)
    }

    /// The crash that was asked for; who comes after it is another server.
    fn take_crash(&self) -> Option<Crash> {
        self.with_process(|process| {
            let crash = process.crash.take()?;
            process.server = self.ids.next_server(self.clock.now());
            Some(crash)
        })
    }

    async fn rescue_expired(&self) -> Result<(), StoreError> {
        let request = RescueRequest::default().limit(BATCH_MAX);
        while self.store.rescue_expired(&request).await?.more {}
        Ok(())
    }

    async fn claim_one(&self) -> Result<Option<ClaimedTask>, StoreError> {
        let queues = self.store.queues(Now::Store).await?.into_iter();
        let slots = queues.map(|queue| QueueSlots { queue: queue.name, slots: 1 });
        let kinds: Vec<_> = self.handlers.keys().cloned().collect();
        let server = self.with_process(|process| process.server);
        let request = ClaimRequest::new(server, kinds, slots).limit(1);
        Ok(self.store.claim(&request).await?.pop())
    }

    async fn attempt(&self, task: &ClaimedTask) -> Conclusion {
        match self.handlers.get(&task.spec.kind) {
            Some(handler) => attempt::run(handler, task, self.clock.now(), &self.rng).await,
            // A claim brings only kinds that were asked for.
            None => Conclusion::Release,
        }
    }

    async fn finish(&self, task: &ClaimedTask, conclusion: Conclusion) -> Result<Run, StoreError> {
        // What the store will make of it: a result that is too large is a failure.
        let conclusion = conclusion.storable(&self.limits);
        let kind = conclusion.kind();
        let outcome = Outcome { id: task.id, token: task.token, conclusion };
        let verdict = self.store.finish(&[outcome], Now::Store).await?.pop();
        let verdict = verdict.unwrap_or(Verdict::Stale);
        let found = self.store.tasks(&[task.id], Now::Store).await?.pop().flatten();
        let phase = found.map(|found| found.progress.phase);
        let end = match (verdict, phase) {
            (Verdict::Stale, _) | (_, None | Some(Phase::Running)) => RunEnd::Lost,
            (_, Some(Phase::Completed)) => RunEnd::Completed,
            (_, Some(Phase::Failed)) => RunEnd::Failed,
            (_, Some(Phase::Cancelled)) => RunEnd::Cancelled,
            (_, Some(Phase::Waiting)) if kind == ConclusionKind::Snooze => RunEnd::Snoozed,
            (_, Some(Phase::Waiting)) => RunEnd::Retried,
        };
        Ok(Run::new(task, Some(verdict), end))
    }
}

fn answered<T>(answer: Result<T, StoreError>) -> T {
    match answer {
        Ok(answer) => answer,
        Err(error) => panic!("the store of a test server refused a call: {error:?}"),
    }
}

/// Chooses how a [`TestServer`] works.
#[derive(Clone, Debug)]
#[must_use]
pub struct TestServerBuilder {
    clock: VirtualClock,
    seed: u64,
    limits: Limits,
    retention: Retention,
}

impl TestServerBuilder {
    /// The clock. Default: one that starts at 2025-01-01T00:00:00Z. An application that reads the
    /// machine's time itself may want one that starts there.
    pub fn clock(mut self, clock: VirtualClock) -> Self {
        self.clock = clock;
        self
    }

    /// From what retry delays are drawn. Default 0.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How large things may be, up to the caps. Default: [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits.capped();
        self
    }

    /// How long finished tasks are kept once the test prunes. Default: [`Retention::default`].
    pub const fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// The server, without handlers on an empty store.
    #[must_use]
    pub fn build(self) -> TestServer {
        let Self { clock, seed, limits, retention } = self;
        let shared_clock: Arc<dyn Clock> = Arc::new(clock.clone());
        let store = MemoryStore::builder()
            .clock(Arc::clone(&shared_clock))
            .limits(limits)
            .retention(retention)
            .build();
        let ids = CountingIds::new();
        let client = Client::builder(store.clone())
            .ids(Arc::new(ids.clone()))
            .clock(shared_clock)
            .limits(limits)
            .build();
        let server = ids.next_server(clock.now());
        let process = Mutex::new(Process { server, crash: None });
        let handlers = BTreeMap::new();
        let rng = SeededRng::new(seed);
        TestServer { store, clock, client, ids, rng, limits, handlers, process }
    }
}

#[cfg(test)]
mod tests;
