//! How long a task waits between attempts.

use std::{cmp::min, time::Duration};

use crate::{
    error::Rejection,
    limits::{HORIZON, RETRY_STEPS_MAX},
    rng::{Rng, duration_up_to},
};

/// Whether a delay is spread at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Jitter {
    /// Anything from zero to the computed delay: what keeps a crowd of failures from returning as
    /// a crowd.
    #[default]
    Full,
    /// Exactly the computed delay.
    None,
}

/// How long a task waits before its next attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RetryPolicy {
    /// `base`, then twice as long after each attempt, at most `cap`.
    Exponential {
        /// The ceiling of the delay after the first attempt. Default 1 s.
        base: Duration,
        /// The ceiling that no delay exceeds. Default 1 h.
        cap: Duration,
        /// Whether the delay is spread. Default full.
        jitter: Jitter,
    },
    /// The same delay after every attempt.
    Fixed(Duration),
    /// The delay after the first attempt, the second, …; the last one repeats. 1 to 100 steps.
    List(Vec<Duration>),
}

impl Default for RetryPolicy {
    /// Exponential from 1 s to 1 h, with full jitter: that of ergon for Go, plus the jitter.
    fn default() -> Self {
        Self::Exponential {
            base: Duration::from_secs(1),
            cap: Duration::from_secs(3600),
            jitter: Jitter::Full,
        }
    }
}

impl RetryPolicy {
    /// The longest delay after `attempt` failed attempts (1 is the first).
    ///
    /// Never overflows and never decreases with the attempt, except as a list says so.
    #[must_use]
    pub fn ceiling(&self, attempt: u16) -> Duration {
        match self {
            Self::Exponential { base, cap, .. } => {
                let mut ceiling = *base;
                let mut doublings = u32::from(attempt.saturating_sub(1));
                // A factor has room for so many doublings at once; zero stays zero for ever.
                while doublings > 0 && ceiling < *cap && !ceiling.is_zero() {
                    let step = min(doublings, 31);
                    ceiling = ceiling.saturating_mul(1 << step);
                    doublings -= step;
                }
                min(ceiling, *cap)
            }
            Self::Fixed(delay) => *delay,
            Self::List(steps) => {
                let step = usize::from(attempt.saturating_sub(1));
                steps.get(step).or(steps.last()).copied().unwrap_or_default()
            }
        }
    }

    /// Draws the delay after `attempt` failed attempts (1 is the first).
    #[must_use]
    pub fn delay(&self, attempt: u16, rng: &dyn Rng) -> Duration {
        let ceiling = self.ceiling(attempt);
        match self {
            Self::Exponential { jitter: Jitter::Full, .. } => duration_up_to(rng, ceiling),
            Self::Exponential { jitter: Jitter::None, .. } | Self::Fixed(_) | Self::List(_) => {
                ceiling
            }
        }
    }

    pub(crate) fn check(&self) -> Result<(), Rejection> {
        let longest = match self {
            Self::Exponential { base, cap, .. } if base > cap => {
                return Err(Rejection::InvalidRetry { reason: "base exceeds cap" });
            }
            Self::Exponential { cap: longest, .. } | Self::Fixed(longest) => *longest,
            Self::List(steps) if steps.is_empty() || steps.len() > RETRY_STEPS_MAX => {
                return Err(Rejection::InvalidRetry { reason: "a list has 1 to 100 steps" });
            }
            Self::List(steps) => steps.iter().copied().max().unwrap_or_default(),
        };
        if longest > HORIZON { Err(Rejection::BeyondHorizon { what: "retry" }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SystemRng;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn exponential_delays_double_up_to_the_cap_at_any_attempt() {
        let policy = RetryPolicy::default();
        let mut previous = Duration::ZERO;
        for attempt in 1..=u16::MAX {
            let ceiling = policy.ceiling(attempt);
            assert!(ceiling >= previous && ceiling <= SECOND * 3600, "attempt {attempt}");
            previous = ceiling;
        }
        assert_eq!(policy.ceiling(1), SECOND);
        assert_eq!(policy.ceiling(4), SECOND * 8);
        assert_eq!(policy.ceiling(34), SECOND * 3600);
        let huge = RetryPolicy::Exponential {
            base: Duration::MAX,
            cap: Duration::MAX,
            jitter: Jitter::Full,
        };
        assert_eq!(huge.ceiling(u16::MAX), Duration::MAX);
        let from = |base, cap| RetryPolicy::Exponential { base, cap, jitter: Jitter::Full };
        assert_eq!(from(Duration::ZERO, SECOND).ceiling(u16::MAX), Duration::ZERO);
        let from_little = from(Duration::from_nanos(1), HORIZON);
        for attempt in [32, 33, 34, 50] {
            let expected = Duration::from_nanos(1 << (attempt - 1));
            assert_eq!(from_little.ceiling(attempt), expected, "attempt {attempt}");
        }
        assert_eq!(from_little.ceiling(u16::MAX), HORIZON);
    }

    #[test]
    fn full_jitter_spreads_over_the_whole_range() {
        let policy = RetryPolicy::default();
        let drawn: Vec<_> = (0..1_000).map(|_| policy.delay(7, &SystemRng)).collect();
        assert!(drawn.iter().all(|&delay| delay <= SECOND * 64));
        assert!(drawn.iter().any(|&delay| delay < SECOND * 16));
        assert!(drawn.iter().any(|&delay| delay > SECOND * 48));
    }

    #[test]
    fn the_last_step_of_a_list_repeats() {
        let policy = RetryPolicy::List(vec![SECOND, SECOND * 5]);
        let delays = [1, 2, 3, 400].map(|attempt| policy.delay(attempt, &SystemRng));
        assert_eq!(delays, [SECOND, SECOND * 5, SECOND * 5, SECOND * 5]);
        assert_eq!(RetryPolicy::Fixed(SECOND).delay(9, &SystemRng), SECOND);
    }

    #[test]
    fn policies_that_say_nothing_or_too_much_are_refused() {
        for bad in [
            RetryPolicy::List(vec![]),
            RetryPolicy::List(vec![SECOND; 101]),
            RetryPolicy::Fixed(Duration::MAX),
            RetryPolicy::Exponential { base: SECOND * 2, cap: SECOND, jitter: Jitter::None },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
        assert_eq!(RetryPolicy::default().check(), Ok(()));
    }
}
