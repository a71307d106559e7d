//! Text of errors and from handlers, made readable and storable.

use std::error::Error;

/// Most causes of an error that are told.
const CAUSES_MAX: usize = 16;

/// What stands for a character that no store can keep.
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// Makes any text storable in every store: NUL becomes U+FFFD, and what exceeds `bytes_max` is cut
/// at a character boundary.
///
/// Recording what a handler said can therefore not fail because of its content.
#[must_use]
pub fn storable(text: impl Into<String>, bytes_max: usize) -> String {
    let mut text = text.into();
    if text.contains('\0') {
        text = text.replace('\0', &REPLACEMENT.to_string());
    }
    if text.len() > bytes_max {
        text.truncate(floor_char_boundary(&text, bytes_max));
    }
    text
}

/// An error and its causes in one line: `failed to send: connection reset`. At most 16 causes, since
/// an error may be its own.
#[must_use]
pub fn error_chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.take(CAUSES_MAX).fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Makes text of bytes that may not be UTF-8 (lone surrogates, raw output of a process).
#[must_use]
pub fn storable_bytes(bytes: &[u8], bytes_max: usize) -> String {
    storable(String::from_utf8_lossy(bytes), bytes_max)
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|&index| text.is_char_boundary(index)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_is_replaced_and_the_rest_stays() {
        assert_eq!(storable("a\0b", 100), "a\u{fffd}b");
        assert_eq!(storable("plain", 100), "plain");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(storable("aä", 2), "a");
        assert_eq!(storable("aä", 3), "aä");
        assert_eq!(storable("ä", 1), "");
    }

    #[test]
    fn the_replacement_counts_towards_the_limit() {
        assert!(storable("\0".repeat(10), 16).len() <= 16);
    }

    #[test]
    fn lone_surrogates_become_replacement_characters() {
        let text = storable_bytes(b"a\xed\xa0\x80b", 100);
        assert!(text.starts_with('a') && text.ends_with('b') && text.contains(REPLACEMENT));
    }
}
