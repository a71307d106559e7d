//! The benchmark: `bench redb`, and with `--json` one object a line.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks to its terminal"
)]

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Parser};
use ergon_bench::{
    redb::{Child, Name, Plan},
    table,
};

/// Measures ergon.
#[derive(Debug, Parser)]
#[command(name = "bench")]
enum Bench {
    /// The embedded store
    Redb(Redb),
    /// A part that runs in a process of its own
    #[command(hide = true, subcommand)]
    Child(Child),
}

#[derive(Args, Debug)]
struct Redb {
    /// Print one JSON object a line on stdout, and nothing else there
    #[arg(long)]
    json: bool,
    /// How often each measure is taken; the median counts
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Take these measures alone
    #[arg(long, value_delimiter = ',')]
    only: Vec<Name>,
    /// Multiply all counts by this, for a quick look: more than 0, at most 1
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Where the files are made. Default: `bench` in the target directory, so that it is the disk
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = match Bench::parse() {
        Bench::Redb(redb) => run(redb),
        Bench::Child(child) => child.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(redb: Redb) -> Result<()> {
    let program = std::env::current_exe().context("find this program")?;
    // Two levels up from `target/release/bench`.
    let target = program.ancestors().nth(2).context("this program is not in a target directory")?;
    let Redb { json, runs, only, scale, dir } = redb;
    let dir = dir.unwrap_or_else(|| target.join("bench"));
    let plan = Plan { only, runs, scale, dir, program };
    let mut measures = Vec::new();
    plan.run(|measure| {
        if json {
            println!("{}", measure.line());
        }
        measures.push(measure.clone());
    })?;
    if !json {
        print!("{}", table(&measures));
    }
    Ok(())
}
