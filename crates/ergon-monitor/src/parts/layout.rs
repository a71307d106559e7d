//! The shell of every page.

use ergon_core::Timestamp;
use maud::{DOCTYPE, Markup, html};

use super::{form, instant};
use crate::{
    assets::{CSS, ICON, JS, LIVE},
    auth::Auth,
    link::Links,
    shared::Shared,
    sse,
    value::{At, span},
    visit::{Context, Theme, Visit},
};

/// Where in the monitor a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Overview,
    Tasks,
    Errors,
    Queues,
    Workers,
    Operations,
    Audit,
    Enqueue,
    System,
    Elsewhere,
}

/// The places that the navigation leads to.
const PLACES: [(Place, &str, &str); 8] = [
    (Place::Overview, "/", "Overview"),
    (Place::Tasks, "/tasks", "Tasks"),
    (Place::Errors, "/errors", "Errors"),
    (Place::Queues, "/queues", "Queues"),
    (Place::Workers, "/workers", "Workers"),
    (Place::Operations, "/bulk", "Operations"),
    (Place::Audit, "/audit", "Audit"),
    (Place::System, "/system", "System"),
];

/// How new a page is.
pub(crate) struct Freshness<'p> {
    pub(crate) revision: &'p str,
    pub(crate) cursor: Option<&'p str>,
    pub(crate) read_at: Timestamp,
    pub(crate) stale: Option<String>,
}

/// A page within the shell.
pub(crate) struct Page<'p> {
    pub(crate) title: &'p str,
    pub(crate) place: Place,
    /// None of a page that does not change by itself.
    pub(crate) freshness: Option<Freshness<'p>>,
    pub(crate) notice: Option<String>,
    pub(crate) body: Markup,
}

/// A whole page for somebody who was let in.
pub(crate) fn page(context: &Context, page: &Page<'_>) -> Markup {
    let Context { app, visit, principal } = context;
    let greeting = html! {
        span.who { (super::text(principal.name())) " (" (principal.role()) ")" }
        (theme(context))
    };
    document(app, visit, page, &greeting)
}

/// A whole page for anybody.
pub(crate) fn document(
    shared: &Shared,
    visit: &Visit,
    page: &Page<'_>,
    greeting: &Markup,
) -> Markup {
    let links = &visit.links;
    let config = &shared.config;
    let theme = (visit.theme != Theme::System).then(|| visit.theme.as_str());
    let renews = page.freshness.is_some() && config.enable_sse;
    let followed = renews.then(|| sse::view_of(&visit.path)).flatten();
    html! {
        (DOCTYPE)
        html lang="en" data-theme=[theme] {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (page.title) " · ergon" @if let Some(name) = &config.environment { " " (name) } }
                link rel="icon" type="image/svg+xml" href=(links.at(&ICON.path()));
                link rel="stylesheet" href=(links.at(&CSS.path())) integrity=(CSS.integrity());
                script src=(links.at(&JS.path())) integrity=(JS.integrity()) defer {}
                @if followed.is_some() {
                    script src=(links.at(&LIVE.path())) integrity=(LIVE.integrity()) defer {}
                }
            }
            body data-poll=(config.poll_interval.as_millis()) data-events=[followed.as_ref().map(|_| links.at("/events"))] data-view=[&followed] {
                a.skip href="#main" { "Skip to the content" }
                header.shell {
                    a.brand href=(links.overview()) { "ergon" }
                    @if let Some(name) = &config.environment {
                        span class={ "environment tone-" (config.tone.as_str()) } { (super::text(name)) }
                    }
                    @if config.read_only { span.environment { "read-only" } }
                    (navigation(links, page.place))
                    div.greeting { (greeting) }
                }
                @if matches!(config.auth, Auth::None(_)) {
                    p.banner role="note" {
                        "Nobody is asked who comes: everyone who reaches this page may do everything."
                    }
                }
                div #status role="status" aria-live="polite" {
                    @if let Some(notice) = &page.notice { p.notice { (notice) } }
                }
                (main(shared, page))
                footer { "ergon " (env!("CARGO_PKG_VERSION")) }
            }
        }
    }
}

/// What changes of a page: a whole page holds it, and a poll is answered with it alone.
pub(crate) fn main(shared: &Shared, page: &Page<'_>) -> Markup {
    let revision = page.freshness.as_ref().map(|freshness| freshness.revision);
    let cursor = page.freshness.as_ref().and_then(|freshness| freshness.cursor);
    html! {
        main #main tabindex="-1" data-revision=[revision] data-cursor=[cursor] {
            h1 { (page.title) }
            @if let Some(freshness) = &page.freshness { (fresh(shared, freshness)) }
            (page.body)
        }
    }
}

/// How new the page is, and whether it renews itself: never old data that looks fresh.
fn fresh(shared: &Shared, freshness: &Freshness<'_>) -> Markup {
    let read_at = At(freshness.read_at);
    html! {
        p #freshness class=(if freshness.stale.is_some() { "freshness stale" } else { "freshness" }) {
            @if let Some(reason) = &freshness.stale {
                strong { "Stale: " } (reason) ". Shown is what was read at " (instant(read_at)) ". "
            } @else {
                "Read at " (instant(read_at)) ". "
            }
            span data-mode data-interval=(span(shared.config.poll_interval)) { "Load the page again to see what is new." }
        }
    }
}

fn navigation(links: &Links, here: Place) -> Markup {
    html! {
        nav aria-label="Pages" {
            @for (place, path, name) in PLACES {
                @let current = (place == here).then_some("page");
                a href=(links.at(path)) aria-current=[current] { (name) }
            }
        }
    }
}

/// A switch of the colours that works without scripts: each press chooses the next.
fn theme(context: &Context) -> Markup {
    let visit = &context.visit;
    let (next, sign, word) = match visit.theme {
        Theme::System => (Theme::Dark, "☾", "dark"),
        Theme::Dark => (Theme::Light, "☀", "light"),
        Theme::Light => (Theme::System, "◐", "of the system"),
    };
    html! {
        form.theme method="post" action=(visit.links.at("/theme")) {
            (form::token(context))
            input type="hidden" name="back" value=(visit.links.at(&visit.path));
            button name="theme" value=(next.as_str()) title={ "Colours: " (word) } {
                span aria-hidden="true" { (sign) }
                span.hidden { "Colours: " (word) }
            }
        }
    }
}
