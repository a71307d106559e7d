//! The system: the store, who watches it, and how the monitor works.

use axum::response::Response;
use ergon_core::Timestamp;
use maud::{Markup, html};

use crate::{
    error::PageError,
    parts::{ago, instant, layout::Place, part, text},
    respond::{Shown, read, respond},
    view::{
        system::{SystemView, WatcherRow},
        task::Entry,
    },
    visit::Context,
};

/// Answers the page of the system.
#[utoipa::path(
    get, path = "/api/v1/system", tag = "reading",
    params(("since" = Option<String>, Query)),
    responses((status = 200, body = SystemView), (status = 204, description = "Unchanged"))
)]
pub(crate) async fn get(context: Context) -> Result<Response, PageError> {
    let app = &context.app;
    let found = read(&context, "system".to_owned(), || SystemView::read(app)).await?;
    let shown = Shown { title: "System".to_owned(), place: Place::System, render: &render };
    Ok(respond(&context, &found, &shown))
}

fn render(_context: &Context, view: &SystemView, now: Timestamp) -> Markup {
    html! {
        p { "ergon-monitor " (view.version) ", started " (ago(view.started_at, now)) }
        h2 { "Store" }
        (entries(&view.store))
        h2 { "Who has events recorded" }
        (part(&view.watchers, |watchers| self::watchers(watchers)))
        h2 { "This monitor" }
        (entries(&view.settings))
    }
}

fn entries(entries: &[Entry]) -> Markup {
    html! { dl { @for entry in entries { dt { (entry.key) } dd { (text(&entry.value)) } } } }
}

fn watchers(watchers: &[WatcherRow]) -> Markup {
    html! {
        @if watchers.is_empty() {
            p.muted { "Nobody: what happens is not recorded now." }
        } @else {
            table {
                caption { "Watchers, by name" }
                thead { tr { th scope="col" { "Name" } th scope="col" { "Until" } th scope="col" { "Keeps its place" } } }
                tbody { @for watcher in watchers { tr {
                    td data-label="Name" { (text(&watcher.name)) }
                    td data-label="Until" { @match watcher.until { Some(until) => (instant(until)), None => "told otherwise" } }
                    td data-label="Keeps its place" { @if watcher.keeps_place { "yes" } @else { "no" } }
                } } }
            }
        }
    }
}
