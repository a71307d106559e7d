//! Runs attempts: calls the handler, keeps it within its limits, decides how the attempt ended.
//!
//! From the outside in, around every attempt: the tracing span, the catching of panics, the limits
//! (timeout, requests to stop), the application's layers in the order they were added, the decoding
//! of the payload, the handler.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use ergon_core::{ClaimedTask, Conclusion, ErrorKind, task::TaskErrorKind};
use futures_util::future::BoxFuture;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::task::TaskTracker;
use tracing::Span;

use crate::{
    attempt::{Attempt, flag},
    call::caught,
    context::Context,
    layer::{self, Call, Done, HandlerError, Trouble},
    registry::{Erased, Registered},
    seat::Seat,
    shared::Shared,
    stock::Ready,
};

/// Attempts that a payload that cannot be decoded has: with the delay between them enough for a
/// rolling deploy to bring the code that can.
const DECODE_ATTEMPTS_MAX: u16 = 3;

/// How long such a task waits between attempts.
const DECODE_DELAY: Duration = Duration::from_secs(5 * 60);

/// A timeout that ends after any process.
const FAR: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Starts the attempt of a task, in a slot that is free.
pub(crate) fn start(shared: &Arc<Shared>, tracker: &TaskTracker, ready: Ready, now: Instant) {
    let Ready { attempt, handler, .. } = ready;
    let seat = Seat::take(Arc::clone(shared), attempt, now);
    let timeout = seat.attempt().task.spec.timeout.or_else(|| handler.timeout());
    let timeout = timeout.unwrap_or(shared.config.default_timeout);
    seat.attempt().set_started(now + std::cmp::min(timeout, FAR));
    tracker.spawn(run(seat, handler));
}

/// Runs one attempt to its end, hands its outcome in, and frees its slot.
async fn run(mut seat: Seat, handler: Arc<Registered>) {
    seat.begin();
    let (shared, attempt) = (seat.shared(), seat.attempt());
    let conclusion = if let Some(missed) = missed_deadline(&attempt.task) {
        missed
    } else {
        let end = Running::new(shared, attempt, &handler.handler).await;
        conclude(shared, attempt, &*handler.handler, end)
    };
    trace_failure(&attempt.task, &conclusion);
    seat.hand_in(conclusion).await;
}

/// Says what went wrong: a warning when the task fails with it, information when it is tried again.
fn trace_failure(task: &ClaimedTask, conclusion: &Conclusion) {
    let (is_final, reason, error) = match conclusion {
        Conclusion::Fail { kind, error } => (true, kind, error),
        Conclusion::Retry { kind, error, .. } => (task.attempt >= task.max_attempts, kind, error),
        Conclusion::Complete { .. }
        | Conclusion::Cancel { .. }
        | Conclusion::Snooze { .. }
        | Conclusion::Release => return,
    };
    let (id, kind, attempt, reason) = (task.id, &task.spec.kind, task.attempt, reason.as_str());
    if is_final {
        tracing::warn!(%id, %kind, attempt, reason, error, "a task failed");
    } else {
        tracing::info!(%id, %kind, attempt, reason, error, "an attempt failed; it is tried again");
    }
}

/// A task is not started after its deadline. The instant of the claim decides, by the store's
/// clock.
fn missed_deadline(task: &ClaimedTask) -> Option<Conclusion> {
    let deadline = task.spec.deadline?;
    (deadline < task.claimed_at).then(|| Conclusion::Fail {
        kind: ErrorKind::Deadline,
        error: format!("the deadline {deadline} had passed before the task was started"),
    })
}

/// How the driving of a handler ended.
enum End {
    Answered(Result<Done, HandlerError>),
    Panicked(String),
    TimedOut,
    Dropped,
}

/// Decides what is recorded of an attempt. Errors show themselves by code of the application, which
/// may panic as the handler may.
fn conclude(shared: &Shared, attempt: &Attempt, handler: &dyn Erased, end: End) -> Conclusion {
    caught(|| decide(shared, attempt, handler, end)).unwrap_or_else(|panic| {
        let id = attempt.task.id;
        tracing::error!(%id, panic, "what a handler answered panicked when it was read");
        let error = format!("what the handler answered panicked when it was read: {panic}");
        let delay = own_delay(shared, &attempt.task);
        Conclusion::Retry { delay, kind: ErrorKind::Panic, error }
    })
}

fn decide(shared: &Shared, attempt: &Attempt, handler: &dyn Erased, end: End) -> Conclusion {
    let task = &attempt.task;
    let retry = |kind, error, delay| retry(shared, task, handler, kind, error, delay);
    let trouble = match end {
        End::Dropped => return Conclusion::Release,
        End::Panicked(message) => return retry(ErrorKind::Panic, message, None),
        End::TimedOut => {
            let error = "the attempt exceeded its timeout".to_owned();
            return retry(ErrorKind::Timeout, error, None);
        }
        End::Answered(Ok(Done { result })) => {
            // What the store would make of it, so that what is told is what is recorded.
            return Conclusion::Complete { result }.storable(&shared.limits);
        }
        End::Answered(Err(HandlerError(trouble))) => trouble,
    };
    match trouble {
        Trouble::Task(error) => match error.into_kind() {
            // An error after a request to stop says no more than that the handler stopped.
            TaskErrorKind::Retry { .. } if is_interrupted(attempt) => Conclusion::Release,
            TaskErrorKind::Retry { message, delay } => retry(ErrorKind::Error, message, delay),
            TaskErrorKind::Fail { message: error } => {
                Conclusion::Fail { kind: ErrorKind::Error, error }
            }
            TaskErrorKind::Cancel { reason } => Conclusion::Cancel { reason },
            TaskErrorKind::Snooze { delay } => Conclusion::Snooze { delay },
        },
        Trouble::Decode(error) => {
            let (kind, error) =
                (ErrorKind::Decode, format!("the payload could not be decoded: {error}"));
            if task.attempt < DECODE_ATTEMPTS_MAX {
                retry(kind, error, Some(DECODE_DELAY))
            } else {
                Conclusion::Fail { kind, error }
            }
        }
        Trouble::Encode(error) => {
            let error = format!("the result could not be encoded: {error}");
            Conclusion::Fail { kind: ErrorKind::Result, error }
        }
    }
}

