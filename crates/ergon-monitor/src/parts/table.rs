//! Tables of tasks and queues.

use ergon_core::{QueueName, State, TaskId, Timestamp};
use maud::{Markup, html};

use super::{age, ago, form, number, state, text};
use crate::{
    service::TaskOutcome,
    value::At,
    view::{TaskRow, queues::QueueRow},
    visit::Context,
};

/// The short form of an id that tells it from its neighbours.
pub(crate) fn short_id(id: &str) -> String {
    let tail = id.len().saturating_sub(8);
    format!("{}…{}", id.get(..8).unwrap_or(id), id.get(tail..).unwrap_or_default())
}

/// The id as a link to the page of the task.
pub(crate) fn task_link(context: &Context, row: &TaskRow) -> Markup {
    let id: Option<TaskId> = form::id_of(row);
    html! {
        @if let Some(id) = id {
            a.mono href=(context.visit.links.task(id)) title=(row.id) { (short_id(&row.id)) }
        } @else {
            span.mono { (row.id) }
        }
    }
}

/// The name of a queue as a link to its page.
pub(crate) fn queue_link(context: &Context, name: &str) -> Markup {
    html! {
        @if let Ok(queue) = QueueName::new(name) {
            a href=(context.visit.links.queue(&queue)) { (text(name)) }
        } @else {
            (text(name))
        }
    }
}

/// What matters most about when: of a waiting task when it is due, of a running one since when it
/// runs, of a finished one when it finished.
pub(crate) fn when(row: &TaskRow) -> At {
    match row.state {
        "running" => row.started_at.unwrap_or(row.run_at),
        "completed" | "failed" | "cancelled" => row.finished_at.unwrap_or(row.run_at),
        _ => row.run_at,
    }
}

/// How long the newest attempt took.
pub(crate) fn took(row: &TaskRow) -> Option<String> {
    let (started, finished) = (row.started_at?, row.finished_at?);
    Some(crate::value::span(ergon_core::time::between(started.0, finished.0)))
}

/// A short list of tasks.
pub(crate) fn tasks(context: &Context, caption: &str, rows: &[TaskRow], now: Timestamp) -> Markup {
    html! {
        table {
            caption { (caption) }
            thead { tr {
                th scope="col" { "Kind" } th scope="col" { "Id" } th scope="col" { "Queue" }
                th scope="col" { "State" } th scope="col" { "Attempt" } th scope="col" { "When" }
            } }
            tbody { @for row in rows {
                tr id={ "t" (row.id) } {
                    td data-label="Kind" { (text(&row.kind)) }
                    td data-label="Id" { (task_link(context, row)) }
                    td data-label="Queue" { (queue_link(context, &row.queue)) }
                    td data-label="State" { (state(row.state)) (error(row)) }
                    td.num data-label="Attempt" { (row.attempt) "/" (row.max_attempts) }
                    td data-label="When" { (ago(when(row), now)) }
                }
            } }
        }
    }
}

/// The newest error of a task, under its state.
pub(crate) fn error(row: &TaskRow) -> Markup {
    html! {
        @if let (Some(error), true) = (&row.error, row.state != "completed") {
            div.error { (error.kind) ": " (text(&error.message)) }
        }
    }
}

/// What came of an order, task by task.
pub(crate) fn outcomes(context: &Context, caption: &str, results: &[TaskOutcome]) -> Markup {
    html! {
        table {
            caption { (caption) }
            thead { tr { th scope="col" { "Id" } th scope="col" { "Outcome" } } }
            tbody { @for result in results { tr {
                td data-label="Id" {
                    a.mono href=(context.visit.links.at(&format!("/tasks/{}", result.id))) title=(result.id) { (short_id(&result.id)) }
                }
                td data-label="Outcome" {
                    (result.outcome.replace('_', " "))
                    @if let Some(in_state) = result.state { ": it is " (state(in_state)) }
                }
            } } }
        }
    }
}

/// Queues with their counts.
pub(crate) fn queues(
    context: &Context,
    caption: &str,
    rows: &[QueueRow],
    now: Timestamp,
) -> Markup {
    const SHOWN: [State; 5] =
        [State::Pending, State::Running, State::Retrying, State::Scheduled, State::Failed];
    html! {
        table {
            caption { (caption) }
            thead { tr {
                th scope="col" { "Queue" }
                th.num scope="col" { "Oldest due" }
                @for state in SHOWN { th.num scope="col" { (state) } }
                th.num scope="col" { "all" }
                th scope="col" { span.hidden { "Orders" } }
            } }
            tbody { @for row in rows {
                tr {
                    td data-label="Queue" {
                        (queue_link(context, &row.name))
                        @if row.is_paused { " " (state("paused")) }
                    }
                    td.num data-label="Oldest due" { (age(row.oldest_due_at, now)) }
                    @for shown in SHOWN {
                        td.num data-label=(shown) {
                            a href=(context.visit.links.tasks([("queue", row.name.as_str()), ("state", shown.as_str())])) {
                                (number(row.tasks(shown)))
                            }
                        }
                    }
                    td.num data-label="all" { (number(row.total.0)) }
                    td {
                        @if let Ok(name) = QueueName::new(&row.name) {
                            (form::queue_action(context, &name, row.is_paused))
                        }
                    }
                }
            } }
        }
    }
}
