//! Checks the conventions that no other tool knows: rules over the text of the tracked files.

mod doc_rules;
mod finding;
mod manifest;
mod manifest_rules;
mod rust_rules;
mod source;
mod sql_rules;

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use walkdir::{DirEntry, WalkDir};

use self::finding::{Finding, Severity};
use crate::workspace;

/// A file of the workspace: its path from the root with `/` between the parts, and its text.
#[derive(Clone, Debug)]
struct File {
    path: String,
    content: String,
}

/// Reads the workspace, prints what it finds, and fails if any finding is an error.
pub(crate) fn run() -> Result<()> {
    eprintln!("$ cargo xtask tidy");
    let files = read_files(&workspace::root())?;
    let findings = check(&files);
    for finding in &findings {
        eprintln!("{finding}");
    }
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    let warnings = findings.len() - errors;
    if errors > 0 {
        bail!("tidy: {errors} errors and {warnings} warnings in {} files", files.len());
    }
    eprintln!("tidy: {} files are tidy, with {warnings} warnings", files.len());
    Ok(())
}

/// Applies every rule to every file that it concerns.
fn check(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for File { path, content } in files {
        if path.ends_with(".rs") {
            findings.extend(rust_rules::check(path, content));
        } else if path.ends_with("Cargo.toml") {
            findings.extend(manifest_rules::check(path, content));
        }
    }
    findings.extend(sql_rules::check(files));
    findings.extend(doc_rules::check(files));
    findings
}

fn read_files(root: &Path) -> Result<Vec<File>> {
    let is_ours = |entry: &DirEntry| {
        let name = entry.file_name().to_string_lossy();
        entry.depth() == 0 || !(name.starts_with('.') || name == "target")
    };
    let mut files = Vec::new();
    for entry in WalkDir::new(root).sort_by_file_name().into_iter().filter_entry(is_ours) {
        let entry = entry.context("walk the workspace")?;
        let path = entry.path();
        let is_known = path.file_name().is_some_and(|name| name == "Cargo.toml")
            || path.extension().is_some_and(|it| it == "rs" || it == "sql" || it == "md");
        if !(entry.file_type().is_file() && is_known) {
            continue;
        }
        let content =
            fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let relative = path.strip_prefix(root).unwrap_or(path);
        let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
        files.push(File { path: parts.join("/"), content });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() -> Result<()> {
        let mut findings = check(&read_files(&workspace::root())?);
        findings.retain(|finding| finding.severity == Severity::Error);
        let messages: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert!(messages.is_empty(), "\n{}", messages.join("\n"));
        Ok(())
    }

    #[test]
    fn the_files_of_this_package_are_found() -> Result<()> {
        let files = read_files(&workspace::root())?;
        for path in ["xtask/Cargo.toml", "xtask/src/tidy.rs"] {
            assert!(files.iter().any(|file| file.path == path), "{path} is missing");
        }
        assert!(files.iter().all(|file| !file.path.starts_with("target/")));
        Ok(())
    }
}
