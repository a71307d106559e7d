//! The live stream: pages, and programs, are told what happened as soon as it has.
//!
//! # How it works
//!
//! One [follower] of the store's journal a process wakes [feeds](feed): one for each page that
//! somebody looks at with the same rights. A feed reads and renders its page once for all of them,
//! through the handlers that answer polls. It reads after every change that may concern it, at most
//! once in [`sse_interval`](crate::MonitorConfig::sse_interval), and anew after every
//! [`poll_interval`](crate::MonitorConfig::poll_interval), because a task that comes due is no event.
//! A [stream](page) sends what its browser lacks.
//!
//! # What is sent
//!
//! `GET {base}/events?view=overview|queues|queue:<name>|tasks|task:<id>|system|…` with the parameters
//! of the page, of which `after` and `before` are called `page.after` and `page.before`; `after` is the
//! cursor to resume from, unless `Last-Event-ID` says it, and `since` the revision that is shown.
//!
//! | event | means |
//! |---|---|
//! | `hello` | the stream begins: `cursor`, `server_ms`, `hb_s`, `mode`, `resumed`, and a `token` for forms |
//! | `main` | the part of the page that changes, as a poll is answered |
//! | `stale` | the page cannot be read now: `reason` |
//! | `gone` | there is no such page any more: `status` |
//! | `mode` | `live`, or `polling` while the journal cannot be followed and the page is read now and then |
//! | `reset` | the cursor cannot be followed: `reason`; ask for the page again |
//! | `hb` | nothing happened: `server_ms` |
//! | `bye` | the stream ends: `reason` is `auth`, `shutdown` or `age` |
//! | `fallback` | no stream can be had now: `reason`; poll, and try again later |
//!
//! `id` is a cursor: all that happened before is in what was sent.

use std::{collections::HashMap, sync::Arc};

use axum::{Router, extract::Request, response::Response};
use ergon_core::event::EventKindSet;
use http::{
    HeaderName, HeaderValue, Method,
    header::{CACHE_CONTROL, CONTENT_TYPE},
    request::Parts,
};

use self::{client::Client, hub::Refused, topic::Wanted};
use crate::{error::PageError, visit::Context};

mod client;
mod event;
mod feed;
mod follower;
mod hub;
mod journal;
mod page;
mod topic;
mod wire;

pub(crate) use self::{hub::Hub, topic::view_of};

const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What a stream was asked for with.
struct Asked {
    parts: Parts,
    context: Context,
    after: Option<String>,
}

impl Asked {
    fn of(context: Context, request: Request) -> Self {
        let (parts, _body) = request.into_parts();
        let last = parts.headers.get("last-event-id").and_then(|id| id.to_str().ok());
        let last = last.filter(|id| !id.is_empty()).map(str::to_owned);
        let after = last.or_else(|| context.parameter("after").filter(|after| !after.is_empty()));
        Self { parts, context, after }
    }
}

/// Answers a page as a stream; `pages` are the pages that can be followed.
pub(crate) fn page(
    (context, request): (Context, Request),
    pages: Router,
) -> Result<Response, PageError> {
    let wanted = Wanted::parse(&context.visit.query)?;
    let asked = Asked::of(context, request);
    Ok(open(asked, |client, after| page::run(client, after, wanted, pages)))
}

/// Answers every event of the journal, for programs.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "reading",
    params(
        ("after" = Option<String>, Query, description = "Behind this cursor; without one, from now on"),
        ("kind" = Option<Vec<String>>, Query, description = "Events of these kinds, such as task.failed; without one, of all"),
        ("Last-Event-ID" = Option<String>, Header, description = "The cursor to go on from, before `after`"),
    ),
    responses((
        status = 200, content_type = "text/event-stream", body = String,
        description = "Server-sent events, named after their kinds; `gap` where events may be missing. \
                       The last of those that were committed together has the cursor as its id: whoever \
                       resumes knows by `id` in the data which of them it was told before. Served only \
                       if streams are enabled."
    ))
)]
pub(crate) fn journal((context, request): (Context, Request)) -> Result<Response, PageError> {
    let mut kinds = EventKindSet::EMPTY;
    for (key, value) in form_urlencoded::parse(context.visit.query.as_bytes()) {
        if key == "kind" && !value.is_empty() {
            let kind: ergon_core::event::EventKind =
                value.parse().map_err(|error| PageError::Malformed(format!("kind: {error}")))?;
            kinds = kinds.union(kind.into());
        }
    }
    let kinds = if kinds == EventKindSet::EMPTY { EventKindSet::EVERY } else { kinds };
    let asked = Asked::of(context, request);
    Ok(open(asked, |client, after| journal::run(client, after, kinds)))
}

/// Opens a stream, if there is room for one more.
fn open<F>(asked: Asked, run: impl FnOnce(Client, Option<String>) -> F) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    let Asked { parts, context, after } = asked;
    if parts.method == Method::HEAD {
        return stream(axum::body::Body::empty());
    }
    let app = Arc::clone(&context.app);
    let place = if app.streams.is_cancelled() {
        Err(Refused::Shutdown)
    } else {
        app.live.enter(&app, context.principal.name())
    };
    match place {
        Ok(place) => {
            let (client, body) = Client::new(context, parts, place);
            // Nobody waits for its answer: it ends by itself when the other end is gone.
            drop(app.tasks.spawn(run(client, after)));
            stream(axum::body::Body::new(body))
        }
        Err(refused) => stream(wire::fallback(refused.as_str()).into()),
    }
}

/// A stream must reach the browser as it is written, and is worth nothing a second time.
fn stream(body: axum::body::Body) -> Response {
    let mut response = Response::new(body);
    for (name, value) in
        [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store"), (BUFFERING, "no")]
    {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// How many streams each has.
type Counts = HashMap<String, usize>;
