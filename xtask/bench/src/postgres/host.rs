//! The cluster of a benchmark, and its databases.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use anyhow::{Context, Result};
use ergon_cluster::{Cluster, Settings};
use ergon_core::{
    Client, Clock as _, IdSource, Store, SystemClock, SystemIds, SystemRng, TaskId, Timestamp,
};
use ergon_postgres::PostgresStore;
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};

/// A cluster of one's own.
#[derive(Debug)]
pub(super) struct Host {
    cluster: Cluster,
    databases: AtomicU32,
}

impl Host {
    /// Starts a cluster in a directory.
    pub(super) fn start(dir: &Path, parameters: &[(String, String)]) -> Result<Self> {
        let bench = Settings::bench().directory(dir);
        let settings =
            parameters.iter().fold(bench, |settings, (name, value)| settings.set(name, value));
        let cluster = Cluster::start(settings).context("start a Postgres server")?;
        Ok(Self { cluster, databases: AtomicU32::new(0) })
    }

    /// The last lines of the server's log.
    pub(super) fn log(&self) -> String {
        self.cluster.log()
    }

    /// Makes an empty database. Whatever was written before is on the medium then, so that no run
    /// pays for another.
    pub(super) fn database(&self) -> Result<Database<'_>> {
        let number = self.databases.fetch_add(1, Relaxed) + 1;
        let name = format!("bench_{number}");
        self.cluster.create_database(&name)?;
        self.cluster.execute("CHECKPOINT")?;
        Ok(Database { host: self, name })
    }
}

/// A database, dropped with this value.
#[derive(Debug)]
pub(super) struct Database<'h> {
    host: &'h Host,
    name: String,
}

impl Database<'_> {
    /// Its URL, over TCP.
    pub(super) fn url(&self) -> String {
        self.host.cluster.url_for(&self.name)
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A store in it, with the defaults.
    pub(super) async fn store(&self) -> Result<PostgresStore> {
        PostgresStore::connect(&self.url()).await.context("open the store")
    }

    /// A connection to it, as plain as can be.
    pub(super) async fn connect(&self) -> Result<PgConnection> {
        Ok(PgConnection::connect(&self.url()).await?)
    }

    /// A connection to it whose session is set as those of the store are.
    pub(super) async fn connect_as_store(&self) -> Result<PgConnection> {
        let options: PgConnectOptions = self.url().parse()?;
        let options = options.options([
            ("default_transaction_isolation", "read committed"),
            ("statement_timeout", "11s"),
            ("lock_timeout", "2s"),
            ("idle_in_transaction_session_timeout", "15s"),
            ("jit", "off"),
        ]);
        Ok(PgConnection::connect_with(&options).await?)
    }

    /// Asks for numbers, from outside of the database, so that the question is not counted in it.
    pub(super) fn ask(&self, sql: &str) -> Result<Vec<i64>> {
        let rows = self.host.cluster.query(sql)?;
        let row = rows.into_iter().next().context("no row")?;
        row.into_iter().map(|text| Ok(text.context("null")?.parse()?)).collect()
    }

    /// Asks for rows, in the database.
    pub(super) fn rows(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        Ok(self.host.cluster.query_in(&self.name, sql)?)
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        // It goes with the cluster at the latest.
        let _ = self.host.cluster.execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}

/// A client whose ids share no prefix, so that the store can join no two tasks.
pub(super) fn scattered(store: &Arc<dyn Store>) -> Client {
    Client::builder(store).ids(Arc::new(ScatteredIds::new())).build()
}

/// Makes ids each of which has a pack to itself.
#[derive(Debug)]
pub(super) struct ScatteredIds(SystemIds<SystemRng>);

impl ScatteredIds {
    pub(super) const fn new() -> Self {
        Self(SystemIds::new(SystemRng))
    }

    /// The next id, by the machine's clock.
    pub(super) fn next(&self) -> TaskId {
        self.next_id(SystemClock.now())
    }
}

impl IdSource for ScatteredIds {
    fn next_id(&self, now: Timestamp) -> TaskId {
        self.0.next_pack(now)
    }

    fn next_pack(&self, now: Timestamp) -> TaskId {
        self.0.next_pack(now)
    }
}
