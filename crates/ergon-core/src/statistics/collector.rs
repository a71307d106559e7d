//! Counts events into the slices of the present minute and hour.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{Counts, OTHER, Resolution, put};
use crate::{
    document::Put,
    event::{Event, Fact, TaskEvent},
    id::ServerId,
    name::{KindName, QueueName},
    progress::ErrorKind,
    time::{between, to_micros},
};

/// Most pairs of queue and kind that a server tells apart within an hour; the others are summed under
/// [`OTHER`].
pub const PAIRS_MAX: usize = 256;

/// Most writes that wait for a store that takes none: those of a few minutes at the most pairs, or of
/// an hour at a few. The oldest minutes go first.
const PENDING_MAX: usize = 2_048;

/// A clock that is set back by more than this was wrong before: the counts follow it.
pub(crate) const SET_BACK: Duration = Duration::from_secs(3_600);

/// Counts what a server tells its sinks, for its own documents.
///
/// Cheap: an event takes a few ten nanoseconds, of which nobody waits for a store. Time is that of one
/// clock, given with each call, and never runs backwards by less than an hour.
#[derive(Debug)]
pub struct Collector {
    server: ServerId,
    minute: Timestamp,
    hour: Timestamp,
    /// The minute in microseconds, its end excluded.
    span: (i64, i64),
    pairs: Vec<Pair>,
    places: BTreeMap<QueueName, BTreeMap<KindName, usize>>,
    /// The pair of the event before.
    last: usize,
    /// What was not written yet, by key.
    pending: BTreeMap<String, Put>,
}

#[derive(Debug)]
struct Pair {
    queue: QueueName,
    kind: KindName,
    /// Of this minute.
    minute: Counts,
    /// Of the minutes of this hour before.
    hour: Counts,
    is_minute_changed: bool,
    is_hour_changed: bool,
}

impl Collector {
    /// A collector for the documents of a server.
    #[must_use]
    pub fn new(server: ServerId) -> Self {
        Self {
            server,
            minute: Timestamp::MIN,
            hour: Timestamp::MIN,
            span: (i64::MIN, i64::MIN),
            pairs: Vec::new(),
            places: BTreeMap::new(),
            last: 0,
            pending: BTreeMap::new(),
        }
    }

    /// Counts events that are told at `now`.
    pub fn fold(&mut self, events: &[Event], now: Timestamp) {
        for event in events {
            if let Fact::Task { task, event } = &event.fact {
                self.count(&task.queue, &task.kind, event, now);
            }
        }
    }

    /// Counts what happened to a task, told at `now`.
    pub fn count(&mut self, queue: &QueueName, kind: &KindName, event: &TaskEvent, now: Timestamp) {
        if !is_counted(event) {
            return;
        }
        self.turn(now);
        let is_last = |pair: &Pair| pair.kind == *kind && pair.queue == *queue;
        if !self.pairs.get(self.last).is_some_and(is_last) {
            self.last = self.place(queue, kind);
        }
        if let Some(pair) = self.pairs.get_mut(self.last) {
            (pair.is_minute_changed, pair.is_hour_changed) = (true, true);
            count(&mut pair.minute, event);
        }
    }

    /// The writes that tell what has changed, and those that were given out before and not
    /// [written](Self::written).
    pub fn flush(&mut self, now: Timestamp) -> Vec<Put> {
        self.turn(now);
        for place in 0..self.pairs.len() {
            self.keep_minute(place);
            self.keep_hour(place);
        }
        while self.pending.len() > PENDING_MAX {
            // Hours sort before minutes, and are worth more.
            let minutes = self.pending.range("m".to_owned()..);
            let oldest = minutes.map(|(key, _)| key.clone()).next();
            match oldest.and_then(|key| self.pending.remove(&key)) {
                Some(_dropped) => {}
                None => drop(self.pending.pop_first()),
            }
        }
        self.pending.values().cloned().collect()
    }

    /// Notes that the store has taken these.
    pub fn written(&mut self, puts: &[Put]) {
        for put in puts {
            if self.pending.get(&put.key).is_some_and(|kept| kept.body == put.body) {
                self.pending.remove(&put.key);
            }
        }
    }

    /// Goes on to the minute and hour of `now`.
    fn turn(&mut self, now: Timestamp) {
        let micros = to_micros(now);
        if micros >= self.span.0 && micros < self.span.1 {
            return;
        }
        if now < self.minute && between(now, self.minute) <= SET_BACK {
            return;
        }
        let (minute, hour) = (Resolution::Minute.floor(now), Resolution::Hour.floor(now));
        for place in 0..self.pairs.len() {
            self.keep_minute(place);
            if hour != self.hour {
                self.keep_hour(place);
            } else if let Some(pair) = self.pairs.get_mut(place) {
                pair.hour.merge(&pair.minute);
                pair.minute.clear();
            }
        }
        if hour != self.hour {
            // Pairs that are not seen any more make room for others.
            self.pairs.clear();
            self.places.clear();
        }
        (self.minute, self.hour) = (minute, hour);
        self.span = (to_micros(minute), to_micros(Resolution::Minute.next(minute)));
    }

