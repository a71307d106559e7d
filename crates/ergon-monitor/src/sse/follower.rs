//! The follower: reads the journal of the store for all streams of this process, and keeps the store
//! recording while somebody looks.

use std::time::Duration;

use ergon_core::{
    Event, StoreError, SystemRng, WatcherName,
    rng::duration_up_to,
    store::{Changes, Cursor, Watch},
};
use tokio::time::{Instant, sleep, timeout};

use super::hub::What;
use crate::shared::App;

/// How long the store records unless the watch is renewed.
const LEASE: Duration = Duration::from_secs(60);

/// When the watch is renewed: a third of the lease.
const RENEW: Duration = Duration::from_secs(20);

/// Events of one read.
const READ_MAX: usize = 1_000;

/// The pauses between calls that fail: they double from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Follows the journal while somebody is there.
pub(super) async fn run(app: App) {
    let running = Running(app);
    let app = &running.0;
    let Some(name) = app.live.watcher.clone() else { return };
    loop {
        app.streams.run_until_cancelled(follow(app, &name)).await;
        app.live.tell(None, false, What::Nothing);
        unwatch(app, &name).await;
        if app.streams.is_cancelled() || app.live.release() {
            return;
        }
    }
}

/// Says that nobody follows any more, however that came.
struct Running(App);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.live.unfollowed();
    }
}

/// Follows until nobody has been there for a while.
async fn follow(app: &App, name: &WatcherName) {
    let mut pause = Pause::default();
    let mut place: Option<Cursor> = None;
    let mut renew_at = Instant::now();
    let mut idle = Idle::default();
    while app.live.lingers() != Some(Duration::ZERO) {
        let is_first = place.is_none();
        if Instant::now() >= renew_at {
            match watch(app, name).await {
                Ok(cursor) => {
                    renew_at = Instant::now() + RENEW;
                    if is_first {
                        // What happened before this is not known.
                        app.live.tell(Some(cursor.clone()), true, What::Anything);
                    }
                    place.get_or_insert(cursor);
                }
                Err(error) => {
                    app.live.tell(place.clone(), false, What::Nothing);
                    pause.take("watch the store", &error).await;
                    continue;
                }
            }
        }
        let Some(cursor) = place.as_ref() else { continue };
        match read(app, cursor).await {
            Ok(changes) => {
                pause.failures = 0;
                let is_quiet = changes.events.is_empty();
                if changes.gap.is_some() {
                    // The lease may be over, or the store another one.
                    renew_at = Instant::now();
                }
                let next = pass_on(app, changes);
                let more = next.1;
                place = Some(next.0.clone());
                if !more {
                    let within = std::cmp::min(RENEW, app.live.lingers().unwrap_or(RENEW));
                    idle.wait(app, &next.0, within, is_quiet).await;
                }
            }
            Err(error) => {
                app.live.tell(place.clone(), false, What::Nothing);
                pause.take("follow the journal", &error).await;
            }
        }
    }
}

/// Tells what was read; answers where to go on, and whether there is more already.
fn pass_on(app: &App, changes: Changes) -> (Cursor, bool) {
    let Changes { gap, events, cursor, more } = changes;
    let events: Vec<Event> = events.into_iter().map(|recorded| recorded.event).collect();
    let what = match gap {
        Some(gap) => {
            tracing::debug!(gap = gap.as_str(), "the journal does not hold all that happened");
            What::Anything
        }
        None if events.is_empty() => What::Nothing,
        None => What::Events(&events),
    };
    app.live.tell(Some(cursor.clone()), true, what);
    (cursor, more)
}

async fn within<T>(
    app: &App,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let limit = app.config.store_timeout;
    let late = || StoreError::Unavailable { source: format!("no answer within {limit:?}").into() };
    timeout(limit, call).await.unwrap_or_else(|_elapsed| Err(late()))
}

async fn watch(app: &App, name: &WatcherName) -> Result<Cursor, StoreError> {
    let watch = Watch::lasting(name.clone(), LEASE);
    within(app, app.manager.store().watch(&watch)).await.map(|watched| watched.cursor)
}

async fn read(app: &App, cursor: &Cursor) -> Result<Changes, StoreError> {
    within(app, app.manager.store().changes(cursor, READ_MAX)).await
}

/// Lets the store stop recording; if it cannot be reached, the lease ends by itself.
async fn unwatch(app: &App, name: &WatcherName) {
    if let Err(error) = within(app, app.manager.store().unwatch(name)).await {
        tracing::debug!(error = %error, "the watch could not be ended; its lease ends by itself");
    }
}

/// The pauses between calls that fail.
#[derive(Debug, Default)]
struct Pause {
    failures: u32,
}

impl Pause {
    async fn take(&mut self, what: &'static str, error: &StoreError) {
        if self.failures == 0 {
            let error = ergon_core::text::error_chain(error);
            tracing::warn!(error, "failed to {what}; trying again until it works");
        }
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let ceiling = std::cmp::min(PAUSES.0.saturating_mul(factor), PAUSES.1);
        self.failures = self.failures.saturating_add(1);
        sleep(ceiling / 2 + duration_up_to(&SystemRng, ceiling / 2)).await;
    }
}

/// Waits for the next change, and not in vain too often: a hint may come for nothing.
#[derive(Debug, Default)]
struct Idle {
    fruitless: u32,
}

impl Idle {
    async fn wait(&mut self, app: &App, cursor: &Cursor, within: Duration, was_quiet: bool) {
        let began = Instant::now();
        let hint = app.manager.store().wait_for_changes(cursor, within);
        // A hint that does not come is none.
        let _ = timeout(within, hint).await;
        if !was_quiet || began.elapsed() >= within {
            self.fruitless = 0;
            return;
        }
        // The first hint after a read that found nothing is what was waited for.
        self.fruitless = self.fruitless.saturating_add(1);
        if self.fruitless > 1 {
            let factor = 1_u32.checked_shl(self.fruitless).unwrap_or(u32::MAX);
            let pause = std::cmp::min(Duration::from_millis(1).saturating_mul(factor), within);
            sleep(pause.saturating_sub(began.elapsed())).await;
        }
    }
}
