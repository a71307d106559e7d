//! Role *observe*: the journal, read by cursor.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use ergon_core::{
    ServerId, StoreError, WatcherName,
    event::ServerEvent,
    limits::BATCH_MAX,
    outcome::check_limit,
    store::{Changes, Cursor, Observe, Watch, Watched, WatcherInfo, check_watch},
};

use crate::{
    RedbStore,
    dispatch::far_from_now,
    journal,
    shared::{Shared, blocking},
};

/// What a row of a watcher adds to a commit, about.
const WATCHER_BYTES: usize = 128;

#[async_trait]
impl Observe for RedbStore {
    async fn watch(&self, watch: &Watch) -> Result<Watched, StoreError> {
        check_watch(watch)?;
        let watch = watch.clone();
        self.shared().write(WATCHER_BYTES, move |batch| batch.watch(&watch)).await?
    }

    async fn unwatch(&self, name: &WatcherName) -> Result<bool, StoreError> {
        let name = name.clone();
        self.shared().write(WATCHER_BYTES, move |batch| batch.unwatch(&name)).await
    }

    async fn watchers(&self) -> Result<Vec<WatcherInfo>, StoreError> {
        let shared = self.shared();
        shared.check_open()?;
        Ok(shared.live().journal.watchers())
    }

    async fn latest(&self) -> Result<Cursor, StoreError> {
        let shared = self.told().await?;
        let live = shared.live();
        live.journal.cursor(live.journal.end())
    }

    async fn changes(&self, after: &Cursor, limit: usize) -> Result<Changes, StoreError> {
        check_limit(limit, BATCH_MAX)?;
        let (shared, after) = (self.told().await?, after.clone());
        blocking(move || journal::changes(&shared, &after, limit)).await
    }

    async fn wait_for_changes(&self, after: &Cursor, within: Duration) {
        let shared = self.shared();
        let deadline = far_from_now(within);
        loop {
            let notified = shared.wake.journal.notified();
            tokio::pin!(notified);
            // From here on nothing new is missed; only then may be looked.
            notified.as_mut().enable();
            if has_news(shared, after) || shared.check_open().is_err() {
                return;
            }
            if tokio::time::timeout_at(deadline, notified).await.is_err() {
                return;
            }
        }
    }

    async fn announce(&self, server: ServerId, event: &ServerEvent) -> Result<(), StoreError> {
        let shared = self.shared();
        let (now, event) = (shared.clock.now(), event.clone());
        shared
            .write(WATCHER_BYTES, move |batch| {
                batch.tell_server(now, server, &event);
                Ok(())
            })
            .await
    }
}

impl RedbStore {
    /// Waits until the journal holds what happened before, be it a claim, or within a transaction of
    /// the application.
    async fn told(&self) -> Result<Arc<Shared>, StoreError> {
        let shared = self.settled().await?;
        let has_pending = shared.live().journal.has_pending();
        if has_pending {
            shared.write(0, |_batch| Ok(())).await?;
        }
        Ok(shared)
    }
}

/// Whether a read behind a cursor would answer something new.
fn has_news(shared: &Shared, after: &Cursor) -> bool {
    let live = shared.live();
    let journal = &live.journal;
    let place = journal::parse_cursor(journal.number(), after);
    place.is_none_or(|place| place < journal.end())
}
