//! The end of a server, phase by phase.

use std::{future::Future, sync::Arc, time::Duration};

use ergon_core::event::ServerEvent;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::task::TaskTracker;

use crate::{attempt::flag, counting, presence, shared::Shared, status::ShutdownReport, telling};

/// How long a handler that was dropped may take to be gone; one that takes longer blocks.
const STUCK_AFTER: Duration = Duration::from_secs(2);

/// How long the loops may take to end once there is nothing left for them to do.
const LOOPS_PERIOD: Duration = Duration::from_secs(1);

/// How urgently a server is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// Not at all.
    None,
    /// Once the running handlers have had their time.
    Graceful,
    /// At once.
    Immediate,
}

/// Ends a server from elsewhere. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ShutdownHandle {
    urgency: Arc<watch::Sender<Urgency>>,
}

impl ShutdownHandle {
    pub(crate) fn new() -> Self {
        Self { urgency: Arc::new(watch::Sender::new(Urgency::None)) }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Urgency> {
        self.urgency.subscribe()
    }

    /// Asks the server to end; asked a second time, it ends at once: handlers are dropped without a
    /// period of grace, and their tasks given back.
    ///
    /// Returns immediately. The report goes to whoever runs the server.
    pub fn shutdown(&self) {
        self.urgency.send_modify(|urgency| {
            *urgency = match urgency {
                Urgency::None => Urgency::Graceful,
                Urgency::Graceful | Urgency::Immediate => Urgency::Immediate,
            };
        });
    }

    /// Asks the server to end, unless it was asked before.
    pub(crate) fn shutdown_gracefully(&self) {
        self.urgency.send_if_modified(|urgency| {
            let is_first = *urgency == Urgency::None;
            if is_first {
                *urgency = Urgency::Graceful;
            }
            is_first
        });
    }

    /// Asks the server to end at once.
    pub fn shutdown_now(&self) {
        self.urgency.send_replace(Urgency::Immediate);
    }
}

/// The tasks that a server spawned.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) fetcher: JoinHandle<()>,
    pub(crate) completer: JoinHandle<()>,
    pub(crate) attempts: TaskTracker,
    pub(crate) loops: TaskTracker,
}

/// Waits for the request to end, and ends the server.
///
/// Runs as a task of its own, so that no caller who stops waiting can cut it short.
pub(crate) async fn supervise(
    shared: Arc<Shared>,
    mut spawned: Spawned,
    mut urgency: watch::Receiver<Urgency>,
) -> ShutdownReport {
    telling::announce(&shared, ServerEvent::Started).await;
    reached(&mut urgency, Urgency::Graceful).await;
    shared.signals.stop.cancel();
    tracing::info!(server = %shared.id, "the server stops");
    let draining = telling::announce(&shared, ServerEvent::Draining);
    let (are_gone, ()) = tokio::join!(drain(&shared, &mut spawned, &mut urgency), draining);
    if !are_gone {
        for attempt in shared.held.unfinished() {
            attempt.tell(flag::SHUTDOWN | flag::DROP);
        }
        // Whether they are gone is looked up next.
        drop(timeout(STUCK_AFTER, drained(&mut spawned)).await);
    }
    let unfinished = shared.held.unfinished();
    let stuck: Vec<_> = unfinished.iter().map(|attempt| attempt.task.id).collect();
    flush(&shared, spawned.completer).await;
    for id in shared.held.unrecorded() {
        // It did not even get to hand its outcome in.
        if !stuck.contains(&id) {
            shared.tally.unrecorded.push(id);
        }
    }
    shared.signals.end.cancel();
    // A claim that the store never answered is left to its lease.
    spawned.fetcher.abort();
    spawned.loops.close();
    if timeout(LOOPS_PERIOD, spawned.loops.wait()).await.is_err() {
        tracing::warn!("a loop of the server did not end");
    }
    shared.held.clear();
    let report = shared.tally.report(stuck);
    counting::write_last(&shared).await;
    if report.is_clean() {
        presence::leave(&shared).await;
    }
    telling::announce(&shared, ServerEvent::Stopped { left: report.left() }).await;
    if report.is_clean() {
        tracing::info!(server = %shared.id, released = report.released.len(), "the server ended");
    } else {
        tracing::error!(
            server = %shared.id,
            stuck = ?report.stuck,
            unrecorded = ?report.unrecorded,
            "the server ended and left tasks to the end of their leases"
        );
    }
    report
}

/// Lets handlers end: first on their own, then because they are asked to. Says whether all have.
async fn drain(
    shared: &Shared,
    spawned: &mut Spawned,
    urgency: &mut watch::Receiver<Urgency>,
) -> bool {
    let periods = async {
        if first(drained(spawned), sleep(shared.config.grace_period)).await {
            return true;
        }
        for attempt in shared.held.unfinished() {
            attempt.tell(flag::SHUTDOWN);
        }
        // A claim that was under way when the server was asked to end has been given back, so
        // nothing starts after this. Handlers drop themselves at the end of the period, a little
        // later than it is measured here.
        first(drained(spawned), sleep(shared.config.abort_period)).await
    };
    tokio::select! {
        biased;
        are_gone = periods => are_gone,
        () = reached(urgency, Urgency::Immediate) => false,
    }
}

/// Says whether the first of two futures ends before the second.
async fn first(one: impl Future<Output = ()>, other: impl Future<Output = ()>) -> bool {
    tokio::select! {
        biased;
        () = one => true,
        () = other => false,
    }
}

/// Waits until nothing is claimed and no handler runs.
async fn drained(spawned: &mut Spawned) {
    if !spawned.fetcher.is_finished()
        && let Err(error) = (&mut spawned.fetcher).await
    {
        tracing::error!(%error, "the fetcher did not end well");
    }
    spawned.attempts.close();
    spawned.attempts.wait().await;
}

/// Records what is left, for as long as the server gives it.
async fn flush(shared: &Shared, mut completer: JoinHandle<()>) {
    shared.signals.close.cancel();
    if timeout(shared.config.flush_period, &mut completer).await.is_ok() {
        return;
    }
    shared.signals.give_up.cancel();
    if let Err(error) = completer.await {
        tracing::error!(%error, "the completer did not end well");
    }
}

/// Waits until a shutdown is at least so urgent. Whoever could ask being gone is as urgent as it
/// gets.
async fn reached(urgency: &mut watch::Receiver<Urgency>, least: Urgency) {
    drop(urgency.wait_for(|&now| now >= least).await);
}
