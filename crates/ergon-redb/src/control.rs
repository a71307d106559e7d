//! Role *control*: carries out an operator's commands.

use std::sync::Arc;

use async_trait::async_trait;
use ergon_core::{
    Applied, Command, CommandVerdict, Now, Order, Page, QueueName, Selection, StoreError,
    TaskFilter, TaskId,
    limits::{BATCH_MAX, PAGE_MAX},
    outcome::{check_batch, check_limit},
    store::{Capabilities, Control, Inspect, QueueChange},
    transition,
};
use jiff::Timestamp;

use crate::{
    RedbStore,
    batch::{Batch, Edit},
    live::TaskState,
    shared::Shared,
};

#[async_trait]
impl Control for RedbStore {
    async fn apply(
        &self,
        selection: &Selection,
        command: &Command,
        now: Now,
    ) -> Result<Applied, StoreError> {
        let shared = Arc::clone(self.shared());
        let now = now.resolve(&*shared.clock);
        let error_bytes_max = shared.limits.error_bytes_max;
        let (ids, more, is_exact) = match selection {
            Selection::Ids(ids) => {
                check_batch(ids.len())?;
                (ids.clone(), false, true)
            }
            Selection::Matching { filter, limit } => {
                check_limit(*limit, BATCH_MAX)?;
                let (ids, more) = self.matching(filter, *limit, now).await?;
                (ids, more, false)
            }
        };
        let command = transition::check_command(command.clone(), error_bytes_max, now)
            .map_err(StoreError::rejected)?;
        if ids.is_empty() {
            return Ok(Applied { verdicts: Vec::new(), more });
        }
        let wanted = match selection {
            Selection::Matching { filter, .. } => filter.wanted_states(),
            Selection::Ids(_) => ergon_core::StateSet::ALL,
        };
        let verdicts = Arc::clone(&shared)
            .write(ids.len() * 64, move |batch| {
                let mut verdicts = Vec::with_capacity(ids.len());
                for id in ids {
                    // What matched may have moved on since it was looked for.
                    let state = batch.look(id, |task| task.progress.state(now))?;
                    if !is_exact && !state.is_some_and(|state| wanted.contains(state)) {
                        continue;
                    }
                    verdicts.push((id, carry_out(batch, &shared, id, &command, now)?));
                }
                Ok(verdicts)
            })
            .await?;
        Ok(Applied { verdicts, more })
    }

    async fn set_queue(&self, queue: &QueueName, change: &QueueChange) -> Result<(), StoreError> {
        let (queue, change) = (queue.clone(), *change);
        self.shared()
            .write(64, move |batch| {
                let number = batch.live().names.number_queue(&queue);
                let row = batch.queue_row(number)?;
                row.is_paused = change.paused.unwrap_or(row.is_paused);
                Ok(())
            })
            .await
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::none().durable(self.is_durable())
    }
}

impl RedbStore {
    /// The oldest tasks that match, and whether there are more.
    async fn matching(
        &self,
        filter: &TaskFilter,
        limit: usize,
        now: Timestamp,
    ) -> Result<(Vec<TaskId>, bool), StoreError> {
        let mut ids = Vec::new();
        let mut page = Page::of(PAGE_MAX).order(Order::OldestFirst);
        loop {
            let found = self.list(filter, &page, Now::At(now)).await?;
            ids.extend(found.tasks.iter().map(|task| task.id));
            match found.next {
                Some(_) if ids.len() > limit => break,
                Some(next) => page = page.after(next),
                None => break,
            }
        }
        let more = ids.len() > limit;
        ids.truncate(limit);
        Ok((ids, more))
    }
}

fn carry_out(
    batch: &mut Batch<'_>,
    shared: &Shared,
    id: TaskId,
    command: &Command,
    now: Timestamp,
) -> Result<CommandVerdict, StoreError> {
    let carried_out = batch.edit(id, |TaskState { body, progress }| {
        let retention = shared.retention.chosen_by(body.retention);
        let verdict = transition::command(progress, &retention, command, now);
        let edit = match (verdict, command) {
            (CommandVerdict::Applied, Command::Delete) => Edit::Removed,
            (CommandVerdict::Applied | CommandVerdict::Requested, _) => Edit::Changed,
            (
                CommandVerdict::Unchanged | CommandVerdict::Illegal(_) | CommandVerdict::NotFound,
                _,
            ) => Edit::Unchanged,
        };
        ((verdict, body.unique.filter(|_| edit == Edit::Removed)), edit)
    })?;
    let Some((verdict, freed)) = carried_out else { return Ok(CommandVerdict::NotFound) };
    if let Some(unique) = freed {
        batch.free_key(&unique, id)?;
    }
    if verdict == CommandVerdict::Requested {
        // The request has to survive the owner, who may never answer it.
        batch.note(id)?;
    }
    Ok(verdict)
}
