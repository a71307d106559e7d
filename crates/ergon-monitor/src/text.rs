//! Text of users, made fit to be shown.

/// Characters that turn the direction of what follows, by which text can be made to look like other
/// text.
const fn turns_direction(character: char) -> bool {
    matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text without what controls terminals and directions: escape sequences go, other control
/// characters but tabs and line ends become U+FFFD.
pub(crate) fn clean(text: &str) -> String {
    let is_bad = |character: char| {
        (character.is_control() && !matches!(character, '\n' | '\t')) || turns_direction(character)
    };
    if !text.contains(is_bad) {
        return text.to_owned();
    }
    let mut cleaned = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' && characters.peek() == Some(&'[') {
            characters.next();
            // A sequence ends with a letter or the like.
            for next in characters.by_ref() {
                if matches!(next, '\u{40}'..='\u{7e}') {
                    break;
                }
            }
        } else if character == '\r' && characters.peek() == Some(&'\n') {
        } else if is_bad(character) {
            cleaned.push(char::REPLACEMENT_CHARACTER);
        } else {
            cleaned.push(character);
        }
    }
    cleaned
}

/// At most so many characters of a text, and whether that is all of it.
pub(crate) fn excerpt(text: &str, characters_max: usize) -> (&str, bool) {
    match text.char_indices().nth(characters_max) {
        Some((end, _)) => (text.get(..end).unwrap_or(text), false),
        None => (text, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_controls_is_taken_out() {
        for (text, expected) in [
            ("plain äöü 漢字", "plain äöü 漢字"),
            ("a\r\nb\tc", "a\nb\tc"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("bell\u{7}", "bell\u{fffd}"),
            ("x\u{202e}gpj.exe", "x\u{fffd}gpj.exe"),
            ("\u{1b}[", ""),
        ] {
            assert_eq!(clean(text), expected, "{text:?}");
        }
    }

    #[test]
    fn excerpts_end_between_characters() {
        assert_eq!(excerpt("äöü", 2), ("äö", false));
        assert_eq!(excerpt("äöü", 3), ("äöü", true));
    }
}
