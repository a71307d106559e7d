//! The part of the benchmark that runs in a process of its own.

use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;
use ergon_core::store::IntoStore as _;
use ergon_postgres::PostgresStore;
use serde_json::json;

use crate::{process::answer, serving, workload::block_on};

/// What a child does; it answers with one line of JSON.
#[derive(Debug, Subcommand)]
pub enum Child {
    /// Runs a server that has nothing to do. Says when it is watched, and when not any more.
    Idle {
        /// The database.
        url: String,
        /// For so many milliseconds.
        millis: u64,
    },
}

impl Child {
    /// Does it.
    ///
    /// # Errors
    ///
    /// When anything goes wrong.
    pub fn run(&self) -> Result<()> {
        let Self::Idle { url, millis } = self;
        block_on(async {
            let store = PostgresStore::connect(url).await?;
            let edge = || {
                answer(&json!({}));
                Ok(())
            };
            let time = Duration::from_millis(*millis);
            let cpu = serving::idle_cpu(&store.clone().into_store(), time, edge).await?;
            answer(&json!({ "cpu_percent": cpu }));
            store.close().await;
            Ok(())
        })
    }
}
