//! The journal in memory: who watches, where it ends, and what has to be told of claims.
//!
//! Events are recorded by the [`Recorder`] of a batch, in its transaction. A claim is no batch: what
//! it has to tell waits here for the next one, which writes it before anything that happens to the
//! task later.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use ergon_core::{
    Clock, Rejection, StoreError, TaskEvent, WatcherName,
    store::{Cursor, WATCHERS_MAX, Watch, Watched, WatcherInfo},
    time::{after, from_micros, to_micros},
};

mod check;
mod entry;
mod event;
mod reader;
mod recorder;
mod unended;
mod varint;
mod watcher;
mod window;

pub(crate) use self::{
    check::check,
    event::{NameLists, TaskKey},
    reader::{changes, parse_cursor},
    recorder::{Recorder, Written},
    unended::{Unended, unended},
    watcher::Watcher,
    window::{Limits, Window},
};

/// What claims have to tell is written so soon after it happened, if nothing else is.
pub(crate) const TELL_AFTER: Duration = Duration::from_millis(10);

/// Events that wait for a batch at the most; then whoever has more to tell waits for the writer.
pub(crate) const PENDING_MAX: usize = 65_536;

/// Nobody watches.
const NOBODY: i64 = i64::MIN;
/// Somebody watches for ever.
const FOR_EVER: i64 = i64::MAX;

/// What happened without a batch.
#[derive(Debug)]
pub(crate) enum Pending {
    /// To a running task, at an instant in microseconds.
    Task(i64, TaskKey, TaskEvent),
    /// Something that nobody watched.
    Missed,
}

/// The journal as memory knows it.
#[derive(Debug)]
pub(crate) struct Journal {
    /// What its cursors are told from others by.
    number: u64,
    limits: Limits,
    clock: Arc<dyn Clock>,
    window: Window,
    /// The newest entry is a break, and nothing was recorded or watched since: further changes are
    /// told of by it.
    is_broken: bool,
    watchers: BTreeMap<WatcherName, Watcher>,
    /// Until then everything is recorded, by store time in microseconds.
    watched_until: i64,
    pending: Vec<Pending>,
    /// When the oldest event came that waits.
    pending_since: Option<Instant>,
    /// A batch has taken events that waited, and is not committed yet.
    is_being_told: bool,
}

impl Journal {
    pub(crate) fn new(number: u64, limits: Limits, clock: Arc<dyn Clock>) -> Self {
        Self {
            number,
            limits,
            clock,
            window: Window::default(),
            // After an opening the first change that nobody watches is always told of: what was
            // handed out before is not known.
            is_broken: false,
            watchers: BTreeMap::new(),
            watched_until: NOBODY,
            pending: Vec::new(),
            pending_since: None,
            is_being_told: false,
        }
    }

    /// Takes over what the file holds.
    pub(crate) fn load(&mut self, window: Window, watchers: BTreeMap<WatcherName, Watcher>) {
        self.window = window;
        self.watchers = watchers;
        self.settle_watchers();
    }

    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    pub(crate) const fn window(&self) -> Window {
        self.window
    }

    /// Whether everything is recorded now.
    pub(crate) fn is_watched(&self) -> bool {
        match self.watched_until {
            NOBODY => false,
            FOR_EVER => true,
            until => to_micros(self.clock.now()) < until,
        }
    }

    /// What records the events of a batch that begins now.
    pub(crate) fn recorder(&self) -> Recorder {
        let (is_watched, clock) = (self.is_watched(), Arc::clone(&self.clock));
        Recorder::new(is_watched, self.is_broken, self.window, self.limits, clock)
    }

    /// The end of the journal: the entry behind which a reader goes on. One that goes on from before
    /// a break is told of what nobody watched.
    pub(crate) const fn end(&self) -> u64 {
        if self.is_broken { self.window.newest.saturating_sub(1) } else { self.window.newest }
    }

    /// Takes over what a committed batch has written; says whether there is something new.
    pub(crate) fn publish(&mut self, written: Option<&Written>) -> bool {
        self.is_being_told = false;
        let Some(written) = written else { return false };
        let has_news = written.window.newest > self.window.newest;
        self.window = written.window;
        self.is_broken = written.is_broken;
        has_news
    }
}

/// What waits for the next batch.
impl Journal {
    /// Tells of something that happened without a batch; says whether the writer has to be nudged.
    pub(crate) fn push(&mut self, at: i64, task: TaskKey, event: TaskEvent) -> bool {
        // Of what is missed behind it no break that is there tells.
        self.is_broken = false;
        self.pending.push(Pending::Task(at, task, event));
        let is_first = self.pending_since.is_none();
        self.pending_since.get_or_insert_with(Instant::now);
        is_first
    }

    /// Notes that something happened without a batch which nobody watched.
    pub(crate) fn miss(&mut self) {
        if !self.is_broken && !matches!(self.pending.last(), Some(Pending::Missed)) {
            self.pending.push(Pending::Missed);
        }
    }

