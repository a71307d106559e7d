//! Role *enqueue*: the caller encodes, the writer checks unique keys and adds.

use std::sync::Arc;

use async_trait::async_trait;
use ergon_core::{
    NewTask, Now, StoreError, TaskEvent, TaskId,
    store::{Enqueue, Inserted, check_insert},
    time::from_micros,
};
use jiff::Timestamp;

use crate::{
    RedbStore,
    batch::Batch,
    live::{Live, TaskState},
    record::encode_body,
};

/// A task on its way to the writer.
pub(crate) struct NewRow {
    pub(crate) id: TaskId,
    pub(crate) state: TaskState,
    body: Vec<u8>,
}

/// Encodes a task, and numbers its names if they are new.
pub(crate) fn encode(task: &NewTask, now: Timestamp, live: &mut Live) -> NewRow {
    let queue = live.names.number_queue(&task.spec.queue);
    let kind = live.names.number_kind(&task.spec.kind);
    let (body_head, body) = encode_body(task, queue, kind, now);
    let progress = body_head.fresh();
    NewRow { id: task.id, state: TaskState { body: body_head, progress }, body }
}

/// Adds a task, unless it is there already or its unique key is taken.
pub(crate) fn add(batch: &mut Batch<'_>, row: NewRow) -> Result<Inserted, StoreError> {
    if batch.exists(row.id)? {
        return Ok(Inserted::AlreadyExists);
    }
    if let Some(unique) = row.state.body.unique {
        let now = row.state.body.created_at;
        match batch.key_holder(&unique.hash, now)? {
            // The task is gone, and holds the key for its time all the same.
            Some(holder) if holder == row.id => return Ok(Inserted::AlreadyExists),
            Some(of) => return Ok(Inserted::Duplicate { of }),
            None => {}
        }
        batch.take_key(&unique, row.id, now)?;
    }
    let progress = &row.state.progress;
    let enqueued = TaskEvent::Enqueued { run_at: progress.run_at, priority: progress.priority };
    batch.tell(from_micros(row.state.body.created_at), row.state.key(row.id), &enqueued);
    batch.add(row.id, row.state, row.body);
    Ok(Inserted::Created)
}

#[async_trait]
impl Enqueue for RedbStore {
    async fn insert(&self, tasks: &[NewTask], now: Now) -> Result<Vec<Inserted>, StoreError> {
        let shared = Arc::clone(self.shared());
        let now = now.resolve(&*shared.clock);
        check_insert(tasks, &shared.limits, now)?;
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<NewRow> = {
            let mut live = shared.live();
            tasks.iter().map(|task| encode(task, now, &mut live)).collect()
        };
        let bytes = rows.iter().map(|row| row.body.len()).sum();
        shared
            .write(bytes, move |batch| {
                rows.into_iter().map(|row| add(batch, row)).collect::<Result<Vec<_>, _>>()
            })
            .await
    }
}
