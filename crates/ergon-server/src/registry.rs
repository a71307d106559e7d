//! The handlers of a server, by kind and without their types.

use std::{
    collections::HashMap,
    fmt,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use ergon_core::{KindName, QueueName, Task, TaskError, TaskId};
use futures_util::future::BoxFuture;

use crate::{
    attempt::Attempt,
    call::caught,
    context::Context,
    error::StartError,
    handler::{Handler, Worker},
    layer::{Done, HandlerError, Trouble},
};

/// A handler without its type. Every method calls the application, and may panic.
pub(crate) trait Erased: Send + Sync {
    /// Decodes the payload, runs the attempt, encodes the result.
    fn call(&self, context: Context) -> BoxFuture<'static, Result<Done, HandlerError>>;

    fn timeout(&self) -> Option<Duration> {
        None
    }

    fn retry_delay(&self, _attempt: u16) -> Option<Duration> {
        None
    }
}

/// A handler of a known type, with the state it is called with.
pub(crate) struct WithState<H, Args, S> {
    handler: H,
    state: Arc<S>,
    args: PhantomData<fn(Args)>,
}

impl<H, Args, S> WithState<H, Args, S> {
    pub(crate) const fn new(handler: H, state: Arc<S>) -> Self {
        Self { handler, state, args: PhantomData }
    }
}

impl<H, Args, S> Erased for WithState<H, Args, S>
where
    H: Handler<Args, S>,
    Args: 'static,
    S: Send + Sync + 'static,
{
    fn call(&self, context: Context) -> BoxFuture<'static, Result<Done, HandlerError>> {
        let (handler, state) = (self.handler.clone(), Arc::clone(&self.state));
        Box::pin(async move {
            let task = decode::<H::Task>(context.attempt_shared())?;
            encode::<H::Task>(handler.call(task, &context, &state).await)
        })
    }
}

/// A worker of a known type.
pub(crate) struct WithWorker<W>(pub(crate) Arc<W>);

impl<W: Worker> Erased for WithWorker<W> {
    fn call(&self, context: Context) -> BoxFuture<'static, Result<Done, HandlerError>> {
        let worker = Arc::clone(&self.0);
        Box::pin(async move {
            let task = decode::<W::Task>(context.attempt_shared())?;
            encode::<W::Task>(worker.run(task, context).await)
        })
    }

    fn timeout(&self) -> Option<Duration> {
        self.0.timeout()
    }

    fn retry_delay(&self, attempt: u16) -> Option<Duration> {
        self.0.retry_delay(attempt)
    }
}

fn decode<T: Task>(attempt: &Attempt) -> Result<T, HandlerError> {
    serde_json::from_slice(&attempt.task.spec.payload)
        .map_err(|error| HandlerError(Trouble::Decode(error.to_string())))
}

fn encode<T: Task>(answer: Result<T::Output, TaskError>) -> Result<Done, HandlerError> {
    let json = serde_json::to_vec(&answer?)
        .map_err(|error| HandlerError(Trouble::Encode(error.to_string())))?;
    // What answers nothing is not worth a stored value; it reads back as `null` all the same.
    let result = (json != b"null").then(|| Bytes::from(json));
    Ok(Done { result })
}

/// A handler as attempts find it.
pub(crate) struct Registered {
    pub(crate) handler: Arc<dyn Erased>,
    /// It was said that its timeout panics.
    has_complained: AtomicBool,
}

impl Registered {
    const fn new(handler: Arc<dyn Erased>) -> Self {
        Self { handler, has_complained: AtomicBool::new(false) }
    }

    /// What the handler says how long an attempt may run; nothing when it panics.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        caught(|| self.handler.timeout()).unwrap_or_else(|panic| {
            if !self.has_complained.swap(true, Relaxed) {
                tracing::error!(panic, "the timeout of a worker panicked; the default stands in");
            }
            None
        })
    }
}

/// A handler as it was registered.
pub(crate) struct Registration {
    kind: &'static str,
    /// Where its tasks wait unless an enqueue says otherwise; unknown when the options are bad.
    pub(crate) queue: Option<QueueName>,
    handler: Arc<dyn Erased>,
}

impl Registration {
    pub(crate) fn new<T: Task>(handler: impl Erased + 'static) -> Self {
        let options = KindName::new(T::KIND)
            .ok()
            .and_then(|kind| T::options().into_task(TaskId::MIN, kind, b"null".to_vec()).ok());
        Self {
            kind: T::KIND,
            queue: options.map(|task| task.spec.queue),
            handler: Arc::new(handler),
        }
    }
}

/// The handlers of a server, by kind.
pub(crate) struct Registry {
    handlers: HashMap<KindName, Arc<Registered>>,
    kinds: Arc<[KindName]>,
}

impl Registry {
    pub(crate) fn new(registrations: Vec<Registration>) -> Result<Self, StartError> {
        let mut handlers = HashMap::with_capacity(registrations.len());
        let mut kinds = Vec::with_capacity(registrations.len());
        for Registration { kind, handler, .. } in registrations {
            let name = KindName::new(kind).map_err(|error| StartError::InvalidConfig {
                field: "kind",
                reason: error.to_string(),
            })?;
            let handler = Arc::new(Registered::new(handler));
            if handlers.insert(name.clone(), handler).is_some() {
                return Err(StartError::DuplicateHandler { kind: kind.to_owned() });
            }
            kinds.push(name);
        }
        if kinds.is_empty() {
            return Err(StartError::NoHandlers);
        }
        let kinds = kinds.into();
        Ok(Self { handlers, kinds })
    }

    pub(crate) fn get(&self, kind: &KindName) -> Option<&Arc<Registered>> {
        self.handlers.get(kind)
    }

    pub(crate) const fn kinds(&self) -> &Arc<[KindName]> {
        &self.kinds
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.kinds).finish()
    }
}
