//! As much of Postgres' protocol as it takes to run a statement: no password, text only.

use std::{
    io::{self, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use crate::error::ClusterError;

/// One row of an answer: a text for each column, or nothing for `NULL`.
pub type Row = Vec<Option<String>>;

/// Version 3.0 of the protocol.
const PROTOCOL: i32 = 196_608;

/// Answers are for tests, so a longer message means that we lost our place.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A session over a socket of the file system.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
}

impl Connection {
    /// Opens a session; each wait for the server, now and later, ends after `limit`.
    pub(crate) fn open(
        socket: &Path,
        database: &str,
        limit: Duration,
    ) -> Result<Self, ClusterError> {
        let operation = || format!("connect to {}", socket.display());
        let open = || -> io::Result<UnixStream> {
            let stream = UnixStream::connect(socket)?;
            stream.set_read_timeout(Some(limit))?;
            stream.set_write_timeout(Some(limit))?;
            Ok(stream)
        };
        let mut connection = Self { stream: open().map_err(ClusterError::io(operation()))? };
        let mut startup = PROTOCOL.to_be_bytes().to_vec();
        for text in ["user", "postgres", "database", database, "application_name", "ergon-cluster"]
        {
            startup.extend_from_slice(text.as_bytes());
            startup.push(0);
        }
        startup.push(0);
        connection.send(None, &startup).map_err(ClusterError::io(operation()))?;
        connection.answer(&operation())?;
        Ok(connection)
    }

    /// Runs one or more statements and answers the rows of all of them.
    pub(crate) fn query(&mut self, sql: &str) -> Result<Vec<Row>, ClusterError> {
        let operation = "run a statement";
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        self.send(Some(b'Q'), &body).map_err(ClusterError::io(operation))?;
        self.answer(operation)
    }

    fn send(&mut self, kind: Option<u8>, body: &[u8]) -> io::Result<()> {
        let length = i32::try_from(body.len() + 4).map_err(io::Error::other)?;
        let mut message: Vec<u8> = kind.into_iter().collect();
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(body);
        self.stream.write_all(&message)
    }

    /// Reads until the server is ready for the next statement; the first error it reports wins.
    fn answer(&mut self, operation: &str) -> Result<Vec<Row>, ClusterError> {
        let mut rows = Vec::new();
        let mut refused = None;
        loop {
            let message = self.receive();
            let (kind, body) = match (message, refused) {
                (Ok(message), earlier) => {
                    refused = earlier;
                    message
                }
                // A server that refuses a connection closes it after its message.
                (Err(_), Some(refusal)) => return Err(refusal),
                (Err(error), None) => return Err(ClusterError::io(operation)(error)),
            };
            match kind {
                b'Z' => return refused.map_or(Ok(rows), Err),
                b'D' => rows.push(row(&body).map_err(ClusterError::io(operation))?),
                b'E' => refused = refused.or_else(|| Some(refusal(&body))),
                b'R' if body != [0; 4] => {
                    let error = io::Error::new(ErrorKind::Unsupported, "it wants a password");
                    return Err(ClusterError::io(operation)(error));
                }
                _ => {}
            }
        }
    }

    fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut kind = [0; 1];
        self.stream.read_exact(&mut kind)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length)).ok();
        let length = length
            .and_then(|length| length.checked_sub(4))
            .filter(|length| *length <= MESSAGE_BYTES_MAX)
            .ok_or_else(malformed)?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        let [kind] = kind;
        Ok((kind, body))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A server that is gone has nobody to say goodbye to.
        let _gone = self.send(Some(b'X'), &[]);
    }
}

/// Reads the fields of an error, each a letter and a text.
fn refusal(body: &[u8]) -> ClusterError {
    let field = |letter: u8| {
        let mut fields = body.split(|&byte| byte == 0);
        let found = fields.find_map(|field| field.strip_prefix(&[letter]));
        found.map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
    };
    ClusterError::Refused { code: field(b'C'), message: field(b'M') }
}

/// Reads the columns of a row: their number, then a length, or -1 for `NULL`, and the text of each.
fn row(body: &[u8]) -> io::Result<Row> {
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or_else(malformed)?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(malformed)?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            columns.push(None);
            rest = after;
            continue;
        };
        let (text, after) = after.split_at_checked(length).ok_or_else(malformed)?;
        columns.push(Some(String::from_utf8_lossy(text).into_owned()));
        rest = after;
    }
    Ok(columns)
}

fn malformed() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "a message is malformed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_texts_and_nulls() -> io::Result<()> {
        let body = b"\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0";
        assert_eq!(row(body)?, [Some("ab".to_owned()), None, Some(String::new())]);
        assert!(row(b"\0\x01\0\0\0\x09ab").is_err());
        Ok(())
    }

    #[test]
    fn a_refusal_has_a_code_and_a_message() {
        let error = refusal(b"SERROR\0C42P01\0Mno such table\0\0");
        assert_eq!(error.to_string(), "the server says 42P01: no such table");
    }
}
