//! Has everything recorded, from a moment on that a reader can begin at.
//!
//! Whoever changes a task looks in the same statement whether somebody watches. When recording begins,
//! statements that looked before may be under way still. Each of them holds a lock on the table of
//! watchers until its transaction ends: so those who hold one after the commit of the watch are waited
//! for. Of a transaction that does not end, its readers are told when it does.

use std::{
    cmp::min,
    time::{Duration, Instant},
};

use ergon_core::{
    Rejection, StoreError,
    store::{WATCHERS_MAX, Watch, Watched},
};
use tokio::time::sleep;

use super::kept;
use crate::{shared::Shared, value::column};

/// How long transactions are waited for that have written something, and how long others, in which a
/// statement may be about to: as long as it may wait for a lock. At most a quarter of a call's time.
const PATIENCE: Duration = Duration::from_secs(1);
const PATIENCE_UNWRITTEN: Duration = Duration::from_millis(2_500);

/// First and longest pause between two looks.
const PAUSE_FIRST: Duration = Duration::from_millis(1);
const PAUSE_LONGEST: Duration = Duration::from_millis(50);

impl Shared {
    pub(super) async fn watch(&self, watch: &Watch) -> Result<Watched, StoreError> {
        let began = Instant::now();
        let micros = |lease: Duration| i64::try_from(lease.as_micros()).unwrap_or(i64::MAX);
        let query = self
            .sql
            .watch
            .with(watch.name.as_str())
            .with(watch.lease.map(micros))
            .with(watch.reached.as_ref().map(|cursor| cursor.as_str()))
            .with(i64::try_from(WATCHERS_MAX).unwrap_or(i64::MAX));
        let row = self.database.row(|| query.query()).await?;
        if column(&row, "is_full")? {
            let max = WATCHERS_MAX;
            return Err(StoreError::rejected(Rejection::TooManyWatchers { max }));
        }
        let covered = u64::try_from(column::<i64>(&row, "covered")?).unwrap_or(0);
        if column(&row, "is_pending")? {
            self.begin_recording().await?;
        } else if began.elapsed() >= Duration::from_micros(covered) {
            // Between the end of the lease and the commit that renewed it nobody may have watched.
            let late = self.sql.watch_late.bind();
            self.database.execute(|| late.query()).await?;
            self.begin_recording().await?;
        }
        match kept(&row, "kept")? {
            Some(cursor) => Ok(Watched { cursor, is_resumed: true }),
            None => Ok(Watched { cursor: self.latest().await?, is_resumed: false }),
        }
    }

    /// Waits for whoever may not have seen that somebody watches, and then says in the journal that
    /// recording began anew.
    async fn begin_recording(&self) -> Result<(), StoreError> {
        let using = self.sql.using.bind();
        let rows = self.database.rows(|| using.query()).await?;
        let going = rows.iter().map(|row| column(row, "going"));
        let mut going = going.collect::<Result<Vec<String>, _>>()?;
        let began = Instant::now();
        let limit = self.database.deadline().duration_since(began.into()) / 4;
        let (patience, unwritten) = (min(PATIENCE, limit), min(PATIENCE_UNWRITTEN, limit));
        let mut pause = PAUSE_FIRST;
        while !going.is_empty() {
            let query = self.sql.going.with(&going);
            let rows = self.database.rows(|| query.query()).await?;
            let mut is_writing = true;
            going.clear();
            for row in &rows {
                going.push(column(row, "going")?);
                is_writing &= column::<bool>(row, "has_written")?;
            }
            let limit = if is_writing { patience } else { unwritten };
            if going.is_empty() || began.elapsed() >= limit {
                break;
            }
            sleep(pause).await;
            pause = min(pause * 2, PAUSE_LONGEST);
        }
        let anew = self.sql.watch_anew.with(going);
        self.database.execute(|| anew.query()).await?;
        self.ring_journal();
        Ok(())
    }
}
