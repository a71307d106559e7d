//! A feed: one page, read and rendered once for all who follow it with the same rights.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body};
use bytes::Bytes;
use ergon_core::Event;
use http::{Request, StatusCode};
use serde::Serialize;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tower::ServiceExt as _;

use super::{
    topic::{Topic, Wanted},
    wire,
};
use crate::{
    auth::{Principal, Rights},
    error::PageError,
    link::Links,
    respond::{CURSOR, Made},
    shared::App,
    visit::{Visit, Wants},
};

/// How old a reading may be that is made because time went by.
const TICK_AGE: Duration = Duration::from_secs(1);

/// Largest part of a page that is sent.
const PART_BYTES_MAX: usize = 64 << 20;

/// What tells feeds apart: the page, and whatever else it depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    path: String,
    query: String,
    rights: Rights,
    links: Links,
}

/// What is sent to whoever follows.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// Told from any other content of the page.
    pub(super) revision: String,
    /// As it is sent.
    pub(super) bytes: Bytes,
}

/// A page that is followed.
pub(super) struct Feed {
    key: Key,
    topic: Topic,
    /// When the page was last known to be out of date.
    marks: watch::Sender<Instant>,
    marked: AtomicU64,
    /// The mark that the last good reading answered.
    covered: AtomicU64,
    frames: watch::Sender<Option<Told>>,
}

/// What was read last, and the mark that it answers.
type Told = (u64, Arc<Frame>);

/// Somebody's part in a feed.
pub(super) struct Following {
    feed: Arc<Feed>,
    frames: watch::Receiver<Option<Told>>,
    /// Readings that answer an earlier mark are too old.
    wanted: u64,
}

impl Following {
    /// Waits for the next reading, whether it shows something new or not; `None` when the feed ended.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(super) async fn next(&mut self) -> Option<Arc<Frame>> {
        loop {
            self.frames.changed().await.ok()?;
            let told = self.frames.borrow_and_update().clone();
            if let Some((_, frame)) = told.filter(|(answers, _)| *answers >= self.wanted) {
                return Some(frame);
            }
        }
    }

    /// What was read last, before or since.
    pub(super) fn last(&mut self) -> Option<Arc<Frame>> {
        self.frames.borrow_and_update().clone().map(|(_, frame)| frame)
    }

    /// Has the page read again; what was read before does not count any more.
    pub(super) fn mark(&mut self) {
        self.wanted = self.feed.mark(Instant::now());
    }

    pub(super) fn concerns(&self, event: &Event) -> bool {
        self.feed.concerns(event)
    }

    /// Says whether all that was told to the feed is in what was taken from it.
    pub(super) fn is_settled(&self) -> bool {
        let is_covered =
            self.feed.covered.load(Ordering::SeqCst) == self.feed.marked.load(Ordering::SeqCst);
        is_covered && !self.frames.has_changed().unwrap_or(true)
    }
}

impl Key {
    pub(super) fn of(wanted: &Wanted, visit: &Visit, principal: &Principal) -> (Self, Topic) {
        let Wanted { path, query, topic, .. } = wanted.clone();
        let (rights, links) = (principal.rights, visit.links.clone());
        (Self { path, query, rights, links }, topic)
    }
}

impl Feed {
    pub(super) fn new(key: Key, topic: Topic) -> Self {
        Self {
            key,
            topic,
            marks: watch::Sender::new(Instant::now()),
            marked: AtomicU64::new(0),
            covered: AtomicU64::new(0),
            frames: watch::Sender::default(),
        }
    }

    pub(super) const fn key(&self) -> &Key {
        &self.key
    }

    pub(super) fn concerns(&self, event: &Event) -> bool {
        self.topic.concerns(event)
    }

    /// The page is out of date: a reading that began before this instant is not good enough.
    /// Answers the number of the mark.
    pub(super) fn mark(&self, at: Instant) -> u64 {
        let mut number = 0;
        self.marks.send_modify(|mark| {
            *mark = std::cmp::max(*mark, at);
            number = self.marked.fetch_add(1, Ordering::SeqCst) + 1;
        });
        number
    }

    /// The marks from now on.
    pub(super) fn marks(&self) -> watch::Receiver<Instant> {
        self.marks.subscribe()
    }

    pub(super) fn follow(self: &Arc<Self>) -> Following {
        Following { feed: Arc::clone(self), frames: self.frames.subscribe(), wanted: 0 }
    }

    pub(super) fn is_followed(&self) -> bool {
        self.frames.receiver_count() > 0
    }

