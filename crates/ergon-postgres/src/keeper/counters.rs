//! Adds the deltas of counters up, so that counts have few of them to read.
//!
//! Counts are exact without it: they read counters and deltas in one snapshot.

use std::sync::Arc;

use ergon_core::StoreError;

use super::House;
use crate::value::{column, small};

/// How many deltas are folded by one statement. Chosen without measurement.
const CHUNK: i64 = 10_000;

/// From this size on, in bytes, the table of deltas is emptied: vacuum could not keep up, or somebody holds
/// an old snapshot. Each fold and each count reads all of it: measured, some 10 ms at 6 MB.
const BYTES_MAX: i64 = 16 << 20;

/// Before the first place of a table.
const BEGINNING: &str = "(0,0)";

impl House {
    /// Folds what there is; answers how many deltas that were.
    pub(super) async fn fold(&self) -> Result<u64, StoreError> {
        let mut after: Arc<str> = BEGINNING.into();
        let mut all = 0;
        loop {
            let query = self.sql.fold.with(CHUNK).with(&*after);
            let row = self.database.row(|| query.query()).await?;
            let (seen, folded): (i64, i64) = (column(&row, "seen")?, column(&row, "folded")?);
            all += small::<u64, _>(folded)?;
            let last: Option<String> = column(&row, "last")?;
            match last {
                Some(last) if seen >= CHUNK => after = last.into(),
                _ if column::<i64>(&row, "bytes")? >= BYTES_MAX => {
                    return Ok(all + self.compact().await?);
                }
                _ => return Ok(all),
            }
        }
    }

    /// Empties the table of deltas; not while somebody is in a transaction that wrote to it.
    async fn compact(&self) -> Result<u64, StoreError> {
        let query = self.sql.compact.bind();
        match self.patient.row(|| query.query()).await {
            Ok(row) => small(column::<i64>(&row, "folded")?),
            Err(StoreError::Conflict) => Ok(0),
            Err(error) => {
                self.tell("empty the table of deltas", Err(error));
                Ok(0)
            }
        }
    }
}
