//! What makes failures alike.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{event::Excerpt, name::KindName, progress::ErrorKind};

/// Longest pattern, in characters. A message is told by its first 120 bytes; where it is cut depends on
/// the numbers in it, so that the end of what is left says little.
const PATTERN_CHARS_MAX: usize = 80;

/// A text that is no fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is 16 hexadecimal digits, or _other")]
pub struct InvalidFingerprint;

/// What failures that are alike are known by: the same in every process and version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Of failures that are not told apart any more, as a server saw too many within an hour.
    pub const OTHER: Self = Self(0);

    /// The fingerprint of a failure. A message counts by its first 120 bytes, so that it does not matter
    /// whether it is known whole, from a task, or in part, from an event.
    #[must_use]
    pub fn of(kind: &KindName, reason: ErrorKind, message: &str) -> Self {
        Self::of_pattern(kind, reason, &pattern(message))
    }

    pub(super) fn of_pattern(kind: &KindName, reason: ErrorKind, pattern: &str) -> Self {
        let parts = [kind.as_str(), reason.as_str(), pattern];
        // FNV-1a, with a byte behind each part that no text holds.
        let bytes = parts.iter().flat_map(|part| part.bytes().chain([0xff]));
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(std::cmp::max(hash, 1))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::OTHER {
            f.pad(crate::statistics::OTHER)
        } else {
            write!(f, "{:016x}", self.0)
        }
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        if text == crate::statistics::OTHER {
            return Ok(Self::OTHER);
        }
        let is_good = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).map_err(|_error| InvalidFingerprint)?;
        if is_good { Ok(Self(number)) } else { Err(InvalidFingerprint) }
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// What a message has in common with those that are like it: its beginning, with `<n>` for numbers,
/// `<hex>` for long hexadecimal ones, `<uuid>`, and `<text>` for what stands in quotes.
#[must_use]
pub fn pattern(message: &str) -> String {
    // An excerpt is one line, in which a line break is a space as any other.
    let excerpt = Excerpt::of(message);
    let mut rest = excerpt.as_str();
    let mut pattern = String::with_capacity(rest.len());
    let mut before = ' ';
    while let Some(next) = rest.chars().next() {
        let (len, replacement) = replaced(rest, next, before);
        let (taken, behind) = rest.split_at_checked(len).unwrap_or((rest, ""));
        match replacement {
            Some(replacement) => pattern.push_str(replacement),
            None if next.is_whitespace() && (pattern.is_empty() || pattern.ends_with(' ')) => {}
            None if next.is_whitespace() => pattern.push(' '),
            None => pattern.push_str(taken),
        }
        before = taken.chars().next_back().unwrap_or(next);
        rest = behind;
    }
    let end = pattern.char_indices().nth(PATTERN_CHARS_MAX).map_or(pattern.len(), |(at, _)| at);
    pattern.truncate(end);
    pattern.truncate(pattern.trim_end().len());
    pattern
}

/// How much of the text stands together, and what stands for it.
fn replaced(text: &str, next: char, before: char) -> (usize, Option<&'static str>) {
    if matches!(next, '"' | '`' | '\'')
        && !before.is_alphanumeric()
        && let Some(len) = quoted(text, next)
    {
        return (len, Some("<text>"));
    }
    if !before.is_ascii_alphanumeric() && next.is_ascii_hexdigit() {
        if let Some(len) = uuid(text) {
            return (len, Some("<uuid>"));
        }
        if let Some(len) = hexadecimal(text) {
            return (len, Some("<hex>"));
        }
    }
    if next.is_ascii_digit() {
        return (number(text), Some("<n>"));
    }
    (next.len_utf8(), None)
}

/// The length of what stands in quotes at the beginning of the text, the quotes included. The end may
/// have been cut off, except that of an apostrophe, which is no quote then.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        let end = at + character.len_utf8();
        let follows = text.get(end..).and_then(|rest| rest.chars().next());
        let is_apostrophe = quote == '\'' && follows.is_some_and(char::is_alphanumeric);
        if character == quote && !escaped && !is_apostrophe {
            return Some(end);
        }
        escaped = character == '\\' && !escaped;
    }
    (quote != '\'').then_some(text.len())
}

/// The length of a UUID at the beginning of the text.
fn uuid(text: &str) -> Option<usize> {
    const LEN: usize = 36;
    let bytes = text.as_bytes().get(..LEN)?;
    let is_uuid = bytes.iter().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    (is_uuid && ends_word(text, LEN)).then_some(LEN)
}

/// The length of a hexadecimal number at the beginning of the text: one that begins with `0x`, or has
/// at least 8 digits, one of them decimal.
fn hexadecimal(text: &str) -> Option<usize> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_hexdigit).count();
    if let Some(behind) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return Some(digits(behind) + 2).filter(|&len| len > 2);
    }
    let len = digits(text);
    let word = text.get(..len)?;
    let is_hex = len >= 8
        && word.bytes().any(|byte| byte.is_ascii_digit())
        && word.bytes().any(|byte| byte.is_ascii_alphabetic());
    (is_hex && ends_word(text, len)).then_some(len)
}

fn ends_word(text: &str, at: usize) -> bool {
    !text.as_bytes().get(at).is_some_and(u8::is_ascii_alphanumeric)
}

/// The length of a number at the beginning of the text, with what stands between its digits in
/// versions, addresses, fractions and times.
fn number(text: &str) -> usize {
    let is_within = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b',' | b':' | b'_');
    let len = text.bytes().take_while(|byte| is_within(byte)).count();
    let word = text.as_bytes().get(..len).unwrap_or_default();
    // What follows the last digit is punctuation.
    word.iter().rposition(u8::is_ascii_digit).map_or(1, |last| last + 1)
}
