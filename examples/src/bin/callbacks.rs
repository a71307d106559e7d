//! Being told what happens: callbacks, an observer of its own, and a bridge that misses nothing.
#![expect(clippy::print_stdout, reason = "a program talks to its terminal")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ergon_core::{Client, EventKind, EventKindSet, RetryPolicy, Task, TaskError};
use ergon_events::{Batch, Bus, Delivery, Overflow};
use ergon_redb::RedbStore;
use ergon_server::{Context, Server};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

const PAUSE: Duration = Duration::from_millis(20);

#[derive(Serialize, Deserialize, Task)]
#[task(kind = "visit", max_attempts = 2, retry = RetryPolicy::Fixed(PAUSE))]
struct Visit {
    site: String,
}

async fn visit(visit: Visit, context: Context) -> Result<(), TaskError> {
    match (visit.site.as_str(), context.attempt()) {
        ("shaky", 1) => Err(TaskError::retry("connection reset")),
        ("gone", _) => Err(TaskError::fail("404 not found")),
        _ => Ok(()),
    }
}

/// A callback does not wait: what does not fit is dropped, and here that is said.
fn note(lines: &mpsc::Sender<String>, line: String) {
    if let Err(error) = lines.try_send(line) {
        println!("callback: {error}");
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = RedbStore::in_memory()?;
    let started = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&started);
    let (failures, mut failed) = mpsc::channel(16);
    let retries = failures.clone();
    let (tell, mut bridged) = mpsc::channel(16);

    let ends = EventKindSet::of(&[EventKind::TaskCompleted, EventKind::TaskFailed]);
    let bus = Bus::builder()
        .store(store.clone())
        // Called by whoever committed it, right after the commit: for what is quick.
        .on_task_started(move |_task, _server, _waited| {
            counted.fetch_add(1, Ordering::Relaxed);
        })
        .on_task_retried(move |_task, _reason, error, _run_at| {
            note(&retries, format!("tried again: {error}"));
        })
        .on_task_failed(move |_task, _reason, error| note(&failures, format!("failed: {error}")))
        // Called by a task of its own, which may wait for a network: nobody waits for it.
        .observe("notes", ends, Overflow::Lag, |batch: Batch| async move {
            if let Some(lagged) = batch.lagged() {
                println!("observer: missed {} events", lagged.missed);
            }
            Ok::<_, anyhow::Error>(())
        })
        // Told everything at least once, also across restarts of this program.
        .durable_sink("bridge", ends, move |delivery: Delivery| {
            let tell = tell.clone();
            async move {
                for recorded in &*delivery.events {
                    tell.send(recorded.event.kind()).await?;
                }
                Ok::<_, mpsc::error::SendError<_>>(())
            }
        })
        .build()?;
    let running = bus.start()?;
    running.ready().await;

    let client = Client::builder(store.clone()).events(bus.sink()).build();
    let server = Server::builder(store.clone()).handler(visit).events(bus.sink()).build()?.start();
    for site in ["shaky", "gone", "fine"] {
        let visit = client.enqueue(Visit { site: site.to_owned() }).await?;
        match visit.result().await {
            Ok(()) => println!("{site}: completed"),
            Err(error) => println!("{site}: {error}"),
        }
        if let Some(kind) = bridged.recv().await {
            println!("bridge: {kind}");
        }
    }
    server.shutdown().await;
    while let Ok(line) = failed.try_recv() {
        println!("callback: {line}");
    }

    let report = running.shutdown().await;
    println!(
        "attempts: {}, everything was told: {}",
        started.load(Ordering::Relaxed),
        report.is_complete()
    );
    store.close().await?;
    Ok(())
}
