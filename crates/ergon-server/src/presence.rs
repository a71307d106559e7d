//! Tells others that the server lives, and what it runs.

use std::{sync::Arc, time::Duration};

use ergon_core::{
    StoreError,
    document::Put,
    servers::{Presence, ServedQueue, ServerProfile},
};
use tokio::time::sleep;

use crate::{
    call::{Restarts, caught_async, within},
    config::ServerConfig,
    registry::Registry,
    shared::Shared,
    slots::Slots,
};

/// How long the store may take to note that the server is gone, so that it does not hold the end up.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// What people call this server, and its version, where they are chosen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calling {
    pub(crate) name: Option<String>,
    pub(crate) version: Option<String>,
}

/// What does not change while the server lives.
pub(crate) fn profile(
    calling: Calling,
    started_at: ergon_core::Timestamp,
    slots: &Slots,
    registry: &Registry,
) -> ServerProfile {
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    let served = slots.served().map(|(queue, concurrency)| ServedQueue {
        queue: queue.clone(),
        concurrency: u64::try_from(concurrency).unwrap_or(u64::MAX),
    });
    let version =
        calling.version.unwrap_or_else(|| concat!("ergon ", env!("CARGO_PKG_VERSION")).to_owned());
    let profile = ServerProfile::new(host, std::process::id(), started_at)
        .version(version)
        .queues(served)
        .kinds(registry.kinds().iter().cloned());
    match calling.name {
        Some(name) => profile.name(name),
        None => profile,
    }
}

/// Tells at once, now and then, and when the server begins to drain, until it has ended.
pub(crate) async fn run(shared: Arc<Shared>) {
    let end = shared.signals.end.clone();
    let telling = async {
        let mut restarts = Restarts::new(&shared.gauges.presence, &end);
        while let Err(panic) = caught_async(tell(&shared)).await
            && restarts.wait(panic).await
        {}
    };
    end.run_until_cancelled(telling).await;
}

async fn tell(shared: &Shared) {
    let ServerConfig { presence_interval, .. } = shared.config;
    loop {
        let is_draining = shared.signals.stop.is_cancelled();
        match write(shared, is_draining).await {
            Ok(()) => shared.gauges.presence.succeeded(0, 0),
            Err(error) => {
                // Nobody waits for it: the next one tells as much.
                tracing::debug!(%error, "others do not hear of this server");
                shared.gauges.presence.failed();
            }
        }
        let pause = sleep(presence_interval);
        if is_draining {
            pause.await;
        } else {
            // Whether time or the end of claims came first is looked up next.
            shared.signals.stop.run_until_cancelled(pause).await;
        }
    }
}

async fn write(shared: &Shared, is_draining: bool) -> Result<(), StoreError> {
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let profile = shared.profile.clone();
    let put = Presence::new(profile, shared.clock.now(), shared.config.presence_interval)
        .lease(shared.config.lease)
        .held(count(shared.held.len()), count(shared.slots.cap()))
        .draining(is_draining)
        .put(shared.id)
        .map_err(|source| StoreError::Backend { source: source.into() })?;
    put_within(shared, shared.config.store_timeout, put).await
}

/// Takes back what was told: the server has ended well. One that left tasks behind stays to be seen.
pub(crate) async fn leave(shared: &Shared) {
    if let Err(error) = put_within(shared, LEAVE_TIMEOUT, Presence::remove(shared.id)).await {
        tracing::debug!(%error, "others are not told that this server has ended");
    }
}

async fn put_within(shared: &Shared, limit: Duration, put: Put) -> Result<(), StoreError> {
    within(limit, shared.store.put(&[put])).await.map(drop)
}
