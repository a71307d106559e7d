//! The temporary directory of a server: its files, its log, its port.

use std::{
    env,
    fmt::Write as _,
    fs::{self, File, OpenOptions, Permissions},
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, TcpListener},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::{account::Identity, error::ClusterError};

/// The system allows about 104 bytes for the path of a socket, and its file name takes 20.
const PATH_BYTES_MAX: usize = 80;

/// Below the ports that systems hand out to connections. A client that knocks at a port of those
/// while its server is down may in the end connect to itself.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

const PORT_TRIES: u64 = 200;

const LOG_LINES_MAX: usize = 40;

/// A directory that ends with its value.
#[derive(Debug)]
pub(crate) struct Place {
    directory: TempDir,
    identity: Identity,
}

impl Place {
    /// Makes a directory, within `parent` or else the temporary one, that the server may use.
    pub(crate) fn make(prefix: &str, parent: Option<&Path>) -> Result<Self, ClusterError> {
        let parent = parent.map_or_else(short_temporary, Path::to_owned);
        let directory = tempfile::Builder::new()
            .prefix(prefix)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&parent)
            .map_err(ClusterError::io(format!("make a directory in {}", parent.display())))?;
        let identity = Identity::of_owner(directory.path())?;
        identity.give(directory.path())?;
        Ok(Self { directory, identity })
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) const fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.path().join("log")
    }

    /// The last lines of the log, or why there are none.
    pub(crate) fn log_tail(&self) -> String {
        match fs::read(self.log_path()) {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                let lines: Vec<_> = text.lines().collect();
                let start = lines.len().saturating_sub(LOG_LINES_MAX);
                lines.get(start..).unwrap_or_default().join("\n")
            }
            Err(error) => format!("(no log: {error})"),
        }
    }

    /// A command that runs here, as the right user, writing to the log, in a group of its own: a
    /// Ctrl-C in the terminal is for the owner, who then ends its servers.
    pub(crate) fn command(&self, program: &Path) -> Result<Command, ClusterError> {
        let log = self.open_log()?;
        let same = log.try_clone().map_err(ClusterError::io("share the log"))?;
        let mut command = Command::new(program);
        command
            .current_dir(self.path())
            .process_group(0)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(same);
        // What is set for clients, such as PGPORT and PGDATA, would change the server too.
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("PG")) {
                command.env_remove(name);
            }
        }
        self.identity.apply(&mut command);
        Ok(command)
    }

    fn open_log(&self) -> Result<File, ClusterError> {
        let path = self.log_path();
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.map_err(ClusterError::io(format!("open {}", path.display())))
    }
}

/// A port of 127.0.0.1 that nobody listens at now.
pub(crate) fn free_port() -> Result<u16, ClusterError> {
    let random = RandomState::new();
    let width = u64::from(PORTS.end - PORTS.start);
    let mut last = None;
    for attempt in 0..PORT_TRIES {
        let offset = u16::try_from(random.hash_one(attempt) % width).unwrap_or_default();
        let port = PORTS.start + offset;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_listener) => return Ok(port),
            Err(error) => last = Some(error),
        }
    }
    let source = last.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into());
    Err(ClusterError::io("find a free port of 127.0.0.1")(source))
}

/// Percent-encodes a path so that it can stand where a URL has its host.
pub(crate) fn as_host(path: &Path) -> String {
    let mut host = String::new();
    for &byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            host.push(char::from(byte));
        } else {
            let _infallible = write!(host, "%{byte:02X}");
        }
    }
    host
}

/// The temporary directory, or `/tmp` where the former's path is too long for sockets.
fn short_temporary() -> PathBuf {
    let usual = env::temp_dir();
    let is_short = usual.as_os_str().len() + "/ergon-bouncer-XXXXXX".len() <= PATH_BYTES_MAX;
    if is_short { usual } else { PathBuf::from("/tmp") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_a_host() {
        assert_eq!(as_host(Path::new("/tmp/a b.c")), "%2Ftmp%2Fa%20b.c");
    }

    #[test]
    fn a_free_port_can_be_bound() -> Result<(), Box<dyn std::error::Error>> {
        let port = free_port()?;
        assert!(PORTS.contains(&port));
        TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        Ok(())
    }
}
