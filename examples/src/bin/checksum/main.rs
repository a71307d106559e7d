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
use futures::{StreamExt as _, stream};

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

/// A file that no run has summed yet, and its task.
type Work = (String, Handle<Sum>);

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
            let done = record.filter(|task| task.state == State::Completed);
            match done.and_then(|task| task.progress.result) {
                Some(sum) => report.add_earlier(path, serde_json::from_slice(&sum)?),
                None => work.push((path, task.into_handle())),
            }
        }
        if args.verbose {
            eprintln!("enqueued a batch, {} files to do", work.len());
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
    let bar = report::bar(work.len())?;
    let results = work.into_iter().map(|(path, task)| async move { (path, task.result().await) });
    // In their order, a hundred at once: each read of the store may wait for a commit.
    let mut results = stream::iter(results).buffered(100);
    while let Some((path, result)) = results.next().await {
        match result {
            Ok(sum) => {
                if args.verbose {
                    bar.suspend(|| eprintln!("done {path}"));
                }
                report.add(path, sum);
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
