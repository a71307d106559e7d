//! Counts of what matches a filter.

use ergon_core::{
    Count, Order, Page, StoreError, TaskFilter, filter::COUNT_SCAN_MAX, time::to_micros,
};
use jiff::Timestamp;

use super::{Snapshot, counts, list};

/// Counts by the counters when they can answer, otherwise by looking, up to a limit.
pub(crate) fn count(
    snapshot: &Snapshot,
    filter: &TaskFilter,
    now: Timestamp,
) -> Result<Count, StoreError> {
    if filter.is_counted() {
        let mut value = 0;
        for (number, name) in snapshot.queue_names() {
            if filter.queues.is_empty() || filter.queues.contains(&name) {
                let (counts, _) = counts::of_queue(snapshot, number, to_micros(now))?;
                value += counts.sum(filter.wanted_states());
            }
        }
        return Ok(Count { value, is_exact: true });
    }
    let page = Page::default().order(Order::OldestFirst);
    let mut value = 0;
    let end = list::visit(snapshot, filter, &page, now, &mut |_task| {
        value += 1;
        value < COUNT_SCAN_MAX
    })?;
    Ok(Count { value, is_exact: end == list::End::Reached })
}
