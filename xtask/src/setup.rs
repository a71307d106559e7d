//! Installs the servers and tools that some tests need, where the package manager is apt.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use ergon_cluster::{find_pgbouncer, find_postgres};

use crate::command::run as run_command;

/// The package of Debian brings the server along, which no test needs.
const PROMTOOL_HINT: &str = "promtool, of Prometheus, is not on the PATH: install it (Debian, \
                             Ubuntu: apt-get install prometheus; macOS: brew install prometheus)";

const CHROMIUM_HINT: &str = "chromium, the browser, is not on the PATH: install it (Debian: apt-get \
                             install chromium)";

/// Installs what is missing and nothing else, so it may be run again and again.
pub(crate) fn run() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        eprintln!("setup: PostgreSQL, PgBouncer, promtool and Chromium are installed");
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|(package, _)| *package).collect();
    if !is_on_path("apt-get") {
        let hints: Vec<_> = missing.iter().map(|(_, hint)| hint.as_str()).collect();
        bail!("setup installs by apt-get only, which is not here: {}", hints.join("; "));
    }
    let is_root = output("id", &["-u"]).as_deref() == Some("0");
    if !(is_root || is_on_path("sudo")) {
        bail!("setup needs root or sudo: apt-get install {}", names.join(" "));
    }
    eprintln!("setup: installing {} by apt-get", names.join(" and "));
    run_command(&mut apt(is_root, &["update"]))?;
    // Recommended packages would bring a compiler and more, of which the tests need nothing.
    let install = ["install", "--yes", "--no-install-recommends"];
    run_command(&mut apt(is_root, &[&install[..], &names].concat()))?;
    let missing = self::missing();
    if let Some((package, hint)) = missing.first() {
        bail!("setup installed {package}, but it cannot be found: {hint}");
    }
    eprintln!("setup: PostgreSQL, PgBouncer, promtool and Chromium are installed");
    Ok(())
}

/// The packages that are missing, and how to get them by hand.
fn missing() -> Vec<(&'static str, String)> {
    let postgres = find_postgres().err().map(|error| ("postgresql", error.to_string()));
    let pgbouncer = find_pgbouncer().err().map(|error| ("pgbouncer", error.to_string()));
    let promtool = (!is_on_path("promtool")).then(|| ("prometheus", PROMTOOL_HINT.to_owned()));
    let chromium = (!is_on_path("chromium")).then(|| ("chromium", CHROMIUM_HINT.to_owned()));
    postgres.into_iter().chain(pgbouncer).chain(promtool).chain(chromium).collect()
}

fn apt(is_root: bool, args: &[&str]) -> Command {
    // `env` passes through sudo what sudo would drop.
    let words = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"];
    let mut command = Command::new(if is_root { "env" } else { "sudo" });
    command.args(if is_root { &words[1..] } else { &words[..] }).args(args);
    command
}

fn is_on_path(program: &str) -> bool {
    output(program, &["--version"]).is_some()
}

/// What a program prints, if it can be run and succeeds.
fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::render;

    #[test]
    fn others_than_root_ask_by_sudo() {
        assert_eq!(
            render(&apt(true, &["update"])),
            "env DEBIAN_FRONTEND=noninteractive apt-get --quiet update"
        );
        assert_eq!(
            render(&apt(false, &["update"])),
            "sudo env DEBIAN_FRONTEND=noninteractive apt-get --quiet update"
        );
    }
}
