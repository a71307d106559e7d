//! Keeps the journal within its window, and removes reports of attempts that ended.

use ergon_core::StoreError;
use uuid::Uuid;

use super::{House, micros};
use crate::value::{column, small};

/// How many rows one statement removes at the most. Chosen without measurement: some 10 ms.
const CHUNK: i64 = 5_000;

/// How many reports are looked at by one statement.
const REPORTS: i64 = 1_000;

impl House {
    /// Removes the entries that left the window; answers how many.
    pub(super) async fn trim(&self) -> Result<u64, StoreError> {
        let bytes = i64::try_from(self.journal_bytes_max).unwrap_or(i64::MAX);
        let mut all = 0;
        loop {
            let age = micros(self.journal_age_max);
            let query = self.sql.trim.with(bytes).with(age).with(CHUNK);
            let row = self.database.row(|| query.query()).await?;
            all += small::<u64, i64>(column(&row, "removed")?)?;
            if !column::<bool>(&row, "more")? {
                return Ok(all);
            }
        }
    }

    /// Looks at all reports, and removes those whose claims are over; answers how many.
    pub(super) async fn sweep_reports(&self) -> Result<u64, StoreError> {
        let (mut pack, mut off) = (Uuid::nil(), -1_i16);
        let mut all = 0;
        loop {
            let query = self.sql.reports.with(pack).with(off).with(REPORTS);
            let row = self.database.row(|| query.query()).await?;
            all += small::<u64, i64>(column(&row, "removed")?)?;
            if column::<i64>(&row, "seen")? < REPORTS {
                return Ok(all);
            }
            (pack, off) = (column(&row, "pack")?, column(&row, "off")?);
        }
    }
}
