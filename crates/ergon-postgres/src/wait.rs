//! Waits for work and for the end of tasks, asking the database as rarely as the doorbell allows.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use ergon_core::{KindName, QueueName, StoreError, SystemRng, TaskId, rng::duration_up_to};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use self::{finish::Finish, work::Work};
use crate::doorbell::Bell;

mod finish;
mod question;
#[cfg(test)]
mod tests;
mod work;

pub(crate) use self::question::Asking;

/// What waits ask the database.
#[async_trait]
pub(crate) trait Questions: fmt::Debug + Send + Sync {
    /// How long it is until a task of these kinds is due in one of these queues, zero when one is;
    /// `None` when none is known.
    async fn due(
        &self,
        queues: &[QueueName],
        kinds: &[KindName],
    ) -> Result<Option<Duration>, StoreError>;

    /// Those of the tasks that are finished or gone.
    async fn finished(&self, ids: &[TaskId]) -> Result<Vec<TaskId>, StoreError>;
}

/// The waits of a process.
///
/// Questions are asked by tasks of their own, since waits are often dropped, and a statement whose
/// future is dropped costs its connection.
#[derive(Debug)]
pub(crate) struct Waits {
    work: Work,
    finish: Finish,
    /// The questions under way.
    tasks: TaskTracker,
}

impl Waits {
    /// `poll_interval` is how often work is looked for while other processes are not heard.
    pub(crate) fn new(
        questions: Arc<dyn Questions>,
        bell: Arc<Bell>,
        poll_interval: Duration,
    ) -> Self {
        let tasks = TaskTracker::new();
        Self {
            work: Work::new(Arc::clone(&questions), bell, poll_interval, tasks.clone()),
            tasks: tasks.clone(),
            finish: Finish::new(questions, tasks),
        }
    }

    /// Waits until a task of these kinds is due in one of these queues, or `within` has passed; at
    /// once when there is one. See [`Dispatch`](ergon_core::store::Dispatch::wait_for_work).
    ///
    /// An answer of the database is good until it rings, until the next task is due, and for some
    /// seconds; while others are not heard, for the poll interval. Waits that fall into this time
    /// share it, one after another as well as at once.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait changes nothing.
    pub(crate) async fn wait_for_work(
        &self,
        queues: &[QueueName],
        kinds: &[KindName],
        within: Duration,
    ) {
        // Work and the end of the time are answered alike.
        timeout(within, self.work.wait(queues, kinds)).await.unwrap_or_default();
    }

    /// Waits until the task is finished or gone, or `within` has passed; says whether it is.
    ///
    /// All waits of a process ask together, each of them every 20 ms at first and every 500 ms in
    /// the end.
    ///
    /// # Errors
    ///
    /// What the database reports. What may pass, as a lost connection does, is reported at the end
    /// of the time only.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait is forgotten.
    pub(crate) async fn wait_for_finish(
        &self,
        id: TaskId,
        within: Duration,
    ) -> Result<bool, StoreError> {
        let mut passing = None;
        match timeout(within, self.finish.wait(id, &mut passing)).await {
            Ok(finished) => finished.map(|()| true),
            Err(_elapsed) => passing.map_or(Ok(false), Err),
        }
    }

    /// Tells that these tasks may be finished or gone, so that those who wait for them ask at once.
    /// To be called after the commit.
    pub(crate) fn finished(&self, ids: impl IntoIterator<Item = TaskId>) {
        self.finish.ask_now(ids);
    }

    /// Waits until no question is under way any more.
    pub(crate) async fn settled(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }
}

/// Between three quarters and all of `interval`, so that processes do not ask together.
fn jittered(interval: Duration) -> Duration {
    interval - duration_up_to(&SystemRng, interval / 4)
}
