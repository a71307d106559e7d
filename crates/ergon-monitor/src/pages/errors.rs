//! The errors: failures that are alike, together.

use axum::{extract::Path, response::Response};
use ergon_core::{
    KindName, Timestamp,
    failure::{FailureOrder, Fingerprint},
};
use maud::{Markup, html};

use crate::{
    auth::Action,
    error::PageError,
    parts::{
        ago, empty, instant,
        layout::Place,
        number,
        plot::{ranges, spark},
        table, text,
    },
    respond::{Shown, read, respond, respond_part},
    view::{
        errors::{ErrorGroup, ErrorView, ErrorsView, Wanted},
        range::Range,
    },
    visit::Context,
};

/// How far back the pages look when nothing is chosen.
const RANGE_DEFAULT: Range = Range::Day;

fn wanted(context: &Context) -> Result<Wanted, PageError> {
    let parameter = |name: &str| context.parameter(name).filter(|value| !value.is_empty());
    let kind = parameter("kind").map(KindName::new).transpose();
    let kind = kind.map_err(|error| PageError::Malformed(format!("kind: {error}")))?;
    let order = match parameter("order").as_deref() {
        None | Some("newest") => FailureOrder::Newest,
        Some("most") => FailureOrder::Most,
        Some(_) => return Err(PageError::Malformed("order: not newest or most".to_owned())),
    };
    Ok(Wanted { range: Range::of(context, RANGE_DEFAULT)?, kind, order })
}

/// Answers the errors.
#[utoipa::path(
    get, path = "/api/v1/errors", tag = "reading",
    params(
        ("range" = Option<String>, Query, description = "1h, 6h, 24h or 7d"),
        ("kind" = Option<String>, Query, description = "Of this kind of task"),
        ("order" = Option<String>, Query, description = "newest or most"),
        ("since" = Option<String>, Query, description = "A revision: 204 if it is the present one"),
    ),
    responses((status = 200, body = ErrorsView), (status = 204, description = "Unchanged"))
)]
pub(crate) async fn list(context: Context) -> Result<Response, PageError> {
    let (app, wanted) = (&context.app, wanted(&context)?);
    let found =
        read(&context, format!("errors {wanted:?}"), || ErrorsView::read(app, &wanted)).await?;
    let render =
        |context: &Context, view: &ErrorsView, now| render_list(context, &wanted, view, now);
    let shown = Shown { title: "Errors".to_owned(), place: Place::Errors, render: &render };
    Ok(respond(&context, &found, &shown))
}

fn render_list(context: &Context, wanted: &Wanted, view: &ErrorsView, now: Timestamp) -> Markup {
    let kind = wanted.kind.as_ref().map(|kind| ("kind", kind.as_str()));
    let at = |more: &[(&'static str, &'static str)]| {
        let query = kind.into_iter().chain(more.iter().copied());
        context.visit.links.with("/errors", query)
    };
    let (is_newest, range) = (wanted.order == FailureOrder::Newest, wanted.range.as_str());
    let order = if is_newest { "newest" } else { "most" };
    html! {
        (ranges(&at(&[("order", order)]), wanted.range))
        nav.tabs aria-label="Order" {
            a href=(at(&[("range", range)])) aria-current=[is_newest.then_some("page")] { "Newest" }
            a href=(at(&[("range", range), ("order", "most")])) aria-current=[(!is_newest).then_some("page")] { "Most often" }
        }
        @if let Some((_, kind)) = kind {
            p { "Of kind " (text(kind)) ". " a href=(context.visit.links.at("/errors")) { "Of all kinds" } }
        }
        @if let Some(before) = view.cut_before {
            p.muted { "What failed before " (instant(before)) " is too much to be shown." }
        }
        @if view.groups.is_empty() {
            (empty(&format!("No attempt failed in the last {range}."), &html! {
                @if wanted.range != Range::Week {
                    p { a href=(at(&[("range", Range::Week.as_str())])) { "Look at a week" } }
                }
            }))
        } @else {
            p.muted {
                (number(view.failures_total.0)) " attempts failed, in " (view.groups_total) " ways"
                @if view.groups_total > view.groups.len() { ", of which these are " (view.groups.len()) }
                "."
            }
            (groups(context, &view.groups, wanted.range, now))
        }
    }
}

