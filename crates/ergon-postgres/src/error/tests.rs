//! Which error of Postgres is which error of a store, and that none tells what it should not.

use std::{borrow::Cow, error::Error as _, fmt};

use sqlx::error::{DatabaseError, ErrorKind};

use super::*;

/// An error as the server answers it.
#[derive(Debug)]
struct Answer {
    code: &'static str,
    message: &'static str,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message)
    }
}

impl std::error::Error for Answer {}

impl DatabaseError for Answer {
    fn message(&self) -> &str {
        self.message
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self.code))
    }

    fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

fn answer(code: &'static str, message: &'static str) -> sqlx::Error {
    sqlx::Error::Database(Box::new(Answer { code, message }))
}

fn io(kind: io::ErrorKind) -> sqlx::Error {
    sqlx::Error::Io(kind.into())
}

fn name(error: &StoreError) -> &'static str {
    match error {
        StoreError::Unavailable { .. } => "unavailable",
        StoreError::Conflict => "conflict",
        StoreError::Closed => "closed",
        StoreError::Backend { .. } => "backend",
        _ => "another",
    }
}

/// Code, what it is to a caller, whether the connection is kept, how it is repeated.
const CODES: [(&str, &str, bool, Repeat); 27] = [
    ("40001", "conflict", true, Repeat::Soon),
    ("40P01", "conflict", true, Repeat::Soon),
    ("55P03", "conflict", true, Repeat::Never),
    ("ERG01", "conflict", true, Repeat::Never),
    ("57014", "unavailable", true, Repeat::Never),
    ("57P01", "unavailable", false, Repeat::OnAnotherConnection),
    ("57P02", "unavailable", false, Repeat::Never),
    ("57P03", "unavailable", false, Repeat::Never),
    ("57P05", "unavailable", false, Repeat::OnAnotherConnection),
    ("25006", "unavailable", false, Repeat::Never),
    ("08006", "unavailable", false, Repeat::Never),
    ("08P01", "unavailable", false, Repeat::Never),
    ("53100", "unavailable", true, Repeat::Never),
    ("53200", "unavailable", true, Repeat::Never),
    ("53300", "unavailable", true, Repeat::Never),
    ("25P02", "backend", false, Repeat::OnAnotherConnection),
    ("0A000", "backend", false, Repeat::OnAnotherConnection),
    ("26000", "backend", false, Repeat::OnAnotherConnection),
    ("42P05", "backend", false, Repeat::OnAnotherConnection),
    ("22P02", "backend", true, Repeat::Never),
    ("22021", "backend", true, Repeat::Never),
    ("23505", "backend", true, Repeat::Never),
    ("23514", "backend", true, Repeat::Never),
    ("28P01", "backend", true, Repeat::Never),
    ("42501", "backend", true, Repeat::Never),
    ("42P01", "backend", true, Repeat::Never),
    ("XX001", "backend", true, Repeat::Never),
];

#[test]
fn every_answer_of_the_server_has_its_meaning() {
    for (code, meaning, is_kept, repeated) in CODES {
        let error = answer(code, "message");
        assert_eq!(spares_connection(&error), is_kept, "{code}");
        assert_eq!(repeat(&error), repeated, "{code}");
        let error = map(error);
        assert_eq!(name(&error), meaning, "{code}");
        if let Some(source) = error.source() {
            assert_eq!(source.downcast_ref::<ServerError>().unwrap().code(), code);
        }
    }
}

#[test]
fn what_is_not_from_the_server_has_its_meaning() {
    use sqlx::Error;
    let cases = [
        (io(io::ErrorKind::BrokenPipe), "unavailable", false, Repeat::OnAnotherConnection),
        // The answer is what got lost: the statement may have been carried out.
        (io(io::ErrorKind::UnexpectedEof), "unavailable", false, Repeat::Never),
        (io(io::ErrorKind::ConnectionReset), "unavailable", false, Repeat::Never),
        (io(io::ErrorKind::ConnectionRefused), "unavailable", false, Repeat::Never),
        (Error::Tls("x".into()), "unavailable", false, Repeat::Never),
        (Error::PoolTimedOut, "unavailable", false, Repeat::Never),
        (Error::WorkerCrashed, "unavailable", false, Repeat::Never),
        (Error::PoolClosed, "closed", false, Repeat::Never),
        (Error::Protocol(String::new()), "backend", false, Repeat::Never),
        (Error::RowNotFound, "backend", true, Repeat::Never),
        (Error::Encode("x".into()), "backend", true, Repeat::Never),
        (Error::Decode("x".into()), "backend", true, Repeat::Never),
    ];
    for (error, meaning, is_kept, repeated) in cases {
        assert_eq!(spares_connection(&error), is_kept, "{error}");
        assert_eq!(repeat(&error), repeated, "{error}");
        assert_eq!(name(&map(error)), meaning);
    }
}

#[test]
fn a_value_that_the_server_quotes_is_not_told() {
    let quoting = "invalid input syntax for type json: \"secret\"";
    let error = map(answer("22P02", quoting));
    let told = format!("{error:?} {}", ergon_core::text::error_chain(&error));
    assert!(!told.contains("secret"), "{told}");
    assert!(told.contains("22P02"), "{told}");
    let error = map(answer("42P01", "relation \"ergon.task\" does not exist"));
    let told = ergon_core::text::error_chain(&error);
    assert_eq!(
        told,
        "the backend reported an error: relation \"ergon.task\" does not exist (SQLSTATE 42P01)"
    );
}

#[test]
fn a_migration_tells_why_it_failed() {
    let of = |code| MigrateError::from(answer(code, "message"));
    assert!(matches!(of("42501"), MigrateError::Denied { .. }));
    assert!(matches!(of("55P03"), MigrateError::Busy { .. }));
    assert!(matches!(of("42P07"), MigrateError::Failed { .. }));
    assert!(matches!(MigrateError::from(sqlx::Error::PoolTimedOut), MigrateError::Failed { .. }));
}
