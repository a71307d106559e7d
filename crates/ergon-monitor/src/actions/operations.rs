//! Orders for all tasks that match, however many those are.

use axum::{extract::Path, response::Response};
use bytes::Bytes;
use ergon_core::{
    Count,
    operation::{NewOperation, Operation, OperationId},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{command, failed, go};
use crate::{
    audit::{Order, actor},
    auth::Action,
    error::{PageError, of_order},
    fields::Fields,
    notice::Notice,
    pages::operations::{gone, id_of},
    respond::json_of,
    service::{Came, order},
    shared::App,
    value::{Whole, grouped},
    view::{
        filter::Query,
        operations::{OperationView, TYPED_FROM},
    },
    visit::{Context, Wants},
};

/// Longest note, in characters.
pub(crate) const NOTE_MAX: usize = 500;

/// An operation that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Made {
    /// Its id: ask for `/bulk/{id}`.
    id: String,
    /// How many tasks matched when it was made.
    expected: Whole,
}

/// Which tasks an order is for: where a list begins says nothing of all tasks.
pub(crate) fn filter_of(query: &str) -> Result<Query, PageError> {
    let query = Query::parse(query)?;
    if query.id_prefix.is_some() {
        let reason = "id: an operation cannot choose tasks by how their ids begin";
        return Err(PageError::Malformed(reason.to_owned()));
    }
    Ok(Query::of(query.filter))
}

/// Says whether so many tasks are what whoever ordered was shown, or not many more.
fn is_expected(found: u64, shown: u64) -> bool {
    found <= shown.saturating_add(std::cmp::max(shown / 10, 100))
}

/// Makes an operation: one command for all tasks that match.
#[utoipa::path(
    post, path = "/api/v1/bulk", tag = "orders",
    request_body(
        content_type = "application/json", content = Object,
        description = "filter (as the query of the list of tasks), action (retry, cancel, reschedule, \
                       priority or delete) and what it needs, expected_count (how many tasks match as \
                       far as is known); note and rate_per_second if wanted"
    ),
    responses(
        (status = 200, body = Made),
        (status = 400, body = crate::frame::Problem),
        (status = 403, body = crate::frame::Problem),
        (status = 409, body = crate::frame::Problem, description = "No task matches, or many more than expected"),
    )
)]
pub(crate) async fn create(context: Context, body: Bytes) -> Result<Response, PageError> {
    let fields = Fields::parse(&body, context.visit.sends_json)?;
    let (action, command) = command(fields.wanted("action")?, &fields, &context)?;
    let query = filter_of(fields.one("filter").unwrap_or_default())?;
    let shown: u64 = fields.number("expected_count")?;
    let inspector = context.app.manager.tasks();
    let found = context.app.reads.read("count", inspector.count(&query.filter)).await?;
    check(action, &fields, found, shown)?;
    let note = crate::text::excerpt(fields.one("note").unwrap_or_default(), NOTE_MAX).0;
    let mut new = NewOperation::new(query.filter.clone(), command, actor(&context)).note(note);
    if fields.one("rate_per_second").is_some() {
        new = new.rate_per_second(fields.number("rate_per_second")?);
    }
    let ordered = Order::new(action, query.words())
        .named(format!("operation.{action}"))
        .count(found.value)
        .note(note);
    let made: Operation = order(&context, ordered, move |context| async move {
        let made = context.app.manager.operations().create(new).await;
        let made = made.map_err(|error| of_order(error, &failed))?;
        let (changed, note) = (made.expected.value, made.id.to_string());
        Ok(Came { answer: made, changed, note })
    })
    .await?;
    carry_out(&context.app, made.id);
    if context.visit.wants == Wants::Json {
        let expected = Whole(made.expected.value);
        return Ok(json_of(&Made { id: made.id.to_string(), expected }));
    }
    Ok(go(&context.visit.links.operation(made.id), Notice::Begun))
}

/// Says whether whoever ordered meant so many tasks.
fn check(action: Action, fields: &Fields, found: Count, shown: u64) -> Result<(), PageError> {
    if found.value == 0 {
        return Err(PageError::Conflict("No task matches any more: nothing was done.".to_owned()));
    }
    if !is_expected(found.value, shown) {
        let (found, shown) = (grouped(found.value), grouped(shown));
        let reason = format!(
            "Many more tasks match than were shown: {found} instead of {shown}. Nothing was done: look \
             again."
        );
        return Err(PageError::Conflict(reason));
    }
    // A program that says how many it expects means them.
    let is_large = found.value > TYPED_FROM || !found.is_exact;
    if is_large && !fields.is_json() && fields.one("typed") != Some(action.as_str()) {
        let least = grouped(TYPED_FROM);
        let reason =
            format!("typed: for more than {least} tasks the word {action} has to be typed");
        return Err(PageError::Malformed(reason));
    }
    Ok(())
}

/// Pauses, resumes or stops an operation.
#[utoipa::path(
    post, path = "/api/v1/bulk/{id}/{action}", tag = "orders",
    params(("id" = String, Path), ("action" = String, Path, description = "pause, resume or stop")),
    responses(
        (status = 200, body = OperationView),
        (status = 403, body = crate::frame::Problem),
        (status = 404, body = crate::frame::Problem),
    )
)]
pub(crate) async fn steer(
    context: Context,
    Path((id, action)): Path<(String, String)>,
) -> Result<Response, PageError> {
    let id = id_of(&id)?;
    if !matches!(action.as_str(), "pause" | "resume" | "stop") {
        return Err(PageError::NotFound("There is no such order.".to_owned()));
    }
    let resumes = action == "resume";
    let ordered =
        Order::new(Action::Operate, id.to_string()).named(format!("operation.{action}")).count(1);
    let steered = order(&context, ordered, move |context| async move {
        let operations = context.app.manager.operations();
        let steered = match action.as_str() {
            "pause" => operations.pause(id).await,
            "resume" => operations.resume(id).await,
            _ => operations.stop(id).await,
        };
        let steered = steered.map_err(|error| of_order(error, &failed))?.ok_or_else(gone)?;
        let note = steered.state.as_str().to_owned();
        Ok(Came { answer: steered, changed: 1, note })
    })
    .await?;
    if resumes {
        carry_out(&context.app, id);
    }
    if context.visit.wants == Wants::Json {
        return Ok(json_of(&OperationView::of(&steered)));
    }
    Ok(go(&context.visit.links.operation(id), Notice::Steered))
}

/// Carries an operation out from here too: a monitor may run where no server does. Whoever has the
/// lease works on it; when the monitor stops, servers take over.
fn carry_out(app: &App, id: OperationId) {
    let (shared, stopped) = (App::clone(app), app.streams.clone());
    // Nobody waits for its answer: how far it is stands in the store.
    drop(app.tasks.spawn(async move {
        let operations = shared.manager.operations();
        let ended = tokio::select! {
            () = stopped.cancelled() => return,
            ended = operations.run_to_end(id, tokio::time::sleep) => ended,
        };
        if let Err(error) = ended {
            let error = ergon_core::text::error_chain(&error);
            tracing::warn!(%id, error, "an operation is left to servers");
        }
        shared.cache.forget();
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_more_or_a_hundred_is_what_was_shown() {
        for (found, shown, expected) in [
            (0, 0, true),
            (100, 0, true),
            (101, 0, false),
            (1_100, 1_000, true),
            (1_101, 1_000, false),
            (11_000, 10_000, true),
            (11_001, 10_000, false),
            (u64::MAX, u64::MAX, true),
        ] {
            assert_eq!(is_expected(found, shown), expected, "{found} {shown}");
        }
    }
}
