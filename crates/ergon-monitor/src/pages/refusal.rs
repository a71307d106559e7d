//! The page of a refusal: what is wrong, and what can be done.

use axum::response::Response;
use maud::html;

use crate::{
    auth::Principal,
    error::PageError,
    parts::{
        layout::{Page, Place, document},
        text,
    },
    respond,
    shared::Shared,
    visit::Visit,
};

/// Writes the page.
pub(crate) fn page(
    shared: &Shared,
    visit: &Visit,
    principal: Option<&Principal>,
    error: &PageError,
) -> Response {
    let greeting = html! {
        @if let Some(principal) = principal {
            span.who { (text(principal.name())) " (" (principal.role()) ")" }
        }
    };
    let body = html! {
        p { (text(&error.to_string())) }
        @match error {
            PageError::Unauthenticated(_) => p { a href=(visit.links.at("/login")) { "Sign in" } },
            PageError::Misdirected => p {
                "If this is its name, whoever runs the monitor has to add it to " code { "public_hosts" } "."
            },
            PageError::Store(_) => p { a href="" { "Try again" } },
            _ => p { a href=(visit.links.overview()) { "To the overview" } },
        }
    };
    let page =
        Page { title: error.title(), place: Place::Elsewhere, freshness: None, notice: None, body };
    respond::html(&document(shared, visit, &page, &greeting))
}
