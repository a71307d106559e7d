//! Operations: one command for all tasks that match, how far it is, and the form that makes one.

use axum::{extract::Path, response::Response};
use ergon_core::{State, StateSet, Timestamp, operation::OperationId};
use maud::{Markup, html};

use crate::{
    actions::operations::{NOTE_MAX, filter_of},
    auth::Action,
    error::PageError,
    parts::{ago, empty, form, instant, layout::Place, number, state, table, text},
    respond::{Shown, read, respond, respond_part, still},
    value::grouped,
    view::{
        Part,
        filter::Query,
        operations::{OperationRow, OperationView, OperationsView, PreviewView, TYPED_FROM},
        tasks::CountView,
    },
    visit::Context,
};

/// What can be ordered for all tasks that match.
const OFFERED: [Action; 3] = [Action::Retry, Action::Cancel, Action::Delete];

/// The id in an address.
pub(crate) fn id_of(part: &str) -> Result<OperationId, PageError> {
    part.parse().map_err(|_error| gone())
}

pub(crate) fn gone() -> PageError {
    let reason = "There is no such operation. It is kept for thirty days after its end.";
    PageError::NotFound(reason.to_owned())
}

/// Answers a page of operations.
#[utoipa::path(
    get, path = "/api/v1/bulk", tag = "reading",
    params(
        ("after" = Option<String>, Query, description = "Older than this operation"),
        ("since" = Option<String>, Query, description = "A revision: 204 if it is the present one"),
    ),
    responses((status = 200, body = OperationsView), (status = 204, description = "Unchanged"))
)]
pub(crate) async fn list(context: Context) -> Result<Response, PageError> {
    let app = &context.app;
    let after = context.parameter("after").filter(|after| !after.is_empty());
    let after: Option<OperationId> = after
        .map(|after| after.parse())
        .transpose()
        .map_err(|error| PageError::Malformed(format!("after: {error}")))?;
    let key = format!("operations {after:?}");
    let found = read(&context, key, || OperationsView::read(app, after)).await?;
    let render = |context: &Context, view: &OperationsView, now| {
        render_list(context, view, after.is_some(), now)
    };
    let shown = Shown { title: "Operations".to_owned(), place: Place::Operations, render: &render };
    Ok(respond(&context, &found, &shown))
}

fn render_list(context: &Context, view: &OperationsView, is_later: bool, now: Timestamp) -> Markup {
    let links = &context.visit.links;
    html! {
        @if view.operations.is_empty() && !is_later {
            (empty("There are no operations.", &html! {
                p { "One command for all tasks that match: choose them in the " a href=(links.at("/tasks")) { "list of tasks" } "." }
            }))
        } @else {
            table {
                caption { "Operations, the newest first" }
                thead { tr {
                    th scope="col" { "What" } th scope="col" { "To which tasks" } th scope="col" { "State" }
                    th scope="col" { "Progress" } th scope="col" { "Who" } th scope="col" { "When" }
                } }
                tbody { @for row in &view.operations { tr id={ "o" (row.id) } {
                    td data-label="What" { a href=(links.at(&format!("/bulk/{}", row.id))) { (row.action) } }
                    td data-label="To which tasks" { (text(&row.tasks)) }
                    td data-label="State" { (state(row.state)) }
                    td data-label="Progress" { (progress(row)) }
                    td data-label="Who" { (text(&row.actor)) }
                    td data-label="When" { (ago(row.created_at, now)) }
                } } }
            }
        }
        nav.pages aria-label="Parts of the list" {
            @if is_later { a href=(links.at("/bulk")) { "‹ newest" } }
            @if let Some(older) = &view.older {
                a rel="next" href=(links.with("/bulk", [("after", older.as_str())])) { "older ›" }
            }
        }
    }
}

fn progress(row: &OperationRow) -> Markup {
    let (seen, expected) = (row.seen.0, row.expected.0);
    html! {
        span {
            progress value=(std::cmp::min(seen, expected)) max=(std::cmp::max(expected, 1)) aria-label="Progress" {}
            " " (number(seen)) " of " (number(expected)) @if !row.expected_is_exact { "+" }
        }
    }
}

