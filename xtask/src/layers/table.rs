//! The table of allowed edges: a star around `ergon-core`, not a tower.
//!
//! Adding a row or an edge is a decision about the architecture, also for the crates that are still
//! to come: their rows are checked from the day they arrive.

/// What one published crate may depend on. Libraries are named by family: `sqlx` is `sqlx-core` too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    /// Crates of ours it may depend on.
    pub(super) own: &'static [&'static str],
    /// Crates of ours it may depend on behind a feature only.
    pub(super) optional: &'static [&'static str],
    /// Crates of ours that only its tests may use.
    pub(super) dev: &'static [&'static str],
    /// Libraries that neither it nor its tests import.
    pub(super) never: &'static [&'static [&'static str]],
    /// Libraries that only its tests may use.
    pub(super) tests_only: &'static [&'static str],
    /// The only libraries it may use, if it is that strict; its tests may use others.
    pub(super) third_party: Option<&'static [&'static str]>,
}

/// They may use anything, because nobody can depend on them.
pub(super) const UNPUBLISHED: &[&str] =
    &["ergon-bench", "ergon-cluster", "ergon-examples", "xtask"];

const REDB: &[&str] = &["redb"];
const SQL: &[&str] = &["sqlx", "postgres", "tokio-postgres"];
const HTTP: &[&str] = &["axum", "hyper", "maud"];
const PROMETHEUS: &[&str] = &["prometheus"];
const OTEL: &[&str] = &["opentelemetry", "tracing-opentelemetry"];

/// A crate that depends on core alone.
const POINT: Row = Row {
    name: "",
    own: &["ergon-core"],
    optional: &[],
    dev: &[],
    never: &[REDB, SQL, HTTP, PROMETHEUS, OTEL],
    tests_only: &[],
    third_party: None,
};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "ergon-core",
        own: &[],
        optional: &["ergon-macros"],
        dev: &["ergon-testing"],
        tests_only: &["tokio", "tracing-subscriber"],
        ..POINT
    },
    Row {
        name: "ergon-macros",
        own: &[],
        // What the derive writes is compiled against the trait that it implements.
        dev: &["ergon-core"],
        third_party: Some(&["proc-macro2", "quote", "syn"]),
        ..POINT
    },
    Row {
        name: "ergon-redb",
        dev: &["ergon-testing"],
        never: &[SQL, HTTP, PROMETHEUS, OTEL],
        ..POINT
    },
    Row {
        name: "ergon-postgres",
        // Its tests stop and kill a server of their own.
        dev: &["ergon-cluster", "ergon-testing"],
        never: &[REDB, HTTP, PROMETHEUS, OTEL],
        ..POINT
    },
    Row { name: "ergon-server", dev: &["ergon-testing"], ..POINT },
    Row { name: "ergon-events", dev: &["ergon-testing"], ..POINT },
    Row {
        name: "ergon-prometheus",
        dev: &["ergon-testing"],
        never: &[REDB, SQL, HTTP, OTEL],
        ..POINT
    },
    Row {
        name: "ergon-otel",
        // Attempts are those of a real server.
        dev: &["ergon-server", "ergon-testing"],
        never: &[REDB, SQL, HTTP, PROMETHEUS],
        ..POINT
    },
    Row {
        name: "ergon-monitor",
        optional: &["ergon-events"],
        dev: &["ergon-testing"],
        never: &[REDB, SQL, PROMETHEUS, OTEL],
        ..POINT
    },
    // Its Postgres helper makes schemas, so it may speak SQL.
    Row {
        name: "ergon-testing",
        dev: &["ergon-cluster"],
        never: &[REDB, HTTP, PROMETHEUS, OTEL],
        ..POINT
    },
    Row {
        name: "ergon-cli",
        own: &[
            "ergon-core",
            "ergon-events",
            "ergon-monitor",
            "ergon-postgres",
            "ergon-prometheus",
            "ergon-redb",
            "ergon-server",
        ],
        never: &[],
        ..POINT
    },
];
