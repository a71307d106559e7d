//! Ends a server whose owner was killed before it could.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::{error::ClusterError, process::Signal};

/// A line on the standard input is the all-clear. Its end without one means that the owner is gone:
/// then the server named by the first line of the pid file is asked to stop, killed if it does not
/// within about 10 seconds, and its directory removed.
///
/// A server that was started a moment ago has not written its pid file yet, hence the patience. One
/// that ends removes it, which is seen earlier than its end: that shows only when somebody waits for
/// it, and an orphan's stepmother may take her time.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
read -r _ && exit 0
pid= tries=0
while [ -z "$pid" ] && [ "$tries" -lt 5 ]; do
    [ "$tries" -gt 0 ] && sleep 0.2
    tries=$((tries + 1))
    [ -r "$1" ] && read -r pid < "$1"
done
if [ -n "$pid" ]; then
    kill -s "$3" "$pid"
    kill -s CONT "$pid"
    tries=0
    while [ -e "$1" ] && [ "$tries" -lt 100 ] && kill -0 "$pid"; do
        sleep 0.1
        tries=$((tries + 1))
    done
    [ -e "$1" ] && kill -s KILL "$pid"
fi
rm -rf "$2"
"#;

/// A shell that holds the other end of a pipe, which the system closes with the owner's last breath.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
}

impl Watchdog {
    /// Watches over the server that writes its process id to `pid_file`; `signal` stops it at once.
    pub(crate) fn start(
        pid_file: &Path,
        directory: &Path,
        signal: Signal,
    ) -> Result<Self, ClusterError> {
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "ergon-cluster-watchdog"])
            .arg(pid_file)
            .arg(directory)
            .arg(signal.name())
            .current_dir("/")
            // What kills the owner's whole group, as Ctrl-C does, has to spare its watchdog.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(ClusterError::io("start the watchdog"))?;
        Ok(Self { shell })
    }
}

impl Drop for Watchdog {
    /// Gives the all-clear: whoever drops a watchdog has stopped the server.
    fn drop(&mut self) {
        if let Some(mut input) = self.shell.stdin.take() {
            // A shell that was killed can bark no more; nothing is left to be done about it.
            let _killed = input.write_all(b"\n");
        }
        let _killed = self.shell.wait();
    }
}
