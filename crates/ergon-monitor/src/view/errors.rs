//! What the pages of the errors show: failures that are alike, together.

use ergon_core::{
    KindName, Timestamp,
    failure::{FailureGroup, FailureOrder, FailureQuery, Fingerprint},
    statistics::Resolution,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{cursor, range::Range};
use crate::{
    cache::Reading,
    error::Trouble,
    shared::Shared,
    text::clean,
    value::{At, Whole},
};

/// Most groups of a page.
const GROUPS_MAX: usize = 100;

/// Which errors are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) range: Range,
    pub(crate) kind: Option<KindName>,
    pub(crate) order: FailureOrder,
}

/// Groups of failures that are alike.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorsView {
    /// How far back.
    pub(crate) range: Range,
    /// The groups, in the order asked for; at most 100.
    pub(crate) groups: Vec<ErrorGroup>,
    /// How many groups there are.
    pub(crate) groups_total: usize,
    /// How many attempts failed.
    pub(crate) failures_total: Whole,
    /// What failed before this is missing, as it is too much to be read.
    pub(crate) cut_before: Option<At>,
    /// Records that could not be read, as those of a newer version.
    pub(crate) unreadable: usize,
}

/// Failures that are alike.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorGroup {
    /// What they are known by; `_other` for those that are not told apart any more.
    pub(crate) fingerprint: String,
    /// The kind of the tasks.
    pub(crate) kind: String,
    /// What kind of failure.
    pub(crate) reason: &'static str,
    /// What the messages have in common.
    pub(crate) pattern: String,
    /// The newest message, its beginning.
    pub(crate) message: String,
    /// How many attempts failed so, in the time asked for.
    pub(crate) count: Whole,
    /// When the first one did, in the time asked for.
    pub(crate) first_at: At,
    /// When the last one did.
    pub(crate) last_at: At,
    /// The task of the last one.
    pub(crate) last_task: String,
    /// Hour by hour, the oldest first, without gaps.
    pub(crate) hours: Vec<HourFigure>,
}

/// How many attempts failed in an hour.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct HourFigure {
    /// When the hour begins.
    pub(crate) start: At,
    /// How many.
    pub(crate) count: Whole,
}

impl ErrorGroup {
    fn of(group: &FailureGroup, hours: &[Timestamp]) -> Self {
        let record = &group.record;
        let count = |hour: &Timestamp| {
            let found = group.hours.iter().find(|(of, _)| of == hour);
            HourFigure { start: At(*hour), count: Whole(found.map_or(0, |(_, count)| *count)) }
        };
        Self {
            fingerprint: group.fingerprint.to_string(),
            kind: record.kind.to_string(),
            reason: record.reason.as_str(),
            pattern: clean(&record.pattern),
            message: clean(&record.message),
            count: Whole(record.count),
            first_at: At(record.first_at),
            last_at: At(record.last_at),
            last_task: record.last_task.to_string(),
            hours: hours.iter().map(count).collect(),
        }
    }
}

/// The beginnings of the hours of a range, the one under way included.
fn hours(range: Range, now: Timestamp) -> Vec<Timestamp> {
    let mut hour = Resolution::Hour.floor(range.from(now));
    let mut hours = Vec::new();
    while hour <= now {
        hours.push(hour);
        hour = Resolution::Hour.next(hour);
    }
    hours
}

fn query(range: Range, now: Timestamp) -> FailureQuery {
    FailureQuery::new(range.from(now), now).limit(GROUPS_MAX)
}

impl ErrorsView {
    pub(crate) async fn read(shared: &Shared, wanted: &Wanted) -> Result<Reading<Self>, Trouble> {
        let cursor = cursor(shared).await;
        let read_at = shared.clock.now();
        let mut query = query(wanted.range, read_at).order(wanted.order);
        query.kind.clone_from(&wanted.kind);
        let failures = shared.manager.failures();
        let failures = shared.reads.read("failures", failures.read(&query)).await?;
        let hours = hours(wanted.range, read_at);
        let view = Self {
            range: wanted.range,
            groups: failures.groups.iter().map(|group| ErrorGroup::of(group, &hours)).collect(),
            groups_total: failures.groups_total,
            failures_total: Whole(failures.failures_total),
            cut_before: failures.cut_before.map(At),
            unreadable: failures.unreadable,
        };
        Ok(Reading::new(view, cursor, read_at))
    }
}

/// One group of failures that are alike.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorView {
    /// How far back.
    pub(crate) range: Range,
    /// The group.
    #[serde(flatten)]
    pub(crate) group: ErrorGroup,
}

impl ErrorView {
    /// Reads it; `None` when nothing failed so in this time.
    pub(crate) async fn read(
        shared: &Shared,
        fingerprint: Fingerprint,
        range: Range,
    ) -> Result<Reading<Option<Self>>, Trouble> {
        let cursor = cursor(shared).await;
        let read_at = shared.clock.now();
        let query = query(range, read_at).fingerprint(fingerprint);
        let failures = shared.manager.failures();
        let failures = shared.reads.read("failures", failures.read(&query)).await?;
        let hours = hours(range, read_at);
        let group = failures.groups.first().map(|group| ErrorGroup::of(group, &hours));
        Ok(Reading::new(group.map(|group| Self { range, group }), cursor, read_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_go_up_to_the_one_under_way() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let hours = hours(Range::Hour, now);
        let expected = ["2026-01-02T02:00:00Z", "2026-01-02T03:00:00Z"];
        assert_eq!(hours.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
        assert_eq!(super::hours(Range::Week, now).len(), 7 * 24 + 1);
    }
}
