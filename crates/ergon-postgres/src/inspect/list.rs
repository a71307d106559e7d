//! Reads tasks in the order of their ids, page by page.

use ergon_core::{
    Count, Now, Order, Page, State, StoreError, TaskFilter, TaskId, TaskPage,
    filter::{COUNT_SCAN_MAX, PageBuilder},
    limits::PAGE_MAX,
};
use sqlx::types::Json;
use uuid::Uuid;

use crate::{
    dispatch::resolve,
    place::{self, Payload},
    shared::{Shared, given},
    value::{Instant, column, split, task_id},
};

/// How many tasks a page looks at before it ends early with a cursor. Chosen without measurement.
const SCAN_MAX: usize = 20_000;

/// How many tasks are looked at by one statement.
const CHUNK_TASKS_MAX: usize = 5_000;

/// How many tasks a count looks at before it says that there are at least so many.
const COUNT_LOOKS_MAX: usize = 200_000;

/// A run of ids to be looked at.
struct Stretch {
    pack: Uuid,
    first: i16,
    last: i16,
    /// Whether what never changes of its tasks matches.
    is_match: bool,
}

impl Stretch {
    fn len(&self) -> usize {
        usize::try_from(self.last - self.first + 1).unwrap_or(0)
    }

    /// The last id of it in this order.
    fn end(&self, order: Order) -> Result<TaskId, StoreError> {
        match order {
            Order::OldestFirst => task_id(self.pack, self.last),
            Order::NewestFirst => task_id(self.pack, self.first),
        }
    }
}

impl Shared {
    pub(crate) async fn list(
        &self,
        filter: &TaskFilter,
        page: &Page,
        now: Now,
        payload: Payload,
    ) -> Result<TaskPage, StoreError> {
        if self.is_sparse(filter, now).await? {
            return self.list_sparse(filter, page, now, payload).await;
        }
        let mut builder = PageBuilder::new(page);
        let mut after = page.after;
        let (mut left, mut scanned) = (page.limit, 0);
        loop {
            let stretches = self.walk(filter, page.order, after, left).await?;
            let Some(end) = stretches.last() else { return Ok(builder.finish()) };
            let end = end.end(page.order)?;
            let looked: usize = stretches.iter().map(Stretch::len).sum();
            let found =
                self.found_in(&stretches, filter, page.order, left + 1, now, payload).await?;
            for found in found {
                let now = resolve(now, found.now);
                if !builder.offer(found.record(now)?) {
                    return Ok(builder.finish());
                }
                left = left.saturating_sub(1);
            }
            scanned += looked;
            after = Some(end);
            if scanned >= SCAN_MAX {
                return Ok(builder.cut_at(end));
            }
        }
    }

    /// Counts tasks that match by looking at each, up to a limit.
    pub(super) async fn count_one_by_one(
        &self,
        filter: &TaskFilter,
        now: Now,
    ) -> Result<Count, StoreError> {
        let order = Order::OldestFirst;
        let (mut value, mut looked, mut after) = (0, 0, None);
        loop {
            let stretches = self.walk(filter, order, after, PAGE_MAX).await?;
            let Some(end) = stretches.last() else { return Ok(Count { value, is_exact: true }) };
            after = Some(end.end(order)?);
            looked += stretches.iter().map(Stretch::len).sum::<usize>();
            let all = CHUNK_TASKS_MAX * 2;
            let found = self.found_in(&stretches, filter, order, all, now, Payload::Skip).await?;
            value += u64::try_from(found.len()).unwrap_or(u64::MAX);
            if value > COUNT_SCAN_MAX {
                return Ok(Count { value: COUNT_SCAN_MAX, is_exact: false });
            }
            if looked >= COUNT_LOOKS_MAX {
                return Ok(Count { value, is_exact: false });
            }
        }
    }

