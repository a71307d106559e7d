//! The workers: the servers that run tasks.

use axum::response::Response;
use ergon_core::Timestamp;
use maud::{Markup, html};

use crate::{
    error::PageError,
    parts::{ago, empty, layout::Place, number, state, table, text},
    respond::{Shown, read, respond},
    view::workers::{WorkerRow, WorkersView},
    visit::Context,
};

/// Answers the workers.
#[utoipa::path(
    get, path = "/api/v1/workers", tag = "reading",
    params(("since" = Option<String>, Query, description = "A revision: 204 if it is the present one")),
    responses((status = 200, body = WorkersView), (status = 204, description = "Unchanged"))
)]
pub(crate) async fn get(context: Context) -> Result<Response, PageError> {
    let app = &context.app;
    let found = read(&context, "workers".to_owned(), || WorkersView::read(app)).await?;
    let shown = Shown { title: "Workers".to_owned(), place: Place::Workers, render: &render };
    Ok(respond(&context, &found, &shown))
}

fn render(context: &Context, view: &WorkersView, now: Timestamp) -> Markup {
    if view.workers.is_empty() {
        let more = html! {
            p { "A worker appears within seconds of its start, and stays for a day after it was lost. Without one no task runs." }
        };
        return empty("There is no worker.", &more);
    }
    html! {
        p {
            (view.running) " run, " (view.draining) " drain, " (view.lost) " are lost. They hold "
            (number(view.held.0)) " tasks and run up to " (number(view.slots.0)) " at once."
        }
        @if view.running == 0 { p.trouble { "No worker takes tasks now." } }
        table {
            caption { "Workers: those that run, then those that drain, then lost ones" }
            thead { tr {
                th scope="col" { "Worker" } th scope="col" { "State" } th scope="col" { "Slots" }
                th scope="col" { "Queues" } th scope="col" { "Version" } th scope="col" { "Started" }
                th scope="col" { "Sign of life" }
            } }
            tbody { @for worker in &view.workers { (line(context, worker, now)) } }
        }
        @if view.total() > view.workers.len() {
            p.muted { "And " (view.total() - view.workers.len()) " more." }
        }
    }
}

fn line(context: &Context, worker: &WorkerRow, now: Timestamp) -> Markup {
    let (held, slots) = (worker.held.0, worker.slots.0);
    html! {
        tr id={ "w" (worker.id) } {
            td data-label="Worker" {
                (text(&worker.name))
                details {
                    summary { (worker.kinds.len()) " kinds" }
                    p.muted { "Run " code { (worker.id) } ", process " (worker.pid) " on " (text(&worker.host)) }
                    ul { @for kind in &worker.kinds { li { (text(kind)) } } }
                    @if worker.is_cut { p.muted { "Not all are listed." } }
                }
            }
            td data-label="State" { (state(worker.state)) }
            td data-label="Slots" {
                div {
                    meter min="0" max=(std::cmp::max(slots, 1)) value=(std::cmp::min(held, slots)) aria-label="Slots that are taken" {}
                    " " (number(held)) "/" (number(slots))
                }
            }
            td data-label="Queues" {
                div { @for (place, served) in worker.queues.iter().enumerate() {
                    @if place > 0 { ", " }
                    (table::queue_link(context, &served.queue)) " × " (served.concurrency)
                } }
            }
            td data-label="Version" { (text(&worker.version)) }
            td data-label="Started" { (ago(worker.started_at, now)) }
            td data-label="Sign of life" { (ago(worker.beat_at, now)) }
        }
    }
}
