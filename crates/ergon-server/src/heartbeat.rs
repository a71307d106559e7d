//! Renews the leases of what the server holds, and passes on what the store answers.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use ergon_core::{
    StoreError,
    limits::BATCH_MAX,
    rng::duration_up_to,
    store::{Beat, BeatReply, Held},
};
use tokio::time::sleep;

use crate::{
    attempt::{Attempt, flag},
    call::{Backoff, Restarts, caught_async, within},
    shared::{BACKOFF_CAP, Shared},
};

/// Shortest time that a beat is given to be answered.
const ANSWER_MIN: Duration = Duration::from_millis(10);

/// Beats until the server has ended.
pub(crate) async fn run(shared: Arc<Shared>) {
    let end = shared.signals.end.clone();
    let beating = async {
        let mut restarts = Restarts::new(&shared.gauges.beat, &end);
        let mut pause = shared.config.beat_interval();
        while let Err(panic) = caught_async(beats(&shared, pause)).await
            && restarts.wait(panic).await
        {
            // Leases may be short by now.
            pause = Duration::ZERO;
        }
    };
    // A beat that is dropped at the end has renewed leases or not; nobody is left to care.
    end.run_until_cancelled(beating).await;
}

async fn beats(shared: &Shared, mut pause: Duration) {
    let interval = shared.config.beat_interval();
    let mut backoff = Backoff::new(std::cmp::min(BACKOFF_CAP, shared.config.lease / 20));
    loop {
        // Never longer than the interval: operators count on it.
        sleep(pause - duration_up_to(&*shared.rng, pause / 10)).await;
        pause = match beat(shared).await {
            Ok(held) => {
                backoff.reset();
                shared.cannot_hold.store(false, Relaxed);
                shared.gauges.beat.succeeded(held, 0);
                interval
            }
            Err(error) => {
                backoff.report("renew leases", &error);
                shared.gauges.beat.failed();
                tell_expired(shared);
                backoff.next(&*shared.rng)
            }
        };
    }
}

/// Renews every claim once; says how many there were. Without any it is a sign of life.
async fn beat(shared: &Shared) -> Result<usize, StoreError> {
    let attempts = shared.held.all();
    if attempts.is_empty() {
        renew(shared, &[]).await?;
    }
    for chunk in attempts.chunks(BATCH_MAX) {
        renew(shared, chunk).await?;
    }
    Ok(attempts.len())
}

async fn renew(shared: &Shared, attempts: &[Arc<Attempt>]) -> Result<(), StoreError> {
    let sent = shared.age();
    let held = attempts.iter().map(|attempt| attempt.held()).collect();
    let request = Beat::new(shared.id, held).lease(shared.config.lease);
    let limit = answer_limit(shared, attempts, sent);
    let reply = within(limit, shared.store.beat(&request)).await?;
    for attempt in attempts {
        attempt.set_renewed(sent);
    }
    pass_on(shared, &reply);
    Ok(())
}

/// How long to wait for an answer: handlers have to be told in time if there is none.
fn answer_limit(shared: &Shared, attempts: &[Arc<Attempt>], sent: Duration) -> Duration {
    let ends = attempts
        .iter()
        .filter(|attempt| !attempt.has(flag::LOST | flag::ENDED))
        .map(|attempt| lease_end(shared, attempt));
    let left = ends.min().map(|end| end.saturating_sub(sent));
    let limit = std::cmp::min(shared.config.beat_interval(), shared.config.store_timeout);
    std::cmp::max(left.map_or(limit, |left| std::cmp::min(left, limit)), ANSWER_MIN)
}

/// When the handler has to be told that the lease may be over, in the server's life.
pub(crate) fn lease_end(shared: &Shared, attempt: &Attempt) -> Duration {
    attempt.renewed() + shared.config.lease - shared.config.lease_margin()
}

fn pass_on(shared: &Shared, reply: &BeatReply) {
    for held in &reply.lost {
        lose(shared, held);
    }
    for held in &reply.cancelled {
        if let Some(attempt) = shared.held.get(held) {
            attempt.tell(flag::CANCELLED);
        }
    }
}

/// Lets go of a claim that is somebody else's.
fn lose(shared: &Shared, held: &Held) {
    let Some(attempt) = shared.held.get(held) else {
        return;
    };
    if attempt.has(flag::ENDED) {
        // Its outcome is on the way, and may be why the claim is over; the verdict will tell.
        return;
    }
    tracing::warn!(id = %held.id, token = %held.token, "a lease was lost while the task was held");
    attempt.tell(flag::LOST | flag::DISOWNED);
    shared.held.disown(held);
}

/// Tells handlers whose leases could not be renewed in time that they may have lost them.
///
/// The store may see it otherwise: a lease that is over is only lost when somebody takes the task.
/// Therefore the claim is still renewed, and its outcome still recorded, if the store lets it. Until
/// a beat succeeds again the server claims nothing.
fn tell_expired(shared: &Shared) {
    let now = shared.age();
    for attempt in shared.held.unfinished() {
        if !attempt.has(flag::LOST) && now >= lease_end(shared, &attempt) {
            let id = attempt.task.id;
            tracing::warn!(%id, "a lease could not be renewed; the handler is asked to stop");
            attempt.tell(flag::LOST);
            shared.cannot_hold.store(true, Relaxed);
        }
    }
}
