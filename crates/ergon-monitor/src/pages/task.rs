//! The page of a task, and its payload and result as files.

use axum::{
    extract::Path,
    response::{IntoResponse as _, Response},
};
use ergon_core::{TaskId, TaskRecord, Timestamp};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use maud::{Markup, html};

use crate::{
    error::PageError,
    parts::{ago, form, instant, layout::Place, part, state, table, text, tree::tree},
    redact::Origin,
    respond::{Shown, read, respond_part},
    value::{bytes, grouped},
    view::task::{Blob, Encoding, Entry, ReportView, TaskView, redacted},
    visit::Context,
};

/// The id in an address.
pub(crate) fn id_of(part: &str) -> Result<TaskId, PageError> {
    part.parse().map_err(|error| PageError::Malformed(format!("{error}")))
}

pub(crate) fn gone(id: TaskId) -> PageError {
    PageError::NotFound(format!(
        "There is no task {id}. It may have been deleted, or removed after it had finished and outlived \
         its retention."
    ))
}

/// Answers the page of a task.
#[utoipa::path(
    get, path = "/api/v1/tasks/{id}", tag = "reading",
    params(("id" = String, Path), ("since" = Option<String>, Query)),
    responses((status = 200, body = TaskView), (status = 204, description = "Unchanged"), (status = 404, body = crate::frame::Problem))
)]
pub(crate) async fn get(context: Context, Path(id): Path<String>) -> Result<Response, PageError> {
    let id = id_of(&id)?;
    let (app, with_payloads) = (&context.app, context.principal.may_view_payloads());
    let key = format!("task {with_payloads} {id}");
    let found = read(&context, key, || TaskView::read(app, id, with_payloads)).await?;
    let view = found.reading.view.as_ref().ok_or_else(|| gone(id))?;
    let title = format!("{} {}", view.row.kind, table::short_id(&view.row.id));
    let shown = Shown { title, place: Place::Tasks, render: &render };
    Ok(respond_part(&context, &found, view, &shown))
}

fn render(context: &Context, view: &TaskView, now: Timestamp) -> Markup {
    let row = &view.row;
    html! {
        p {
            (state(row.state)) " · attempt " (row.attempt) "/" (row.max_attempts)
            " · queue " (table::queue_link(context, &row.queue))
            " · priority " (row.priority)
            @for tag in &row.tags { " " span.tag { (text(tag)) } }
        }
        p { code { (row.id) } }
        @if view.is_cancel_requested { p.trouble { "It was asked to stop, and has not yet." } }
        @if view.crash_count > 0 {
            p.trouble { "The server that ran it died " (view.crash_count) " times." }
        }
        (form::task_actions(context, row))
        @if let Some(report) = &view.report { (progress(report, now)) }
        @if let Some(reasons) = &view.reasons {
            h2 { "Why it stands so" }
            (part(reasons, |reasons| html! {
                ul.reasons { @for reason in reasons { li { (text(&reason.text)) } } }
            }))
        }
        h2 { "Timeline" }
        ol.timeline { @for moment in &view.timeline {
            li { (instant(moment.at)) " " span.muted { "(" (ago(moment.at, now)) ")" } " " (moment.what) }
        } }
        h2 { "Payload" }
        (blob(context, &view.payload, &row.id, "payload"))
        h2 { "Result" }
        @match &view.result {
            Some(result) => (blob(context, result, &row.id, "result")),
            None => p.muted { "None." },
        }
        h2 { "Errors" }
        (errors(view, now))
        h2 { "Metadata" }
        (entries(&view.metadata))
        h2 { "Options" }
        (entries(&view.options))
    }
}

fn progress(report: &ReportView, now: Timestamp) -> Markup {
    let done = report.done.0;
    html! {
        h2 { "Progress" }
        p {
            @if let Some(total) = report.total {
                progress value=(std::cmp::min(done, total.0)) max=(std::cmp::max(total.0, 1)) aria-label="Progress" {}
                " " (grouped(done)) " of " (grouped(total.0))
            } @else {
                (grouped(done)) " done"
            }
            " " (text(&report.message)) " " span.muted { "(" (ago(report.at, now)) ")" }
        }
    }
}

fn blob(context: &Context, blob: &Blob, id: &str, what: &str) -> Markup {
    let raw = context.visit.links.at(&format!("/tasks/{id}/{what}"));
    html! {
        @match (&blob.json, &blob.text, blob.encoding) {
            (Some(json), ..) => (tree(json)),
            (None, Some(text), _) => pre { bdi { (text) } },
            (None, None, Encoding::Hidden) => p.muted { "You may not see it." },
            (None, None, Encoding::TooLarge) => p.muted { "It is too large to be shown here." },
            (None, None, _) => p.muted { "It is not text." },
        }
        p.muted {
            (bytes(blob.bytes.0))
            @if blob.encoding != Encoding::Hidden { " · " a href=(raw) download { "Download" } }
        }
    }
}

fn errors(view: &TaskView, now: Timestamp) -> Markup {
    html! {
        @if view.errors.is_empty() { p.muted { "None." } }
        @for (place, error) in view.errors.iter().enumerate().rev() {
            details open[place + 1 == view.errors.len()] {
                summary { "Attempt " (error.attempt) " · " (error.kind) " · " (ago(error.at, now)) }
                pre { bdi { (error.message) } }
            }
        }
    }
}

fn entries(entries: &[Entry]) -> Markup {
    html! {
        @if entries.is_empty() { p.muted { "None." } } @else {
            dl { @for entry in entries { dt { (text(&entry.key)) } dd { (text(&entry.value)) } } }
        }
    }
}

/// Answers the payload of a task as a file.
pub(crate) async fn payload(
    context: Context,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    raw(&context, &id, Origin::Payload).await
}

/// Answers the result of a task as a file.
pub(crate) async fn result(
    context: Context,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    raw(&context, &id, Origin::Result).await
}

async fn raw(context: &Context, id: &str, origin: Origin) -> Result<Response, PageError> {
    let id = id_of(id)?;
    if !context.principal.may_view_payloads() {
        return Err(PageError::Forbidden("You may not see payloads and results.".to_owned()));
    }
    let app = &context.app;
    let task = app.reads.read("tasks", app.manager.tasks().get(id)).await?;
    let task: TaskRecord = task.ok_or_else(|| gone(id))?;
    let (content, name) = match origin {
        Origin::Result => (task.progress.result.clone(), "result"),
        _ => (Some(task.spec.payload.clone()), "payload"),
    };
    let none = || PageError::NotFound(format!("The task {id} has no {name}."));
    let content = content.ok_or_else(none)?;
    let (media_type, extension, body) = match redacted(app, &task, origin, &content) {
        Some(json) => ("application/json", "json", json.to_string().into_bytes()),
        None => ("application/octet-stream", "bin", content.to_vec()),
    };
    let disposition = format!("attachment; filename=\"{id}-{name}.{extension}\"");
    let headers = [(CONTENT_TYPE, media_type.to_owned()), (CONTENT_DISPOSITION, disposition)];
    Ok((headers, body).into_response())
}
