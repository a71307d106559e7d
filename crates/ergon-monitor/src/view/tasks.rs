//! What the list of tasks shows.

use ergon_core::{Order, Page, TaskFilter, TaskId, TaskPage, TaskRecord};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Part, StateFigure, TaskRow, cursor, figures,
    filter::{Place, Query, neighbour},
    task::preview,
    total,
};
use crate::{cache::Reading, error::Trouble, shared::Shared, value::Whole};

/// A page of tasks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TasksView {
    /// Tasks by state, exactly, when states and queues alone are chosen.
    pub(crate) states: Part<Option<Vec<StateFigure>>>,
    /// How many tasks match.
    pub(crate) count: Part<CountView>,
    /// The tasks, the newest first.
    pub(crate) tasks: Vec<ListedTask>,
    /// Ask with `before` for the tasks before these; none at the beginning of the list.
    pub(crate) newer: Option<String>,
    /// Ask with `after` for the tasks behind these; none at the end of the list.
    pub(crate) older: Option<String>,
}

/// A task of the list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedTask {
    /// What is known of it.
    #[serde(flatten)]
    pub(crate) row: TaskRow,
    /// The beginning of its payload, if whoever asks may see it.
    pub(crate) preview: Option<String>,
}

/// How many tasks match.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CountView {
    /// So many.
    pub(crate) tasks: Whole,
    /// These are all; otherwise there are at least so many.
    pub(crate) is_exact: bool,
}

impl TasksView {
    pub(crate) async fn read(
        shared: &Shared,
        query: &Query,
        with_payloads: bool,
    ) -> Result<Reading<Self>, Trouble> {
        let cursor = cursor(shared).await;
        let read_at = shared.clock.now();
        let (states, count, part) =
            tokio::join!(states(shared, query), count(shared, query), list(shared, query));
        let ListPart { tasks, newer, older } = part?;
        let listed = tasks.iter().map(|task| ListedTask {
            row: TaskRow::of(task),
            preview: with_payloads.then(|| preview(shared, task)),
        });
        let view = Self {
            states: Part::of(states),
            count: Part::of(count),
            tasks: listed.collect(),
            newer: newer.map(|id| id.to_string()),
            older: older.map(|id| id.to_string()),
        };
        Ok(Reading::new(view, cursor, read_at))
    }
}

/// The tabs: what the counters say, when they can answer.
async fn states(shared: &Shared, query: &Query) -> Result<Option<Vec<StateFigure>>, Trouble> {
    if !query.filter.is_counted() || query.id_prefix.is_some() {
        return Ok(None);
    }
    let chosen = &query.filter.queues;
    let queues = shared.reads.read("queues", shared.manager.tasks().queues()).await?;
    let counted = queues.iter().filter(|queue| chosen.is_empty() || chosen.contains(&queue.name));
    Ok(Some(figures(&total(counted))))
}

async fn count(shared: &Shared, query: &Query) -> Result<CountView, Trouble> {
    let inspector = shared.manager.tasks();
    let count = shared.reads.read("count", inspector.count(&query.filter)).await?;
    // No counter knows how ids begin.
    let is_exact = count.is_exact && query.id_prefix.is_none();
    Ok(CountView { tasks: Whole(count.value), is_exact })
}

/// A part of the list, and where it goes on.
pub(crate) struct ListPart {
    pub(crate) tasks: Vec<TaskRecord>,
    pub(crate) newer: Option<TaskId>,
    pub(crate) older: Option<TaskId>,
}

/// Reads a part of the list.
pub(crate) async fn list(shared: &Shared, query: &Query) -> Result<ListPart, Trouble> {
    let Some((from, to)) = query.id_range() else {
        return Ok(ListPart { tasks: Vec::new(), newer: None, older: None });
    };
    let limit = query.limit.unwrap_or(shared.config.page_rows);
    let page = match query.place {
        Place::Start => start(Page::of(limit), neighbour(to, true)),
        Place::OlderThan(id) => Page::of(limit).after(std::cmp::min(id, to)),
        Place::NewerThan(id) => {
            Page::of(limit).order(Order::OldestFirst).after(std::cmp::max(id, from))
        }
    };
    let TaskPage { mut tasks, next } = read(shared, &query.filter, &page).await?;
    let listed = tasks.len();
    tasks.retain(|task| (from..=to).contains(&task.id));
    // What lies beyond the ids that were asked for does not follow.
    let next = next.filter(|next| tasks.len() == listed && (from..=to).contains(next));
    let (first, last) = (tasks.first().map(|task| task.id), tasks.last().map(|task| task.id));
    Ok(match query.place {
        Place::Start => ListPart { tasks, newer: None, older: next },
        // An empty page is left to where one came from.
        Place::OlderThan(id) => {
            let newer = first.or_else(|| neighbour(id, false));
            ListPart { tasks, newer, older: next }
        }
        Place::NewerThan(id) => {
            tasks.reverse();
            let older = first.or_else(|| neighbour(id, true));
            ListPart { tasks, newer: next.and(last).or(next), older }
        }
    })
}

const fn start(page: Page, after: Option<TaskId>) -> Page {
    match after {
        Some(after) => page.after(after),
        None => page,
    }
}

async fn read(shared: &Shared, filter: &TaskFilter, page: &Page) -> Result<TaskPage, Trouble> {
    shared.reads.read("list", shared.manager.tasks().list(filter, page)).await
}
