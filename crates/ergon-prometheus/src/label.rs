//! Texts from outside as values of labels.

/// Longest value of a label, in bytes; longer texts are cut.
const LABEL_BYTES_MAX: usize = 128;

/// What stands for a character that scrapers do not take.
const REPLACEMENT: char = '\u{fffd}';

/// A text as the value of a label: short, and without the control characters that scrapers stumble
/// over. Quotes, backslashes and newlines stay, as the encoder escapes them.
pub(crate) fn label(text: &str) -> String {
    let mut value = String::new();
    for c in text.chars() {
        let c = if c.is_control() && c != '\n' { REPLACEMENT } else { c };
        if value.len() + c.len_utf8() > LABEL_BYTES_MAX {
            break;
        }
        value.push(c);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short_and_without_control_characters() {
        assert_eq!(label("a\0b\u{1b}[c"), "a\u{fffd}b\u{fffd}[c");
        assert_eq!(label("say \"hi\"\n\\"), "say \"hi\"\n\\");
        assert_eq!(label(&"ä".repeat(100)), "ä".repeat(64));
    }
}
