//! Benchmarks and the crash loop of ergon: programs for its developers, not a library for others.
//!
//! A benchmark measures ergon and, in the same run, what the engine below it can do at best: a ratio
//! survives a change of machine, a number does not. The crash loop kills a process again and again
//! and audits what its store kept.

mod measure;
mod plan;
mod process;
mod raw;
mod serving;
mod workload;

pub mod events;
pub mod postgres;
pub mod redb;
pub mod torture;

pub use crate::{
    measure::{Measure, table},
    plan::{Listed, Plan},
};
