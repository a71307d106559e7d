//! The rules of names and labels, which ergon-core checks again when the program runs.

/// Longest name of a kind or a queue, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// Longest tag, in bytes.
const TAG_BYTES_MAX: usize = 64;

/// Longest key of a metadata entry, in bytes.
const METADATA_KEY_BYTES_MAX: usize = 128;

/// Checks the name of a kind or a queue.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/-".contains(&byte);
    let is_valid = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_good);
    valid(is_valid, "a name is 1 to 128 bytes of the characters A-Z a-z 0-9 . _ : / -")
}

/// Checks a tag.
pub(crate) fn check_tag(tag: &str) -> Result<(), String> {
    valid(is_label(tag, TAG_BYTES_MAX), "a tag is 1 to 64 bytes without control characters")
}

/// Checks the key of a metadata entry.
pub(crate) fn check_metadata_key(key: &str) -> Result<(), String> {
    valid(
        is_label(key, METADATA_KEY_BYTES_MAX) && !key.starts_with("ergon."),
        "a metadata key is 1 to 128 bytes without control characters, and does not begin with \
         `ergon.`",
    )
}

/// Checks the value of a metadata entry.
pub(crate) fn check_metadata_value(value: &str) -> Result<(), String> {
    valid(!value.contains('\0'), "a metadata value has no NUL")
}

fn is_label(text: &str, bytes_max: usize) -> bool {
    !text.is_empty() && text.len() <= bytes_max && !text.chars().any(char::is_control)
}

fn valid(is_valid: bool, rule: &str) -> Result<(), String> {
    if is_valid { Ok(()) } else { Err(rule.to_owned()) }
}

/// The name of a type in `snake_case`; a run of capitals is one word.
pub(crate) fn snake_case(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut text = String::with_capacity(name.len() + 4);
    let mut previous = None;
    for (index, &char) in chars.iter().enumerate() {
        let next_is_lower = chars.get(index + 1).is_some_and(|next| next.is_lowercase());
        let begins_word = char.is_uppercase()
            && previous.is_some_and(|previous: char| {
                previous != '_' && (!previous.is_uppercase() || next_is_lower)
            });
        if begins_word {
            text.push('_');
        }
        text.extend(char.to_lowercase());
        previous = Some(char);
    }
    text
}

#[cfg(test)]
mod tests {
    use ergon_core::{Tag, name::is_valid_name};

    use super::*;

    #[test]
    fn the_rules_are_those_of_the_core() {
        let mut texts: Vec<String> =
            (0..=0x17f).filter_map(char::from_u32).map(String::from).collect();
        for len in [0, 1, 64, 65, 128, 129] {
            texts.push("x".repeat(len));
        }
        for text in texts {
            assert_eq!(check_name(&text).is_ok(), is_valid_name(&text), "{text:?}");
            assert_eq!(check_tag(&text).is_ok(), Tag::new(&text).is_ok(), "{text:?}");
        }
        assert_eq!(METADATA_KEY_BYTES_MAX, ergon_core::limits::METADATA_KEY_BYTES_MAX);
    }

    #[test]
    fn names_of_types_become_snake_case() {
        for (name, expected) in [
            ("SendEmail", "send_email"),
            ("Email", "email"),
            ("HTTPPing", "http_ping"),
            ("PingHTTP", "ping_http"),
            ("ExportV2", "export_v2"),
            ("V2Export", "v2_export"),
            ("Snake_Case", "snake_case"),
            ("already_snake", "already_snake"),
            ("A", "a"),
            ("AB", "ab"),
        ] {
            assert_eq!(snake_case(name), expected);
        }
    }
}
