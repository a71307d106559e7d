//! The rules for Rust files.

use super::{finding::Finding, source};

/// A file has one purpose, and so it is short.
const LINES_WARN: usize = 400;
const LINES_MAX: usize = 600;

/// What code must not contain, and what to do instead.
const FORBIDDEN_MACROS: &[(&str, &str)] = &[
    ("todo!", "finish the code, or return an error that says what is missing"),
    ("unimplemented!", "finish the code, or return an error that says what is missing"),
    ("dbg!", "remove it, or trace the value"),
];

/// Attributes that hide a test or a warning, and what to do instead.
const FORBIDDEN_ATTRIBUTES: &[(&str, &str)] = &[
    ("ignore", "make the test run, or print `skipped: <reason>` and return"),
    ("should_panic", "assert on the error, or on the result of catch_unwind"),
    ("allow(", "write #[expect(lint, reason = \"…\")], which ends when it is no longer needed"),
];

/// Marks of unfinished work.
const MARKS: &[&str] = &["TODO", "FIXME"];

/// Applies every rule to one file.
pub(super) fn check(path: &str, content: &str) -> Vec<Finding> {
    let source = source::split(content);
    let mut findings = Vec::new();
    findings.extend(check_name(path));
    findings.extend(check_header(path, content));
    findings.extend(check_length(path, content));
    for (line, code) in (1..).zip(source.code.lines()) {
        findings.extend(check_macros(path, line, code));
        findings.extend(check_attributes(path, line, code));
    }
    for (line, comment) in (1..).zip(source.comments.lines()) {
        findings.extend(check_marks(path, line, comment));
    }
    findings
}

fn check_name(path: &str) -> Option<Finding> {
    let folder = path.strip_suffix("/mod.rs")?;
    Some(Finding::in_file(path, format!("name the file after its module: {folder}.rs")))
}

fn check_header(path: &str, content: &str) -> Option<Finding> {
    (!content.starts_with("//!"))
        .then(|| Finding::in_line(path, 1, "say the file's purpose in a first line with `//!`"))
}

fn check_length(path: &str, content: &str) -> Option<Finding> {
    let lines = content.lines().count();
    let finding = |limit| {
        let message = format!("{lines} lines, over {limit}: split the file by purpose");
        Finding::in_file(path, message)
    };
    if lines > LINES_MAX {
        Some(finding(LINES_MAX))
    } else if lines > LINES_WARN {
        Some(finding(LINES_WARN).into_warning())
    } else {
        None
    }
}

fn check_macros(path: &str, line: usize, code: &str) -> Vec<Finding> {
    let found = FORBIDDEN_MACROS.iter().filter(|(name, _)| {
        code.match_indices(name).any(|(at, _)| !code[..at].ends_with(is_in_identifier))
    });
    found
        .map(|(name, fix)| Finding::in_line(path, line, format!("{name} is left: {fix}")))
        .collect()
}

fn check_attributes(path: &str, line: usize, code: &str) -> Vec<Finding> {
    let found = FORBIDDEN_ATTRIBUTES.iter().filter(|(name, _)| {
        code.match_indices(name).any(|(at, _)| {
            let after = &code[at + name.len()..];
            is_attribute(&code[..at])
                && (name.ends_with('(') || !after.starts_with(is_in_identifier))
        })
    });
    let name = |name: &str| name.trim_end_matches('(').to_owned();
    found
        .map(|(attribute, fix)| (name(attribute), fix))
        .map(|(name, fix)| Finding::in_line(path, line, format!("#[{name}] is not used: {fix}")))
        .collect()
}

/// Whether what follows this code is the name of an attribute, possibly a conditional one.
fn is_attribute(before: &str) -> bool {
    let before = before.trim_end();
    before.ends_with("#[")
        || before.ends_with("#![")
        || (before.contains("[cfg_attr(") && before.ends_with(','))
}

