//! Reads tasks in states that are rare beside the completed ones, from the places where they are.

use ergon_core::{
    Now, Order, Page, State, StateSet, StoreError, TaskFilter, TaskId, TaskPage,
    filter::PageBuilder,
};

use crate::{
    dispatch::resolve,
    place::{self, Payload, Place},
    shared::Shared,
    value::{column, split, task_id},
};

/// So many waiting tasks are read whole to find those of a page. Chosen without measurement.
const WAITING_MAX: u64 = 20_000;

/// How many tasks are looked at by one statement, and by one page.
const CHUNK: i64 = 1_000;
const LOOKS_MAX: usize = 20_000;

/// The states of waiting tasks.
const WAITING: StateSet = StateSet::of(&[State::Scheduled, State::Pending, State::Retrying]);

impl Shared {
    /// Whether the tasks that a filter wants are read faster from where they are than by walking over
    /// all tasks.
    pub(super) async fn is_sparse(
        &self,
        filter: &TaskFilter,
        now: Now,
    ) -> Result<bool, StoreError> {
        let states = filter.wanted_states();
        if states.contains(State::Completed) {
            return Ok(false);
        }
        if !WAITING.iter().any(|state| states.contains(state)) {
            return Ok(true);
        }
        let queues = self.queues(now).await?;
        let waiting: u64 = queues.iter().map(|queue| queue.counts.sum(WAITING)).sum();
        Ok(waiting <= WAITING_MAX)
    }

    pub(super) async fn list_sparse(
        &self,
        filter: &TaskFilter,
        page: &Page,
        now: Now,
        payload: Payload,
    ) -> Result<TaskPage, StoreError> {
        let mut builder = PageBuilder::new(page);
        let (mut after, mut looked) = (page.after, 0);
        loop {
            let ids = self.sparse_ids(filter.wanted_states(), page.order, after).await?;
            let Some(&end) = ids.last() else { return Ok(builder.finish()) };
            let query = place::by_id(&self.sql, &ids, payload);
            let rows = self.database.rows(|| query.query()).await?;
            let mut runner = self.each();
            for found in place::read(&mut runner, &self.sql, &self.names, &rows).await? {
                // It may have moved between the two reads.
                if found.place == Place::Gone {
                    continue;
                }
                let record = found.clone().record(resolve(now, found.now))?;
                if filter.matches(&record.spec, record.created_at, record.state)
                    && !builder.offer(record)
                {
                    return Ok(builder.finish());
                }
            }
            looked += ids.len();
            after = Some(end);
            if looked >= LOOKS_MAX {
                return Ok(builder.cut_at(end));
            }
        }
    }

    /// The next ids of tasks in these states, roughly: what is due is not told from what is not.
    async fn sparse_ids(
        &self,
        states: StateSet,
        order: Order,
        after: Option<TaskId>,
    ) -> Result<Vec<TaskId>, StoreError> {
        let (statement, edge) = match order {
            Order::OldestFirst => (&self.sql.sparse_up, TaskId::MIN),
            Order::NewestFirst => (&self.sql.sparse_down, TaskId::MAX),
        };
        let (pack, off) = split(after.unwrap_or(edge));
        // The edges themselves are ids too, of tasks that may exist.
        let off = match (after, order) {
            (Some(_), _) => i32::from(off),
            (None, Order::OldestFirst) => -1,
            (None, Order::NewestFirst) => i32::from(i16::MAX),
        };
        let query = statement
            .with(pack)
            .with(off)
            .with(CHUNK)
            .with(WAITING.iter().any(|state| states.contains(state)))
            .with(states.contains(State::Running))
            .with(states.contains(State::Failed))
            .with(states.contains(State::Cancelled));
        let rows = self.database.rows(|| query.query()).await?;
        rows.iter().map(|row| task_id(column(row, "pack")?, column(row, "off")?)).collect()
    }
}
