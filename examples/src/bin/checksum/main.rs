//! Checksums of every file of a directory, as durable tasks: kill it at any moment, run it again,
//! and it goes on where it was.
#![expect(clippy::print_stderr, reason = "a program talks to its terminal")]

mod report;
mod task;
mod walk;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use ergon_core::{Client, Handle, Now, ResultError, State, store::Inspect as _};
use ergon_redb::RedbStore;
use ergon_server::{Queue, Server};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{report::Report, task::Sum};

/// Prints the SHA-256 of every file of a directory, as `sha256sum` does, and repeats none of the
/// work that an earlier run has recorded.
#[derive(Debug, Parser)]
struct Args {
    /// The directory whose files are summed
    directory: PathBuf,
    /// The file that records the work
    #[arg(long, default_value = "checksum.redb")]
    store: PathBuf,
    /// Files that are read at once
    #[arg(long, default_value_t = processors())]
    concurrency: usize,
    /// Says on stderr what has been recorded, line by line
    #[arg(long)]
    verbose: bool,
    /// For trying out crashes: waits before each file
    #[arg(long, default_value_t = 0, value_name = "MILLISECONDS")]
    throttle_ms: u64,
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let store = RedbStore::open(&args.store).await?;
    let mut report = Report::begin(&args.store);
    let work = enqueue(&args, &store, &mut report).await?;
    finish(&args, &store, work, &mut report).await?;
    store.close().await?;
    report.print()?;
    Ok(if report.has_failures() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// One file of this run.
struct Work {
    path: String,
    task: Handle<Sum>,
    /// An earlier run has recorded its sum.
    was_done: bool,
}

/// Enqueues a task for each file. A file that has one, of this or an earlier run, answers that one.
async fn enqueue(args: &Args, store: &RedbStore, report: &mut Report) -> anyhow::Result<Vec<Work>> {
    let client = Client::new(store.clone());
    let directory = args.directory.canonicalize();
    let directory = directory.with_context(|| format!("find {}", args.directory.display()))?;
    let mut batches = walk::start(directory, args.store.canonicalize()?);
    let mut work = Vec::new();
    while let Some(batch) = batches.recv().await {
        report.failures.extend(batch.unreadable);
        let paths: Vec<_> = batch.files.iter().map(|file| file.path.clone()).collect();
        let tasks = client.enqueue_many(batch.files).await?;
        // Nothing runs yet: what is completed was completed by an earlier run.
        let ids: Vec<_> = tasks.iter().map(|task| task.id()).collect();
        let records = store.tasks(&ids, Now::Store).await?;
        for ((path, task), record) in paths.into_iter().zip(tasks).zip(records) {
            let was_done = record.is_some_and(|it| it.state == State::Completed);
            work.push(Work { path, task: task.into_handle(), was_done });
        }
        if args.verbose {
            eprintln!("enqueued {} files", work.len());
        }
    }
    Ok(work)
}

/// Runs the tasks, and collects what came of them.
async fn finish(
    args: &Args,
    store: &RedbStore,
    work: Vec<Work>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let server = Server::builder(store.clone())
        .state(Duration::from_millis(args.throttle_ms))
        .handler(task::checksum)
        .queue(Queue::new("checksum").concurrency(args.concurrency))
        .build()?
        .start();
    let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} files, {eta} left")?;
    let bar = ProgressBar::new(u64::try_from(work.len())?).with_style(style);
    for Work { path, task, was_done } in work {
        match task.result().await {
            Ok(sum) => {
                if args.verbose && !was_done {
                    bar.suspend(|| eprintln!("done {path}"));
                }
                report.add(path, sum, was_done);
            }
            Err(ResultError::Store { source }) => return Err(source.into()),
            Err(error) => report.failures.push((path, error.to_string())),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    server.shutdown().await;
    Ok(())
}
