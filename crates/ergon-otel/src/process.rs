//! The consumer's side: a span for each attempt, as a layer around it.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{self, Poll},
    time::{Duration, Instant, SystemTime},
};

use ergon_core::{
    ClaimedTask, Conclusion, ErrorKind, TaskEvent,
    attempt::{AttemptEnd, AttemptInfo},
    time::between,
};
use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _},
};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    exception::{Failure, error_type},
    semconv::{OTHER, key, own},
    telemetry::{Inner, Parent, Telemetry},
    trace_context,
};

/// What the operation is called, and what type it is of.
const PROCESS: &str = "process";

/// Makes a span of each attempt; see [`Telemetry::layer`].
#[derive(Clone, Debug)]
pub struct ProcessLayer {
    telemetry: Telemetry,
}

impl ProcessLayer {
    pub(crate) const fn new(telemetry: Telemetry) -> Self {
        Self { telemetry }
    }
}

impl<S> Layer<S> for ProcessLayer {
    type Service = Process<S>;

    fn layer(&self, inner: S) -> Process<S> {
        Process { inner, telemetry: self.telemetry.clone() }
    }
}

/// A service whose calls are spans; see [`Telemetry::layer`].
#[derive(Clone, Debug)]
pub struct Process<S> {
    inner: S,
    telemetry: Telemetry,
}

impl<R, S> Service<R> for Process<S>
where
    R: AttemptInfo,
    S: Service<R>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ProcessFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let running = begin(&self.telemetry, request.task(), request.server().to_string());
        let mut told = Told(Some(Arc::clone(&running)));
        request.follow(Box::new(move |end| told.tell(Some(end))));
        let running = Running(running);
        let attached = running.0.context.clone().attach();
        let inner = self.inner.call(request);
        drop(attached);
        ProcessFuture { inner: Some(inner), running }
    }
}

pin_project! {
    /// An attempt under way: the context of its span is current whenever it is polled, and when it is
    /// dropped.
    #[must_use = "futures do nothing unless polled"]
    pub struct ProcessFuture<F> {
        #[pin]
        inner: Option<F>,
        running: Running,
    }

    impl<F> PinnedDrop for ProcessFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.inner.is_some() {
                let _attached = this.running.0.context.clone().attach();
                this.inner.set(None);
            }
        }
    }
}

impl<F> fmt::Debug for ProcessFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessFuture").finish_non_exhaustive()
    }
}

impl<F: Future> Future for ProcessFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let _attached = this.running.0.context.clone().attach();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            // Polled after its end, which no future has to answer.
            return Poll::Pending;
        };
        let answer = inner.poll(cx);
        if answer.is_ready() {
            this.inner.set(None);
            this.running.0.set_ended();
        }
        answer
    }
}

/// Begins the span of an attempt.
fn begin(telemetry: &Telemetry, task: &ClaimedTask, server: String) -> Arc<Attempt> {
    let inner = &telemetry.inner;
    let (creation, ignored) = trace_context::extract(&task.spec.metadata);
    inner.instruments.ignored(ignored);
    let common = inner.attributes(PROCESS, &task.spec.queue, 1);
    inner.instruments.consumed(&common);
    let began = inner.now();
    let builder = SpanBuilder::from_name(format!("{PROCESS} {}", task.spec.queue))
        .with_kind(SpanKind::Consumer)
        .with_start_time(began)
        .with_attributes(attributes(&common, task, server))
        .with_links(creation.iter().cloned().map(Link::with_context).collect());
    let span = inner.tracer.build_with_context(builder, &parent(inner, task, creation));
    Arc::new(Attempt {
        telemetry: telemetry.clone(),
        context: Context::current().with_span(span),
        common,
        began,
        since: Instant::now(),
        ran: OnceLock::new(),
    })
}

/// The context in which the span of an attempt is begun.
fn parent(inner: &Inner, task: &ClaimedTask, creation: Option<SpanContext>) -> Context {
    match (inner.parent, creation) {
        (Parent::FirstAttempt, Some(creation)) if task.attempt == 1 => {
            Context::new().with_remote_span_context(creation)
        }
        (Parent::None | Parent::FirstAttempt, _) => Context::new(),
    }
}

