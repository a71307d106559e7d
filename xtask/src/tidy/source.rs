//! Tells code from comments and literals in Rust source, without parsing it.

/// One text twice: what is not of the kind is blank, and every byte keeps its place.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// Without comments and without what is between quotes.
    pub(super) code: String,
    /// Nothing but comments.
    pub(super) comments: String,
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    Code,
    LineComment,
    BlockComment { depth: usize },
    Text { hashes: Option<usize> },
}

/// What a piece of the text is.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Code,
    Comment,
    Literal,
}

/// The length in bytes of the next piece, what it is, and what follows it.
type Piece = (usize, Kind, Mode);

/// Splits a source text.
pub(super) fn split(text: &str) -> Source {
    let mut source = Source::default();
    let mut mode = Mode::Code;
    let mut rest = text;
    while !rest.is_empty() {
        let (length, kind, next) = match mode {
            Mode::Code => in_code(rest, &source.code),
            Mode::LineComment => in_line_comment(rest),
            Mode::BlockComment { depth } => in_block_comment(rest, depth),
            Mode::Text { hashes } => in_text(rest, hashes),
        };
        let (piece, after) = rest.split_at(length);
        source.push(kind, piece);
        (mode, rest) = (next, after);
    }
    source
}

fn in_code(rest: &str, before: &str) -> Piece {
    if rest.starts_with("//") {
        (2, Kind::Comment, Mode::LineComment)
    } else if rest.starts_with("/*") {
        (2, Kind::Comment, Mode::BlockComment { depth: 1 })
    } else if rest.starts_with('"') {
        (1, Kind::Code, Mode::Text { hashes: raw_hashes(before) })
    } else if let Some(length) = char_literal(rest) {
        (length, Kind::Literal, Mode::Code)
    } else {
        (first_length(rest), Kind::Code, Mode::Code)
    }
}

fn in_line_comment(rest: &str) -> Piece {
    let next = if rest.starts_with('\n') { Mode::Code } else { Mode::LineComment };
    (first_length(rest), Kind::Comment, next)
}

fn in_block_comment(rest: &str, depth: usize) -> Piece {
    if rest.starts_with("/*") {
        (2, Kind::Comment, Mode::BlockComment { depth: depth + 1 })
    } else if rest.starts_with("*/") {
        let next = if depth > 1 { Mode::BlockComment { depth: depth - 1 } } else { Mode::Code };
        (2, Kind::Comment, next)
    } else {
        (first_length(rest), Kind::Comment, Mode::BlockComment { depth })
    }
}

fn in_text(rest: &str, hashes: Option<usize>) -> Piece {
    let same = Mode::Text { hashes };
    if let Some(after) = rest.strip_prefix('"') {
        let found = after.bytes().take_while(|&byte| byte == b'#').count();
        let needed = hashes.unwrap_or(0);
        if found >= needed {
            (1 + needed, Kind::Code, Mode::Code)
        } else {
            (1, Kind::Literal, same)
        }
    } else if let (Some(after), None) = (rest.strip_prefix('\\'), hashes) {
        (1 + first_length(after), Kind::Literal, same)
    } else {
        (first_length(rest), Kind::Literal, same)
    }
}

/// The number of `#` of the raw text that a quote opens after this code, if it is raw.
fn raw_hashes(code: &str) -> Option<usize> {
    let before = code.trim_end_matches('#');
    before.ends_with('r').then_some(code.len() - before.len())
}

/// The length of the character literal that starts here, which a lifetime does not.
fn char_literal(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('\'')?;
    let first = first_length(inner);
    let searched_from = match inner.strip_prefix('\\') {
        Some(escaped) => 1 + first_length(escaped),
        None => first,
    };
    let close = inner[searched_from..].find('\'')?;
    (inner.starts_with('\\') || close == 0).then_some(1 + searched_from + close + 1)
}

fn first_length(text: &str) -> usize {
    text.chars().next().map_or(0, char::len_utf8)
}

impl Source {
    /// Adds a piece to the half it belongs to and blanks to the other; both keep the line ends.
    fn push(&mut self, kind: Kind, piece: &str) {
        let blank = || piece.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' });
        match kind {
            Kind::Code => self.code.push_str(piece),
            Kind::Comment | Kind::Literal => self.code.extend(blank()),
        }
        match kind {
            Kind::Comment => self.comments.push_str(piece),
            Kind::Code | Kind::Literal => self.comments.extend(blank()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spaces are not compared, only what is left.
    #[track_caller]
    fn check(text: &str, code: &str, comments: &str) {
        let source = split(text);
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(&source.code), code, "code of {text}");
        assert_eq!(words(&source.comments), comments, "comments of {text}");
        assert_eq!(source.code.len(), text.len());
        assert_eq!(source.comments.len(), text.len());
        assert_eq!(source.code.lines().count(), text.lines().count());
    }

    #[test]
    fn comments_are_told_from_code() {
        check("a // b\nc", "a c", "// b");
        check("a /* b /* c */ d */ e", "a e", "/* b /* c */ d */");
        check("//! é\nx", "x", "//! é");
    }

    #[test]
    fn literals_are_blank() {
        check(r#"f("a // b \" c") // d"#, r#"f(" ")"#, "// d");
        check(r##"f(r#"a "b" // c"#) g"##, r##"f(r#" "#) g"##, "");
        check("f(\"a\nb\") g", "f(\" \") g", "");
        check("f(br\"\\\") g", "f(br\" \") g", "");
    }

    #[test]
    fn character_literals_are_told_from_lifetimes() {
        check("f('\"', '\\'', 'é', '\\u{1F600}') // a", "f( , , , )", "// a");
        check("impl<'a> F<'a> {} // b", "impl<'a> F<'a> {}", "// b");
    }
}
