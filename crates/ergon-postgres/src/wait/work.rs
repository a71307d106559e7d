//! Waits for work: until it rings, until the next task is due, or until it is time to look again.

use std::{cmp::min, future::pending, sync::Arc, time::Duration};

use ergon_core::{KindName, QueueName};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

use super::{Questions, jittered};
use crate::doorbell::{Bell, Look, Watch};

/// How long nobody looks while others are heard: hints are lost only with a connection, which is
/// noticed, or with a process that dies between its commit and its ring. Chosen without measurement.
const HEARING_INTERVAL: Duration = Duration::from_secs(5);

/// Those who wait for work.
#[derive(Debug)]
pub(super) struct Work {
    questions: Arc<dyn Questions>,
    bell: Arc<Bell>,
    poll_interval: Duration,
    tasks: TaskTracker,
}

impl Work {
    pub(super) const fn new(
        questions: Arc<dyn Questions>,
        bell: Arc<Bell>,
        poll_interval: Duration,
        tasks: TaskTracker,
    ) -> Self {
        Self { questions, bell, poll_interval, tasks }
    }

    /// Waits until there is work, for ever if need be.
    pub(super) async fn wait(&self, queues: &[QueueName], kinds: &[KindName]) {
        if queues.is_empty() || kinds.is_empty() {
            return pending().await;
        }
        let arrived = Instant::now();
        let watch = self.bell.watch(queues, kinds);
        let mut rings = watch.listen();
        loop {
            // From here on no ring is missed; only then may be looked.
            let before = *rings.borrow_and_update();
            let until = match self.look(&watch, arrived).await {
                Some(look) if look.is_due => return,
                Some(look) => look.until,
                None => Instant::now() + jittered(self.poll_interval),
            };
            // Whether it is a ring or the time, the next look tells; work itself needs none.
            timeout_at(until, rings.changed()).await.unwrap_or(Ok(())).unwrap_or_default();
            if rings.borrow().due != before.due {
                return;
            }
        }
    }

    /// Looks, unless what was seen last is good enough; `None` when the database does not answer.
    async fn look(&self, watch: &Arc<Watch>, arrived: Instant) -> Option<Look> {
        let mut last = Arc::clone(&watch.look).lock_owned().await;
        if let Some(last) = *last
            && last.rings == watch.rings()
            && if last.is_due { last.began > arrived } else { Instant::now() < last.until }
        {
            return Some(last);
        }
        let (questions, watch) = (Arc::clone(&self.questions), Arc::clone(watch));
        let (bell, poll_interval) = (Arc::clone(&self.bell), self.poll_interval);
        let looking = self.tasks.spawn(async move {
            let (began, rings) = (Instant::now(), watch.rings());
            let interval = if bell.is_listening() { HEARING_INTERVAL } else { poll_interval };
            // The claim that follows reports what is wrong with the database.
            let due = questions.due(&watch.queues, &watch.kinds).await.ok()?;
            let until = Instant::now() + min(due.unwrap_or(Duration::MAX), jittered(interval));
            let look = Look { began, rings, until, is_due: due == Some(Duration::ZERO) };
            *last = Some(look);
            Some(look)
        });
        // A task that panicked, or ended with its runtime, saw nothing.
        looking.await.unwrap_or_default()
    }
}
