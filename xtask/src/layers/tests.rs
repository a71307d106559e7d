//! Edges that the table allows and forbids, and the edges of the real workspace.

use super::*;

fn edge(to: &str, kind: Kind) -> Edge {
    let is_own = to.starts_with("ergon-");
    Edge {
        to: to.to_owned(),
        kind,
        is_optional: false,
        has_path: is_own,
        has_version: !is_own || kind != Kind::Dev,
    }
}

fn package(name: &str, edges: Vec<Edge>) -> Package {
    Package { name: name.to_owned(), is_published: !UNPUBLISHED.contains(&name), edges }
}

/// Expects one violation that contains the text, or none.
#[track_caller]
fn check_edge(from: &str, edge: Edge, expected: Option<&str>) {
    let violations = check(&[package(from, vec![edge])]);
    match expected {
        None => assert_eq!(violations, [""; 0]),
        Some(text) => {
            assert_eq!(violations.len(), 1, "{violations:?}");
            assert!(violations[0].contains(text), "{violations:?}");
        }
    }
}

#[test]
fn the_workspace_keeps_to_the_table() -> Result<()> {
    assert_eq!(check(&packages()?), [""; 0]);
    Ok(())
}

#[test]
fn stores_and_server_depend_on_core_alone() {
    for from in ["ergon-redb", "ergon-postgres", "ergon-server", "ergon-events", "ergon-testing"] {
        check_edge(from, edge("ergon-core", Kind::Normal), None);
    }
    check_edge(
        "ergon-redb",
        edge("ergon-server", Kind::Normal),
        Some("ergon-redb → ergon-server (dependency): not an allowed edge"),
    );
    check_edge(
        "ergon-server",
        edge("ergon-redb", Kind::Dev),
        Some("may depend on ergon-core, ergon-testing): move the test to a crate"),
    );
    check_edge("ergon-server", edge("ergon-events", Kind::Build), Some("(build-dependency)"));
    check_edge("ergon-testing", edge("ergon-redb", Kind::Normal), Some("not an allowed edge"));
}

#[test]
fn the_test_helper_is_for_tests() {
    for from in ["ergon-core", "ergon-redb", "ergon-postgres", "ergon-server"] {
        check_edge(from, edge("ergon-testing", Kind::Dev), None);
        check_edge(
            from,
            edge("ergon-testing", Kind::Normal),
            Some("move it to [dev-dependencies]"),
        );
    }
}

#[test]
fn clusters_are_for_the_tests_of_what_speaks_sql() {
    for row in ROWS {
        let may = ["ergon-postgres", "ergon-testing"].contains(&row.name);
        let in_tests = (!may).then_some("not an allowed edge");
        let elsewhere = if may { "move it to [dev-dependencies]" } else { "not an allowed edge" };
        check_edge(row.name, edge("ergon-cluster", Kind::Dev), in_tests);
        check_edge(row.name, edge("ergon-cluster", Kind::Normal), Some(elsewhere));
    }
    check_edge("ergon-bench", edge("ergon-cluster", Kind::Normal), None);
}

#[test]
fn a_dev_dependency_on_ours_has_no_version() {
    let versioned = Edge { has_version: true, ..edge("ergon-testing", Kind::Dev) };
    check_edge("ergon-redb", versioned.clone(), Some("{ path = \"../ergon-testing\" }"));
    check_edge("ergon-examples", versioned, Some("has no version"));
}

#[test]
fn our_crates_come_from_the_workspace() {
    let registry = Edge { has_path: false, ..edge("ergon-core", Kind::Normal) };
    check_edge("ergon-redb", registry, Some("write `workspace = true`"));
}

#[test]
fn some_edges_are_behind_a_feature_only() {
    for (from, to) in [("ergon-core", "ergon-macros"), ("ergon-monitor", "ergon-events")] {
        let optional = Edge { is_optional: true, ..edge(to, Kind::Normal) };
        check_edge(from, optional, None);
        check_edge(from, edge(to, Kind::Normal), Some("add `optional = true`"));
    }
}

#[test]
fn each_technology_has_its_crate() {
    let owners = [
        ("redb", &["ergon-redb"][..]),
        ("sqlx-core", &["ergon-postgres", "ergon-testing"]),
        ("axum", &["ergon-monitor"]),
        ("prometheus", &["ergon-prometheus"]),
        ("opentelemetry_sdk", &["ergon-otel"]),
    ];
    let points = ROWS.iter().filter(|row| !["ergon-cli", "ergon-macros"].contains(&row.name));
    for row in points {
        for (library, owners) in owners {
            let expected = (!owners.contains(&row.name)).then_some("never imports this library");
            check_edge(row.name, edge(library, Kind::Normal), expected);
            check_edge(row.name, edge(library, Kind::Dev), expected);
        }
    }
}

#[test]
fn core_may_use_a_runtime_in_tests_only() {
    check_edge("ergon-core", edge("tokio", Kind::Dev), None);
    check_edge("ergon-core", edge("tokio-util", Kind::Normal), Some("in tests only"));
    check_edge("ergon-core", edge("serde", Kind::Normal), None);
}

#[test]
fn macros_use_what_parses_and_prints_and_nothing_else() {
    check_edge("ergon-macros", edge("syn", Kind::Normal), None);
    check_edge("ergon-macros", edge("trybuild", Kind::Dev), None);
    check_edge("ergon-macros", edge("serde", Kind::Normal), Some("proc-macro2, quote, syn only"));
}

#[test]
fn an_unknown_crate_needs_a_row() {
    let violations = check(&[package("ergon-mystery", Vec::new())]);
    assert!(violations[0].contains("add its row to xtask/src/layers/table.rs"), "{violations:?}");
}

#[test]
fn whoever_may_use_anything_is_never_published() {
    check_edge("ergon-examples", edge("ergon-redb", Kind::Normal), None);
    let published = Package { is_published: true, ..package("ergon-examples", Vec::new()) };
    assert!(check(&[published])[0].contains("set publish = false"));
}

#[test]
fn families_are_told_by_whole_words() {
    assert!(is_of_family("sqlx", "sqlx"));
    assert!(is_of_family("opentelemetry_sdk", "opentelemetry"));
    assert!(!is_of_family("redbird", "redb"));
}
