//! The manager: what people and tools do with tasks that exist.

use std::sync::Arc;

use crate::store::{IntoStore, Store};

mod controller;
mod inspector;

pub use self::{controller::Controller, inspector::Inspector};

/// Watches and steers; needs no runtime and no handlers. Cheap to clone.
///
/// ```
/// # use ergon_core::{Manager, StoreError, TaskId, store::Store};
/// # async fn example(store: std::sync::Arc<dyn Store>, id: TaskId) -> Result<(), StoreError> {
/// let manager = Manager::new(store);
/// manager.control().cancel(id, "not needed any more").await?;
/// for queue in manager.tasks().queues().await? {
///     println!("{}: {} tasks", queue.name, queue.counts.total());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Manager {
    store: Arc<dyn Store>,
}

impl Manager {
    /// A manager of a store.
    #[must_use]
    pub fn new(store: impl IntoStore) -> Self {
        Self { store: store.into_store() }
    }

    /// Reads tasks and queues.
    #[must_use]
    pub fn tasks(&self) -> Inspector<'_> {
        Inspector::new(&*self.store)
    }

    /// Changes tasks and queues.
    #[must_use]
    pub fn control(&self) -> Controller<'_> {
        Controller::new(&*self.store)
    }
}
