//! The first page: the state of everything at a glance.

use axum::response::Response;
use ergon_core::{State, Timestamp};
use maud::{Markup, html};

use crate::{
    error::PageError,
    parts::{
        age,
        chart::{Bar, bars},
        empty, is_notable,
        layout::Place,
        number, part,
        plot::shown,
        problems, state, table,
    },
    respond::{Shown, read, respond},
    view::{
        overview::{OverviewView, QueuesPart},
        range::Range,
    },
    visit::Context,
};

/// Answers the overview.
#[utoipa::path(
    get, path = "/api/v1/stats", tag = "reading",
    params(
        ("range" = Option<String>, Query, description = "Of what servers did: 1h, 6h, 24h or 7d"),
        ("since" = Option<String>, Query, description = "A revision: 204 if it is the present one"),
    ),
    responses((status = 200, body = OverviewView), (status = 204, description = "Unchanged"))
)]
pub(crate) async fn get(context: Context) -> Result<Response, PageError> {
    let app = &context.app;
    let range = Range::of(&context, Range::Hour)?;
    let key = format!("overview {}", range.as_str());
    let found = read(&context, key, || OverviewView::read(app, range)).await?;
    let shown = Shown { title: "Overview".to_owned(), place: Place::Overview, render: &render };
    Ok(respond(&context, &found, &shown))
}

fn render(context: &Context, view: &OverviewView, now: Timestamp) -> Markup {
    html! {
        (part(&view.problems, |found| problems(context, found, now)))
        (part(&view.queues, |queues| summary(context, queues, now)))
        h2 { "What servers did" }
        (part(&view.activity, |activity| shown(activity, &context.visit.links.overview())))
        h2 { "Recent failures" }
        (part(&view.failures, |failures| html! {
            @if failures.is_empty() {
                (empty("No task has failed or waits to be tried again.", &html! {}))
            } @else {
                (table::tasks(context, "The newest tasks among those that failed or wait to be tried again", failures, now))
                p { a href=(context.visit.links.tasks([("state", "failed"), ("state", "retrying")])) { "All of them" } " · " a href=(context.visit.links.at("/errors")) { "Those that are alike together" } }
            }
        }))
    }
}

fn summary(context: &Context, view: &QueuesPart, now: Timestamp) -> Markup {
    if view.queues.is_empty() {
        return first_run(context);
    }
    let notable = State::ALL.into_iter().filter(|&state| is_notable(state));
    let notable: Vec<_> = notable.map(State::as_str).collect();
    let cards = view.states.iter().filter(|figure| notable.contains(&figure.state));
    let all: Vec<_> = view
        .states
        .iter()
        .map(|figure| {
            let class = format!("state-{}", figure.state);
            (figure.state, figure.tasks.0, class)
        })
        .collect();
    let all: Vec<_> =
        all.iter().map(|(label, value, class)| Bar { label, value: *value, class }).collect();
    html! {
        section.cards aria-label="Tasks by state" {
            @for figure in cards {
                div.card {
                    a href=(context.visit.links.tasks([("state", figure.state)])) {
                        div { (state(figure.state)) }
                        div.value { (number(figure.tasks.0)) }
                    }
                }
            }
            div.card {
                div { "Oldest due" }
                div.value { (age(view.oldest_due_at, now)) }
            }
        }
        (bars("Tasks by state", &all))
        h2 { "Queues" }
        (table::queues(context, "Those first in which a task has been due for longest", &view.queues, now))
        @if view.queues_total > view.queues.len() {
            p { a href=(context.visit.links.at("/queues")) { "All " (view.queues_total) " queues" } }
        }
    }
}

fn first_run(context: &Context) -> Markup {
    let more = html! {
        p { "Enqueue the first one:" }
        pre { code { "let client = ergon_core::Client::new(store);\nclient.enqueue_json(\"greet\", \"Ada\").await?;" } }
        @if context.may(crate::auth::Action::Enqueue) {
            p { a.button href=(context.visit.links.at("/enqueue")) { "Enqueue a task here" } }
        }
    };
    empty("There are no tasks yet.", &more)
}
