//! What an enqueue answers: a handle, by which the result is awaited.

use std::{
    fmt,
    future::{Future, IntoFuture},
    marker::PhantomData,
    ops::Deref,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use serde::de::DeserializeOwned;

use crate::{
    error::StoreError,
    id::TaskId,
    progress::{AttemptError, ErrorKind, Phase},
    record::TaskRecord,
    state::State,
    store::Store,
    time::Now,
};

/// What an enqueue answers; it derefs to the [`Handle`] of the task.
#[derive(Debug)]
pub enum Enqueued<O> {
    /// The task was stored.
    Created(Handle<O>),
    /// Nothing was stored: this other task holds the unique key.
    Duplicate(Handle<O>),
}

impl<O> Enqueued<O> {
    /// Says whether another task stands in for this one.
    #[must_use]
    pub const fn is_duplicate(&self) -> bool {
        matches!(self, Self::Duplicate(_))
    }

    /// The handle of the task that was stored, or that stands in for it.
    #[must_use]
    pub fn into_handle(self) -> Handle<O> {
        match self {
            Self::Created(handle) | Self::Duplicate(handle) => handle,
        }
    }
}

impl<O> Deref for Enqueued<O> {
    type Target = Handle<O>;

    fn deref(&self) -> &Handle<O> {
        match self {
            Self::Created(handle) | Self::Duplicate(handle) => handle,
        }
    }
}

/// A task by its id, with the type of its result.
pub struct Handle<O> {
    store: Arc<dyn Store>,
    id: TaskId,
    output: PhantomData<fn() -> O>,
}

impl<O> Clone for Handle<O> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.store), self.id)
    }
}

impl<O> fmt::Debug for Handle<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.id).finish()
    }
}

impl<O> Handle<O> {
    pub(super) const fn new(store: Arc<dyn Store>, id: TaskId) -> Self {
        Self { store, id, output: PhantomData }
    }

    /// The id of the task.
    #[must_use]
    pub const fn id(&self) -> TaskId {
        self.id
    }

    /// Reads the task; `None` when it does not exist, or not any more.
    ///
    /// # Errors
    ///
    /// What the store reports.
    pub async fn task(&self) -> Result<Option<TaskRecord>, StoreError> {
        let found = self.store.tasks(&[self.id], Now::Store).await?;
        Ok(found.into_iter().next().flatten())
    }

    /// Reads the state of the task; `None` when it does not exist, or not any more.
    ///
    /// # Errors
    ///
    /// What the store reports.
    pub async fn state(&self) -> Result<Option<State>, StoreError> {
        Ok(self.task().await?.map(|task| task.state))
    }

    /// Waits for the task to finish and answers its result; await it, perhaps after choosing how
    /// long to wait.
    ///
    /// It can be awaited any number of times, in any process, as long as the task is kept.
    #[must_use = "await it to get the result"]
    pub fn result(&self) -> HandleResult<O> {
        HandleResult { handle: self.clone(), within: None }
    }
}

/// A result, to be awaited.
///
/// # Cancel safety
///
/// Dropping it changes nothing.
#[derive(Debug)]
#[must_use = "await it to get the result"]
pub struct HandleResult<O> {
    handle: Handle<O>,
    within: Option<Duration>,
}

/// How long one call of the store waits when the caller waits without end.
const WAIT_STEP: Duration = Duration::from_secs(60);

impl<O: DeserializeOwned + Send + 'static> HandleResult<O> {
    /// Waits so long at the most. Default: without end.
    pub const fn within(mut self, within: Duration) -> Self {
        self.within = Some(within);
        self
    }

    async fn get(self) -> Result<O, ResultError> {
        let Self { handle, within } = self;
        let step = within.unwrap_or(WAIT_STEP);
        while !handle.store.wait_for_finish(handle.id, step).await? {
            if within.is_some() {
                return Err(ResultError::Timeout { within: step });
            }
        }
        let task = handle.task().await?.ok_or(ResultError::Gone { id: handle.id })?;
        let progress = task.progress;
        // A worker that fails while a cancel is asked for leaves its error behind the reason.
        let is_reason = |error: &AttemptError| {
            progress.phase != Phase::Cancelled || error.kind == ErrorKind::Cancelled
        };
        let last_error = progress.errors.iter().rfind(|error| is_reason(error));
        let kind = last_error.map_or(ErrorKind::Error, |error| error.kind);
        let last_error = last_error.map(|error| error.message.clone()).unwrap_or_default();
        match progress.phase {
            Phase::Completed => {
                let result = progress.result.as_deref().unwrap_or(b"null");
                serde_json::from_slice(result).map_err(|source| ResultError::Decode { source })
            }
            Phase::Cancelled => Err(ResultError::Cancelled { reason: last_error }),
            Phase::Failed => Err(ResultError::Failed { kind, error: last_error }),
            // An operator reopened it between the wait and the read.
            Phase::Waiting | Phase::Running => Err(ResultError::Reopened { id: handle.id }),
        }
    }
}

impl<O: DeserializeOwned + Send + 'static> IntoFuture for HandleResult<O> {
    type Output = Result<O, ResultError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.get())
    }
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResultError {
    /// The task failed for good.
    #[error("the task failed: {error}")]
    Failed {
        /// What kind of failure its last attempt met.
        kind: ErrorKind,
        /// What its last attempt said.
        error: String,
    },
    /// The task was called off.
    #[error("the task was cancelled: {reason}")]
    Cancelled {
        /// Why.
        reason: String,
    },
    /// The task is not finished in the time given.
    #[error("the task is not finished within {within:?}")]
    Timeout {
        /// How long was waited.
        within: Duration,
    },
    /// The task does not exist, or was removed after its retention or by an operator.
    #[error("task {id} does not exist")]
    Gone {
        /// Its id.
        id: TaskId,
    },
    /// The task had finished, and an operator let it run again.
    #[error("task {id} was reopened")]
    Reopened {
        /// Its id.
        id: TaskId,
    },
    /// The result is not of the expected type.
    #[error("the result could not be decoded")]
    Decode {
        /// What serde said.
        source: serde_json::Error,
    },
    /// The store failed.
    #[error("the store could not be read")]
    Store {
        /// What the store said.
        #[from]
        source: StoreError,
    },
}
