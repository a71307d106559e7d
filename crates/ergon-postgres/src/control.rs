//! Role *control*: carries out an operator's commands.

use async_trait::async_trait;
use ergon_core::{
    Applied, Command, CommandVerdict, Now, Order, Page, QueueName, Selection, StoreError,
    SystemClock, TaskFilter, TaskId,
    limits::{BATCH_MAX, PAGE_MAX},
    outcome::{check_batch, check_limit},
    store::{Capabilities, Control, QueueChange},
    transition,
};

use crate::{
    PostgresStore,
    dispatch::resolve,
    place::{self, Payload},
    shared::Shared,
};

/// How many tasks are changed by one statement.
const CHUNK: usize = 1_000;

#[async_trait]
impl Control for PostgresStore {
    async fn apply(
        &self,
        selection: &Selection,
        command: &Command,
        now: Now,
    ) -> Result<Applied, StoreError> {
        match selection {
            Selection::Ids(ids) => check_batch(ids.len())?,
            Selection::Matching { limit, .. } => check_limit(*limit, BATCH_MAX)?,
        }
        let shared = self.shared();
        // Ten years are not a matter of whose clock it is.
        let about = now.resolve(&SystemClock);
        let command =
            transition::check_command(command.clone(), shared.limits.error_bytes_max, about)
                .map_err(StoreError::rejected)?;
        let (ids, more) = match selection {
            Selection::Ids(ids) => (ids.clone(), false),
            Selection::Matching { filter, limit } => shared.matching(filter, *limit, now).await?,
        };
        let mut verdicts = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(CHUNK) {
            let applying = Box::pin(shared.apply(chunk, &command, now));
            verdicts.extend(shared.database.within_deadline(applying).await?);
        }
        Ok(Applied { verdicts, more })
    }

    async fn set_queue(&self, queue: &QueueName, change: &QueueChange) -> Result<(), StoreError> {
        let shared = self.shared();
        let query = shared.sql.set_queue.with(queue.as_str()).with(change.paused);
        shared.database.execute(|| query.query()).await?;
        if change.paused == Some(false) {
            shared.ring(std::slice::from_ref(queue));
        }
        Ok(())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::none().durable(self.is_durable()).multi_process(true)
    }
}

impl Shared {
    /// The oldest tasks that match, and whether more do.
    async fn matching(
        &self,
        filter: &TaskFilter,
        limit: usize,
        now: Now,
    ) -> Result<(Vec<TaskId>, bool), StoreError> {
        let mut ids = Vec::new();
        let mut page = Page::of(PAGE_MAX).order(Order::OldestFirst);
        loop {
            let read = self.list(filter, &page, now, Payload::Skip).await?;
            ids.extend(read.tasks.iter().map(|task| task.id));
            let more = ids.len() > limit;
            ids.truncate(limit);
            match read.next {
                Some(next) if !more => page = page.after(next),
                _ => return Ok((ids, more)),
            }
        }
    }

    async fn apply(
        &self,
        ids: &[TaskId],
        command: &Command,
        now: Now,
    ) -> Result<Vec<(TaskId, CommandVerdict)>, StoreError> {
        let find = place::by_id(&self.sql, ids, Payload::Skip);
        self.change(&find, |change| {
            let now = change.now().map(|clock| resolve(now, clock));
            let mut verdicts = Vec::with_capacity(ids.len());
            for &id in ids {
                let verdict = change.task(id).zip(now).map(|(entry, now)| {
                    let retention = self.retention.chosen_by(entry.found.retention());
                    let verdict =
                        transition::command(&mut entry.progress, &retention, command, now);
                    entry.is_removed =
                        *command == Command::Delete && verdict == CommandVerdict::Applied;
                    verdict
                });
                verdicts.push((id, verdict.unwrap_or(CommandVerdict::NotFound)));
            }
            Ok(verdicts)
        })
        .await
    }
}
