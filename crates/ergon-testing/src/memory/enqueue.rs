//! Role *enqueue* of the memory store: takes new tasks.

use async_trait::async_trait;
use ergon_core::{
    Event, NewTask, Now, Progress, StoreError, TaskEvent, UniqueKey, UniqueScope,
    store::{Enqueue, Inserted, check_insert},
    time::after,
};
use jiff::Timestamp;

use super::{Entry, Holder, MemoryStore, Model};

#[async_trait]
impl Enqueue for MemoryStore {
    async fn insert(&self, tasks: &[NewTask], now: Now) -> Result<Vec<Inserted>, StoreError> {
        let now = self.now(now);
        check_insert(tasks, &self.shared.limits, now)?;
        // Nothing can fail from here on, so that the batch is stored whole.
        Ok(self.write(|model, events| {
            tasks.iter().map(|task| model.insert(task, now, events)).collect()
        }))
    }
}

impl Model {
    fn insert(&mut self, task: &NewTask, now: Timestamp, events: &mut Vec<Event>) -> Inserted {
        if self.tasks.contains_key(&task.id) {
            return Inserted::AlreadyExists;
        }
        if let Some(key) = task.spec.unique {
            match self.holder(&key.hash, now) {
                Some(of) if of == task.id => return Inserted::AlreadyExists,
                Some(of) => return Inserted::Duplicate { of },
                None => self.keys.insert(key.hash, hold(task, key, now)),
            };
        }
        self.queues.entry(task.spec.queue.clone()).or_default();
        let run_at = task.run_at.resolve(now);
        let entry = Entry {
            spec: task.spec.clone(),
            created_at: now,
            progress: Progress::fresh(task.priority, task.max_attempts, run_at),
            lease: None,
            report: None,
        };
        let enqueued = TaskEvent::Enqueued { run_at, priority: task.priority };
        events.push(entry.event(task.id, 0, enqueued, now));
        self.tasks.insert(task.id, entry);
        Inserted::Created
    }
}

fn hold(task: &NewTask, key: UniqueKey, now: Timestamp) -> Holder {
    let until = match key.scope {
        UniqueScope::For(period) => Some(after(now, period)),
        UniqueScope::UntilStarted | UniqueScope::UntilFinished | UniqueScope::While(_) => None,
    };
    Holder { id: task.id, until }
}
