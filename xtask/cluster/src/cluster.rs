//! A Postgres server of one's own.

mod server;

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use self::server::Server;
use crate::{
    error::ClusterError,
    place::{self, Place, as_host},
    process::Signal,
    program, template,
    watchdog::Watchdog,
    wire::{Connection, Row},
};

/// Longer than any statement of a test should take.
const QUERY_LIMIT: Duration = Duration::from_secs(60);

/// Somebody else may take a port between our look and the server's.
const PORT_TRIES: u32 = 5;

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Waits until every client has left of its own accord.
    Smart,
    /// Rolls back what is open, disconnects everybody, writes a checkpoint.
    Fast,
    /// Ends at once without a checkpoint; the next start recovers from the log.
    Immediate,
}

/// A Postgres server in a temporary directory, for as long as this value lives.
///
/// All methods take `&self` and can be called from several threads; those that stop and start the
/// server wait for each other. The port and so the URL stay the same over a restart.
///
/// Dropping it stops the server without a checkpoint and removes the directory. When its process ends
/// without dropping it, as by a signal, by `exit`, or because it is kept in a `static`, a watchdog
/// does the same a moment later.
#[derive(Debug)]
pub struct Cluster {
    programs: PathBuf,
    port: u16,
    state: Mutex<Server>,
    // Invariant: dropped after the server has stopped and before its place is removed.
    watchdog: Option<Watchdog>,
    place: Place,
}

impl Cluster {
    /// Makes a cluster and waits until it accepts connections.
    ///
    /// The encoding is UTF-8, the locale C; the user `postgres` needs no password, over TCP from
    /// this machine or over the socket in the cluster's directory. Takes about 0.3 s, and a second
    /// more when it is the first of this version of Postgres on this machine.
    ///
    /// # Errors
    ///
    /// - [`ClusterError::Missing`] when Postgres is not installed.
    /// - [`ClusterError::NoAccount`] when running as root without somebody else to be.
    /// - [`ClusterError::Ended`] and [`ClusterError::Late`], with the server's log, when it does not
    ///   start, as with settings that it does not know.
    /// - [`ClusterError::Io`] for everything else.
    pub fn start(settings: crate::Settings) -> Result<Self, ClusterError> {
        let programs = program::find_postgres()?;
        let place = Place::make("ergon-pg-", settings.parent())?;
        let data = place.path().join("data");
        template::make(&programs, &place, &data)?;
        let pid_file = data.join("postmaster.pid");
        let watchdog = Some(Watchdog::start(&pid_file, place.path(), Signal::Quit)?);
        let mut server = Server::new(&programs, settings);
        let mut tries = 0;
        let port = loop {
            let port = place::free_port()?;
            tries += 1;
            match server.launch(&place, port) {
                Ok(()) => break port,
                Err(error) if tries < PORT_TRIES && is_port_taken(&error) => {}
                Err(error) => return Err(error),
            }
        };
        Ok(Self { programs, port, state: Mutex::new(server), watchdog, place })
    }

