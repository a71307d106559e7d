//! The list of tasks.

use axum::response::{IntoResponse as _, Redirect, Response};
use ergon_core::{State, TaskId, Timestamp};
use maud::{Markup, html};

use crate::{
    auth::Action,
    error::PageError,
    pages::operations::offers,
    parts::{ago, empty, form, layout::Place, number, part, state, table, text},
    respond::{Shown, read, respond},
    text::clean,
    value::grouped,
    view::{
        filter::Query,
        tasks::{CountView, ListedTask, TasksView},
    },
    visit::{Context, Wants},
};

/// Answers a page of tasks.
#[utoipa::path(
    get, path = "/api/v1/tasks", tag = "reading",
    params(
        ("state" = Option<Vec<String>>, Query, description = "In one of these states"),
        ("queue" = Option<Vec<String>>, Query, description = "In one of these queues"),
        ("kind" = Option<Vec<String>>, Query, description = "Of one of these kinds"),
        ("tag" = Option<Vec<String>>, Query, description = "With all of these tags"),
        ("meta" = Option<Vec<String>>, Query, description = "With all of these entries, as key:value"),
        ("from" = Option<String>, Query, description = "Taken at or after this instant"),
        ("to" = Option<String>, Query, description = "Taken before this instant"),
        ("id" = Option<String>, Query, description = "The id begins so"),
        ("after" = Option<String>, Query, description = "Older than this task"),
        ("before" = Option<String>, Query, description = "Newer than this task"),
        ("limit" = Option<usize>, Query, description = "1 to 200"),
        ("since" = Option<String>, Query, description = "A revision: 204 if it is the present one"),
    ),
    responses((status = 200, body = TasksView), (status = 204, description = "Unchanged"))
)]
pub(crate) async fn get(context: Context) -> Result<Response, PageError> {
    let query = Query::parse(&context.visit.query)?;
    // Who asks for one task by its whole id is taken there.
    let whole = context.parameter("id").and_then(|id| id.trim().parse::<TaskId>().ok());
    if let (Some(id), Wants::Html) = (whole, context.visit.wants) {
        return Ok(Redirect::to(&context.visit.links.task(id)).into_response());
    }
    let (app, with_payloads) = (&context.app, context.principal.may_view_payloads());
    let key = format!("tasks {with_payloads} {}", query.key());
    let found = read(&context, key, || TasksView::read(app, &query, with_payloads)).await?;
    let render = |context: &Context, view: &TasksView, now| render(context, &query, view, now);
    let shown = Shown { title: "Tasks".to_owned(), place: Place::Tasks, render: &render };
    Ok(respond(&context, &found, &shown))
}

