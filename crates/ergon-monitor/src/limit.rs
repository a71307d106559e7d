//! Limits by name: how often somebody may ask, and how often somebody may be wrong.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Most names that are remembered; the one that was silent for longest makes room.
const NAMES_MAX: usize = 4_096;

/// How long a name is locked out, and how far back its failures count.
const LOCK: Duration = Duration::from_secs(60);

/// A value a name, bounded.
#[derive(Debug)]
struct Names<V>(Mutex<HashMap<String, (Instant, V)>>);

impl<V> Names<V> {
    fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Instant, V)>> {
        // No change can panic half way, so what a panicking thread left behind is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the value of a name, made by `fresh` if there is none.
    fn change<R>(
        &self,
        name: &str,
        fresh: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> R {
        let now = Instant::now();
        let mut names = self.lock();
        if names.len() >= NAMES_MAX && !names.contains_key(name) {
            let oldest = names.iter().min_by_key(|(_, (seen, _))| *seen);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                names.remove(&oldest);
            }
        }
        let (seen, value) = names.entry(name.to_owned()).or_insert_with(|| (now, fresh()));
        *seen = now;
        change(value)
    }
}

/// Buckets of requests: so many at once, and so many a second in the long run.
#[derive(Debug)]
pub(crate) struct Buckets {
    per_second: f64,
    burst: f64,
    names: Names<(Instant, f64)>,
}

impl Buckets {
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second: per_second.into(), burst: burst.into(), names: Names::new() }
    }

    /// Takes one request; if there is none left, says after how many seconds there will be.
    pub(crate) fn take(&self, name: &str) -> Option<u64> {
        let now = Instant::now();
        let fresh = || (now, self.burst);
        self.names.change(name, fresh, |(filled_at, left)| {
            let elapsed = now.saturating_duration_since(*filled_at).as_secs_f64();
            *left = f64::min(elapsed.mul_add(self.per_second, *left), self.burst);
            *filled_at = now;
            if *left < 1.0 {
                return Some(1);
            }
            *left -= 1.0;
            None
        })
    }
}

/// Wrong credentials by address.
#[derive(Debug)]
pub(crate) struct Failures {
    max: u32,
    names: Names<Failed>,
}

#[derive(Debug)]
struct Failed {
    since: Instant,
    times: u32,
}

impl Failures {
    pub(crate) fn new(max: u32) -> Self {
        Self { max, names: Names::new() }
    }

    /// Counts one; the first of a minute begins it.
    pub(crate) fn count(&self, name: &str) {
        let now = Instant::now();
        self.names.change(
            name,
            || Failed { since: now, times: 0 },
            |failed| {
                if now.saturating_duration_since(failed.since) >= LOCK {
                    *failed = Failed { since: now, times: 0 };
                }
                failed.times = failed.times.saturating_add(1);
                if failed.times == self.max {
                    // From here on it is a lock, which lasts a minute too.
                    failed.since = now;
                }
            },
        );
    }

    /// For how many more seconds this address is refused.
    pub(crate) fn locked_for(&self, name: &str) -> Option<u64> {
        let names = self.names.lock();
        let (_, failed) = names.get(name).filter(|(_, failed)| failed.times >= self.max)?;
        let left = LOCK.checked_sub(failed.since.elapsed()).filter(|left| !left.is_zero())?;
        Some(left.as_secs() + 1)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bucket_empties_and_fills_again() {
        let buckets = Buckets::new(2, 3);
        for _ in 0..3 {
            assert_eq!(buckets.take("a"), None);
        }
        assert_eq!((buckets.take("a"), buckets.take("b")), (Some(1), None));
        advance(Duration::from_millis(600)).await;
        assert_eq!((buckets.take("a"), buckets.take("a")), (None, Some(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_failures_lock_for_a_minute() {
        let failures = Failures::new(2);
        failures.count("a");
        assert_eq!(failures.locked_for("a"), None);
        failures.count("a");
        assert_eq!((failures.locked_for("a"), failures.locked_for("b")), (Some(61), None));
        advance(LOCK).await;
        assert_eq!(failures.locked_for("a"), None);
        failures.count("a");
        assert_eq!(failures.locked_for("a"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_bounded() {
        let buckets = Buckets::new(1, 1);
        for name in 0..NAMES_MAX + 10 {
            advance(Duration::from_millis(1)).await;
            buckets.take(&name.to_string());
        }
        assert_eq!(buckets.names.lock().len(), NAMES_MAX);
    }
}
