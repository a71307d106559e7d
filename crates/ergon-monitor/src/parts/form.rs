//! Forms that order something.

use ergon_core::{QueueName, TaskId};
use maud::{Markup, html};

use crate::{auth::Action, csrf::TOKEN_FIELD, view::TaskRow, visit::Context};

/// What proves that a form is ours.
pub(crate) fn token(context: &Context) -> Markup {
    if context.visit.not_before.is_some() {
        // What a stream sends is the same for all who follow the page: each fills in its own.
        return html! { input type="hidden" name=(TOKEN_FIELD) value=""; };
    }
    let token = context.app.forms.token(&context.principal, context.app.clock.now());
    html! { input type="hidden" name=(TOKEN_FIELD) value=(token); }
}

/// The orders that a task takes and that whoever asks may give.
pub(crate) fn task_actions(context: &Context, task: &TaskRow) -> Markup {
    let may = |action: Action| context.may(action) && task.takes(action);
    let at = |action: Action| context.visit.links.at(&format!("/tasks/{}/{action}", task.id));
    html! {
        div.actions {
            @if may(Action::Retry) {
                form method="post" action=(at(Action::Retry)) { (token(context)) button { "Run now" } }
            }
            @if may(Action::Cancel) {
                details {
                    summary { "Cancel…" }
                    form method="post" action=(at(Action::Cancel)) {
                        (token(context))
                        label { "Reason " input name="reason" maxlength="200"; }
                        button { "Cancel the task" }
                    }
                }
            }
            @if may(Action::Reschedule) {
                details {
                    summary { "Reschedule…" }
                    form method="post" action=(at(Action::Reschedule)) {
                        (token(context))
                        label { "When (UTC) " input type="datetime-local" step="1" name="run_at" required; }
                        button { "Reschedule" }
                    }
                }
            }
            @if may(Action::SetPriority) {
                details {
                    summary { "Priority…" }
                    form method="post" action=(at(Action::SetPriority)) {
                        (token(context))
                        label {
                            "Priority "
                            input type="number" name="priority" min="-32768" max="32767" value=(task.priority) required;
                        }
                        button { "Set" }
                    }
                }
            }
            @if may(Action::Delete) {
                details {
                    summary { "Delete…" }
                    form method="post" action=(at(Action::Delete)) {
                        (token(context))
                        label { input type="checkbox" name="confirm" value="yes" required; " It cannot be undone." }
                        button.danger { "Delete the task" }
                    }
                }
            }
        }
    }
}

/// Pauses or resumes a queue.
pub(crate) fn queue_action(context: &Context, name: &QueueName, is_paused: bool) -> Markup {
    let action = if is_paused { Action::ResumeQueue } else { Action::PauseQueue };
    let word = if is_paused { "Resume" } else { "Pause" };
    html! {
        @if context.may(action) {
            form.inline method="post" action={ (context.visit.links.queue(name)) "/" (action) } {
                (token(context))
                button aria-label={ (word) " queue " (name) } { (word) }
            }
        }
    }
}

/// The id in a row, if it is one.
pub(crate) fn id_of(row: &TaskRow) -> Option<TaskId> {
    row.id.parse().ok()
}
