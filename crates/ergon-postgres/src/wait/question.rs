//! The questions as statements.

use std::time::Duration;

use async_trait::async_trait;
use ergon_core::{KindName, QueueName, StoreError, TaskId};
use sqlx::{Row as _, types::Uuid};

use super::Questions;
use crate::{database::Database, error, sql::Statement};

/// How many ranges of a lane are looked at for one of the right kind.
const RANGES_MAX: i64 = 100;

/// Asks the database.
#[derive(Debug)]
pub(crate) struct Asking {
    database: Database,
    due: Statement,
    finished: Statement,
}

impl Asking {
    /// With the statements `due` and `finished`.
    pub(crate) const fn new(database: Database, due: Statement, finished: Statement) -> Self {
        Self { database, due, finished }
    }
}

#[async_trait]
impl Questions for Asking {
    async fn due(
        &self,
        queues: &[QueueName],
        kinds: &[KindName],
    ) -> Result<Option<Duration>, StoreError> {
        let queues: Vec<_> = queues.iter().map(|queue| queue.as_str().to_owned()).collect();
        let kinds: Vec<_> = kinds.iter().map(|kind| kind.as_str().to_owned()).collect();
        let due = self.due.with(queues).with(kinds).with(RANGES_MAX);
        let row = Box::pin(self.database.row(|| due.query())).await?;
        let micros: Option<i64> = row.try_get("micros").map_err(error::map)?;
        Ok(micros.map(|micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0))))
    }

    async fn finished(&self, ids: &[TaskId]) -> Result<Vec<TaskId>, StoreError> {
        let packs: Vec<_> = ids.iter().map(|id| Uuid::from_u128(id.pack().as_u128())).collect();
        let offsets: Vec<_> = ids.iter().map(|id| id.offset().cast_signed()).collect();
        let asked = self.finished.with(packs).with(offsets);
        let mut finished = Vec::new();
        for row in Box::pin(self.database.rows(|| asked.query())).await? {
            let place: i64 = row.try_get("ord").map_err(error::map)?;
            let place = usize::try_from(place).ok().and_then(|place| place.checked_sub(1));
            finished.extend(place.and_then(|place| ids.get(place)));
        }
        Ok(finished)
    }
}
