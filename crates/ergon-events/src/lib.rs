//! The event bus of ergon, a durable background-task queue: ring, subscriptions, observers, journal tail.
//!
//! A [`Bus`] takes what a client, a manager and a server commit, as their
//! [`EventSink`](ergon_core::EventSink), or follows the journal of a store that several processes share,
//! and hands it to whoever wants to know. Everything it tells has happened: it is told after its commit,
//! and what was not committed is not told.
//!
//! | who wants to know | takes | what is promised |
//! |---|---|---|
//! | a metric, a cheap fold | [`observe_inline`](BusBuilder::observe_inline) | every event of this process, at once, in order |
//! | a callback | [`on_task_failed`](BusBuilder::on_task_failed) and the like | the same |
//! | a notifier, a log | [`observe`](BusBuilder::observe) | its own task; told what it missed |
//! | a page, a stream | [`subscribe`](Bus::subscribe) | the same, pulled |
//! | a bridge to another system | [`durable_sink`](BusBuilder::durable_sink) | each event at least once, across restarts |
//!
//! # What is guaranteed
//!
//! * **Work is never held up.** [`publish`](ergon_core::EventSink::publish) calls the inline observers
//!   and puts the events into a ring: it waits for nobody who reads, and costs the same for one reader
//!   as for a hundred.
//! * **Memory is bounded.** The events are kept once, however many read them; a reader costs a place in
//!   the ring and a waker, not a queue. See [`BusConfig`].
//! * **Nothing is dropped silently.** Who is too slow is told [how many events it missed](Lagged), before
//!   the next one; what the journal does not hold is told as a [gap](Item::Gap).
//! * **Nobody takes others down.** An observer that panics, fails or never returns harms itself alone,
//!   and it is counted; a panic never ends its being told.
//! * **Order.** Everybody is told in one order, in which the events of a task come as they happened.
//!
//! Names say *when*: all of these come after the commit. What is to change an outcome is a layer of the
//! server, not an observer.
//!
//! ```
//! use ergon_core::{Client, EventKind, EventKindSet};
//! use ergon_events::{Bus, Item};
//! use ergon_testing::MemoryStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bus = Bus::builder()
//!     .on_task_enqueued(|task, _run_at| println!("{} waits in {}", task.id, task.queue))
//!     .build()?;
//! let running = bus.start()?;
//! let mut enqueued = bus.subscribe(EventKindSet::of(&[EventKind::TaskEnqueued]));
//!
//! let client = Client::builder(MemoryStore::new()).events(bus.sink()).build();
//! let task = client.enqueue_json("greet", "Ada").await?;
//!
//! let Some(Item::Event(event)) = enqueued.next().await else { return Ok(()) };
//! assert_eq!(event.task_ref().map(|told| told.id), Some(task.id()));
//!
//! assert!(running.shutdown().await.is_complete());
//! # Ok(())
//! # }
//! ```

mod backfill;
mod builder;
mod bus;
mod call;
mod callback;
mod config;
mod error;
mod hub;
mod inline;
mod item;
mod journal;
mod observer;
mod ring;
mod run;
mod sink;
mod stats;
mod subscription;
mod tail;

pub use crate::{
    builder::{BusBuilder, Overflow, Source},
    bus::Bus,
    config::BusConfig,
    error::{BuildError, StartError},
    item::{Batch, Item, Lagged, Told},
    run::{BusHandle, Left, ShutdownReport},
    sink::Delivery,
    stats::{BusStats, ListenerStats, Role, TailStats},
    subscription::Subscription,
};

/// What an observer or a sink may fail with: any error, also `anyhow`'s, or a text.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
