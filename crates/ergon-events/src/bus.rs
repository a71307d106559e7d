//! The bus: takes events, and hands them to whoever wants to know.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use ergon_core::{Event, EventKindSet, EventSink, WatcherName};

use crate::{
    builder::BusBuilder,
    config::BusConfig,
    error::StartError,
    hub::Hub,
    inline::Inline,
    journal::Journal,
    observer::{Call, Observer},
    run::{BusHandle, start},
    sink::Delivery,
    stats::{BusStats, Role, Tallies, Tally},
    subscription::Subscription,
    tail::TailGauge,
};

/// Takes events as they are committed, and hands them to subscriptions, observers and sinks.
///
/// Cheap to clone; clones are one bus. It is an [`EventSink`]: give [`sink`](Self::sink) to clients,
/// managers and servers. See the [crate](crate) for what is guaranteed.
#[derive(Clone, Debug)]
pub struct Bus {
    shared: Arc<Shared>,
}

/// What the clones of a bus share.
pub(crate) struct Shared {
    pub(crate) config: BusConfig,
    pub(crate) hub: Arc<Hub>,
    /// The journal that is followed; none when the ring is filled by this process.
    pub(crate) followed: Option<Journal>,
    pub(crate) tail: Arc<TailGauge>,
    inline: Vec<Inline>,
    tallies: Tallies,
    published: AtomicU64,
    /// Who waits for the start.
    listeners: Mutex<Option<Listeners>>,
}

/// Those who get a task of their own when the bus is started.
#[derive(Default)]
pub(crate) struct Listeners {
    pub(crate) observers: Vec<Observer>,
    pub(crate) sinks: Vec<PendingSink>,
}

/// A durable sink before the start.
pub(crate) struct PendingSink {
    pub(crate) name: WatcherName,
    pub(crate) kinds: EventKindSet,
    pub(crate) call: Call<Delivery>,
    pub(crate) journal: Journal,
    pub(crate) tally: Arc<Tally>,
}

impl Bus {
    /// Chooses how a bus works.
    pub fn builder() -> BusBuilder {
        BusBuilder::new()
    }

    pub(crate) fn new(
        config: BusConfig,
        hub: Arc<Hub>,
        followed: Option<Journal>,
        inline: Vec<Inline>,
        tallies: Tallies,
        listeners: Listeners,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                config,
                hub,
                followed,
                tail: Arc::default(),
                inline,
                tallies,
                published: AtomicU64::new(0),
                listeners: Mutex::new(Some(listeners)),
            }),
        }
    }

    /// The bus as a sink, for [`Client`](ergon_core::Client), [`Manager`](ergon_core::Manager) and a
    /// server.
    #[must_use]
    pub fn sink(&self) -> Arc<dyn EventSink> {
        Arc::new(self.clone())
    }

    /// Starts what runs beside: the following of the journal, observers, sinks, and the waking of
    /// readers. It runs until the handle is [shut down](BusHandle::shutdown) or dropped.
    ///
    /// # Errors
    ///
    /// [`StartError::AlreadyStarted`]; [`StartError::NoRuntime`] outside of a tokio runtime, and then it
    /// can still be started from within one.
    pub fn start(&self) -> Result<BusHandle, StartError> {
        let runtime = tokio::runtime::Handle::try_current();
        // Why it cannot be told would say no more than that.
        let Ok(runtime) = runtime else { return Err(StartError::NoRuntime) };
        let listeners = self.shared.listeners.lock().unwrap_or_else(PoisonError::into_inner).take();
        let listeners = listeners.ok_or(StartError::AlreadyStarted)?;
        Ok(start(self, listeners, &runtime))
    }

    /// Reads the events of these kinds, from now on. All of them are counted under the name
    /// `subscription`.
    ///
    /// When the bus follows a journal, from the place to which it has come; see
    /// [`BusHandle::ready`].
    pub fn subscribe(&self, kinds: EventKindSet) -> Subscription {
        self.subscribe_as(Role::Subscription.as_str(), kinds)
    }

    /// The same, counted under a name of its own. Names stay in the statistics for ever, and there is room
    /// for 64 of them: name a use, not a user.
    pub fn subscribe_as(&self, name: &str, kinds: EventKindSet) -> Subscription {
        let tally = self.shared.tallies.get(Role::Subscription, name);
        Subscription::new(self.shared.hub.sit(tally), kinds)
    }

    /// What it did so far.
    #[must_use]
    pub fn stats(&self) -> BusStats {
        let (head, ring_events, ring_bytes) = self.shared.hub.sizes();
        let lags = self.shared.hub.lags();
        let listeners = self.shared.tallies.all().into_iter().map(|tally| {
            let own = lags.iter().filter(|lag| Arc::ptr_eq(&lag.tally, &tally));
            let lag = match tally.role {
                Role::Observer | Role::Subscription => {
                    Some(own.map(|lag| lag.events).fold(0, std::cmp::max))
                }
                Role::Inline | Role::DurableSink => None,
            };
            tally.read(lag)
        });
        BusStats {
            published: self.shared.published.load(Relaxed),
            head,
            ring_events,
            ring_bytes,
            tail: self.shared.followed.is_some().then(|| self.shared.tail.read()),
            listeners: listeners.collect(),
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }
}

impl EventSink for Bus {
    fn publish(&self, events: &[Event]) {
        let shared = &*self.shared;
        Tally::count(&shared.published, events.len());
        for observer in &shared.inline {
            observer.tell(events, shared.config.inline_budget);
        }
        if shared.followed.is_none() {
            shared.hub.publish(events);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Nobody can publish any more, so that readers would wait for ever.
        self.hub.close();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("config", &self.config)
            .field("followed", &self.followed)
            .field("inline", &self.inline)
            .finish_non_exhaustive()
    }
}
