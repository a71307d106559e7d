//! Runs every example as its reader would, and looks at what it prints.

#![cfg(test)]

mod checksum;
mod output;
#[cfg(unix)]
mod postgres;
mod readme;

use std::{path::Path, process::Command};

/// A program of this package, in a directory of its own.
fn program(path: &str, directory: &Path) -> Command {
    let mut command = Command::new(path);
    command.current_dir(directory).env_remove("RUST_BACKTRACE");
    command
}
