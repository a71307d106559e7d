//! One attempt of a test server: from the claimed task to what became of it.

use std::{any::Any, future::Future, panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use ergon_core::{ClaimedTask, Conclusion, ErrorKind, Rng, Task, TaskError, task::TaskErrorKind};
use futures_util::FutureExt;
use jiff::Timestamp;
use tokio::time::timeout;

/// Attempts at decoding a payload, and how long to wait between them: a newer program, which knows
/// the payload, may be on its way.
const DECODE_ATTEMPTS_MAX: u16 = 3;
const DECODE_DELAY: Duration = Duration::from_secs(300);

/// A handler, with the types of its task wrapped away.
pub(super) type Handler = Arc<dyn Fn(Bytes) -> Attempt + Send + Sync>;

type Attempt = Pin<Box<dyn Future<Output = Result<Bytes, Failure>> + Send>>;

/// Why an attempt has no result.
pub(super) enum Failure {
    Decode(serde_json::Error),
    Encode(serde_json::Error),
    Handler(TaskError),
}

pub(super) fn handler<T, F, Fut>(handler: F) -> Handler
where
    T: Task,
    F: Fn(T) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T::Output, TaskError>> + Send + 'static,
{
    let handler = Arc::new(handler);
    Arc::new(move |payload| {
        let handler = Arc::clone(&handler);
        Box::pin(async move {
            let task = serde_json::from_slice(&payload).map_err(Failure::Decode)?;
            let output = handler(task).await.map_err(Failure::Handler)?;
            serde_json::to_vec(&output).map(Bytes::from).map_err(Failure::Encode)
        })
    })
}

/// Runs a handler, with the deadline, the timeout and the panics that a server sees to.
pub(super) async fn run(
    handler: &Handler,
    task: &ClaimedTask,
    now: Timestamp,
    rng: &dyn Rng,
) -> Conclusion {
    if task.spec.deadline.is_some_and(|deadline| deadline < now) {
        let error = "the deadline passed before the task could be started".to_owned();
        return Conclusion::Fail { kind: ErrorKind::Deadline, error };
    }
    let retry = |kind, error| {
        let delay = task.spec.retry.delay(task.attempt, rng);
        Conclusion::Retry { delay, kind, error }
    };
    let attempt = AssertUnwindSafe(handler(task.spec.payload.clone())).catch_unwind();
    let ended = match task.spec.timeout {
        Some(within) => timeout(within, attempt).await,
        None => Ok(attempt.await),
    };
    match ended {
        Ok(Ok(Ok(result))) => Conclusion::Complete { result: Some(result) },
        Ok(Ok(Err(failure))) => failed(failure, task.attempt, retry),
        Ok(Err(panic)) => retry(ErrorKind::Panic, panic_message(&*panic)),
        Err(_elapsed) => {
            let within = task.spec.timeout.unwrap_or_default();
            retry(ErrorKind::Timeout, format!("the handler took longer than {within:?}"))
        }
    }
}

fn failed(
    failure: Failure,
    attempt: u16,
    retry: impl Fn(ErrorKind, String) -> Conclusion,
) -> Conclusion {
    let error = match failure {
        Failure::Decode(error) => {
            let error = format!("the payload could not be decoded: {error}");
            let kind = ErrorKind::Decode;
            return if attempt < DECODE_ATTEMPTS_MAX {
                Conclusion::Retry { delay: DECODE_DELAY, kind, error }
            } else {
                Conclusion::Fail { kind, error }
            };
        }
        Failure::Encode(error) => {
            let error = format!("the result could not be encoded: {error}");
            return Conclusion::Fail { kind: ErrorKind::Result, error };
        }
        Failure::Handler(error) => error,
    };
    match error.into_kind() {
        TaskErrorKind::Retry { message, delay: None } => retry(ErrorKind::Error, message),
        TaskErrorKind::Retry { message, delay: Some(delay) } => {
            Conclusion::Retry { delay, kind: ErrorKind::Error, error: message }
        }
        TaskErrorKind::Fail { message } => {
            Conclusion::Fail { kind: ErrorKind::Error, error: message }
        }
        TaskErrorKind::Cancel { reason } => Conclusion::Cancel { reason },
        TaskErrorKind::Snooze { delay } => Conclusion::Snooze { delay },
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("the handler panicked without a message").to_owned()
}
