//! Reading the journal of a store: what tail, sinks and backfilled observers have in common.

use std::{sync::Arc, time::Duration};

use ergon_core::{
    Rng, Store, StoreError,
    store::{Changes, Cursor, Gap},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    call::{Backoff, caught_async, within},
    stats::Tally,
};

/// Longest pause between calls of the store that fail: so long an outage outlives its end.
pub(crate) const PAUSE_CAP: Duration = Duration::from_secs(1);

/// The journal of a store, and how to read it.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) rng: Arc<dyn Rng>,
    /// Events of one read.
    pub(crate) limit: usize,
    pub(crate) timeout: Duration,
}

impl Journal {
    pub(crate) async fn read(&self, after: &Cursor) -> Result<Changes, StoreError> {
        within(self.timeout, self.store.changes(after, self.limit)).await
    }

    /// Reads, again and again until it works.
    pub(crate) async fn read_at_last(&self, after: &Cursor, tally: &Tally) -> Changes {
        let mut backoff = Backoff::new(PAUSE_CAP);
        loop {
            match self.read(after).await {
                Ok(changes) => return changes,
                Err(error) => {
                    Tally::add(&tally.store_errors, 1);
                    backoff.report("read the journal for an observer that fell behind", &error);
                    sleep(backoff.next(&*self.rng)).await;
                }
            }
        }
    }
}

/// Knows which gaps were told.
///
/// Who reads while nothing is recorded is told of the same gap again and again, and once more when
/// recording has begun.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    /// The gap behind which nothing was read yet.
    open: Option<Gap>,
}

impl Gaps {
    /// The gap before what was read, unless it was told.
    pub(crate) fn fresh(&mut self, changes: &Changes) -> Option<Gap> {
        let fresh = changes.gap.filter(|_| changes.gap != self.open);
        self.open = if changes.events.is_empty() { changes.gap.or(self.open) } else { None };
        fresh
    }
}

/// Waits for the next change, and not in vain too often: a hint may come for nothing.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    /// Reads in a row that found nothing after a hint.
    fruitless: u32,
}

impl Idle {
    /// Waits for a hint, at most for so long.
    pub(crate) async fn wait(
        &mut self,
        journal: &Journal,
        cursor: &Cursor,
        within: Duration,
        was_empty: bool,
    ) {
        let began = Instant::now();
        // A hint that does not come, or panics, is none.
        let hint = caught_async(journal.store.wait_for_changes(cursor, within));
        let is_hint = matches!(timeout(within, hint).await, Ok(Ok(())));
        if !was_empty || began.elapsed() >= within {
            self.fruitless = 0;
            return;
        }
        self.fruitless = self.fruitless.saturating_add(1);
        // The first hint after a read that found nothing is what was waited for.
        if self.fruitless > 1 || !is_hint {
            let factor = 1_u32.checked_shl(self.fruitless).unwrap_or(u32::MAX);
            let pause = std::cmp::min(Duration::from_millis(1).saturating_mul(factor), within);
            sleep(pause.saturating_sub(began.elapsed())).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_told_once() {
        let cursor = Cursor::new("m1").unwrap();
        let read = |gap| Changes { gap, events: Vec::new(), cursor: cursor.clone(), more: false };
        let mut gaps = Gaps::default();
        assert_eq!(gaps.fresh(&read(None)), None);
        assert_eq!(gaps.fresh(&read(Some(Gap::Unrecorded))), Some(Gap::Unrecorded));
        assert_eq!(gaps.fresh(&read(None)), None);
        assert_eq!(gaps.fresh(&read(Some(Gap::Unrecorded))), None);
        assert_eq!(gaps.fresh(&read(Some(Gap::Expired))), Some(Gap::Expired));
        assert_eq!(gaps.fresh(&read(Some(Gap::Unrecorded))), Some(Gap::Unrecorded));
    }
}
