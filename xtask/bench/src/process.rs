//! Processes: what this one uses, and children that are this program again.
//!
//! What has to be measured without the memory and the threads of what came before is measured in a
//! child; it answers with one line of JSON on its stdout.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::de::DeserializeOwned;

/// Ticks of a second in `/proc`: part of the kernel's interface on every platform that matters here.
const TICKS_PER_SECOND: u32 = 100;

/// Most memory that this process ever had, in MiB.
pub(crate) fn rss_peak_mib() -> Result<f64> {
    status_mib("VmHWM:")
}

/// The memory that this process has, in MiB.
pub(crate) fn rss_mib() -> Result<f64> {
    status_mib("VmRSS:")
}

fn status_mib(field: &str) -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
    let kib: u32 = kib.with_context(|| format!("no {field} in /proc/self/status"))?.parse()?;
    Ok(f64::from(kib) / 1024.0)
}

/// The processor time that this process used, in user mode and in the kernel; to 10 ms.
pub(crate) fn cpu_time() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").context("read /proc/self/stat")?;
    ticks(&stat).map(|ticks| Duration::from_secs(1) * ticks / TICKS_PER_SECOND)
}

/// `utime` and `stime`, the 14th and the 15th field. The second is a name in brackets that may hold
/// anything.
fn ticks(stat: &str) -> Result<u32> {
    let (_, rest) = stat.rsplit_once(')').context("no name in /proc/self/stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |at: usize| -> Result<u32> {
        Ok(fields.get(at).context("a short /proc/self/stat")?.parse()?)
    };
    Ok(field(11)? + field(12)?)
}

/// A child process; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Child {
    process: std::process::Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Child {
    /// Starts a program; its stderr is ours.
    pub(crate) fn start<A: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process =
            command.spawn().with_context(|| format!("start {}", program.display()))?;
        let stdout = process.stdout.take().context("a child without stdout")?;
        Ok(Self { process, lines: BufReader::new(stdout) })
    }

    /// Waits for the next line that the child writes.
    pub(crate) fn answer<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.lines.read_line(&mut line).context("read from the child")?;
        ensure!(!line.is_empty(), "the child ended without an answer");
        serde_json::from_str(&line).with_context(|| format!("the child said {line:?}"))
    }

    /// Kills the child by SIGKILL, and returns when it is gone. Says whether it was still alive.
    pub(crate) fn kill(&mut self) -> Result<Alive> {
        if let Some(status) = self.process.try_wait()? {
            return Ok(Alive::No(status));
        }
        self.process.kill()?;
        let status = self.process.wait()?;
        Ok(if status.code().is_some() { Alive::No(status) } else { Alive::Yes })
    }

    /// Waits until the child ends well.
    pub(crate) fn wait(mut self) -> Result<()> {
        let status = self.process.wait()?;
        if status.success() { Ok(()) } else { Err(anyhow!("the child ended with {status}")) }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may be gone already, and then there is nothing to do.
        if self.process.kill().is_ok() {
            drop(self.process.wait());
        }
    }
}

/// Says something to the process that started this one, as one line of JSON.
#[expect(clippy::print_stdout, reason = "the process that started this one reads it")]
pub(crate) fn answer(value: &serde_json::Value) {
    println!("{value}");
}

/// Whether a child that was killed had been alive.
#[derive(Debug)]
pub(crate) enum Alive {
    Yes,
    /// It had ended by itself, so.
    No(ExitStatus),
}

/// Runs a child to its end, and returns what it answered.
pub(crate) fn ask<T: DeserializeOwned, A: AsRef<OsStr>>(
    program: &Path,
    arguments: impl IntoIterator<Item = A>,
) -> Result<T> {
    let mut child = Child::start(program, arguments)?;
    let answer = child.answer()?;
    child.wait()?;
    Ok(answer)
}

/// Kills a child that has to be alive.
pub(crate) fn kill(child: &mut Child) -> Result<()> {
    match child.kill()? {
        Alive::Yes => Ok(()),
        Alive::No(status) => bail!("the child ended with {status} before it was killed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_memory() {
        let (now, peak) = (rss_mib().unwrap(), rss_peak_mib().unwrap());
        assert!(now > 0.5 && peak >= now * 0.9, "{now} {peak}");
        assert!(cpu_time().is_ok());
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "1 (a ) b) R 1 2 3 4 5 6 7 8 9 10 70 7 0 0 20";
        assert_eq!(ticks(stat).unwrap(), 77);
        assert!(ticks("1 (a) R 1").is_err());
    }
}
