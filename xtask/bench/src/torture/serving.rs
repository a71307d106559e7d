//! Works through the real server, and notes what its handlers see.

use std::sync::Arc;

use anyhow::Result;
use ergon_core::{Store, TaskError};
use ergon_server::{Context, Queue, RunningServer, Server, ServerConfig, State};

use super::{
    child::CONCURRENCY,
    chore::Chore,
    ledger::{Entry, Ledger, What},
};

/// Starts a server that works until it is killed.
pub(super) fn start(
    store: &Arc<dyn Store>,
    ledger: Ledger,
    config: ServerConfig,
) -> Result<RunningServer> {
    let server = Server::builder(store)
        .state(ledger)
        .handler(handle)
        .queue(Queue::new("default").concurrency(CONCURRENCY))
        .config(config)
        .build()?;
    Ok(server.start())
}

async fn handle(
    chore: Chore,
    State(ledger): State<Ledger>,
    context: Context,
) -> Result<(), TaskError> {
    let entry = |what| Entry { id: context.id(), what };
    let gone = |error: anyhow::Error| TaskError::retry(error.to_string());
    ledger.note([entry(What::Start(context.token()))]).await.map_err(gone)?;
    chore.work().await;
    // On its way before the outcome is, so that no later start of the task overtakes it.
    ledger.pass([entry(What::Ran(context.token()))]).map_err(gone)?;
    chore.answer(context.attempt())
}
