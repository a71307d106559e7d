//! What Postgres reports, in the terms of a store.

use std::{io, time::Duration};

use ergon_core::StoreError;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// An option, or the URL, is not acceptable.
    #[error("option {field}: {reason}")]
    InvalidOption {
        /// Which option.
        field: &'static str,
        /// What is wrong. Holds no part of the URL.
        reason: String,
    },
    /// The server could not be reached, or it refused the connection.
    #[error("the database could not be reached")]
    Unreachable {
        /// What sqlx said.
        source: sqlx::Error,
    },
    /// The server is too old.
    #[error("PostgreSQL {found} is not supported; {needed} or newer is needed")]
    Unsupported {
        /// The version of the server.
        found: String,
        /// The oldest that will do.
        needed: &'static str,
    },
    /// The server is a standby, or its sessions are read-only by default.
    #[error("the server takes no writes: connect to the primary")]
    ReadOnly,
    /// The server may lose what it acknowledged; see
    /// [`allow_unsafe_durability`](crate::PostgresOptions::allow_unsafe_durability).
    #[error("the server may lose what it acknowledges: {setting} is {value}")]
    NotDurable {
        /// Which setting, or which tables.
        setting: &'static str,
        /// What it is set to, or their names.
        value: String,
    },
    /// The database keeps text in another encoding than UTF-8, which cannot hold every text.
    #[error("the encoding of the database is {found}; UTF8 is needed")]
    Encoding {
        /// The encoding of the database.
        found: String,
    },
    /// The tables are missing, of another version, or could not be made.
    #[error("the tables could not be brought to the version of this program")]
    Migrate {
        /// What went wrong.
        #[from]
        source: MigrateError,
    },
}

/// Why the tables could not be made, changed, removed or read. Each version is one transaction: what
/// is not mentioned did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// The name is no name for a schema.
    #[error("the name of a schema is 1 to 48 of a-z, 0-9 and _ without a digit first")]
    InvalidSchema,
    /// A newer program made the tables. Nothing was touched.
    #[error("the tables are of version {found}; this program knows versions up to {known}")]
    Newer {
        /// Their version.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// The tables are missing or old, and they were only to be looked at.
    #[error("the tables are of version {found}, and {needed} is needed: migrate them first")]
    Older {
        /// Their version; 0 when there are none.
        found: u32,
        /// The version that this program needs.
        needed: u32,
    },
    /// The role may not do it; let the owner of the schema do it.
    #[error("the role has not the right to do it")]
    Denied {
        /// What sqlx said.
        source: sqlx::Error,
    },
    /// Others held the locks all the time.
    #[error("the locks were held by others at every attempt")]
    Busy {
        /// What sqlx said at the last attempt.
        source: sqlx::Error,
    },
    /// The server could not be asked, or a statement failed.
    #[error("the server did not carry it out")]
    Failed {
        /// What sqlx said.
        source: sqlx::Error,
    },
    /// The runtime was shut down in the meantime.
    #[error("the runtime was shut down in the meantime")]
    Interrupted,
}

impl From<sqlx::Error> for MigrateError {
    fn from(source: sqlx::Error) -> Self {
        match code(&source).as_deref() {
            Some("42501") => Self::Denied { source },
            Some("55P03") => Self::Busy { source },
            _ => Self::Failed { source },
        }
    }
}

/// What the server answered, without what it says of the data: the source of a
/// [`StoreError`](ergon_core::StoreError) wherever the server is who refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (SQLSTATE {code})")]
pub struct ServerError {
    code: String,
    message: String,
}

impl ServerError {
    /// The five characters that classify the error; see the appendix "PostgreSQL Error Codes" of the
    /// server's documentation.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    fn new(error: &dyn sqlx::error::DatabaseError) -> Self {
        let code = error.code().unwrap_or_default().into_owned();
        // Errors of class 22 quote the value that they are about, which may be part of a payload.
        let message = if code.starts_with("22") {
            "a value is not acceptable".to_owned()
        } else {
            error.message().to_owned()
        };
        Self { code, message }
    }
}

/// A call that took too long.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {after:?}")]
struct DeadlineExceeded {
    after: Duration,
}

/// A call that took longer than it may.
pub(crate) fn too_late(after: Duration) -> StoreError {
    StoreError::Unavailable { source: Box::new(DeadlineExceeded { after }) }
}

