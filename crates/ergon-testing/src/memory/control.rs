//! Role *control* of the memory store: carries out an operator's commands.

use async_trait::async_trait;
use ergon_core::{
    Applied, Command, CommandVerdict, Now, QueueName, Retention, Selection, StoreError, TaskId,
    limits::BATCH_MAX,
    outcome::{check_batch, check_limit},
    store::{Capabilities, Control, QueueChange},
    transition,
};
use jiff::Timestamp;

use super::{Entry, MemoryStore, Model};

#[async_trait]
impl Control for MemoryStore {
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
        let now = self.now(now);
        let error_bytes_max = self.shared.limits.error_bytes_max;
        let command = transition::check_command(command.clone(), error_bytes_max, now)
            .map_err(StoreError::rejected)?;
        let retention = self.shared.retention;
        Ok(self.write(|model| {
            let (ids, more) = model.select(selection, now);
            let apply = |id| (id, model.apply(id, &command, retention, now));
            let verdicts = ids.into_iter().map(apply).collect();
            Applied { verdicts, more }
        }))
    }

    async fn set_queue(&self, queue: &QueueName, change: &QueueChange) -> Result<(), StoreError> {
        self.write(|model| {
            let queue = model.queues.entry(queue.clone()).or_default();
            if let Some(is_paused) = change.paused {
                queue.is_paused = is_paused;
            }
        });
        Ok(())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::none()
    }
}

impl Model {
    /// The selected tasks as they stand before the command, and whether more match.
    fn select(&self, selection: &Selection, now: Timestamp) -> (Vec<TaskId>, bool) {
        match selection {
            Selection::Ids(ids) => (ids.clone(), false),
            Selection::Matching { filter, limit } => {
                let mut ids: Vec<_> = self.matching(filter, now).map(|(id, _)| id).collect();
                let more = ids.len() > *limit;
                ids.truncate(*limit);
                (ids, more)
            }
        }
    }

    fn apply(
        &mut self,
        id: TaskId,
        command: &Command,
        retention: Retention,
        now: Timestamp,
    ) -> CommandVerdict {
        let verdict = self.change(id, |Entry { progress, spec, .. }| {
            let retention = retention.chosen_by(spec.retention);
            transition::command(progress, &retention, command, now)
        });
        if *command == Command::Delete && verdict == Some(CommandVerdict::Applied) {
            self.delete(id);
        }
        verdict.unwrap_or(CommandVerdict::NotFound)
    }

    /// Removes a task, and frees its unique key whatever the scope.
    fn delete(&mut self, id: TaskId) {
        let key = self.tasks.remove(&id).and_then(|entry| entry.spec.unique);
        if let Some(key) = key {
            self.free_key(&key.hash, id);
        }
    }
}
