//! Checks every dependency that the manifests declare against the table of allowed edges.

mod table;

use std::fmt;

use anyhow::{Result, bail};
use cargo_metadata::{Dependency, DependencyKind, Package as ManifestPackage};

use self::table::{ROWS, Row, UNPUBLISHED};
use crate::workspace;

/// A package of the workspace, as far as the table is concerned.
#[derive(Clone, Debug)]
struct Package {
    name: String,
    is_published: bool,
    edges: Vec<Edge>,
}

/// A declared dependency.
#[derive(Clone, Debug)]
struct Edge {
    to: String,
    kind: Kind,
    is_optional: bool,
    has_path: bool,
    has_version: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Normal,
    Build,
    Dev,
}

/// Reads the workspace and fails with every edge that the table does not allow.
pub(crate) fn run() -> Result<()> {
    eprintln!("$ cargo xtask layers");
    let packages = packages()?;
    let violations = check(&packages);
    for violation in &violations {
        eprintln!("error: {violation}");
    }
    if !violations.is_empty() {
        bail!("layers: {} edges are not allowed", violations.len());
    }
    let edges: usize = packages.iter().map(|package| package.edges.len()).sum();
    eprintln!("layers: {edges} edges of {} packages are allowed", packages.len());
    Ok(())
}

fn packages() -> Result<Vec<Package>> {
    let metadata = workspace::metadata()?;
    Ok(metadata.workspace_packages().into_iter().map(Package::from).collect())
}

/// One message for each violation, naming the edge and the fix.
fn check(packages: &[Package]) -> Vec<String> {
    let is_own = |name: &str| {
        name.starts_with("ergon-") || packages.iter().any(|package| package.name == name)
    };
    let mut violations = Vec::new();
    for package in packages {
        violations.extend(check_membership(package));
        let row = ROWS.iter().find(|row| row.name == package.name);
        for edge in &package.edges {
            let found = if is_own(&edge.to) {
                check_origin(edge).or_else(|| row.and_then(|row| check_own(row, edge)))
            } else {
                row.and_then(|row| check_third_party(row, edge))
            };
            violations.extend(found.map(|why| format!("{} → {edge}: {why}", package.name)));
        }
    }
    violations
}

/// Every package has its row, or is never published.
fn check_membership(package: &Package) -> Option<String> {
    let name = &package.name;
    let is_unpublished = UNPUBLISHED.contains(&name.as_str());
    if is_unpublished && package.is_published {
        return Some(format!(
            "{name} may use anything and so is never published: set publish = false"
        ));
    }
    if !is_unpublished && ROWS.iter().all(|row| row.name != name) {
        return Some(format!(
            "{name} is not in the table: decide what it may depend on and add its row to \
             xtask/src/layers/table.rs"
        ));
    }
    None
}

/// Our own crates come from this workspace; a version on a dev-dependency would make the circle of
/// a crate and its test helper impossible to publish.
fn check_origin(edge: &Edge) -> Option<String> {
    if !edge.has_path {
        return Some(
            "our own crates come from this workspace: write `workspace = true`".to_owned(),
        );
    }
    if edge.kind == Kind::Dev && edge.has_version {
        return Some(format!(
            "a dev-dependency on our own crate has no version: write `{{ path = \"../{}\" }}`",
            edge.to
        ));
    }
    None
}

fn check_own(row: &Row, edge: &Edge) -> Option<String> {
    let to = edge.to.as_str();
    let is_dev = edge.kind == Kind::Dev;
    if row.own.contains(&to) || (is_dev && (row.dev.contains(&to) || row.optional.contains(&to))) {
        return None;
    }
    if row.optional.contains(&to) {
        let fix = "allowed behind a feature only: add `optional = true`";
        return (!edge.is_optional).then(|| fix.to_owned());
    }
    if row.dev.contains(&to) {
        return Some("allowed in tests only: move it to [dev-dependencies]".to_owned());
    }
    let (allowed, fix) = if is_dev {
        ([row.own, row.dev].concat(), "move the test to a crate that may depend on both")
    } else {
        (row.own.to_vec(), "move what both need to ergon-core")
    };
    Some(format!("not an allowed edge ({} may depend on {}): {fix}", row.name, listed(&allowed)))
}

fn check_third_party(row: &Row, edge: &Edge) -> Option<String> {
    let is_family = |family: &&str| is_of_family(&edge.to, family);
    if row.never.iter().copied().flatten().any(is_family) {
        return Some(format!(
            "{} never imports this library: move the code to the crate that owns it",
            row.name
        ));
    }
    if edge.kind == Kind::Dev {
        return None;
    }
    if row.tests_only.iter().any(is_family) {
        return Some(format!(
            "{} may use this library in tests only: take what it gives as a parameter",
            row.name
        ));
    }
    let only = row.third_party?;
    (!only.contains(&edge.to.as_str()))
        .then(|| format!("{} may use {} only: do without", row.name, listed(only)))
}

/// Whether a library is the named one or a relative, as `sqlx-core` and `sqlx_macros` are of `sqlx`.
fn is_of_family(library: &str, family: &str) -> bool {
    library.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "no crate of ours".to_owned() } else { names.join(", ") }
}

impl From<&ManifestPackage> for Package {
    fn from(package: &ManifestPackage) -> Self {
        Self {
            name: package.name.to_string(),
            is_published: package.publish.as_ref().is_none_or(|to| !to.is_empty()),
            edges: package.dependencies.iter().map(Edge::from).collect(),
        }
    }
}

impl From<&Dependency> for Edge {
    fn from(dependency: &Dependency) -> Self {
        Self {
            to: dependency.name.clone(),
            kind: match dependency.kind {
                DependencyKind::Development => Kind::Dev,
                DependencyKind::Build => Kind::Build,
                _ => Kind::Normal,
            },
            is_optional: dependency.optional,
            has_path: dependency.path.is_some(),
            has_version: !dependency.req.comparators.is_empty(),
        }
    }
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Normal => "dependency",
            Kind::Build => "build-dependency",
            Kind::Dev => "dev-dependency",
        };
        write!(f, "{} ({kind})", self.to)
    }
}

#[cfg(test)]
mod tests;
