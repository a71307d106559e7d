//! The client: enqueues tasks, and waits for what became of them.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;

use crate::{
    event::{EventSink, Sinks},
    id::{IdSource, SystemIds, TaskId},
    limits::Limits,
    name::KindName,
    options::TaskOptions,
    rng::SystemRng,
    store::{IntoStore, Store},
    task::Task,
    time::{Clock, SystemClock},
};

mod enqueue;
mod handle;
mod propagation;

pub use self::{
    enqueue::{Answer, Enqueue, EnqueueMany},
    handle::{Enqueued, Handle, HandleResult, ResultError},
    propagation::{Propagation, Purpose, Sent, Underway},
};

/// Enqueues tasks. Cheap to clone; needs no server and no handlers, only the payload types.
///
/// ```
/// use ergon_core::{Client, State, Task};
/// use ergon_testing::MemoryStore;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Task)]
/// #[task(kind = "greet", queue = "mail")]
/// struct Greet {
///     name: String,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::new(MemoryStore::new());
///
/// let handle = client.enqueue(Greet { name: "Ada".into() }).priority(5).await?;
/// assert_eq!(handle.state().await?, Some(State::Pending));
///
/// let guests = ["Grace", "Edsger"].map(|name| Greet { name: name.into() });
/// assert_eq!(client.enqueue_many(guests).await?.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Arc<dyn Store>,
    ids: Arc<dyn IdSource>,
    clock: Arc<dyn Clock>,
    limits: Limits,
    queue_options: BTreeMap<String, TaskOptions>,
    sinks: Sinks,
    propagation: Option<Arc<dyn Propagation>>,
}

impl Client {
    /// A client of a store, with the defaults.
    #[must_use]
    pub fn new(store: impl IntoStore) -> Self {
        Self::builder(store).build()
    }

    /// A client of a store, with choices.
    pub fn builder(store: impl IntoStore) -> ClientBuilder {
        ClientBuilder {
            inner: Inner {
                store: store.into_store(),
                ids: Arc::new(SystemIds::new(SystemRng)),
                clock: Arc::new(SystemClock),
                limits: Limits::default(),
                queue_options: BTreeMap::new(),
                sinks: Sinks::default(),
                propagation: None,
            },
        }
    }

    /// The store behind this client.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// Enqueues a task; await the builder, after choosing options if any.
    #[must_use = "nothing is enqueued until the builder is awaited"]
    #[expect(clippy::needless_pass_by_value, reason = "a task is handed over, not lent")]
    pub fn enqueue<T: Task>(&self, task: T) -> Enqueue<T::Output> {
        Enqueue::new(self, KindName::new(T::KIND), serde_json::to_vec(&task), T::options())
    }

    /// Enqueues a task of a kind that this program has no type for, as gateways and tools do.
    ///
    /// Nothing here knows whether a handler exists or can decode the payload: a task of a kind that
    /// no server handles waits until one does, and one that its handler cannot decode is tried three
    /// times, five minutes apart, so that a deploy under way can end, and then fails.
    #[must_use = "nothing is enqueued until the builder is awaited"]
    pub fn enqueue_json(
        &self,
        kind: impl AsRef<str>,
        payload: impl Serialize,
    ) -> Enqueue<serde_json::Value> {
        let payload = serde_json::to_vec(&payload);
        Enqueue::new(self, KindName::new(kind), payload, TaskOptions::default())
    }

    /// Enqueues many tasks of one kind at once; await the builder, after choosing options if any.
    ///
    /// Up to 10,000 tasks, together up to 64 MiB, are one batch, stored all or nothing. More are
    /// stored batch by batch, in order; every task is checked before the first batch is stored.
    #[must_use = "nothing is enqueued until the builder is awaited"]
    pub fn enqueue_many<T: Task>(
        &self,
        tasks: impl IntoIterator<Item = T>,
    ) -> EnqueueMany<T::Output> {
        let payloads = tasks.into_iter().map(|task| serde_json::to_vec(&task)).collect();
        EnqueueMany::new(self, KindName::new(T::KIND), payloads, T::options())
    }

    /// A handle of a task that was enqueued before, perhaps by another process if the store can be
    /// shared by several.
    #[must_use]
    pub fn handle<T: Task>(&self, id: TaskId) -> Handle<T::Output> {
        Handle::new(Arc::clone(&self.inner.store), id)
    }
}

/// Chooses how a [`Client`] works.
#[derive(Debug)]
#[must_use]
pub struct ClientBuilder {
    inner: Inner,
}

impl ClientBuilder {
    /// What tasks in `queue` choose unless the kind or the call chooses otherwise.
    pub fn queue_options(mut self, queue: impl Into<String>, options: TaskOptions) -> Self {
        self.inner.queue_options.insert(queue.into(), options);
        self
    }

    /// How large things may be, up to the caps. Default: [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.inner.limits = limits.capped();
        self
    }

    /// Where ids come from. Default: random ones.
    pub fn ids(mut self, ids: Arc<dyn IdSource>) -> Self {
        self.inner.ids = ids;
        self
    }

    /// The clock that dates ids. Default: the machine's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.inner.clock = clock;
        self
    }

    /// Tells a sink what this client enqueues, after each commit; may be called more than once.
    pub fn events(mut self, sink: Arc<dyn EventSink>) -> Self {
        self.inner.sinks.push(sink);
        self
    }

    /// Tells several sinks.
    pub fn sinks(mut self, sinks: &Sinks) -> Self {
        self.inner.sinks.extend(sinks);
        self
    }

    /// Lets new tasks carry where they come from, such as the trace that enqueued them, and follows
    /// their enqueues. Default: nothing.
    pub fn propagation(mut self, propagation: Arc<dyn Propagation>) -> Self {
        self.inner.propagation = Some(propagation);
        self
    }

    /// The client.
    #[must_use]
    pub fn build(self) -> Client {
        Client { inner: Arc::new(self.inner) }
    }
}
