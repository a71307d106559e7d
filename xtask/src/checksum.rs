//! Runs the main example on real files.

use std::{
    ffi::OsString,
    path::{PathBuf, absolute},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    command::{cargo, pass_through},
    workspace,
};

/// What the example works on.
#[derive(Args, Debug)]
pub(crate) struct Request {
    /// The directory whose files are summed; the `crates` folder of this repository by default
    directory: Option<PathBuf>,
    /// Further arguments of the example, such as `--throttle-ms 5`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Builds and runs the example; its exit code becomes ours.
pub(crate) fn run(request: &Request) -> Result<ExitCode> {
    let directory = match &request.directory {
        Some(directory) => absolute(directory)
            .with_context(|| format!("find the directory {}", directory.display()))?,
        None => workspace::root().join("crates"),
    };
    let mut command =
        cargo(["run", "--release", "-p", "ergon-examples", "--bin", "checksum", "--"]);
    pass_through(command.arg(directory).args(&request.arguments))
}
