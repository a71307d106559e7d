//! The crash loop: `torture redb --kills N --seed S`; its exit code says whether all is well.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks to its terminal"
)]

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Parser};
use ergon_bench::torture::{Child, Torture};

/// Kills a process again and again, then audits what its store kept.
#[derive(Debug, Parser)]
#[command(name = "torture")]
enum Command {
    /// The embedded store
    Redb(Redb),
    /// The process that is killed
    #[command(hide = true)]
    Child(Child),
}

#[derive(Args, Debug)]
struct Redb {
    /// How often the process is killed
    #[arg(long, default_value_t = 30)]
    kills: u32,
    /// What the random choices start from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where store and ledger are made. Default: `torture` in the target directory
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Redb(redb) => run(redb),
        Command::Child(child) => child.run().map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(redb: Redb) -> Result<ExitCode> {
    let program = std::env::current_exe().context("find this program")?;
    // Two levels up from `target/release/torture`.
    let target = program.ancestors().nth(2).context("this program is not in a target directory")?;
    let Redb { kills, seed, dir } = redb;
    let dir = dir.unwrap_or_else(|| target.join("torture"));
    let report = Torture { kills, seed, dir, program }.run()?;
    println!("{report}");
    if report.is_good() {
        return Ok(ExitCode::SUCCESS);
    }
    report.findings().for_each(|finding| println!("{finding}"));
    if let Some(kept) = &report.kept {
        println!("seed {}, kept in {}", report.seed, kept.display());
    }
    Ok(ExitCode::FAILURE)
}
