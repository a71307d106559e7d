//! Calls of the store, bounded in number and in time, so that people who look never hold up the work.

use std::{fmt::Display, future::Future, time::Duration};

use tokio::sync::Semaphore;

use crate::error::Trouble;

/// Lets so many calls run at once, each for so long.
#[derive(Debug)]
pub(crate) struct Bound {
    permits: Semaphore,
    within: Duration,
}

impl Bound {
    pub(crate) fn new(calls_max: usize, within: Duration) -> Self {
        Self { permits: Semaphore::new(calls_max), within }
    }

    /// Runs a call; waiting for its turn counts towards its time.
    pub(crate) fn run<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>>,
    ) -> impl Future<Output = Result<Result<T, E>, Trouble>> {
        // Whoever waits for several calls at once would hold all of them.
        let call = Box::pin(call);
        async move {
            let turn = async {
                // Nobody closes the semaphore, so that no error is possible: the call runs in any case.
                let _permit = self.permits.acquire().await;
                call.await
            };
            let late = || Trouble::Late(self.within.as_secs_f64().to_string());
            tokio::time::timeout(self.within, turn).await.map_err(|_elapsed| late())
        }
    }

    /// Runs a call; what went wrong is told to the log in full, and to whoever asked as a reference.
    pub(crate) fn read<T, E: Display + std::error::Error + 'static>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, E>>,
    ) -> impl Future<Output = Result<T, Trouble>> {
        let run = self.run(call);
        async move {
            match run.await {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(error)) => Err(report(what, &error)),
                Err(late) => {
                    tracing::warn!(what, "the store did not answer in time");
                    Err(late)
                }
            }
        }
    }
}

/// Tells the log what went wrong, and answers the reference under which it is found there.
pub(crate) fn report(what: &'static str, error: &(dyn std::error::Error + 'static)) -> Trouble {
    use ergon_core::Rng as _;
    let reference = format!("{:08x}", ergon_core::SystemRng.next_u64() >> 32);
    let error = ergon_core::text::error_chain(error);
    tracing::warn!(what, reference, error, "the store reported a failure");
    Trouble::Failed(reference)
}
