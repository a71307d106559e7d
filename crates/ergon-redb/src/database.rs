//! The redb database behind a store: its own, or one shared with the application.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use ergon_core::StoreError;
use redb::{Database, ReadTransaction, ReadableDatabase, WriteTransaction};

use crate::error::backend;

/// The database, as far as the store needs it.
pub(crate) enum Handle {
    /// Of the store alone; `None` once it is closed.
    Owned { database: RwLock<Option<Database>>, path: Option<PathBuf> },
    /// Shared with the application.
    Shared(Arc<Database>),
}

impl Handle {
    pub(crate) fn begin_read(&self) -> Result<ReadTransaction, StoreError> {
        self.with(|database| database.begin_read().map_err(backend))
    }

    pub(crate) fn begin_write(&self) -> Result<WriteTransaction, StoreError> {
        self.with(|database| database.begin_write().map_err(backend))
    }

    fn with<T>(&self, f: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match self {
            Self::Owned { database, .. } => {
                let database = database.read().unwrap_or_else(PoisonError::into_inner);
                f(database.as_ref().ok_or(StoreError::Closed)?)
            }
            Self::Shared(database) => f(database),
        }
    }

    /// The size of the file in bytes; 0 where there is none of the store's own.
    pub(crate) fn file_bytes(&self) -> u64 {
        match self {
            Self::Owned { path: Some(path), .. } => {
                fs::metadata(path).map_or(0, |metadata| metadata.len())
            }
            Self::Owned { path: None, .. } | Self::Shared(_) => 0,
        }
    }

    /// The file, where it is the store's own.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Owned { path, .. } => path.as_deref(),
            Self::Shared(_) => None,
        }
    }

    /// Whether the application uses the database too.
    pub(crate) const fn is_shared(&self) -> bool {
        matches!(self, Self::Shared(_))
    }

    /// Whether there is a file behind it; an application's database is taken for one.
    pub(crate) const fn is_file(&self) -> bool {
        matches!(self, Self::Owned { path: Some(_), .. } | Self::Shared(_))
    }

    /// Moves what is stored together and gives the rest of the file back; says whether anything
    /// was moved.
    pub(crate) fn compact(&self) -> Result<bool, StoreError> {
        let Self::Owned { database, .. } = self else { return Ok(false) };
        let mut database = database.write().unwrap_or_else(PoisonError::into_inner);
        database.as_mut().ok_or(StoreError::Closed)?.compact().map_err(|error| match error {
            redb::CompactionError::TransactionInProgress => StoreError::Conflict,
            error => backend(error),
        })
    }

    /// Closes the file, and with it gives up the lock on it.
    pub(crate) fn close(&self) -> Result<(), StoreError> {
        let Self::Owned { database, .. } = self else { return Ok(()) };
        let database = database.write().unwrap_or_else(PoisonError::into_inner).take();
        database.map_or(Ok(()), |database| database.close().map_err(backend))
    }
}
