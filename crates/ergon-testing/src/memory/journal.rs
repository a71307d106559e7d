//! The journal of the memory store: what happened while somebody watched, and who does.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use ergon_core::{
    Event, Rejection, StoreError, TaskEvent, WatcherName,
    event::Fact,
    store::{Changes, Cursor, EventId, Gap, Recorded, WATCHERS_MAX, Watch, Watched, WatcherInfo},
    time::after,
};
use jiff::Timestamp;

/// How much of the past a journal keeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) bytes_max: usize,
    pub(super) age_max: Duration,
}

impl Default for Window {
    fn default() -> Self {
        Self { bytes_max: 64 << 20, age_max: Duration::from_secs(3600) }
    }
}

/// What happened while somebody watched, and who does.
#[derive(Debug)]
pub(super) struct Journal {
    /// What it is told from other journals by.
    number: u64,
    window: Window,
    watchers: BTreeMap<WatcherName, Watcher>,
    /// Numbered one by one; the last one is `newest`.
    entries: VecDeque<Entry>,
    newest: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Watcher {
    /// When its lease ends; none for a durable one.
    until: Option<Timestamp>,
    reached: Option<Cursor>,
}

impl Watcher {
    fn is_live(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

/// What one change recorded.
#[derive(Debug)]
struct Entry {
    number: u64,
    /// By the clock of the store, whatever instant the request named.
    recorded_at: Timestamp,
    bytes: usize,
    /// Empty where recording began anew: what happened before is not known.
    events: Vec<Event>,
}

impl Journal {
    /// An empty journal that nobody watches.
    pub(super) fn new(number: u64, window: Window) -> Self {
        let (watchers, entries) = (BTreeMap::new(), VecDeque::new());
        Self { number, window, watchers, entries, newest: 0, bytes: 0 }
    }

    /// Records what one change made happen, if somebody watches.
    pub(super) fn record(&mut self, events: Vec<Event>, now: Timestamp) {
        if !events.is_empty() && self.is_watched(now) {
            self.push(events, now);
        }
    }

    pub(super) fn watch(&mut self, watch: &Watch, now: Timestamp) -> Result<Watched, StoreError> {
        if !self.watchers.contains_key(&watch.name) {
            self.make_room(now)?;
        }
        if !self.is_watched(now) {
            self.push(Vec::new(), now);
        }
        let latest = self.latest();
        let until = watch.lease.map(|lease| after(now, lease));
        let fresh = Watcher { until, reached: None };
        let watcher = self.watchers.entry(watch.name.clone()).or_insert(fresh);
        let kept = watcher.reached.clone();
        watcher.until = until;
        watcher.reached = watch.reached.clone().or_else(|| kept.clone());
        Ok(Watched { is_resumed: kept.is_some(), cursor: kept.unwrap_or(latest) })
    }

    pub(super) fn unwatch(&mut self, name: &WatcherName) -> bool {
        self.watchers.remove(name).is_some()
    }

    pub(super) fn watchers(&self, now: Timestamp) -> Vec<WatcherInfo> {
        let live = self.watchers.iter().filter(|(_, watcher)| watcher.is_live(now));
        let info = |(name, Watcher { until, reached }): (&WatcherName, &Watcher)| WatcherInfo {
            name: name.clone(),
            until: *until,
            reached: reached.clone(),
        };
        live.map(info).collect()
    }

    pub(super) fn latest(&self) -> Cursor {
        self.cursor(self.newest)
    }

    /// Says whether a read behind the cursor would answer something new.
    pub(super) fn has_news(&self, after: &Cursor) -> bool {
        self.place(after).is_none_or(|place| place < self.newest)
    }

    pub(super) fn changes(&mut self, after: &Cursor, limit: usize, now: Timestamp) -> Changes {
        self.trim(now);
        let Some(mut place) = self.place(after) else {
            let (gap, cursor) = (Some(Gap::Foreign), self.latest());
            return Changes { gap, events: Vec::new(), cursor, more: false };
        };
        let oldest = self.entries.front().map_or(self.newest + 1, |entry| entry.number);
        let mut gap = (place + 1 < oldest).then_some(Gap::Expired);
        if gap.is_some() {
            place = oldest - 1;
        }
        let mut events = Vec::new();
        // Entries are numbered one by one.
        let skipped = usize::try_from(place + 1 - oldest).unwrap_or(usize::MAX);
        for entry in self.entries.iter().skip(skipped) {
            let is_gap = entry.events.is_empty();
            // What lies before a gap and what lies behind it are two answers.
            if events.len() >= limit || is_gap && !events.is_empty() {
                break;
            }
            if is_gap {
                gap = gap.or(Some(Gap::Unrecorded));
            }
            events.extend(self.recorded(entry));
            place = entry.number;
        }
        let more = place < self.newest;
        if events.is_empty() && !more && !self.is_watched(now) {
            gap = gap.or(Some(Gap::Unrecorded));
        }
        Changes { gap, events, cursor: self.cursor(place), more }
    }

    fn recorded<'e>(&self, entry: &'e Entry) -> impl Iterator<Item = Recorded> + use<'e> {
        let (journal, number) = (self.number, entry.number);
        (0_u32..).zip(&entry.events).map(move |(index, event)| Recorded {
            id: EventId { journal, entry: number, index },
            event: event.clone(),
        })
    }

