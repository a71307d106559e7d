//! Observers: each called by a task of its own, from its own place in the ring.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::time::{Instant, timeout_at};

use crate::{
    BoxError, call::caught_async, item::Batch, journal::Journal, stats::Tally, subscription::Parts,
};

/// What an observer or a sink does with what it is handed.
pub(crate) type Call<B> = Box<dyn FnMut(B) -> BoxFuture<'static, Result<(), BoxError>> + Send>;

pub(crate) fn boxed<B, F, O, E>(mut call: F) -> Call<B>
where
    F: FnMut(B) -> O + Send + 'static,
    O: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<BoxError>,
{
    Box::new(move |batch| call(batch).map(|done| done.map_err(Into::into)).boxed())
}

/// Calls, and counts what comes of it; says whether all went well.
pub(crate) async fn invoke<B>(call: &mut Call<B>, batch: B, tally: &Tally) -> bool {
    let calling = tally.calling();
    let outcome = caught_async(async { call(batch).await }).await;
    drop(calling);
    match outcome {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => tally.failed(&ergon_core::text::error_chain(&*error)),
        Err(panic) => tally.panicked(&panic),
    }
    false
}

/// What is known of an observer or a sink from outside its task.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Events that it took from the ring and was not handed yet.
    pub(crate) held: AtomicU64,
    pub(crate) is_done: AtomicBool,
}

/// An observer with a task of its own.
pub(crate) struct Observer {
    pub(crate) parts: Parts,
    pub(crate) call: Call<Batch>,
    /// Reads again what it missed, if that is what it chose.
    pub(crate) refill: Option<Journal>,
    pub(crate) batch_max: usize,
    pub(crate) linger: Duration,
    pub(crate) progress: Arc<Progress>,
}

impl Observer {
    /// Hands over until the bus has ended and everything was handed over.
    pub(crate) async fn run(mut self) {
        while let Some(batch) = self.collect().await {
            self.hand_over(batch).await;
        }
        self.progress.is_done.store(true, Relaxed);
    }

    /// Waits for something, and then a little for more.
    async fn collect(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        let mut deadline = None;
        loop {
            if let Some(refill) = self.refill.clone()
                && let Some((lagged, boundary)) = self.parts.take_overrun()
            {
                if !batch.is_blank() {
                    self.hand_over(std::mem::take(&mut batch)).await;
                    deadline = None;
                }
                self.backfill(&refill, lagged, boundary).await;
            }
            if self.parts.fill(&mut batch, self.batch_max) {
                return Some(batch);
            }
            if deadline.is_none() && !batch.is_blank() {
                deadline = Some(Instant::now() + self.linger);
            }
            let held = u64::try_from(batch.events.len()).unwrap_or(u64::MAX);
            self.progress.held.store(held, Relaxed);
            let more = poll_fn(|cx| self.parts.poll_more(cx));
            let has_more = match deadline {
                None => more.await,
                Some(deadline) => match timeout_at(deadline, more).await {
                    Ok(has_more) => has_more,
                    Err(_elapsed) => return Some(batch),
                },
            };
            if !has_more {
                return (!batch.is_blank()).then_some(batch);
            }
            if self.refill.is_none() {
                self.parts.count_missed();
            }
        }
    }

    pub(crate) async fn hand_over(&mut self, batch: Batch) {
        self.progress.held.store(self.parts.remaining(), Relaxed);
        let tally = Arc::clone(&self.parts.reader().tally);
        // An observer that failed is not handed the same once more: it goes on with what comes next.
        invoke(&mut self.call, batch, &tally).await;
    }
}