/// The list with this query and these changes.
fn link(context: &Context, pairs: &[(&'static str, String)], more: &[(&str, &str)]) -> String {
    let pairs = pairs.iter().map(|(key, value)| (*key, value.as_str()));
    context.visit.links.tasks(pairs.chain(more.iter().copied()))
}

fn render(context: &Context, query: &Query, view: &TasksView, now: Timestamp) -> Markup {
    html! {
        (part(&view.states, |states| tabs(context, query, states.as_deref())))
        (filters(context, query))
        (part(&view.count, count))
        @if context.may(Action::Enqueue) {
            p { a.button href=(context.visit.links.at("/enqueue")) { "Enqueue a task" } }
        }
        @if view.tasks.is_empty() {
            (nothing(context, query, view))
        } @else {
            (list(context, &view.tasks, now))
            (offers(context, query, &view.count))
        }
        nav.pages aria-label="Parts of the list" {
            @if let Some(newer) = &view.newer {
                a rel="prev" href=(link(context, &query.pairs(), &[("before", newer)])) { "‹ newer" }
            }
            @if let Some(older) = &view.older {
                a rel="next" href=(link(context, &query.pairs(), &[("after", older)])) { "older ›" }
            }
        }
    }
}

fn tabs(context: &Context, query: &Query, states: Option<&[crate::view::StateFigure]>) -> Markup {
    let rest = query.pairs_but_state();
    let is_all = query.filter.states.is_empty();
    let chosen = |state: State| query.filter.states == state.into();
    let figure = |state: State| {
        let figure = states?.iter().find(|figure| figure.state == state.as_str())?;
        Some(figure.tasks.0)
    };
    let all = states.map(|states| states.iter().map(|figure| figure.tasks.0).sum());
    let is_shown = |state: &State| {
        !matches!(state, State::Aggregating | State::Blocked) || figure(*state).is_some()
    };
    html! {
        nav.tabs aria-label="States" {
            a href=(link(context, &rest, &[])) aria-current=[is_all.then_some("page")] {
                "All" @if let Some(all) = all { " " (number(all)) }
            }
            @for shown in State::ALL.into_iter().filter(is_shown) {
                a href=(link(context, &rest, &[("state", shown.as_str())])) aria-current=[chosen(shown).then_some("page")] {
                    (state(shown.as_str())) @if let Some(tasks) = figure(shown) { " " (number(tasks)) }
                }
            }
        }
    }
}

fn filters(context: &Context, query: &Query) -> Markup {
    let pairs = query.pairs();
    let values = |name: &str| -> Vec<&str> {
        pairs.iter().filter(|(key, _)| *key == name).map(|(_, value)| value.as_str()).collect()
    };
    let field = |name: &str, label: &str, hint: &str| {
        let values = values(name);
        let shown = if values.is_empty() { vec![""] } else { values };
        html! {
            @for value in shown {
                label { (label) " " input name=(name) value=(clean(value)) placeholder=(hint) size="14"; }
            }
        }
    };
    html! {
        form.filters method="get" action=(context.visit.links.at("/tasks")) role="search" {
            @for state in values("state") { input type="hidden" name="state" value=(state); }
            (field("queue", "Queue", ""))
            (field("kind", "Kind", ""))
            (field("tag", "Tag", ""))
            (field("meta", "Metadata", "key:value"))
            (field("from", "Taken from (UTC)", "2026-01-02T03:04"))
            (field("to", "to", "2026-01-02T03:04"))
            (field("id", "Id begins with", ""))
            button { "Filter" }
            @if query.is_filtered() { a href=(context.visit.links.at("/tasks")) { "Clear filters" } }
        }
    }
}

fn count(count: &CountView) -> Markup {
    let more = if count.is_exact { "" } else { "+" };
    html! { p.muted { (grouped(count.tasks.0)) (more) " tasks match" } }
}

fn nothing(context: &Context, query: &Query, view: &TasksView) -> Markup {
    if view.older.is_some() || view.newer.is_some() {
        return empty("None on this part of the list: it goes on.", &html! {});
    }
    if query.is_filtered() || !query.filter.states.is_empty() {
        let clear = html! { p { a href=(context.visit.links.at("/tasks")) { "Clear filters" } } };
        return empty("No task matches.", &clear);
    }
    empty("There are no tasks yet.", &html! {})
}

fn list(context: &Context, tasks: &[ListedTask], now: Timestamp) -> Markup {
    let shows_payloads = context.principal.may_view_payloads();
    let orders = [Action::Retry, Action::Cancel, Action::Delete].map(|action| context.may(action));
    let is_selectable = orders.contains(&true);
    html! {
        form #bulk method="post" action=(context.visit.links.at("/tasks/bulk")) {
            (form::token(context))
            table {
                caption { "Tasks, the newest first" }
                thead { tr {
                    @if is_selectable { th scope="col" { input type="checkbox" data-all aria-label="Select all"; } }
                    th scope="col" { "Kind" } th scope="col" { "Id" } th scope="col" { "Queue" }
                    th scope="col" { "State" } th.num scope="col" { "Attempt" } th scope="col" { "When" }
                    th scope="col" { "Took" }
                    @if shows_payloads { th scope="col" { "Payload" } }
                } }
                tbody { @for task in tasks { (line(context, task, is_selectable, shows_payloads, now)) } }
            }
            @if is_selectable { (bulk(context)) }
        }
    }
}

fn line(
    context: &Context,
    ListedTask { row, preview }: &ListedTask,
    is_selectable: bool,
    shows_payloads: bool,
    now: Timestamp,
) -> Markup {
    html! {
        tr id={ "t" (row.id) } {
            @if is_selectable {
                td data-label="Select" { input type="checkbox" name="ids" value=(row.id) aria-label={ "Select " (row.id) }; }
            }
            td data-label="Kind" {
                (text(&row.kind))
                @for tag in &row.tags { " " span.tag { (text(tag)) } }
            }
            td data-label="Id" { (table::task_link(context, row)) }
            td data-label="Queue" { (table::queue_link(context, &row.queue)) }
            td data-label="State" { (state(row.state)) (table::error(row)) }
            td.num data-label="Attempt" { (row.attempt) "/" (row.max_attempts) }
            td data-label="When" { (ago(table::when(row), now)) }
            td data-label="Took" { (table::took(row).unwrap_or_default()) }
            @if shows_payloads {
                td.preview data-label="Payload" { (text(preview.as_deref().unwrap_or_default())) }
            }
        }
    }
}

fn bulk(context: &Context) -> Markup {
    html! {
        div.bulk {
            span #selected { "Selected:" }
            @if context.may(Action::Retry) { button name="action" value="retry" { "Run now" } }
            @if context.may(Action::Cancel) { button name="action" value="cancel" { "Cancel" } }
            @if context.may(Action::Delete) {
                details {
                    summary { "Delete…" }
                    label { input type="checkbox" name="confirm" value="yes"; " It cannot be undone." }
                    button.danger name="action" value="delete" { "Delete" }
                }
            }
        }
    }
}
