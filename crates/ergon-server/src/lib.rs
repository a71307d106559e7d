//! The runtime of ergon: claims tasks, runs handlers, records outcomes.
//!
//! A [`Server`] is built of a store, handlers and queues, and runs until it is told to end:
//!
//! ```
//! use ergon_core::{Task, TaskError};
//! use ergon_server::{Queue, Server};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct SendEmail {
//!     to: String,
//! }
//!
//! impl Task for SendEmail {
//!     const KIND: &'static str = "email.send";
//!     type Output = ();
//! }
//!
//! async fn send_email(mail: SendEmail) -> Result<(), TaskError> {
//!     println!("sending to {}", mail.to);
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let store = ergon_testing::MemoryStore::new();
//! # let ctrl_c = async {};
//! let report = Server::builder(store)
//!     .handler(send_email)
//!     .queue(Queue::new("default").concurrency(20))
//!     .build()?
//!     .run_until(ctrl_c)
//!     .await?;
//! assert!(report.is_clean());
//! # Ok(())
//! # }
//! ```
//!
//! # What becomes of a task
//!
//! The *fetcher* claims as many tasks as can be started, and a few ahead when slots come free faster
//! than a claim is answered; the *executor* runs each attempt within its limits; the *completer* records outcomes in batches; the *heartbeat* renews the leases
//! of what is held, from the claim until the outcome is recorded. Two loops stand beside: the
//! *rescuer* takes tasks back from servers that died, the *pruner* removes what outlived its
//! retention.
//!
//! # What is guaranteed
//!
//! * An attempt that ends is recorded, or the task runs again: at least once, never silently not.
//! * Only what a handler answers spends an attempt: an error, a panic, a timeout. A shutdown, a
//!   snooze or a lost lease does not.
//! * A handler is told by its [`Context`] when it is to stop: the task was cancelled, its lease is
//!   lost, the server shuts down.
//! * The store's outages are waited for, however long; outcomes are kept and repeated meanwhile.
//!
//! What is not: that a handler runs exactly once. A server that loses its lease without noticing may
//! do outside the queue what another does again. [`Context::idempotency_key`] and
//! [`Context::token`] are there for that.

mod attempt;
mod builder;
mod call;
mod completer;
mod config;
mod context;
mod counting;
mod error;
mod executor;
mod extract;
mod fetcher;
mod handler;
mod heartbeat;
mod hint;
mod layer;
mod maintenance;
mod pace;
mod presence;
mod registry;
mod reports;
mod seat;
mod server;
mod shared;
mod shutdown;
mod signal;
mod slots;
mod status;
mod stock;
mod telling;

pub use crate::{
    attempt::CancelReason,
    builder::ServerBuilder,
    config::{CONCURRENCY_DEFAULT, CONCURRENCY_MAX, LEASE_MIN, Queue, ServerConfig},
    context::Context,
    error::StartError,
    extract::{Extract, FromRef, State},
    handler::{Handler, Worker},
    layer::{AttemptService, Call, Done, HandlerError},
    server::{RunningServer, Server},
    shutdown::ShutdownHandle,
    status::{LoopStatus, ShutdownReport},
};
