//! What servers did over a time: how much, how long it waited and how long it ran.

use ergon_core::{
    QueueName, Timestamp,
    statistics::{Counts, Histogram, Statistics, StatisticsQuery},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{cursor, range::Range};
use crate::{
    cache::Reading,
    error::Trouble,
    shared::Shared,
    value::{At, Whole},
};

/// What servers did, over a time and point by point.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ActivityView {
    /// How far back.
    pub(crate) range: Range,
    /// How many seconds a point is; the last one is under way.
    pub(crate) step_seconds: i64,
    /// The whole time.
    pub(crate) total: Activity,
    /// Point by point, the oldest first, without gaps.
    pub(crate) points: Vec<Point>,
    /// What happened before this is missing, as it is too much to be read.
    pub(crate) cut_before: Option<At>,
}

/// A part of the time.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Point {
    /// When it begins.
    pub(crate) start: At,
    /// What happened in it.
    #[serde(flatten)]
    pub(crate) activity: Activity,
}

/// What happened to attempts.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Activity {
    /// Tasks were claimed.
    pub(crate) started: Whole,
    /// Attempts after which their task was done.
    pub(crate) completed: Whole,
    /// Attempts after which their task had failed for good.
    pub(crate) failed: Whole,
    /// Attempts that failed, after which their task is tried again.
    pub(crate) retried: Whole,
    /// Attempts that a cancel ended.
    pub(crate) cancelled: Whole,
    /// Tasks that were taken back from servers that died.
    pub(crate) rescued: Whole,
    /// How long tasks were due before they were claimed.
    pub(crate) waited: Percentiles,
    /// How long handlers ran.
    pub(crate) ran: Percentiles,
}

/// How long things took, in microseconds; none when nothing did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Percentiles {
    /// How many were measured.
    pub(crate) count: Whole,
    /// Half of them took at most so long, give or take 1.6 %.
    pub(crate) p50_us: Option<Whole>,
    /// 95 of 100.
    pub(crate) p95_us: Option<Whole>,
    /// 99 of 100.
    pub(crate) p99_us: Option<Whole>,
    /// All of them, exactly.
    pub(crate) max_us: Option<Whole>,
}

impl Percentiles {
    fn of(histogram: &Histogram) -> Self {
        let micros = |share: f64| {
            let micros = histogram.quantile(share).as_micros();
            let micros = Whole(u64::try_from(micros).unwrap_or(u64::MAX));
            (!histogram.is_empty()).then_some(micros)
        };
        Self {
            count: Whole(histogram.count()),
            p50_us: micros(0.5),
            p95_us: micros(0.95),
            p99_us: micros(0.99),
            max_us: micros(1.0),
        }
    }
}

impl Activity {
    fn of(counts: &Counts) -> Self {
        Self {
            started: Whole(counts.started),
            completed: Whole(counts.completed),
            failed: Whole(counts.failed),
            retried: Whole(counts.retried),
            cancelled: Whole(counts.cancelled),
            rescued: Whole(counts.rescued),
            waited: Percentiles::of(&counts.waited),
            ran: Percentiles::of(&counts.ran),
        }
    }

    /// Attempts that failed, whether they were the last of their task or not.
    pub(crate) const fn failed_attempts(&self) -> u64 {
        self.failed.0.saturating_add(self.retried.0)
    }

    /// Which part of the attempts that ended failed, from 0 to 1; none when none ended.
    #[expect(clippy::cast_precision_loss, reason = "a share for people, not a count")]
    pub(crate) fn failure_share(&self) -> Option<f64> {
        let failed = self.failed_attempts();
        let ended = failed.saturating_add(self.completed.0).saturating_add(self.cancelled.0);
        (ended > 0).then(|| failed as f64 / ended as f64)
    }
}

impl ActivityView {
    fn of(statistics: &Statistics, range: Range, now: Timestamp) -> Self {
        let starts = range.starts(now);
        let first = starts.first().copied().unwrap_or(now);
        let mut counts = vec![Counts::default(); starts.len()];
        let mut total = Counts::default();
        for series in &statistics.series {
            for (start, point) in statistics.starts.iter().zip(&series.points) {
                let place = (start.as_second() - first.as_second()).div_euclid(range.step());
                let place = usize::try_from(place).ok().and_then(|place| counts.get_mut(place));
                if let Some(counts) = place {
                    counts.merge(point);
                    total.merge(point);
                }
            }
        }
        let points = starts.iter().zip(&counts);
        Self {
            range,
            step_seconds: range.step(),
            total: Activity::of(&total),
            points: points
                .map(|(&start, counts)| Point { start: At(start), activity: Activity::of(counts) })
                .collect(),
            cut_before: statistics.cut_before.map(At),
        }
    }

    /// Reads it anew.
    pub(crate) async fn read(
        shared: &Shared,
        range: Range,
        queue: Option<&QueueName>,
    ) -> Result<Reading<Self>, Trouble> {
        let cursor = cursor(shared).await;
        let read_at = shared.clock.now();
        let view = Self::at(shared, range, queue, read_at).await?;
        Ok(Reading::new(view, cursor, read_at))
    }

    async fn at(
        shared: &Shared,
        range: Range,
        queue: Option<&QueueName>,
        now: Timestamp,
    ) -> Result<Self, Trouble> {
        let from = range.starts(now).first().copied().unwrap_or(now);
        // The point that is under way is read too.
        let to = range.resolution().next(now);
        let mut query = StatisticsQuery::new(from, to).resolution(range.resolution());
        query.queue = queue.cloned();
        let statistics = shared.manager.statistics();
        let statistics = shared.reads.read("statistics", statistics.read(&query)).await?;
        Ok(Self::of(&statistics, range, now))
    }
}

/// What tells one reading from every other.
pub(crate) fn key(range: Range, queue: Option<&QueueName>) -> String {
    match queue {
        Some(queue) => format!("activity {} {queue}", range.as_str()),
        None => format!("activity {}", range.as_str()),
    }
}

/// What was read a while ago, or anew: servers write what they did every ten seconds, and reading a
/// week of it is no small thing.
pub(crate) async fn recent(
    shared: &Shared,
    range: Range,
    queue: Option<&QueueName>,
) -> Result<ActivityView, Trouble> {
    let age_max = std::time::Duration::from_secs(match range {
        Range::Hour | Range::SixHours => 10,
        Range::Day | Range::Week => 60,
    });
    let read = || async move {
        let now = shared.clock.now();
        let view = ActivityView::at(shared, range, queue, now).await?;
        Ok(Reading::new(view, None, now))
    };
    // Under a key of its own: whoever asks for charts alone is not answered with old ones.
    let key = format!("recent {}", key(range, queue));
    let found = shared.cache.get(key, age_max, age_max, read).await?;
    match found.stale {
        Some(trouble) => Err(trouble),
        None => Ok(found.reading.view.clone()),
    }
}
