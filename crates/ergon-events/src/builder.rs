//! Builds a bus: where its events come from, and who is told.

use std::{collections::BTreeSet, fmt, sync::Arc};

use ergon_core::{Event, EventKindSet, Rng, Store, SystemRng, WatcherName, store::IntoStore};

use crate::{
    BoxError,
    bus::{Bus, Listeners, PendingSink},
    config::BusConfig,
    error::BuildError,
    hub::Hub,
    inline::{Inline, InlineCall},
    item::Batch,
    journal::Journal,
    observer::{Call, Observer, Progress, boxed},
    ring::Bounds,
    sink::Delivery,
    stats::{Role, Tallies},
    subscription::Parts,
};

/// Where the events come from that subscriptions and observers are told.
///
/// Inline observers are told what this process publishes, whatever is chosen here.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Source {
    /// What this process publishes, at once.
    #[default]
    Process,
    /// The journal of a store: what every process that shares it commits, this one's too, each event
    /// exactly once, in the order of the journal. What is published to the bus itself is not told a
    /// second time. [`Deduplicated`](ergon_core::TaskEvent::Deduplicated) is in no journal.
    Journal(Arc<dyn Store>),
}

impl Source {
    /// The journal of this store.
    #[must_use]
    pub fn journal(store: impl IntoStore) -> Self {
        Self::Journal(store.into_store())
    }
}

/// What becomes of what left the ring before an observer read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The observer is told [how much it missed](Batch::lagged), and goes on with what is left.
    #[default]
    Lag,
    /// It is read again from the journal, and the observer misses nothing that the journal still holds;
    /// of what it does not, it is told the [gap](Batch::gap). It may be told an event twice, with the
    /// same [id](crate::Told::id). Needs [`Source::Journal`].
    Backfill,
}

/// Chooses how a [`Bus`] works.
#[must_use = "a bus tells nobody until it is built"]
pub struct BusBuilder {
    config: BusConfig,
    source: Source,
    store: Option<Arc<dyn Store>>,
    rng: Arc<dyn Rng>,
    inline: Vec<(String, InlineCall)>,
    observers: Vec<ObserverChoice>,
    sinks: Vec<SinkChoice>,
}

struct ObserverChoice {
    name: String,
    kinds: EventKindSet,
    overflow: Overflow,
    call: Call<Batch>,
}

struct SinkChoice {
    name: String,
    kinds: EventKindSet,
    call: Call<Delivery>,
}

impl BusBuilder {
    pub(crate) fn new() -> Self {
        Self {
            config: BusConfig::default(),
            source: Source::default(),
            store: None,
            rng: Arc::new(SystemRng),
            inline: Vec::new(),
            observers: Vec::new(),
            sinks: Vec::new(),
        }
    }

    /// Chooses the numbers. Default: [`BusConfig::default`].
    pub const fn config(mut self, config: BusConfig) -> Self {
        self.config = config;
        self
    }

    /// Chooses where the events come from. Default: [`Source::Process`].
    pub fn source(mut self, source: Source) -> Self {
        self.source = source;
        self
    }

    /// The store whose journal durable sinks read. Default: that of [`Source::Journal`].
    pub fn store(mut self, store: impl IntoStore) -> Self {
        self.store = Some(store.into_store());
        self
    }

    /// Where random numbers come from: the name of the watcher, and how long pauses are. Default: the
    /// operating system.
    pub fn rng(mut self, rng: Arc<dyn Rng>) -> Self {
        self.rng = rng;
        self
    }

    /// Calls back with everything that this process publishes, at once, after the commit.
    ///
    /// It is called by the one who committed, in the order of registration, with what one call of the
    /// store committed, never with nothing; several threads may call it at the same time. It is for what
    /// is cheap, such as counting: **work waits for it**. One that takes longer than its
    /// [budget](BusConfig::inline_budget) is counted and warned of, once a minute. A panic ends its call
    /// and nothing else: it is counted, logged once a minute, and the next events come all the same. It
    /// may use the bus, and what it publishes there it is called with in turn: see to it that this ends.
    ///
    /// The name is for logs and statistics; it need not be unique.
    pub fn observe_inline(
        mut self,
        name: impl Into<String>,
        call: impl Fn(&[Event]) + Send + Sync + 'static,
    ) -> Self {
        self.inline.push((name.into(), Box::new(call)));
        self
    }

