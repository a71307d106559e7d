//! What the examples with Postgres share: a database to run on.
#![expect(clippy::print_stderr, reason = "a program talks to its terminal")]

use std::env;

#[cfg(unix)]
use ergon_cluster::{Cluster, Settings};

/// The database that `DATABASE_URL` names, or one in a server that ends with this value.
#[derive(Debug)]
pub struct Database {
    url: String,
    #[cfg(unix)]
    _server: Option<Cluster>,
}

impl Database {
    /// Finds the database, or starts a throw-away server when `DATABASE_URL` is not set.
    ///
    /// # Errors
    ///
    /// When Postgres is not installed, which the error says how to change, or does not start.
    pub fn open() -> anyhow::Result<Self> {
        match env::var("DATABASE_URL") {
            Ok(url) if !url.is_empty() => Ok(Self {
                url,
                #[cfg(unix)]
                _server: None,
            }),
            _ => Self::throw_away(),
        }
    }

    #[cfg(unix)]
    fn throw_away() -> anyhow::Result<Self> {
        eprintln!("DATABASE_URL is not set: a server is started, and removed at the end");
        let server = Cluster::start(Settings::default())?;
        Ok(Self { url: server.url(), _server: Some(server) })
    }

    #[cfg(not(unix))]
    fn throw_away() -> anyhow::Result<Self> {
        anyhow::bail!("DATABASE_URL is not set, and servers are started on Unix only")
    }

    /// The URL to connect to.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}
