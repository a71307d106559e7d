//! The manager: what people and tools do with tasks that exist.

use std::sync::Arc;

use crate::{
    event::{EventSink, Sinks},
    store::{IntoStore, Store},
};

mod controller;
mod inspector;

pub use self::{controller::Controller, inspector::Inspector};

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
}

impl Manager {
    /// A manager of a store.
    #[must_use]
    pub fn new(store: impl IntoStore) -> Self {
        Self { store: store.into_store(), sinks: Sinks::default() }
    }

    /// Tells a sink what this manager changes, after each commit; may be called more than once.
    #[must_use]
    pub fn events(mut self, sink: Arc<dyn EventSink>) -> Self {
        self.sinks.push(sink);
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
        Inspector::new(&*self.store)
    }

    /// Changes tasks and queues.
    #[must_use]
    pub fn control(&self) -> Controller<'_> {
        Controller::new(&*self.store, &self.sinks)
    }
}
