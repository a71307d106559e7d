//! Calls of the store: none lasts for ever, none takes its caller down, failures are spaced out.

use std::{
    any::Any,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    task::Poll,
    time::Duration,
};

use ergon_core::{Rng, StoreError, rng::duration_up_to, text::error_chain};
use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::status::Gauge;

/// Turns a panic of the store into an error.
pub(crate) async fn guarded<T>(
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    caught_async(call).await.unwrap_or_else(|panic| {
        Err(StoreError::Backend { source: format!("the store panicked: {panic}").into() })
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

/// Runs code that is not the server's; answers what it panicked with.
pub(crate) fn caught<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(panic_message)
}

/// What a panic said, if it was text.
pub(crate) fn panic_message(panic: Box<dyn Any + Send>) -> String {
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

/// Runs a future to its end, or to its panic; answers what it panicked with.
pub(crate) async fn caught_async<T>(future: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(future).catch_unwind().await.map_err(panic_message)
}

/// Begins a loop again whenever it panics: later and later, and never once its end has come.
#[derive(Debug)]
pub(crate) struct Restarts<'s> {
    gauge: &'s Gauge,
    end: &'s CancellationToken,
    pause: Duration,
    began: Instant,
}

impl<'s> Restarts<'s> {
    /// Of a loop that begins now. Its gauge counts a panic as a failure.
    pub(crate) fn new(gauge: &'s Gauge, end: &'s CancellationToken) -> Self {
        Self { gauge, end, pause: BACKOFF_FLOOR, began: Instant::now() }
    }

    /// Waits after a panic; says whether the loop is to begin again.
    pub(crate) async fn wait(&mut self, panic: String) -> bool {
        self.gauge.failed();
        tracing::error!(name = self.gauge.name(), panic, "a loop panicked; it begins again");
        if self.began.elapsed() > RESTART_CAP {
            // It went well for a while.
            self.pause = BACKOFF_FLOOR;
        }
        let is_over = self.end.run_until_cancelled(sleep(self.pause)).await.is_none();
        self.pause = std::cmp::min(self.pause * 2, RESTART_CAP);
        self.began = Instant::now();
        !is_over
    }
}

/// Lets go first what is ready now.
///
/// Tokio's own `yield_now` waits until the thread has nothing else to do: behind a handler that
/// blocks the thread that is for ever. This goes to the end of the queue, whence any thread takes
/// it.
pub(crate) async fn step_back() {
    let mut has_stepped = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_stepped, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A duration of `middle`, give or take a tenth, so that servers do not march in step.
pub(crate) fn jittered(middle: Duration, rng: &dyn Rng) -> Duration {
    middle - middle / 10 + duration_up_to(rng, middle / 5)
}

const BACKOFF_FLOOR: Duration = Duration::from_millis(50);

/// Longest pause before a loop that panicked begins again.
const RESTART_CAP: Duration = Duration::from_secs(1);

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
            tracing::warn!(
                error = error_chain(error),
                "failed to {what}; trying again until it works"
            );
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
