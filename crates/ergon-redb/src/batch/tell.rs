//! What a batch tells those who watch, and how it writes that.

use ergon_core::{
    Event, ServerId, StoreError, TaskEvent, WatcherName,
    event::{ServerEvent, TaskRef},
    store::{Watch, Watched},
    time::to_micros,
};
use jiff::Timestamp;

use super::Batch;
use crate::{
    error::backend,
    journal::{TaskKey, Window, Written},
    key::NameId,
    live::Live,
    table::WATCHER,
};

impl Batch<'_> {
    /// Whether what happens now is recorded.
    pub(crate) const fn is_watched(&self) -> bool {
        self.journal.is_watched()
    }

    /// Tells what happened to a task, if somebody watches.
    pub(crate) fn tell(&mut self, at: Timestamp, task: TaskKey, event: &TaskEvent) {
        self.journal.task(to_micros(at), task, event);
    }

    /// Notes that something happened that nobody watches.
    pub(crate) fn miss(&mut self) {
        self.journal.miss();
    }

    /// Tells that tasks were removed, if somebody watches.
    pub(crate) fn tell_pruned(&mut self, at: Timestamp, tasks: u64) {
        self.journal.pruned(to_micros(at), tasks);
    }

    /// Tells that a queue was paused or resumed, if somebody watches.
    pub(crate) fn tell_queue(&mut self, at: Timestamp, queue: NameId, is_paused: bool) {
        self.journal.queue(to_micros(at), queue, is_paused);
    }

    /// Tells what happened to a server, if somebody watches.
    pub(crate) fn tell_server(&mut self, at: Timestamp, server: ServerId, event: &ServerEvent) {
        self.journal.server(to_micros(at), server, event);
    }

    /// What happened to a task, in the words of those outside; `None` when they have no name for its
    /// queue or kind, which only damage explains.
    pub(crate) fn event(&self, at: Timestamp, task: TaskKey, event: TaskEvent) -> Option<Event> {
        let live = self.live();
        let TaskKey { id, attempt, .. } = task;
        let queue = live.names.queues().get(task.queue as usize)?.clone();
        let kind = live.names.kinds().get(task.kind as usize)?.clone();
        Some(Event::task(at, TaskRef { id, queue, kind, attempt }, event))
    }

    /// Removes what has left the window of the journal.
    pub(crate) fn tidy_journal(&mut self) {
        self.journal.tidy();
    }

    /// Takes over what transactions of the application have written to the journal.
    pub(crate) fn adopt_journal(&mut self, window: Window, is_broken: bool) {
        self.journal.adopt(window, is_broken);
        // It is shown only once a commit of the store's own has made it durable.
        self.is_dirty = true;
    }

    /// Has everything recorded from here on.
    ///
    /// The outer error voids the batch, the inner one changed nothing.
    pub(crate) fn watch(
        &mut self,
        watch: &Watch,
    ) -> Result<Result<Watched, StoreError>, StoreError> {
        let answer = self.with_journal(|recorder, live| {
            let end = recorder.seal();
            let answer = live.journal.watch(watch, end);
            recorder.set_watched(live.journal.is_watched());
            answer
        });
        let (watched, removed) = match answer {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(error)),
        };
        let row = self.live().journal.watcher(&watch.name).map(crate::journal::Watcher::encode);
        let mut table = self.tables.transaction().open_table(WATCHER).map_err(backend)?;
        if let Some(removed) = removed {
            table.remove(removed.as_str()).map_err(backend)?;
        }
        if let Some(row) = row {
            table.insert(watch.name.as_str(), row.as_slice()).map_err(backend)?;
        }
        self.is_dirty = true;
        Ok(Ok(watched))
    }

    /// Ends a watch; says whether there was one.
    pub(crate) fn unwatch(&mut self, name: &WatcherName) -> Result<bool, StoreError> {
        let had = self.with_journal(|recorder, live| {
            let had = live.journal.unwatch(name);
            recorder.set_watched(live.journal.is_watched());
            had
        });
        if had {
            let mut table = self.tables.transaction().open_table(WATCHER).map_err(backend)?;
            table.remove(name.as_str()).map_err(backend)?;
            self.is_dirty = true;
        }
        Ok(had)
    }

    /// Does something with the journal while nobody claims, once all is recorded that was told before.
    fn with_journal<T>(
        &mut self,
        work: impl FnOnce(&mut crate::journal::Recorder, &mut Live) -> T,
    ) -> T {
        let shared = std::sync::Arc::clone(&self.live);
        let mut live = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.journal.absorb(live.journal.take_pending());
        work(&mut self.journal, &mut live)
    }

    /// Writes what was recorded.
    pub(super) fn write_journal(&mut self) -> Result<Option<Written>, StoreError> {
        if self.is_foreign {
            if !self.journal.is_idle() {
                self.journal.write_foreign(self.tables.journal()?)?;
            }
            return Ok(None);
        }
        self.with_journal(|_recorder, _live| {});
        if self.journal.is_idle() {
            return Ok(None);
        }
        self.is_dirty = true;
        self.journal.write(self.tables.journal()?).map(Some)
    }
}
