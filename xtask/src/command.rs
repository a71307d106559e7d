//! Building, showing and running the commands that the tasks consist of.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt::Write as _,
    io::{BufRead, BufReader, Read},
    process::{Command, ExitCode, ExitStatus, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// Which output of a command is read line by line; the other one is inherited.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pipe {
    Stdout,
    Stderr,
}

/// What becomes of a line that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    Show,
    Hide,
}

/// A cargo command at the workspace root, by the cargo that runs this task.
pub(crate) fn cargo<I, S>(args: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new(cargo_program());
    command.args(args).current_dir(workspace::root());
    command
}

/// Whether `cargo <subcommand>` exists on this machine.
pub(crate) fn is_installed(subcommand: &str) -> bool {
    cargo([subcommand, "--version"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Shows and runs a command; anything but success is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("{} ended with {status}", render(command));
    }
    Ok(())
}

/// Shows and runs a command whose exit code becomes ours.
pub(crate) fn pass_through(command: &mut Command) -> Result<ExitCode> {
    let status = status(command)?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Shows and runs a command, giving every line of one of its outputs to `on_line` as it arrives.
pub(crate) fn stream(
    command: &mut Command,
    pipe: Pipe,
    mut on_line: impl FnMut(&str) -> Echo,
) -> Result<ExitStatus> {
    announce(command);
    match pipe {
        Pipe::Stdout => command.stdout(Stdio::piped()),
        Pipe::Stderr => command.stderr(Stdio::piped()),
    };
    let mut child = command.spawn().with_context(|| format!("start {}", render(command)))?;
    let output: Option<Box<dyn Read>> = match pipe {
        Pipe::Stdout => child.stdout.take().map(|output| Box::new(output) as Box<dyn Read>),
        Pipe::Stderr => child.stderr.take().map(|output| Box::new(output) as Box<dyn Read>),
    };
    let mut reader = BufReader::new(output.context("the output was not piped")?);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes).context("read the output of the command")? > 0 {
        let text = String::from_utf8_lossy(&bytes);
        let line = text.trim_end_matches(['\n', '\r']);
        match (on_line(line), pipe) {
            (Echo::Show, Pipe::Stdout) => println!("{line}"),
            (Echo::Show, Pipe::Stderr) => eprintln!("{line}"),
            (Echo::Hide, _) => {}
        }
        bytes.clear();
    }
    child.wait().with_context(|| format!("wait for {}", render(command)))
}

/// The command as one would type it.
pub(crate) fn render(command: &Command) -> String {
    let mut line = String::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            let _infallible = write!(line, "{}={} ", name.display(), quoted(value));
        }
    }
    let program = command.get_program();
    line.push_str(&if program == cargo_program() { "cargo".to_owned() } else { quoted(program) });
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&quoted(arg));
    }
    line
}

fn status(command: &mut Command) -> Result<ExitStatus> {
    announce(command);
    command.status().with_context(|| format!("start {}", render(command)))
}

/// Shown on stderr, so that stdout stays what the command itself prints.
fn announce(command: &Command) {
    eprintln!("$ {}", render(command));
}

fn cargo_program() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn quoted(text: &OsStr) -> String {
    let text = text.to_string_lossy();
    let is_plain = |c: char| c.is_alphanumeric() || "-_./=,:+@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = cargo(["doc", "--workspace", "a b"]);
        command.env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(render(&command), "RUSTDOCFLAGS='-D warnings' cargo doc --workspace 'a b'");
    }

    #[test]
    fn a_stream_gives_every_line_and_the_exit_status() -> Result<()> {
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "printf 'one\\ntwo'; exit 3"]);
        let status = stream(&mut command, Pipe::Stdout, |line| {
            lines.push(line.to_owned());
            Echo::Hide
        })?;
        assert_eq!(lines, ["one", "two"]);
        assert_eq!(status.code(), Some(3));
        Ok(())
    }

    #[test]
    fn a_failing_command_is_an_error_that_names_it() {
        let error = run(&mut Command::new("false")).expect_err("it failed");
        assert!(error.to_string().starts_with("false ended with"), "{error}");
    }
}
