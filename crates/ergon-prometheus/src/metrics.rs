//! The metrics of one process: counts events as they are published, answers scrapes.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use ergon_core::{Clock, Event, EventSink, store::IntoStore};
use prometheus::{
    Registry, TextEncoder,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use crate::{
    board::Board, builder::MetricsBuilder, collect::collect, names::Names, observer::Feed,
    sampler::Sampler, shard::Shards,
};

/// The content type of what [`Metrics::encode`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What `ergon_build_info` says.
#[derive(Debug)]
pub(crate) struct Build {
    pub(crate) version: String,
    pub(crate) backend: String,
    pub(crate) revision: String,
}

/// All that is counted, without the registry that asks for it.
pub(crate) struct Core {
    pub(crate) descriptions: Vec<Desc>,
    pub(crate) names: Names,
    pub(crate) shards: Shards,
    pub(crate) board: Board,
    pub(crate) feeds: Vec<Feed>,
    /// Most observers that had no name of their own at once.
    pub(crate) observers_folded: AtomicU64,
    pub(crate) queues_folded: AtomicU64,
    pub(crate) build: Build,
    pub(crate) clock: Arc<dyn Clock>,
}

/// The metrics of one process. Cheap to clone; clones count together.
///
/// It is an [`EventSink`]: hand it to whatever commits, and each event is counted once, in the
/// counters of the process that committed it. What the queues hold is in the store, and is read by a
/// [`Sampler`] of one process.
///
/// A scrape reads memory alone. It asks the store nothing, whatever the store is doing.
///
/// ```
/// use std::sync::Arc;
///
/// use ergon_core::Client;
/// use ergon_prometheus::Metrics;
/// use ergon_testing::MemoryStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let metrics = Metrics::builder().backend("memory").build()?;
/// let store = MemoryStore::new();
/// let client = Client::builder(store.clone()).events(metrics.sink()).build();
/// let sampling = metrics.sampler(store).start();
///
/// client.enqueue_json("greet", "Ada").await?;
/// let line = r#"ergon_tasks_enqueued_total{queue="default",kind="greet",outcome="inserted"} 1"#;
/// assert!(metrics.encode().contains(line));
/// sampling.stop().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Metrics {
    core: Arc<Core>,
    registry: Registry,
}

impl Metrics {
    /// Metrics with choices.
    pub fn builder() -> MetricsBuilder {
        MetricsBuilder::default()
    }

    pub(crate) fn new(core: Core) -> Result<Self, prometheus::Error> {
        let metrics = Self { core: Arc::new(core), registry: Registry::new() };
        metrics.registry.register(Box::new(metrics.collector()))?;
        Ok(metrics)
    }

    /// What counts events: hand it to clients, managers and servers.
    #[must_use]
    pub fn sink(&self) -> Arc<dyn EventSink> {
        Arc::new(self.clone())
    }

    /// Reads the queues of a store now and then, once it is started.
    pub fn sampler(&self, store: impl IntoStore) -> Sampler {
        Sampler::new(self.clone(), store.into_store())
    }

    /// All metrics as text, in the format 0.0.4 of Prometheus; see [`CONTENT_TYPE`].
    ///
    /// Those that the application registered in [`registry`](Self::registry) are among them; one that
    /// cannot be encoded, such as one without a name, is left out.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        for family in self.registry.gather() {
            let len = text.len();
            let family = std::slice::from_ref(&family);
            if TextEncoder::new().encode_utf8(family, &mut text).is_err() {
                text.truncate(len);
            }
        }
        text
    }

    /// The registry of these metrics. The application can register metrics of its own here.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// These metrics for a registry of the application.
    ///
    /// ```
    /// # use ergon_prometheus::Metrics;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let metrics = Metrics::builder().build()?;
    /// let registry = prometheus::Registry::new();
    /// registry.register(Box::new(metrics.collector()))?;
    /// assert!(registry.gather().iter().any(|family| family.name() == "ergon_build_info"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn collector(&self) -> MetricsCollector {
        MetricsCollector(Arc::clone(&self.core))
    }

    pub(crate) fn board(&self) -> &Board {
        &self.core.board
    }

    pub(crate) fn names(&self) -> &Names {
        &self.core.names
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.core.clock
    }

    /// Counts queues that have no name of their own.
    pub(crate) fn add_folded_queues(&self, queues: u64) {
        self.core.queues_folded.fetch_add(queues, Relaxed);
    }
}

impl EventSink for Metrics {
    fn publish(&self, events: &[Event]) {
        self.core.shards.publish(&self.core.names, events);
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// [`Metrics`] as a registry of the application takes them.
#[derive(Clone)]
pub struct MetricsCollector(Arc<Core>);

impl Collector for MetricsCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.0.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        collect(&self.0)
    }
}

impl fmt::Debug for MetricsCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsCollector").finish_non_exhaustive()
    }
}
