//! What redb reports, in the terms of a store.

use std::{fmt, path::PathBuf};

use ergon_core::StoreError;

/// Why a store could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another store of this process, has the file open.
    #[error("{path} is in use by {holder}", path = path.display())]
    Locked {
        /// The file.
        path: PathBuf,
        /// Who holds it, as far as the system tells, and what to do.
        holder: Holder,
    },
    /// The file is damaged, or it is no redb file.
    #[error("{path} is damaged, or it is no redb file", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What redb said.
        source: redb::Error,
    },
    /// The file is a redb database of an application, which the store would have to share.
    #[error("{path} is a database without tasks; to keep tasks in it, hand it over with `with_database`", path = path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The tables of ergon in the file are of a format that this version does not know.
    #[error(
        "format {found} is not supported; this version of ergon reads formats up to {supported}"
    )]
    Format {
        /// The format of the file.
        found: u32,
        /// The newest format that this version reads, and the one that it writes.
        supported: u32,
    },
    /// An option is out of range.
    #[error("option {field}: {reason}")]
    InvalidOption {
        /// Which option.
        field: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// The file could not be opened, read or written.
    #[error("{path} could not be opened", path = path.display())]
    Io {
        /// The file; empty for a database that was handed over.
        path: PathBuf,
        /// What redb said.
        source: redb::Error,
    },
    /// What is stored does not read back as what was written.
    #[error("the store could not be read")]
    Store {
        /// What was found.
        #[from]
        source: StoreError,
    },
}

/// Who has a file open.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Holder {
    /// A store of this process: clone that one instead of opening the file again.
    ThisProcess,
    /// Another process, by its number and its name.
    Process {
        /// Its number.
        id: u32,
        /// The name of its program.
        name: String,
    },
    /// Somebody; the system does not tell who.
    Unknown,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ThisProcess => f.write_str("this process: clone the store that has it open"),
            Self::Process { id, name } => {
                write!(f, "process {id} ({name}): stop it, or use a file of your own")
            }
            Self::Unknown => f.write_str("another process: stop it, or use a file of your own"),
        }
    }
}

/// Turns any error of redb into one of a store.
pub(crate) fn backend(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Corrupted(what) => StoreError::Corrupt { what },
        redb::Error::DatabaseClosed => StoreError::Closed,
        redb::Error::PreviousIo => {
            StoreError::Failed { reason: "an earlier write to the file failed".to_owned() }
        }
        error => StoreError::Backend { source: Box::new(error) },
    }
}

/// A record that does not read back as what was written.
pub(crate) fn corrupt(what: impl Into<String>) -> StoreError {
    StoreError::Corrupt { what: what.into() }
}
