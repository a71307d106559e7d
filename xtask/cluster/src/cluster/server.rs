//! The postmaster and its children: started, stopped, killed, frozen.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{Mode, socket};
use crate::{
    Settings,
    error::ClusterError,
    place::Place,
    process::{Signal, descendants, is_alive, is_stopped, send, wait_until},
    wire::Connection,
};

/// How long a signal that cannot be caught may take to act on a machine under load.
const SIGNAL_LIMIT: Duration = Duration::from_secs(10);

/// How long a look whether the server is ready may take, before the next one.
const READY_LIMIT: Duration = Duration::from_secs(5);

/// A server that runs or not.
#[derive(Debug)]
pub(super) struct Server {
    program: PathBuf,
    settings: Settings,
    child: Option<Child>,
    is_paused: bool,
    leftovers: Leftovers,
}

/// What a killed server leaves in the system, and its next start would clean up.
#[derive(Debug, Default)]
struct Leftovers {
    /// The id of its shared memory of the System V kind.
    shared_memory: Option<String>,
    /// Its shared memory of the POSIX kind.
    files: Vec<PathBuf>,
}

impl Server {
    pub(super) fn new(programs: &Path, settings: Settings) -> Self {
        Self {
            program: programs.join("postgres"),
            settings,
            child: None,
            is_paused: false,
            leftovers: Leftovers::default(),
        }
    }

    /// The process id, unless the server has ended, of itself too.
    pub(super) fn pid(&mut self) -> Option<u32> {
        let child = self.child.as_mut()?;
        match child.try_wait() {
            Ok(None) | Err(_) => Some(child.id()),
            Ok(Some(_status)) => {
                self.forget();
                None
            }
        }
    }

    /// Starts the server at a port and waits until it answers.
    pub(super) fn launch(&mut self, place: &Place, port: u16) -> Result<(), ClusterError> {
        let mut command = place.command(&self.program)?;
        command.arg("-D").arg(place.path().join("data"));
        command.arg("-k").arg(place.path()).args(["-h", "127.0.0.1", "-p", &port.to_string()]);
        for parameter in self.settings.parameters() {
            command.args(["-c", &parameter]);
        }
        let child = command
            .spawn()
            .map_err(ClusterError::io(format!("start {}", self.program.display())))?;
        self.child = Some(child);
        let ready = self.wait_until_ready(place, port);
        match ready {
            Ok(()) => self.leftovers = Leftovers::default(),
            Err(_) => self.end(place),
        }
        ready
    }

    fn wait_until_ready(&mut self, place: &Place, port: u16) -> Result<(), ClusterError> {
        let (limit, _) = self.settings.limits();
        let socket = socket(place, port);
        let mut ended = None;
        let is_over = wait_until(limit, || {
            let status = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            ended = status;
            let is_ready = || {
                Connection::open(&socket, "postgres", READY_LIMIT)
                    .and_then(|mut connection| connection.query("SELECT 1"))
                    .is_ok()
            };
            ended.is_some() || is_ready()
        });
        match ended {
            Some(status) => {
                Err(ClusterError::Ended { program: "postgres", status, log: place.log_tail() })
            }
            None if is_over => Ok(()),
            None => Err(late("accept connections", limit, place)),
        }
    }

    pub(super) fn stop(&mut self, place: &Place, mode: Mode) -> Result<(), ClusterError> {
        let Some(pid) = self.pid() else {
            return Ok(());
        };
        if self.is_paused {
            self.resume()?;
        }
        let signal = match mode {
            Mode::Smart => Signal::Term,
            Mode::Fast => Signal::Int,
            Mode::Immediate => Signal::Quit,
        };
        let (_, limit) = self.settings.limits();
        send(signal, &[pid])?;
        if wait_until(limit, || self.pid().is_none()) {
            return Ok(());
        }
        Err(late("stop", limit, place))
    }

