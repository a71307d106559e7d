//! `ergon monitor`: serves the web monitor by itself.

use anyhow::{Context as _, Result};
use ergon_monitor::{Monitor, MonitorConfig};
use ergon_prometheus::Metrics;
use tokio::net::TcpListener;

use crate::{args, store::Address};

/// Serves until Ctrl-C.
pub(crate) async fn run(address: &Address, options: &args::Monitor) -> Result<()> {
    let auth = options.auth.auth(&options.trusted_proxy, options.insecure_no_auth)?;
    let mut config = MonitorConfig::new(auth)
        .listen(options.listen)
        .base_path(&options.base_path)
        .enable_sse(options.sse)
        .read_only(options.read_only)
        .open_metrics(options.open_metrics);
    for proxy in &options.trusted_proxy {
        config = config.trusted_proxy(*proxy);
    }
    for host in &options.public_host {
        config = config.public_host(host);
    }
    if let Some(environment) = &options.environment {
        config = config.environment(environment);
    }
    config.check()?;
    let opened = address.open().await?;
    let metrics = Metrics::builder().backend(opened.backend()).build()?;
    let sampling = metrics.sampler(opened.store()).start();
    let scraped = metrics.clone();
    let monitor = Monitor::builder(opened.store(), config)
        .events(metrics.sink())
        .metrics(move || scraped.encode())
        .build()?;
    let listener = TcpListener::bind(options.listen).await;
    let listener = listener.with_context(|| format!("listen on {}", options.listen))?;
    say(&format!("http://{}{}", listener.local_addr()?, options.base_path));
    let interrupted = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!(%error, "Ctrl-C cannot be listened to");
            std::future::pending::<()>().await;
        }
    };
    monitor.serve_on(listener, interrupted).await?;
    sampling.stop().await;
    opened.close().await
}

#[expect(clippy::print_stdout, reason = "where it listens is what the command answers")]
fn say(what: &str) {
    println!("{what}");
}
