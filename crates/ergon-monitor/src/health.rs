//! What machines ask: whether the process lives, whether it can do its work, and its metrics.

use std::time::Duration;

use axum::{
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use http::{StatusCode, header::CONTENT_TYPE};
use serde::Serialize;

use crate::{
    bound::report,
    cache::Reading,
    error::{PageError, Trouble},
    respond::json_of,
    shared::App,
    visit::Visit,
};

/// In which time the store has to answer, and for how long its answer stands.
const READY_WITHIN: Duration = Duration::from_secs(1);

/// Says that the process lives; asks nothing of the store.
pub(crate) async fn live() -> Response {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], "ok\n").into_response()
}

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Says whether the store answers; why not, only to those who may come in.
pub(crate) async fn ready(State(app): State<App>, request: Request) -> Response {
    let (parts, _body) = request.into_parts();
    // Whoever asks, and however often: the store is asked once a second.
    let found = app.cache.get("ready".to_owned(), READY_WITHIN, READY_WITHIN, || ask(&app)).await;
    let reason = match found {
        Ok(found) => found.stale.map(|trouble| trouble.to_string()),
        Err(trouble) => Some(trouble.to_string()),
    };
    if reason.is_none() {
        return json_of(&Readiness { status: "ready", reason });
    }
    let is_known = match parts.extensions.get::<Visit>() {
        Some(visit) => app.gate.admit(&parts, visit).await.is_ok(),
        None => false,
    };
    let reason = reason.filter(|_| is_known);
    let mut response = json_of(&Readiness { status: "not ready", reason });
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

async fn ask(app: &App) -> Result<Reading<()>, Trouble> {
    let asked = tokio::time::timeout(READY_WITHIN, app.manager.store().latest()).await;
    match asked {
        Ok(Ok(_cursor)) => Ok(Reading::new((), None, app.clock.now())),
        Ok(Err(error)) => Err(report("readiness", &error)),
        Err(_elapsed) => Err(Trouble::Late(READY_WITHIN.as_secs().to_string())),
    }
}

/// Answers the metrics of the program around the monitor, if it gave any.
pub(crate) async fn metrics(State(app): State<App>) -> Result<Response, PageError> {
    let none = || PageError::NotFound("No metrics are served here.".to_owned());
    let metrics = app.metrics.as_ref().ok_or_else(none)?;
    let headers = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((headers, metrics()).into_response())
}