    /// Calls back with events of these kinds, from a task of the observer's own, from the making of the
    /// bus on; the calls begin when it is [started](Bus::start).
    ///
    /// The events come in order, in batches of at most 256, an event at the latest 20 ms after it came to
    /// the bus ([both can be chosen](BusConfig)); one call ends before the next begins. An observer may
    /// take its time: nobody waits for it, and what becomes of the events meanwhile is chosen by
    /// `overflow`.
    ///
    /// A call that fails or panics is counted, complained of once a minute, and not repeated: the next
    /// batch comes all the same. A call that never returns stops this observer alone; its
    /// [lag](crate::ListenerStats::lag) shows it.
    ///
    /// ```
    /// use ergon_core::{EventKind, EventKindSet};
    /// use ergon_events::{Batch, Bus, Overflow};
    ///
    /// async fn note(batch: Batch) -> Result<(), std::io::Error> {
    ///     if let Some(lagged) = batch.lagged() {
    ///         println!("missed {} events", lagged.missed);
    ///     }
    ///     for event in &batch {
    ///         println!("{} at {}", event.kind(), event.at);
    ///     }
    ///     Ok(())
    /// }
    ///
    /// let failures = EventKindSet::of(&[EventKind::TaskFailed, EventKind::TaskCancelled]);
    /// let bus = Bus::builder().observe("notes", failures, Overflow::Lag, note).build();
    /// # assert!(bus.is_ok());
    /// ```
    pub fn observe<F, O, E>(
        mut self,
        name: impl Into<String>,
        kinds: EventKindSet,
        overflow: Overflow,
        call: F,
    ) -> Self
    where
        F: FnMut(Batch) -> O + Send + 'static,
        O: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let (name, call) = (name.into(), boxed(call));
        self.observers.push(ObserverChoice { name, kinds, overflow, call });
        self
    }

    /// Hands every event of these kinds to another system, at least once, also across restarts: for
    /// bridges that must not lose anything.
    ///
    /// The sink reads the journal of the [store](Self::store), whatever the [source](Self::source) of the
    /// bus is. The store keeps its place under its name, and records for it also while no process runs;
    /// it begins with what happens after its first start. What it acknowledges by `Ok` is not handed over
    /// again, except for the last batch when the process dies before that is noted: recognise it by the
    /// [id](ergon_core::store::Recorded::id) of the event. What it answers with an error, or a panic, is
    /// handed over again, later and later, and nothing behind it before. What the journal does not hold
    /// any more, because the sink was away for longer than its window, is told as a
    /// [gap](Delivery::gap).
    ///
    /// Run a sink in one process at a time: in two, each would hand everything over. A sink that is given
    /// up for good goes on being recorded for until
    /// [`unwatch`](ergon_core::store::Observe::unwatch) is called with its name.
    ///
    /// ```
    /// use ergon_core::EventKindSet;
    /// use ergon_events::{Bus, Delivery};
    ///
    /// async fn send(delivery: Delivery) -> Result<(), std::io::Error> {
    ///     if let Some(gap) = delivery.gap {
    ///         println!("events may be missing here: {}", gap.as_str());
    ///     }
    ///     for recorded in &*delivery.events {
    ///         println!("{} {}", recorded.id, recorded.event.kind());
    ///     }
    ///     Ok(())
    /// }
    ///
    /// let store = ergon_testing::MemoryStore::new();
    /// let bus = Bus::builder().store(store).durable_sink("bridge", EventKindSet::EVERY, send).build();
    /// # assert!(bus.is_ok());
    /// ```
    pub fn durable_sink<F, O, E>(
        mut self,
        name: impl Into<String>,
        kinds: EventKindSet,
        call: F,
    ) -> Self
    where
        F: FnMut(Delivery) -> O + Send + 'static,
        O: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.sinks.push(SinkChoice { name: name.into(), kinds, call: boxed(call) });
        self
    }

    /// The bus.
    ///
    /// # Errors
    ///
    /// [`BuildError::InvalidConfig`] when a number is out of range;
    /// [`BuildError::InvalidSinkName`], [`BuildError::DuplicateSink`] and [`BuildError::NoStore`] for
    /// durable sinks; [`BuildError::NoJournal`] for an observer that cannot be backfilled.
    pub fn build(self) -> Result<Bus, BuildError> {
        let Self { config, source, store, rng, inline, observers, sinks } = self;
        config.check()?;
        let journal = |store: &Arc<dyn Store>, limit| Journal {
            store: Arc::clone(store),
            rng: Arc::clone(&rng),
            limit,
            timeout: config.store_timeout,
        };
        let followed = match &source {
            Source::Process => None,
            Source::Journal(store) => Some(journal(store, config.journal_batch_max)),
        };
        let sink_store = store.as_ref().or(followed.as_ref().map(|followed| &followed.store));
        let sink_journal = sink_store.map(|store| journal(store, config.sink_batch_max));
        let tallies = Tallies::default();
        let bounds =
            Bounds { bytes_max: config.ring_bytes_max, events_max: config.ring_events_max };
        let hub = Arc::new(Hub::new(bounds));
        let sinks = pending(sinks, sink_journal.as_ref(), &tallies)?;
        let observers = observers.into_iter().map(|choice| {
            let refill = match (choice.overflow, &followed) {
                (Overflow::Lag, _) => None,
                (Overflow::Backfill, Some(journal)) => Some(journal.clone()),
                (Overflow::Backfill, None) => {
                    return Err(BuildError::NoJournal { name: choice.name });
                }
            };
            let reader = hub.sit(tallies.get(Role::Observer, &choice.name));
            Ok(Observer {
                parts: Parts::new(reader, choice.kinds),
                call: choice.call,
                refill,
                batch_max: config.observer_batch_max,
                linger: config.observer_linger,
                progress: Arc::new(Progress::default()),
            })
        });
        let observers = observers.collect::<Result<_, _>>()?;
        let inline = inline.into_iter().map(|(name, call)| {
            let tally = tallies.get(Role::Inline, &name);
            tally.listening.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Inline { tally, call }
        });
        let inline = inline.collect();
        Ok(Bus::new(config, hub, followed, inline, tallies, Listeners { observers, sinks }))
    }
}