/// Answers one operation.
#[utoipa::path(
    get, path = "/api/v1/bulk/{id}", tag = "reading",
    params(("id" = String, Path), ("since" = Option<String>, Query)),
    responses((status = 200, body = OperationView), (status = 204, description = "Unchanged"), (status = 404, body = crate::frame::Problem))
)]
pub(crate) async fn get(context: Context, Path(id): Path<String>) -> Result<Response, PageError> {
    let (id, app) = (id_of(&id)?, &context.app);
    let found = read(&context, format!("operation {id}"), || OperationView::read(app, id)).await?;
    let view = found.reading.view.as_ref().ok_or_else(gone)?;
    let title = format!("Operation: {}", view.row.action);
    let shown = Shown { title, place: Place::Operations, render: &render };
    Ok(respond_part(&context, &found, view, &shown))
}

fn render(context: &Context, view: &OperationView, now: Timestamp) -> Markup {
    let row = &view.row;
    let tasks = format!("/tasks{}{}", if row.filter.is_empty() { "" } else { "?" }, row.filter);
    html! {
        p { (state(row.state)) " · " (progress(row)) }
        @if let Some(error) = &view.error { p.trouble { "The store refused it: " (text(error)) } }
        @if row.state == "running" && view.owner.is_none() {
            p.muted { "Nobody works on it yet: a worker begins within seconds, if one lives." }
        }
        (steering(context, row))
        h2 { "What was ordered" }
        dl {
            dt { "What" } dd { (row.action) @for detail in &view.details { ", " (detail.key) ": " (text(&detail.value)) } }
            dt { "To which tasks" } dd { a href=(context.visit.links.at(&tasks)) { (text(&row.tasks)) } " that there were when it was made" }
            dt { "Who" } dd { (text(&row.actor)) }
            dt { "When" } dd { (instant(row.created_at)) " (" (ago(row.created_at, now)) ")" }
            @if let Some(ended_at) = row.ended_at { dt { "Ended" } dd { (instant(ended_at)) " (" (ago(ended_at, now)) ")" } }
            @if let Some(rate) = view.rate_per_second { dt { "Rate" } dd { "at most " (rate) " tasks a second" } }
            @if !view.note.is_empty() { dt { "Note" } dd { (text(&view.note)) } }
            @if let Some(owner) = &view.owner { dt { "Carried out by" } dd { code { (owner) } } }
        }
        h2 { "What came of it" }
        dl {
            dt { "Changed, or asked to stop" } dd { (number(row.changed.0)) }
            dt { "Were so already" } dd { (number(view.unchanged.0)) }
            dt { "Could not be, in their state" } dd { (number(view.illegal.0)) }
            dt { "Gone" } dd { (number(view.gone.0)) }
        }
        @if !view.problems.is_empty() {
            (table::outcomes(context, "The newest tasks that were not changed, at most 20", &view.problems))
        }
    }
}

fn steering(context: &Context, row: &OperationRow) -> Markup {
    let actions: &[(&str, &str)] = match row.state {
        "running" => &[("pause", "Pause"), ("stop", "Stop")],
        "paused" => &[("resume", "Go on"), ("stop", "Stop")],
        _ => &[],
    };
    html! {
        @if context.may(Action::Operate) {
            div.actions { @for (action, word) in actions {
                form method="post" action=(context.visit.links.at(&format!("/bulk/{}/{action}", row.id))) {
                    (form::token(context)) button { (word) }
                }
            } }
        }
    }
}

/// Says whether the action can change a task in one of these states.
fn can_change(action: Action, states: StateSet) -> bool {
    let is_changed = |state: State| match action {
        Action::Cancel => !state.is_terminal(),
        Action::Delete => state != State::Running,
        _ => !matches!(state, State::Running | State::Pending),
    };
    states.iter().any(is_changed)
}

