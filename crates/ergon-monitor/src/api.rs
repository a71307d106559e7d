//! The description of the JSON API, for programs that read such.

use axum::response::Response;
use utoipa::OpenApi;

use crate::{
    actions,
    actions::operations::{self as bulk, Made},
    export,
    frame::Problem,
    pages::{activity, audit, errors, operations, overview, queues, system, task, tasks, workers},
    respond::json_of,
    service::Results,
    sse,
    view::{
        activity::ActivityView,
        audit::AuditView,
        errors::{ErrorView, ErrorsView},
        operations::{OperationView, OperationsView},
        overview::OverviewView,
        queues::{QueueView, QueuesView},
        system::SystemView,
        task::TaskView,
        tasks::TasksView,
        workers::WorkersView,
    },
    visit::Context,
};

/// Every route of the API.
///
/// Answers to readings also have `cursor`, `revision`, `read_at` and `stale`. Ids and whole numbers of
/// 64 bits are text, instants are RFC 3339 in UTC, refusals are RFC 9457 problems.
#[derive(Debug, OpenApi)]
#[openapi(
    info(title = "ergon monitor", description = "Reads and steers tasks and queues."),
    paths(
        overview::get,
        tasks::get,
        task::get,
        queues::list,
        queues::get,
        system::get,
        activity::get,
        workers::get,
        errors::list,
        errors::get,
        audit::get,
        operations::list,
        operations::get,
        export::ndjson,
        export::csv,
        sse::journal,
        actions::task,
        actions::bulk,
        actions::queue,
        actions::enqueue,
        bulk::create,
        bulk::steer,
    ),
    components(schemas(
        OverviewView,
        TasksView,
        TaskView,
        QueuesView,
        QueueView,
        SystemView,
        ActivityView,
        WorkersView,
        ErrorsView,
        ErrorView,
        AuditView,
        OperationsView,
        OperationView,
        Made,
        Results,
        Problem
    ))
)]
struct Description;

/// Answers the description, with the address of this monitor.
pub(crate) async fn openapi(context: Context) -> Response {
    let mut description = Description::openapi();
    description.info.version = env!("CARGO_PKG_VERSION").to_owned();
    let base = context.visit.links.at("");
    if !base.is_empty() {
        description.servers = Some(vec![utoipa::openapi::Server::new(base)]);
    }
    json_of(&description)
}
