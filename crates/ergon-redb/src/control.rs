//! Role *control*: carries out an operator's commands.

use std::sync::Arc;

use async_trait::async_trait;
use ergon_core::{
    Applied, Command, CommandVerdict, Event, Now, Order, Page, QueueName, Selection, StoreError,
    TaskEvent, TaskFilter, TaskId,
    document::{Put, PutVerdict, check_puts},
    limits::{BATCH_MAX, PAGE_MAX},
    outcome::{check_batch, check_limit},
    store::{Capabilities, Control, Inspect, QueueChange},
    time::to_micros,
    transition,
};
use jiff::Timestamp;

use crate::{
    RedbStore,
    batch::{Batch, Edit},
    document,
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
            return Ok(Applied { more, ..Applied::default() });
        }
        let wanted = match selection {
            Selection::Matching { filter, .. } => filter.wanted_states(),
            Selection::Ids(_) => ergon_core::StateSet::ALL,
        };
        Arc::clone(&shared)
            .write(ids.len() * 64, move |batch| {
                let mut applied = Applied { more, ..Applied::default() };
                for id in ids {
                    // What matched may have moved on since it was looked for.
                    let state = batch.look(id, |task| task.progress.state(now))?;
                    if !is_exact && !state.is_some_and(|state| wanted.contains(state)) {
                        continue;
                    }
                    let (verdict, event) = carry_out(batch, &shared, id, &command, now)?;
                    applied.verdicts.push((id, verdict));
                    applied.events.extend(event);
                }
                Ok(applied)
            })
            .await
    }

    async fn set_queue(&self, queue: &QueueName, change: &QueueChange) -> Result<bool, StoreError> {
        let (queue, change) = (queue.clone(), *change);
        let shared = self.shared();
        let now = shared.clock.now();
        shared
            .write(64, move |batch| {
                let number = batch.live().names.number_queue(&queue);
                let row = batch.queue_row(number)?;
                let is_paused = change.paused.unwrap_or(row.is_paused);
                let was_paused = std::mem::replace(&mut row.is_paused, is_paused);
                if was_paused != is_paused {
                    batch.tell_queue(now, number, is_paused);
                }
                Ok(was_paused != is_paused)
            })
            .await
    }

    async fn put(&self, puts: &[Put]) -> Result<Vec<PutVerdict>, StoreError> {
        check_puts(puts)?;
        if puts.is_empty() {
            return Ok(Vec::new());
        }
        let (puts, shared) = (puts.to_vec(), Arc::clone(self.shared()));
        let bytes = puts.iter().filter_map(|put| put.body.as_ref()).map(bytes::Bytes::len).sum();
        let now = to_micros(shared.clock.now());
        shared.write(bytes, move |batch| document::put(batch, &puts, now)).await
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::none().durable(self.is_durable()).limits(self.shared().limits)
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
) -> Result<(CommandVerdict, Option<Event>), StoreError> {
    let carried_out = batch.edit(id, |task| {
        let key = task.key(id);
        let TaskState { body, progress } = task;
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
        let freed = body.unique.filter(|_| edit == Edit::Removed);
        ((verdict, freed, (edit != Edit::Unchanged).then_some(key)), edit)
    })?;
    let Some((verdict, freed, changed)) = carried_out else {
        return Ok((CommandVerdict::NotFound, None));
    };
    if let Some(unique) = freed {
        batch.free_key(&unique, id)?;
    }
    if verdict == CommandVerdict::Requested {
        // The request has to survive the owner, who may never answer it.
        batch.note(id)?;
    }
    let Some(key) = changed else { return Ok((verdict, None)) };
    let event = TaskEvent::of_command(command, verdict == CommandVerdict::Requested);
    batch.tell(now, key, &event);
    Ok((verdict, batch.event(now, key, event)))
}
