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

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws the same bits for ever.
    #[derive(Debug)]
    struct Constant(u64);

    impl Rng for Constant {
        fn next_u64(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn both_ends_and_the_middle_are_drawn() {
        for ceiling in [0, 1, 1_000_000, u64::MAX].map(Duration::from_micros) {
            assert_eq!(duration_up_to(&Constant(0), ceiling), Duration::ZERO);
            assert_eq!(duration_up_to(&Constant(u64::MAX), ceiling), ceiling);
        }
        let middle = duration_up_to(&Constant(1 << 63), Duration::from_secs(2));
        assert_eq!(middle, Duration::from_secs(1));
    }

    #[test]
    fn no_ceiling_is_too_high() {
        let longest = duration_up_to(&Constant(u64::MAX), Duration::MAX);
        assert_eq!(longest, Duration::from_micros(u64::MAX));
    }
}
