//! Counts the failures that a server sees, by what they have in common.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{FailureRecord, Fingerprint, pattern};
use crate::{
    document::Put,
    event::{Event, Excerpt, Fact, TaskEvent},
    id::{ServerId, TaskId},
    name::KindName,
    progress::ErrorKind,
    statistics::{OTHER, Resolution, SET_BACK},
    time::between,
};

/// Most fingerprints that a server tells apart within an hour; the others are summed.
pub const FINGERPRINTS_MAX: usize = 200;

/// Most writes that wait for a store that takes none; the oldest go first.
const PENDING_MAX: usize = 2_048;

/// Counts what a server tells its sinks of failures, for its own documents.
///
/// Attempts that do not fail cost next to nothing.
#[derive(Debug)]
pub struct Collector {
    server: ServerId,
    hour: Timestamp,
    groups: BTreeMap<Fingerprint, Group>,
    /// The failure before: a storm of them has one face.
    last: Option<Last>,
    /// What was not written yet, by key.
    pending: BTreeMap<String, Put>,
}

#[derive(Debug)]
struct Group {
    record: FailureRecord,
    is_changed: bool,
}

#[derive(Debug)]
struct Last {
    kind: KindName,
    reason: ErrorKind,
    message: Excerpt,
    fingerprint: Fingerprint,
}

impl Collector {
    /// A collector for the documents of a server.
    #[must_use]
    pub fn new(server: ServerId) -> Self {
        let (groups, pending) = (BTreeMap::new(), BTreeMap::new());
        Self { server, hour: Timestamp::MIN, groups, last: None, pending }
    }

    /// Counts the failures among events that are told at `now`.
    pub fn fold(&mut self, events: &[Event], now: Timestamp) {
        for event in events {
            if let Fact::Task { task, event } = &event.fact {
                self.count(task.id, &task.kind, event, now);
            }
        }
    }

    /// Counts what happened to a task, told at `now`, if it failed.
    pub fn count(&mut self, id: TaskId, kind: &KindName, event: &TaskEvent, now: Timestamp) {
        if let TaskEvent::Retried { reason, error, .. } | TaskEvent::Failed { reason, error, .. } =
            event
        {
            self.add(id, kind, *reason, error, now);
        }
    }

    /// The writes that tell what has changed, and those that were given out before and not
    /// [written](Self::written).
    pub fn flush(&mut self, now: Timestamp) -> Vec<Put> {
        self.keep();
        self.turn(now);
        while self.pending.len() > PENDING_MAX {
            self.pending.pop_first();
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

    fn add(
        &mut self,
        task: TaskId,
        kind: &KindName,
        reason: ErrorKind,
        message: &Excerpt,
        now: Timestamp,
    ) {
        self.turn(now);
        let is_last =
            |last: &&Last| last.kind == *kind && last.reason == reason && last.message == *message;
        let known = self.last.as_ref().filter(is_last).map(|last| last.fingerprint);
        if let Some(group) = known.and_then(|fingerprint| self.groups.get_mut(&fingerprint)) {
            return group.count(task, message, now);
        }
        let pattern = pattern(message.as_str());
        let mut fingerprint = Fingerprint::of_pattern(kind, reason, &pattern);
        let mut fresh = (kind.clone(), reason, pattern);
        // One group is for all the others.
        let is_full = self.groups.len() + 1 >= FINGERPRINTS_MAX;
        if is_full && !self.groups.contains_key(&fingerprint) {
            fingerprint = Fingerprint::OTHER;
            fresh = (KindName::new(OTHER).unwrap_or(fresh.0), ErrorKind::Error, String::new());
        }
        let group = self.groups.entry(fingerprint).or_insert_with(|| {
            let (kind, reason, pattern) = fresh;
            let (message, count, first_at, last_at) = (String::new(), 0, now, now);
            let last_task = task;
            let record = FailureRecord {
                kind,
                reason,
                pattern,
                message,
                count,
                first_at,
                last_at,
                last_task,
            };
            Group { record, is_changed: false }
        });
        group.count(task, message, now);
        let (kind, message) = (kind.clone(), message.clone());
        self.last = Some(Last { kind, reason, message, fingerprint });
    }

    /// Goes on to the hour of `now`. An hour that is over does not come again when a clock is set back a
    /// little: counts that began anew would replace those written then.
    fn turn(&mut self, now: Timestamp) {
        let hour = Resolution::Hour.floor(now);
        let is_set_back = now < self.hour && between(now, self.hour) <= SET_BACK;
        if hour != self.hour && !is_set_back {
            self.keep();
            self.groups.clear();
            self.last = None;
            self.hour = hour;
        }
    }

    fn keep(&mut self) {
        for (fingerprint, group) in &mut self.groups {
            if std::mem::replace(&mut group.is_changed, false) {
                let put = group.record.put(self.hour, *fingerprint, self.server);
                // A record can be written as JSON whatever it holds.
                self.pending.extend(put.ok().map(|put| (put.key.clone(), put)));
            }
        }
    }
}

impl Group {
    fn count(&mut self, task: TaskId, message: &Excerpt, now: Timestamp) {
        let record = &mut self.record;
        record.count += 1;
        record.first_at = std::cmp::min(record.first_at, now);
        record.last_at = std::cmp::max(record.last_at, now);
        record.last_task = task;
        if record.message != message.as_str() {
            message.as_str().clone_into(&mut record.message);
        }
        self.is_changed = true;
    }
}
