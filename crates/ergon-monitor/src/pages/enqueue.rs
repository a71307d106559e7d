//! The form that enqueues a task.

use axum::response::Response;
use ergon_core::{IdSource as _, SystemIds, SystemRng};
use maud::html;

use crate::{
    auth::Action,
    error::PageError,
    parts::{form::token, layout::Place},
    respond::still,
    visit::Context,
};

/// Answers the form.
pub(crate) async fn get(context: Context) -> Result<Response, PageError> {
    let config = &context.app.config;
    if config.read_only {
        return Err(PageError::ReadOnly);
    }
    if !context.may(Action::Enqueue) {
        let role = config.permissions.role(Action::Enqueue);
        return Err(PageError::Forbidden(format!("To enqueue takes the role {role}.")));
    }
    // Sent twice, the form is one task: its id is drawn when it is shown.
    let id = SystemIds::new(SystemRng).next_id(context.app.clock.now());
    let body = html! {
        form.fields method="post" action=(context.visit.links.at("/enqueue")) {
            (token(&context))
            input type="hidden" name="id" value=(id);
            label { "Kind" input name="kind" required maxlength="128" pattern="[A-Za-z0-9._:\\/\\-]+"; }
            label { "Queue" input name="queue" maxlength="128" placeholder="default" pattern="[A-Za-z0-9._:\\/\\-]+"; }
            label { "Payload (JSON)" textarea name="payload" spellcheck="false" required { "{}" } }
            label { "Priority" input type="number" name="priority" min="-32768" max="32767" placeholder="0"; }
            label { "Attempts" input type="number" name="max_attempts" min="1" max="65535" placeholder="25"; }
            label { "Due (UTC)" input type="datetime-local" step="1" name="run_at"; }
            label { "Tags, separated by commas" input name="tags"; }
            p { button { "Enqueue" } }
        }
    };
    Ok(still(&context, "Enqueue a task", Place::Enqueue, body))
}
