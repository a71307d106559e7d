//! Carries out operations: commands for all tasks that match.

use std::time::Duration;

use async_trait::async_trait;
use ergon_core::{StoreError, Timestamp, store::Report, time::between};
use tokio::time::{Instant, sleep};

use super::Loop;
use crate::{shared::Shared, status::Gauge};

/// Time between two looks for operations that others made.
pub(crate) const INTERVAL: Duration = Duration::from_secs(3);

/// How long one run may go on before it lets the driver look after it.
const RUN_MAX: Duration = Duration::from_secs(10);

/// Carries out operations, a page of each in turn.
#[derive(Debug)]
pub(crate) struct Operator;

#[async_trait]
impl Loop for Operator {
    fn name(&self) -> &'static str {
        "carry out operations"
    }

    fn interval(&self, _shared: &Shared) -> Duration {
        INTERVAL
    }

    fn gauge<'s>(&self, shared: &'s Shared) -> &'s Gauge {
        &shared.gauges.operate
    }

    async fn woken(&self, shared: &Shared) {
        shared.operations_came.notified().await;
    }

    async fn run(&self, shared: &Shared) -> Result<Report, StoreError> {
        let mut report = Report::default();
        let begun = Instant::now();
        while let Some(next_at) = round(shared, &mut report).await? {
            let left = between(shared.clock.now(), next_at);
            if left > INTERVAL {
                break;
            }
            if begun.elapsed() + left > RUN_MAX {
                report.more = true;
                break;
            }
            sleep(left).await;
        }
        Ok(report)
    }
}

/// Carries out a page of every open operation; says when there is more to do.
async fn round(shared: &Shared, report: &mut Report) -> Result<Option<Timestamp>, StoreError> {
    let operations = shared.manager.operations();
    let mut soonest = None;
    for id in operations.open().await? {
        match operations.step(id).await {
            Ok(Some(stepped)) => {
                report.done += stepped.met;
                let earlier = |at: Timestamp| soonest.is_none_or(|soonest| at < soonest);
                soonest = stepped.next_at.filter(|&at| earlier(at)).or(soonest);
            }
            Ok(None) => {}
            Err(StoreError::Corrupt { what }) => {
                // A newer server made it, and carries it out.
                tracing::debug!(what, "an operation is not of a form that is known here");
                report.skipped += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(soonest)
}
