//! Role *inspect*: reads one consistent snapshot of file and memory.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use ergon_core::{
    Count, Now, Page, StoreError, TaskFilter, TaskId, TaskPage, TaskRecord,
    document::{Document, DocumentRange, check_range},
    outcome::check_batch,
    store::{Inspect, QueueInfo},
    time::to_micros,
};

use crate::{
    RedbStore,
    dispatch::far_from_now,
    document,
    reader::{Snapshot, count, counts, list},
    shared::{Shared, blocking},
};

impl RedbStore {
    /// Reads a snapshot that holds what every answered write wrote.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Snapshot) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = self.settled().await?;
        blocking(move || work(&Snapshot::open(&shared)?)).await
    }

    /// Waits until memory knows of what transactions of the application have added.
    pub(crate) async fn settled(&self) -> Result<Arc<Shared>, StoreError> {
        let shared = self.shared();
        shared.check_open()?;
        // Looked at in this order: they are taken only once memory says so.
        if has_adoptions(shared) || shared.live().is_adopting {
            shared.write(0, |_batch| Ok(())).await?;
        }
        Ok(Arc::clone(shared))
    }
}

fn has_adoptions(shared: &Shared) -> bool {
    let adoptions = shared.adoptions.lock();
    !adoptions.unwrap_or_else(std::sync::PoisonError::into_inner).is_empty()
}

#[async_trait]
impl Inspect for RedbStore {
    async fn tasks(&self, ids: &[TaskId], now: Now) -> Result<Vec<Option<TaskRecord>>, StoreError> {
        check_batch(ids.len())?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let now = now.resolve(&*self.shared().clock);
        let ids = ids.to_vec();
        let shared = self.settled().await?;
        blocking(move || {
            let snapshot = Snapshot::of_tasks(&shared, &ids)?;
            ids.iter().map(|&id| snapshot.task(id, now)).collect()
        })
        .await
    }

    async fn list(
        &self,
        filter: &TaskFilter,
        page: &Page,
        now: Now,
    ) -> Result<TaskPage, StoreError> {
        page.check()?;
        let now = now.resolve(&*self.shared().clock);
        let (filter, page) = (filter.clone(), *page);
        self.read(move |snapshot| list::list(snapshot, &filter, &page, now)).await
    }

    async fn count(&self, filter: &TaskFilter, now: Now) -> Result<Count, StoreError> {
        let now = now.resolve(&*self.shared().clock);
        let filter = filter.clone();
        self.read(move |snapshot| count::count(snapshot, &filter, now)).await
    }

    async fn queues(&self, now: Now) -> Result<Vec<QueueInfo>, StoreError> {
        let now = to_micros(now.resolve(&*self.shared().clock));
        self.read(move |snapshot| {
            let mut infos = Vec::new();
            for (number, name) in snapshot.queue_names() {
                let (counts, oldest_due_at) = counts::of_queue(snapshot, number, now)?;
                let is_paused = snapshot.queue(number).row.is_paused;
                infos.push(QueueInfo { name, is_paused, counts, oldest_due_at });
            }
            infos.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            Ok(infos)
        })
        .await
    }

    async fn documents(&self, range: &DocumentRange) -> Result<Vec<Document>, StoreError> {
        check_range(range)?;
        let (range, now) = (range.clone(), to_micros(self.shared().clock.now()));
        self.read(move |snapshot| document::read(snapshot.transaction(), &range, now)).await
    }

    async fn wait_for_finish(&self, id: TaskId, within: Duration) -> Result<bool, StoreError> {
        let shared = self.shared();
        let deadline = far_from_now(within);
        let registration = shared.wake.register(id);
        loop {
            let notified = registration.notify.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            let found = self.tasks(&[id], Now::Store).await?.into_iter().next().flatten();
            if found.is_none_or(|task| task.state.is_terminal()) {
                return Ok(true);
            }
            shared.check()?;
            if tokio::time::timeout_at(deadline, notified).await.is_err() {
                return Ok(false);
            }
        }
    }
}
