//! The audit trail: who did what.

use axum::response::Response;
use ergon_core::{QueueName, TaskId, audit::AuditId, operation::OperationId};
use maud::{Markup, html};

use crate::{
    error::PageError,
    parts::{empty, instant, layout::Place, number, state, table, text},
    respond::{Shown, read, respond},
    view::audit::{AuditRow, AuditView},
    visit::Context,
};

/// Answers a page of the audit trail.
#[utoipa::path(
    get, path = "/api/v1/audit", tag = "reading",
    params(
        ("after" = Option<String>, Query, description = "Older than this entry"),
        ("since" = Option<String>, Query, description = "A revision: 204 if it is the present one"),
    ),
    responses((status = 200, body = AuditView), (status = 204, description = "Unchanged"))
)]
pub(crate) async fn get(context: Context) -> Result<Response, PageError> {
    let app = &context.app;
    let after = context.parameter("after").filter(|after| !after.is_empty());
    let after: Option<AuditId> = after
        .map(|after| after.parse())
        .transpose()
        .map_err(|error| PageError::Malformed(format!("after: {error}")))?;
    let found = read(&context, format!("audit {after:?}"), || AuditView::read(app, after)).await?;
    let render = |context: &Context, view: &AuditView, _now| render(context, view, after.is_some());
    let shown = Shown { title: "Audit".to_owned(), place: Place::Audit, render: &render };
    Ok(respond(&context, &found, &shown))
}

fn render(context: &Context, view: &AuditView, is_later_part: bool) -> Markup {
    let links = &context.visit.links;
    html! {
        @if view.entries.is_empty() && !is_later_part {
            (empty("Nobody has ordered anything yet.", &html! { p { "What is ordered through a monitor is kept for a year." } }))
        } @else {
            table {
                caption { "Who ordered what, the newest first" }
                thead { tr {
                    th scope="col" { "When" } th scope="col" { "Who" } th scope="col" { "What" } th scope="col" { "To what" }
                    th.num scope="col" { "Count" } th scope="col" { "Outcome" }
                } }
                tbody { @for entry in &view.entries { (line(context, entry)) } }
            }
        }
        @if view.unreadable > 0 { p.muted { (view.unreadable) " entries cannot be read: they are of another version." } }
        nav.pages aria-label="Parts of the list" {
            @if is_later_part { a href=(links.at("/audit")) { "‹ newest" } }
            @if let Some(older) = &view.older {
                a rel="next" href=(links.with("/audit", [("after", older.as_str())])) { "older ›" }
            }
        }
    }
}

fn line(context: &Context, entry: &AuditRow) -> Markup {
    html! {
        tr id={ "a" (entry.id) } {
            td data-label="When" { (instant(entry.at)) }
            td data-label="Who" {
                div {
                    (text(&entry.actor))
                    @if !entry.role.is_empty() { " (" (text(&entry.role)) ")" }
                    @if !entry.address.is_empty() { div.muted { (text(&entry.address)) } }
                }
            }
            td data-label="What" { (text(&entry.action)) }
            td data-label="To what" { (target(context, entry)) }
            td.num data-label="Count" { @if let Some(count) = entry.count { (number(count.0)) } }
            td data-label="Outcome" {
                div {
                    (state(entry.outcome))
                    @if !entry.note.is_empty() { div.muted { (text(&entry.note)) } }
                }
            }
        }
    }
}

/// A target as a link, if it is one that has a page.
fn target(context: &Context, entry: &AuditRow) -> Markup {
    let (links, target) = (&context.visit.links, entry.target.as_str());
    let group = entry.action.split('.').next().unwrap_or_default();
    html! {
        @match (group, target.parse::<TaskId>(), target.parse::<OperationId>(), QueueName::new(target)) {
            ("task", Ok(id), ..) => { a.mono href=(links.task(id)) title=(target) { (table::short_id(target)) } }
            ("operation", _, Ok(id), _) => { a.mono href=(links.operation(id)) title=(target) { (table::short_id(target)) } }
            ("queue", _, _, Ok(_)) => { (table::queue_link(context, target)) }
            _ => { (text(target)) }
        }
    }
}
