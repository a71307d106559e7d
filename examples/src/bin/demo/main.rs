//! The product on one screen: a shop's tasks on the embedded store, and the monitor that watches them.
//! Runs until Ctrl-C, or for `--seconds`.
#![expect(clippy::print_stdout, reason = "a program talks to its terminal")]

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;
use ergon_core::Client;
use ergon_monitor::{Auth, Monitor, MonitorConfig};
use ergon_prometheus::Metrics;
use ergon_redb::RedbStore;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::net::TcpListener;

mod work;

#[derive(Parser)]
struct Args {
    /// Where the monitor listens
    #[arg(long, default_value = "127.0.0.1:7766")]
    listen: SocketAddr,
    /// The file of the store. Default: one that is gone at the end
    #[arg(long)]
    store: Option<PathBuf>,
    /// Tasks a second
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// End after so many seconds. Default: at Ctrl-C
    #[arg(long)]
    seconds: Option<u64>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let directory = tempfile::tempdir()?;
    let path = args.store.unwrap_or_else(|| directory.path().join("demo.redb"));
    let store = RedbStore::open(path).await?;

    // Whatever this process commits is told to the metrics.
    let metrics = Metrics::builder().backend("redb").build()?;
    let client = Client::builder(store.clone()).events(metrics.sink()).build();
    let server = work::register(work::server(&store)).events(metrics.sink()).build()?;
    let sampling = metrics.sampler(store.clone()).start();

    let config = MonitorConfig::new(Auth::LoopbackOnly)
        .listen(args.listen)
        .environment("demo")
        .enable_sse(true);
    let scraped = metrics.clone();
    let monitor = Monitor::builder(store.clone(), config)
        .events(metrics.sink())
        .metrics(move || scraped.encode())
        .build()?;
    let listener = TcpListener::bind(args.listen).await?;
    println!("the monitor: http://{}/monitor", listener.local_addr()?);

    let over = async {
        match args.seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => drop(tokio::signal::ctrl_c().await),
        }
    };
    let running = server.start();
    tokio::select! {
        ended = enqueue(&client, args.rate) => ended?,
        served = monitor.serve_on(listener, over) => served?,
    }
    let report = running.shutdown().await;
    sampling.stop().await;
    store.close().await?;
    println!("{} tasks completed, {} failed", report.completed, report.failed);
    Ok(())
}

/// Enqueues so many tasks a second, about, for ever.
async fn enqueue(client: &Client, rate: f64) -> anyhow::Result<()> {
    let mut rng = StdRng::seed_from_u64(1);
    loop {
        work::enqueue(client, &mut rng).await?;
        let pause = rng.random_range(0.2..1.8) / rate.max(0.01);
        tokio::time::sleep(Duration::from_secs_f64(pause)).await;
    }
}
