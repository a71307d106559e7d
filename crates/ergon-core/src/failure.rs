//! Failures that are alike, put together: what fails, how often, and since when.
//!
//! Two failures are alike when their tasks are of one kind, they are of one [`ErrorKind`], and their
//! messages differ in nothing but numbers, ids and quoted text. Every server writes what it saw as
//! documents of its own, an hour each; whoever reads adds them up.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    document::{Document, DocumentRange, Put, Space},
    id::{ServerId, TaskId},
    name::KindName,
    progress::ErrorKind,
    statistics::Resolution,
    time::after,
};

mod collector;
mod fingerprint;

pub use self::{
    collector::{Collector, FINGERPRINTS_MAX},
    fingerprint::{Fingerprint, pattern},
};

/// How long an hour of failures is kept: 14 days.
pub const KEPT: Duration = Duration::from_secs(14 * 24 * 3_600);

/// Most documents that are read to answer one query.
pub const DOCUMENTS_MAX: usize = 50_000;

/// Most groups of one answer.
pub const GROUPS_MAX: usize = 1_000;

/// What one server saw of failures that are alike within an hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureRecord {
    /// The kind of the tasks.
    pub kind: KindName,
    /// What kind of failure.
    pub reason: ErrorKind,
    /// What the messages have in common.
    pub pattern: String,
    /// The newest message, its beginning.
    pub message: String,
    /// How many attempts failed so.
    pub count: u64,
    /// When the first one did.
    pub first_at: Timestamp,
    /// When the last one did.
    pub last_at: Timestamp,
    /// The task of the last one.
    pub last_task: TaskId,
}

/// Stands between the parts of a key; no part holds it.
const BETWEEN: char = '|';

impl FailureRecord {
    /// The write that replaces what the server wrote of this hour before.
    ///
    /// # Errors
    ///
    /// What serde reports; nothing here gives it a reason to.
    pub fn put(
        &self,
        hour: Timestamp,
        fingerprint: Fingerprint,
        server: ServerId,
    ) -> Result<Put, serde_json::Error> {
        let key = format!("{hour}{BETWEEN}{fingerprint}{BETWEEN}{server}");
        let expires_at = after(Resolution::Hour.next(hour), KEPT);
        Ok(Put::new(Space::Failure, key, serde_json::to_vec(self)?).expires_at(expires_at))
    }

    /// Reads what a server wrote: of which hour, and under which fingerprint.
    #[must_use]
    pub fn read(document: &Document) -> Option<(Timestamp, Fingerprint, Self)> {
        let mut parts = document.key.split(BETWEEN);
        let (hour, fingerprint) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some((hour, fingerprint, serde_json::from_slice(&document.body).ok()?))
    }
}

/// Which groups come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum FailureOrder {
    /// Those that failed last.
    #[default]
    Newest,
    /// Those that failed most often.
    Most,
}

/// Which failures to read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailureQuery {
    /// From the hour on in which this lies.
    pub from: Timestamp,
    /// Up to this instant; the hour in which it lies is included.
    pub to: Timestamp,
    /// Of this kind of task only.
    pub kind: Option<KindName>,
    /// Those with this fingerprint only.
    pub fingerprint: Option<Fingerprint>,
    /// Which groups come first. Default: the newest.
    pub order: FailureOrder,
    /// How many groups at the most: 1 to 1,000, and cut to that. Default 100.
    pub limit: usize,
}

impl FailureQuery {
    /// All failures from one instant up to another, the newest first.
    #[must_use]
    pub const fn new(from: Timestamp, to: Timestamp) -> Self {
        let order = FailureOrder::Newest;
        Self { from, to, kind: None, fingerprint: None, order, limit: 100 }
    }

    /// Of this kind of task only.
    #[must_use]
    pub fn kind(mut self, kind: KindName) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Those with this fingerprint only.
    #[must_use]
    pub const fn fingerprint(mut self, fingerprint: Fingerprint) -> Self {
        self.fingerprint = Some(fingerprint);
        self
    }

    /// In this order.
    #[must_use]
    pub const fn order(mut self, order: FailureOrder) -> Self {
        self.order = order;
        self
    }

