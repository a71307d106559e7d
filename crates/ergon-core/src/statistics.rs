//! Statistics: what servers did, by minute and by hour, queue and kind.
//!
//! Every server counts the attempts that it begins and ends, and writes its own counts as documents,
//! over and over while their time lasts: each write replaces the one before, so that repeating one is
//! harmless. Whoever reads adds up what the servers wrote. A server that dies takes the counts of its
//! last ten seconds with it: statistics are for charts, and tasks are never counted for anything else.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    document::{Document, DocumentRange, Put, Space},
    id::ServerId,
    name::{KindName, QueueName},
    serial::is_zero,
    time::{after, from_micros, to_micros},
};

mod collector;
mod compact;
mod histogram;
mod merge;
mod query;

pub(crate) use self::collector::SET_BACK;
pub use self::{
    collector::{Collector, PAIRS_MAX},
    histogram::Histogram,
    merge::Merge,
    query::{Group, POINTS_MAX, SERIES_DEFAULT, SERIES_MAX, Series, Statistics, StatisticsQuery},
};

/// Most documents that are read to answer one query.
pub const DOCUMENTS_MAX: usize = 50_000;

/// The name of what is not told apart any more: queues and kinds beyond a limit.
pub const OTHER: &str = "_other";

/// How long the time is that a [`Slice`] sums up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resolution {
    /// A minute; kept for 48 hours.
    #[default]
    Minute,
    /// An hour; kept for 90 days.
    Hour,
}

impl Resolution {
    /// Its length in seconds.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
        }
    }

    /// How long slices of it are kept.
    #[must_use]
    pub const fn kept(self) -> std::time::Duration {
        match self {
            Self::Minute => std::time::Duration::from_secs(48 * 3_600),
            Self::Hour => std::time::Duration::from_secs(90 * 24 * 3_600),
        }
    }

    /// The beginning of the minute or hour, by UTC.
    #[must_use]
    pub fn floor(self, instant: Timestamp) -> Timestamp {
        let length = self.seconds() * 1_000_000;
        let micros = to_micros(instant);
        from_micros(micros - micros.rem_euclid(length))
    }

    /// The beginning of the next one.
    #[must_use]
    pub fn next(self, start: Timestamp) -> Timestamp {
        from_micros(to_micros(start).saturating_add(self.seconds() * 1_000_000))
    }

    const fn letter(self) -> &'static str {
        match self {
            Self::Minute => "m",
            Self::Hour => "h",
        }
    }
}

/// What happened to attempts.
///
/// What nobody ran is not counted: tasks that are enqueued, and those that are cancelled or removed
/// while they wait.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Counts {
    /// Tasks were claimed.
    #[serde(skip_serializing_if = "is_zero")]
    pub started: u64,
    /// Attempts after which their task was done.
    #[serde(skip_serializing_if = "is_zero")]
    pub completed: u64,
    /// Attempts after which their task had failed for good.
    #[serde(skip_serializing_if = "is_zero")]
    pub failed: u64,
    /// Attempts that failed, after which their task is tried again.
    #[serde(skip_serializing_if = "is_zero")]
    pub retried: u64,
    /// Attempts that a cancel ended.
    #[serde(skip_serializing_if = "is_zero")]
    pub cancelled: u64,
    /// Attempts that put their task off.
    #[serde(skip_serializing_if = "is_zero")]
    pub snoozed: u64,
    /// Tasks that were given back unfinished, as in a shutdown.
    #[serde(skip_serializing_if = "is_zero")]
    pub released: u64,
    /// Tasks that were taken back from servers that died.
    #[serde(skip_serializing_if = "is_zero")]
    pub rescued: u64,
    /// How long tasks were due before they were claimed: neither delay nor backoff.
    #[serde(skip_serializing_if = "Histogram::is_empty")]
    pub waited: Histogram,
    /// How long handlers ran that completed, failed, or were cancelled.
    #[serde(skip_serializing_if = "Histogram::is_empty")]
    pub ran: Histogram,
}

impl Counts {
    /// Counts what another one counted too.
    pub fn merge(&mut self, other: &Self) {
        for (mine, more) in [
            (&mut self.started, other.started),
            (&mut self.completed, other.completed),
            (&mut self.failed, other.failed),
            (&mut self.retried, other.retried),
            (&mut self.cancelled, other.cancelled),
            (&mut self.snoozed, other.snoozed),
            (&mut self.released, other.released),
            (&mut self.rescued, other.rescued),
        ] {
            *mine = mine.saturating_add(more);
        }
        self.waited.merge(&other.waited);
        self.ran.merge(&other.ran);
    }