fn groups(context: &Context, groups: &[ErrorGroup], range: Range, now: Timestamp) -> Markup {
    html! {
        table {
            caption { "Failures that are alike, together" }
            thead { tr {
                th scope="col" { "Failure" } th scope="col" { "Kind" } th.num scope="col" { "Attempts" }
                th scope="col" { "By hour" } th scope="col" { "First" } th scope="col" { "Last" }
            } }
            tbody { @for group in groups { tr id={ "e" (group.fingerprint) } {
                td data-label="Failure" {
                    a href=(context.visit.links.with(&format!("/errors/{}", group.fingerprint), [("range", range.as_str())])) {
                        (group.reason) ": " (text(&group.pattern))
                    }
                }
                td data-label="Kind" { (text(&group.kind)) }
                td.num data-label="Attempts" { (number(group.count.0)) }
                td data-label="By hour" { (spark(&group.hours)) }
                td data-label="First" { (ago(group.first_at, now)) }
                td data-label="Last" { (ago(group.last_at, now)) }
            } } }
        }
    }
}

/// Answers one group.
#[utoipa::path(
    get, path = "/api/v1/errors/{fingerprint}", tag = "reading",
    params(("fingerprint" = String, Path), ("range" = Option<String>, Query), ("since" = Option<String>, Query)),
    responses((status = 200, body = ErrorView), (status = 204, description = "Unchanged"), (status = 404, body = crate::frame::Problem))
)]
pub(crate) async fn get(
    context: Context,
    Path(fingerprint): Path<String>,
) -> Result<Response, PageError> {
    let fingerprint: Fingerprint =
        fingerprint.parse().map_err(|error| PageError::Malformed(format!("{error}")))?;
    let (app, range) = (&context.app, Range::of(&context, RANGE_DEFAULT)?);
    let key = format!("error {} {fingerprint}", range.as_str());
    let found = read(&context, key, || ErrorView::read(app, fingerprint, range)).await?;
    let none = || {
        let range = range.as_str();
        PageError::NotFound(format!("No attempt failed so in the last {range}."))
    };
    let view = found.reading.view.as_ref().ok_or_else(none)?;
    let title = format!("{}: {}", view.group.kind, view.group.reason);
    let shown = Shown { title, place: Place::Errors, render: &render };
    Ok(respond_part(&context, &found, view, &shown))
}

fn render(context: &Context, ErrorView { range, group }: &ErrorView, now: Timestamp) -> Markup {
    let links = &context.visit.links;
    let address = links.at(&format!("/errors/{}", group.fingerprint));
    let of_kind = |states: &[&'static str]| {
        let states = states.iter().map(|state| ("state", *state));
        links.tasks([("kind", group.kind.as_str())].into_iter().chain(states))
    };
    let retry = [("kind", group.kind.as_str()), ("state", "failed"), ("action", "retry")];
    html! {
        (ranges(&address, *range))
        p {
            (number(group.count.0)) " attempts failed so, first " (ago(group.first_at, now)) ", last "
            (ago(group.last_at, now)) "."
        }
        p { "Kind " (text(&group.kind)) " · " a href=(of_kind(&["failed", "retrying"])) { "its tasks that failed or are retried" }
            " · " a href=(links.with("/errors", [("kind", group.kind.as_str())])) { "all errors of it" }
        }
        @if context.may(Action::Retry) {
            p { a.button href=(links.with("/bulk/new", retry)) { "Retry all failed tasks of this kind…" } }
        }
        h2 { "What they have in common" }
        pre { bdi { (group.pattern) } }
        h2 { "The newest" }
        pre { bdi { (group.message) } }
        p { "Task " @if let Ok(id) = group.last_task.parse() {
            a.mono href=(links.task(id)) title=(group.last_task) { (table::short_id(&group.last_task)) }
        } }
        h2 { "By hour" }
        (spark(&group.hours))
        table {
            caption { "Attempts that failed so, by hour" }
            thead { tr { th scope="col" { "From (UTC)" } th.num scope="col" { "Attempts" } } }
            tbody { @for hour in group.hours.iter().rev().filter(|hour| hour.count.0 > 0) { tr {
                td data-label="From (UTC)" { (instant(hour.start)) }
                td.num data-label="Attempts" { (number(hour.count.0)) }
            } } }
        }
    }
}
