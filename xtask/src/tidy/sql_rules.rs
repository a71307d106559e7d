//! The rule for SQL files: each is named by exactly one `include_str!`.

use super::{File, finding::Finding, source};

/// Applies the rule to all SQL files, given all Rust files.
pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let rust = files.iter().filter(|file| file.path.ends_with(".rs"));
    let includes: Vec<String> = rust.flat_map(includes).collect();
    let sql = files.iter().filter(|file| file.path.ends_with(".sql"));
    sql.filter_map(|file| {
        match includes.iter().filter(|included| **included == file.path).count() {
            1 => None,
            0 => Some("no include_str! names this file: use it or remove it".to_owned()),
            count => Some(format!(
                "{count} include_str! name this file: keep one constant and use it everywhere"
            )),
        }
        .map(|message| Finding::in_file(&file.path, message))
    })
    .collect()
}

/// The paths from the root of all files that one Rust file includes as text.
fn includes(file: &File) -> Vec<String> {
    let code = source::split(&file.content).code;
    let calls = code.match_indices("include_str!");
    calls
        .filter_map(|(at, name)| {
            let argument = file.content[at + name.len()..].trim_start().strip_prefix(['(', '['])?;
            let (path, _) = argument.trim_start().strip_prefix('"')?.split_once('"')?;
            Some(resolve(&file.path, path))
        })
        .collect()
}

/// A path relative to a file, as a path from the root.
fn resolve(file: &str, relative: &str) -> String {
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in relative.split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::{super::finding::expect, *};

    const SQL: &str = "crates/a/src/queries/dispatch/claim.sql";

    #[track_caller]
    fn check_rust(path: &str, content: &str, expected: &[&str]) {
        let file =
            |path: &str, content: &str| File { path: path.to_owned(), content: content.to_owned() };
        expect(&check(&[file(path, content), file(SQL, "select 1")]), expected);
    }

    #[test]
    fn a_statement_is_included_once() {
        let one = r#"const A: &str = include_str!("queries/dispatch/claim.sql");"#;
        check_rust("crates/a/src/sql.rs", one, &[]);
        check_rust("crates/a/src/sql/b.rs", &one.replace("queries", "../queries"), &[]);
    }

    #[test]
    fn a_statement_that_nobody_includes_is_left_over() {
        check_rust("crates/a/src/sql.rs", "", &["claim.sql: no include_str! names this file"]);
        let comment = r#"// include_str!("queries/dispatch/claim.sql")"#;
        check_rust("crates/a/src/sql.rs", comment, &["no include_str!"]);
    }

    #[test]
    fn a_statement_has_one_constant() {
        let two = r#"include_str!("queries/dispatch/claim.sql");"#.repeat(2);
        check_rust("crates/a/src/sql.rs", &two, &["2 include_str! name this file"]);
    }
}
