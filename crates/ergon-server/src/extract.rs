//! What a handler can take beside its payload.

use std::ops::{Deref, DerefMut};

use ergon_core::TaskError;

use crate::context::Context;

/// Something that a handler can take as an argument after its payload.
///
/// [`State`] and [`Context`] are; implement it for more:
///
/// ```
/// use ergon_core::TaskError;
/// use ergon_server::{Context, Extract};
///
/// /// The tenant of a task, from its metadata.
/// struct Tenant(String);
///
/// impl<S> Extract<S> for Tenant {
///     fn extract(context: &Context, _state: &S) -> Result<Self, TaskError> {
///         match context.metadata().get("tenant") {
///             Some(tenant) => Ok(Self(tenant.clone())),
///             None => Err(TaskError::fail("the task names no tenant")),
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "a handler cannot take `{Self}` as an argument",
    label = "neither `State<…>` of the server's state, nor `Context`, nor an own extractor",
    note = "after the payload, a handler takes `State<T>`, `Context`, or a type that implements \
            `ergon_server::Extract`",
    note = "`State<T>` needs `.state(…)` before `.handler(…)`, and `T: FromRef` of that state"
)]
pub trait Extract<S>: Sized {
    /// Makes the argument.
    ///
    /// # Errors
    ///
    /// Ends the attempt as if the handler had answered it.
    fn extract(context: &Context, state: &S) -> Result<Self, TaskError>;
}

impl<S> Extract<S> for Context {
    fn extract(context: &Context, _state: &S) -> Result<Self, TaskError> {
        Ok(context.clone())
    }
}

/// The state of the application, or a part of it, as given to
/// [`ServerBuilder::state`](crate::ServerBuilder::state).
///
/// ```
/// use ergon_core::TaskError;
/// use ergon_server::State;
/// # use ergon_core::Task;
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct SendEmail;
/// # impl Task for SendEmail {
/// #     const KIND: &'static str = "email.send";
/// #     type Output = ();
/// # }
///
/// #[derive(Clone)]
/// struct Smtp;
///
/// async fn send_email(mail: SendEmail, State(smtp): State<Smtp>) -> Result<(), TaskError> {
///     // …
///     # let _ = (mail, smtp);
///     Ok(())
/// }
/// # let _handler = send_email;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State<T>(
    /// The state.
    pub T,
);

impl<T> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for State<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<S, T: FromRef<S>> Extract<S> for State<T> {
    fn extract(_context: &Context, state: &S) -> Result<Self, TaskError> {
        Ok(Self(T::from_ref(state)))
    }
}

/// A part of the state of an application.
///
/// Every `Clone` type is a part of itself. Implement it to hand parts to handlers:
///
/// ```
/// use ergon_server::FromRef;
///
/// #[derive(Clone)]
/// struct Smtp;
///
/// struct App {
///     smtp: Smtp,
/// }
///
/// impl FromRef<App> for Smtp {
///     fn from_ref(app: &App) -> Self {
///         app.smtp.clone()
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "the server's state `{S}` holds no `{Self}`",
    label = "not a part of the state",
    note = "call `.state(…)` with a `{Self}` before `.handler(…)`, or implement \
            `FromRef<{S}> for {Self}`"
)]
pub trait FromRef<S> {
    /// Takes the part out of the state.
    fn from_ref(state: &S) -> Self;
}

impl<T: Clone> FromRef<T> for T {
    fn from_ref(state: &T) -> Self {
        state.clone()
    }
}
