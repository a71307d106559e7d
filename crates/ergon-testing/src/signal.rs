//! Signals: what tests wait for instead of sleeping.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

/// How long a wait for a signal lasts before it gives up: far longer than anything that works
/// takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Tells one part of a test that another part has come so far.
///
/// It remembers: a wait after the fire ends at once. Cheap to clone; clones are one signal.
///
/// ```
/// # use ergon_testing::Signal;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let started = Signal::new();
/// let starter = started.clone();
/// let work = async move { starter.fire() };
/// tokio::join!(work, started.wait());
/// assert_eq!(started.count(), 1);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Signal {
    fired: Arc<watch::Sender<usize>>,
}

impl Default for Signal {
    fn default() -> Self {
        Self::new()
    }
}

impl Signal {
    /// A signal that has not been fired.
    #[must_use]
    pub fn new() -> Self {
        Self { fired: Arc::new(watch::Sender::new(0)) }
    }

    /// Fires once more.
    pub fn fire(&self) {
        self.fired.send_modify(|count| *count += 1);
    }

    /// How often it was fired.
    #[must_use]
    pub fn count(&self) -> usize {
        *self.fired.borrow()
    }

    /// Waits until it was fired, or returns at once when it was.
    ///
    /// # Panics
    ///
    /// As [`wait_for`](Self::wait_for).
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn wait(&self) {
        self.wait_for(1).await;
    }

    /// Waits until it was fired `count` times since it was made.
    ///
    /// # Panics
    ///
    /// After 30 seconds by tokio's clock, because a test that hangs says less than one that fails.
    /// In a runtime whose time is paused that is as soon as nothing else can happen in the runtime,
    /// so what fires the signal has to live there too, not on a thread of its own.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn wait_for(&self, count: usize) {
        let mut fired = self.fired.subscribe();
        // The sender is `self`, so that the channel cannot close.
        let is_reached = timeout(PATIENCE, fired.wait_for(|&fired| fired >= count)).await.is_ok();
        let fired = self.count();
        assert!(is_reached, "the signal fired {fired} times in {PATIENCE:?}, not {count} times");
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_signal_remembers_and_counts() {
        let signal = Signal::new();
        assert_eq!(signal.count(), 0);
        assert!(signal.wait().now_or_never().is_none());
        signal.fire();
        signal.wait().await;
        assert!(signal.wait_for(2).now_or_never().is_none());
        let other = signal.clone();
        tokio::join!(signal.wait_for(3), async move {
            other.fire();
            tokio::task::yield_now().await;
            other.fire();
        });
        assert_eq!(signal.count(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_that_never_fires_fails_with_words() {
        let signal = Signal::new();
        let wait = std::panic::AssertUnwindSafe(signal.wait_for(2));
        let panic = wait.catch_unwind().await.unwrap_err();
        let message = panic.downcast_ref::<String>().unwrap();
        assert_eq!(message, "the signal fired 0 times in 30s, not 2 times");
    }
}
