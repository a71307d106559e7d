//! The benchmark: `bench redb`, and with `--json` one object a line.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks to its terminal"
)]

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Parser, ValueEnum};
use ergon_bench::{Listed, Measure, Plan, events, postgres, redb, table};

/// Measures ergon.
#[derive(Debug, Parser)]
#[command(name = "bench")]
enum Bench {
    /// The embedded store
    Redb(Choice<redb::Name>),
    /// The Postgres store, on a server of its own
    Postgres(Postgres),
    /// The bus of events, and who listens
    Events(Choice<events::Name>),
    /// A part that runs in a process of its own
    #[command(hide = true, subcommand)]
    Child(redb::Child),
    /// A part that runs in a process of its own
    #[command(hide = true, subcommand)]
    PostgresChild(postgres::Child),
}

#[derive(Args, Debug)]
struct Choice<N: ValueEnum + Send + Sync + 'static> {
    /// Take these measures alone
    names: Vec<N>,
    /// Print one JSON object a line on stdout, and nothing else there
    #[arg(long)]
    json: bool,
    /// How often each measure is taken; the median counts
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Take these measures alone, too
    #[arg(long, value_delimiter = ',')]
    only: Vec<N>,
    /// Multiply all counts by this, for a quick look: more than 0, at most 1
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Where the files are made. Default: `bench` in the target directory, so that it is the disk
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct Postgres {
    #[command(flatten)]
    choice: Choice<postgres::Name>,
    /// How long a snapshot is held, in seconds
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// How many tasks live and go
    #[arg(long, default_value_t = 10_000_000)]
    lives: u32,
    /// Set a parameter of the server: `name=value`; may be repeated
    #[arg(long, value_parser = setting)]
    set: Vec<(String, String)>,
}

fn setting(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("not name=value")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn main() -> ExitCode {
    let done = match Bench::parse() {
        Bench::Redb(choice) => run_redb(choice),
        Bench::Postgres(request) => run_postgres(request),
        Bench::Events(choice) => run_events(choice),
        Bench::Child(child) => child.run(),
        Bench::PostgresChild(child) => child.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_redb(choice: Choice<redb::Name>) -> Result<()> {
    let mut results = Results::new(choice.json);
    choice.plan()?.run(|measure| results.add(measure))?;
    results.end();
    Ok(())
}

fn run_events(choice: Choice<events::Name>) -> Result<()> {
    let mut results = Results::new(choice.json);
    choice.plan()?.run(|measure| results.add(measure))?;
    results.end();
    Ok(())
}

fn run_postgres(request: Postgres) -> Result<()> {
    let Postgres { choice, seconds, lives, set } = request;
    let mut results = Results::new(choice.json);
    let plan = postgres::Plan { common: choice.plan()?, seconds, lives, settings: set };
    plan.run(|measure| results.add(measure))?;
    results.end();
    Ok(())
}

impl<N: ValueEnum + Listed + Send + Sync + 'static> Choice<N> {
    fn plan(self) -> Result<Plan<N>> {
        let program = std::env::current_exe().context("find this program")?;
        // Two levels up from `target/release/bench`.
        let target =
            program.ancestors().nth(2).context("this program is not in a target directory")?;
        let dir = self.dir.unwrap_or_else(|| target.join("bench"));
        let only = self.names.into_iter().chain(self.only).collect();
        Ok(Plan { only, runs: self.runs, scale: self.scale, dir, program })
    }
}

/// Prints what is measured: as it comes when it is for a program, as a table when it is for people.
struct Results {
    json: bool,
    measures: Vec<Measure>,
}

impl Results {
    const fn new(json: bool) -> Self {
        Self { json, measures: Vec::new() }
    }

    fn add(&mut self, measure: &Measure) {
        if self.json {
            println!("{}", measure.line());
        }
        self.measures.push(measure.clone());
    }

    fn end(&self) {
        if !self.json {
            print!("{}", table(&self.measures));
        }
    }
}
