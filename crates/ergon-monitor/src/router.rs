//! Which address leads where, and what every request passes before.

use std::sync::Arc;

use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse as _, Redirect, Response},
    routing::{any, get, post},
};

use crate::{
    actions,
    actions::operations as bulk,
    api, assets, auth, csrf,
    error::PageError,
    export, frame, guard, health,
    pages::{
        activity, audit, enqueue, errors, operations, overview, queues, system, task, tasks,
        workers,
    },
    shared::App,
    sse,
    visit::Context,
};

/// Every route of the monitor.
///
/// The order of the layers, from the outermost: the frame writes what every answer carries; the guard
/// refuses what was not meant for us; the gate lets people in; then comes what orders have to prove.
pub(crate) fn router(app: &App) -> Router {
    let base = app.config.base_path.as_str();
    let inner = people(app, base);
    let open = machines(app, base);
    framed(app, inner.merge(open).method_not_allowed_fallback(async || PageError::Method))
}

/// Puts the guard and the frame around routes.
pub(crate) fn framed(app: &App, routes: Router<App>) -> Router {
    routes
        .layer(from_fn_with_state(Arc::clone(app), guard::check))
        .layer(from_fn_with_state(Arc::clone(app), frame::wrap))
        .with_state(Arc::clone(app))
}

/// What only those see who were let in.
fn people(app: &App, base: &str) -> Router<App> {
    let at = |path: &str| format!("{base}{path}");
    let mut router = pages(base)
        .route(&at("/tasks/bulk"), post(actions::bulk))
        .route(&at("/tasks/{id}/payload"), get(task::payload))
        .route(&at("/tasks/{id}/result"), get(task::result))
        .route(&at("/tasks/{id}/{action}"), post(actions::task))
        .route(&at("/tasks/export.ndjson"), get(export::ndjson))
        .route(&at("/tasks/export.csv"), get(export::csv))
        .route(&at("/outcomes/{id}"), get(actions::outcome))
        .route(&at("/bulk/new"), get(operations::new))
        .route(&at("/bulk"), post(bulk::create))
        .route(&at("/bulk/{id}/{action}"), post(bulk::steer))
        .route(&at("/queues/{queue}/{action}"), post(actions::queue))
        .route(&at("/enqueue"), get(enqueue::get).post(actions::enqueue))
        .route(&at("/theme"), post(actions::theme))
        .route(&at("/login"), get(login))
        .route(&at("/{*rest}"), any(nowhere));
    router = programs(router, base);
    if !base.is_empty() {
        router = router.route(base, get(overview::get));
    }
    if app.config.enable_sse {
        let followed = pages("").fallback(nowhere).with_state(Arc::clone(app));
        router = router
            .route(&at("/events"), get(async move |ask| sse::page(ask, followed.clone())))
            .route(&at("/api/v1/events"), get(async |ask| sse::journal(ask)));
    }
    if !app.config.open_metrics {
        router = router.route(&at("/metrics"), get(health::metrics));
    }
    router
        .layer(from_fn_with_state(Arc::clone(app), csrf::check))
        .layer(from_fn_with_state(Arc::clone(app), auth::require))
}

/// What programs ask.
fn programs(router: Router<App>, base: &str) -> Router<App> {
    let at = |path: &str| format!("{base}/api/v1{path}");
    router
        .route(&at("/stats"), get(overview::get))
        .route(&at("/tasks"), get(tasks::get))
        .route(&at("/tasks/bulk"), post(actions::bulk))
        .route(&at("/tasks/{id}"), get(task::get))
        .route(&at("/tasks/{id}/payload"), get(task::payload))
        .route(&at("/tasks/{id}/result"), get(task::result))
        .route(&at("/tasks/{id}/{action}"), post(actions::task))
        .route(&at("/queues"), get(queues::list))
        .route(&at("/queues/{queue}"), get(queues::get))
        .route(&at("/queues/{queue}/{action}"), post(actions::queue))
        .route(&at("/system"), get(system::get))
        .route(&at("/enqueue"), post(actions::enqueue))
        .route(&at("/openapi.json"), get(api::openapi))
        .route(&at("/tasks/export.ndjson"), get(export::ndjson))
        .route(&at("/tasks/export.csv"), get(export::csv))
        .route(&at("/timeseries"), get(activity::get))
        .route(&at("/workers"), get(workers::get))
        .route(&at("/errors"), get(errors::list))
        .route(&at("/errors/{fingerprint}"), get(errors::get))
        .route(&at("/audit"), get(audit::get))
        .route(&at("/bulk"), get(operations::list).post(bulk::create))
        .route(&at("/bulk/{id}"), get(operations::get))
        .route(&at("/bulk/{id}/{action}"), post(bulk::steer))
}

/// The pages that renew themselves: each can be followed by a stream too.
fn pages(base: &str) -> Router<App> {
    let at = |path: &str| format!("{base}{path}");
    Router::new()
        .route(&at("/"), get(overview::get))
        .route(&at("/tasks"), get(tasks::get))
        .route(&at("/tasks/{id}"), get(task::get))
        .route(&at("/queues"), get(queues::list))
        .route(&at("/queues/{queue}"), get(queues::get))
        .route(&at("/workers"), get(workers::get))
        .route(&at("/errors"), get(errors::list))
        .route(&at("/errors/{fingerprint}"), get(errors::get))
        .route(&at("/audit"), get(audit::get))
        .route(&at("/bulk"), get(operations::list))
        .route(&at("/bulk/{id}"), get(operations::get))
        .route(&at("/system"), get(system::get))
}

/// What everybody sees: nothing that tells anything.
fn machines(app: &App, base: &str) -> Router<App> {
    let at = |path: &str| format!("{base}{path}");
    let mut router = Router::new()
        .route(&at("/healthz"), get(health::live))
        .route(&at("/readyz"), get(health::ready))
        .route(&at("/static/{name}"), get(assets::serve));
    if app.config.open_metrics {
        router = router.route(&at("/metrics"), get(health::metrics));
    }
    router.layer(from_fn(bodiless))
}

/// What machines ask has no body.
async fn bodiless(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let (parts, _body) = request.into_parts();
    next.run(axum::extract::Request::from_parts(parts, axum::body::Body::empty())).await
}

/// Whoever gets here is signed in.
async fn login(context: Context) -> Response {
    Redirect::to(&context.visit.links.overview()).into_response()
}

async fn nowhere(_context: Context) -> PageError {
    PageError::NotFound("There is no such page.".to_owned())
}
