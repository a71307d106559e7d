//! A server: built, started, and ended with a report.

use std::{
    fmt,
    future::Future,
    sync::{Arc, atomic::AtomicBool},
};

use ergon_core::{
    Client, Clock, IdSource, Manager, Now, Rng, ServerId, Store, event::Sinks, store::IntoStore,
};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::task::TaskTracker;

use crate::{
    attempt::HeldTable,
    builder::ServerBuilder,
    call, completer,
    config::ServerConfig,
    counting::{self, Counting},
    error::StartError,
    fetcher, heartbeat,
    layer::AttemptService,
    maintenance::{self, Operator, Pruner, Rescuer},
    presence::{self, Calling},
    registry::Registry,
    reports::{self, Reports},
    shared::{Gauges, Home, Shared, Signals},
    shutdown::{ShutdownHandle, Spawned, supervise},
    signal::Requests,
    slots::Slots,
    status::{LoopStatus, ShutdownReport, Tally},
};

/// Runs handlers for the tasks of a store.
///
/// Several servers can share a store, as far as the store can be shared; a task is held by one of
/// them at a time. When a server dies, the others take its tasks back once their leases end.
///
/// ```
/// use std::time::Duration;
///
/// use ergon_core::{Client, Task, TaskError};
/// use ergon_server::{Context, Queue, Server, State};
/// use ergon_testing::MemoryStore;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Greet {
///     name: String,
/// }
///
/// impl Task for Greet {
///     const KIND: &'static str = "greet";
///     type Output = String;
/// }
///
/// #[derive(Clone)]
/// struct Greeting(&'static str);
///
/// async fn greet(
///     task: Greet,
///     State(greeting): State<Greeting>,
///     context: Context,
/// ) -> Result<String, TaskError> {
///     assert_eq!(context.attempt(), 1);
///     Ok(format!("{}, {}!", greeting.0, task.name))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new();
/// let client = Client::new(store.clone());
/// let handle = client.enqueue(Greet { name: "Ada".into() }).await?;
///
/// let server = Server::builder(store)
///     .state(Greeting("Hello"))
///     .handler(greet)
///     .queue(Queue::new("default").concurrency(20))
///     .build()?;
/// let done = handle.result().within(Duration::from_secs(30));
/// let report = server.run_until(async { assert_eq!(done.await.unwrap(), "Hello, Ada!") }).await?;
/// assert_eq!(report.completed, 1);
/// # Ok(())
/// # }
/// ```
pub struct Server {
    /// Apart, so that futures that hold a server stay small.
    pub(crate) parts: Box<Parts>,
    handle: ShutdownHandle,
}

/// What a server is made of.
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) client: Client,
    pub(crate) calling: Calling,
    pub(crate) sinks: Sinks,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) config: ServerConfig,
    pub(crate) registry: Registry,
    pub(crate) service: Option<AttemptService>,
    pub(crate) slots: Slots,
}

impl Server {
    /// Begins to build a server of a store.
    pub fn builder(store: impl IntoStore) -> ServerBuilder {
        ServerBuilder::new(store.into_store())
    }

    pub(crate) fn new(parts: Parts) -> Self {
        Self { parts: Box::new(parts), handle: ShutdownHandle::new() }
    }

