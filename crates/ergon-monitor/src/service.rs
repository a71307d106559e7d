//! Orders: whoever gives one, by whichever page or program, it is allowed, audited and carried out
//! here.

use std::{future::Future, sync::Arc};

use ergon_core::{CommandVerdict, audit::AuditOutcome};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    audit::{self, Order},
    auth::Action,
    error::{PageError, Trouble},
    visit::Context,
};

/// What came of an order, for the audit.
#[derive(Clone, Debug)]
pub(crate) struct Came<T> {
    /// What whoever ordered is answered.
    pub(crate) answer: T,
    /// How many tasks or queues were changed.
    pub(crate) changed: u64,
    /// In a word or two.
    pub(crate) note: String,
}

/// What came of an order for one task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct TaskOutcome {
    /// The task.
    pub(crate) id: String,
    /// `applied`, `requested` (its worker was asked to stop), `unchanged`, `illegal` in this state, or
    /// `not_found`.
    pub(crate) outcome: &'static str,
    /// The state in which the order is illegal.
    pub(crate) state: Option<&'static str>,
}

impl TaskOutcome {
    pub(crate) fn of(id: ergon_core::TaskId, verdict: CommandVerdict) -> Self {
        let (outcome, state) = match verdict {
            CommandVerdict::Applied => ("applied", None),
            CommandVerdict::Requested => ("requested", None),
            CommandVerdict::Unchanged => ("unchanged", None),
            CommandVerdict::Illegal(state) => ("illegal", Some(state.as_str())),
            CommandVerdict::NotFound => ("not_found", None),
        };
        Self { id: id.to_string(), outcome, state }
    }
}

/// What programs are answered to an order.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Results {
    /// Task by task, in the order in which they were named.
    pub(crate) results: Vec<TaskOutcome>,
}

/// Carries an order out, if whoever gives it may: told to the audit before, and after.
///
/// It goes on when whoever gave it goes away, so that the audit is told its end.
pub(crate) async fn order<T, F>(
    context: &Context,
    order: Order,
    run: impl FnOnce(Context) -> F + Send + 'static,
) -> Result<T, PageError>
where
    T: Send + 'static,
    F: Future<Output = Result<Came<T>, PageError>> + Send + 'static,
{
    if let Err(denied) = allowed(context, order.action) {
        audit::deny(context, order, &denied.to_string()).await;
        return Err(denied);
    }
    let entry = audit::begin(context, order).await?;
    let context = context.clone();
    let app = Arc::clone(&context.app);
    let task = app.tasks.spawn(async move {
        let carried_out = context.app.orders.run(run(context.clone())).await;
        // Also of an order that failed nobody knows what it has changed.
        context.app.cache.forget();
        let came = match carried_out {
            Ok(came) => came,
            Err(Trouble::Late(seconds)) => Err(PageError::Store(Trouble::Unsure(seconds))),
            Err(trouble) => Err(PageError::Store(trouble)),
        };
        let (outcome, changed, note) = match &came {
            Ok(Came { changed, note, .. }) => (AuditOutcome::Done, Some(*changed), note.clone()),
            Err(error) => (AuditOutcome::Failed, None, error.to_string()),
        };
        audit::complete(&context.app, entry, outcome, changed, note).await;
        came
    });
    match task.await {
        Ok(came) => came.map(|came| came.answer),
        Err(error) => Err(PageError::Store(crate::bound::report("order", &error))),
    }
}

/// Says whether whoever asks may do this: nothing is changed through a monitor that is read-only.
pub(crate) fn allowed(context: &Context, action: Action) -> Result<(), PageError> {
    let config = &context.app.config;
    if config.read_only && action.changes() {
        return Err(PageError::ReadOnly);
    }
    let needed = config.permissions.role(action);
    if context.principal.role() < needed {
        let own = context.principal.role();
        let reason = format!("To {action} takes the role {needed}, and yours is {own}.");
        return Err(PageError::Forbidden(reason));
    }
    Ok(())
}
