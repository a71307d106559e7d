//! The crash loop: a process killed again and again, and an audit of what its store kept.

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use clap::Args;

use crate::command::{self, cargo, pass_through};

/// Enough kills to hit every phase of a commit, few enough for every run of the checks.
const CI_KILLS: u32 = 30;

/// Fixed, so that a failing run can be repeated.
const CI_SEED: u64 = 20_260_101;

/// What to torture, and for how long.
#[derive(Args, Debug)]
pub(crate) struct Request {
    /// The store: `redb` or `postgres`
    store: String,
    /// How often the process is killed
    #[arg(long, default_value_t = CI_KILLS)]
    kills: u32,
    /// What the random choices start from
    #[arg(long, default_value_t = CI_SEED)]
    seed: u64,
    /// Further options of the crash loop itself
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

impl Request {
    /// The run that belongs to the checks.
    pub(crate) fn of_ci(store: &str) -> Self {
        Self { store: store.to_owned(), kills: CI_KILLS, seed: CI_SEED, args: Vec::new() }
    }
}

/// Builds and runs the crash loop; its exit code becomes ours.
pub(crate) fn run(request: &Request) -> Result<ExitCode> {
    build()?;
    pass_through(&mut loop_command(request))
}

/// Builds and runs the crash loop; anything but success is an error.
pub(crate) fn check(request: &Request) -> Result<()> {
    build()?;
    command::run(&mut loop_command(request))
}

fn build() -> Result<()> {
    command::run(&mut cargo(["build", "--release", "-p", "ergon-bench", "--bin", "torture"]))
}

fn loop_command(request: &Request) -> std::process::Command {
    let mut command =
        cargo(["run", "--release", "--quiet", "-p", "ergon-bench", "--bin", "torture", "--"]);
    command
        .arg(&request.store)
        .args(["--kills", &request.kills.to_string()])
        .args(["--seed", &request.seed.to_string()])
        .args(&request.args);
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::render;

    #[test]
    fn the_checks_torture_with_a_fixed_seed() {
        let shown = render(&loop_command(&Request::of_ci("redb")));
        assert!(shown.ends_with("-- redb --kills 30 --seed 20260101"), "{shown}");
    }
}
