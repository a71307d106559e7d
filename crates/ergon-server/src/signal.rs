//! The signals by which a process is asked to end.

use std::io;

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
#[cfg(not(unix))]
use tokio::signal::windows::{CtrlC, ctrl_c};

/// Listens to the signals by which the process is asked to end: SIGINT and SIGTERM, elsewhere than
/// on Unix Ctrl-C.
///
/// It listens from the moment it is made, so that nothing is missed between two of them.
#[derive(Debug)]
pub(crate) struct Requests {
    #[cfg(unix)]
    interrupt: Signal,
    #[cfg(unix)]
    terminate: Signal,
    #[cfg(not(unix))]
    ctrl_c: CtrlC,
}

#[cfg(unix)]
impl Requests {
    pub(crate) fn listen() -> io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next one. Two of the same sort that come before the first is seen are one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
impl Requests {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { ctrl_c: ctrl_c()? })
    }

    /// Waits for the next one. Two that come before the first is seen are one.
    pub(crate) async fn next(&mut self) {
        self.ctrl_c.recv().await;
    }
}
