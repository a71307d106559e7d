//! The parts of the benchmark that run in a process of their own.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Subcommand;
use ergon_core::{Client, store::IntoStore as _};
use ergon_redb::RedbStore;
use serde_json::json;

use super::lives;
use crate::{
    process::{self, answer},
    serving,
    workload::{block_on, fill},
};

/// What a child does; it answers with one line of JSON.
#[derive(Debug, Subcommand)]
pub enum Child {
    /// Fills a file with queued tasks, and waits to be killed.
    Fill {
        /// The file.
        path: PathBuf,
        /// How many tasks.
        tasks: u64,
    },
    /// Opens a file and says how long it took.
    Open {
        /// The file.
        path: PathBuf,
        /// Waits to be killed, rather than closing the file.
        #[arg(long)]
        stay: bool,
    },
    /// Works the queued tasks of a file off.
    Drain {
        /// The file.
        path: PathBuf,
        /// How many tasks it holds.
        tasks: u64,
    },
    /// Runs a server that has nothing to do.
    Idle {
        /// The file.
        path: PathBuf,
        /// For so many milliseconds.
        millis: u64,
    },
    /// Lets many tasks live and go.
    Lives {
        /// The file.
        path: PathBuf,
        /// How many.
        tasks: u64,
    },
}

impl Child {
    /// Does it.
    ///
    /// # Errors
    ///
    /// When anything goes wrong.
    pub fn run(&self) -> Result<()> {
        block_on(async {
            match self {
                Self::Fill { path, tasks } => {
                    let store = RedbStore::open(path).await?;
                    fill(&Client::new(store), *tasks).await?;
                    answer(&json!({}));
                    std::future::pending().await
                }
                Self::Open { path, stay } => open(path, *stay).await,
                Self::Drain { path, tasks } => drain_file(path, *tasks).await,
                Self::Idle { path, millis } => idle(path, Duration::from_millis(*millis)).await,
                Self::Lives { path, tasks } => {
                    answer(&serde_json::to_value(lives::live(path, *tasks).await?)?);
                    Ok(())
                }
            }
        })
    }
}

async fn open(path: &PathBuf, stay: bool) -> Result<()> {
    let began = Instant::now();
    let store = RedbStore::open(path).await?;
    let open_seconds = began.elapsed().as_secs_f64();
    answer(&json!({ "open_seconds": open_seconds, "rss_mib": process::rss_mib()? }));
    if stay {
        std::future::pending::<()>().await;
    }
    Ok(store.close().await?)
}

async fn drain_file(path: &PathBuf, tasks: u64) -> Result<()> {
    let store = RedbStore::open(path).await?;
    let rss_open_mib = process::rss_mib()?;
    let seconds = serving::drain(&store.clone().into_store(), tasks).await?.as_secs_f64();
    let rss_peak_mib = process::rss_peak_mib()?;
    store.close().await?;
    answer(&json!({
        "rss_open_mib": rss_open_mib,
        "rss_peak_mib": rss_peak_mib,
        "seconds": seconds,
    }));
    Ok(())
}

async fn idle(path: &PathBuf, time: Duration) -> Result<()> {
    let store = RedbStore::open(path).await?;
    let cpu_percent = serving::idle_cpu(&store.clone().into_store(), time, || Ok(())).await?;
    answer(&json!({ "cpu_percent": cpu_percent }));
    Ok(store.close().await?)
}
