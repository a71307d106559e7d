//! Runs the tests of the workspace and says, with real numbers, how they went.

mod output;
pub(crate) mod tally;

use std::{
    ffi::OsString,
    process::{Command, ExitCode},
};

use anyhow::{Result, bail};
use cargo_metadata::{Metadata, Package, Target};
use clap::Args;

use self::{
    output::{LibtestOutput, NextestOutput, Output},
    tally::{Results, Tally},
};
use crate::{
    command::{Pipe, cargo, is_installed, render, stream},
    postgres::services::Services,
    workspace,
};

/// Which tests to run: all of them by default.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Selection {
    /// Only the tests of this package; may be given again
    #[arg(short, long = "package", value_name = "PACKAGE")]
    packages: Vec<String>,
    /// Filters on the test's name, and options of libtest such as `--exact`
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// Runs the tests and prints the tally as the last line.
pub(crate) fn run_and_report(selection: &Selection) -> Result<ExitCode> {
    let tally = run(selection)?;
    println!("{tally}");
    Ok(if tally.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs unit and integration tests, then doctests, and prints which were skipped and why.
pub(crate) fn run(selection: &Selection) -> Result<Tally> {
    let services = Services::for_tests(&selection.select(&workspace::metadata()?))?;
    let units = run_units(selection, &services)?;
    let doctests = run_doctests(selection, &services)?;
    let tally = Tally::new(units, doctests);
    for skip in &tally.skips {
        eprintln!("{skip}");
    }
    if tally.is_empty() {
        bail!("no test ran: nothing matches {:?} in {}", selection.args, selection.scope());
    }
    Ok(tally)
}

fn run_units(selection: &Selection, services: &Services) -> Result<Results> {
    if is_installed("nextest") {
        let mut command = selection.command(&["nextest", "run"], services);
        command.args(["--no-tests=pass", "--success-output=immediate", "--color=never", "--"]);
        command.args(&selection.args);
        return observe(&mut command, Pipe::Stderr, NextestOutput::new(selection.is_filtered()));
    }
    eprintln!(
        "cargo-nextest is not installed (cargo install --locked cargo-nextest): using cargo test"
    );
    let mut command = selection.command(&["test", "--tests"], services);
    command.args(["--", "--show-output"]).args(&selection.args);
    observe(&mut command, Pipe::Stdout, LibtestOutput::default())
}

fn run_doctests(selection: &Selection, services: &Services) -> Result<Results> {
    if !selection.has_doctests()? {
        return Ok(Results::default());
    }
    let mut command = selection.command(&["test", "--doc"], services);
    command.args(["--", "--show-output"]).args(&selection.args);
    observe(&mut command, Pipe::Stdout, LibtestOutput::default())
}

/// Runs a test command to its end; a failure that no test explains, such as of the build, is an error.
fn observe(command: &mut Command, pipe: Pipe, mut output: impl Output) -> Result<Results> {
    let status = stream(command, pipe, |line| output.read(line))?;
    let results = output.into_results();
    if !status.success() && results.counts.failed == 0 {
        bail!("{} ended with {status}", render(command));
    }
    Ok(results)
}

impl Selection {
    fn command(&self, subcommand: &[&str], services: &Services) -> Command {
        let mut command = cargo(subcommand);
        command.envs(services.variables());
        if self.packages.is_empty() {
            command.arg("--workspace");
        }
        for package in &self.packages {
            command.args(["-p", package]);
        }
        command.args(["--all-features", "--no-fail-fast"]);
        command
    }

    fn is_filtered(&self) -> bool {
        !self.args.is_empty()
    }

    fn scope(&self) -> String {
        if self.packages.is_empty() { "the workspace".to_owned() } else { self.packages.join(", ") }
    }

    /// The packages of the workspace that are asked for.
    fn select<'a>(&self, metadata: &'a Metadata) -> Vec<&'a Package> {
        let is_selected = |package: &&Package| {
            self.packages.is_empty() || self.packages.iter().any(|name| package.name == *name)
        };
        metadata.workspace_packages().into_iter().filter(is_selected).collect()
    }

    /// Cargo refuses to run doctests when no selected package has a library.
    fn has_doctests(&self) -> Result<bool> {
        let metadata = workspace::metadata()?;
        let has_doctests = |target: &Target| {
            target.doctest && (target.is_lib() || target.is_rlib() || target.is_proc_macro())
        };
        Ok(self
            .select(&metadata)
            .into_iter()
            .any(|package| package.targets.iter().any(has_doctests)))
    }
}
