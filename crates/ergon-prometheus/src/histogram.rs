//! Plain histograms: no atomics, as whoever counts holds a lock for a whole batch.

use std::time::Duration;

/// The upper bounds of the buckets of times, in seconds.
pub(crate) const SECONDS: [f64; 16] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
    7200.0,
];

/// The upper bounds of the buckets of attempts.
pub(crate) const ATTEMPTS: [f64; 7] = [1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 25.0];

/// How often values fell between which bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Histogram<const BOUNDS: usize> {
    /// Not cumulative.
    counts: [u64; BOUNDS],
    /// Above the last bound.
    above: u64,
    sum: f64,
}

impl<const BOUNDS: usize> Default for Histogram<BOUNDS> {
    fn default() -> Self {
        Self { counts: [0; BOUNDS], above: 0, sum: 0.0 }
    }
}

impl Histogram<{ SECONDS.len() }> {
    /// Counts a time.
    #[inline]
    pub(crate) fn observe_time(&mut self, time: Duration) {
        self.observe(&SECONDS, time.as_secs_f64());
    }
}

impl<const BOUNDS: usize> Histogram<BOUNDS> {
    /// Counts a value, which belongs to the first bound that it does not exceed.
    #[inline]
    pub(crate) fn observe(&mut self, bounds: &[f64; BOUNDS], value: f64) {
        // All comparisons at once are cheaper than a search, whose branches nobody foresees.
        let bucket: usize = bounds.iter().map(|&bound| usize::from(value > bound)).sum();
        *self.counts.get_mut(bucket).unwrap_or(&mut self.above) += 1;
        self.sum += value;
    }

    /// Adds what another one counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.above += other.above;
        self.sum += other.sum;
    }

    /// How many values do not exceed each bound.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = u64> {
        self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        })
    }

    /// How many values there are.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.above
    }

    /// What all values sum up to.
    pub(crate) const fn sum(&self) -> f64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let mut histogram = Histogram::default();
        for millis in [0, 5, 6, 10, 7_200_000, 7_200_001] {
            histogram.observe_time(Duration::from_millis(millis));
        }
        let mut expected = [4; 16];
        (expected[0], expected[15]) = (2, 5);
        assert_eq!(histogram.cumulative().collect::<Vec<_>>(), expected);
        assert_eq!((histogram.count(), histogram.sum()), (6, 14_400.022));
    }

    #[test]
    fn merged_histograms_count_what_both_did() {
        let (mut one, mut other) = (Histogram::default(), Histogram::default());
        one.observe(&ATTEMPTS, 1.0);
        other.observe(&ATTEMPTS, 4.0);
        other.observe(&ATTEMPTS, 26.0);
        one.merge(&other);
        assert_eq!(one.cumulative().collect::<Vec<_>>(), [1, 1, 1, 2, 2, 2, 2]);
        assert_eq!((one.count(), one.sum()), (3, 31.0));
    }
}
