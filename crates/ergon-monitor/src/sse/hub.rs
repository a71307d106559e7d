//! Who follows: places for streams, feeds for pages, and one follower of the store for all.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::Router;
use ergon_core::{Event, Rng, WatcherName, store::Cursor};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    Counts,
    feed::{Feed, Following, Key},
    follower,
    topic::Topic,
};
use crate::shared::App;

/// How long the journal is still followed when nobody looks any more: who goes from page to page
/// leaves and comes back.
const LINGER: Duration = Duration::from_secs(30);

/// What the follower knows.
#[derive(Clone, Debug, Default)]
pub(super) struct News {
    /// How far it has read.
    pub(super) cursor: Option<Cursor>,
    /// It can read.
    pub(super) follows: bool,
}

/// Why there is no stream for somebody.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refused {
    /// There are as many as there may be.
    Full,
    /// Whoever asks has as many as one may have.
    Yours,
    /// The monitor stops.
    Shutdown,
}

impl Refused {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Yours => "too many of yours",
            Self::Shutdown => "shutdown",
        }
    }
}

/// The live part of a monitor.
pub(crate) struct Hub {
    state: Mutex<State>,
    news: watch::Sender<News>,
    /// As whom the follower watches: no two processes are one watcher.
    pub(super) watcher: Option<WatcherName>,
}

#[derive(Default)]
struct State {
    clients: usize,
    by_principal: Counts,
    feeds: HashMap<Key, Arc<Feed>>,
    is_followed: bool,
    /// Since when nobody has been there.
    idle_since: Option<Instant>,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("watcher", &self.watcher).finish_non_exhaustive()
    }
}

impl Hub {
    pub(crate) fn new(rng: &dyn Rng) -> Self {
        let watcher = WatcherName::new(format!("monitor-{:016x}", rng.next_u64())).ok();
        Self { state: Mutex::default(), news: watch::Sender::default(), watcher }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No change can panic half way, so what a panicking thread left behind is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a stream, and sees to it that the store is followed.
    pub(super) fn enter(&self, app: &App, principal: &str) -> Result<Place, Refused> {
        let config = &app.config;
        let mut state = self.state();
        if state.clients >= config.sse_clients_max {
            return Err(Refused::Full);
        }
        let own = state.by_principal.entry(principal.to_owned()).or_default();
        if *own >= config.sse_clients_each_max {
            return Err(Refused::Yours);
        }
        *own += 1;
        state.clients += 1;
        state.idle_since = None;
        if !state.is_followed {
            state.is_followed = true;
            // It ends by itself when nobody is there, or the monitor stops.
            drop(app.tasks.spawn(follower::run(Arc::clone(app))));
        }
        Ok(Place { app: Arc::clone(app), principal: principal.to_owned() })
    }

    fn leave(&self, principal: &str) {
        let mut state = self.state();
        state.clients = state.clients.saturating_sub(1);
        if let Entry::Occupied(mut own) = state.by_principal.entry(principal.to_owned()) {
            *own.get_mut() = own.get().saturating_sub(1);
            if *own.get() == 0 {
                own.remove();
            }
        }
        if state.clients == 0 {
            state.idle_since = Some(Instant::now());
        }
    }

    /// What the follower knows, now and later.
    pub(super) fn news(&self) -> watch::Receiver<News> {
        self.news.subscribe()
    }

    /// Tells everybody how far the journal was read: feeds first, so that who knows the place knows as
    /// well whose page is out of date.
    pub(super) fn tell(&self, cursor: Option<Cursor>, follows: bool, what: What<'_>) {
        if let What::Nothing = what {
        } else {
            let now = Instant::now();
            for feed in self.state().feeds.values() {
                let concerned = match what {
                    What::Nothing => false,
                    What::Events(events) => events.iter().any(|event| feed.concerns(event)),
                    What::Anything => true,
                };
                if concerned {
                    feed.mark(now);
                }
            }
        }
        self.news.send_if_modified(|news| {
            let is_new = news.cursor != cursor || news.follows != follows;
            *news = News { cursor, follows };
            is_new
        });
    }

    /// Says whether the follower has read up to just there, so that nothing happened since.
    pub(super) fn is_at(&self, cursor: &Cursor) -> bool {
        let news = self.news.borrow();
        news.follows && news.cursor.as_ref() == Some(cursor)
    }

    /// For how long the follower has nobody left to follow for; `None` while somebody is there.
    pub(super) fn lingers(&self) -> Option<Duration> {
        let idle = self.state().idle_since?;
        Some(LINGER.saturating_sub(idle.elapsed()))
    }

    /// Lets the follower end; says whether it may, which it may not when somebody came meanwhile.
    pub(super) fn release(&self) -> bool {
        let mut state = self.state();
        let may = state.clients == 0;
        state.is_followed = !may;
        may
    }

    /// The follower has ended, however that came.
    pub(super) fn unfollowed(&self) {
        self.state().is_followed = false;
        self.news.send_if_modified(|news| std::mem::take(&mut news.follows));
    }

    /// Follows the feed under this key, which begins if nobody else follows it.
    pub(super) fn follow(&self, app: &App, key: Key, topic: Topic, pages: &Router) -> Following {
        let mut state = self.state();
        match state.feeds.entry(key) {
            Entry::Occupied(known) => known.get().follow(),
            Entry::Vacant(free) => {
                let feed = Arc::new(Feed::new(free.key().clone(), topic));
                free.insert(Arc::clone(&feed));
                let following = feed.follow();
                // It ends by itself when nobody follows it, or the monitor stops.
                let marks = feed.marks();
                drop(app.tasks.spawn(feed.run(Arc::clone(app), pages.clone(), marks)));
                following
            }
        }
    }

    /// Lets a feed end; says whether it may, which it may not while somebody follows it.
    pub(super) fn retire(&self, feed: &Feed) -> bool {
        let mut state = self.state();
        let may = !feed.is_followed();
        if may {
            state.feeds.remove(feed.key());
        }
        may
    }

    /// A feed has ended, however that came.
    pub(super) fn ended(&self, feed: &Feed) {
        let mut state = self.state();
        // Another may have begun under its key.
        let is_it =
            state.feeds.get(feed.key()).is_some_and(|kept| std::ptr::eq(&raw const **kept, feed));
        if is_it {
            state.feeds.remove(feed.key());
        }
    }
}

/// Waits until the store is followed, for so long; says whether it is.
pub(super) async fn followed(news: &mut watch::Receiver<News>, within: Duration) -> bool {
    let follows = timeout(within, news.wait_for(|news| news.follows)).await;
    matches!(follows, Ok(Ok(_)))
}

/// What may have changed.
#[derive(Clone, Copy, Debug)]
pub(super) enum What<'e> {
    Nothing,
    Events(&'e [Event]),
    Anything,
}

/// The place of a stream: free again when this is dropped.
pub(super) struct Place {
    app: App,
    principal: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.app.live.leave(&self.principal);
    }
}
