//! The pages, and what is behind their addresses: each reads one view and says how it looks.

pub(crate) mod activity;
pub(crate) mod audit;
pub(crate) mod enqueue;
pub(crate) mod errors;
pub(crate) mod operations;
pub(crate) mod overview;
pub(crate) mod queues;
pub(crate) mod refusal;
pub(crate) mod system;
pub(crate) mod task;
pub(crate) mod tasks;
pub(crate) mod workers;
