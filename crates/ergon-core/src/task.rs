//! What an application writes: the payload of a task, and how its handler may end.

use std::{error::Error, fmt, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use crate::{options::TaskOptions, text::error_chain};

/// The payload of a task, and what is known of every task of its kind.
///
/// `#[derive(Task)]` writes the implementation; by hand it is as short:
///
/// ```
/// use ergon_core::{Task, TaskOptions};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Resize {
///     image: String,
/// }
///
/// impl Task for Resize {
///     const KIND: &'static str = "image.resize";
///     type Output = u64;
///
///     fn options() -> TaskOptions {
///         TaskOptions::new().queue("images").max_attempts(5)
///     }
/// }
/// ```
///
/// Payload and output are kept as JSON: what JSON cannot tell apart or hold, such as a float that is
/// not a number, does not come back as it was. A change of the type has to read what was enqueued before:
/// add fields with `#[serde(default)]`, or choose a new kind.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a task",
    note = "derive it: `#[derive(Serialize, Deserialize, Task)]`, or implement `ergon_core::Task`"
)]
pub trait Task: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The stable name of the kind: 1 to 128 bytes of `[A-Za-z0-9._:/-]`.
    const KIND: &'static str;

    /// What the handler answers; `()` when nothing.
    type Output: Serialize + DeserializeOwned + Send + 'static;

    /// What tasks of this kind choose unless a call chooses otherwise.
    fn options() -> TaskOptions {
        TaskOptions::default()
    }
}

/// How an attempt ended, if not well.
///
/// Any type that implements [`std::error::Error`] becomes one by `?`, and means: try again after the
/// backoff. Texts, boxed errors and `anyhow::Error` do by `.map_err(TaskError::retry)?`. The other
/// constructors say something else.
///
/// ```
/// # use ergon_core::TaskError;
/// fn check(age: &str) -> Result<u8, TaskError> {
///     let age = age.parse::<u8>()?; // tried again
///     if age == 0 {
///         return Err(TaskError::cancel("not born yet")); // not tried again
///     }
///     Err("the register is closed").map_err(TaskError::retry)? // tried again
/// }
/// # assert!(check("7").is_err());
/// ```
///
/// ```
/// use std::time::Duration;
///
/// use ergon_core::TaskError;
///
/// fn charge(answer: &str) -> Result<u64, TaskError> {
///     match answer {
///         "busy" => Err(TaskError::snooze(Duration::from_secs(30))),
///         "no such card" => Err(TaskError::fail("no such card")),
///         cents => Ok(cents.parse()?),
///     }
/// }
///
/// assert_eq!(charge("250").unwrap(), 250);
/// assert_eq!(charge("?").unwrap_err().to_string(), "invalid digit found in string");
/// ```
pub struct TaskError(Repr);

enum Repr {
    Retry { source: Box<dyn Error + Send + Sync>, delay: Option<Duration> },
    Fail { source: Box<dyn Error + Send + Sync> },
    Cancel { reason: String },
    Snooze { delay: Duration },
}

/// The same, as the runtime reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskErrorKind {
    /// Try again, after the backoff or the given delay.
    Retry {
        /// The error and its causes, one line.
        message: String,
        /// How long to wait, if not by the task's policy.
        delay: Option<Duration>,
    },
    /// Do not try again; the task is failed.
    Fail {
        /// The error and its causes, one line.
        message: String,
    },
    /// Do not try again; the task is cancelled.
    Cancel {
        /// Why.
        reason: String,
    },
    /// Not now; no attempt is spent.
    Snooze {
        /// How long to wait.
        delay: Duration,
    },
}

impl TaskError {
    /// Tries again, after the backoff.
    pub fn retry(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Repr::Retry { source: error.into(), delay: None })
    }

    /// Tries again after `delay`.
    pub fn retry_in(delay: Duration, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Repr::Retry { source: error.into(), delay: Some(delay) })
    }

    /// Does not try again: the task is failed.
    pub fn fail(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Repr::Fail { source: error.into() })
    }

    /// Does not try again: the task is cancelled.
    pub fn cancel(reason: impl Into<String>) -> Self {
        Self(Repr::Cancel { reason: reason.into() })
    }

    /// Runs again after `delay`, and no attempt is spent.
    #[must_use]
    pub const fn snooze(delay: Duration) -> Self {
        Self(Repr::Snooze { delay })
    }

    /// What the runtime does with it.
    #[must_use]
    pub fn into_kind(self) -> TaskErrorKind {
        match self.0 {
            Repr::Retry { source, delay } => {
                TaskErrorKind::Retry { message: error_chain(&*source), delay }
            }
            Repr::Fail { source } => TaskErrorKind::Fail { message: error_chain(&*source) },
            Repr::Cancel { reason } => TaskErrorKind::Cancel { reason },
            Repr::Snooze { delay } => TaskErrorKind::Snooze { delay },
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for TaskError {
    fn from(error: E) -> Self {
        Self::retry(error)
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Retry { source, .. } | Repr::Fail { source } => {
                f.write_str(&error_chain(&**source))
            }
            Repr::Cancel { reason } => write!(f, "cancelled: {reason}"),
            Repr::Snooze { delay } => write!(f, "snoozed for {delay:?}"),
        }
    }
}

impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the relay refused")]
    struct Refused(#[source] std::io::Error);

    fn send() -> Result<(), TaskError> {
        Err(Refused(std::io::Error::other("connection reset")))?
    }

    #[test]
    fn any_error_is_a_retry_with_its_causes() {
        let message = "the relay refused: connection reset".to_owned();
        let kind = send().unwrap_err().into_kind();
        assert_eq!(kind, TaskErrorKind::Retry { message, delay: None });
    }

    #[test]
    fn the_constructors_say_something_else() {
        let second = Duration::from_secs(1);
        let message = "x".to_owned();
        for (error, kind) in [
            (
                TaskError::retry_in(second, "x"),
                TaskErrorKind::Retry { message: message.clone(), delay: Some(second) },
            ),
            (TaskError::fail("x"), TaskErrorKind::Fail { message: message.clone() }),
            (TaskError::cancel("x"), TaskErrorKind::Cancel { reason: message }),
            (TaskError::snooze(second), TaskErrorKind::Snooze { delay: second }),
        ] {
            assert_eq!(error.into_kind(), kind);
        }
    }
}