fn attributes(common: &[KeyValue], task: &ClaimedTask, server: String) -> Vec<KeyValue> {
    let mut attributes = Vec::with_capacity(common.len() + 8);
    attributes.extend_from_slice(common);
    attributes.extend([
        KeyValue::new(key::OPERATION_TYPE, PROCESS),
        KeyValue::new(key::MESSAGE_ID, task.id.to_string()),
        KeyValue::new(key::CLIENT_ID, server),
        KeyValue::new(own::KIND, task.spec.kind.as_str().to_owned()),
        KeyValue::new(own::ATTEMPT, i64::from(task.attempt)),
        KeyValue::new(own::MAX_ATTEMPTS, i64::from(task.max_attempts)),
        KeyValue::new(own::PRIORITY, i64::from(task.priority)),
        KeyValue::new(own::WAIT, between(task.run_at, task.claimed_at).as_secs_f64()),
    ]);
    attributes
}

/// The span of an attempt, which ends when both are known: that its handler has ended, and what came
/// of it.
#[derive(Debug)]
struct Attempt {
    telemetry: Telemetry,
    /// Holds the span.
    context: Context,
    /// What measurements are told by.
    common: Vec<KeyValue>,
    began: SystemTime,
    since: Instant,
    /// How long the handler ran, once it has ended.
    ran: OnceLock<Duration>,
}

impl Attempt {
    /// Notes that the handler has ended.
    fn set_ended(&self) -> Duration {
        *self.ran.get_or_init(|| self.since.elapsed())
    }

    /// Ends the span.
    fn finish(&self, came: &Came<'_>) {
        let ran = self.set_ended();
        let ended = self.began + ran;
        let Inner { instruments, exceptions, .. } = &*self.telemetry.inner;
        let span = self.context.span();
        span.set_attribute(KeyValue::new(own::OUTCOME, came.outcome));
        if let Some(class) = came.class {
            span.set_attribute(error_type(class));
            let mut attributes = self.common.clone();
            attributes.push(error_type(class));
            instruments.processed(ran, &attributes);
        } else {
            instruments.processed(ran, &self.common);
        }
        if let Some(failure) = &came.failure {
            span.set_status(Status::error(failure.message().to_owned()));
            if let Some(exceptions) = exceptions {
                exceptions.failed(&self.context, ended, failure);
            }
        } else if came.class.is_some() {
            span.set_status(Status::error("the outcome was not recorded"));
        }
        span.end_with_timestamp(ended);
    }
}

/// What came of an attempt, in the words of telemetry.
struct Came<'a> {
    outcome: &'static str,
    class: Option<&'static str>,
    failure: Option<Failure<'a>>,
}

impl<'a> Came<'a> {
    /// Of an attempt that was recorded, or of one that was not.
    fn of(end: Option<&'a AttemptEnd<'a>>) -> Self {
        let well = |outcome| Self { outcome, class: None, failure: None };
        let Some(end) = end else {
            return Self { outcome: "lost", class: Some("lease_lost"), failure: None };
        };
        match end.event {
            TaskEvent::Completed { .. } => well("ok"),
            TaskEvent::Retried { reason, error, .. } => {
                Self::failed("retry", *reason, message(end.conclusion, error.as_str()))
            }
            TaskEvent::Failed { reason, error, .. } => {
                Self::failed("failed", *reason, message(end.conclusion, error.as_str()))
            }
            TaskEvent::Cancelled { .. } => well("cancelled"),
            TaskEvent::Snoozed { .. } => well("snoozed"),
            TaskEvent::Released => well("released"),
            // No attempt ends so.
            _ => well(OTHER),
        }
    }

    const fn failed(outcome: &'static str, kind: ErrorKind, message: &'a str) -> Self {
        let class = match kind {
            // The type of what a handler answered is not known.
            ErrorKind::Error => OTHER,
            ErrorKind::Panic
            | ErrorKind::Timeout
            | ErrorKind::Decode
            | ErrorKind::Result
            | ErrorKind::Deadline
            | ErrorKind::Cancelled
            | ErrorKind::Poison => kind.as_str(),
        };
        Self { outcome, class: Some(class), failure: Some(Failure::new(kind, message)) }
    }
}

/// The whole message, of which the event has the beginning.
fn message<'a>(conclusion: &'a Conclusion, excerpt: &'a str) -> &'a str {
    match conclusion {
        Conclusion::Retry { error, .. } | Conclusion::Fail { error, .. } => error,
        Conclusion::Complete { .. }
        | Conclusion::Cancel { .. }
        | Conclusion::Snooze { .. }
        | Conclusion::Release => excerpt,
    }
}

/// The half of an attempt that the handler's future has.
struct Running(Arc<Attempt>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.set_ended();
    }
}

/// The half of an attempt that is told what came of it, or dropped untold.
struct Told(Option<Arc<Attempt>>);

impl Told {
    fn tell(&mut self, end: Option<&AttemptEnd<'_>>) {
        if let Some(attempt) = self.0.take() {
            attempt.finish(&Came::of(end));
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.tell(None);
    }
}
