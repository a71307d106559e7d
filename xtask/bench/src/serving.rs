//! The real server at work: draining a queue, starting one task, doing nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use ergon_core::{Client, EventSink, Store};
use ergon_server::{Queue, Server};
use tokio::sync::{Notify, mpsc};

use crate::{
    plan::micros,
    process,
    workload::{Done, Noop, wait_for_completed},
};

/// Handlers that run at once in every measure of a server under load.
pub(crate) const CONCURRENCY: usize = 64;

/// Longer than any drain takes: what is stuck is an error, not a hanging benchmark.
const DRAIN_MAX: Duration = Duration::from_secs(15 * 60);

/// Far beyond any latency: what is lost is an error, not a hanging benchmark.
const START_MAX: Duration = Duration::from_secs(60);

/// How long an idle server settles before it is watched.
const SETTLING: Duration = Duration::from_secs(1);

/// How long it takes from the start of a server until the store says that all tasks are completed,
/// when there are just so many and nothing else.
pub(crate) async fn drain(store: &Arc<dyn Store>, tasks: u64) -> Result<Duration> {
    drain_told(store, tasks, None).await
}

/// The same, while a sink is told of it.
pub(crate) async fn drain_told(
    store: &Arc<dyn Store>,
    tasks: u64,
    sink: Option<Arc<dyn EventSink>>,
) -> Result<Duration> {
    let ran = Arc::new(AtomicU64::new(0));
    let all_ran = Arc::new(Notify::new());
    let handler = {
        let (ran, all_ran) = (Arc::clone(&ran), Arc::clone(&all_ran));
        move |_task: Noop| {
            if ran.fetch_add(1, Relaxed) + 1 == tasks {
                all_ran.notify_one();
            }
            std::future::ready(Done::Ok(()))
        }
    };
    let mut server = Server::builder(store)
        .handler(handler)
        .queue(Queue::new("default").concurrency(CONCURRENCY));
    if let Some(sink) = sink {
        server = server.events(sink);
    }
    let server = server.build()?;
    let began = Instant::now();
    let running = server.start();
    // Asking the store all the time would take time from it, so it is asked at the end.
    tokio::time::timeout(DRAIN_MAX, all_ran.notified()).await.context("the drain is stuck")?;
    let end = wait_for_completed(&**store, tasks);
    tokio::time::timeout(DRAIN_MAX, end).await.context("the drain is stuck at its end")??;
    let time = began.elapsed();
    let report = running.shutdown().await;
    let runs = ran.load(Relaxed);
    ensure!(report.is_clean() && runs == tasks, "{runs} runs of {tasks} tasks: {report:?}");
    Ok(time)
}

/// Microseconds from each of so many enqueues to the start of its handler, on an idle server of
/// this store. The client may have a store of its own on the same tasks.
pub(crate) async fn start_times(
    store: &Arc<dyn Store>,
    client: Client,
    tasks: u64,
) -> Result<Vec<f64>> {
    let (started, mut starts) = mpsc::channel(1);
    let handler = move |_task: Noop| {
        let now = Instant::now();
        let started = started.clone();
        async move {
            // Nobody listens any more when the measure has failed.
            let _ = started.send(now).await;
            Done::Ok(())
        }
    };
    let running = Server::builder(store).handler(handler).build()?.start();
    let work = tokio::spawn(async move {
        let mut times = Vec::new();
        for number in 0..tasks {
            let began = Instant::now();
            let handle = client.enqueue(Noop::new(number)).await?;
            let start = tokio::time::timeout(START_MAX, starts.recv()).await;
            let start = start.context("a task is lost")?.context("the server is gone")?;
            times.push(micros(start.duration_since(began)));
            handle.result().within(START_MAX).await?;
        }
        anyhow::Ok(times)
    });
    let times = work.await.context("the caller panicked")??;
    running.shutdown().await;
    Ok(times)
}

/// The hundredths of a core that this process uses while its server has nothing to do for so long.
/// `at_edge` is called when the watch begins and when it ends.
pub(crate) async fn idle_cpu(
    store: &Arc<dyn Store>,
    time: Duration,
    mut at_edge: impl FnMut() -> Result<()>,
) -> Result<f64> {
    let handler = |_task: Noop| std::future::ready(Done::Ok(()));
    let running = Server::builder(store).handler(handler).build()?.start();
    tokio::time::sleep(SETTLING).await;
    at_edge()?;
    let (cpu, began) = (process::cpu_time()?, Instant::now());
    tokio::time::sleep(time).await;
    let used = process::cpu_time()?.saturating_sub(cpu).as_secs_f64();
    let percent = used / began.elapsed().as_secs_f64() * 100.0;
    at_edge()?;
    running.shutdown().await;
    Ok(percent)
}
