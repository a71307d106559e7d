//! Role *observe*: the journal of what happened, read by cursor.

mod read;
mod wait;
mod watch;

use std::time::Duration;

use async_trait::async_trait;
use ergon_core::{
    ServerId, StoreError, WatcherName,
    event::ServerEvent,
    limits::BATCH_MAX,
    outcome::check_limit,
    store::{Changes, Cursor, Observe, Watch, Watched, WatcherInfo, check_watch},
};
use sqlx::{postgres::PgRow, types::Json};
use uuid::Uuid;

use crate::{
    PostgresStore,
    error::corrupt,
    journal::server_event,
    value::{column, instant},
};

#[async_trait]
impl Observe for PostgresStore {
    async fn watch(&self, watch: &Watch) -> Result<Watched, StoreError> {
        check_watch(watch)?;
        let shared = self.shared();
        shared.database.within_deadline(Box::pin(shared.watch(watch))).await
    }

    async fn unwatch(&self, name: &WatcherName) -> Result<bool, StoreError> {
        let shared = self.shared();
        let query = shared.sql.unwatch.with(name.as_str());
        column(&shared.database.row(|| query.query()).await?, "was_there")
    }

    async fn watchers(&self) -> Result<Vec<WatcherInfo>, StoreError> {
        let shared = self.shared();
        let query = shared.sql.watchers.with(true);
        let rows = shared.database.rows(|| query.query()).await?;
        rows.iter().map(watcher_info).collect()
    }

    async fn latest(&self) -> Result<Cursor, StoreError> {
        self.shared().latest().await
    }

    async fn changes(&self, after: &Cursor, limit: usize) -> Result<Changes, StoreError> {
        check_limit(limit, BATCH_MAX)?;
        let shared = self.shared();
        shared.database.within_deadline(Box::pin(shared.changes(after, limit))).await
    }

    async fn wait_for_changes(&self, after: &Cursor, within: Duration) {
        self.shared().wait_for_changes(after, within).await;
    }

    async fn announce(&self, server: ServerId, event: &ServerEvent) -> Result<(), StoreError> {
        let Some((number, note)) = server_event(event) else { return Ok(()) };
        let shared = self.shared();
        let server = Uuid::from_u128(server.as_u128());
        let query = shared.sql.announce.with(server).with(number).with(note.map(Json));
        shared.tell_readers(&shared.database.row(|| query.query()).await?)
    }
}

fn watcher_info(row: &PgRow) -> Result<WatcherInfo, StoreError> {
    let name: String = column(row, "name")?;
    Ok(WatcherInfo {
        name: WatcherName::new(name).map_err(|error| corrupt(error.to_string()))?,
        until: instant(row, "until")?,
        reached: kept(row, "reached")?,
    })
}

/// A cursor that was kept for somebody.
fn kept(row: &PgRow, name: &str) -> Result<Option<Cursor>, StoreError> {
    let text: Option<String> = column(row, name)?;
    text.map(Cursor::new).transpose().map_err(|error| corrupt(error.to_string()))
}
