//! Randomness and ids that repeat.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use ergon_core::{IdSource, Rng, TaskId};
use jiff::Timestamp;

/// A step that visits every 64-bit number once: 2⁶⁴ divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Random numbers that are the same for the same seed, for ever: the `SplitMix64` generator.
///
/// Written out here because generators of the `rand` crate may change between its versions. Cheap to
/// clone; clones draw from one sequence.
#[derive(Clone, Debug)]
pub struct SeededRng {
    state: Arc<AtomicU64>,
}

impl SeededRng {
    /// The sequence of this seed, from its beginning.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: Arc::new(AtomicU64::new(seed)) }
    }
}

impl Rng for SeededRng {
    fn next_u64(&self) -> u64 {
        let state = self.state.fetch_add(STEP, Ordering::SeqCst).wrapping_add(STEP);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Ids that count: dated like any other, and otherwise 1, 2, 3, ….
///
/// With a clock that tests turn, a program makes the same ids in every run. Each has offset 0 in a
/// pack of its own. Cheap to clone; clones count together.
#[derive(Clone, Debug, Default)]
pub struct CountingIds {
    /// Milliseconds and number of the newest id.
    newest: Arc<Mutex<(u64, u64)>>,
}

impl CountingIds {
    /// Counts from 1.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl IdSource for CountingIds {
    fn next_id(&self, now: Timestamp) -> TaskId {
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that steps back must not make an id that is smaller than one before.
        *newest = (std::cmp::max(newest.0, millis), newest.1 + 1);
        TaskId::from_parts(newest.0, newest.1, 0)
    }

    fn next_pack(&self, now: Timestamp) -> TaskId {
        // No two ids share a number, so each has a pack to itself.
        self.next_id(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_of_a_seed_is_that_of_the_reference_implementation() {
        let rng = SeededRng::new(1_234_567);
        // From the reference implementation of `SplitMix64`.
        assert_eq!(rng.next_u64(), 6_457_827_717_110_365_317);
        let shared = rng.clone();
        assert_eq!(shared.next_u64(), 3_203_168_211_198_807_973);
        assert_eq!(rng.next_u64(), 9_817_491_932_198_370_423);
        assert_ne!(SeededRng::new(1).next_u64(), SeededRng::new(2).next_u64());
    }

    #[test]
    fn counted_ids_repeat_and_increase_also_when_the_clock_steps_back() {
        let make = |ids: &CountingIds| {
            [5, 5, 3, 9].map(|millis| ids.next_id(Timestamp::from_millisecond(millis).unwrap()))
        };
        let ids = make(&CountingIds::new());
        assert!(ids.is_sorted() && ids[0] != ids[1]);
        assert_eq!(ids, make(&CountingIds::new()));
        assert_eq!(ids.map(|id| id.made_at().as_millisecond()), [5, 5, 5, 9]);
    }
}
