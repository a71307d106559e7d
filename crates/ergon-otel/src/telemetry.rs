//! What spans, metrics and exceptions are made with, and how they are told.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use ergon_core::{Clock, QueueName, Timestamp, client::Propagation};
use opentelemetry::{
    InstrumentationScope, KeyValue, StringValue, global,
    global::BoxedTracer,
    logs::{Logger, LoggerProvider},
    metrics::{Meter, MeterProvider},
    trace::{Span, Tracer, TracerProvider},
};

use crate::{
    enqueue::Enqueues,
    exception::{Exceptions, Logged},
    instruments::Instruments,
    process::ProcessLayer,
    semconv::{SCHEMA_URL, SYSTEM, key},
};

/// What the parent of an attempt's span is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parent {
    /// None: each attempt is a trace of its own, linked to the creation context. A trace ends in time,
    /// and one enqueue of a thousand tasks is not a trace of a thousand tasks.
    #[default]
    None,
    /// Of the first attempt the creation context, so that it is in the trace of whoever enqueued; of
    /// the others none. Each is linked to the creation context as well.
    FirstAttempt,
}

/// Makes spans, metrics and exceptions of what clients and servers do. Cheap to clone.
///
/// Use one for a process: instruments of the same name are the same.
#[derive(Clone, Debug)]
pub struct Telemetry {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) tracer: BoxedTracer,
    pub(crate) instruments: Instruments,
    pub(crate) exceptions: Option<Box<dyn Exceptions>>,
    clock: Option<Arc<dyn Clock>>,
    pub(crate) parent: Parent,
    client_id: Option<StringValue>,
    address: Vec<KeyValue>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry")
            .field("parent", &self.parent)
            .field("client_id", &self.client_id)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Chooses how telemetry is made.
    pub fn builder() -> TelemetryBuilder {
        TelemetryBuilder {
            tracer: None,
            meter: None,
            exceptions: None,
            clock: None,
            parent: Parent::default(),
            client_id: None,
            address: Vec::new(),
        }
    }

    /// For [`ClientBuilder::propagation`](ergon_core::ClientBuilder::propagation): a span for each
    /// enqueue, whose context its tasks carry.
    #[must_use]
    pub fn propagation(&self) -> Arc<dyn Propagation> {
        Arc::new(Enqueues(self.clone()))
    }

    /// For `ServerBuilder::layer`: a span for each attempt. Add it first, so that it is around every
    /// other layer.
    #[must_use]
    pub fn layer(&self) -> ProcessLayer {
        ProcessLayer::new(self.clone())
    }
}

impl Inner {
    /// The present instant; 1970 if the clock says that it is earlier.
    pub(crate) fn now(&self) -> SystemTime {
        // The machine's in nanoseconds, as others date their spans: a child does not begin before its
        // parent because its beginning was cut to microseconds.
        let now = self.clock.as_ref().map_or_else(Timestamp::now, |clock| clock.now());
        let nanos = u64::try_from(now.as_nanosecond()).unwrap_or_default();
        SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos)
    }

    /// The attributes that every span and every measurement has, with room for so many more.
    pub(crate) fn attributes(
        &self,
        operation: &'static str,
        queue: &QueueName,
        more: usize,
    ) -> Vec<KeyValue> {
        let mut attributes = Vec::with_capacity(3 + self.address.len() + more);
        attributes.push(KeyValue::new(key::SYSTEM, SYSTEM));
        attributes.push(KeyValue::new(key::OPERATION_NAME, operation));
        // Counted, since the list is copied.
        attributes.push(KeyValue::new(key::DESTINATION_NAME, Arc::<str>::from(queue.as_str())));
        attributes.extend(self.address.iter().cloned());
        attributes
    }

    /// Who enqueues, if that was said.
    pub(crate) fn client_id(&self) -> Option<KeyValue> {
        self.client_id.clone().map(|id| KeyValue::new(key::CLIENT_ID, id))
    }
}

/// Chooses how [`Telemetry`] is made.
#[must_use]
pub struct TelemetryBuilder {
    tracer: Option<BoxedTracer>,
    meter: Option<Meter>,
    exceptions: Option<Box<dyn Exceptions>>,
    clock: Option<Arc<dyn Clock>>,
    parent: Parent,
    client_id: Option<StringValue>,
    address: Vec<KeyValue>,
}

impl TelemetryBuilder {
    /// Where spans go. Default: the global provider at the time of [`build`](Self::build).
    pub fn tracer_provider<P>(mut self, provider: &P) -> Self
    where
        P: TracerProvider,
        P::Tracer: Send + Sync + 'static,
        <P::Tracer as Tracer>::Span: Span + Send + Sync + 'static,
    {
        let tracer = provider.tracer_with_scope(scope());
        self.tracer = Some(BoxedTracer::new(Box::new(tracer)));
        self
    }

    /// Where metrics go. Default: the global provider at the time of [`build`](Self::build).
    pub fn meter_provider(mut self, provider: &impl MeterProvider) -> Self {
        self.meter = Some(provider.meter_with_scope(scope()));
        self
    }

    /// Where exceptions go. Default: nowhere, as OpenTelemetry has no global provider for Rust.
    pub fn logger_provider<P>(mut self, provider: &P) -> Self
    where
        P: LoggerProvider,
        P::Logger: Logger + Send + Sync + 'static,
    {
        self.exceptions = Some(Box::new(Logged(provider.logger_with_scope(scope()))));
        self
    }

    /// The clock that dates spans and exceptions. Default: the machine's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// What the parent of an attempt's span is. Default: [`Parent::None`].
    pub const fn parent(mut self, parent: Parent) -> Self {
        self.parent = parent;
        self
    }

    /// What `messaging.client.id` says of enqueues. Default: nothing. Of attempts it is the id of the
    /// server.
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = Some(id.into().into());
        self
    }

    /// What `server.address` and `server.port` say: where the store is, if it is a server. Default:
    /// nothing.
    pub fn server_address(mut self, address: impl Into<String>, port: Option<u16>) -> Self {
        let address = KeyValue::new(key::SERVER_ADDRESS, address.into());
        let port = port.map(|port| KeyValue::new(key::SERVER_PORT, i64::from(port)));
        self.address = [Some(address), port].into_iter().flatten().collect();
        self
    }

    /// The telemetry.
    #[must_use]
    pub fn build(self) -> Telemetry {
        let tracer = || global::tracer_provider().tracer_with_scope(scope());
        let meter = self.meter.unwrap_or_else(|| global::meter_with_scope(scope()));
        Telemetry {
            inner: Arc::new(Inner {
                tracer: self.tracer.unwrap_or_else(tracer),
                instruments: Instruments::new(&meter),
                exceptions: self.exceptions,
                clock: self.clock,
                parent: self.parent,
                client_id: self.client_id,
                address: self.address,
            }),
        }
    }
}

impl fmt::Debug for TelemetryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TelemetryBuilder")
            .field("parent", &self.parent)
            .field("client_id", &self.client_id)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Whose telemetry it is.
fn scope() -> InstrumentationScope {
    InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(SCHEMA_URL)
        .build()
}
