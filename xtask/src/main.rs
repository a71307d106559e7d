//! The development tasks of ergon, run as `cargo xtask <task>`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks to its terminal"
)]

mod bench;
mod checksum;
mod ci;
mod command;
mod demo;
mod deny;
mod layers;
mod lint;
mod postgres;
mod setup;
mod step;
mod test;
mod tidy;
mod torture;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// The development tasks of ergon.
#[derive(Debug, Parser)]
#[command(name = "xtask", bin_name = "cargo xtask")]
enum Task {
    /// Run every check of the repository, stopping at the first that fails
    Ci,
    /// Run the tests of the workspace, then its doctests
    Test(test::Selection),
    /// Run a throw-away Postgres until Ctrl-C, or for the time of one command
    Postgres(postgres::Request),
    /// Install the servers that some tests need, where a package manager can
    Setup,
    /// Check formatting, clippy's lints and the documentation
    Lint,
    /// Check who depends on whom against the table of allowed edges
    Layers,
    /// Check the conventions that no other tool knows
    Tidy,
    /// Measure: run one benchmark, optimised
    Bench(bench::Request),
    /// Kill a process again and again, then audit what its store kept
    Torture(torture::Request),
    /// Build and run the main example: checksums of a directory, as durable tasks
    Checksum(checksum::Request),
    /// Build and run the demo: tasks of many kinds, and the monitor that watches them
    Demo(demo::Request),
}

fn main() -> ExitCode {
    run(Task::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Ci => return ci::run(),
        Task::Test(selection) => return test::run_and_report(&selection),
        Task::Bench(request) => return bench::run(&request),
        Task::Torture(request) => return torture::run(&request),
        Task::Checksum(request) => return checksum::run(&request),
        Task::Demo(request) => return demo::run(&request),
        Task::Postgres(request) => return postgres::run(&request),
        Task::Setup => setup::run()?,
        Task::Lint => lint::run()?,
        Task::Layers => layers::run()?,
        Task::Tidy => tidy::run()?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Task;

    #[test]
    fn the_command_line_is_well_formed() {
        Task::command().debug_assert();
    }
}
