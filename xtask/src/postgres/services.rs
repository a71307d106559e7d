//! The servers that a command finds in its environment.

use std::env;

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, Package};
use ergon_cluster::{Cluster, ClusterError, PgBouncer, Settings};

/// Where tests look for a server; what is set by hand is left alone.
const DATABASE_URL: &str = "DATABASE_URL";

const PGBOUNCER_URL: &str = "ERGON_PGBOUNCER_URL";

/// The store whose dependents need a server.
const STORE: &str = "ergon-postgres";

/// Whose dependents need a server in their tests.
const CLUSTER: &str = "ergon-cluster";

/// Whether there shall be a bouncer in front of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bouncer {
    None,
    IfInstalled,
    Required,
}

/// Servers that run for as long as this value lives, or none.
#[derive(Debug, Default)]
pub(crate) struct Services {
    // Invariant: the bouncer stands first, so that it ends before what it leads to.
    bouncer: Option<PgBouncer>,
    cluster: Option<Cluster>,
}

impl Services {
    /// Starts a server and, if asked for, a bouncer.
    pub(crate) fn start(settings: Settings, bouncer: Bouncer) -> Result<Self> {
        let cluster = Cluster::start(settings).context("start a Postgres server")?;
        let bouncer = match bouncer {
            Bouncer::None => None,
            Bouncer::IfInstalled => unless_missing(PgBouncer::start(&cluster))?,
            Bouncer::Required => Some(PgBouncer::start(&cluster).context("start a PgBouncer")?),
        };
        Ok(Self { bouncer, cluster: Some(cluster) })
    }

    /// What the tests of these packages need: nothing, what `DATABASE_URL` names, or servers of their
    /// own. Without Postgres on this machine it says so, and the tests say that they were skipped.
    pub(crate) fn for_tests(packages: &[&Package]) -> Result<Self> {
        let is_set = env::var_os(DATABASE_URL).is_some_and(|url| !url.is_empty());
        if is_set || !packages.iter().any(|package| needs_postgres(package)) {
            return Ok(Self::default());
        }
        if let Err(missing) = ergon_cluster::find_postgres() {
            eprintln!("the tests with Postgres will be skipped: {missing}");
            return Ok(Self::default());
        }
        let services = Self::start(Settings::default(), Bouncer::IfInstalled)?;
        for (name, url) in services.variables() {
            eprintln!("{name}={url} for the time of the tests");
        }
        Ok(services)
    }

    /// What to set in the environment of a command that shall find them.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        let database = self.cluster.as_ref().map(|cluster| (DATABASE_URL, cluster.url()));
        let bouncer = self.bouncer.as_ref().map(|bouncer| (PGBOUNCER_URL, bouncer.url()));
        database.into_iter().chain(bouncer).collect()
    }
}

fn unless_missing(started: Result<PgBouncer, ClusterError>) -> Result<Option<PgBouncer>> {
    match started {
        Ok(bouncer) => Ok(Some(bouncer)),
        Err(missing @ ClusterError::Missing { .. }) => {
            eprintln!("the tests with PgBouncer will be skipped: {missing}");
            Ok(None)
        }
        Err(error) => Err(error).context("start a PgBouncer"),
    }
}

/// Whether a package is the store, builds on it, or tests against a server.
fn needs_postgres(package: &Package) -> bool {
    let is_needed = |name: &str, kind| {
        name == STORE || (name == CLUSTER && kind == DependencyKind::Development)
    };
    package.name == STORE || package.dependencies.iter().any(|one| is_needed(&one.name, one.kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn the_store_needs_a_server_and_core_does_not() -> Result<()> {
        let metadata = workspace::metadata()?;
        let packages = metadata.workspace_packages();
        for (name, expected) in
            [(STORE, true), ("ergon-core", false), ("ergon-redb", false), ("xtask", false)]
        {
            let package = packages.iter().find(|package| package.name == name);
            let package = package.with_context(|| format!("find {name}"))?;
            assert_eq!(needs_postgres(package), expected, "{name}");
        }
        Ok(())
    }

    #[test]
    fn what_needs_no_server_gets_none() -> Result<()> {
        let metadata = workspace::metadata()?;
        let mut packages = metadata.workspace_packages();
        packages.retain(|package| package.name == "ergon-core");
        assert_eq!(packages.len(), 1);
        assert!(Services::for_tests(&packages)?.variables().is_empty());
        Ok(())
    }
}
