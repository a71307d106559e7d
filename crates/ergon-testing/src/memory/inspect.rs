//! Role *inspect* of the memory store: reads.

use std::{pin::pin, time::Duration};

use async_trait::async_trait;
use ergon_core::{
    Count, Now, Order, Page, Phase, StoreError, TaskFilter, TaskId, TaskPage, TaskRecord,
    document::{Document, DocumentRange},
    filter::{COUNT_SCAN_MAX, PageBuilder},
    outcome::check_batch,
    store::{Inspect, QueueInfo, StateCounts},
};
use jiff::Timestamp;
use tokio::time::timeout;

use super::{Entry, MemoryStore, Model};

#[async_trait]
impl Inspect for MemoryStore {
    async fn tasks(&self, ids: &[TaskId], now: Now) -> Result<Vec<Option<TaskRecord>>, StoreError> {
        check_batch(ids.len())?;
        let now = self.now(now);
        let model = self.read();
        let read = |&id| model.tasks.get(&id).map(|entry| entry.record(id, now));
        Ok(ids.iter().map(read).collect())
    }

    async fn list(
        &self,
        filter: &TaskFilter,
        page: &Page,
        now: Now,
    ) -> Result<TaskPage, StoreError> {
        page.check()?;
        let now = self.now(now);
        let model = self.read();
        let mut matching: Vec<_> = model.matching(filter, now).collect();
        let is_behind = |id: TaskId, after: TaskId| match page.order {
            Order::OldestFirst => id > after,
            Order::NewestFirst => id < after,
        };
        matching.retain(|&(id, _)| page.after.is_none_or(|after| is_behind(id, after)));
        if page.order == Order::NewestFirst {
            matching.reverse();
        }
        let mut builder = PageBuilder::new(page);
        for (id, entry) in matching {
            if !builder.offer(entry.record(id, now)) {
                break;
            }
        }
        Ok(builder.finish())
    }

    async fn count(&self, filter: &TaskFilter, now: Now) -> Result<Count, StoreError> {
        let now = self.now(now);
        let matching = u64::try_from(self.read().matching(filter, now).count()).unwrap_or(u64::MAX);
        let is_exact = filter.is_counted() || matching <= COUNT_SCAN_MAX;
        let value = if is_exact { matching } else { COUNT_SCAN_MAX };
        Ok(Count { value, is_exact })
    }

    async fn queues(&self, now: Now) -> Result<Vec<QueueInfo>, StoreError> {
        let now = self.now(now);
        let model = self.read();
        let queues = model.queues.iter().map(|(name, queue)| {
            let (mut counts, mut oldest_due_at) = (StateCounts::default(), None);
            let tasks = model.tasks.values();
            for Entry { progress, .. } in tasks.filter(|entry| entry.spec.queue == *name) {
                counts.add(progress.state(now), 1);
                if progress.phase == Phase::Waiting && progress.run_at <= now {
                    let oldest = oldest_due_at.unwrap_or(progress.run_at);
                    oldest_due_at = Some(std::cmp::min(oldest, progress.run_at));
                }
            }
            QueueInfo { name: name.clone(), is_paused: queue.is_paused, counts, oldest_due_at }
        });
        Ok(queues.collect())
    }

    async fn documents(&self, range: &DocumentRange) -> Result<Vec<Document>, StoreError> {
        self.read_documents(range)
    }

    async fn wait_for_finish(&self, id: TaskId, within: Duration) -> Result<bool, StoreError> {
        let finished = async {
            loop {
                let mut changed = pin!(self.shared.changed.notified());
                // From here on no change is missed; only then may be looked.
                changed.as_mut().enable();
                if self.read().is_over(id) {
                    return true;
                }
                changed.await;
            }
        };
        Ok(timeout(within, finished).await.unwrap_or(false))
    }
}

impl Model {
    /// The tasks that match at `now`, the oldest id first.
    pub(super) fn matching<'m>(
        &'m self,
        filter: &'m TaskFilter,
        now: Timestamp,
    ) -> impl Iterator<Item = (TaskId, &'m Entry)> {
        let tasks = self.tasks.iter().map(|(&id, entry)| (id, entry));
        tasks.filter(move |(_, entry)| {
            filter.matches(&entry.spec, entry.created_at, entry.progress.state(now))
        })
    }

    /// Says whether a task is finished or gone.
    fn is_over(&self, id: TaskId) -> bool {
        let task = self.tasks.get(&id);
        task.is_none_or(|entry| entry.progress.phase.is_terminal())
    }
}