    /// A handle by which the server can be ended from elsewhere.
    #[must_use]
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.handle.clone()
    }

    /// Runs until a future ends or the [handle](Self::shutdown_handle) is used, then shuts down and
    /// reports what is unfinished.
    ///
    /// What the future answers is ignored, so that `tokio::signal::ctrl_c()` can be given as it is.
    /// The shutdown goes as [`RunningServer::shutdown`] says.
    ///
    /// # Errors
    ///
    /// [`StartError::Store`] when the store does not work and waiting would not help. A store that
    /// merely cannot be reached is waited for.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped the server ends [at once](ShutdownHandle::shutdown_now), in the
    /// background.
    pub async fn run_until<F: Future>(self, until: F) -> Result<ShutdownReport, StartError> {
        self.probe().await?;
        let running = self.start();
        let mut urgency = running.handle.subscribe();
        let asked = urgency.wait_for(|&now| now > crate::shutdown::Urgency::None);
        tokio::select! {
            biased;
            answer = until => drop(answer),
            asked = asked => drop(asked),
        }
        Ok(running.shutdown_once().await)
    }

    /// Runs until the process is asked to end: by SIGINT (Ctrl-C) or SIGTERM, elsewhere than on Unix
    /// by Ctrl-C. A second signal ends it at once.
    ///
    /// # Errors
    ///
    /// As [`run_until`](Self::run_until).
    ///
    /// # Cancel safety
    ///
    /// As [`run_until`](Self::run_until).
    pub async fn run_until_signal(self) -> Result<ShutdownReport, StartError> {
        let handle = self.shutdown_handle();
        // Before anything is started, and for the second signal as well as for the first.
        let requests = Requests::listen();
        let asking = async {
            match requests {
                Ok(mut requests) => {
                    requests.next().await;
                    tracing::info!("asked to end; once more ends at once");
                    handle.shutdown();
                    requests.next().await;
                    handle.shutdown();
                }
                Err(error) => tracing::error!(%error, "signals cannot be listened to"),
            }
            std::future::pending().await
        };
        tokio::select! {
            biased;
            report = self.run_until(std::future::pending::<()>()) => report,
            report = asking => report,
        }
    }

    /// Starts the server in the background.
    ///
    /// Dropping what it returns ends the server [at once](ShutdownHandle::shutdown_now).
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime with time enabled, as [`tokio::spawn`] does.
    #[must_use = "dropping it ends the server"]
    pub fn start(self) -> RunningServer {
        let Self { parts, handle } = self;
        let parts = *parts;
        let now = parts.clock.now();
        let (sender, receiver) = mpsc::channel(parts.config.outcomes_max);
        let server = parts.ids.next_server(now);
        let counting =
            parts.config.statistics.then(|| Counting::new(server, Arc::clone(&parts.clock)));
        let operations_came = Arc::<Notify>::default();
        let waker = Arc::clone(&operations_came);
        let manager = Manager::new(&parts.store)
            .clock(Arc::clone(&parts.clock))
            .id_source(Arc::clone(&parts.ids))
            .owned_by(server)
            .sinks(&parts.sinks)
            .on_operation(move || waker.notify_one());
        let shared = Arc::new(Shared {
            id: server,
            limits: parts.store.capabilities().limits,
            store: parts.store,
            home: Arc::new(Home { server, client: parts.client, reports: Reports::default() }),
            sinks: parts.sinks,
            profile: presence::profile(parts.calling, now, &parts.slots, &parts.registry),
            counting,
            manager,
            operations_came,
            rng: parts.rng,
            clock: parts.clock,
            registry: parts.registry,
            service: parts.service,
            slots: parts.slots,
            held: HeldTable::default(),
            tally: Tally::default(),
            gauges: Gauges::new(&parts.config),
            config: parts.config,
            outcomes: sender,
            cannot_hold: AtomicBool::new(false),
            born: Instant::now(),
            signals: Signals::default(),
        });
        tracing::info!(server = %shared.id, kinds = shared.registry.kinds().len(), "the server starts");
        let (attempts, loops) = (TaskTracker::new(), TaskTracker::new());
        let fetcher = loops.spawn(fetcher::run(Arc::clone(&shared), attempts.clone()));
        let completer = loops.spawn(completer::run(Arc::clone(&shared), receiver));
        loops.spawn(heartbeat::run(Arc::clone(&shared)));
        loops.spawn(reports::run(Arc::clone(&shared)));
        loops.spawn(maintenance::drive(Arc::clone(&shared), Rescuer));
        loops.spawn(maintenance::drive(Arc::clone(&shared), Pruner));
        loops.spawn(maintenance::drive(Arc::clone(&shared), Operator));
        loops.spawn(presence::run(Arc::clone(&shared)));
        loops.spawn(counting::run(Arc::clone(&shared)));
        let spawned = Spawned { fetcher, completer, attempts, loops };
        let supervision = supervise(Arc::clone(&shared), spawned, handle.subscribe());
        let supervisor = TaskTracker::new().spawn(supervision);
        RunningServer { shared, supervisor, handle }
    }

    /// Finds out whether the store works.
    async fn probe(&self) -> Result<(), StartError> {
        let call = self.parts.store.queues(Now::Store);
        match call::within(self.parts.config.store_timeout, call).await {
            Err(source) if !source.is_transient() => Err(StartError::Store { source }),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("store", &self.parts.store)
            .field("config", &self.parts.config)
            .field("handlers", &self.parts.registry)
            .finish_non_exhaustive()
    }
}

/// A server that runs in the background.
///
/// Dropping it ends the server [at once](ShutdownHandle::shutdown_now).
#[derive(Debug)]
#[must_use = "dropping it ends the server"]
pub struct RunningServer {
    shared: Arc<Shared>,
    supervisor: JoinHandle<ShutdownReport>,
    handle: ShutdownHandle,
}

impl RunningServer {
    /// The id of this run of the server.
    #[must_use]
    pub fn id(&self) -> ServerId {
        self.shared.id
    }

    /// A handle by which the server can be ended from elsewhere.
    #[must_use]
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.handle.clone()
    }

    /// A manager of the same store, with the sinks of this server: operations that it makes are begun
    /// here at once.
    #[must_use]
    pub fn manager(&self) -> Manager {
        self.shared.manager.clone()
    }

    /// How the loops of the server fare that its tasks depend on.
    #[must_use]
    pub fn loops(&self) -> Vec<LoopStatus> {
        let gauges = self.shared.gauges.all();
        gauges.into_iter().map(crate::status::Gauge::status).collect()
    }

    /// Shuts down, and reports what is unfinished.
    ///
    /// From the first instant nothing is claimed, and what was
    /// [claimed ahead](ServerConfig::claim_ahead_max) is given back. Handlers that run have the
    /// [grace period](ServerConfig::grace_period) to end on their own; then their contexts say that
    /// they are to stop, and after the [abort period](ServerConfig::abort_period) they are dropped
    /// and their tasks given back: due as before, with no attempt spent. A handler that blocks its
    /// thread cannot be dropped; after 2 s more it is reported as [stuck](ShutdownReport::stuck),
    /// and its task stays held until its lease ends. The last outcomes are recorded for at most the
    /// [flush period](ServerConfig::flush_period).
    ///
    /// When a [handle](Self::shutdown_handle) asked before, this is the second time, and the server
    /// ends at once.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped the server ends [at once](ShutdownHandle::shutdown_now), in the
    /// background.
    pub async fn shutdown(self) -> ShutdownReport {
        self.handle.shutdown();
        self.ended().await
    }

    /// The same, but not a second time when a handle asked before.
    async fn shutdown_once(self) -> ShutdownReport {
        self.handle.shutdown_gracefully();
        self.ended().await
    }

    async fn ended(mut self) -> ShutdownReport {
        match (&mut self.supervisor).await {
            Ok(report) => report,
            Err(error) => {
                tracing::error!(%error, "the shutdown did not end well");
                ShutdownReport::default()
            }
        }
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.handle.shutdown_now();
    }
}