    /// The URL of the database `postgres` over TCP.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_for("postgres")
    }

    /// The URL of a database over TCP; the name is taken as it is.
    #[must_use]
    pub fn url_for(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The URL of the database `postgres` over the socket, its path percent-encoded as the host.
    #[must_use]
    pub fn socket_url(&self) -> String {
        format!("postgres://postgres@{}:{}/postgres", as_host(self.place.path()), self.port)
    }

    /// The port at 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The directory of the cluster, which holds its socket, its log and its data.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.place.path()
    }

    /// The data directory.
    #[must_use]
    pub fn data_directory(&self) -> PathBuf {
        self.place.path().join("data")
    }

    /// The last lines of the server's log.
    #[must_use]
    pub fn log(&self) -> String {
        self.place.log_tail()
    }

    /// What `postgres --version` prints.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Io`] when the program is gone.
    pub fn version(&self) -> Result<String, ClusterError> {
        program::version(&self.programs.join("postgres"))
    }

    /// The process id of the postmaster while it runs, also when it is frozen.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.lock().pid()
    }

    /// Makes a database; its name is quoted.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub fn create_database(&self, name: &str) -> Result<(), ClusterError> {
        self.execute(&format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\"")))
    }

    /// Runs one or more statements in the database `postgres` on a connection of its own.
    ///
    /// # Errors
    ///
    /// - [`ClusterError::Refused`] with the SQLSTATE when the server refuses.
    /// - [`ClusterError::Io`] when it is not running, or does not answer within 60 s.
    pub fn execute(&self, sql: &str) -> Result<(), ClusterError> {
        self.query(sql).map(|_rows| ())
    }

    /// Runs one or more statements in the database `postgres` and answers their rows, as text.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub fn query(&self, sql: &str) -> Result<Vec<Row>, ClusterError> {
        self.query_in("postgres", sql)
    }

    /// Runs one or more statements in a database and answers their rows, as text.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub fn query_in(&self, database: &str, sql: &str) -> Result<Vec<Row>, ClusterError> {
        Connection::open(&self.socket(), database, QUERY_LIMIT)?.query(sql)
    }

    /// Asks whether the server runs statements; each wait for it ends after `limit`.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute); [`ClusterError::is_timeout`] is true of the answer of a server
    /// that is frozen.
    pub fn ping(&self, limit: Duration) -> Result<(), ClusterError> {
        Connection::open(&self.socket(), "postgres", limit)?.query("SELECT 1").map(|_rows| ())
    }

    /// Stops the server and waits until it has ended. One that is frozen is resumed first; one that
    /// is not running stays so.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Late`] when it has not ended in time (60 s by default), as when a client does
    /// not leave a server that stops in [`Mode::Smart`]. It goes on stopping.
    pub fn stop(&self, mode: Mode) -> Result<(), ClusterError> {
        self.lock().stop(&self.place, mode)
    }

    /// Kills the postmaster and all its children by SIGKILL, and waits until they are gone.
    ///
    /// No process gets to do anything any more, so this is a power failure but for the pages that the
    /// system holds. One that is not running stays so.
    ///
    /// # Errors
    ///
    /// - [`ClusterError::Late`] when a process is not gone after 10 s.
    /// - [`ClusterError::Io`] when the system refuses.
    pub fn kill(&self) -> Result<(), ClusterError> {
        self.lock().kill(&self.place)
    }

    /// Stops the server if it runs, starts it again at the same port with the same settings, and
    /// waits until it accepts connections. After [`kill`](Self::kill) or [`stop`](Self::stop) this is
    /// how to go on.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop) and [`start`](Self::start).
    pub fn restart(&self, mode: Mode) -> Result<(), ClusterError> {
        let mut server = self.lock();
        server.stop(&self.place, mode)?;
        server.launch(&self.place, self.port)
    }

    /// Freezes the postmaster and all its children by SIGSTOP: connections stay open, and nobody
    /// answers.
    ///
    /// # Errors
    ///
    /// - [`ClusterError::NotRunning`] when there is nothing to freeze.
    /// - [`ClusterError::Late`] when the postmaster does not freeze within 10 s.
    pub fn pause(&self) -> Result<(), ClusterError> {
        self.lock().pause(&self.place)
    }

    /// Thaws what [`pause`](Self::pause) froze.
    ///
    /// # Errors
    ///
    /// [`ClusterError::NotRunning`] when there is nothing to thaw.
    pub fn resume(&self) -> Result<(), ClusterError> {
        self.lock().resume()
    }

    pub(crate) const fn place(&self) -> &Place {
        &self.place
    }

    fn socket(&self) -> PathBuf {
        socket(&self.place, self.port)
    }

    /// A panic while the lock was held leaves nothing half done that the next call would not notice.
    fn lock(&self) -> MutexGuard<'_, Server> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let server = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        server.end(&self.place);
        drop(self.watchdog.take());
    }
}

fn socket(place: &Place, port: u16) -> PathBuf {
    place.path().join(format!(".s.PGSQL.{port}"))
}

fn is_port_taken(error: &ClusterError) -> bool {
    matches!(error, ClusterError::Ended { log, .. } if log.contains("could not create any TCP/IP"))
}
