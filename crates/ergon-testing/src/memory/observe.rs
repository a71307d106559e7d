//! Role *observe* of the memory store: the journal, read by cursor.

use std::{pin::pin, time::Duration};

use async_trait::async_trait;
use ergon_core::{
    Event, Now, ServerId, StoreError, WatcherName,
    event::ServerEvent,
    limits::BATCH_MAX,
    outcome::check_limit,
    store::{Changes, Cursor, Observe, Watch, Watched, WatcherInfo, check_watch},
};
use tokio::time::timeout;

use super::MemoryStore;

#[async_trait]
impl Observe for MemoryStore {
    async fn watch(&self, watch: &Watch) -> Result<Watched, StoreError> {
        check_watch(watch)?;
        let mut model = self.read();
        let now = self.now(Now::Store);
        model.journal.watch(watch, now)
    }

    async fn unwatch(&self, name: &WatcherName) -> Result<bool, StoreError> {
        Ok(self.read().journal.unwatch(name))
    }

    async fn watchers(&self) -> Result<Vec<WatcherInfo>, StoreError> {
        let model = self.read();
        Ok(model.journal.watchers(self.now(Now::Store)))
    }

    async fn latest(&self) -> Result<Cursor, StoreError> {
        Ok(self.read().journal.latest())
    }

    async fn changes(&self, after: &Cursor, limit: usize) -> Result<Changes, StoreError> {
        check_limit(limit, BATCH_MAX)?;
        let mut model = self.read();
        let now = self.now(Now::Store);
        Ok(model.journal.changes(after, limit, now))
    }

    async fn wait_for_changes(&self, after: &Cursor, within: Duration) {
        let news = async {
            loop {
                let mut changed = pin!(self.shared.changed.notified());
                // From here on no change is missed; only then may be looked.
                changed.as_mut().enable();
                let has_news = self.read().journal.has_news(after);
                if has_news {
                    return;
                }
                changed.await;
            }
        };
        // News and the end of the time are answered alike.
        timeout(within, news).await.unwrap_or_default();
    }

    async fn announce(&self, server: ServerId, event: &ServerEvent) -> Result<(), StoreError> {
        self.write(|_model, events| {
            events.push(Event::server(self.now(Now::Store), server, event.clone()));
        });
        Ok(())
    }
}
