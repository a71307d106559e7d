//! The crash loop: `torture redb --kills N --seed S`; its exit code says whether all is well.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks to its terminal"
)]

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Parser};
use ergon_bench::torture::{Child, Report, Torture, postgres};

/// Kills a process again and again, then audits what its store kept.
#[derive(Debug, Parser)]
#[command(name = "torture")]
enum Command {
    /// The embedded store
    Redb(Loop),
    /// The Postgres store, on a server of its own
    Postgres(Loop),
    /// The process that is killed
    #[command(hide = true)]
    Child(Child),
    /// A process that may be killed
    #[command(hide = true)]
    PostgresChild(postgres::Child),
}

#[derive(Args, Debug)]
struct Loop {
    /// How often a process is killed
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
        Command::Redb(it) => it
            .places()
            .and_then(|(dir, program)| {
                Torture { kills: it.kills, seed: it.seed, dir, program }.run()
            })
            .map(|report| tell(&report)),
        Command::Postgres(it) => it
            .places()
            .and_then(|(dir, program)| {
                postgres::Torture { kills: it.kills, seed: it.seed, dir, program }.run()
            })
            .map(|report| tell(&report)),
        Command::Child(child) => child.run().map(|()| ExitCode::SUCCESS),
        Command::PostgresChild(child) => child.run().map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

impl Loop {
    /// Where to work, and this program.
    fn places(&self) -> Result<(PathBuf, PathBuf)> {
        let program = std::env::current_exe().context("find this program")?;
        // Two levels up from `target/release/torture`.
        let target =
            program.ancestors().nth(2).context("this program is not in a target directory")?;
        let dir = self.dir.clone().unwrap_or_else(|| target.join("torture"));
        Ok((dir, program))
    }
}

fn tell(report: &Report) -> ExitCode {
    println!("{report}");
    if report.is_good() {
        return ExitCode::SUCCESS;
    }
    report.findings().for_each(|finding| println!("{finding}"));
    if let Some(kept) = &report.kept {
        println!("seed {}, kept in {}", report.seed, kept.display());
    }
    ExitCode::FAILURE
}