/// The SQLSTATE of an error, when the server is who reported it.
pub(crate) fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

/// What a SQLSTATE means for the caller of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// The server cannot serve now.
    Unavailable,
    /// A concurrent change won.
    Conflict,
    /// Neither time nor repeating helps.
    Backend,
}

fn class(code: &str) -> Class {
    match code {
        // Serialisation, deadlock, a lock that was not to be had in time.
        // What was read has changed in the meantime: see the function `insist` of the schema.
        "40001" | "40P01" | "55P03" | "ERG01" => Class::Conflict,
        // Cancelled, which is what the statement timeout of the server does; shutdown, crash, start,
        // idle session; a server that became a standby.
        "57014" | "57P01" | "57P02" | "57P03" | "57P05" | "25006" => Class::Unavailable,
        // Connections; disk, memory, connections used up.
        code if code.starts_with("08") || code.starts_with("53") => Class::Unavailable,
        _ => Class::Backend,
    }
}

/// Turns any error of sqlx into one of a store. What it says holds neither payloads nor secrets.
pub(crate) fn map(error: sqlx::Error) -> StoreError {
    if let sqlx::Error::Database(error) = &error {
        let source = ServerError::new(error.as_ref());
        return match class(&source.code) {
            Class::Unavailable => StoreError::Unavailable { source: Box::new(source) },
            Class::Conflict => StoreError::Conflict,
            Class::Backend => StoreError::Backend { source: Box::new(source) },
        };
    }
    match error {
        sqlx::Error::PoolClosed => StoreError::Closed,
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed => StoreError::Unavailable { source: Box::new(error) },
        error => StoreError::Backend { source: Box::new(error) },
    }
}

/// Says whether a row with the same key was there already.
pub(crate) fn is_duplicate_key(error: &StoreError) -> bool {
    let StoreError::Backend { source } = error else { return false };
    source.downcast_ref::<ServerError>().is_some_and(|error| error.code == "23505")
}

/// A row that does not read back as what was written.
pub(crate) fn corrupt(what: impl Into<String>) -> StoreError {
    StoreError::Corrupt { what: what.into() }
}

/// Whether the connection is as good as before, so that the pool may have it back.
pub(crate) fn spares_connection(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(_) => !code(error).is_some_and(|code| is_of_connection(&code)),
        sqlx::Error::RowNotFound
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::Encode(_) => true,
        _ => false,
    }
}

/// Whether an error means that this very connection is of no use any more: its server went away or
/// became read-only, it is in a failed transaction, or what was prepared on it is out of date.
fn is_of_connection(code: &str) -> bool {
    matches!(code, "25006" | "25P02" | "57P01" | "57P02" | "57P03" | "57P05")
        || is_of_prepared(code)
        || code.starts_with("08")
}

/// Whether a statement that was prepared is not what it was: a migration changed its columns, or a
/// pooler gave us another session.
fn is_of_prepared(code: &str) -> bool {
    matches!(code, "0A000" | "26000" | "42P05")
}

/// How a statement that failed may be repeated without asking the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Not at all: it may have happened, or it would fail again.
    Never,
    /// It lost against others and did not happen.
    Soon,
    /// It did not happen, since the connection was of no use.
    OnAnotherConnection,
}

/// Says whether a single statement, committed by itself, may be repeated.
///
/// A connection that breaks while an answer is awaited is [`Repeat::Never`]: the statement may have
/// been carried out.
pub(crate) fn repeat(error: &sqlx::Error) -> Repeat {
    match error {
        // The kernel reports a broken pipe when it is written to: the end of the statement, which
        // is what makes the server carry it out, was not delivered.
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Repeat::OnAnotherConnection
        }
        error => code(error).map_or(Repeat::Never, |code| repeat_by_code(&code)),
    }
}

fn repeat_by_code(code: &str) -> Repeat {
    match code {
        "40001" | "40P01" => Repeat::Soon,
        // The server says these before it carries anything out, or after it rolled back.
        "57P01" | "57P05" | "25P02" => Repeat::OnAnotherConnection,
        code if is_of_prepared(code) => Repeat::OnAnotherConnection,
        _ => Repeat::Never,
    }
}

#[cfg(test)]
mod tests;
