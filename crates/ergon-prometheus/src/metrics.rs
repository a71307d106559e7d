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
    board::Board,
    builder::MetricsBuilder,
    collect::collect,
    names::Names,
    observer::Feed,
    sampler::Sampler,
    shard::Shards,
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

pub(crate) struct Inner {
    pub(crate) registry: Registry,
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
    inner: Arc<Inner>,
}

impl Metrics {
    /// Metrics with choices.
    pub fn builder() -> MetricsBuilder {
        MetricsBuilder::default()
    }

    pub(crate) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// What counts events: hand it to clients, managers and servers.
    #[must_use]
    pub fn sink(&self) -> Arc<dyn EventSink> {
        Arc::new(self.clone())
    }

    /// Reads the queues of a store now and then, once it is started.
    #[must_use]
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
        for family in self.inner.registry.gather() {
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
        &self.inner.registry
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
        // The registry is among what the collector would hold: a circle that is never freed.
        MetricsCollector { inner: Arc::downgrade(&self.inner), descriptions: self.inner.descriptions.clone() }
    }

    pub(crate) fn board(&self) -> &Board {
        &self.inner.board
    }

    pub(crate) fn names(&self) -> &Names {
        &self.inner.names
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.inner.clock
    }

    /// Counts queues that have no name of their own.
    pub(crate) fn add_folded_queues(&self, queues: u64) {
        self.inner.queues_folded.fetch_add(queues, Relaxed);
    }
}

impl EventSink for Metrics {
    fn publish(&self, events: &[Event]) {
        self.inner.shards.publish(&self.inner.names, events);
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
