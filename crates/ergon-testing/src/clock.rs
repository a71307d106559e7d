//! Clocks that tests turn.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use ergon_core::{
    Clock,
    time::{after, from_micros, to_micros},
};
use jiff::Timestamp;
use tokio::{runtime::Handle, time::Instant};

/// Where a virtual clock starts when nothing is chosen: 2025-01-01T00:00:00Z.
const START_MICROS: i64 = 1_735_689_600_000_000;

/// A clock that stands still until a test turns it.
///
/// Cheap to clone; clones show the same time. It wakes nobody: what waits for an instant, such as
/// [`wait_for_work`](ergon_core::store::Dispatch::wait_for_work), looks at it only when it would
/// have looked anyway. For a runtime that waits, take [`TokioClock`] and a paused runtime.
///
/// ```
/// use std::time::Duration;
///
/// use ergon_core::Clock;
/// use ergon_testing::VirtualClock;
///
/// let clock = VirtualClock::default();
/// let before = clock.now();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now().as_second() - before.as_second(), 60);
/// ```
#[derive(Clone, Debug)]
pub struct VirtualClock {
    micros: Arc<AtomicI64>,
}

impl Default for VirtualClock {
    /// Starts at 2025-01-01T00:00:00Z, so that runs can be repeated.
    fn default() -> Self {
        Self::new(from_micros(START_MICROS))
    }
}

impl VirtualClock {
    /// A clock that shows `start`, in whole microseconds.
    #[must_use]
    pub fn new(start: Timestamp) -> Self {
        Self { micros: Arc::new(AtomicI64::new(to_micros(start))) }
    }

    /// Turns the clock forward, at the latest to the end of time.
    pub fn advance(&self, by: Duration) {
        let turn = |micros| Some(to_micros(after(from_micros(micros), by)));
        // The closure always answers, so that the update cannot fail.
        self.micros.fetch_update(Ordering::SeqCst, Ordering::SeqCst, turn).unwrap_or_default();
    }

    /// Shows another instant, which may be earlier: clocks of machines jump too.
    pub fn set(&self, instant: Timestamp) {
        self.micros.store(to_micros(instant), Ordering::SeqCst);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        from_micros(self.micros.load(Ordering::SeqCst))
    }
}

/// A clock that goes with tokio's: a runtime whose time is paused turns it too.
///
/// The runtime in which it was made decides, whichever thread asks. Cheap to clone; clones show the
/// same time.
#[derive(Clone, Debug)]
pub struct TokioClock {
    base: Timestamp,
    started: Instant,
    runtime: Option<Handle>,
}

impl Default for TokioClock {
    /// Starts at 2025-01-01T00:00:00Z, so that runs can be repeated.
    fn default() -> Self {
        Self::new(from_micros(START_MICROS))
    }
}

impl TokioClock {
    /// A clock that shows `base` now, and goes on with the present runtime; outside a runtime, with
    /// the machine.
    #[must_use]
    pub fn new(base: Timestamp) -> Self {
        Self { base, started: Instant::now(), runtime: Handle::try_current().ok() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        // A thread that a store started is in no runtime, and would see the machine's time.
        let _entered = self.runtime.as_ref().map(Handle::enter);
        after(self.base, self.started.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_clock_moves_only_when_it_is_turned() {
        let clock = VirtualClock::default();
        let shared = clock.clone();
        let start = clock.now();
        assert_eq!(start.to_string(), "2025-01-01T00:00:00Z");
        clock.advance(Duration::from_micros(7));
        assert_eq!(to_micros(shared.now()) - to_micros(start), 7);
        clock.set(Timestamp::UNIX_EPOCH);
        assert_eq!(shared.now(), Timestamp::UNIX_EPOCH);
        clock.advance(Duration::MAX);
        assert_eq!(to_micros(clock.now()), Timestamp::MAX.as_microsecond());
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_runtime_turns_the_tokio_clock_on_every_thread() {
        let clock = TokioClock::default();
        let start = clock.now();
        tokio::time::advance(Duration::from_secs(3600)).await;
        let elsewhere = {
            let clock = clock.clone();
            std::thread::spawn(move || clock.now()).join().unwrap()
        };
        for now in [clock.now(), elsewhere] {
            assert_eq!(to_micros(now) - to_micros(start), 3_600_000_000);
        }
    }

    #[test]
    fn outside_a_runtime_the_tokio_clock_goes_with_the_machine() {
        let clock = TokioClock::new(Timestamp::UNIX_EPOCH);
        let first = clock.now();
        assert!(first >= Timestamp::UNIX_EPOCH && clock.now() >= first);
    }
}
