//! Role *maintain* of the memory store: takes tasks back from dead servers, removes what outlived
//! its retention.

use async_trait::async_trait;
use ergon_core::{
    Event, Now, Retention, StoreError, TaskEvent, TaskId,
    limits::BATCH_MAX,
    outcome::check_limit,
    store::{Maintain, PruneRequest, Report, RescueRequest},
    transition,
};
use jiff::Timestamp;

use super::{Entry, MemoryStore, Model};

#[async_trait]
impl Maintain for MemoryStore {
    async fn rescue_expired(&self, request: &RescueRequest) -> Result<Report, StoreError> {
        check_limit(request.limit, BATCH_MAX)?;
        let now = self.now(request.now);
        let retention = self.shared.retention;
        Ok(self.write(|model, events| {
            let report = model.rescue_expired(request, retention, now);
            events.clone_from(&report.events);
            report
        }))
    }

    async fn prune(&self, request: &PruneRequest) -> Result<Report, StoreError> {
        check_limit(request.limit, BATCH_MAX)?;
        let now = self.now(request.now);
        Ok(self.write(|model, events| {
            // Documents expire by the clock of the store, as they are read by it.
            model.prune_documents(self.now(Now::Store));
            let report = model.prune(request, now);
            events.clone_from(&report.events);
            report
        }))
    }
}

impl Model {
    fn rescue_expired(
        &mut self,
        request: &RescueRequest,
        retention: Retention,
        now: Timestamp,
    ) -> Report {
        let expired = self.over(now, |entry| entry.lease.map(|lease| lease.until));
        let mut events = Vec::new();
        let report = sweep(&expired, request.limit, |id| {
            let event = self.change(id, |entry| {
                let (attempt, ran) = (entry.newest_attempt(), entry.ran(now));
                let retention = retention.chosen_by(entry.spec.retention);
                transition::rescue(&mut entry.progress, &retention, request.deaths_max, now);
                let event = TaskEvent::of_rescue(&entry.progress, ran);
                entry.event(id, attempt, event, now)
            });
            events.extend(event);
        });
        Report { events, ..report }
    }

    fn prune(&mut self, request: &PruneRequest, now: Timestamp) -> Report {
        let outlived = self.over(now, |entry| {
            let expires_at = entry.progress.expires_at;
            expires_at.filter(|_| entry.progress.phase.is_terminal())
        });
        let mut report = sweep(&outlived, request.limit, |id| {
            let key = self.tasks.remove(&id).and_then(|entry| entry.spec.unique);
            // A key that is held for a time outlives its task.
            if let Some(key) = key.filter(|key| key.scope.states().is_some()) {
                self.free_key(&key.hash, id);
            }
        });
        let tasks = u64::try_from(report.done).unwrap_or(u64::MAX);
        report.events.extend((tasks > 0).then(|| Event::pruned(now, tasks)));
        report
    }

    /// The tasks for which an instant has come, the earliest first.
    fn over(&self, now: Timestamp, instant: impl Fn(&Entry) -> Option<Timestamp>) -> Vec<TaskId> {
        let instants = self.tasks.iter().filter_map(|(&id, entry)| Some((instant(entry)?, id)));
        let mut over: Vec<_> = instants.filter(|&(instant, _)| instant <= now).collect();
        over.sort_unstable();
        over.into_iter().map(|(_, id)| id).collect()
    }
}

/// Handles each task up to the limit.
fn sweep(tasks: &[TaskId], limit: usize, mut handle: impl FnMut(TaskId)) -> Report {
    let done = std::cmp::min(tasks.len(), limit);
    tasks.iter().take(done).for_each(|&id| handle(id));
    Report { done, more: done < tasks.len(), skipped: 0, events: Vec::new() }
}
