//! Backfilling: reading from the journal what left the ring before an observer read it.

use std::sync::Arc;

use ergon_core::store::EventId;

use crate::{
    item::{Batch, Facts, Lagged, Told},
    journal::Journal,
    observer::Observer,
    stats::Tally,
};

impl Observer {
    /// Hands over from the journal what was overrun, up to the event with which the ring goes on.
    ///
    /// When that event is not found, since it left the journal too, everything is handed over that the
    /// journal has, and what the ring still holds of it comes twice.
    pub(crate) async fn backfill(
        &mut self,
        journal: &Journal,
        lagged: Lagged,
        boundary: Option<EventId>,
    ) {
        let tally = Arc::clone(&self.parts.reader().tally);
        let Some(mut cursor) = lagged.resume.clone() else {
            tally.missed(&lagged);
            return self.hand_over(Batch { lagged: Some(lagged), ..Batch::default() }).await;
        };
        Tally::add(&tally.overruns, 1);
        loop {
            let changes = journal.read_at_last(&cursor, &tally).await;
            let facts = Facts::Journal(Arc::from(changes.events));
            let mut batch = Batch { gap: changes.gap, ..Batch::default() };
            if batch.gap.is_some() {
                Tally::add(&tally.gaps, 1);
            }
            let ends_at = (0..facts.len()).find(|&index| facts.id(index) == boundary);
            for index in 0..ends_at.unwrap_or(facts.len()) {
                let told = Told::new(&facts, index);
                batch.events.extend(told.filter(|told| self.parts.kinds().contains(told.kind())));
                if batch.events.len() >= self.batch_max {
                    self.refilled(std::mem::take(&mut batch)).await;
                }
            }
            if !batch.is_blank() {
                self.refilled(batch).await;
            }
            if ends_at.is_some() || !changes.more {
                return;
            }
            cursor = changes.cursor;
        }
    }

    async fn refilled(&mut self, batch: Batch) {
        Tally::count(&self.parts.reader().tally.events, batch.events.len());
        self.hand_over(batch).await;
    }
}
