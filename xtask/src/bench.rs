//! Runs one benchmark of `ergon-bench`, optimised.

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use clap::Args;

use crate::command::{cargo, pass_through};

/// What to measure.
#[derive(Args, Debug)]
pub(crate) struct Request {
    /// The benchmark's name: `redb`, `postgres` or `events`
    name: String,
    /// Print one JSON object a line on stdout, and nothing else there
    #[arg(long)]
    json: bool,
    /// Names of measures, and options of the benchmark itself
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// Builds and runs the benchmark; its exit code becomes ours.
pub(crate) fn run(request: &Request) -> Result<ExitCode> {
    let mut command =
        cargo(["run", "--release", "--quiet", "-p", "ergon-bench", "--bin", "bench", "--"]);
    command.arg(&request.name);
    if request.json {
        command.arg("--json");
    }
    pass_through(command.args(&request.args))
}
