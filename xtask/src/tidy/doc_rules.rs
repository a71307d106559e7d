//! The rule for tables in the documentation: a row for each event and each metric, and no other.

use std::collections::BTreeSet;

use super::{File, finding::Finding};

/// What has to have a row: where it is named in the code, and where it is described.
struct Table {
    /// The file, or the folder ending in `/`, that names all of them.
    code: &'static str,
    document: &'static str,
    /// Whether a text in quotes is such a name.
    is_name: fn(&str) -> bool,
}

const TABLES: [Table; 2] = [
    Table {
        code: "crates/ergon-core/src/event/kind.rs",
        document: "docs/events.md",
        is_name: |text| {
            let subjects = ["task.", "tasks.", "queue.", "server."];
            subjects.iter().any(|subject| text.starts_with(subject)) && is_plain(text)
        },
    },
    Table {
        code: "crates/ergon-prometheus/src/",
        document: "docs/metrics.md",
        is_name: |text| text.starts_with("ergon_") && is_plain(text),
    },
];

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'.'))
}

/// Applies the rule to all tables.
pub(super) fn check(files: &[File]) -> Vec<Finding> {
    TABLES.iter().flat_map(|table| check_table(table, files)).collect()
}

fn check_table(table: &Table, files: &[File]) -> Vec<Finding> {
    let code = files.iter().filter(|file| {
        file.path == table.code || table.code.ends_with('/') && file.path.starts_with(table.code)
    });
    let named: BTreeSet<&str> = code
        .flat_map(|file| product(&file.content).split('"').skip(1).step_by(2))
        .filter(|&text| (table.is_name)(text))
        .collect();
    if named.is_empty() {
        return Vec::new();
    }
    let Some(document) = files.iter().find(|file| file.path == table.document) else {
        return vec![Finding::in_file(
            table.document,
            format!("describe what {} names", table.code),
        )];
    };
    let described: BTreeSet<&str> = document.content.lines().filter_map(row).collect();
    let missing = named.difference(&described).map(|name| format!("no row for `{name}`"));
    let left_over = described
        .difference(&named)
        .filter(|name| (table.is_name)(name))
        .map(|name| format!("the row for `{name}` describes nothing that {} names", table.code));
    missing.chain(left_over).map(|message| Finding::in_file(table.document, message)).collect()
}

/// The part of a file before its tests.
fn product(content: &str) -> &str {
    content.split("#[cfg(test)]").next().unwrap_or(content)
}

/// The name that a line of a table begins with.
fn row(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix("| `")?.split_once('`')?;
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::{super::finding::expect, *};

    #[track_caller]
    fn check_pair(code: &str, document: &str, expected: &[&str]) {
        let file =
            |path: &str, content: &str| File { path: path.to_owned(), content: content.to_owned() };
        let files =
            [file("crates/ergon-core/src/event/kind.rs", code), file("docs/events.md", document)];
        expect(&check(&files), expected);
    }

    #[test]
    fn each_event_has_a_row_and_each_row_an_event() {
        let code = r#"A = "task.a", B = "queue.b" #[cfg(test)] "task.exploded""#;
        check_pair(code, "| `task.a` | x |\n| `queue.b` | y |\n| `option` | z |", &[]);
        check_pair(code, "| `task.a` | x |", &["no row for `queue.b`"]);
        let rows = "| `task.a` | x |\n| `queue.b` | y |\n| `task.c` | z |";
        check_pair(code, rows, &["the row for `task.c` describes nothing"]);
    }

    #[test]
    fn a_document_that_is_missing_is_found() {
        let code = File {
            path: "crates/ergon-prometheus/src/lib.rs".to_owned(),
            content: r#""ergon_tasks_total""#.to_owned(),
        };
        expect(&check(&[code]), &["docs/metrics.md: describe"]);
    }
}
