//! Time: instants in microseconds, the clock of a store, how long finished tasks are kept.

use std::{fmt, time::Duration};

use jiff::Timestamp;

use crate::state::State;

/// Tells the time; injected so that tests can turn it.
///
/// A store has one, and its time alone decides what is due, which lease is over and what has
/// outlived its retention.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The present instant, in whole microseconds.
    fn now(&self) -> Timestamp;
}

/// The wall clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        whole_micros(Timestamp::now())
    }
}

/// The instant at which a store carries out a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Now {
    /// The store's own clock.
    #[default]
    Store,
    /// A given instant, for tests and simulations.
    At(Timestamp),
}

impl Now {
    /// The instant, asking `clock` when none was given.
    #[must_use]
    pub fn resolve(self, clock: &dyn Clock) -> Timestamp {
        match self {
            Self::Store => clock.now(),
            Self::At(instant) => whole_micros(instant),
        }
    }
}

/// Cuts an instant to whole microseconds, the precision that every store keeps.
#[must_use]
pub fn whole_micros(instant: Timestamp) -> Timestamp {
    from_micros(to_micros(instant))
}

/// The microseconds since 1970, rounded down.
#[must_use]
pub fn to_micros(instant: Timestamp) -> i64 {
    let micros = instant.as_microsecond();
    if instant.subsec_nanosecond() % 1_000 < 0 { micros - 1 } else { micros }
}

/// The instant so many microseconds after 1970, at the latest the end of time.
#[must_use]
pub fn from_micros(micros: i64) -> Timestamp {
    let (min, max) = (Timestamp::MIN.as_microsecond(), Timestamp::MAX.as_microsecond());
    Timestamp::from_microsecond(micros.clamp(min, max)).unwrap_or(Timestamp::MAX)
}

/// The instant `delay` after `instant`, at the latest the end of time.
#[must_use]
pub fn after(instant: Timestamp, delay: Duration) -> Timestamp {
    let micros = i64::try_from(delay.as_micros()).unwrap_or(i64::MAX);
    from_micros(to_micros(instant).saturating_add(micros))
}

/// How long it was from one instant to another; nothing when the other is earlier.
#[must_use]
pub fn between(from: Timestamp, to: Timestamp) -> Duration {
    let micros = to_micros(to).saturating_sub(to_micros(from));
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// How long finished tasks are kept before a sweep removes them.
///
/// Tasks that are not finished are never removed, however old they are. A task's own
/// `retention` option wins. The defaults are those of River, a comparable queue: chosen without
/// measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// For completed tasks. Default 24 hours, at most 10 years.
    pub completed: Duration,
    /// For failed tasks. Default 7 days, at most 10 years.
    pub failed: Duration,
    /// For cancelled tasks. Default 24 hours, at most 10 years.
    pub cancelled: Duration,
}

const HOUR: Duration = Duration::from_secs(3600);

impl Default for Retention {
    fn default() -> Self {
        Self { completed: HOUR * 24, failed: HOUR * 24 * 7, cancelled: HOUR * 24 }
    }
}

impl Retention {
    /// The same time for every finished task.
    #[must_use]
    pub const fn uniform(kept: Duration) -> Self {
        Self { completed: kept, failed: kept, cancelled: kept }
    }

    /// The retention of a task: its own choice, or else this one.
    #[must_use]
    pub const fn chosen_by(self, own: Option<Duration>) -> Self {
        match own {
            Some(kept) => Self::uniform(kept),
            None => self,
        }
    }

    /// How long a task that finished in `state` is kept; for ever when it is not finished.
    #[must_use]
    pub const fn of(&self, state: State) -> Duration {
        match state {
            State::Completed => self.completed,
            State::Failed => self.failed,
            State::Cancelled => self.cancelled,
            State::Scheduled
            | State::Pending
            | State::Running
            | State::Retrying
            | State::Aggregating
            | State::Blocked => Duration::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_between_instants_is_never_negative() {
        let (now, second) = (Timestamp::UNIX_EPOCH, Duration::from_secs(1));
        let later = after(now, second);
        assert_eq!((between(now, later), between(later, now)), (second, Duration::ZERO));
        assert_eq!(between(Timestamp::MIN, Timestamp::MAX).as_secs() / 1_000_000_000, 631);
    }

    #[test]
    fn adding_saturates_at_the_end_of_time() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(after(now, Duration::from_micros(7)).as_microsecond(), 7);
        assert_eq!(to_micros(after(now, Duration::MAX)), Timestamp::MAX.as_microsecond());
    }

    /// A clock that stands.
    #[derive(Debug)]
    struct At(Timestamp);

    impl Clock for At {
        fn now(&self) -> Timestamp {
            self.0
        }
    }

    #[test]
    fn a_given_instant_wins_over_the_clock_and_is_cut_to_microseconds() {
        let clock = At(Timestamp::UNIX_EPOCH);
        assert_eq!(Now::Store.resolve(&clock), Timestamp::UNIX_EPOCH);
        let fine = Timestamp::new(1, 1_999).unwrap();
        assert_eq!(Now::At(fine).resolve(&clock), Timestamp::new(1, 1_000).unwrap());
        let now = SystemClock.now();
        assert_eq!(whole_micros(now), now);
    }

    #[test]
    fn only_finished_tasks_have_a_retention() {
        for state in State::ALL {
            let kept = Retention::default().of(state);
            assert_eq!(kept == Duration::MAX, !state.is_terminal(), "{state}");
        }
        assert_eq!(Retention::default().of(State::Failed), HOUR * 24 * 7);
        assert_eq!(Retention::uniform(HOUR).of(State::Cancelled), HOUR);
        assert_eq!(Retention::default().chosen_by(Some(HOUR)), Retention::uniform(HOUR));
    }

    #[test]
    fn instants_are_cut_to_microseconds_downwards() {
        let fine = Timestamp::new(1, 1_999).unwrap();
        assert_eq!(whole_micros(fine), Timestamp::new(1, 1_000).unwrap());
        let before_1970 = Timestamp::new(0, -1).unwrap();
        assert_eq!(to_micros(before_1970), -1);
    }
}
