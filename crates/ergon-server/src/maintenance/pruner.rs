//! Removes finished tasks that outlived their retention.

use std::time::Duration;

use async_trait::async_trait;
use ergon_core::{
    StoreError,
    store::{PruneRequest, Report},
};

use super::Loop;
use crate::{shared::Shared, status::Gauge};

/// Removes finished tasks that outlived their retention.
#[derive(Debug)]
pub(crate) struct Pruner;

#[async_trait]
impl Loop for Pruner {
    fn name(&self) -> &'static str {
        "remove finished tasks"
    }

    fn interval(&self, shared: &Shared) -> Duration {
        shared.config.prune_interval
    }

    fn gauge<'s>(&self, shared: &'s Shared) -> &'s Gauge {
        &shared.gauges.prune
    }

    async fn run(&self, shared: &Shared) -> Result<Report, StoreError> {
        shared.store.prune(&PruneRequest::default()).await
    }
}
