//! Lower bounds of `run_at`, below which no row of a lane waits that is not late.
//!
//! Claimed rows stay in the index until vacuum removes them, and vacuum cannot while anybody holds an
//! old snapshot. Without a bound every claim would walk over all of them.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use crate::value::Instant;

/// The bounds that this process knows.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    by_lane: Mutex<BTreeMap<i32, Instant>>,
}

impl Bounds {
    /// The lanes and their bounds, as columns.
    pub(crate) fn columns(&self) -> (Vec<i32>, Vec<Instant>) {
        let by_lane = self.by_lane.lock().unwrap_or_else(PoisonError::into_inner);
        by_lane.iter().map(|(&lane, &bound)| (lane, bound)).unzip()
    }
}
