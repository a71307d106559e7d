//! Where statements are run: each committed by itself, or in a transaction that is open.

use ergon_core::StoreError;
use sqlx::{PgConnection, postgres::PgRow};

use crate::{
    database::{Database, Transaction},
    error,
    sql::Bound,
};

/// Runs statements.
pub(crate) enum Runner<'r> {
    /// On any connection, each committed by itself.
    Each(&'r Database),
    /// On this connection, which somebody else commits.
    Within {
        /// The connection.
        connection: &'r mut PgConnection,
        /// Whether it keeps statements prepared.
        is_persistent: bool,
    },
}

impl<'r> Runner<'r> {
    /// In a transaction of the application, on a connection that is like those of the store.
    pub(crate) fn within(database: &Database, connection: &'r mut PgConnection) -> Self {
        Self::Within { connection, is_persistent: database.is_persistent() }
    }

    /// In a transaction of the store's own.
    pub(crate) fn own(
        database: &Database,
        transaction: &'r mut Transaction,
    ) -> Result<Self, StoreError> {
        Ok(Self::within(database, transaction.connection()?))
    }

    /// Runs a statement and collects its rows.
    pub(crate) async fn rows(&mut self, query: &Bound) -> Result<Vec<PgRow>, StoreError> {
        match self {
            Self::Each(database) => database.rows(|| query.query()).await,
            Self::Within { connection, is_persistent } => {
                let query = query.query().persistent(*is_persistent);
                query.fetch_all(&mut **connection).await.map_err(error::map)
            }
        }
    }
}
