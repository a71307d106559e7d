//! Waits for the process to be asked to end.

/// Waits for SIGINT or SIGTERM; for ever when they cannot be listened to.
pub(crate) async fn asked_to_end() {
    if let Err(error) = listen().await {
        tracing::error!(%error, "signals cannot be listened to");
        std::future::pending::<()>().await;
    }
}

#[cfg(unix)]
async fn listen() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

#[cfg(not(unix))]
async fn listen() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}
