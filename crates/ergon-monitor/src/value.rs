//! Numbers and instants as programs read them: whole numbers as text, since not every language holds
//! 64 bits, and instants after RFC 3339.

use std::{fmt, time::Duration};

use ergon_core::Timestamp;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// A whole number of up to 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = String, example = "12408")]
pub(crate) struct Whole(pub(crate) u64);

impl Whole {
    pub(crate) fn of(value: usize) -> Self {
        Self(u64::try_from(value).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for Whole {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// An instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-01-02T03:04:05.678901Z")]
pub(crate) struct At(pub(crate) Timestamp);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for At {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A number as people read it at a glance: from 10,000 on with three digits and a letter.
pub(crate) fn brief(value: u64) -> String {
    const STEPS: [(u64, &str); 4] =
        [(1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    if value < 10_000 {
        return grouped(value);
    }
    let (step, letter) = STEPS.into_iter().find(|(step, _)| value >= *step).unwrap_or((1, ""));
    let (whole, rest) = (value / step, value % step);
    if whole >= 100 {
        return format!("{whole}{letter}");
    }
    format!("{whole}.{}{letter}", rest / (step / 10))
}

/// All digits of a number, in groups of three.
pub(crate) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A span as people read it: `18 ms`, `1.2 s`, `4 m 10 s`, `3 h 5 m`, `12 d`.
pub(crate) fn span(span: Duration) -> String {
    let (seconds, millis) = (span.as_secs(), span.subsec_millis());
    match seconds {
        0 if millis == 0 && span.subsec_micros() > 0 => format!("{} µs", span.subsec_micros()),
        0 => format!("{millis} ms"),
        1..=9 => format!("{seconds}.{} s", millis / 100),
        10..=59 => format!("{seconds} s"),
        60..=3_599 => format!("{} m {} s", seconds / 60, seconds % 60),
        3_600..=86_399 => format!("{} h {} m", seconds / 3_600, seconds % 3_600 / 60),
        86_400..=864_000 => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Bytes as people read them.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..=1_023 => format!("{bytes} B"),
        1_024..=1_048_575 => format!("{}.{} KiB", bytes >> 10, ((bytes & 1_023) * 10) >> 10),
        _ => format!("{}.{} MiB", bytes >> 20, ((bytes & 1_048_575) * 10) >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_from_ten_thousand_on() {
        for (value, expected) in [
            (0, "0"),
            (999, "999"),
            (9_999, "9,999"),
            (12_408, "12.4k"),
            (311_000, "311k"),
            (10_200_000, "10.2M"),
            (u64::MAX, "18446744T"),
        ] {
            assert_eq!(brief(value), expected);
        }
        assert_eq!(grouped(1_234_567), "1,234,567");
    }

    #[test]
    fn spans_and_sizes_have_units() {
        for (millis, expected) in [
            (0, "0 ms"),
            (18, "18 ms"),
            (1_250, "1.2 s"),
            (42_000, "42 s"),
            (250_000, "4 m 10 s"),
            (11_100_000, "3 h 5 m"),
            (90_000_000, "1 d 1 h"),
            (2_000_000_000, "23 d"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), expected);
        }
        assert_eq!(span(Duration::from_micros(7)), "7 µs");
        assert_eq!([bytes(12), bytes(1_434), bytes(3 << 20)], ["12 B", "1.4 KiB", "3.0 MiB"]);
    }
}
