//! The seam for middleware: an attempt as a tower service.

use std::{
    fmt,
    sync::Arc,
    task::{self, Poll},
};

use bytes::Bytes;
use ergon_core::{
    ClaimedTask, ServerId, TaskError,
    attempt::{AttemptInfo, Follower},
};
use futures_util::future::BoxFuture;
use tower::{Layer, Service, ServiceExt as _, util::BoxCloneSyncService};

use crate::{context::Context, registry::Erased};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The service that a layer wraps: it runs one attempt.
pub type AttemptService = BoxCloneSyncService<Call, Done, HandlerError>;

/// One attempt, as layers see it.
#[derive(Clone)]
pub struct Call {
    pub(crate) context: Context,
    pub(crate) handler: Arc<dyn Erased>,
}

impl Call {
    /// What the handler will know of its attempt.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// The payload: JSON, not decoded yet.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.context.attempt_shared().task.spec.payload
    }
}

impl AttemptInfo for Call {
    fn task(&self) -> &ClaimedTask {
        &self.context.attempt_shared().task
    }

    fn server(&self) -> ServerId {
        self.context.attempt_shared().home.server
    }

    fn follow(&self, follower: Follower) {
        self.context.attempt_shared().follow(follower);
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("context", &self.context).finish_non_exhaustive()
    }
}

/// An attempt that ended well, as layers see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// What the handler answered, as JSON; `None` for `null`.
    pub result: Option<Bytes>,
}

/// An attempt that did not end well, as layers see it.
///
/// A layer passes it on, or answers another error: any error of a layer means to try again after
/// the backoff, unless it was made of a [`TaskError`] that says something else.
#[derive(Debug)]
pub struct HandlerError(pub(crate) Trouble);

/// What went wrong.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The handler said so.
    Task(TaskError),
    /// The payload could not be decoded.
    Decode(String),
    /// The result could not be encoded.
    Encode(String),
}

impl From<TaskError> for HandlerError {
    fn from(error: TaskError) -> Self {
        Self(Trouble::Task(error))
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Trouble::Task(error) => fmt::Display::fmt(error, f),
            Trouble::Decode(error) => write!(f, "the payload could not be decoded: {error}"),
            Trouble::Encode(error) => write!(f, "the result could not be encoded: {error}"),
        }
    }
}

impl std::error::Error for HandlerError {}

/// The innermost service: calls the handler.
#[derive(Clone, Copy, Debug)]
struct Innermost;

impl Service<Call> for Innermost {
    type Response = Done;
    type Error = HandlerError;
    type Future = BoxFuture<'static, Result<Done, HandlerError>>;

    fn poll_ready(&mut self, _cx: &mut task::Context<'_>) -> Poll<Result<(), HandlerError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        call.handler.call(call.context)
    }
}

/// Layers as they were added: the first is the outermost.
#[derive(Default)]
pub(crate) struct Layers(Vec<Box<dyn Wrap>>);

/// A layer without its type.
trait Wrap: Send + Sync {
    fn wrap(&self, inner: AttemptService) -> AttemptService;
}

impl<L> Wrap for L
where
    L: Layer<AttemptService> + Send + Sync,
    L::Service: Service<Call, Response = Done> + Clone + Send + Sync + 'static,
    <L::Service as Service<Call>>::Error: Into<BoxError>,
    <L::Service as Service<Call>>::Future: Send + 'static,
{
    fn wrap(&self, inner: AttemptService) -> AttemptService {
        BoxCloneSyncService::new(self.layer(inner).map_err(unwrap_error))
    }
}

/// Finds the error of the handler in what a layer made of it.
fn unwrap_error(error: impl Into<BoxError>) -> HandlerError {
    match error.into().downcast::<HandlerError>() {
        Ok(error) => *error,
        Err(other) => TaskError::retry(other).into(),
    }
}

impl Layers {
    pub(crate) fn push<L>(&mut self, layer: L)
    where
        L: Layer<AttemptService> + Send + Sync + 'static,
        L::Service: Service<Call, Response = Done> + Clone + Send + Sync + 'static,
        <L::Service as Service<Call>>::Error: Into<BoxError>,
        <L::Service as Service<Call>>::Future: Send + 'static,
    {
        self.0.push(Box::new(layer));
    }

    /// The service of all layers; `None` without any, so that an attempt does not pay for them.
    pub(crate) fn build(self) -> Option<AttemptService> {
        let mut layers = self.0.into_iter().rev().peekable();
        layers.peek()?;
        let innermost = BoxCloneSyncService::new(Innermost);
        Some(layers.fold(innermost, |inner, layer| layer.wrap(inner)))
    }
}

/// Runs one attempt through the layers, if there are any.
pub(crate) fn run(
    service: Option<&AttemptService>,
    call: Call,
) -> BoxFuture<'static, Result<Done, HandlerError>> {
    match service {
        Some(service) => Box::pin(service.clone().oneshot(call)),
        None => call.handler.call(call.context),
    }
}
