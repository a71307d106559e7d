//! A histogram of durations that can be merged, and is small in JSON.

use std::{cmp::min, time::Duration};

use serde::{Deserialize, Serialize};

use super::compact;
use crate::limits::HORIZON;

/// An octave has 2^5 buckets: none is wider than 1/32 of what falls into it.
const BITS: u32 = 5;

/// Durations beyond ten years count as ten years.
const MICROS_MAX: u64 = HORIZON.as_secs() * 1_000_000;

/// How many buckets there are.
const BUCKETS: usize = place(MICROS_MAX) + 1;

/// How long things took, in microseconds up to ten years.
///
/// Log-linear: up to 63 µs exactly, beyond that in 32 buckets an octave, so that a value read from the
/// middle of its bucket is off by at most 1.6 %. Histograms of the same thing from several servers or
/// minutes merge into what one histogram of all would be. An empty one holds no memory.
///
/// ```
/// use std::time::Duration;
///
/// use ergon_core::statistics::Histogram;
///
/// let mut took = Histogram::default();
/// (1..=100).for_each(|millis| took.record(Duration::from_millis(millis)));
/// let median = took.quantile(0.5);
/// assert!(median.abs_diff(Duration::from_millis(50)) < Duration::from_millis(1));
/// assert_eq!((took.count(), took.max()), (100, Duration::from_millis(100)));
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(into = "Written", from = "Written")]
pub struct Histogram {
    /// By place, up to the last one in use.
    buckets: Vec<u64>,
    count: u64,
    sum: u64,
    max: u64,
}

/// A histogram in JSON.
#[derive(Serialize, Deserialize)]
struct Written {
    sum_us: u64,
    max_us: u64,
    buckets: String,
}

impl From<Histogram> for Written {
    fn from(histogram: Histogram) -> Self {
        let buckets = compact::write(&histogram.buckets);
        Self { sum_us: histogram.sum, max_us: histogram.max, buckets }
    }
}

impl From<Written> for Histogram {
    fn from(written: Written) -> Self {
        // What cannot be read is missing; the rest is worth having all the same.
        let buckets = compact::read(&written.buckets, BUCKETS).unwrap_or_default();
        let count = buckets.iter().fold(0_u64, |sum, &tasks| sum.saturating_add(tasks));
        let (sum, max) = (written.sum_us, min(written.max_us, MICROS_MAX));
        Self { buckets, count, sum, max }
    }
}

/// The bucket that a value falls into.
const fn place(micros: u64) -> usize {
    // Below 2^6 the shift is 0, and every value has a bucket of its own.
    let shift = u64::BITS - 1 - BITS - (micros | 1 << BITS).leading_zeros();
    // At most 1,411, whatever the width of a pointer.
    #[expect(clippy::cast_possible_truncation, reason = "far below 2^16")]
    let place = ((shift as u64) << BITS) as usize + (micros >> shift) as usize;
    place
}

/// The middle of a bucket, in microseconds.
const fn middle(place: usize) -> u64 {
    let place = place as u64;
    let octave = place >> BITS;
    if octave < 2 {
        return place;
    }
    let shift = octave - 1;
    ((place - (shift << BITS)) << shift) + (1 << shift) / 2
}

impl Histogram {
    /// Counts one value.
    #[inline]
    pub fn record(&mut self, value: Duration) {
        let micros = value.as_secs().saturating_mul(1_000_000);
        let micros = min(micros.saturating_add(u64::from(value.subsec_micros())), MICROS_MAX);
        let place = place(micros);
        if let Some(bucket) = self.buckets.get_mut(place) {
            *bucket += 1;
        } else {
            self.buckets.resize(place, 0);
            self.buckets.push(1);
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(micros);
        if micros > self.max {
            self.max = micros;
        }
    }

    /// Counts what another one counted too.
    pub fn merge(&mut self, other: &Self) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket = bucket.saturating_add(*more);
        }
        self.count = self.count.saturating_add(other.count);
        self.sum = self.sum.saturating_add(other.sum);
        self.max = std::cmp::max(self.max, other.max);
    }

    /// Forgets everything, and keeps the memory for more.
    pub(super) fn clear(&mut self) {
        self.buckets.clear();
        (self.count, self.sum, self.max) = (0, 0, 0);
    }

    /// How many values there are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Says whether there is no value.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All values together, exactly.
    #[must_use]
    pub const fn sum(&self) -> Duration {
        Duration::from_micros(self.sum)
    }

    /// The largest value, exactly; zero when there is none.
    #[must_use]
    pub const fn max(&self) -> Duration {
        Duration::from_micros(self.max)
    }

    /// The mean, exactly; zero when there is no value.
    #[must_use]
    pub const fn mean(&self) -> Duration {
        match self.sum.checked_div(self.count) {
            Some(mean) => Duration::from_micros(mean),
            None => Duration::ZERO,
        }
    }

    /// The value that this share of all does not exceed, give or take 1.6 %, and the largest exactly; zero
    /// when there is no value. A share below 0 counts as 0, the smallest value; one above 1 as 1.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a rank among very many values need not be exact, and is not negative"
    )]
    pub fn quantile(&self, share: f64) -> Duration {
        let rank = (share.clamp(0.0, 1.0) * self.count as f64).ceil() as u64;
        let rank = std::cmp::max(rank, 1);
        if rank >= self.count {
            return self.max();
        }
        let mut seen = 0_u64;
        for (place, &tasks) in self.buckets.iter().enumerate() {
            seen = seen.saturating_add(tasks);
            if seen >= rank {
                return Duration::from_micros(min(middle(place), self.max));
            }
        }
        Duration::ZERO
    }

    /// How many values lie in each bucket that holds any, by the middle of the bucket, the shortest
    /// first: what a chart of the distribution draws.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let buckets = self.buckets.iter().enumerate().filter(|&(_, &tasks)| tasks > 0);
        buckets.map(|(place, &tasks)| (Duration::from_micros(middle(place)), tasks))
    }
}

