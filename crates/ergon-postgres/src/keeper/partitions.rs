//! Makes partitions of `pack` for the time to come, and drops those that nothing lives in.
//!
//! A partition holds the payloads of the ids that were made within some time. When it is over, and what
//! was finished in it has outlived its retention, it is dropped as a whole. What lives longer, since it
//! is scheduled far ahead or kept for long, is moved to `pack_default` before, unless it is much.

use ergon_core::StoreError;

use super::{House, micros};
use crate::value::{column, small};

/// Most rows and bytes of `pack` that are moved out of a partition while everybody waits: measured, 1,000
/// rows of 1 kB out of 200,000 take 0.1 s.
const MOVED_ROWS_MAX: i64 = 1_000;
const MOVED_BYTES_MAX: i64 = 16 << 20;

/// From this number of old partitions on more rows are moved: each partition makes every statement that
/// looks for a payload slower, measured by some 3 µs.
const OLD_MAX: i64 = 8;
const MOVED_ROWS_MORE: i64 = 20_000;

/// What became of old partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Drops {
    pub(super) dropped: u64,
    pub(super) moved: u64,
    pub(super) postponed: u64,
}

impl House {
    /// Makes partitions for this time and the next; answers how many were missing.
    pub(super) async fn make_partitions(&self) -> Result<u64, StoreError> {
        let span = i64::try_from(self.span.as_millis()).unwrap_or(i64::MAX);
        let query = self.sql.partition_ahead.with(span);
        let row = self.patient.row(|| query.query()).await?;
        small(column::<i32>(&row, "made")?)
    }

    /// Drops the partitions that can be.
    pub(super) async fn drop_partitions(&self) -> Result<Drops, StoreError> {
        let age = micros(self.kept_min);
        let query = self.sql.partition_ripe.with(age).with(MOVED_ROWS_MAX);
        let query = query.with(MOVED_ROWS_MORE).with(OLD_MAX);
        let rows = self.patient.rows(|| query.query()).await?;
        let mut drops = Drops::default();
        for row in &rows {
            let (name, rows_max) = (column::<String>(row, "name")?, column(row, "rows_max")?);
            match self.drop_partition(&name, rows_max).await {
                Ok(Some(moved)) => {
                    drops.dropped += 1;
                    drops.moved += moved;
                    tracing::debug!(partition = name, moved, "dropped a partition");
                }
                Ok(None) => {}
                // Somebody uses it, or another keeper is at it.
                Err(StoreError::Conflict) => drops.postponed += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(drops)
    }

    /// Drops a partition, and answers how many rows were moved; `None` when too much lives in it.
    ///
    /// Two statements, since what is inserted has to be noted before it is looked for what lives.
    async fn drop_partition(&self, name: &str, rows_max: i64) -> Result<Option<u64>, StoreError> {
        let seal = self.sql.partition_seal.with(name);
        self.patient.execute(|| seal.query()).await?;
        let query = self.sql.partition_drop.with(name).with(rows_max).with(MOVED_BYTES_MAX);
        let row = self.patient.row(|| query.query()).await?;
        column::<Option<i64>>(&row, "moved")?.map(small).transpose()
    }
}