    /// The next runs of ids behind `after`, enough for `wanted` tasks if all match.
    async fn walk(
        &self,
        filter: &TaskFilter,
        order: Order,
        after: Option<TaskId>,
        wanted: usize,
    ) -> Result<Vec<Stretch>, StoreError> {
        let (statement, edge) = match order {
            Order::OldestFirst => (&self.sql.walk_up, TaskId::MIN),
            Order::NewestFirst => (&self.sql.walk_down, TaskId::MAX),
        };
        let (pack, off) = split(after.unwrap_or(edge));
        let rows = i64::try_from(wanted.clamp(100, CHUNK_TASKS_MAX) + 1).unwrap_or(i64::MAX);
        let names = |names: Vec<String>| (!names.is_empty()).then_some(names);
        let kinds = filter.kinds.iter().map(ToString::to_string).collect();
        let queues = filter.queues.iter().map(ToString::to_string).collect();
        let tags: Vec<&str> = filter.tags.iter().map(ergon_core::Tag::as_str).collect();
        let query = statement
            .with(pack)
            .with(off)
            .with(rows)
            .with(names(kinds))
            .with(names(queues))
            .with((!tags.is_empty()).then_some(Json(tags)))
            .with(metadata(filter))
            .with(filter.created_from.map(Instant))
            .with(filter.created_before.map(Instant));
        let mut stretches = Vec::new();
        let mut tasks = 0;
        for row in self.database.rows(|| query.query()).await? {
            let (pack, first): (Uuid, i16) = (column(&row, "pack")?, column(&row, "first")?);
            let n: i16 = column(&row, "n")?;
            let mut stretch =
                Stretch { pack, first, last: first + n - 1, is_match: column(&row, "is_match")? };
            if let Some(after) = after.filter(|&after| split(after).0 == pack) {
                let (_, at) = split(after);
                match order {
                    Order::OldestFirst => stretch.first = std::cmp::max(stretch.first, at + 1),
                    Order::NewestFirst => stretch.last = std::cmp::min(stretch.last, at - 1),
                }
            }
            if stretch.first > stretch.last {
                continue;
            }
            tasks += stretch.len();
            stretches.push(stretch);
            if tasks >= CHUNK_TASKS_MAX {
                break;
            }
        }
        Ok(stretches)
    }

    /// The tasks of these runs that match, at most `limit`.
    async fn found_in(
        &self,
        stretches: &[Stretch],
        filter: &TaskFilter,
        order: Order,
        limit: usize,
        now: Now,
        payload: Payload,
    ) -> Result<Vec<place::Found>, StoreError> {
        let matching: Vec<&Stretch> = stretches.iter().filter(|stretch| stretch.is_match).collect();
        if matching.is_empty() || has_contradiction(filter) {
            return Ok(Vec::new());
        }
        let firsts = matching.iter().map(|stretch| i32::from(stretch.first)).collect::<Vec<_>>();
        let lasts = matching.iter().map(|stretch| i32::from(stretch.last)).collect::<Vec<_>>();
        let (one, two, step) = match order {
            Order::OldestFirst => (firsts, lasts, 1_i32),
            Order::NewestFirst => (lasts, firsts, -1),
        };
        let states = filter.wanted_states();
        let wants = |state| states.contains(state);
        let query = self
            .sql
            .found_in_range
            .with(payload == Payload::Read)
            .with(matching.iter().map(|stretch| stretch.pack).collect::<Vec<_>>())
            .with(one)
            .with(two)
            .with(step)
            .with(given(now))
            .with(i64::try_from(limit).unwrap_or(i64::MAX))
            .with(wants(State::Scheduled))
            .with(wants(State::Pending))
            .with(wants(State::Running))
            .with(wants(State::Retrying))
            .with(wants(State::Completed))
            .with(wants(State::Failed))
            .with(wants(State::Cancelled));
        let rows = self.database.rows(|| query.query()).await?;
        place::read(&mut self.each(), &self.sql, &self.names, &rows).await
    }
}

/// The entries that a filter asks for, as an object.
fn metadata(filter: &TaskFilter) -> Option<Json<std::collections::BTreeMap<&str, &str>>> {
    let entries = filter.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    (!filter.metadata.is_empty() && !has_contradiction(filter)).then(|| Json(entries.collect()))
}

/// Whether a filter asks for what no task has: two values under one key, or a character that Postgres
/// does not store.
fn has_contradiction(filter: &TaskFilter) -> bool {
    filter.metadata.iter().any(|(key, value)| {
        key.contains('\0')
            || value.contains('\0')
            || filter.metadata.iter().any(|(other, another)| key == other && value != another)
    })
}
