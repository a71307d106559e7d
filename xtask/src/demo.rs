//! Runs the demo: tasks of many kinds, and the monitor that watches them.

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use clap::Args;

use crate::command::{cargo, pass_through};

/// How the demo runs.
#[derive(Args, Debug)]
pub(crate) struct Request {
    /// Options of the demo itself, such as `--seconds 60` or `--listen 127.0.0.1:8080`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Builds and runs the demo; its exit code becomes ours.
pub(crate) fn run(request: &Request) -> Result<ExitCode> {
    let mut command = cargo(["run", "--release", "-p", "ergon-examples", "--bin", "demo", "--"]);
    pass_through(command.args(&request.arguments))
}
