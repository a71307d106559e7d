//! How a view is answered: as a page, as the part of a page that changes, or to a program.

use std::{future::Future, time::Duration};

use axum::response::{IntoResponse as _, Response};
use ergon_core::Timestamp;
use http::{HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};
use maud::Markup;
use serde::Serialize;

use crate::{
    cache::{Found, Reading},
    error::{PageError, Trouble},
    notice,
    parts::layout::{self, Freshness, Page, Place},
    value::At,
    view::Answer,
    visit::{Context, Wants},
};

/// Where in the journal an answer stands.
pub(crate) const CURSOR: HeaderName = HeaderName::from_static("x-ergon-cursor");

/// In how many milliseconds it is worth asking again: then, all who look ask at once, and share one
/// reading.
const NEXT_POLL: HeaderName = HeaderName::from_static("x-ergon-next-poll");

/// What a response was made of, for those who ask on behalf of others.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) revision: String,
    pub(crate) is_stale: bool,
}

/// What the page of a view is called, and how its content is rendered.
pub(crate) struct Shown<'p, V> {
    pub(crate) title: String,
    pub(crate) place: Place,
    pub(crate) render: &'p (dyn Fn(&Context, &V, Timestamp) -> Markup + Sync),
}

/// Reads the view under this key, or takes what was read a moment ago: of a poll, within the interval
/// of polls, else within the age that a page may have.
pub(crate) async fn read<V, F>(
    context: &Context,
    key: String,
    read: impl FnOnce() -> F,
) -> Result<Found<V>, PageError>
where
    V: Send + Sync + 'static,
    F: Future<Output = Result<Reading<V>, Trouble>>,
{
    let config = &context.app.config;
    let interval = config.poll_interval;
    if let Some(instant) = context.visit.not_before {
        return Ok(context.app.cache.newer(key, Some(instant), interval, read).await?);
    }
    let age_max = if since(context).is_some() { interval } else { config.page_age_max };
    Ok(context.app.cache.get(key, age_max, interval, read).await?)
}

/// The revision that whoever polls has.
fn since(context: &Context) -> Option<String> {
    context.parameter("since")
}

/// Answers a view in the form that is wanted.
pub(crate) fn respond<V: Serialize>(
    context: &Context,
    found: &Found<V>,
    shown: &Shown<'_, V>,
) -> Response {
    respond_part(context, found, &found.reading.view, shown)
}

/// Answers a part of a reading.
pub(crate) fn respond_part<R, V: Serialize>(
    context: &Context,
    found: &Found<R>,
    view: &V,
    shown: &Shown<'_, V>,
) -> Response {
    let reading = &*found.reading;
    let is_unchanged = since(context).is_some_and(|since| since == reading.revision);
    let stale = found.stale.as_ref().map(ToString::to_string);
    let made = Made { revision: reading.revision.clone(), is_stale: stale.is_some() };
    // Who has the same, but not that it is old, has to be told.
    let mut response = if is_unchanged && stale.is_none() {
        StatusCode::NO_CONTENT.into_response()
    } else {
        match context.visit.wants {
            Wants::Json => json(reading, view, stale),
            Wants::Html => html_of(context, reading, view, stale, shown),
        }
    };
    response.extensions_mut().insert(made);
    let headers = response.headers_mut();
    if let Some(cursor) = reading.cursor.as_deref() {
        // A cursor is plain text that every header takes.
        if let Ok(cursor) = HeaderValue::from_str(cursor) {
            headers.insert(CURSOR, cursor);
        }
    }
    // A little later than that, so that whoever asks finds it over.
    let next = found.fresh_for.saturating_add(Duration::from_millis(50));
    let next = u64::try_from(next.as_millis()).unwrap_or(u64::MAX);
    headers.insert(NEXT_POLL, HeaderValue::from(next));
    response
}

fn json<R, V: Serialize>(reading: &Reading<R>, view: &V, stale: Option<String>) -> Response {
    let answer = Answer {
        cursor: reading.cursor.as_deref(),
        revision: &reading.revision,
        read_at: At(reading.read_at),
        stale,
        view,
    };
    json_of(&answer)
}

/// Answers a program.
pub(crate) fn json_of(answer: &impl Serialize) -> Response {
    match serde_json::to_vec(answer) {
        Ok(body) => ([(CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => {
            tracing::error!(error = %error, "an answer could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn html_of<R, V>(
    context: &Context,
    reading: &Reading<R>,
    view: &V,
    stale: Option<String>,
    shown: &Shown<'_, V>,
) -> Response {
    let now = context.app.clock.now();
    let page = Page {
        title: &shown.title,
        place: shown.place,
        freshness: Some(Freshness {
            revision: &reading.revision,
            cursor: reading.cursor.as_deref(),
            read_at: reading.read_at,
            stale,
        }),
        notice: context.parameter("notice").and_then(|code| notice::text(&code)),
        body: (shown.render)(context, view, now),
    };
    let is_fragment = context.parameter("fragment").is_some();
    html(&if is_fragment {
        layout::main(&context.app, &page)
    } else {
        layout::page(context, &page)
    })
}

/// Answers a browser.
pub(crate) fn html(markup: &Markup) -> Response {
    ([(CONTENT_TYPE, "text/html; charset=utf-8")], markup.0.clone()).into_response()
}

/// Answers a page that does not change by itself.
pub(crate) fn still(context: &Context, title: &str, place: Place, body: Markup) -> Response {
    let notice = context.parameter("notice").and_then(|code| notice::text(&code));
    html(&layout::page(context, &Page { title, place, freshness: None, notice, body }))
}
