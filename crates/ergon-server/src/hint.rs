//! Waits for the store's hints that there is work, and looks without them now and then.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use ergon_core::QueueName;
use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::time::{Instant, sleep};

use crate::{call::jittered, shared::Shared};

/// First pause between looks for work when a store gives no hints; doubles up to the configured one.
const POLL_FLOOR: Duration = Duration::from_millis(50);

/// Longest pause after a hint that led to nothing. Without it, hints about tasks that this server
/// cannot take would keep it busy.
const FRUITLESS_MAX: Duration = Duration::from_millis(50);

/// Waits for work, one wait at a time.
pub(crate) struct Hints {
    /// How long to wait for a hint.
    poll: Duration,
    /// Hints in a row that led to nothing.
    fruitless: u32,
    wait: Option<Wait>,
}

/// A wait for work in these queues under way; answers whether it was ended by a hint.
struct Wait {
    queues: Vec<QueueName>,
    call: BoxFuture<'static, bool>,
}

impl Hints {
    pub(crate) const fn new() -> Self {
        Self { poll: POLL_FLOOR, fruitless: 0, wait: None }
    }

    /// Waits for work in these queues from now on, unless that is done already; says whether there
    /// are any.
    pub(crate) fn wait_for(&mut self, shared: &Arc<Shared>, queues: Vec<QueueName>) -> bool {
        if queues.is_empty() {
            self.wait = None;
            return false;
        }
        if self.wait.as_ref().is_none_or(|wait| wait.queues != queues) {
            let call = self.call(Arc::clone(shared), queues.clone());
            self.wait = Some(Wait { queues, call });
        }
        true
    }

    /// Ends the wait.
    pub(crate) fn stop(&mut self) {
        self.wait = None;
    }

    /// Waits until there may be work: by a hint, or because it is time to look without one. Nothing
    /// when there is no wait.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped, the next call goes on with the same wait.
    pub(crate) async fn work(&mut self, poll_max: Duration) -> Option<()> {
        let was_early = self.wait.as_mut()?.call.as_mut().await;
        self.wait = None;
        if was_early {
            self.fruitless = self.fruitless.saturating_add(1);
        } else {
            self.fruitless = 0;
            self.poll = std::cmp::min(self.poll * 2, poll_max);
        }
        Some(())
    }

    /// Notes that work was found.
    pub(crate) fn found(&mut self, poll_max: Duration) {
        self.fruitless = 0;
        self.poll = std::cmp::min(POLL_FLOOR, poll_max);
    }

    fn call(&self, shared: Arc<Shared>, queues: Vec<QueueName>) -> BoxFuture<'static, bool> {
        let pause = match self.fruitless {
            0 => Duration::ZERO,
            hints => std::cmp::min(
                Duration::from_millis(1) * (1 << std::cmp::min(hints, 6)),
                FRUITLESS_MAX,
            ),
        };
        let within = jittered(self.poll, &*shared.rng);
        let waiting = async move {
            if !pause.is_zero() {
                sleep(pause).await;
            }
            let began = Instant::now();
            let waited = shared.store.wait_for_work(&queues, shared.registry.kinds(), within);
            if AssertUnwindSafe(waited).catch_unwind().await.is_err() {
                tracing::error!("the store panicked while the server waited for work");
                sleep(within).await;
            }
            began.elapsed() < within
        };
        waiting.boxed()
    }
}
