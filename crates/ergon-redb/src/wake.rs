//! Wakes those who wait for work, for news, or for the end of a task.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use ergon_core::TaskId;
use tokio::sync::Notify;

/// Those who wait.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    /// For work, whatever the queue.
    pub(crate) work: Notify,
    /// For something new in the journal.
    pub(crate) journal: Notify,
    /// For the end of a task: how many wait, and what wakes them.
    finish: Mutex<HashMap<TaskId, (usize, Arc<Notify>)>>,
}

impl Wake {
    /// Registers for the end of a task, until the registration is dropped.
    pub(crate) fn register(&self, id: TaskId) -> Registration<'_> {
        let mut finish = self.finish.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = finish.entry(id).or_default();
        entry.0 += 1;
        let notify = Arc::clone(&entry.1);
        drop(finish);
        Registration { wake: self, id, notify }
    }

    /// Wakes those who wait for these tasks.
    pub(crate) fn finished(&self, ids: &[TaskId]) {
        let finish = self.finish.lock().unwrap_or_else(PoisonError::into_inner);
        if finish.is_empty() {
            return;
        }
        for (_, notify) in ids.iter().filter_map(|id| finish.get(id)) {
            notify.notify_waiters();
        }
    }

    /// Wakes everybody: the store is closed, or failed.
    pub(crate) fn everybody(&self) {
        self.work.notify_waiters();
        self.journal.notify_waiters();
        let finish = self.finish.lock().unwrap_or_else(PoisonError::into_inner);
        finish.values().for_each(|(_, notify)| notify.notify_waiters());
    }
}

/// Somebody who waits for the end of a task.
#[derive(Debug)]
pub(crate) struct Registration<'w> {
    wake: &'w Wake,
    id: TaskId,
    pub(crate) notify: Arc<Notify>,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        let mut finish = self.wake.finish.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = finish.get_mut(&self.id) {
            entry.0 -= 1;
            if entry.0 == 0 {
                finish.remove(&self.id);
            }
        }
    }
}
