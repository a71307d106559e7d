//! What the pages of the queues show.

use ergon_core::{Order, Page, QueueName, State, TaskFilter, store::QueueInfo};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Part, StateFigure, TaskRow,
    activity::{ActivityView, recent},
    cursor, figures,
    problems::{ProblemRow, problems},
    range::Range,
};
use crate::{
    cache::Reading,
    error::Trouble,
    shared::Shared,
    value::{At, Whole},
};

/// Tasks of each list that the page of a queue shows.
const TASKS_MAX: usize = 10;

/// A queue in a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct QueueRow {
    /// Its name.
    pub(crate) name: String,
    /// Whether claims pass it by.
    pub(crate) is_paused: bool,
    /// Its tasks by state.
    pub(crate) states: Vec<StateFigure>,
    /// All its tasks.
    pub(crate) total: Whole,
    /// When the task came due that has been due for longest.
    pub(crate) oldest_due_at: Option<At>,
}

impl QueueRow {
    pub(crate) fn of(queue: &QueueInfo) -> Self {
        Self {
            name: queue.name.to_string(),
            is_paused: queue.is_paused,
            states: figures(&queue.counts),
            total: Whole(queue.counts.total()),
            oldest_due_at: queue.oldest_due_at.map(At),
        }
    }

    /// How many of its tasks stand in a state.
    pub(crate) fn tasks(&self, state: State) -> u64 {
        let figure = self.states.iter().find(|figure| figure.state == state.as_str());
        figure.map_or(0, |figure| figure.tasks.0)
    }
}

/// Every queue.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueuesView {
    /// The queues, by name.
    pub(crate) queues: Vec<QueueRow>,
}

impl QueuesView {
    pub(crate) async fn read(shared: &Shared) -> Result<Reading<Self>, Trouble> {
        let cursor = cursor(shared).await;
        let read_at = shared.clock.now();
        let queues = shared.reads.read("queues", shared.manager.tasks().queues()).await?;
        let view = Self { queues: queues.iter().map(QueueRow::of).collect() };
        Ok(Reading::new(view, cursor, read_at))
    }
}

/// One queue.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueueView {
    /// The queue; none when it was never used.
    pub(crate) queue: Option<QueueRow>,
    /// What somebody should look into.
    pub(crate) problems: Part<Vec<ProblemRow>>,
    /// What servers did to its tasks.
    pub(crate) activity: Part<ActivityView>,
    /// The oldest of its tasks that are due.
    pub(crate) pending: Part<Vec<TaskRow>>,
    /// Tasks of it that run.
    pub(crate) running: Part<Vec<TaskRow>>,
    /// Its newest failed tasks.
    pub(crate) failed: Part<Vec<TaskRow>>,
}

impl QueueView {
    pub(crate) async fn read(
        shared: &Shared,
        name: &QueueName,
        range: Range,
    ) -> Result<Reading<Self>, Trouble> {
        let cursor = cursor(shared).await;
        let read_at = shared.clock.now();
        let inspector = shared.manager.tasks();
        let list = |state: State, order: Order| async move {
            let filter = TaskFilter::all().states(state).queue(name.clone());
            let page = Page::of(TASKS_MAX).order(order);
            let listed = shared.reads.read("list", inspector.list(&filter, &page)).await;
            Part::of(listed.map(|page| page.tasks.iter().map(TaskRow::of).collect()))
        };
        let servers = shared.manager.servers();
        let (queues, servers, activity, pending, running, failed) = tokio::join!(
            shared.reads.read("queues", inspector.queues()),
            shared.reads.read("servers", servers.list()),
            recent(shared, range, Some(name)),
            list(State::Pending, Order::OldestFirst),
            list(State::Running, Order::OldestFirst),
            list(State::Failed, Order::NewestFirst),
        );
        let queues = queues?;
        let queue = queues.iter().find(|queue| queue.name == *name);
        let problems = servers.map(|servers| problems(queue, &servers, read_at));
        let view = Self {
            queue: queue.map(QueueRow::of),
            problems: Part::of(problems),
            activity: Part::of(activity),
            pending,
            running,
            failed,
        };
        Ok(Reading::new(view, cursor, read_at))
    }
}