    pub(super) fn kill(&mut self, place: &Place) -> Result<(), ClusterError> {
        let Some(pid) = self.pid() else {
            return Ok(());
        };
        // Frozen first, so that it has no further child while we count them.
        send(Signal::Stop, &[pid])?;
        let is_frozen = wait_until(SIGNAL_LIMIT, || is_stopped(pid) || !is_alive(pid));
        let mut family = descendants(pid);
        family.push(pid);
        self.leftovers = Leftovers::of(place, &family);
        send(Signal::Kill, &family)?;
        let is_gone = wait_until(SIGNAL_LIMIT, || {
            self.pid().is_none() && !family.iter().any(|&one| is_alive(one))
        });
        if !(is_frozen && is_gone) {
            return Err(late("die", SIGNAL_LIMIT, place));
        }
        // The process id in it may soon be somebody else's, and a server would then refuse to start.
        match fs::remove_file(pid_file(place)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(ClusterError::io("remove the pid file")(error))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn pause(&mut self, place: &Place) -> Result<(), ClusterError> {
        let pid = self.pid().ok_or(ClusterError::NotRunning)?;
        send(Signal::Stop, &[pid])?;
        self.is_paused = true;
        if !wait_until(SIGNAL_LIMIT, || is_stopped(pid)) {
            return Err(late("freeze", SIGNAL_LIMIT, place));
        }
        let family = descendants(pid);
        send(Signal::Stop, &family)?;
        if wait_until(SIGNAL_LIMIT, || family.iter().all(|&one| is_stopped(one) || !is_alive(one)))
        {
            return Ok(());
        }
        Err(late("freeze", SIGNAL_LIMIT, place))
    }

    pub(super) fn resume(&mut self) -> Result<(), ClusterError> {
        let pid = self.pid().ok_or(ClusterError::NotRunning)?;
        let mut family = descendants(pid);
        family.push(pid);
        send(Signal::Cont, &family)?;
        self.is_paused = false;
        Ok(())
    }

    /// Ends the server by whatever means it takes, and cleans up after it.
    pub(super) fn end(&mut self, place: &Place) {
        // The orderly way leaves nothing behind in the system; what it cannot end is killed. There
        // is nobody to tell when even that fails.
        if self.stop_at_once(place).is_err() {
            let _last_resort = self.kill(place);
        }
        std::mem::take(&mut self.leftovers).clean();
    }

    fn stop_at_once(&mut self, place: &Place) -> Result<(), ClusterError> {
        let Some(pid) = self.pid() else {
            return Ok(());
        };
        if self.is_paused {
            self.resume()?;
        }
        send(Signal::Quit, &[pid])?;
        if wait_until(SIGNAL_LIMIT, || self.pid().is_none()) {
            return Ok(());
        }
        Err(late("stop", SIGNAL_LIMIT, place))
    }

    fn forget(&mut self) {
        self.child = None;
        self.is_paused = false;
    }
}

impl Leftovers {
    /// Notes what the processes of a server hold that are about to be killed.
    fn of(place: &Place, family: &[u32]) -> Self {
        // The seventh line is the key and the id of its shared memory.
        let pid_file = fs::read_to_string(pid_file(place)).unwrap_or_default();
        let shared_memory = pid_file.lines().nth(6).and_then(|line| {
            let id = line.split_whitespace().nth(1)?;
            id.parse::<u32>().is_ok().then(|| id.to_owned())
        });
        let mut files = Vec::new();
        for pid in family {
            let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
            files.extend(maps.lines().filter_map(|line| {
                let at = line.find("/dev/shm/PostgreSQL.")?;
                line.get(at..).map(PathBuf::from)
            }));
        }
        files.sort();
        files.dedup();
        Self { shared_memory, files }
    }

    /// Takes it away. It is a few kilobytes until the next start of the machine, so nobody need know
    /// when that fails.
    fn clean(self) {
        if let Some(id) = self.shared_memory {
            let _small = Command::new("ipcrm")
                .args(["-m", &id])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
        for file in self.files {
            let _small = fs::remove_file(file);
        }
    }
}

fn pid_file(place: &Place) -> PathBuf {
    place.path().join("data/postmaster.pid")
}

fn late(what: &'static str, limit: Duration, place: &Place) -> ClusterError {
    ClusterError::Late { program: "postgres", what, limit, log: place.log_tail() }
}
