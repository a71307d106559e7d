//! A throw-away Postgres: for a look around, for one command, for the time of the tests.

pub(crate) mod services;

use std::{
    ffi::OsString,
    process::{Command, ExitCode},
    thread,
};

use anyhow::Result;
use clap::Args;
use ergon_cluster::Settings;

use self::services::{Bouncer, Services};
use crate::command::pass_through;

/// What to start, and for how long.
#[derive(Args, Debug)]
pub(crate) struct Request {
    /// Also start a `PgBouncer` in transaction mode in front of it
    #[arg(long)]
    bouncer: bool,
    /// Never wait for the disk: for a look around, not for what a store keeps
    #[arg(long)]
    fast: bool,
    /// Run this command with `DATABASE_URL` set, and `ERGON_PGBOUNCER_URL` if asked for; then stop
    #[arg(value_name = "COMMAND", last = true)]
    command: Vec<OsString>,
}

/// Runs the command and answers its exit code, or prints the URLs and stays until it is interrupted.
///
/// An interrupt ends this process; the watchdogs of the servers then end those.
pub(crate) fn run(request: &Request) -> Result<ExitCode> {
    let settings = if request.fast { Settings::fast() } else { Settings::default() };
    let bouncer = if request.bouncer { Bouncer::Required } else { Bouncer::None };
    let services = Services::start(settings, bouncer)?;
    if let [program, args @ ..] = request.command.as_slice() {
        let mut command = Command::new(program);
        command.args(args).envs(services.variables());
        return pass_through(&mut command);
    }
    for (name, value) in services.variables() {
        println!("{name}={value}");
    }
    eprintln!("running until Ctrl-C");
    loop {
        thread::park();
    }
}
