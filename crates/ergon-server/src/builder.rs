//! Builds a server.

use std::{collections::BTreeSet, fmt, sync::Arc};

use ergon_core::{
    Client, Clock, EventSink, IdSource, Limits, QueueName, Rng, Store, SystemClock, SystemIds,
    SystemRng, event::Sinks,
};
use tower::{Layer, Service};

use crate::{
    config::{CONCURRENCY_DEFAULT, Queue, ServerConfig},
    error::StartError,
    handler::{Handler, Worker},
    layer::{AttemptService, Call, Done, Layers},
    presence::Calling,
    registry::{Registration, Registry, WithState, WithWorker},
    server::{Parts, Server},
    slots::Slots,
};

/// Chooses how a [`Server`] works. `S` is the state of the application.
#[must_use = "a server does nothing until it is built and run"]
pub struct ServerBuilder<S = ()> {
    state: Arc<S>,
    rest: Rest,
}

/// What does not depend on the type of the state.
struct Rest {
    store: Arc<dyn Store>,
    client: Option<Client>,
    sinks: Sinks,
    rng: Arc<dyn Rng>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    config: ServerConfig,
    queues: Vec<Queue>,
    layers: Layers,
    registrations: Vec<Registration>,
    calling: Calling,
}

impl ServerBuilder {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            state: Arc::new(()),
            rest: Rest {
                store,
                client: None,
                sinks: Sinks::default(),
                rng: Arc::new(SystemRng),
                clock: Arc::new(SystemClock),
                ids: Arc::new(SystemIds::new(SystemRng)),
                config: ServerConfig::default(),
                queues: Vec::new(),
                layers: Layers::default(),
                registrations: Vec::new(),
                calling: Calling::default(),
            },
        }
    }

    /// Gives handlers the state of the application, by the extractor [`State`](crate::State).
    ///
    /// Call it before [`handler`](ServerBuilder::handler): handlers added earlier have none. To hand
    /// out parts of the state, implement [`FromRef`](crate::FromRef).
    ///
    /// A handler that takes a state which the server does not have is not compiled:
    ///
    /// ```compile_fail,E0277
    /// # use ergon_core::{Task, TaskError};
    /// # use ergon_server::{Server, State};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Ping;
    /// # impl Task for Ping {
    /// #     const KIND: &'static str = "ping";
    /// #     type Output = ();
    /// # }
    /// #[derive(Clone)]
    /// struct Smtp;
    ///
    /// async fn ping(_ping: Ping, State(_smtp): State<Smtp>) -> Result<(), TaskError> {
    ///     Ok(())
    /// }
    ///
    /// // There is no `.state(Smtp)` before the handler.
    /// let store = ergon_testing::MemoryStore::new();
    /// let server = Server::builder(store).handler(ping);
    /// ```
    pub fn state<S: Send + Sync + 'static>(self, state: S) -> ServerBuilder<S> {
        ServerBuilder { state: Arc::new(state), rest: self.rest }
    }
}