    /// Takes what waits, to be written by the batch that the writer has in its hands.
    pub(crate) fn take_pending(&mut self) -> Vec<Pending> {
        self.is_being_told |= self.pending_since.take().is_some();
        std::mem::take(&mut self.pending)
    }

    /// When the events that wait have to be written.
    pub(crate) fn tell_at(&self) -> Option<Instant> {
        self.pending_since.map(|since| since + TELL_AFTER)
    }

    /// Whether there are events that the next commit will have written.
    pub(crate) const fn has_pending(&self) -> bool {
        self.pending_since.is_some() || self.is_being_told
    }

    /// Whether so many wait that no more should come.
    pub(crate) const fn is_full(&self) -> bool {
        self.pending.len() >= PENDING_MAX
    }
}

/// Those who watch.
impl Journal {
    /// Has everything recorded from now on, and answers where to read from, `end` being the end of the
    /// journal; beside it the row that made room.
    ///
    /// # Errors
    ///
    /// [`StoreError::Rejected`] when there are too many watchers; nothing was changed.
    pub(crate) fn watch(
        &mut self,
        watch: &Watch,
        end: u64,
    ) -> Result<(Watched, Option<WatcherName>), StoreError> {
        let now = self.clock.now();
        let mut removed = None;
        if !self.watchers.contains_key(&watch.name) && self.watchers.len() >= WATCHERS_MAX {
            let name = self.longest_over(to_micros(now));
            let name = name.ok_or_else(|| {
                StoreError::rejected(Rejection::TooManyWatchers { max: WATCHERS_MAX })
            })?;
            self.watchers.remove(&name);
            removed = Some(name);
        }
        let until = watch.lease.map(|lease| to_micros(after(now, lease)));
        let watcher = self.watchers.entry(watch.name.clone()).or_default();
        let kept = watcher.reached.take();
        watcher.until = until;
        watcher.reached = watch.reached.clone().or_else(|| kept.clone());
        self.settle_watchers();
        self.is_broken = false;
        let is_resumed = kept.is_some();
        let cursor = match kept {
            Some(kept) => kept,
            None => self.cursor(end)?,
        };
        Ok((Watched { cursor, is_resumed }, removed))
    }

    /// Of the watchers whose lease is over, the one that is over for longest.
    fn longest_over(&self, now: i64) -> Option<WatcherName> {
        let over = self.watchers.iter().filter(|(_, watcher)| !watcher.is_live(now));
        over.min_by_key(|(_, watcher)| watcher.until).map(|(name, _)| name.clone())
    }

    /// Ends a watch; says whether there was one.
    pub(crate) fn unwatch(&mut self, name: &WatcherName) -> bool {
        let had = self.watchers.remove(name).is_some();
        self.settle_watchers();
        had
    }

    pub(crate) fn watcher(&self, name: &WatcherName) -> Option<&Watcher> {
        self.watchers.get(name)
    }

    /// Those who watch now, by name.
    pub(crate) fn watchers(&self) -> Vec<WatcherInfo> {
        let now = to_micros(self.clock.now());
        let live = self.watchers.iter().filter(|(_, watcher)| watcher.is_live(now));
        let info = |(name, watcher): (&WatcherName, &Watcher)| WatcherInfo {
            name: name.clone(),
            until: watcher.until.map(from_micros),
            reached: watcher.reached.clone(),
        };
        live.map(info).collect()
    }

    fn settle_watchers(&mut self) {
        let untils = self.watchers.values().map(|watcher| watcher.until.unwrap_or(FOR_EVER));
        self.watched_until = untils.max().unwrap_or(NOBODY);
    }

    /// The cursor behind an entry.
    pub(crate) fn cursor(&self, entry: u64) -> Result<Cursor, StoreError> {
        reader::cursor(self.number, entry)
    }
}

#[cfg(test)]
mod tests {
    use ergon_core::{TaskId, time::from_micros};
    use ergon_testing::VirtualClock;

    use super::*;

    #[test]
    fn what_is_missed_behind_what_is_told_is_noted() {
        let clock = VirtualClock::new(from_micros(0));
        let limits = Limits { bytes_max: 1 << 20, age_max: i64::MAX };
        let mut journal = Journal::new(7, limits, Arc::new(clock));
        journal.miss();
        journal.miss();
        assert!(matches!(journal.take_pending()[..], [Pending::Missed]));
        // A batch has told of it, and then the clock was set back to a time that is watched.
        journal.is_broken = true;
        let task = TaskKey { id: TaskId::MIN, queue: 0, kind: 0, attempt: 1 };
        journal.push(0, task, TaskEvent::Released);
        journal.miss();
        assert!(matches!(journal.take_pending()[..], [Pending::Task(..), Pending::Missed]));
    }
}
