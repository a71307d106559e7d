//! Shared pieces of pages: small markup that several pages are made of.

use ergon_core::{State, Timestamp, time::between};
use maud::{Markup, html};

use crate::{
    text::clean,
    value::{At, brief, grouped, span},
    view::{Part, problems::ProblemRow},
    visit::Context,
};

pub(crate) mod chart;
pub(crate) mod form;
pub(crate) mod layout;
pub(crate) mod plot;
pub(crate) mod table;
pub(crate) mod tree;

/// Text of a user: apart from what stands around it, whatever direction it is written in.
pub(crate) fn text(text: &str) -> Markup {
    html! { bdi { (clean(text)) } }
}

/// The sign of a state, beside its word and its colour.
const fn sign(state: &str) -> &'static str {
    match state.as_bytes() {
        b"pending" => "○",
        b"scheduled" => "◷",
        b"running" => "▶",
        b"retrying" => "⟳",
        b"completed" | b"finished" | b"done" => "✓",
        b"failed" => "✖",
        b"cancelled" | b"denied" => "⊘",
        b"paused" => "⏸",
        b"aggregating" => "▤",
        b"draining" => "◔",
        b"lost" => "?",
        b"stopped" => "■",
        b"begun" => "…",
        _ => "·",
    }
}

/// A state, as sign, word and colour.
pub(crate) fn state(state: &str) -> Markup {
    html! {
        span class={ "state state-" (state) } {
            span aria-hidden="true" { (sign(state)) }
            " " (state)
        }
    }
}

/// A number, in brief, with all its digits at hand.
pub(crate) fn number(value: u64) -> Markup {
    html! { data class="number" value=(value) title=(grouped(value)) { (brief(value)) } }
}

/// An instant, as the time since or until then; scripts keep it going.
pub(crate) fn ago(at: At, now: Timestamp) -> Markup {
    let text = if at.0 <= now {
        format!("{} ago", span(between(at.0, now)))
    } else {
        format!("in {}", span(between(now, at.0)))
    };
    html! { time datetime=(at) title=(at) data-ago { (text) } }
}

/// An instant as it is.
pub(crate) fn instant(at: At) -> Markup {
    let seconds = at.0.as_second();
    let text = Timestamp::from_second(seconds).unwrap_or(at.0);
    html! { time datetime=(at) title=(at) { (text) } }
}

/// How long something has been waiting.
pub(crate) fn age(at: Option<At>, now: Timestamp) -> Markup {
    match at {
        Some(at) => html! {
            time datetime=(at) title={ "since " (at) } data-age { (span(between(at.0, now))) }
        },
        None => html! { span.muted { "–" } },
    }
}

/// A part of a page, or why it is not there.
pub(crate) fn part<T>(part: &Part<T>, render: impl FnOnce(&T) -> Markup) -> Markup {
    match part {
        Part::Ready { data } => render(data),
        Part::Failed { reason } => html! {
            p.trouble { "This part could not be read: " (reason) ". The rest of the page is as it should be." }
        },
    }
}

/// What somebody should look into, before everything else.
pub(crate) fn problems(context: &Context, problems: &[ProblemRow], now: Timestamp) -> Markup {
    html! {
        @if !problems.is_empty() {
            ul.problems aria-label="Problems" {
                @for found in problems {
                    li {
                        "Queue " (table::queue_link(context, &found.queue)) ": "
                        @if found.problem == "unserved" {
                            (number(found.tasks.0)) " tasks are due, and "
                            a href=(context.visit.links.at("/workers")) { "no live worker" } " serves it"
                        } @else {
                            "its workers lag behind"
                        }
                        @if found.due_since.is_some() { "; one has been due for " (age(found.due_since, now)) }
                        "."
                    }
                }
            }
        }
    }
}

/// What stands where nothing is.
pub(crate) fn empty(title: &str, more: &Markup) -> Markup {
    html! { div.empty { p { strong { (title) } } (more) } }
}

/// Whether a state has a card of its own on the first page.
pub(crate) const fn is_notable(state: State) -> bool {
    match state {
        State::Pending | State::Running | State::Retrying | State::Scheduled | State::Failed => {
            true
        }
        State::Aggregating | State::Blocked | State::Completed | State::Cancelled => false,
    }
}