/// Two are equal when they count the same, however much memory they hold.
impl PartialEq for Histogram {
    fn eq(&self, other: &Self) -> bool {
        let totals = |it: &Self| (it.count, it.sum, it.max);
        totals(self) == totals(other) && self.buckets().eq(other.buckets())
    }
}

impl Eq for Histogram {}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        micros.into_iter().for_each(|micros| histogram.record(Duration::from_micros(micros)));
        histogram
    }

    #[test]
    fn every_value_is_near_the_middle_of_its_bucket() {
        let powers = (0..=48).map(|power| 1_u64 << power);
        let values = powers.flat_map(|it| [it, it + 1, it + it / 3, it * 2 - 1]);
        let mut last = 0;
        let mut sorted: Vec<_> = values.filter(|&it| it <= MICROS_MAX).collect();
        sorted.sort_unstable();
        for value in sorted {
            let (place, middle) = (place(value), middle(place(value)));
            assert!(place >= last && place < BUCKETS, "{value}");
            last = place;
            let off = middle.abs_diff(value);
            assert!(off * 64 <= value, "{value} is told as {middle}");
        }
        assert!((0..64).all(|value| middle(place(value)) == value));
        assert_eq!((BUCKETS, place(u64::MAX) >= BUCKETS), (1_412, true));
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        assert_eq!(Histogram::default().quantile(0.5), Duration::ZERO);
        let values: Vec<u64> = (0..10_000).map(|it| it * it % 7_919 * 131 + 5).collect();
        let mut sorted = values.clone();
        sorted.sort_unstable();
        let histogram = of(values);
        for (share, rank) in [(0.0, 0), (0.5, 4_999), (0.95, 9_499), (0.999, 9_989), (1.0, 9_999)] {
            let (told, exact) = (histogram.quantile(share), Duration::from_micros(sorted[rank]));
            assert!(told.abs_diff(exact) * 64 <= exact, "{share}: {told:?} for {exact:?}");
        }
        assert_eq!(histogram.quantile(7.0), histogram.quantile(1.0));
        assert_eq!(histogram.quantile(f64::NAN), histogram.quantile(0.0));
        assert!(histogram.quantile(1.0) <= histogram.max());
    }

    #[test]
    fn merging_is_as_if_all_had_been_counted_by_one() {
        let (one, other) = (of([1, 100, 1_000_000]), of([5, 100]));
        let mut merged = one.clone();
        merged.merge(&other);
        let mut reversed = other;
        reversed.merge(&one);
        let all = of([1, 5, 100, 100, 1_000_000]);
        assert!(merged == all && reversed == all && merged != one);
        assert_eq!(
            (all.count(), all.sum().as_micros(), all.mean().as_micros()),
            (5, 1_000_206, 200_041)
        );
        merged.clear();
        assert!(merged == Histogram::default() && merged.is_empty());
    }

    #[test]
    fn ten_years_is_the_most() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::MAX);
        assert_eq!((histogram.max(), histogram.quantile(1.0)), (HORIZON, HORIZON));
    }

    #[test]
    fn json_is_small_and_reads_back() {
        let histogram = of((0..1_000).map(|it| it * 977));
        let json = serde_json::to_string(&histogram).unwrap();
        assert!(json.len() < 1_000, "{}", json.len());
        assert_eq!(serde_json::from_str::<Histogram>(&json).unwrap(), histogram);
        let small = serde_json::to_string(&of([3, 3, 70])).unwrap();
        assert_eq!(small, r#"{"sum_us":76,"max_us":70,"buckets":"AwI_AQ"}"#);
        let bad = r#"{"sum_us":76,"max_us":70,"buckets":"!"}"#;
        assert!(serde_json::from_str::<Histogram>(bad).unwrap().is_empty());
    }
}