    /// Reads the page after every mark, and now and then, as long as somebody follows.
    pub(super) async fn run(
        self: Arc<Self>,
        app: App,
        pages: Router,
        mut marks: watch::Receiver<Instant>,
    ) {
        let running = Running(Arc::clone(&self), app);
        let app = &running.1;
        let stop = app.streams.clone();
        let mut next_at = Instant::now() + app.config.poll_interval;
        loop {
            let is_marked = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.frames.closed() => {
                    if app.live.retire(&self) {
                        return;
                    }
                    continue;
                }
                _changed = marks.changed() => true,
                () = sleep_until(next_at) => false,
            };
            let now = Instant::now();
            // First the number: a mark that comes between the two is answered, and answered again.
            let marked = self.marked.load(Ordering::SeqCst);
            let marked_at = *marks.borrow_and_update();
            let tick = now.checked_sub(TICK_AGE).unwrap_or(now);
            let not_before = if is_marked { marked_at } else { std::cmp::max(tick, marked_at) };
            let is_good = self.read(app, &pages, not_before, marked).await;
            if is_good {
                self.covered.fetch_max(marked, Ordering::SeqCst);
            }
            // What happens meanwhile is read in one go. What failed is tried again soon.
            let config = &app.config;
            let pause_until = now + config.sse_interval;
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep_until(pause_until) => {}
            }
            let quiet = if is_good { config.poll_interval } else { config.sse_interval };
            next_at = std::cmp::max(pause_until, now + quiet);
        }
    }

    /// Reads the page, and hands what it shows to all who follow; says whether it is up to date.
    async fn read(&self, app: &App, pages: &Router, not_before: Instant, answers: u64) -> bool {
        let last = self.frames.borrow().clone();
        let last = last.as_ref().map(|(_, frame)| frame.revision.as_str());
        let request = self.request(app, not_before, last);
        // A router fails never.
        let Ok(response) = pages.clone().oneshot(request).await;
        let made = response.extensions().get::<Made>().cloned();
        let error = response.extensions().get::<PageError>().cloned();
        let cursor = response.headers().get(CURSOR).and_then(|cursor| cursor.to_str().ok());
        let cursor = cursor.map(str::to_owned);
        match (response.status(), made) {
            (StatusCode::NO_CONTENT, _) => {
                // It is told again, for those who have not seen it.
                self.frames.send_modify(|told| {
                    told.iter_mut().for_each(|told| told.0 = answers);
                });
                true
            }
            (StatusCode::OK, Some(made)) => {
                let body = axum::body::to_bytes(response.into_body(), PART_BYTES_MAX).await;
                let Ok(body) = body else { return false };
                let text = String::from_utf8_lossy(&body);
                let Made { mut revision, is_stale } = made;
                if is_stale {
                    revision.push('?');
                }
                // Who resumes behind what is old has not seen what is new.
                let id = cursor.as_deref().filter(|_| !is_stale);
                self.publish(answers, revision, wire::event("main", id, &text));
                !is_stale
            }
            (status, _) if status.is_server_error() => {
                let reason = error.map_or_else(|| status.to_string(), |error| error.to_string());
                self.publish(answers, "?".to_owned(), wire::because("stale", None, &reason));
                false
            }
            (status, _) => {
                let status = status.as_u16();
                self.publish(
                    answers,
                    format!("!{status}"),
                    wire::json("gone", None, &Gone { status }),
                );
                true
            }
        }
    }

    fn publish(&self, answers: u64, revision: String, bytes: Bytes) {
        self.frames.send_replace(Some((answers, Arc::new(Frame { revision, bytes }))));
    }

    /// The request of a poll by somebody without a name.
    fn request(&self, app: &App, not_before: Instant, since: Option<&str>) -> Request<Body> {
        let Key { path, query, rights, links } = &self.key;
        let mut query = query.clone();
        for (name, value) in [("fragment", Some("1")), ("since", since)] {
            if let Some(value) = value {
                let sign = if query.is_empty() { "" } else { "&" };
                query.push_str(sign);
                query.extend([name, "=", &crate::link::escape(value)]);
            }
        }
        let mut request = Request::new(Body::empty());
        // Paths and queries are escaped, so that they are always those of an address.
        *request.uri_mut() = format!("{path}?{query}").parse().unwrap_or_default();
        let (parts, body) = request.into_parts();
        let mut visit = Visit::of(&parts, app);
        visit.links.clone_from(links);
        visit.path.clone_from(path);
        visit.query = query;
        visit.wants = Wants::Html;
        // What began at the very instant of a change may not have seen it.
        visit.not_before = not_before.checked_add(Duration::from_nanos(1));
        let mut request = Request::from_parts(parts, body);
        request.extensions_mut().insert(visit);
        request.extensions_mut().insert(Principal::nameless(*rights));
        request
    }
}

#[derive(Serialize)]
struct Gone {
    status: u16,
}

/// Forgets the feed when it ends, however that came.
struct Running(Arc<Feed>, App);

impl Drop for Running {
    fn drop(&mut self) {
        self.1.live.ended(&self.0);
    }
}
