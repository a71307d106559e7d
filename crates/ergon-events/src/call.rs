//! Calls of code that is not the bus's: none takes its caller down, none of the store lasts for ever.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ergon_core::{Rng, StoreError, rng::duration_up_to, text::error_chain};
use futures_util::FutureExt as _;
use tokio::time::Instant;

/// Runs code that is not the bus's; answers what it panicked with.
pub(crate) fn caught<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(panic_message)
}

/// Runs a future to its end, or to its panic; answers what it panicked with.
pub(crate) async fn caught_async<T>(future: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(future).catch_unwind().await.map_err(panic_message)
}

/// What a panic said, if it was text.
fn panic_message(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&'static str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("(no text)").to_owned();
    // A panic can carry anything, also what panics when it is dropped. What that carries in turn is
    // kept for ever: dropping it might never end.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        Box::leak(again);
    }
    text
}

/// Calls the store: a panic is an error, and so is no answer within `limit`.
pub(crate) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(limit, caught_async(call)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(panic)) => {
            Err(StoreError::Backend { source: format!("the store panicked: {panic}").into() })
        }
        Err(_elapsed) => {
            Err(StoreError::Unavailable { source: format!("no answer within {limit:?}").into() })
        }
    }
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

    /// Reports a failure of the store, once a streak.
    pub(crate) fn report(&self, what: &'static str, error: &StoreError) {
        if self.failures == 0 {
            let error = error_chain(error);
            tracing::warn!(error, "failed to {what}; trying again until it works");
        }
    }
}

/// How long a complaint is not repeated.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// Lets a complaint through once a minute.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<Option<Instant>>);

impl Throttle {
    /// Says whether to complain now.
    pub(crate) fn permits(&self) -> bool {
        let now = Instant::now();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| now.duration_since(last) >= COMPLAINT_INTERVAL);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use ergon_core::SystemRng;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn complaints_come_once_a_minute() {
        let throttle = Throttle::default();
        assert!(throttle.permits());
        assert!(!throttle.permits());
        tokio::time::advance(COMPLAINT_INTERVAL - Duration::from_millis(1)).await;
        assert!(!throttle.permits());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(throttle.permits());
    }

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

    #[tokio::test(start_paused = true)]
    async fn a_store_that_panics_or_never_answers_fails() {
        let limit = Duration::from_secs(10);
        let panics = within::<()>(limit, async { unreachable!("a bug") }).await;
        assert!(matches!(panics, Err(StoreError::Backend { .. })), "{panics:?}");
        let hangs = within::<()>(limit, std::future::pending()).await;
        assert!(matches!(hangs, Err(StoreError::Unavailable { .. })), "{hangs:?}");
    }

    #[test]
    fn what_a_panic_said_is_kept_whatever_it_carries() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                std::panic::panic_any(7_u8);
            }
        }
        assert_eq!(caught(|| 1), Ok(1));
        assert_eq!(
            caught(|| unreachable!("x")),
            Err::<(), _>("internal error: entered unreachable code: x".to_owned())
        );
        assert_eq!(caught(|| std::panic::panic_any(Bomb)), Err::<(), _>("(no text)".to_owned()));
    }
}