fn pending(
    sinks: Vec<SinkChoice>,
    journal: Option<&Journal>,
    tallies: &Tallies,
) -> Result<Vec<PendingSink>, BuildError> {
    let mut names = BTreeSet::new();
    let checked = sinks.into_iter().map(|SinkChoice { name: text, kinds, call }| {
        let Ok(name) = WatcherName::new(&text) else {
            return Err(BuildError::InvalidSinkName { name: text });
        };
        if !names.insert(name.clone()) {
            return Err(BuildError::DuplicateSink { name: text });
        }
        let journal = journal.cloned().ok_or(BuildError::NoStore { name: text })?;
        let tally = tallies.get(Role::DurableSink, name.as_str());
        Ok(PendingSink { name, kinds, call, journal, tally })
    });
    checked.collect()
}

impl fmt::Debug for BusBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inline: Vec<_> = self.inline.iter().map(|(name, _)| name).collect();
        let observers: Vec<_> = self.observers.iter().map(|choice| &choice.name).collect();
        let sinks: Vec<_> = self.sinks.iter().map(|choice| &choice.name).collect();
        f.debug_struct("BusBuilder")
            .field("config", &self.config)
            .field("source", &self.source)
            .field("inline", &inline)
            .field("observers", &observers)
            .field("sinks", &sinks)
            .finish_non_exhaustive()
    }
}
