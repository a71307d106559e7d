//! What to read of the statistics, and what it comes to.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Counts, Resolution};
use crate::{
    name::{KindName, QueueName},
    time::to_micros,
};

/// Most points of a time axis: 48 hours of minutes, or 120 days of hours.
pub const POINTS_MAX: usize = 2_880;

/// Series that are told apart when nothing is chosen.
pub const SERIES_DEFAULT: usize = 50;

/// Most series that can be told apart.
pub const SERIES_MAX: usize = 256;

/// What the counts are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Group {
    /// Nothing: one series, also when nothing happened.
    #[default]
    Total,
    /// A series a queue.
    Queue,
    /// A series a kind.
    Kind,
    /// A series a pair of queue and kind.
    Pair,
}

/// What to read of the statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatisticsQuery {
    /// From the minute or hour on in which this lies.
    pub from: Timestamp,
    /// Up to this instant; the minute or hour in which it lies is included.
    pub to: Timestamp,
    /// By minute or by hour. Default: by minute.
    pub resolution: Resolution,
    /// Of this queue only.
    pub queue: Option<QueueName>,
    /// Of this kind only.
    pub kind: Option<KindName>,
    /// What the counts are told apart by. Default: nothing.
    pub group: Group,
    /// How many series at the most: 1 to 256, and cut to that. Default 50. Of more, those with the most
    /// attempts are told apart, and the others summed under [`OTHER`](super::OTHER).
    pub series_max: usize,
}

impl StatisticsQuery {
    /// All that happened from one instant up to another, minute by minute.
    #[must_use]
    pub const fn new(from: Timestamp, to: Timestamp) -> Self {
        Self {
            from,
            to,
            resolution: Resolution::Minute,
            queue: None,
            kind: None,
            group: Group::Total,
            series_max: SERIES_DEFAULT,
        }
    }

    /// By minute or by hour.
    #[must_use]
    pub const fn resolution(mut self, resolution: Resolution) -> Self {
        self.resolution = resolution;
        self
    }

    /// Of this queue only.
    #[must_use]
    pub fn queue(mut self, queue: QueueName) -> Self {
        self.queue = Some(queue);
        self
    }

    /// Of this kind only.
    #[must_use]
    pub fn kind(mut self, kind: KindName) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Told apart by this.
    #[must_use]
    pub const fn group(mut self, group: Group) -> Self {
        self.group = group;
        self
    }

    /// At most so many series.
    #[must_use]
    pub const fn series_max(mut self, series: usize) -> Self {
        self.series_max = series;
        self
    }

    /// The time axis: the beginnings of the minutes or hours, and whether there are more before it than
    /// it can have.
    pub(super) fn axis(&self) -> (Vec<Timestamp>, bool) {
        if self.to <= self.from {
            return (Vec::new(), false);
        }
        let first = self.resolution.floor(self.from);
        let last = self.resolution.floor(crate::time::from_micros(to_micros(self.to) - 1));
        let length = self.resolution.seconds() * 1_000_000;
        let points = (to_micros(last) - to_micros(first)) / length + 1;
        let most = i64::try_from(POINTS_MAX).unwrap_or(i64::MAX);
        let (kept, is_cut) = (std::cmp::min(points, most), points > most);
        let start = |back: i64| crate::time::from_micros(to_micros(last) - back * length);
        ((0..kept).rev().map(start).collect(), is_cut)
    }
}

/// What servers did, point by point.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// How long a point is.
    pub resolution: Resolution,
    /// When each point begins, without gaps; the last one may not be over yet.
    pub starts: Vec<Timestamp>,
    /// The series, that with the most attempts first.
    pub series: Vec<Series>,
    /// What happened before this was asked for and is missing, as it is too much.
    pub cut_before: Option<Timestamp>,
    /// How many documents were read.
    pub documents: usize,
    /// How many of them could not be read, as those of a newer version.
    pub unreadable: usize,
}

/// A series of counts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Series {
    /// The queue, if they are told apart.
    pub queue: Option<QueueName>,
    /// The kind, if they are told apart.
    pub kind: Option<KindName>,
    /// All points together.
    pub total: Counts,
    /// Point by point, in the order of [`Statistics::starts`].
    pub points: Vec<Counts>,
}

pub(super) type Names = (Option<QueueName>, Option<KindName>);

impl Series {
    /// A series without gaps.
    pub(super) fn new(
        (queue, kind): Names,
        mut found: BTreeMap<Timestamp, Counts>,
        starts: &[Timestamp],
    ) -> Self {
        let mut total = Counts::default();
        found.values().for_each(|counts| total.merge(counts));
        let points = starts.iter().map(|start| found.remove(start).unwrap_or_default());
        Self { queue, kind, total, points: points.collect() }
    }
}
