//! Takes tasks back from servers that died.

use std::time::Duration;

use async_trait::async_trait;
use ergon_core::{
    StoreError,
    store::{Report, RescueRequest},
};

use super::Loop;
use crate::{shared::Shared, status::Gauge};

/// Takes tasks back whose leases are over.
#[derive(Debug)]
pub(crate) struct Rescuer;

#[async_trait]
impl Loop for Rescuer {
    fn name(&self) -> &'static str {
        "rescue tasks of dead servers"
    }

    fn interval(&self, shared: &Shared) -> Duration {
        shared.config.rescue_interval
    }

    fn gauge<'s>(&self, shared: &'s Shared) -> &'s Gauge {
        &shared.gauges.rescue
    }

    async fn run(&self, shared: &Shared) -> Result<Report, StoreError> {
        let report = shared.store.rescue_expired(&RescueRequest::default()).await?;
        if report.done > 0 {
            tracing::warn!(tasks = report.done, "took tasks back from a server that died");
        }
        Ok(report)
    }
}
