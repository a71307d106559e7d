//! What all requests of a monitor share.

use std::{fmt, sync::Arc};

use ergon_core::{Client, Clock, Manager};
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::Gate, bound::Bound, bulk::Outcomes, cache::Cache, config::MonitorConfig, csrf::Forms,
    network::Network, sse::Hub,
};

/// What handlers hold.
pub(crate) type App = Arc<Shared>;

/// Writes the metrics of the program around the monitor.
pub(crate) type Metrics = Arc<dyn Fn() -> String + Send + Sync>;

pub(crate) struct Shared {
    pub(crate) config: MonitorConfig,
    /// The proxies that are believed.
    pub(crate) proxies: Vec<Network>,
    pub(crate) manager: Manager,
    pub(crate) client: Client,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) gate: Gate,
    pub(crate) forms: Forms,
    pub(crate) cache: Cache,
    /// Readings of pages.
    pub(crate) reads: Bound,
    /// Orders.
    pub(crate) orders: Bound,
    pub(crate) outcomes: Outcomes,
    /// Exports under way.
    pub(crate) exports: Arc<Semaphore>,
    pub(crate) metrics: Option<Metrics>,
    /// Cancelled when the monitor stops, before it waits for requests: streams end by it.
    pub(crate) streams: CancellationToken,
    /// Who is told of changes, and who follows the store for them.
    pub(crate) live: Hub,
    /// Orders under way, and streams: a shutdown waits for them.
    pub(crate) tasks: TaskTracker,
    pub(crate) started_at: Timestamp,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}
