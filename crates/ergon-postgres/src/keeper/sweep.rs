//! Removes what is not dropped with a partition: payloads in `pack_default` whose tasks are gone.

use std::time::Duration;

use ergon_core::StoreError;
use uuid::Uuid;

use super::{House, micros};
use crate::value::{column, small};

/// How many rows are looked at by one statement. Chosen without measurement: some milliseconds.
const CHUNK: i64 = 2_000;

/// The tasks of ids that were made later are alive, mostly.
const AGE_MIN: Duration = Duration::from_secs(60);

impl House {
    /// Looks at all old rows of `pack_default`, with a pause after each batch, and removes those whose
    /// tasks are gone; answers how many.
    pub(super) async fn sweep(&self, pause: Duration) -> Result<u64, StoreError> {
        let age = micros(std::cmp::max(self.kept_min, AGE_MIN));
        let (mut pack, mut first) = (Uuid::nil(), -1_i16);
        let mut all = 0;
        loop {
            let query = self.sql.sweep.with(pack).with(first).with(CHUNK).with(age);
            let row = self.database.row(|| query.query()).await?;
            all += small::<u64, i64>(column(&row, "removed")?)?;
            if column::<i64>(&row, "seen")? < CHUNK {
                return Ok(all);
            }
            (pack, first) = (column(&row, "pack")?, column(&row, "first")?);
            tokio::time::sleep(pause).await;
        }
    }
}
