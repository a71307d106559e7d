//! Orders: whoever gives one, by whichever page or program, it is allowed, audited and carried out
//! here.

use std::{future::Future, sync::Arc};

use ergon_core::CommandVerdict;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    audit::{Order, Stage},
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
    pub(crate) outcome: String,
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
    let mut order = order;
    order.at = context.app.clock.now();
    context.principal.name().clone_into(&mut order.actor);
    order.role = context.principal.role();
    order.address = context.visit.client;
    if let Err(denied) = allowed(context, order.action) {
        let reason = denied.to_string();
        tell(context, &order, &Stage::Denied { reason }).await;
        return Err(denied);
    }
    if let Err(error) = context.app.audit.record(&order, &Stage::Begun).await {
        return Err(PageError::Store(crate::bound::report("audit", &*error)));
    }
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
        let stage = match &came {
            Ok(Came { changed, outcome, .. }) => {
                Stage::Done { changed: *changed, outcome: outcome.clone() }
            }
            Err(error) => Stage::Failed { reason: error.to_string() },
        };
        tell(&context, &order, &stage).await;
        came
    });
    match task.await {
        Ok(came) => came.map(|came| came.answer),
        Err(error) => Err(PageError::Store(crate::bound::report("order", &error))),
    }
}

fn allowed(context: &Context, action: Action) -> Result<(), PageError> {
    let config = &context.app.config;
    if config.read_only {
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

/// Tells the audit of a later stage; what it cannot keep is at least in the log.
async fn tell(context: &Context, order: &Order, stage: &Stage) {
    if let Err(error) = context.app.audit.record(order, stage).await {
        let id = format!("{:032x}", order.id);
        tracing::error!(id, ?stage, error = %error, "the audit could not keep a stage of an order");
    }
}
