//! What servers did, for programs that draw their own charts.

use axum::response::Response;
use ergon_core::{QueueName, Timestamp};
use maud::Markup;

use crate::{
    error::PageError,
    parts::{layout::Place, plot},
    respond::{Shown, read, respond},
    view::{
        activity::{ActivityView, key},
        range::Range,
    },
    visit::Context,
};

/// Answers what servers did.
#[utoipa::path(
    get, path = "/api/v1/timeseries", tag = "reading",
    params(
        ("range" = Option<String>, Query, description = "1h, 6h, 24h or 7d"),
        ("queue" = Option<String>, Query, description = "To tasks of this queue"),
        ("since" = Option<String>, Query, description = "A revision: 204 if it is the present one"),
    ),
    responses((status = 200, body = ActivityView), (status = 204, description = "Unchanged"))
)]
pub(crate) async fn get(context: Context) -> Result<Response, PageError> {
    let app = &context.app;
    let range = Range::of(&context, Range::Hour)?;
    let queue = context.parameter("queue").filter(|queue| !queue.is_empty()).map(QueueName::new);
    let queue =
        queue.transpose().map_err(|error| PageError::Malformed(format!("queue: {error}")))?;
    let read_anew = || ActivityView::read(app, range, queue.as_ref());
    let found = read(&context, key(range, queue.as_ref()), read_anew).await?;
    let title = "What servers did".to_owned();
    let shown = Shown { title, place: Place::Elsewhere, render: &render };
    Ok(respond(&context, &found, &shown))
}

fn render(context: &Context, view: &ActivityView, _now: Timestamp) -> Markup {
    plot::shown(view, &context.visit.links.at("/api/v1/timeseries"))
}
