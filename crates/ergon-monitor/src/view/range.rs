//! The time that charts and groups are shown for.

use ergon_core::{Timestamp, statistics::Resolution};
use jiff::SignedDuration;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{error::PageError, visit::Context};

/// How far back to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) enum Range {
    /// An hour, minute by minute.
    #[serde(rename = "1h")]
    Hour,
    /// Six hours, by five minutes.
    #[serde(rename = "6h")]
    SixHours,
    /// A day, hour by hour.
    #[serde(rename = "24h")]
    Day,
    /// A week, by four hours.
    #[serde(rename = "7d")]
    Week,
}

impl Range {
    pub(crate) const ALL: [Self; 4] = [Self::Hour, Self::SixHours, Self::Day, Self::Week];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::SixHours => "6h",
            Self::Day => "24h",
            Self::Week => "7d",
        }
    }

    /// The range that the address asks for, or else this one.
    pub(crate) fn of(context: &Context, default: Self) -> Result<Self, PageError> {
        let Some(asked) = context.parameter("range").filter(|asked| !asked.is_empty()) else {
            return Ok(default);
        };
        let known = Self::ALL.into_iter().find(|range| range.as_str() == asked);
        known.ok_or_else(|| PageError::Malformed("range: not 1h, 6h, 24h or 7d".to_owned()))
    }

    /// Its length in seconds.
    pub(crate) const fn seconds(self) -> i64 {
        match self {
            Self::Hour => 3_600,
            Self::SixHours => 6 * 3_600,
            Self::Day => 24 * 3_600,
            Self::Week => 7 * 24 * 3_600,
        }
    }

    /// By what it is read.
    pub(crate) const fn resolution(self) -> Resolution {
        match self {
            Self::Hour | Self::SixHours => Resolution::Minute,
            Self::Day | Self::Week => Resolution::Hour,
        }
    }

    /// How many seconds a point of a chart is.
    pub(crate) const fn step(self) -> i64 {
        match self {
            Self::Hour => 60,
            Self::SixHours => 300,
            Self::Day => 3_600,
            Self::Week => 4 * 3_600,
        }
    }

    /// The same in words.
    pub(crate) const fn step_words(self) -> &'static str {
        match self {
            Self::Hour => "a minute",
            Self::SixHours => "5 minutes",
            Self::Day => "an hour",
            Self::Week => "4 hours",
        }
    }

    /// The beginnings of the points up to `now`, the last of which is under way.
    pub(crate) fn starts(self, now: Timestamp) -> Vec<Timestamp> {
        let step = self.step();
        let last = now.as_second() - now.as_second().rem_euclid(step);
        let points = self.seconds() / step;
        let start = |back: i64| Timestamp::from_second(last - back * step).unwrap_or(now);
        (0..points).rev().map(start).collect()
    }

    /// The instant so far back.
    pub(crate) fn from(self, now: Timestamp) -> Timestamp {
        now.checked_sub(SignedDuration::from_secs(self.seconds())).unwrap_or(Timestamp::MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_whole_steps_and_end_with_the_present_one() {
        let now: Timestamp = "2026-01-02T03:04:05.6Z".parse().unwrap();
        for (range, points, first, last) in [
            (Range::Hour, 60, "2026-01-02T02:05:00Z", "2026-01-02T03:04:00Z"),
            (Range::SixHours, 72, "2026-01-01T21:05:00Z", "2026-01-02T03:00:00Z"),
            (Range::Day, 24, "2026-01-01T04:00:00Z", "2026-01-02T03:00:00Z"),
            (Range::Week, 42, "2025-12-26T04:00:00Z", "2026-01-02T00:00:00Z"),
        ] {
            let starts = range.starts(now);
            let ends = [starts[0], starts[points - 1]].map(|start| start.to_string());
            assert_eq!((starts.len(), ends), (points, [first.to_owned(), last.to_owned()]));
        }
    }
}
