//! The command `ergon`: watches and steers the tasks of a store.

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Args, Command};

mod access;
mod args;
mod commands;
mod store;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let done = match &args.command {
        Command::Monitor(options) => commands::monitor::run(&args.store, options).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

#[expect(clippy::print_stderr, reason = "a command talks to its terminal")]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
