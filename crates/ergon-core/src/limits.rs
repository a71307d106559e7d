//! How large things may be: defaults, and caps that no setting exceeds.

use std::time::Duration;

/// Most tasks, outcomes or ids in one call of a store.
pub const BATCH_MAX: usize = 10_000;

/// Most bytes of payload and metadata in one `insert`: 64 MiB.
pub const BATCH_BYTES_MAX: usize = 64 << 20;

/// Most rows of a page.
pub const PAGE_MAX: usize = 1_000;

/// A page ends early once its payloads and results exceed this: 8 MiB.
pub const PAGE_BYTES_MAX: usize = 8 << 20;

/// Farthest into the future that a task can be scheduled or kept: 10 years.
pub const HORIZON: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Most errors kept of one task; the oldest are dropped.
pub const ERRORS_KEPT_MAX: usize = 10;

/// Most tags of one task.
pub const TAGS_MAX: usize = 32;

/// Longest key of a metadata entry, in bytes.
pub const METADATA_KEY_BYTES_MAX: usize = 128;

/// Most steps of a [list](crate::RetryPolicy::List) retry policy.
pub const RETRY_STEPS_MAX: usize = 100;

/// Size limits that an application can lower, or raise up to a hard cap.
///
/// The defaults are chosen without measurement: they hold what a task should carry, and keep one
/// task from stalling the store. Put larger things beside the queue and enqueue a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest payload, in bytes. Default 1 MiB, cap 16 MiB.
    pub payload_bytes_max: usize,
    /// Largest metadata, keys and values together, in bytes. Default and cap 64 KiB.
    pub metadata_bytes_max: usize,
    /// Largest result, in bytes. Default 1 MiB, cap 16 MiB.
    pub result_bytes_max: usize,
    /// Longest error text, in bytes; what exceeds it is cut. Default and cap 16 KiB.
    pub error_bytes_max: usize,
}

impl Limits {
    /// What no setting exceeds.
    pub const CAPS: Self = Self {
        payload_bytes_max: 16 << 20,
        metadata_bytes_max: 64 << 10,
        result_bytes_max: 16 << 20,
        error_bytes_max: 16 << 10,
    };

    /// These limits, lowered to the caps where they exceed them.
    #[must_use]
    pub fn capped(self) -> Self {
        use std::cmp::min;
        Self {
            payload_bytes_max: min(self.payload_bytes_max, Self::CAPS.payload_bytes_max),
            metadata_bytes_max: min(self.metadata_bytes_max, Self::CAPS.metadata_bytes_max),
            result_bytes_max: min(self.result_bytes_max, Self::CAPS.result_bytes_max),
            error_bytes_max: min(self.error_bytes_max, Self::CAPS.error_bytes_max),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { payload_bytes_max: 1 << 20, result_bytes_max: 1 << 20, ..Self::CAPS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exceeds_a_cap_is_lowered_to_it_and_the_rest_stays() {
        let huge = Limits {
            payload_bytes_max: usize::MAX,
            metadata_bytes_max: usize::MAX,
            result_bytes_max: usize::MAX,
            error_bytes_max: usize::MAX,
        };
        assert_eq!(huge.capped(), Limits::CAPS);
        let small = Limits {
            payload_bytes_max: 1,
            metadata_bytes_max: 2,
            result_bytes_max: 3,
            error_bytes_max: 4,
        };
        assert_eq!(small.capped(), small);
        assert_eq!(Limits::default().capped(), Limits::default());
    }

    #[test]
    fn one_task_always_fits_a_batch() {
        let largest = Limits::CAPS.payload_bytes_max + Limits::CAPS.metadata_bytes_max;
        assert!(largest <= BATCH_BYTES_MAX);
    }
}
