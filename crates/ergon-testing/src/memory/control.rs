//! Role *control* of the memory store: carries out an operator's commands.

use async_trait::async_trait;
use ergon_core::{
    Applied, Command, CommandVerdict, Event, Now, QueueName, Retention, Selection, StoreError,
    TaskEvent, TaskId,
    document::{Put, PutVerdict},
    event::QueueEvent,
    limits::BATCH_MAX,
    outcome::{check_batch, check_limit},
    store::{Capabilities, Control, QueueChange},
    transition,
};
use jiff::Timestamp;

use super::{MemoryStore, Model};

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
        Ok(self.write(|model, events| {
            let (ids, more) = model.select(selection, now);
            let apply = |id| (id, model.apply(id, &command, retention, now, events));
            let verdicts = ids.into_iter().map(apply).collect();
            Applied { verdicts, more, events: events.clone() }
        }))
    }

    async fn set_queue(&self, queue: &QueueName, change: &QueueChange) -> Result<bool, StoreError> {
        Ok(self.write(|model, events| {
            let kept = model.queues.entry(queue.clone()).or_default();
            let Some(is_paused) = change.paused else { return false };
            let was_paused = std::mem::replace(&mut kept.is_paused, is_paused);
            if was_paused == is_paused {
                return false;
            }
            let event = if is_paused { QueueEvent::Paused } else { QueueEvent::Resumed };
            events.push(Event::queue(self.now(Now::Store), queue.clone(), event));
            true
        }))
    }

    async fn put(&self, puts: &[Put]) -> Result<Vec<PutVerdict>, StoreError> {
        self.put_documents(puts)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::none().limits(self.shared.limits)
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
        events: &mut Vec<Event>,
    ) -> CommandVerdict {
        let verdict = self.change(id, |entry| {
            let attempt = entry.newest_attempt();
            let retention = retention.chosen_by(entry.spec.retention);
            let verdict = transition::command(&mut entry.progress, &retention, command, now);
            let is_requested = verdict == CommandVerdict::Requested;
            if is_requested || verdict == CommandVerdict::Applied {
                let event = TaskEvent::of_command(command, is_requested);
                events.push(entry.event(id, attempt, event, now));
            }
            verdict
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