fn check_marks(path: &str, line: usize, comment: &str) -> Vec<Finding> {
    let is_open = |mark: &&&str| {
        comment.match_indices(**mark).any(|(at, mark)| {
            let (before, after) = (&comment[..at], &comment[at + mark.len()..]);
            let is_word =
                !before.ends_with(is_in_identifier) && !after.starts_with(is_in_identifier);
            is_word && !has_issue(after)
        })
    };
    let message = |mark| format!("{mark} needs the number of an issue: {mark}(#123)");
    MARKS.iter().filter(is_open).map(|mark| Finding::in_line(path, line, message(mark))).collect()
}

/// Whether the text begins with `(#` and a number and `)`.
fn has_issue(text: &str) -> bool {
    let number = text.strip_prefix("(#").and_then(|rest| rest.split_once(')'));
    number.is_some_and(|(number, _)| number.parse::<u64>().is_ok())
}

fn is_in_identifier(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::{super::finding::expect, *};

    #[track_caller]
    fn check_file(path: &str, content: &str, expected: &[&str]) {
        expect(&check(path, content), expected);
    }

    #[track_caller]
    fn check_body(body: &str, expected: &[&str]) {
        check_file("crates/a/src/b.rs", &format!("//! Purpose.\n{body}\n"), expected);
    }

    #[test]
    fn a_file_begins_with_its_purpose() {
        check_file("a.rs", "//! Purpose.\nfn f() {}\n", &[]);
        check_file("a.rs", "fn f() {}\n", &["error: a.rs:1: say the file's purpose"]);
        check_file("a.rs", "\n//! Purpose.\n", &["say the file's purpose"]);
        check_file("a.rs", "", &["say the file's purpose"]);
    }

    #[test]
    fn a_file_is_short() {
        let of = |lines: usize| "//! Purpose.\n".repeat(lines);
        check_file("a.rs", &of(400), &[]);
        check_file("a.rs", &of(401), &["warning: a.rs: 401 lines, over 400"]);
        check_file("a.rs", &of(600), &["warning: a.rs: 600 lines"]);
        check_file("a.rs", &of(601), &["error: a.rs: 601 lines, over 600"]);
    }

    #[test]
    fn a_module_is_named_by_its_file() {
        check_file("src/a.rs", "//! A.\n", &[]);
        check_file("src/a/mod.rs", "//! A.\n", &["name the file after its module: src/a.rs"]);
    }

    #[test]
    fn no_macro_of_unfinished_code_is_left() {
        check_body("fn f() { todo!() }", &["b.rs:2: todo! is left: finish the code"]);
        check_body("fn f() { unimplemented!(); dbg!(1); }", &["unimplemented!", "dbg!"]);
        check_body("fn f() { not_todo!() }", &[]);
        check_body("/// Not a todo!().\nfn f() { say(\"todo!\") }", &[]);
    }

    #[test]
    fn no_test_is_hidden() {
        check_body("#[test]\n#[ignore]", &["b.rs:3: #[ignore] is not used: make the test run"]);
        check_body("#[ignore = \"slow\"]", &["#[ignore]"]);
        check_body("#[cfg_attr(miri, ignore)]", &["#[ignore]"]);
        check_body("#[should_panic(expected = \"a\")]", &["#[should_panic]"]);
        check_body("#[test]\nfn ignore() {}\n#[ignored]\nstruct A;", &[]);
    }

    #[test]
    fn no_warning_is_allowed_without_end() {
        check_body("#[allow(dead_code)]", &["#[allow] is not used: write #[expect("]);
        check_body("#![allow(dead_code)]", &["#[allow]"]);
        check_body("#[cfg_attr(test, allow(dead_code))]", &["#[allow]"]);
        check_body("#[expect(dead_code, reason = \"\")]\nfn f() { allow(1); }", &[]);
    }

    #[test]
    fn unfinished_work_has_an_issue() {
        check_body("// TODO: later", &["b.rs:2: TODO needs the number of an issue"]);
        check_body("/* FIXME(me) */", &["FIXME needs"]);
        check_body("// TODO(#x): later", &["TODO needs"]);
        check_body("// TODO(#12): later\nconst TODO: &str = \"TODO\";\n// TODOS", &[]);
    }
}
