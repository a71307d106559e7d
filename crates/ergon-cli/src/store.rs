//! The store that a command works on.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use anyhow::{Context as _, Result};
use ergon_core::{Store, store::IntoStore as _};
use ergon_postgres::PostgresStore;
use ergon_redb::RedbStore;

/// Where a store is.
#[derive(Clone)]
pub(crate) enum Address {
    /// In a file.
    Redb(PathBuf),
    /// In a database; the address may hold a password.
    Postgres(String),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("redb", path)) if !path.is_empty() => Ok(Self::Redb(path.into())),
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(text.to_owned())),
            _ => Err("a store is `redb:PATH` or `postgres://…`".to_owned()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redb(path) => f.debug_tuple("Redb").field(path).finish(),
            Self::Postgres(_) => f.write_str("Postgres(…)"),
        }
    }
}

/// A store that is open.
pub(crate) enum Opened {
    Redb(RedbStore),
    Postgres(PostgresStore),
}

impl Address {
    /// Opens the store. A file that is not there is an error: nobody watches a store that is made by
    /// watching it.
    pub(crate) async fn open(&self) -> Result<Opened> {
        match self {
            Self::Redb(path) => {
                let shown = path.display();
                anyhow::ensure!(path.exists(), "there is no store at {shown}");
                let opened = RedbStore::open(path).await;
                Ok(Opened::Redb(opened.with_context(|| format!("open {shown}"))?))
            }
            Self::Postgres(url) => {
                let connected = PostgresStore::connect(url).await;
                Ok(Opened::Postgres(connected.context("connect to the store")?))
            }
        }
    }
}

impl Opened {
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Redb(store) => store.clone().into_store(),
            Self::Postgres(store) => store.clone().into_store(),
        }
    }

    /// What metrics call it.
    pub(crate) const fn backend(&self) -> &'static str {
        match self {
            Self::Redb(_) => "redb",
            Self::Postgres(_) => "postgres",
        }
    }

    pub(crate) async fn close(self) -> Result<()> {
        match self {
            Self::Redb(store) => store.close().await.context("close the store"),
            Self::Postgres(store) => {
                store.close().await;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_files_or_databases() {
        let redb = "redb:/var/lib/tasks.redb".parse::<Address>().unwrap();
        assert!(matches!(redb, Address::Redb(path) if path.ends_with("tasks.redb")));
        for url in ["postgres://u:p@h/d", "postgresql://h/d"] {
            assert!(matches!(url.parse::<Address>(), Ok(Address::Postgres(it)) if it == url));
        }
        for bad in ["", "redb:", "tasks.redb", "mysql://h/d"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let address = "postgres://u:secret@h/d".parse::<Address>().unwrap();
        assert_eq!(format!("{address:?}"), "Postgres(…)");
    }
}
