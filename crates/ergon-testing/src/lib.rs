//! What tests of ergon need: of an application's tasks, of a server, of a store.
//!
//! # Testing an application
//!
//! [`TestServer`] runs handlers on a [`MemoryStore`] whose clock the test turns;
//! [`assert_enqueued!`] says what an application has enqueued. [`Faulty`] makes a store fail at the
//! wrong moment, and [`Signal`] waits for something without sleeping.
//!
//! # Testing a store
//!
//! [`MemoryStore`] is the reference model: where the laws of [`ergon_core::store`] are in doubt, it
//! is what they mean. The [conformance suite](conformance!) holds a store to those laws case by
//! case.
//!
//! # Repeatable runs
//!
//! [`VirtualClock`], [`TokioClock`], [`SeededRng`] and [`CountingIds`] stand for everything that
//! differs from run to run.

pub mod assert;
pub mod clock;
pub mod conformance;
pub mod faulty;
pub mod harness;
pub mod memory;
pub mod model;
pub mod rng;
pub mod signal;
pub mod test_server;

#[doc(inline)]
pub use crate::{
    clock::{TokioClock, VirtualClock},
    faulty::{Faulty, Operation},
    memory::{MemoryStore, MemoryStoreBuilder},
    rng::{CountingIds, SeededRng},
    signal::Signal,
    test_server::{Run, RunEnd, RunSummary, TestServer, TestServerBuilder},
};
