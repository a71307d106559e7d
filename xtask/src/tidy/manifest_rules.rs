//! The rules for the manifests of packages.

use super::{
    finding::Finding,
    manifest::{self, Dependency, Entry},
};

/// Applies every rule to one manifest; the root's, which is of no package, has nothing to keep to.
pub(super) fn check(path: &str, content: &str) -> Vec<Finding> {
    let entries = manifest::entries(content);
    if entries.iter().all(|entry| entry.table != "package") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    findings.extend(check_lints(path, &entries));
    for dependency in manifest::dependencies(&entries) {
        findings.extend(check_dependency(path, &dependency));
    }
    findings
}

fn check_lints(path: &str, entries: &[Entry]) -> Option<Finding> {
    let inherits = entries.iter().any(|entry| {
        let is_lints = (entry.table == "lints" && entry.key == "workspace")
            || (entry.table.is_empty() && entry.key == "lints.workspace");
        is_lints && entry.value == "true"
    });
    let fix = "the lints of the workspace bind every package: add [lints] workspace = true";
    (!inherits).then(|| Finding::in_file(path, fix))
}

/// Everybody else's crates come with the workspace's version. So do ours, but for our own tests: a
/// version there would make a circle that cannot be published.
fn check_dependency(path: &str, dependency: &Dependency) -> Option<Finding> {
    let Dependency { line, name, is_dev, .. } = dependency;
    let renamed = dependency.key("package").map(|package| package.trim_matches('"'));
    let package = renamed.unwrap_or(name);
    let is_from_workspace = dependency.key("workspace") == Some("true");
    if *is_dev && package.starts_with("ergon-") {
        let has_path_alone = dependency.key("path").is_some()
            && dependency.key("version").is_none()
            && !is_from_workspace;
        let fix = format!(
            "a dev-dependency on our own crate has a path and no version: \
             {name} = {{ path = \"../{package}\" }}"
        );
        return (!has_path_alone).then(|| Finding::in_line(path, *line, fix));
    }
    let fix = format!(
        "versions are the workspace's: declare {name} in the root manifest and write \
         {name}.workspace = true"
    );
    (!is_from_workspace).then(|| Finding::in_line(path, *line, fix))
}

#[cfg(test)]
mod tests {
    use super::{super::finding::expect, *};

    const HEAD: &str = "[package]\nname = \"a\"\n[lints]\nworkspace = true\n";

    #[track_caller]
    fn check_body(body: &str, expected: &[&str]) {
        expect(&check("crates/a/Cargo.toml", &format!("{HEAD}{body}\n")), expected);
    }

    #[test]
    fn every_package_takes_the_lints_of_the_workspace() {
        check_body("", &[]);
        expect(&check("Cargo.toml", "lints.workspace = true\n[package]\nname = \"a\"\n"), &[]);
        expect(&check("Cargo.toml", "[package]\nname = \"a\"\n"), &["add [lints] workspace"]);
        expect(
            &check("Cargo.toml", "[package]\nname = \"a\"\n[lints]\nworkspace = false\n"),
            &["error: Cargo.toml: the lints of the workspace"],
        );
    }

    #[test]
    fn the_root_manifest_is_of_no_package() {
        expect(&check("Cargo.toml", "[workspace.dependencies]\nserde = \"1\"\n"), &[]);
    }

    #[test]
    fn dependencies_come_from_the_workspace() {
        check_body("[dependencies]\nserde.workspace = true", &[]);
        check_body("[dev-dependencies]\nserde = { workspace = true, optional = true }", &[]);
        check_body("[dependencies]\nergon-core.workspace = true", &[]);
        check_body(
            "[dependencies]\nserde = \"1\"",
            &["Cargo.toml:6: versions are the workspace's"],
        );
        check_body("[build-dependencies]\ncc = { version = \"1\" }", &["cc.workspace = true"]);
        check_body("[dependencies]\nergon-core = { path = \"../ergon-core\" }", &["ergon-core"]);
    }

    #[test]
    fn dev_dependencies_on_ours_have_a_path_and_no_version() {
        check_body("[dev-dependencies]\nergon-testing = { path = \"../ergon-testing\" }", &[]);
        check_body(
            "[dev-dependencies]\nergon-testing.workspace = true",
            &["ergon-testing = { path = \"../ergon-testing\" }"],
        );
        check_body(
            "[dev-dependencies]\nt = { package = \"ergon-testing\", path = \"t\", version = \"1\" }",
            &["has a path and no version"],
        );
    }
}