/// What can be done to all tasks that match, beside those that are listed.
pub(crate) fn offers(context: &Context, query: &Query, count: &Part<CountView>) -> Markup {
    let Part::Ready { data: CountView { tasks, is_exact } } = count else { return html! {} };
    let (pairs, states) = (query.pairs(), query.filter.wanted_states());
    let pairs = || pairs.iter().map(|(key, value)| (*key, value.as_str()));
    let links = &context.visit.links;
    let offered = OFFERED.into_iter().filter(|&action| {
        query.id_prefix.is_none() && context.may(action) && can_change(action, states)
    });
    let offered: Vec<_> = offered.collect();
    html! {
        div.bulk {
            @if !offered.is_empty() {
                span { "All " (grouped(tasks.0)) @if !*is_exact { "+" } " that match:" }
                @for action in offered {
                    a.button href=(links.with("/bulk/new", pairs().chain([("action", action.as_str())]))) { (word(action)) "…" }
                }
            }
            @if context.may(Action::Export) {
                span { "Export:" }
                @for kind in ["ndjson", "csv"] {
                    a href=(links.with(&format!("/tasks/export.{kind}"), pairs())) download { (kind) }
                }
            }
        }
    }
}

const fn word(action: Action) -> &'static str {
    match action {
        Action::Cancel => "Cancel all",
        Action::Delete => "Delete all",
        _ => "Run all again",
    }
}

/// Answers the form that makes an operation, with what it would meet.
pub(crate) async fn new(context: Context) -> Result<Response, PageError> {
    let asked = context.parameter("action").unwrap_or_default();
    let action = OFFERED.into_iter().find(|action| action.as_str() == asked);
    let action =
        action.ok_or_else(|| PageError::Malformed("action: not one for many tasks".to_owned()))?;
    let query = filter_of(&context.visit.query)?;
    crate::service::allowed(&context, action)?;
    let preview = PreviewView::read(&context.app, &query.filter).await?;
    let title = format!("{}: {} tasks", word(action), grouped(preview.matching.0));
    let body = if preview.matching.0 == 0 {
        let back = html! { p { a href=(context.visit.links.at("/tasks")) { "To the tasks" } } };
        empty("No task matches.", &back)
    } else {
        order(&context, action, &query, &preview)
    };
    Ok(still(&context, &title, Place::Operations, body))
}

fn order(context: &Context, action: Action, query: &Query, preview: &PreviewView) -> Markup {
    let links = &context.visit.links;
    let (matching, least) = (preview.matching.0, grouped(TYPED_FROM));
    let is_large = matching > TYPED_FROM || !preview.is_exact;
    let pairs = query.pairs();
    let back = links.tasks(pairs.iter().map(|(key, value)| (*key, value.as_str())));
    html! {
        p {
            (grouped(matching)) @if !preview.is_exact { " or more" } " tasks match "
            a href=(back) { (text(&query.words())) } ". They are met the oldest first; those that come after now are not."
        }
        form.fields method="post" action=(links.at("/bulk")) {
            (form::token(context))
            input type="hidden" name="action" value=(action);
            input type="hidden" name="filter" value=(query.text());
            input type="hidden" name="expected_count" value=(matching);
            @if action == Action::Cancel { label { "Reason" input name="reason" maxlength="200"; } }
            label { "Note, for the audit trail" input name="note" maxlength=(NOTE_MAX); }
            label { "Tasks a second at the most" input type="number" name="rate_per_second" min="1" max="1000000" placeholder="as fast as it goes"; }
            @if action == Action::Delete {
                label { span { input type="checkbox" name="confirm" value="yes" required; " It cannot be undone." } }
            }
            @if is_large {
                label {
                    span { "These are more than " (least) ": type " strong { (action) } " to go on" }
                    input name="typed" required autocomplete="off" pattern=(action);
                }
            }
            p { button class=[(action == Action::Delete).then_some("danger")] { (word(action)) } " " a href=(back) { "Back" } }
        }
        h2 { "The oldest of them" }
        ul { @for id in &preview.first { li { @if let Ok(task) = id.parse() { a.mono href=(links.task(task)) { (id) } } } } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_change_a_task_is_not_offered() {
        for (action, states, expected) in [
            (Action::Retry, StateSet::ALL, true),
            (Action::Retry, State::Failed.into(), true),
            (Action::Retry, State::Running.into(), false),
            (Action::Cancel, StateSet::TERMINAL, false),
            (Action::Cancel, State::Running.into(), true),
            (Action::Delete, State::Running.into(), false),
            (Action::Delete, StateSet::TERMINAL, true),
        ] {
            assert_eq!(can_change(action, states), expected, "{action} {states:?}");
        }
    }
}