    fn keep_minute(&mut self, place: usize) {
        let Some(pair) = self.pairs.get_mut(place).filter(|pair| pair.is_minute_changed) else {
            return;
        };
        pair.is_minute_changed = false;
        let (start, server) = (self.minute, self.server);
        let Pair { queue, kind, minute, .. } = pair;
        self.pending.extend(kept(put(Resolution::Minute, start, queue, kind, server, minute)));
    }

    fn keep_hour(&mut self, place: usize) {
        let Some(pair) = self.pairs.get_mut(place).filter(|pair| pair.is_hour_changed) else {
            return;
        };
        pair.is_hour_changed = false;
        let mut counts = pair.hour.clone();
        counts.merge(&pair.minute);
        let (start, server) = (self.hour, self.server);
        let Pair { queue, kind, .. } = pair;
        self.pending.extend(kept(put(Resolution::Hour, start, queue, kind, server, &counts)));
    }

    /// The place of the pair that a task belongs to.
    fn place(&mut self, queue: &QueueName, kind: &KindName) -> usize {
        let known = self.places.get(queue).and_then(|kinds| kinds.get(kind));
        if let Some(&place) = known {
            return place;
        }
        // One place is for all the others.
        if self.pairs.len() + 1 < PAIRS_MAX {
            return self.add(queue.clone(), kind.clone());
        }
        match (QueueName::new(OTHER), KindName::new(OTHER)) {
            (Ok(queue), Ok(kind)) => {
                let known = self.places.get(&queue).and_then(|kinds| kinds.get(&kind)).copied();
                known.unwrap_or_else(|| self.add(queue, kind))
            }
            // It is a good name; otherwise nothing is counted.
            (Err(_), _) | (_, Err(_)) => usize::MAX,
        }
    }

    fn add(&mut self, queue: QueueName, kind: KindName) -> usize {
        let place = self.pairs.len();
        self.places.entry(queue.clone()).or_default().insert(kind.clone(), place);
        let (minute, hour) = (Counts::default(), Counts::default());
        let (is_minute_changed, is_hour_changed) = (false, false);
        self.pairs.push(Pair { queue, kind, minute, hour, is_minute_changed, is_hour_changed });
        place
    }
}

/// A write under its key. Counts can be written as JSON whatever they are.
fn kept(put: Result<Put, serde_json::Error>) -> Option<(String, Put)> {
    put.ok().map(|put| (put.key.clone(), put))
}

/// Says whether an event is about an attempt that begins or ends.
const fn is_counted(event: &TaskEvent) -> bool {
    match event {
        TaskEvent::Started { .. }
        | TaskEvent::Completed { .. }
        | TaskEvent::Retried { .. }
        | TaskEvent::Failed { .. }
        | TaskEvent::Cancelled { ran: Some(_) }
        | TaskEvent::Snoozed { .. }
        | TaskEvent::Released
        | TaskEvent::Rescued => true,
        TaskEvent::Enqueued { .. }
        | TaskEvent::Deduplicated { .. }
        | TaskEvent::Progressed { .. }
        | TaskEvent::CancelRequested
        | TaskEvent::Cancelled { ran: None }
        | TaskEvent::Reopened
        | TaskEvent::Rescheduled { .. }
        | TaskEvent::Reprioritized { .. }
        | TaskEvent::Deleted => false,
    }
}

fn count(counts: &mut Counts, event: &TaskEvent) {
    let (count, ran) = match event {
        TaskEvent::Started { waited, .. } => {
            counts.waited.record(*waited);
            (&mut counts.started, None)
        }
        TaskEvent::Completed { ran } => (&mut counts.completed, Some(*ran)),
        TaskEvent::Retried { ran, .. } => (&mut counts.retried, Some(*ran)),
        // How long the lease of a dead server lasted says nothing of the handler.
        TaskEvent::Failed { reason: ErrorKind::Poison, .. } => (&mut counts.failed, None),
        TaskEvent::Failed { ran, .. } => (&mut counts.failed, Some(*ran)),
        TaskEvent::Cancelled { ran: Some(ran) } => (&mut counts.cancelled, Some(*ran)),
        TaskEvent::Snoozed { .. } => (&mut counts.snoozed, None),
        TaskEvent::Released => (&mut counts.released, None),
        TaskEvent::Rescued => (&mut counts.rescued, None),
        TaskEvent::Enqueued { .. }
        | TaskEvent::Deduplicated { .. }
        | TaskEvent::Progressed { .. }
        | TaskEvent::CancelRequested
        | TaskEvent::Cancelled { ran: None }
        | TaskEvent::Reopened
        | TaskEvent::Rescheduled { .. }
        | TaskEvent::Reprioritized { .. }
        | TaskEvent::Deleted => return,
    };
    *count += 1;
    if let Some(ran) = ran {
        counts.ran.record(ran);
    }
}
