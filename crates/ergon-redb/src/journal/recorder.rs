//! Records what one batch makes happen, and writes it in its transaction.

use std::sync::Arc;

use ergon_core::{Clock, ServerId, StoreError, TaskEvent, event::ServerEvent, time::to_micros};
use redb::Table;

use super::{
    Pending,
    entry::Entry,
    event::{Events, TaskKey},
    window::{Limits, Window},
};
use crate::{error::backend, key::NameId, table::Record};

/// What a batch has recorded.
#[derive(Debug)]
pub(crate) struct Recorder {
    is_watched: bool,
    /// Further changes that nobody watches are told of by a break that is there.
    is_broken: bool,
    /// The journal before the batch.
    window: Window,
    limits: Limits,
    clock: Arc<dyn Clock>,
    entries: Vec<Entry>,
    /// The entry that is being filled, behind the others.
    open: Option<Events>,
    /// The table has to be looked at even if nothing was recorded.
    is_due: bool,
}

/// What memory has to learn of the journal once a batch is committed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(super) window: Window,
    pub(super) is_broken: bool,
}

impl Recorder {
    pub(super) const fn new(
        is_watched: bool,
        is_broken: bool,
        window: Window,
        limits: Limits,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            is_watched,
            is_broken,
            window,
            limits,
            clock,
            entries: Vec::new(),
            open: None,
            is_due: false,
        }
    }

    /// Takes over what the file holds, since transactions of the application have written there.
    pub(crate) const fn adopt(&mut self, window: Window, is_broken: bool) {
        self.window = window;
        self.is_broken = is_broken;
        self.is_due = true;
    }

    /// Removes what has left the window, also if nothing was recorded.
    pub(crate) fn tidy(&mut self) {
        self.is_due |= self.window.is_over(self.limits, to_micros(self.clock.now()));
    }

    /// Whether what happens now is recorded.
    pub(crate) const fn is_watched(&self) -> bool {
        self.is_watched
    }

    /// Has what happens from now on recorded, or not.
    pub(crate) const fn set_watched(&mut self, is_watched: bool) {
        self.is_watched = is_watched;
        self.is_broken &= !is_watched;
    }

    /// Ends the entry that is being filled, and answers the number of the last one: the place from
    /// which nothing that comes is missed.
    pub(crate) fn seal(&mut self) -> u64 {
        let filled = self.open.take().filter(|events| !events.bytes().is_empty());
        self.entries.extend(filled.map(Entry::Events));
        self.window.newest + u64::try_from(self.entries.len()).unwrap_or(0)
    }

    /// Notes that something happened. Nothing is written but the first time after something was
    /// recorded.
    pub(crate) fn miss(&mut self) {
        if !self.is_broken {
            self.seal();
            self.entries.push(Entry::Break);
            self.is_broken = true;
        }
    }

    /// Records what happened without a batch.
    pub(crate) fn absorb(&mut self, pending: Vec<Pending>) {
        for pending in pending {
            match pending {
                Pending::Task(at, task, event) => self.push_task(at, task, &event),
                Pending::Missed => self.miss(),
            }
        }
    }

    /// Records what happened to a task, if somebody watches.
    pub(crate) fn task(&mut self, at: i64, task: TaskKey, event: &TaskEvent) {
        if self.is_watched {
            self.push_task(at, task, event);
        } else {
            self.miss();
        }
    }

    fn push_task(&mut self, at: i64, task: TaskKey, event: &TaskEvent) {
        if self.open().push_task(at, task, event) {
            self.is_broken = false;
        } else {
            self.miss();
        }
    }

    /// Records that tasks were removed, if somebody watches.
    pub(crate) fn pruned(&mut self, at: i64, tasks: u64) {
        self.other(|events| {
            events.push_pruned(at, tasks);
            true
        });
    }

    /// Records that a queue was paused or resumed, if somebody watches.
    pub(crate) fn queue(&mut self, at: i64, queue: NameId, is_paused: bool) {
        self.other(|events| {
            events.push_queue(at, queue, is_paused);
            true
        });
    }

    /// Records what happened to a server, if somebody watches.
    pub(crate) fn server(&mut self, at: i64, server: ServerId, event: &ServerEvent) {
        self.other(|events| events.push_server(at, server, event));
    }

    fn other(&mut self, push: impl FnOnce(&mut Events) -> bool) {
        if self.is_watched && push(self.open()) {
            self.is_broken = false;
        } else {
            self.miss();
        }
    }

    fn open(&mut self) -> &mut Events {
        self.open.get_or_insert_default()
    }

    /// Whether there is nothing to write, nor for memory to learn.
    pub(crate) const fn is_idle(&self) -> bool {
        self.entries.is_empty() && self.open.is_none() && !self.is_due
    }

    /// Writes what was recorded behind what the journal holds, and removes what has left its window.
    pub(crate) fn write(
        &mut self,
        table: &mut Table<'_, u64, Record>,
    ) -> Result<Written, StoreError> {
        self.seal();
        let now = to_micros(self.clock.now());
        let mut window = self.append(table, self.window, now)?;
        window.trim(table, self.limits, now)?;
        Ok(Written { window, is_broken: self.is_broken })
    }

    /// Writes what was recorded in a transaction of the application: behind what that has written
    /// itself, of which memory does not know.
    pub(crate) fn write_foreign(
        &mut self,
        table: &mut Table<'_, u64, Record>,
    ) -> Result<(), StoreError> {
        self.seal();
        let (window, ends_broken) = Window::read(table)?;
        let is_told = ends_broken && window.newest > self.window.newest;
        if is_told && matches!(self.entries[..], [Entry::Break]) {
            return Ok(());
        }
        self.append(table, window, to_micros(self.clock.now())).map(drop)
    }

    fn append(
        &self,
        table: &mut Table<'_, u64, Record>,
        mut window: Window,
        now: i64,
    ) -> Result<Window, StoreError> {
        for entry in &self.entries {
            let (record, total) = entry.encode(now, window.bytes());
            window.add(now, total);
            table.insert(window.newest, record.as_slice()).map_err(backend)?;
        }
        Ok(window)
    }
}
