//! Looking at processes and sending them signals, with the means of a shell.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::error::ClusterError;

/// Short against everything that is waited for, long against a look.
const PAUSE: Duration = Duration::from_millis(5);

/// What can be sent to a process.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    Term,
    Int,
    Quit,
    Kill,
    Stop,
    Cont,
}

/// A process as the system shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: u32,
    parent: u32,
    /// `T` is stopped by a signal, `Z` ended and waits to be noticed by its parent.
    state: char,
}

/// Waits until a process has ended, for at most `limit`, and answers whether it has.
///
/// One that ended counts as gone although its parent has not yet noticed.
#[must_use]
pub fn wait_until_gone(pid: u32, limit: Duration) -> bool {
    wait_until(limit, || !is_alive(pid))
}

/// Looks again and again until the condition holds, for at most `limit`; answers whether it does.
pub(crate) fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() >= limit {
            return false;
        }
        thread::sleep(PAUSE);
    }
}

pub(crate) fn is_alive(pid: u32) -> bool {
    look(pid).is_some_and(|process| !matches!(process.state, 'Z' | 'X'))
}

pub(crate) fn is_stopped(pid: u32) -> bool {
    look(pid).is_some_and(|process| process.state == 'T')
}

/// The living children of a process, and theirs.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    let all = list();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        let children = all.iter().filter(|process| process.parent == parent);
        found.extend(children.filter(|process| process.state != 'Z').map(|process| process.pid));
        next += 1;
    }
    found.split_off(1)
}

/// Sends a signal to processes; those that ended meanwhile are passed over.
///
/// The shell's own `kill` is on every system, the program is not.
pub(crate) fn send(signal: Signal, pids: &[u32]) -> Result<(), ClusterError> {
    const SCRIPT: &str = "signal=$1; shift; for pid; do kill -s \"$signal\" \"$pid\"; done";
    if pids.is_empty() {
        return Ok(());
    }
    Command::new("sh")
        .args(["-c", SCRIPT, "sh", signal.name()])
        .args(pids.iter().map(u32::to_string))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(ClusterError::io(format!("send {} to {pids:?}", signal.name())))?;
    Ok(())
}

impl Signal {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Int => "INT",
            Self::Quit => "QUIT",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Cont => "CONT",
        }
    }
}

fn look(pid: u32) -> Option<Process> {
    if has_proc() {
        return of_proc(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?);
    }
    of_ps(&["-p", &pid.to_string()]).pop()
}

fn list() -> Vec<Process> {
    if !has_proc() {
        return of_ps(&["-A"]);
    }
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()))
        .filter_map(|entry| of_proc(&fs::read_to_string(entry.path().join("stat")).ok()?))
        .collect()
}

fn has_proc() -> bool {
    Path::new("/proc/self/stat").exists()
}

/// Reads `pid (name) state parent …`; the name may hold anything, brackets too.
fn of_proc(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    let (_, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some(Process { pid: pid.parse().ok()?, parent: fields.next()?.parse().ok()?, state })
}

/// Where there is no `/proc`, `ps` knows as much.
fn of_ps(selection: &[&str]) -> Vec<Process> {
    let command = Command::new("ps")
        .args(selection)
        .args(["-o", "pid=,ppid=,stat="])
        .stdin(Stdio::null())
        .output();
    let text = command.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().filter_map(of_ps_line).collect()
}

fn of_ps_line(line: &str) -> Option<Process> {
    let mut fields = line.split_whitespace();
    let (pid, parent) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(Process { pid, parent, state: fields.next()?.chars().next()? })
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn both_sources_are_read() {
        let expected = Some(Process { pid: 12, parent: 3, state: 'T' });
        assert_eq!(of_proc("12 (a) b (c) T 3 12 12 0 -1"), expected);
        assert_eq!(of_ps_line("   12     3 Ts+"), expected);
    }

    #[test]
    fn a_child_is_seen_until_it_has_ended() -> Result<(), Box<dyn std::error::Error>> {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn()?;
        let pid = child.id();
        assert!(descendants(process::id()).contains(&pid));
        send(Signal::Stop, &[pid])?;
        assert!(wait_until(Duration::from_secs(5), || is_stopped(pid)));
        send(Signal::Kill, &[pid])?;
        assert!(wait_until_gone(pid, Duration::from_secs(5)));
        child.wait()?;
        assert!(!is_alive(pid));
        Ok(())
    }
}
