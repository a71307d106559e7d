//! The queues, and the page of one of them.

use axum::{extract::Path, response::Response};
use ergon_core::{QueueName, State, Timestamp};
use maud::{Markup, html};

use crate::{
    error::PageError,
    link::queue_of,
    parts::{
        age,
        chart::{Bar, bars},
        empty, form,
        layout::Place,
        part,
        plot::shown,
        problems, state, table,
    },
    respond::{Shown, read, respond},
    view::{
        Part, TaskRow,
        queues::{QueueRow, QueueView, QueuesView},
        range::Range,
    },
    visit::Context,
};

/// Answers the list of queues.
#[utoipa::path(
    get, path = "/api/v1/queues", tag = "reading",
    params(("since" = Option<String>, Query)),
    responses((status = 200, body = QueuesView), (status = 204, description = "Unchanged"))
)]
pub(crate) async fn list(context: Context) -> Result<Response, PageError> {
    let app = &context.app;
    let found = read(&context, "queues".to_owned(), || QueuesView::read(app)).await?;
    let shown = Shown { title: "Queues".to_owned(), place: Place::Queues, render: &render_list };
    Ok(respond(&context, &found, &shown))
}

fn render_list(context: &Context, view: &QueuesView, now: Timestamp) -> Markup {
    if view.queues.is_empty() {
        let more = html! { p { "A queue appears with its first task." } };
        return empty("There are no queues yet.", &more);
    }
    table::queues(context, "Every queue, by name", &view.queues, now)
}

/// The queue in an address.
pub(crate) fn name_of(part: &str) -> Result<QueueName, PageError> {
    queue_of(part).ok_or_else(|| PageError::Malformed("this is no name of a queue".to_owned()))
}

/// Answers the page of a queue.
#[utoipa::path(
    get, path = "/api/v1/queues/{queue}", tag = "reading",
    params(("queue" = String, Path), ("range" = Option<String>, Query), ("since" = Option<String>, Query)),
    responses((status = 200, body = QueueView), (status = 204, description = "Unchanged"), (status = 404, body = crate::frame::Problem))
)]
pub(crate) async fn get(context: Context, Path(name): Path<String>) -> Result<Response, PageError> {
    let (name, app) = (name_of(&name)?, &context.app);
    let range = Range::of(&context, Range::Hour)?;
    let key = format!("queue {} {name}", range.as_str());
    let found = read(&context, key, || Box::pin(QueueView::read(app, &name, range))).await?;
    if found.reading.view.queue.is_none() {
        return Err(PageError::NotFound(format!("There is no queue {name}.")));
    }
    let title = format!("Queue {name}");
    let shown = Shown { title, place: Place::Queues, render: &render };
    Ok(respond(&context, &found, &shown))
}

fn render(context: &Context, view: &QueueView, now: Timestamp) -> Markup {
    let Some(queue) = &view.queue else { return html! {} };
    let name = queue.name.as_str();
    let address = QueueName::new(name)
        .map_or_else(|_| String::new(), |name| context.visit.links.queue(&name));
    let all = |state: &str| context.visit.links.tasks([("queue", name), ("state", state)]);
    let section = |title: &str, listed: State, part_of: &Part<Vec<TaskRow>>| {
        html! {
            h2 { (title) }
            (part(part_of, |rows| html! {
                @if rows.is_empty() { p.muted { "None." } } @else {
                    (table::tasks(context, title, rows, now))
                    p { a href=(all(listed.as_str())) { "All of them" } }
                }
            }))
        }
    };
    html! {
        (part(&view.problems, |found| problems(context, found, now)))
        (figures(context, queue, now))
        h2 { "What servers did" }
        (part(&view.activity, |activity| shown(activity, &address)))
        (section("Oldest due", State::Pending, &view.pending))
        (section("Running", State::Running, &view.running))
        (section("Newest failed", State::Failed, &view.failed))
    }
}

fn figures(context: &Context, queue: &QueueRow, now: Timestamp) -> Markup {
    let classes: Vec<_> =
        queue.states.iter().map(|figure| format!("state-{}", figure.state)).collect();
    let figures: Vec<_> = queue
        .states
        .iter()
        .zip(&classes)
        .map(|(figure, class)| Bar { label: figure.state, value: figure.tasks.0, class })
        .collect();
    html! {
        p {
            @if queue.is_paused { (state("paused")) " — nothing of it is started. " }
            "Oldest due: " (age(queue.oldest_due_at, now)) ". "
            @if let Ok(name) = QueueName::new(&queue.name) {
                (form::queue_action(context, &name, queue.is_paused))
            }
        }
        (bars("Tasks by state", &figures))
        p { a href=(context.visit.links.tasks([("queue", queue.name.as_str())])) { "All its tasks" } }
    }
}
