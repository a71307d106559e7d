//! Role *inspect*: reads.

mod list;
mod sparse;

use std::time::Duration;

use async_trait::async_trait;
use ergon_core::{
    Count, Now, Page, State, StoreError, TaskFilter, TaskId, TaskPage, TaskRecord,
    document::{Document, DocumentRange},
    outcome::check_batch,
    store::{Inspect, QueueInfo, StateCounts},
};
use sqlx::postgres::PgRow;

use crate::{
    PostgresStore,
    dispatch::resolve,
    name::queue_name,
    place::{self, Payload, Place},
    shared::{Shared, given},
    value::{column, instant, small},
};

#[async_trait]
impl Inspect for PostgresStore {
    async fn tasks(&self, ids: &[TaskId], now: Now) -> Result<Vec<Option<TaskRecord>>, StoreError> {
        check_batch(ids.len())?;
        let shared = self.shared();
        shared.database.within_deadline(Box::pin(shared.tasks(ids, now))).await
    }

    async fn list(
        &self,
        filter: &TaskFilter,
        page: &Page,
        now: Now,
    ) -> Result<TaskPage, StoreError> {
        page.check()?;
        let shared = self.shared();
        let listing = Box::pin(shared.list(filter, page, now, Payload::Read));
        shared.database.within_deadline(listing).await
    }

    async fn count(&self, filter: &TaskFilter, now: Now) -> Result<Count, StoreError> {
        let shared = self.shared();
        if !filter.is_counted() {
            let counting = Box::pin(shared.count_one_by_one(filter, now));
            return shared.database.within_deadline(counting).await;
        }
        let queues = shared.queues(now).await?;
        let wanted =
            |queue: &&QueueInfo| filter.queues.is_empty() || filter.queues.contains(&queue.name);
        let counts =
            queues.iter().filter(wanted).map(|queue| queue.counts.sum(filter.wanted_states()));
        Ok(Count { value: counts.sum(), is_exact: true })
    }

    async fn documents(&self, range: &DocumentRange) -> Result<Vec<Document>, StoreError> {
        self.shared().documents(range).await
    }

    async fn queues(&self, now: Now) -> Result<Vec<QueueInfo>, StoreError> {
        self.shared().queues(now).await
    }

    async fn wait_for_finish(&self, id: TaskId, within: Duration) -> Result<bool, StoreError> {
        self.shared().waits().wait_for_finish(id, within).await
    }
}

impl Shared {
    async fn tasks(&self, ids: &[TaskId], now: Now) -> Result<Vec<Option<TaskRecord>>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let query = place::by_id(&self.sql, ids, Payload::Read);
        let rows = self.database.rows(|| query.query()).await?;
        let found = place::read(&mut self.each(), &self.sql, &self.names, &rows).await?;
        let mut tasks = vec![None; ids.len()];
        for (row, found) in rows.iter().zip(found) {
            if found.place == Place::Gone {
                continue;
            }
            let at = small::<usize, i64>(column(row, "ord")?)?;
            let now = resolve(now, found.now);
            if let Some(slot) = at.checked_sub(1).and_then(|at| tasks.get_mut(at)) {
                *slot = Some(found.record(now)?);
            }
        }
        Ok(tasks)
    }

    pub(crate) async fn queues(&self, now: Now) -> Result<Vec<QueueInfo>, StoreError> {
        self.freshen_bounds().await;
        let (lanes, bounds) = self.bounds.columns();
        let query = self.sql.queues.with(given(now)).with(lanes).with(bounds);
        let rows = self.database.rows(|| query.query()).await?;
        for row in &rows {
            self.bounds.know(column::<Option<Vec<i32>>>(row, "lanes")?.unwrap_or_default());
        }
        let mut queues = rows.iter().map(queue_info).collect::<Result<Vec<_>, _>>()?;
        queues.sort_by(|one, two| one.name.cmp(&two.name));
        Ok(queues)
    }
}

fn queue_info(row: &PgRow) -> Result<QueueInfo, StoreError> {
    let number = |name| small::<u64, i64>(column(row, name)?);
    let (scheduled, retrying) = (number("scheduled")?, number("retrying")?);
    let mut counts = StateCounts::default();
    counts.add(State::Scheduled, scheduled);
    counts.add(State::Retrying, retrying);
    counts.add(State::Pending, number("waiting")?.saturating_sub(scheduled + retrying));
    counts.add(State::Running, number("running")?);
    counts.add(State::Completed, number("completed")?);
    counts.add(State::Failed, number("failed")?);
    counts.add(State::Cancelled, number("cancelled")?);
    Ok(QueueInfo {
        name: queue_name(column(row, "name")?)?,
        is_paused: column(row, "paused")?,
        counts,
        oldest_due_at: instant(row, "oldest_due_at")?,
    })
}
