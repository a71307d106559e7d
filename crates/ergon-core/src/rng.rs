//! Randomness, injected so that a run can be repeated.

use std::{fmt, time::Duration};

/// A source of random numbers.
pub trait Rng: fmt::Debug + Send + Sync {
    /// Draws 64 random bits.
    fn next_u64(&self) -> u64;
}

/// The random numbers of the operating system's choosing.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    fn next_u64(&self) -> u64 {
        rand::Rng::next_u64(&mut rand::rng())
    }
}

/// Draws a duration between zero and `ceiling`, both included.
pub fn duration_up_to(rng: &dyn Rng, ceiling: Duration) -> Duration {
    let micros = ceiling.as_micros();
    // The high half of a 64 × 64 bit product is uniform over the range, without a division.
    let drawn = (u128::from(rng.next_u64()) * (std::cmp::min(micros, u64::MAX.into()) + 1)) >> 64;
    Duration::from_micros(u64::try_from(drawn).unwrap_or(u64::MAX))
}
