//! OpenTelemetry spans, metrics and exceptions of ergon, a durable background-task queue.
//!
//! A trace goes on where a task does: who enqueues leaves the context of its trace with the task, and
//! every attempt at it, in whatever process and however much later, is linked to that context.
//!
//! ```
//! use ergon_core::{Client, Task, TaskError};
//! use ergon_otel::Telemetry;
//! use ergon_server::Server;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, Task)]
//! #[task(kind = "greet")]
//! struct Greet {
//!     name: String,
//! }
//!
//! async fn greet(greet: Greet) -> Result<(), TaskError> {
//!     println!("hello {}", greet.name);
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let store = std::sync::Arc::new(ergon_testing::MemoryStore::new());
//! // Of the global providers, unless others are given.
//! let telemetry = Telemetry::builder().build();
//! let client = Client::builder(store.clone()).propagation(telemetry.propagation()).build();
//! let server = Server::builder(store)
//!     .client(client.clone())
//!     .layer(telemetry.layer())
//!     .handler(greet)
//!     .build()?
//!     .start();
//! let task = client.enqueue(Greet { name: "Ada".into() }).await?;
//! task.result().await?;
//! # server.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Spans
//!
//! | span | kind | when |
//! |---|---|---|
//! | `enqueue {queue}` | producer | an enqueue was awaited; one for all tasks of an `enqueue_many` |
//! | `create {queue}` | producer | tasks were made, and are stored in a transaction of the application |
//! | `process {queue}` | consumer | an attempt, from the handler's start to its end |
//!
//! An enqueue is a child of the context that is current when it is first polled. Its own context is
//! the *creation context*: it is kept in the metadata of each task, under [`TRACEPARENT_KEY`] and
//! [`TRACESTATE_KEY`], by the W3C recommendation. The trace goes on as it was sampled; without an SDK
//! the context of the caller is passed on. Baggage is not.
//!
//! An attempt begins a trace of its own, linked to the creation context, however often the task is
//! tried; see [`Parent`] for the other way. A context that is not valid is ignored and counted
//! (`ergon.trace_context.ignored`).
//!
//! The context of the attempt is current whenever its handler is polled, and when it is dropped: what
//! the handler enqueues, and its own spans, also those of the crate `tracing` when it is connected by
//! `tracing-opentelemetry`, are children of the attempt. Tasks that it spawns are not, unless they are
//! handed the context.
//!
//! # Attributes
//!
//! Those of the messaging conventions of version [`SCHEMA_URL`], and of ours
//! `messaging.ergon.task.kind`, `.attempt`, `.max_attempts`, `.priority`, `.wait` (how long the task
//! had been due when it was claimed, in seconds) and `.outcome`:
//!
//! | outcome | what came of the attempt | `error.type` |
//! |---|---|---|
//! | `ok` | the task is completed | |
//! | `retry` | it failed, and the task is tried again | `panic`, `timeout`, `decode`, …; `_OTHER` when the handler answered an error |
//! | `failed` | it failed, and so did the task | the same |
//! | `cancelled` | the task was called off | |
//! | `snoozed` | its handler put the task off | |
//! | `released` | it was interrupted, as by a shutdown; the task runs again | |
//! | `lost` | it was not recorded, as its lease was lost, or the server gave up | `lease_lost` |
//!
//! The outcome is what the store recorded, and told by the server after that, so that spans never say
//! otherwise than the task does; they are exported no earlier. Attributes that are known when a span
//! begins are there for samplers. Payloads, results and metadata of tasks are never exported; error
//! messages of handlers are, but for those that say why a payload could not be decoded, as these
//! quote it.
//!
//! # Metrics
//!
//! `messaging.client.sent.messages`, `messaging.client.consumed.messages`,
//! `messaging.client.operation.duration` (enqueues) and `messaging.process.duration`, each by queue
//! and, when it failed, by `error.type`. Tasks run longer than the buckets of the conventions reach:
//! add the view `process_duration_view` of the feature `sdk`.
//!
//! # Exceptions
//!
//! With a [logger provider](TelemetryBuilder::logger_provider), each failed attempt is a log event
//! `messaging.process.exception` of severity ERROR in the context of its span. Spans have no exception
//! events, which the conventions give up.
//!
//! # Cost
//!
//! Nothing here blocks, or fails a task. What is done with a span when it ends is the SDK's: use its
//! batch processors, not the simple ones.

mod enqueue;
mod exception;
mod instruments;
mod process;
mod semconv;
mod telemetry;
mod trace_context;
#[cfg(feature = "sdk")]
mod view;

#[cfg(feature = "sdk")]
pub use crate::view::process_duration_view;
pub use crate::{
    process::{Process, ProcessFuture, ProcessLayer},
    semconv::{DURATION_BOUNDARIES, PROCESS_BOUNDARIES, SCHEMA_URL, SYSTEM},
    telemetry::{Parent, Telemetry, TelemetryBuilder},
    trace_context::{TRACEPARENT_KEY, TRACESTATE_BYTES_MAX, TRACESTATE_KEY},
};