    /// Attempts that ended well or badly: completed, failed, retried and cancelled ones.
    #[must_use]
    pub const fn ended(&self) -> u64 {
        self.completed.saturating_add(self.failed_attempts()).saturating_add(self.cancelled)
    }

    /// Attempts that failed, whether they were the last of their task or not.
    #[must_use]
    pub const fn failed_attempts(&self) -> u64 {
        self.failed.saturating_add(self.retried)
    }

    /// Which part of the attempts that ended failed, from 0 to 1; none when none ended.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share for people, not a count")]
    pub fn failure_share(&self) -> Option<f64> {
        let ended = self.ended();
        (ended > 0).then(|| self.failed_attempts() as f64 / ended as f64)
    }

    /// Says whether nothing happened.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.started == 0
            && self.ended() == 0
            && self.snoozed == 0
            && self.released == 0
            && self.rescued == 0
    }

    /// Forgets everything, and keeps the memory for more.
    fn clear(&mut self) {
        let (mut waited, mut ran) =
            (std::mem::take(&mut self.waited), std::mem::take(&mut self.ran));
        waited.clear();
        ran.clear();
        *self = Self { waited, ran, ..Self::default() };
    }
}

/// What one server did in a minute or an hour to tasks of one queue and kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// When the time begins, by the clock of the server.
    pub start: Timestamp,
    /// How long it is.
    pub resolution: Resolution,
    /// Who did it.
    pub server: ServerId,
    /// The queue.
    pub queue: QueueName,
    /// The kind.
    pub kind: KindName,
    /// What happened.
    pub counts: Counts,
}

/// Stands between the parts of a key; no name holds it.
const BETWEEN: char = '|';

impl Slice {
    /// The write that replaces what the server wrote of this before.
    ///
    /// # Errors
    ///
    /// What serde reports; nothing here gives it a reason to.
    pub fn put(&self) -> Result<Put, serde_json::Error> {
        put(self.resolution, self.start, &self.queue, &self.kind, self.server, &self.counts)
    }

    /// Reads what a server wrote; `None` when it is of another form.
    #[must_use]
    pub fn read(document: &Document) -> Option<Self> {
        let Key { resolution, start, queue, kind, server } = Key::read(&document.key)?;
        Some(Self {
            start,
            resolution,
            server: server.parse().ok()?,
            queue: queue.parse().ok()?,
            kind: kind.parse().ok()?,
            counts: serde_json::from_slice(&document.body).ok()?,
        })
    }
}

fn put(
    resolution: Resolution,
    start: Timestamp,
    queue: &QueueName,
    kind: &KindName,
    server: ServerId,
    counts: &Counts,
) -> Result<Put, serde_json::Error> {
    let letter = resolution.letter();
    let key = [letter, &start.to_string(), queue.as_str(), kind.as_str(), &server.to_string()];
    let key = key.join(&BETWEEN.to_string());
    let body = serde_json::to_vec(counts)?;
    let expires_at = after(resolution.next(start), resolution.kept());
    Ok(Put::new(Space::Statistics, key, body).expires_at(expires_at))
}

/// The parts of a key: by time first, so that a span of time is a range.
struct Key<'k> {
    resolution: Resolution,
    start: Timestamp,
    queue: &'k str,
    kind: &'k str,
    server: &'k str,
}

impl<'k> Key<'k> {
    fn read(key: &'k str) -> Option<Self> {
        let mut parts = key.split(BETWEEN);
        let resolution = match parts.next()? {
            "m" => Resolution::Minute,
            "h" => Resolution::Hour,
            _ => return None,
        };
        let start = parts.next()?.parse().ok()?;
        let (queue, kind, server) = (parts.next()?, parts.next()?, parts.next()?);
        parts.next().is_none().then_some(Self { resolution, start, queue, kind, server })
    }
}

/// The documents of slices that begin at `from` or later and before `to`, the newest first.
fn range(resolution: Resolution, from: Timestamp, to: Timestamp) -> DocumentRange {
    let key = |instant: Timestamp| format!("{}{BETWEEN}{instant}", resolution.letter());
    DocumentRange::all(Space::Statistics).from(key(from)).to(key(to)).reversed()
}

#[cfg(test)]
mod tests;
