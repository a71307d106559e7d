//! Waits until there is something to be read.

use std::{sync::Arc, time::Duration};

use ergon_core::store::Cursor;
use tokio::time::{sleep, timeout};

use crate::{journal::Place, shared::Shared, value::column};

/// How often is looked while others are heard, and while they are not.
const HEARING_INTERVAL: Duration = Duration::from_millis(250);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How long is waited after a question had no answer. Who reads is told why.
const TROUBLE_PAUSE: Duration = Duration::from_millis(500);

impl Shared {
    /// See [`Observe::wait_for_changes`](ergon_core::store::Observe::wait_for_changes).
    pub(super) async fn wait_for_changes(self: &Arc<Self>, after: &Cursor, within: Duration) {
        // Who reads is told what is wrong with it, or reads on.
        let Some(place) = Place::parse(after).filter(|place| place.within.is_none()) else {
            return;
        };
        // News and the end of the time are answered alike.
        timeout(within, self.news(place)).await.unwrap_or_default();
    }

    /// Waits for ever if need be.
    async fn news(self: &Arc<Self>, place: Place) {
        let bell = Arc::clone(self.bell());
        let mut rings = bell.listen_for_journal();
        let (base, number) = (place.base.to_string(), place.number.cast_signed());
        let query = Arc::new(self.sql.has_changes.with(base).with(number));
        loop {
            // From here on no ring is missed; only then may be looked.
            rings.mark_unchanged();
            let (shared, query) = (Arc::clone(self), Arc::clone(&query));
            // By a task of its own: a statement whose future is dropped costs its connection.
            let looking = self.tasks.spawn(async move {
                let row = shared.database.row(|| query.query()).await?;
                column::<Option<bool>>(&row, "has_changes")
            });
            match looking.await {
                Ok(Ok(Some(false))) => {
                    let is_hearing = bell.is_listening();
                    let interval = if is_hearing { HEARING_INTERVAL } else { POLL_INTERVAL };
                    timeout(interval, rings.changed()).await.unwrap_or(Ok(())).unwrap_or_default();
                }
                Ok(Ok(_)) => return,
                Ok(Err(_)) | Err(_) => sleep(TROUBLE_PAUSE).await,
            }
        }
    }
}
