//! A `PgBouncer` of one's own, in front of a cluster.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use crate::{
    Cluster,
    error::ClusterError,
    place::{self, Place},
    process::{Signal, wait_until},
    program,
    watchdog::Watchdog,
    wire::Connection,
};

/// It has nothing to recover, so it is ready at once or never.
const START_LIMIT: Duration = Duration::from_secs(15);

/// Somebody else may take a port between our look and the bouncer's.
const PORT_TRIES: u32 = 5;

/// A `PgBouncer` in transaction mode, for as long as this value lives.
///
/// Every transaction may run on another connection to the server, which is what breaks prepared
/// statements that outlive a transaction, session settings, `LISTEN` and advisory locks of sessions.
///
/// It takes any user for `postgres`, has 20 connections for each database, and serves 1000 clients.
/// It ends with its process as a [`Cluster`] does, and should be dropped before that.
#[derive(Debug)]
pub struct PgBouncer {
    port: u16,
    child: Child,
    // Invariant: dropped after the bouncer has ended and before its place is removed.
    watchdog: Option<Watchdog>,
    place: Place,
}

impl PgBouncer {
    /// Starts one in front of a cluster and waits until it lets a client through.
    ///
    /// # Errors
    ///
    /// - [`ClusterError::Missing`] when it is not installed.
    /// - [`ClusterError::Ended`] and [`ClusterError::Late`], with its log, when it does not start or
    ///   the cluster does not answer.
    /// - [`ClusterError::Io`] for everything else.
    pub fn start(cluster: &Cluster) -> Result<Self, ClusterError> {
        Self::start_with(cluster, &[])
    }

    /// Like [`start`](Self::start), with further settings of the section `[pgbouncer]`, such as
    /// `("default_pool_size", "2")`; they win over the ones from here.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_with(cluster: &Cluster, settings: &[(&str, &str)]) -> Result<Self, ClusterError> {
        let program = program::find_pgbouncer()?.join("pgbouncer");
        let place = Place::make("ergon-bouncer-", cluster.place().path().parent())?;
        let watchdog = Watchdog::start(&pid_file(&place), place.path(), Signal::Term)?;
        let mut tries = 0;
        let (port, child) = loop {
            let port = place::free_port()?;
            tries += 1;
            match launch(&program, &place, &configuration(cluster, &place, port, settings), port) {
                Ok(child) => break (port, child),
                Err(error) if tries < PORT_TRIES && is_port_taken(&error) => {}
                Err(error) => return Err(error),
            }
        };
        Ok(Self { port, child, watchdog: Some(watchdog), place })
    }

    /// The URL of the database `postgres` through the bouncer, over TCP.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_for("postgres")
    }

    /// The URL of a database through the bouncer, over TCP; the name is taken as it is.
    #[must_use]
    pub fn url_for(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The port at 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.place.log_tail()
    }

    /// The directory of its socket.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.place.path()
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        end(&mut self.child);
        drop(self.watchdog.take());
    }
}

/// It holds nothing that would be worth an orderly end.
fn end(child: &mut Child) {
    // Fails only when it has ended already.
    let _ended = child.kill();
    let _ended = child.wait();
}

fn launch(
    program: &Path,
    place: &Place,
    configuration: &str,
    port: u16,
) -> Result<Child, ClusterError> {
    let file = place.path().join("pgbouncer.ini");
    fs::write(&file, configuration)
        .and_then(|()| match fs::remove_file(pid_file(place)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
        .map_err(ClusterError::io(format!("write {}", file.display())))?;
    place.identity().give(&file)?;
    let mut child = place
        .command(program)?
        .arg(&file)
        .spawn()
        .map_err(ClusterError::io(format!("start {}", program.display())))?;
    let socket = place.path().join(format!(".s.PGSQL.{port}"));
    let mut ended = None;
    let is_over = wait_until(START_LIMIT, || {
        ended = child.try_wait().ok().flatten();
        let lets_through = || {
            Connection::open(&socket, "postgres", START_LIMIT)
                .and_then(|mut connection| connection.query("SELECT 1"))
                .is_ok()
        };
        ended.is_some() || lets_through()
    });
    match ended {
        Some(status) => {
            Err(ClusterError::Ended { program: "pgbouncer", status, log: place.log_tail() })
        }
        None if is_over => Ok(child),
        None => {
            end(&mut child);
            let log = place.log_tail();
            let what = "let a client through";
            Err(ClusterError::Late { program: "pgbouncer", what, limit: START_LIMIT, log })
        }
    }
}

fn configuration(cluster: &Cluster, place: &Place, port: u16, settings: &[(&str, &str)]) -> String {
    let server = cluster.directory().display();
    let server_port = cluster.port();
    let own = place.path().display();
    let pid_file = pid_file(place);
    let pid_file = pid_file.display();
    let mut text = format!(
        "[databases]\n\
         * = host={server} port={server_port} user=postgres\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir = {own}\n\
         pidfile = {pid_file}\n\
         auth_type = any\n\
         admin_users = postgres\n\
         pool_mode = transaction\n\
         max_client_conn = 1000\n\
         default_pool_size = 20\n\
         ignore_startup_parameters = extra_float_digits\n"
    );
    for (name, value) in settings {
        let _infallible = writeln!(text, "{name} = {value}");
    }
    text
}

fn pid_file(place: &Place) -> PathBuf {
    place.path().join("pgbouncer.pid")
}

fn is_port_taken(error: &ClusterError) -> bool {
    matches!(error, ClusterError::Ended { log, .. } if log.contains("ddress already in use"))
}