impl<S: Send + Sync + 'static> ServerBuilder<S> {
    /// Adds a handler: an async function, or a closure that returns a future. Its payload says which
    /// kind of task it handles.
    pub fn handler<H, Args>(mut self, handler: H) -> Self
    where
        H: Handler<Args, S>,
        Args: 'static,
    {
        let handler = WithState::new(handler, Arc::clone(&self.state));
        let registration = Registration::new::<H::Task>(handler);
        self.rest.registrations.push(registration);
        self
    }

    /// Adds a worker: a type that handles a kind of task.
    pub fn worker<W: Worker>(mut self, worker: W) -> Self {
        let worker = WithWorker(Arc::new(worker));
        self.rest.registrations.push(Registration::new::<W::Task>(worker));
        self
    }

    /// Serves a queue. Default, when none is named: the queue `default` and those that the handled
    /// kinds choose, each with the server's [`concurrency`](ServerConfig::concurrency), or 10. Name
    /// one, and name all that this server is to serve.
    pub fn queue(mut self, queue: Queue) -> Self {
        self.rest.queues.push(queue);
        self
    }

    /// Wraps every attempt in a layer. The first one added is the outermost.
    ///
    /// Layers run inside of the tracing span, the catching of panics and the timeout, and outside of
    /// the decoding of the payload. One service is shared by all attempts of all kinds, so a
    /// concurrency limit holds for the whole server. An error that a layer makes means to try again
    /// after the backoff. A server without layers pays nothing for the seam.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use ergon_server::{AttemptService, Call};
    /// use tower::{Service, ServiceExt as _, layer::layer_fn};
    ///
    /// // Notes the kind of every attempt before it is run.
    /// let noting = layer_fn(|inner: AttemptService| {
    ///     inner.map_request(|call: Call| {
    ///         println!("{} begins", call.context().kind());
    ///         call
    ///     })
    /// });
    /// # use ergon_core::{Task, TaskError};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Ping;
    /// # impl Task for Ping {
    /// #     const KIND: &'static str = "ping";
    /// #     type Output = ();
    /// # }
    /// # let ping = |_ping: Ping| async { Ok::<_, TaskError>(()) };
    /// # let store = ergon_testing::MemoryStore::new();
    /// let server = ergon_server::Server::builder(store).handler(ping).layer(noting).build();
    /// # assert!(server.is_ok());
    /// ```
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<AttemptService> + Send + Sync + 'static,
        L::Service: Service<Call, Response = Done> + Clone + Send + Sync + 'static,
        <L::Service as Service<Call>>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        <L::Service as Service<Call>>::Future: Send + 'static,
    {
        self.rest.layers.push(layer);
        self
    }

    /// Chooses the numbers. Default: [`ServerConfig::default`].
    pub fn config(mut self, config: ServerConfig) -> Self {
        self.rest.config = config;
        self
    }

    /// Tells a sink what this server commits: what it claims, what became of it, what it takes back
    /// from servers that died and what it removes; may be called more than once.
    ///
    /// The default client of the handlers tells it what they enqueue; one that is
    /// [chosen](Self::client) has sinks of its own.
    pub fn events(mut self, sink: Arc<dyn EventSink>) -> Self {
        self.rest.sinks.push(sink);
        self
    }

    /// The client that handlers get from their context. Default: a client of the same store with
    /// the defaults, and with the sinks of the server.
    pub fn client(mut self, client: Client) -> Self {
        self.rest.client = Some(client);
        self
    }

    /// What people call this server, at most 255 bytes. Default: `host:pid`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.rest.calling.name = Some(name.into());
        self
    }

    /// The version of the program that this server is in, at most 255 bytes, for people who look which
    /// servers there are. Default: the version of ergon.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.rest.calling.version = Some(version.into());
        self
    }

    /// Where random numbers come from. Default: the operating system.
    pub fn rng(mut self, rng: Arc<dyn Rng>) -> Self {
        self.rest.rng = rng;
        self
    }

    /// The clock that dates ids. Default: the machine's. It decides nothing: what is due and which
    /// lease is over is decided by the store's clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.rest.clock = clock;
        self
    }

    /// Where ids of servers and of follow-up tasks come from. Default: random ones.
    pub fn ids(mut self, ids: Arc<dyn IdSource>) -> Self {
        self.rest.ids = ids;
        self
    }

    /// The server.
    ///
    /// # Errors
    ///
    /// [`StartError::NoHandlers`] and [`StartError::DuplicateHandler`], so that each kind has
    /// exactly one; [`StartError::DuplicateQueue`]; [`StartError::InvalidConfig`] when a number or a
    /// name is out of range.
    pub fn build(self) -> Result<Server, StartError> {
        let rest = self.rest;
        rest.config.check()?;
        let queues = served(rest.queues, &rest.registrations, &rest.config)?;
        let mut names = BTreeSet::new();
        if let Some(queue) = queues.iter().find(|queue| !names.insert(&queue.name)) {
            let queue = queue.name.to_string();
            return Err(StartError::DuplicateQueue { queue });
        }
        warn_unserved(&rest.registrations, &names);
        let registry = Registry::new(rest.registrations)?;
        let client = rest.client.unwrap_or_else(|| {
            Client::builder(&rest.store)
                .ids(Arc::clone(&rest.ids))
                .clock(Arc::clone(&rest.clock))
                .limits(Limits::default())
                .sinks(&rest.sinks)
                .build()
        });
        Ok(Server::new(Parts {
            client,
            calling: rest.calling,
            sinks: rest.sinks,
            store: rest.store,
            rng: rest.rng,
            clock: rest.clock,
            ids: rest.ids,
            registry,
            service: rest.layers.build(),
            slots: Slots::new(queues, rest.config.concurrency),
            config: rest.config,
        }))
    }
}

fn served(
    queues: Vec<Queue>,
    registrations: &[Registration],
    config: &ServerConfig,
) -> Result<Vec<crate::config::Served>, StartError> {
    let queues = if queues.is_empty() {
        let concurrency = config.concurrency.unwrap_or(CONCURRENCY_DEFAULT);
        let chosen = registrations.iter().filter_map(|it| it.queue.clone());
        let names: BTreeSet<_> = chosen.chain([QueueName::default()]).collect();
        names.iter().map(|name| Queue::new(name.as_str()).concurrency(concurrency)).collect()
    } else {
        queues
    };
    queues.into_iter().map(Queue::check).collect()
}

/// Another server may serve the queue, and an enqueue may choose another one, so it is no error.
fn warn_unserved(registrations: &[Registration], served: &BTreeSet<&QueueName>) {
    let queues: BTreeSet<_> = registrations.iter().filter_map(|it| it.queue.as_ref()).collect();
    for queue in queues.difference(served) {
        tracing::warn!(%queue, "this server handles tasks of a queue that it does not serve; add `.queue(Queue::new(…))`");
    }
}

impl<S: fmt::Debug> fmt::Debug for ServerBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("state", &self.state)
            .field("store", &self.rest.store)
            .field("config", &self.rest.config)
            .field("queues", &self.rest.queues)
            .finish_non_exhaustive()
    }
}