    /// At most so many groups.
    #[must_use]
    pub const fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// The documents to take, the newest first; `None` when the query spans no time.
    pub(crate) fn range(&self) -> Option<DocumentRange> {
        if self.to <= self.from {
            return None;
        }
        let from = Resolution::Hour.floor(self.from).to_string();
        // The hour itself is not a key, as more follows: what begins with it lies behind it.
        let to = format!("{}{}", Resolution::Hour.floor(self.to), char::MAX);
        Some(DocumentRange::all(Space::Failure).from(from).to(to).reversed())
    }
}

/// Failures that are alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FailureGroup {
    /// What they are known by, also in other hours and from other servers.
    pub fingerprint: Fingerprint,
    /// What they have in common, the newest message and task; `count`, `first_at` and `last_at` are
    /// those of the time that was asked for.
    #[serde(flatten)]
    pub record: FailureRecord,
    /// How many there were in each hour, the oldest first; hours without any are left out.
    pub hours: Vec<(Timestamp, u64)>,
}

/// Groups of failures.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Failures {
    /// The groups, in the order asked for.
    pub groups: Vec<FailureGroup>,
    /// How many groups there are, those beyond the limit included.
    pub groups_total: usize,
    /// How many failures there were in all groups.
    pub failures_total: u64,
    /// What failed before this was asked for and is missing, as it is too much.
    pub cut_before: Option<Timestamp>,
    /// How many documents could not be read, as those of a newer version.
    pub unreadable: usize,
}

/// Adds up the documents of a query, the newest first.
#[derive(Debug)]
pub(crate) struct Merge<'q> {
    query: &'q FailureQuery,
    groups: BTreeMap<Fingerprint, (FailureRecord, BTreeMap<Timestamp, u64>)>,
    oldest: Option<Timestamp>,
    unreadable: usize,
}

impl<'q> Merge<'q> {
    pub(crate) const fn new(query: &'q FailureQuery) -> Self {
        Self { query, groups: BTreeMap::new(), oldest: None, unreadable: 0 }
    }

    pub(crate) fn take(&mut self, document: &Document) {
        let Some((hour, fingerprint, record)) = FailureRecord::read(document) else {
            self.unreadable += 1;
            return;
        };
        self.oldest = Some(hour);
        let query = self.query;
        let is_other = query.kind.as_ref().is_some_and(|kind| *kind != record.kind)
            || query.fingerprint.is_some_and(|wanted| wanted != fingerprint);
        if is_other {
            return;
        }
        let fresh = || (FailureRecord { count: 0, ..record.clone() }, BTreeMap::new());
        let (all, hours) = self.groups.entry(fingerprint).or_insert_with(fresh);
        let count = all.count.saturating_add(record.count);
        let first_at = std::cmp::min(all.first_at, record.first_at);
        let in_hour = hours.entry(hour).or_default();
        *in_hour = in_hour.saturating_add(record.count);
        if record.last_at > all.last_at {
            *all = record;
        }
        (all.count, all.first_at) = (count, first_at);
    }

    pub(crate) fn finish(self, more: bool) -> Failures {
        let mut groups: Vec<_> = self
            .groups
            .into_iter()
            .map(|(fingerprint, (record, hours))| {
                let hours = hours.into_iter().collect();
                FailureGroup { fingerprint, record, hours }
            })
            .collect();
        let newest = |group: &FailureGroup| (group.record.last_at, group.record.count);
        groups.sort_by(|one, other| match self.query.order {
            FailureOrder::Newest => newest(other).cmp(&newest(one)),
            FailureOrder::Most => {
                (other.record.count, newest(other)).cmp(&(one.record.count, newest(one)))
            }
        });
        let groups_total = groups.len();
        let counts = groups.iter().map(|group| group.record.count);
        let failures_total = counts.fold(0, u64::saturating_add);
        groups.truncate(self.query.limit.clamp(1, GROUPS_MAX));
        // Of the hour where reading ended some may be missing.
        let cut_before = self.oldest.filter(|_| more).map(|hour| Resolution::Hour.next(hour));
        let unreadable = self.unreadable;
        Failures { groups, groups_total, failures_total, cut_before, unreadable }
    }
}

#[cfg(test)]
mod tests;
