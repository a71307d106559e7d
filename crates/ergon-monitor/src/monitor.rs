//! The monitor: made once, embedded or served.

use std::{fmt, future::Future, sync::Arc};

use axum::Router;
use ergon_core::{
    Client, Clock, Manager, SystemClock, SystemRng, event::EventSink, store::IntoStore,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::{Gate, proxies},
    bound::Bound,
    bulk::Outcomes,
    cache::Cache,
    config::MonitorConfig,
    csrf::Forms,
    error::MonitorError,
    export::EXPORTS_MAX,
    router, serve,
    shared::{App, Metrics, Shared},
    sse::Hub,
};

/// A web monitor of a store: pages for people, an API for programs. Cheap to clone.
///
/// Embed its [`router`](Self::router) in an axum application, or [`serve`](Self::serve) it on its own.
///
/// ```
/// use ergon_monitor::{Auth, Monitor, MonitorConfig};
/// use ergon_testing::MemoryStore;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = MonitorConfig::new(Auth::LoopbackOnly);
/// let monitor = Monitor::builder(MemoryStore::new(), config).build()?;
///
/// let application: axum::Router = axum::Router::new().merge(monitor.router());
/// # drop(application);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Monitor {
    app: App,
}

impl Monitor {
    /// A monitor of this store, with choices.
    pub fn builder(store: impl IntoStore, config: MonitorConfig) -> MonitorBuilder {
        let store = store.into_store();
        MonitorBuilder {
            manager: Manager::new(&store),
            client: Client::new(&store),
            config,
            clock: None,
            metrics: None,
        }
    }

    /// The routes, all of them below the base path, to be merged into those of an application.
    ///
    /// With an empty base path the monitor answers every address that nothing else does. An application
    /// that embeds the routes has to see to timeouts and limits of its connections itself, and to call
    /// [`close`](Self::close) before it waits for requests under way.
    pub fn router(&self) -> Router {
        router::router(&self.app)
    }

    /// How this monitor works.
    #[must_use]
    pub fn config(&self) -> &MonitorConfig {
        &self.app.config
    }

    /// Listens on the address of the configuration, and serves until `shutdown` resolves.
    ///
    /// # Errors
    ///
    /// [`MonitorError::OpenToEveryone`] when other machines could reach it and nobody is asked who
    /// comes; [`MonitorError::Listen`] when the address cannot be listened on.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it ends every connection at once.
    pub async fn serve(
        &self,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), MonitorError> {
        let address = self.app.config.listen;
        serve::check(&self.app.config.auth, address)?;
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(|source| MonitorError::Listen { address, source })?;
        self.serve_on(listener, shutdown).await
    }

    /// Serves on a listener, until `shutdown` resolves: then streams end, no connection is taken any
    /// more, and requests under way have the grace period to end.
    ///
    /// Everything but the base path is redirected there from `/`, and not found elsewhere.
    ///
    /// # Errors
    ///
    /// As of [`serve`](Self::serve).
    ///
    /// # Cancel safety
    ///
    /// Dropped, it ends every connection at once.
    pub async fn serve_on(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), MonitorError> {
        serve::serve(&self.app, listener, shutdown).await
    }

    /// Ends streams, so that whoever serves the routes can wait for requests under way; then waits for
    /// orders under way, at most the grace period.
    pub async fn close(&self) {
        self.app.streams.cancel();
        self.app.tasks.close();
        let orders = self.app.tasks.wait();
        if tokio::time::timeout(self.app.config.grace_period, orders).await.is_err() {
            tracing::warn!("orders were under way when the monitor stopped");
        }
    }
}

/// Chooses how a [`Monitor`] works.
#[must_use]
pub struct MonitorBuilder {
    manager: Manager,
    client: Client,
    config: MonitorConfig,
    clock: Option<Arc<dyn Clock>>,
    metrics: Option<Metrics>,
}

impl fmt::Debug for MonitorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MonitorBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl MonitorBuilder {
    /// Gives orders through this manager, so that its sinks are told. Default: one without sinks. Its
    /// store replaces the one that was given before.
    pub fn manager(mut self, manager: Manager) -> Self {
        self.manager = manager;
        self
    }

    /// Enqueues through this client, so that its limits hold and its sinks are told. Default: a plain
    /// one.
    pub fn client(mut self, client: Client) -> Self {
        self.client = client;
        self
    }

    /// Tells a sink what is ordered and enqueued through the monitor, after each commit. Call it after
    /// [`manager`](Self::manager), and instead of [`client`](Self::client).
    pub fn events(mut self, sink: Arc<dyn EventSink>) -> Self {
        self.client = Client::builder(self.manager.store()).events(Arc::clone(&sink)).build();
        self.manager = self.manager.events(sink);
        self
    }

    /// The clock by which ages are told, and entries of the audit trail dated. Default: the machine's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// What `/metrics` answers, in the text format of Prometheus. It is called for every scrape, and
    /// must not block. Default: there is no such address.
    pub fn metrics(mut self, metrics: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.metrics = Some(Arc::new(metrics));
        self
    }

    /// The monitor.
    ///
    /// # Errors
    ///
    /// [`MonitorError::InvalidConfig`] when a choice is out of its range.
    pub fn build(self) -> Result<Monitor, MonitorError> {
        let Self { manager, client, config, clock, metrics } = self;
        config.check()?;
        let (manager, clock): (Manager, Arc<dyn Clock>) = match clock {
            Some(clock) => (manager.clock(Arc::clone(&clock)), clock),
            None => (manager, Arc::new(SystemClock)),
        };
        let gate = Gate::new(
            config.auth.clone(),
            config.login_failures_max,
            config.requests_per_second,
            config.request_burst,
        );
        let started_at = clock.now();
        let app = Arc::new(Shared {
            proxies: proxies(&config.auth, &config.trusted_proxies),
            manager,
            client,
            clock,
            gate,
            forms: Forms::new(&SystemRng, config.form_age_max),
            cache: Cache::default(),
            reads: Bound::new(config.store_calls_max, config.store_timeout),
            orders: Bound::new(config.store_calls_max, config.action_timeout),
            outcomes: Outcomes::default(),
            exports: Arc::new(Semaphore::new(EXPORTS_MAX)),
            metrics,
            streams: CancellationToken::new(),
            live: Hub::new(&SystemRng),
            tasks: TaskTracker::new(),
            started_at,
            config,
        });
        Ok(Monitor { app })
    }
}
