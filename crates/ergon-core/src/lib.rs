//! The heart of ergon, a durable background-task queue.
//!
//! An application enqueues typed tasks through a [`Client`], servers run them (crate
//! `ergon-server`), a store keeps them (crate `ergon-redb`, or any other implementation of
//! [`Store`]). This crate holds what they share: the vocabulary, the rules that say which state may
//! become which, and the roles of a store with their laws. It performs no I/O and depends on no
//! runtime.
//!
//! # Using it
//!
//! 1. Define a task: a payload with `#[derive(Serialize, Deserialize, Task)]`; see [`trait@Task`].
//! 2. Enqueue it with a [`Client`], choosing [options](TaskOptions) where the defaults do not fit.
//! 3. Run it: register its handler with `ergon_server::Server`.
//! 4. Await its result through the [`Handle`] that the enqueue answers.
//! 5. Watch and steer with a [`Manager`]: list, cancel, retry, pause.
//! 6. Test it with `ergon_testing`: a store in memory, and a server with a clock that the test turns.
//!
//! # Building a store
//!
//! Implement the six role traits of [`store`]; the rules they have to obey are pure functions in
//! [`transition`], and `ergon-testing` proves the result with its conformance suite.

pub mod attempt;
pub mod audit;
pub mod client;
pub mod command;
pub mod document;
pub mod error;
pub mod event;
pub mod explain;
pub mod failure;
pub mod filter;
pub mod id;
pub mod limits;
pub mod manager;
pub mod name;
pub mod operation;
pub mod options;
pub mod outcome;
pub mod progress;
pub mod record;
pub mod report;
pub mod retry;
pub mod rng;
mod serial;
pub mod servers;
pub mod state;
pub mod statistics;
pub mod store;
pub mod task;
pub mod text;
pub mod time;
pub mod transition;
pub mod unique;

#[cfg(feature = "derive")]
pub use ergon_macros::Task;
/// An instant; see the crate `jiff` for all that can be done with it.
pub use jiff::Timestamp;

#[doc(inline)]
pub use crate::{
    client::{Client, ClientBuilder, Enqueue, EnqueueMany, Enqueued, Handle, ResultError},
    command::{Applied, Command, CommandVerdict, Selection},
    error::{EnqueueError, InvalidName, Rejection, StoreError},
    event::{Event, EventKind, EventKindSet, EventSink, TaskEvent},
    filter::{Count, Order, Page, TaskFilter, TaskPage},
    id::{IdSource, ServerId, SystemIds, TaskId, Token},
    limits::Limits,
    manager::Manager,
    name::{KindName, QueueName, Tag, WatcherName},
    options::TaskOptions,
    outcome::{Conclusion, Outcome, Verdict},
    progress::{AttemptError, ErrorKind, Phase, Progress},
    record::{ClaimedTask, Metadata, NewTask, RunAt, TaskRecord, TaskSpec},
    report::ProgressReport,
    retry::{Jitter, RetryPolicy},
    rng::{Rng, SystemRng},
    state::{State, StateSet},
    store::{IntoStore, Store},
    task::{Task, TaskError},
    time::{Clock, Now, Retention, SystemClock},
    unique::{Unique, UniqueKey, UniqueScope},
};
