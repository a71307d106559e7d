//! Role *maintain*: takes tasks back from dead servers, removes what outlived its retention.

use async_trait::async_trait;
use ergon_core::{
    Event, StoreError, TaskEvent, TaskId,
    limits::BATCH_MAX,
    outcome::check_limit,
    store::{Maintain, PruneRequest, Report, RescueRequest},
    time::to_micros,
    transition,
};

use crate::{
    PostgresStore,
    place::{self, Payload, Place},
    range::Runs,
    shared::{Shared, given},
    value::{Instant, column, small},
};

/// How many leases one sweep reads at the most.
const LEASES_MAX: i64 = 1_000;

#[async_trait]
impl Maintain for PostgresStore {
    async fn rescue_expired(&self, request: &RescueRequest) -> Result<Report, StoreError> {
        check_limit(request.limit, BATCH_MAX)?;
        let shared = self.shared();
        shared.database.within_deadline(Box::pin(shared.rescue_expired(request))).await
    }

    async fn prune(&self, request: &PruneRequest) -> Result<Report, StoreError> {
        check_limit(request.limit, BATCH_MAX)?;
        let shared = self.shared();
        let limit = i64::try_from(request.limit).unwrap_or(i64::MAX);
        // First: what the other removes is told, also when this fails.
        shared.prune_documents().await?;
        let query = shared.sql.prune.with(given(request.now)).with(limit);
        let row = shared.database.row(|| query.query()).await?;
        shared.tell_readers(&row)?;
        let done = small::<usize, i64>(column(&row, "done")?)?;
        let (now, tasks) =
            (column::<Instant>(&row, "now")?.0, u64::try_from(done).unwrap_or(u64::MAX));
        let events = (tasks > 0).then(|| Event::pruned(now, tasks));
        let events = events.into_iter().collect();
        Ok(Report { done, more: column(&row, "more")?, skipped: 0, events })
    }
}

impl Shared {
    async fn rescue_expired(&self, request: &RescueRequest) -> Result<Report, StoreError> {
        let query = self.sql.expired.with(given(request.now)).with(LEASES_MAX);
        let rows = self.database.rows(|| query.query()).await?;
        let mut expired = Vec::new();
        for row in &rows {
            let until = column::<Instant>(row, "until")?.0;
            expired.extend(Runs::read(row)?.ids().map(|id| (until, id)));
        }
        expired.sort_unstable();
        let more = expired.len() > request.limit || i64::try_from(rows.len()) == Ok(LEASES_MAX);
        let ids: Vec<TaskId> = expired.into_iter().take(request.limit).map(|(_, id)| id).collect();
        if ids.is_empty() {
            return Ok(Report { more, ..Report::default() });
        }
        let find = place::by_id(&self.sql, &ids, Payload::Skip);
        let events = self
            .change(&find, |change| {
                let now = change.now().map(|clock| crate::dispatch::resolve(request.now, clock));
                for &id in &ids {
                    let Some((entry, now)) = change.task(id).zip(now) else { continue };
                    // A beat or an outcome may have come first.
                    let Place::Lease { until, .. } = entry.found.place else { continue };
                    if to_micros(until) > to_micros(now) {
                        continue;
                    }
                    let (attempt, ran) = (entry.newest_attempt(), entry.ran(now));
                    let retention = self.retention.chosen_by(entry.found.retention());
                    transition::rescue(&mut entry.progress, &retention, request.deaths_max, now);
                    let event = TaskEvent::of_rescue(&entry.progress, ran);
                    let event = entry.event(attempt, event, now);
                    change.tell(event);
                }
                Ok(change.events().to_vec())
            })
            .await?;
        Ok(Report { done: events.len(), more, skipped: 0, events })
    }
}
