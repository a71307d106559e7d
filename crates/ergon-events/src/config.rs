//! The numbers of a bus: their defaults, and which are refused.

use std::time::Duration;

use ergon_core::{limits::BATCH_MAX, store::WATCH_LEASE_MAX};

use crate::error::BuildError;

/// How a [`Bus`](crate::Bus) works; fixed once it is built.
///
/// Every number is chosen without measurement unless its line says where it comes from.
///
/// ```
/// use std::time::Duration;
///
/// use ergon_events::BusConfig;
///
/// let config = BusConfig::new().ring_bytes_max(1 << 20).observer_grace(Duration::from_secs(30));
/// # assert_eq!(config.ring_bytes_max, 1 << 20);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BusConfig {
    /// Memory of the events that are kept for readers, in bytes: 256 KiB to 1 GiB. Default 8 MiB.
    ///
    /// The older events go when it is exceeded, or [`ring_events_max`](field@Self::ring_events_max); a
    /// reader that has not read them is told how many it missed. Nothing is kept while nobody reads.
    pub ring_bytes_max: usize,
    /// Events that are kept for readers: 256 to 16,777,216. Default 65,536.
    pub ring_events_max: usize,
    /// How long an inline observer may take for one batch before it is counted as slow, and warned of
    /// once a minute: up to 1 s. Default 50 µs.
    pub inline_budget: Duration,
    /// Events handed to an observer at once: 1 to 10,000. Default 256.
    pub observer_batch_max: usize,
    /// How long an event waits for others before it is handed to an observer: up to 1 s. Default 20 ms.
    pub observer_linger: Duration,
    /// How long a shutdown waits for observers and sinks: up to 1 h. Default 5 s.
    pub observer_grace: Duration,
    /// Events handed to a durable sink at once: 1 to 10,000. Default 256. What one transaction recorded
    /// is not cut, so that a batch may exceed it.
    pub sink_batch_max: usize,
    /// Longest pause before a failed batch is handed to a durable sink again: 50 ms to 1 h. Default
    /// 30 s. The first pause is 50 ms, and it doubles.
    pub sink_pause_max: Duration,
    /// Events read from the journal at once: 1 to 10,000. Default 1,000.
    pub journal_batch_max: usize,
    /// Longest time between two looks into the journal when the store gives no hint that something
    /// happened: 1 ms to 1 min. Default 1 s.
    pub poll_interval: Duration,
    /// How long the store goes on recording for this process after it died: 1 s to 1 day. Default 60 s.
    /// It is renewed when a third of it is over.
    pub watch_lease: Duration,
    /// How long one call of the store may take: 1 ms to 10 min. Default 10 s.
    pub store_timeout: Duration,
}

impl Default for BusConfig {
    fn default() -> Self {
        Self {
            ring_bytes_max: 8 << 20,
            ring_events_max: 1 << 16,
            inline_budget: Duration::from_micros(50),
            observer_batch_max: 256,
            observer_linger: Duration::from_millis(20),
            observer_grace: Duration::from_secs(5),
            sink_batch_max: 256,
            sink_pause_max: Duration::from_secs(30),
            journal_batch_max: 1_000,
            poll_interval: Duration::from_secs(1),
            watch_lease: Duration::from_secs(60),
            store_timeout: Duration::from_secs(10),
        }
    }
}

macro_rules! setters {
    ($($name:ident: $type:ty;)*) => {
        impl BusConfig {
            $(
                #[doc = concat!("Chooses [`", stringify!($name), "`](field@Self::", stringify!($name), ").")]
                #[must_use]
                pub const fn $name(mut self, $name: $type) -> Self {
                    self.$name = $name;
                    self
                }
            )*
        }
    };
}

setters! {
    ring_bytes_max: usize;
    ring_events_max: usize;
    inline_budget: Duration;
    observer_batch_max: usize;
    observer_linger: Duration;
    observer_grace: Duration;
    sink_batch_max: usize;
    sink_pause_max: Duration;
    journal_batch_max: usize;
    poll_interval: Duration;
    watch_lease: Duration;
    store_timeout: Duration;
}

/// Most events of one slot of the ring: what a reader that is stuck keeps alive beyond the ring.
pub(crate) const SLOT_EVENTS_MAX: usize = 256;

/// A slot of the longest events fits it: 256 of about half a KiB.
const RING_BYTES_MIN: usize = 256 << 10;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

impl BusConfig {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Time between two renewals of the lease.
    pub(crate) fn renew_interval(&self) -> Duration {
        self.watch_lease / 3
    }

    pub(crate) fn check(&self) -> Result<(), BuildError> {
        within("ring_bytes_max", self.ring_bytes_max, RING_BYTES_MIN, 1 << 30)?;
        within("ring_events_max", self.ring_events_max, SLOT_EVENTS_MAX, 1 << 24)?;
        within("inline_budget", self.inline_budget, Duration::ZERO, SECOND)?;
        within("observer_batch_max", self.observer_batch_max, 1, BATCH_MAX)?;
        within("observer_linger", self.observer_linger, Duration::ZERO, SECOND)?;
        within("observer_grace", self.observer_grace, Duration::ZERO, HOUR)?;
        within("sink_batch_max", self.sink_batch_max, 1, BATCH_MAX)?;
        within("sink_pause_max", self.sink_pause_max, MILLISECOND * 50, HOUR)?;
        within("journal_batch_max", self.journal_batch_max, 1, BATCH_MAX)?;
        within("poll_interval", self.poll_interval, MILLISECOND, SECOND * 60)?;
        within("watch_lease", self.watch_lease, SECOND, WATCH_LEASE_MAX)?;
        within("store_timeout", self.store_timeout, MILLISECOND, HOUR / 6)
    }
}

fn within<T: PartialOrd + std::fmt::Debug>(
    field: &'static str,
    value: T,
    least: T,
    most: T,
) -> Result<(), BuildError> {
    if value >= least && value <= most {
        return Ok(());
    }
    let reason = format!("{value:?} is not within {least:?}..={most:?}");
    Err(BuildError::InvalidConfig { field, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(config: &BusConfig, refused: Option<&str>) {
        match (config.check(), refused) {
            (Ok(()), None) => {}
            (Err(BuildError::InvalidConfig { field, .. }), Some(refused)) => {
                assert_eq!(field, refused);
            }
            (answer, refused) => unreachable!("{answer:?} instead of {refused:?}"),
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused_by_name() {
        let config = BusConfig::new;
        check(&config(), None);
        check(&config().ring_events_max(SLOT_EVENTS_MAX).ring_bytes_max(RING_BYTES_MIN), None);
        check(&config().ring_events_max(SLOT_EVENTS_MAX - 1), Some("ring_events_max"));
        check(&config().ring_bytes_max((1 << 30) + 1), Some("ring_bytes_max"));
        check(&config().inline_budget(SECOND * 2), Some("inline_budget"));
        check(&config().observer_batch_max(0), Some("observer_batch_max"));
        check(&config().observer_linger(HOUR), Some("observer_linger"));
        check(&config().observer_grace(HOUR * 2), Some("observer_grace"));
        check(&config().sink_batch_max(BATCH_MAX + 1), Some("sink_batch_max"));
        check(&config().sink_pause_max(MILLISECOND), Some("sink_pause_max"));
        check(&config().journal_batch_max(0), Some("journal_batch_max"));
        check(&config().poll_interval(Duration::ZERO), Some("poll_interval"));
        check(&config().watch_lease(MILLISECOND), Some("watch_lease"));
        check(&config().store_timeout(HOUR), Some("store_timeout"));
    }
}
