//! Calls of the store: none lasts for ever, none takes its caller down, failures are spaced out.

use std::{any::Any, future::Future, panic::AssertUnwindSafe, time::Duration};

use ergon_core::{Rng, StoreError, rng::duration_up_to, text::error_chain};
use futures_util::FutureExt as _;

/// Turns a panic of the store into an error.
pub(crate) async fn guarded<T>(
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let caught = AssertUnwindSafe(call).catch_unwind().await;
    caught.unwrap_or_else(|panic| {
        let source = format!("the store panicked: {}", panic_message(&*panic)).into();
        Err(StoreError::Backend { source })
    })
}

/// The same, and gives up after `limit`.
pub(crate) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(limit, guarded(call)).await {
        Ok(answer) => answer,
        Err(_elapsed) => {
            Err(StoreError::Unavailable { source: format!("no answer within {limit:?}").into() })
        }
    }
}

/// What a panic said, if it was text.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&'static str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("(no text)").to_owned()
}

/// A duration of `middle`, give or take a tenth, so that servers do not march in step.
pub(crate) fn jittered(middle: Duration, rng: &dyn Rng) -> Duration {
    middle - middle / 10 + duration_up_to(rng, middle / 5)
}

const BACKOFF_FLOOR: Duration = Duration::from_millis(50);

/// The pauses between failing calls: they double from 50 ms up to a cap, and never end.
#[derive(Debug)]
pub(crate) struct Backoff {
    cap: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) const fn new(cap: Duration) -> Self {
        Self { cap, failures: 0 }
    }

    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// Counts a failure and says how long to pause: between half the ceiling and the ceiling.
    pub(crate) fn next(&mut self, rng: &dyn Rng) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let ceiling = std::cmp::min(BACKOFF_FLOOR.saturating_mul(factor), self.cap);
        self.failures = self.failures.saturating_add(1);
        ceiling / 2 + duration_up_to(rng, ceiling / 2)
    }

    /// Reports a failure: once a streak what may pass by itself, every time what may not.
    pub(crate) fn report(&self, what: &'static str, error: &StoreError) {
        if !error.is_transient() {
            tracing::error!(error = error_chain(error), "failed to {what}; trying again");
        } else if self.failures == 0 {
            tracing::warn!(error = error_chain(error), "failed to {what}; trying again until it works");
        }
    }
}

#[cfg(test)]
mod tests {
    use ergon_core::SystemRng;

    use super::*;

    #[test]
    fn pauses_grow_to_the_cap_and_stay_there() {
        let cap = Duration::from_secs(1);
        let mut backoff = Backoff::new(cap);
        let pauses: Vec<_> = (0..100).map(|_| backoff.next(&SystemRng)).collect();
        assert!(pauses.iter().all(|&pause| pause <= cap));
        assert!(pauses[0] <= BACKOFF_FLOOR && pauses[99] >= cap / 2);
        backoff.reset();
        assert!(backoff.next(&SystemRng) <= BACKOFF_FLOOR);
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        let middle = Duration::from_secs(10);
        for _ in 0..100 {
            let drawn = jittered(middle, &SystemRng);
            assert!(drawn >= middle * 9 / 10 && drawn <= middle * 11 / 10);
        }
    }
}
