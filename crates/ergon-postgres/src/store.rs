//! The store: a handle on what its roles share.

use std::sync::Arc;

use sqlx::PgPool;

use crate::{ConnectError, PostgresOptions, connect::Connected, shared::Shared};

/// A store in a Postgres database, which any number of processes share. Cheap to clone.
///
/// # Guarantees
///
/// What was acknowledged survives a crash of the process, of the server and of the machine, as far as
/// the medium keeps what it was told to keep. Time is the server's: clocks of clients decide nothing.
///
/// # Closing
///
/// [`close`](Self::close) ends what the store does in the background and closes its connections; they
/// are closed some time after its last handle is dropped, too.
///
/// ```no_run
/// # use ergon_core::{Client, Task};
/// # use ergon_postgres::PostgresStore;
/// # use serde::{Deserialize, Serialize};
/// #[derive(Serialize, Deserialize, Task)]
/// struct Greet {
///     name: String,
/// }
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let store = PostgresStore::connect("postgres://localhost/app").await?;
/// let client = Client::new(store.clone());
/// client.enqueue(Greet { name: "Ada".into() }).await?;
/// store.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct PostgresStore {
    shared: Arc<Shared>,
    is_durable: bool,
}

impl PostgresStore {
    pub(crate) fn new(connected: Connected) -> Self {
        let is_durable = !connected.options.allow_unsafe_durability;
        Self { shared: Arc::new(Shared::new(connected)), is_durable }
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether what is acknowledged survives a crash.
    pub(crate) const fn is_durable(&self) -> bool {
        self.is_durable
    }

    /// Connects to a database with the defaults, and makes or migrates the tables in its schema `ergon`.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`]; it never holds the URL.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::builder().connect(url).await
    }

    /// Makes a store that uses the application's pool.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub async fn from_pool(pool: PgPool) -> Result<Self, ConnectError> {
        Self::builder().from_pool(pool).await
    }

    /// Chooses how a store is opened.
    pub fn builder() -> PostgresOptions {
        PostgresOptions::default()
    }

    /// Ends what the store does in the background, and closes its connections unless the pool is the
    /// application's. Other handles answer [`StoreError::Closed`](ergon_core::StoreError::Closed) from
    /// now on.
    pub async fn close(&self) {
        self.shared.close().await;
    }
}
