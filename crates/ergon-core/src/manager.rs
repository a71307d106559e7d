//! The manager: what people and tools do with tasks that exist.

use std::{fmt, sync::Arc};

use jiff::Timestamp;

use crate::{
    event::{EventSink, Sinks},
    id::{IdSource, ServerId, SystemIds},
    rng::SystemRng,
    store::{IntoStore, Store},
    time::{Clock, SystemClock},
};

mod audit;
mod controller;
mod inspector;
mod operations;
mod reading;
mod servers;
mod statistics;

pub use self::{
    audit::AuditTrail,
    controller::Controller,
    inspector::Inspector,
    operations::Operations,
    servers::Servers,
    statistics::{FailureReader, StatisticsReader},
};

/// Watches and steers; needs no runtime and no handlers. Cheap to clone.
///
/// ```
/// use ergon_core::{Client, CommandVerdict, Manager, State};
/// use ergon_testing::MemoryStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new();
/// let handle = Client::new(store.clone()).enqueue_json("greet", "Ada").await?;
///
/// let manager = Manager::new(store);
/// let verdict = manager.control().cancel(handle.id(), "not needed any more").await?;
/// assert_eq!(verdict, CommandVerdict::Applied);
/// for queue in manager.tasks().queues().await? {
///     println!("{}: {} cancelled", queue.name, queue.counts.get(State::Cancelled));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Manager {
    store: Arc<dyn Store>,
    sinks: Sinks,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    owner: ServerId,
    hint: Hint,
}

/// Who is told that there is an operation to carry out.
#[derive(Clone, Default)]
struct Hint(Option<Arc<dyn Fn() + Send + Sync>>);

impl fmt::Debug for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hint").field(&self.0.is_some()).finish()
    }
}

impl Manager {
    /// A manager of a store.
    #[must_use]
    pub fn new(store: impl IntoStore) -> Self {
        // A source of its own: ids that are made later go by the manager's clock, not by this one.
        let owner = SystemIds::new(SystemRng).next_server(SystemClock.now());
        Self {
            store: store.into_store(),
            sinks: Sinks::default(),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds::new(SystemRng)),
            owner,
            hint: Hint::default(),
        }
    }

    /// Tells a sink what this manager changes, after each commit; may be called more than once.
    #[must_use]
    pub fn events(mut self, sink: Arc<dyn EventSink>) -> Self {
        self.sinks.push(sink);
        self
    }

    /// Tells several sinks.
    #[must_use]
    pub fn sinks(mut self, sinks: &Sinks) -> Self {
        self.sinks.extend(sinks);
        self
    }

    /// The clock that says which servers are lost, dates entries of the audit trail and paces operations.
    /// Default: the machine's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where ids of operations and of entries of the audit trail come from. Default: random ones.
    #[must_use]
    pub fn id_source(mut self, ids: Arc<dyn IdSource>) -> Self {
        self.ids = ids;
        self
    }

    /// Under which id this manager works on operations. Default: a random one.
    #[must_use]
    pub const fn owned_by(mut self, owner: ServerId) -> Self {
        self.owner = owner;
        self
    }

    /// Has this called when there is an operation to carry out that this manager made or resumed, so
    /// that who carries operations out need not wait for its next look.
    #[must_use]
    pub fn on_operation(mut self, hint: impl Fn() + Send + Sync + 'static) -> Self {
        self.hint = Hint(Some(Arc::new(hint)));
        self
    }

    /// The store behind this manager.
    #[must_use]
    pub const fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Reads tasks and queues.
    #[must_use]
    pub fn tasks(&self) -> Inspector<'_> {
        Inspector::new(&*self.store, self.now())
    }

    /// Changes tasks and queues.
    #[must_use]
    pub fn control(&self) -> Controller<'_> {
        Controller::new(&*self.store, &self.sinks)
    }

    /// Reads which servers there are.
    #[must_use]
    pub fn servers(&self) -> Servers<'_> {
        Servers::new(&*self.store, self.now())
    }

    /// Reads what servers did, by minute or hour.
    #[must_use]
    pub fn statistics(&self) -> StatisticsReader<'_> {
        StatisticsReader::new(&*self.store)
    }

    /// Reads failures, those that are alike together.
    #[must_use]
    pub fn failures(&self) -> FailureReader<'_> {
        FailureReader::new(&*self.store)
    }

    /// Writes and reads the audit trail.
    #[must_use]
    pub fn audit(&self) -> AuditTrail<'_> {
        AuditTrail::new(&*self.store, &*self.clock, &*self.ids)
    }

    /// Makes operations on many tasks, steers them and carries them out.
    #[must_use]
    pub const fn operations(&self) -> Operations<'_> {
        Operations::new(self)
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn ids(&self) -> &dyn IdSource {
        &*self.ids
    }

    const fn owner(&self) -> ServerId {
        self.owner
    }

    fn tell_operation(&self) {
        if let Some(hint) = &self.hint.0 {
            hint();
        }
    }
}