    fn is_watched(&self, now: Timestamp) -> bool {
        self.watchers.values().any(|watcher| watcher.is_live(now))
    }

    /// Sees to it that one more watcher can be kept.
    fn make_room(&mut self, now: Timestamp) -> Result<(), StoreError> {
        if self.watchers.len() < WATCHERS_MAX {
            return Ok(());
        }
        let over = self.watchers.iter().filter(|(_, watcher)| !watcher.is_live(now));
        match over.min_by_key(|(_, watcher)| watcher.until).map(|(name, _)| name.clone()) {
            Some(name) => {
                self.unwatch(&name);
                Ok(())
            }
            None => Err(StoreError::rejected(Rejection::TooManyWatchers { max: WATCHERS_MAX })),
        }
    }

    fn push(&mut self, events: Vec<Event>, now: Timestamp) {
        self.newest += 1;
        let bytes = events.iter().map(event_bytes).sum::<usize>();
        self.bytes += bytes;
        let entry = Entry { number: self.newest, recorded_at: now, bytes, events };
        self.entries.push_back(entry);
        self.trim(now);
    }

    /// Forgets what left the window.
    fn trim(&mut self, now: Timestamp) {
        while let Some(oldest) = self.entries.front() {
            let is_old = after(oldest.recorded_at, self.window.age_max) <= now;
            let is_too_much = self.bytes > self.window.bytes_max && self.entries.len() > 1;
            if !is_old && !is_too_much {
                break;
            }
            self.bytes -= oldest.bytes;
            self.entries.pop_front();
        }
    }

    /// The place behind an entry.
    #[expect(clippy::unwrap_used, reason = "a letter, digits and a dot are a cursor")]
    fn cursor(&self, entry: u64) -> Cursor {
        Cursor::new(format!("m{:016x}.{entry}", self.number)).unwrap()
    }

    /// The entry that a cursor lies behind, unless it is of another journal or from the future.
    fn place(&self, cursor: &Cursor) -> Option<u64> {
        let (journal, entry) = cursor.as_str().strip_prefix('m')?.split_once('.')?;
        let entry: u64 = entry.parse().ok()?;
        let is_own = u64::from_str_radix(journal, 16) == Ok(self.number) && entry <= self.newest;
        is_own.then_some(entry)
    }
}

/// About how much memory an event takes.
fn event_bytes(event: &Event) -> usize {
    let text = match &event.fact {
        Fact::Task { event: TaskEvent::Retried { error, .. }, .. }
        | Fact::Task { event: TaskEvent::Failed { error, .. }, .. } => error.as_str().len(),
        _ => 0,
    };
    size_of::<Event>() + text
}
