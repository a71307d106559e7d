//! What can run a task: async functions with extractors, and workers.

use std::{future::Future, time::Duration};

use ergon_core::{Task, TaskError};

use crate::{context::Context, extract::Extract};

/// An async function that runs tasks of one kind.
///
/// It takes the payload first, then up to eleven [extractors](Extract), and answers
/// `Result<T::Output, TaskError>`, where `T` is the type of the payload. Closures that capture what
/// they need are handlers too.
///
/// A panic is an ordinary failed attempt, also one of the error that is answered, when it is read.
/// The future is dropped when the attempt exceeds its
/// timeout, or does not end in time when it was told to: what it does has to survive that at every
/// `await`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler of tasks",
    label = "not a handler",
    note = "a handler is an async function: the payload (a type that is a `Task`) first, then \
            `State<T>`, `Context` or other extractors, at most eleven",
    note = "it answers `Result<T::Output, TaskError>`, where `T` is the payload, and its future is \
            `Send`",
    note = "`State<T>` needs `.state(…)` before `.handler(…)`"
)]
pub trait Handler<Args, S>: Clone + Send + Sync + 'static {
    /// The payload.
    type Task: Task;

    /// Runs one attempt.
    fn call(
        self,
        task: Self::Task,
        context: &Context,
        state: &S,
    ) -> impl Future<Output = Result<<Self::Task as Task>::Output, TaskError>> + Send;
}

macro_rules! impl_handler {
    ($($type:ident $argument:ident)*) => {
        impl<F, Fut, T, S, $($type,)*> Handler<(T, $($type,)*), S> for F
        where
            F: FnOnce(T, $($type,)*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = Result<T::Output, TaskError>> + Send,
            T: Task,
            S: Sync,
            $($type: Extract<S> + Send,)*
        {
            type Task = T;

            async fn call(
                self,
                task: T,
                context: &Context,
                state: &S,
            ) -> Result<T::Output, TaskError> {
                // Without extractors nothing is looked at.
                let _ = (context, state);
                $(let $argument = $type::extract(context, state)?;)*
                self(task, $($argument,)*).await
            }
        }
    };
}

impl_handler!();
impl_handler!(A1 a1);
impl_handler!(A1 a1 A2 a2);
impl_handler!(A1 a1 A2 a2 A3 a3);
impl_handler!(A1 a1 A2 a2 A3 a3 A4 a4);
impl_handler!(A1 a1 A2 a2 A3 a3 A4 a4 A5 a5);
impl_handler!(A1 a1 A2 a2 A3 a3 A4 a4 A5 a5 A6 a6);
impl_handler!(A1 a1 A2 a2 A3 a3 A4 a4 A5 a5 A6 a6 A7 a7);
impl_handler!(A1 a1 A2 a2 A3 a3 A4 a4 A5 a5 A6 a6 A7 a7 A8 a8);
impl_handler!(A1 a1 A2 a2 A3 a3 A4 a4 A5 a5 A6 a6 A7 a7 A8 a8 A9 a9);
impl_handler!(A1 a1 A2 a2 A3 a3 A4 a4 A5 a5 A6 a6 A7 a7 A8 a8 A9 a9 A10 a10);
impl_handler!(A1 a1 A2 a2 A3 a3 A4 a4 A5 a5 A6 a6 A7 a7 A8 a8 A9 a9 A10 a10 A11 a11);

/// A type that runs tasks of one kind, for those who prefer one to a function.
///
/// ```
/// use std::time::Duration;
///
/// use ergon_core::TaskError;
/// use ergon_server::{Context, Worker};
/// # use ergon_core::Task;
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Resize {
/// #     width: u32,
/// # }
/// # impl Task for Resize {
/// #     const KIND: &'static str = "image.resize";
/// #     type Output = u32;
/// # }
///
/// struct Resizer {
///     width_max: u32,
/// }
///
/// impl Worker for Resizer {
///     type Task = Resize;
///
///     async fn run(&self, task: Resize, _context: Context) -> Result<u32, TaskError> {
///         Ok(std::cmp::min(task.width, self.width_max))
///     }
///
///     fn timeout(&self) -> Option<Duration> {
///         Some(Duration::from_secs(30))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a worker",
    note = "implement `ergon_server::Worker`, or give an async function to `.handler(…)`"
)]
pub trait Worker: Send + Sync + 'static {
    /// The payload.
    type Task: Task;

    /// Runs one attempt.
    ///
    /// # Errors
    ///
    /// Says how the attempt ended, if not well. See [`TaskError`].
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the attempt exceeds its timeout, or does not end in time when it
    /// was told to.
    fn run(
        &self,
        task: Self::Task,
        context: Context,
    ) -> impl Future<Output = Result<<Self::Task as Task>::Output, TaskError>> + Send;

    /// How long one attempt may run, unless the task says. Default: what the server says, also
    /// when this panics.
    fn timeout(&self) -> Option<Duration> {
        None
    }

    /// How long a task waits after `attempt` failed attempts (1 is the first), unless the error
    /// says. Default: what the task says, also when this panics; then the attempt counts as one that
    /// panicked.
    fn retry_delay(&self, attempt: u16) -> Option<Duration> {
        let _ = attempt;
        None
    }
}
