//! Reads statistics and failures.

use super::reading::read_all;
use crate::{
    error::StoreError,
    failure::{self, FailureQuery, Failures},
    statistics::{self, Merge, Statistics, StatisticsQuery},
    store::Store,
};

/// Reads what servers did, by minute or hour.
///
/// ```
/// use std::time::Duration;
///
/// use ergon_core::{
///     Manager, Timestamp,
///     statistics::{Group, StatisticsQuery},
/// };
/// use ergon_testing::MemoryStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = Manager::new(MemoryStore::new());
/// let now = Timestamp::now();
/// let query = StatisticsQuery::new(now - Duration::from_secs(3600), now).group(Group::Queue);
/// for series in manager.statistics().read(&query).await?.series {
///     let (done, slow) = (series.total.completed, series.total.ran.quantile(0.95));
///     println!("{:?}: {done} done, 95 % of them within {slow:?}", series.queue);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct StatisticsReader<'m> {
    store: &'m dyn Store,
}

impl<'m> StatisticsReader<'m> {
    pub(super) const fn new(store: &'m dyn Store) -> Self {
        Self { store }
    }

    /// Adds up what all servers did in a time.
    ///
    /// At most 50,000 documents are read, the newest first: an hour of one server is at most 256 of
    /// them. What is missing then is told by [`cut_before`](Statistics::cut_before). What a server did
    /// shows after ten seconds at the latest.
    ///
    /// # Errors
    ///
    /// What the store reports.
    pub async fn read(&self, query: &StatisticsQuery) -> Result<Statistics, StoreError> {
        let mut merge = Merge::new(query);
        let more = match merge.range() {
            Some(range) => {
                let most = statistics::DOCUMENTS_MAX;
                read_all(self.store, range, most, |document| merge.take(&document)).await?
            }
            None => false,
        };
        Ok(merge.finish(more))
    }
}

/// Reads failures, those that are alike together.
///
/// ```
/// use std::time::Duration;
///
/// use ergon_core::{Manager, Timestamp, failure::FailureQuery};
/// use ergon_testing::MemoryStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = Manager::new(MemoryStore::new());
/// let now = Timestamp::now();
/// let query = FailureQuery::new(now - Duration::from_secs(24 * 3600), now).limit(20);
/// for group in manager.failures().read(&query).await?.groups {
///     let record = group.record;
///     println!(
///         "{} × {} {}: {}",
///         record.count,
///         record.kind,
///         record.reason.as_str(),
///         record.message
///     );
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FailureReader<'m> {
    store: &'m dyn Store,
}

impl<'m> FailureReader<'m> {
    pub(super) const fn new(store: &'m dyn Store) -> Self {
        Self { store }
    }

    /// Adds up the failures that all servers saw in a time.
    ///
    /// At most 50,000 documents are read, the newest first: an hour of one server is at most 200 of
    /// them. What is missing then is told by [`cut_before`](Failures::cut_before).
    ///
    /// # Errors
    ///
    /// What the store reports.
    pub async fn read(&self, query: &FailureQuery) -> Result<Failures, StoreError> {
        let mut merge = failure::Merge::new(query);
        let more = match query.range() {
            Some(range) => {
                let most = failure::DOCUMENTS_MAX;
                read_all(self.store, range, most, |document| merge.take(&document)).await?
            }
            None => false,
        };
        Ok(merge.finish(more))
    }
}