/// A failure that waits as long as the error says, or else the handler, or else the task.
fn retry(
    shared: &Shared,
    task: &ClaimedTask,
    handler: &dyn Erased,
    kind: ErrorKind,
    error: String,
    delay: Option<Duration>,
) -> Conclusion {
    if let Some(delay) = delay {
        return Conclusion::Retry { delay, kind, error };
    }
    match caught(|| handler.retry_delay(task.attempt)) {
        Ok(delay) => {
            let delay = delay.unwrap_or_else(|| own_delay(shared, task));
            Conclusion::Retry { delay, kind, error }
        }
        Err(panic) => {
            tracing::error!(id = %task.id, panic, "the retry delay of a worker panicked");
            let error = format!("{error}; and the retry delay of the worker panicked: {panic}");
            let delay = own_delay(shared, task);
            Conclusion::Retry { delay, kind: ErrorKind::Panic, error }
        }
    }
}

/// How long a task waits by its own policy; the longest that this may be if the draw panics.
fn own_delay(shared: &Shared, task: &ClaimedTask) -> Duration {
    let policy = &task.spec.retry;
    caught(|| policy.delay(task.attempt, &*shared.rng))
        .unwrap_or_else(|_panic| policy.ceiling(task.attempt))
}

/// Says whether the attempt was asked to stop by no fault of the task.
fn is_interrupted(attempt: &Attempt) -> bool {
    let flags = attempt.flags();
    flags & (flag::SHUTDOWN | flag::LOST) != 0 && flags & flag::CANCELLED == 0
}

/// Drives a handler within its limits.
///
/// The handler is polled before anything else is set up: one that ends at once costs no timer and
/// no registration.
struct Running<'a> {
    shared: &'a Shared,
    attempt: &'a Arc<Attempt>,
    handler: &'a Arc<dyn Erased>,
    future: Option<BoxFuture<'static, Result<Done, HandlerError>>>,
    timer: Option<Pin<Box<Sleep>>>,
    /// When the handler has to have ended since it was asked to stop.
    stop_at: Option<Instant>,
    span: Span,
}

impl<'a> Running<'a> {
    fn new(shared: &'a Shared, attempt: &'a Arc<Attempt>, handler: &'a Arc<dyn Erased>) -> Self {
        let task = &attempt.task;
        let span = tracing::debug_span!(
            "task",
            id = %task.id,
            kind = %task.spec.kind,
            queue = %task.spec.queue,
            attempt = task.attempt
        );
        Self { shared, attempt, handler, future: None, timer: None, stop_at: None, span }
    }

    /// Goes on with the attempt.
    fn drive(&mut self, cx: &mut task::Context<'_>) -> Poll<End> {
        if let Poll::Ready(answer) = self.poll_handler(cx) {
            return Poll::Ready(End::Answered(answer));
        }
        self.attempt.driver.register(cx.waker());
        self.poll_limits(cx)
    }

    fn poll_handler(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<Done, HandlerError>> {
        let _entered = self.span.enter();
        let (shared, attempt, handler) = (self.shared, self.attempt, self.handler);
        let future = self.future.get_or_insert_with(|| {
            let context = Context::new(Arc::clone(attempt));
            let handler = Arc::clone(handler);
            layer::run(shared.service.as_ref(), Call { context, handler })
        });
        future.as_mut().poll(cx)
    }

    /// Ends the handler when it has exceeded a limit; else sees to being woken when it does.
    fn poll_limits(&mut self, cx: &mut task::Context<'_>) -> Poll<End> {
        let flags = self.attempt.flags();
        if flags & flag::DROP != 0 {
            return Poll::Ready(End::Dropped);
        }
        let ends_at = self.attempt.ends_at();
        let limit = if flags & flag::STOP == 0 {
            ends_at
        } else {
            let abort_period = self.shared.config.abort_period;
            let stop_at = self.stop_at.get_or_insert_with(|| Instant::now() + abort_period);
            std::cmp::min(*stop_at, ends_at)
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(limit)));
        if timer.deadline() != limit {
            timer.as_mut().reset(limit);
        }
        match timer.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) if limit == ends_at => {
                self.attempt.tell(flag::TIMEOUT);
                Poll::Ready(End::TimedOut)
            }
            Poll::Ready(()) => Poll::Ready(End::Dropped),
        }
    }

    /// Drops the handler. What it panics with while being dropped changes nothing about its end.
    fn drop_handler(&mut self) {
        let (span, slot) = (&self.span, &mut self.future);
        let dropped = caught(|| {
            let _entered = span.enter();
            drop(slot.take());
        });
        if let Err(panic) = dropped {
            let id = self.attempt.task.id;
            tracing::warn!(%id, panic, "a handler panicked while it was dropped");
        }
    }
}

impl Future for Running<'_> {
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<End> {
        let this = &mut *self;
        if this.future.is_none() && this.attempt.has(flag::STOP | flag::DROP) {
            // Never started: there is no need to begin.
            return Poll::Ready(End::Dropped);
        }
        let end = match caught(|| this.drive(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(end)) => end,
            Err(panic) => End::Panicked(panic),
        };
        this.drop_handler();
        Poll::Ready(end)
    }
}
