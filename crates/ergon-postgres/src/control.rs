//! Role *control*: carries out an operator's commands.

use async_trait::async_trait;
use ergon_core::{
    Applied, Command, CommandVerdict, Event, Now, Order, Page, QueueName, Selection, StoreError,
    SystemClock, TaskEvent, TaskFilter, TaskId,
    document::{Put, PutVerdict},
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
    value::column,
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
        let (mut verdicts, mut events) = (Vec::with_capacity(ids.len()), Vec::new());
        for chunk in ids.chunks(CHUNK) {
            let applying = Box::pin(shared.apply(chunk, &command, now));
            let (decided, happened) = shared.database.within_deadline(applying).await?;
            verdicts.extend(decided);
            events.extend(happened);
        }
        Ok(Applied { verdicts, more, events })
    }

    async fn set_queue(&self, queue: &QueueName, change: &QueueChange) -> Result<bool, StoreError> {
        let shared = self.shared();
        let setting = Box::pin(shared.set_queue(queue, change));
        let is_changed = shared.database.within_deadline(setting).await?;
        if change.paused == Some(false) {
            shared.ring(std::slice::from_ref(queue));
        }
        Ok(is_changed)
    }

    async fn put(&self, puts: &[Put]) -> Result<Vec<PutVerdict>, StoreError> {
        let shared = self.shared();
        shared.database.within_deadline(Box::pin(shared.put_documents(puts))).await
    }

    fn capabilities(&self) -> Capabilities {
        let none = Capabilities::none().limits(self.shared().limits);
        none.durable(self.is_durable()).multi_process(true)
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

    /// Says whether it was otherwise before.
    async fn set_queue(&self, queue: &QueueName, change: &QueueChange) -> Result<bool, StoreError> {
        // A statement of its own makes it, so that the next one can lock what it changes.
        let known = self.sql.queues_known.with(vec![queue.as_str()]);
        self.database.execute(|| known.query()).await?;
        let query = self.sql.set_queue.with(queue.as_str()).with(change.paused);
        let row = self.database.row(|| query.query()).await?;
        self.tell_readers(&row)?;
        column(&row, "is_changed")
    }

    async fn apply(
        &self,
        ids: &[TaskId],
        command: &Command,
        now: Now,
    ) -> Result<(Vec<(TaskId, CommandVerdict)>, Vec<Event>), StoreError> {
        let find = place::by_id(&self.sql, ids, Payload::Skip);
        self.change(&find, |change| {
            let now = change.now().map(|clock| resolve(now, clock));
            let mut verdicts = Vec::with_capacity(ids.len());
            for &id in ids {
                let Some((entry, now)) = change.task(id).zip(now) else {
                    verdicts.push((id, CommandVerdict::NotFound));
                    continue;
                };
                let attempt = entry.newest_attempt();
                let retention = self.retention.chosen_by(entry.found.retention());
                let verdict = transition::command(&mut entry.progress, &retention, command, now);
                let is_applied = verdict == CommandVerdict::Applied;
                let is_requested = verdict == CommandVerdict::Requested;
                entry.is_removed = *command == Command::Delete && is_applied;
                if is_applied || is_requested {
                    let event = TaskEvent::of_command(command, is_requested);
                    let event = entry.event(attempt, event, now);
                    change.tell(event);
                }
                verdicts.push((id, verdict));
            }
            Ok((verdicts, change.events().to_vec()))
        })
        .await
    }
}
