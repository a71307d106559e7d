//! What the first page shows.

use ergon_core::{Page, State, StateSet, TaskFilter};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Part, StateFigure, TaskRow,
    activity::{ActivityView, recent},
    cursor, figures,
    problems::{ProblemRow, problems},
    queues::QueueRow,
    range::Range,
    total,
};
use crate::{cache::Reading, error::Trouble, shared::Shared, value::At};

/// Queues that the first page shows.
const QUEUES_MAX: usize = 20;

/// Failures that the first page shows.
const FAILURES_MAX: usize = 10;

/// The state of everything at a glance.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OverviewView {
    /// Tasks by state, over all queues, and the queues.
    pub(crate) queues: Part<QueuesPart>,
    /// What somebody should look into.
    pub(crate) problems: Part<Vec<ProblemRow>>,
    /// What servers did.
    pub(crate) activity: Part<ActivityView>,
    /// The newest tasks among those that failed or wait to be tried again.
    pub(crate) failures: Part<Vec<TaskRow>>,
}

/// What the counters of the queues say.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueuesPart {
    /// Tasks by state, over all queues.
    pub(crate) states: Vec<StateFigure>,
    /// When the task came due that has been due for longest, over all queues.
    pub(crate) oldest_due_at: Option<At>,
    /// How many queues there are.
    pub(crate) queues_total: usize,
    /// Those first in which a task has been due for longest; at most 20.
    pub(crate) queues: Vec<QueueRow>,
}

impl OverviewView {
    pub(crate) async fn read(shared: &Shared, range: Range) -> Result<Reading<Self>, Trouble> {
        let cursor = cursor(shared).await;
        let read_at = shared.clock.now();
        let failed = TaskFilter::all().states(StateSet::of(&[State::Failed, State::Retrying]));
        let page = Page::of(FAILURES_MAX);
        let inspector = shared.manager.tasks();
        let servers = shared.manager.servers();
        let (queues, failures, servers, activity) = tokio::join!(
            shared.reads.read("queues", inspector.queues()),
            shared.reads.read("list", inspector.list(&failed, &page)),
            shared.reads.read("servers", servers.list()),
            recent(shared, range, None),
        );
        if let (Err(trouble), Err(_)) = (&queues, &failures) {
            return Err(trouble.clone());
        }
        let problems = match (&queues, servers) {
            (Ok(queues), Ok(servers)) => Ok(problems(queues, &servers, read_at)),
            (Err(trouble), _) => Err(trouble.clone()),
            (Ok(_), Err(trouble)) => Err(trouble),
        };
        let queues = queues.map(|mut queues| {
            let states = figures(&total(&queues));
            // Queues without a due task come last, in the order of their names.
            queues.sort_by_key(|queue| (queue.oldest_due_at.is_none(), queue.oldest_due_at));
            QueuesPart {
                states,
                oldest_due_at: queues.first().and_then(|queue| queue.oldest_due_at).map(At),
                queues_total: queues.len(),
                queues: queues.iter().take(QUEUES_MAX).map(QueueRow::of).collect(),
            }
        });
        let failures = failures.map(|page| page.tasks.iter().map(TaskRow::of).collect::<Vec<_>>());
        let view = Self {
            queues: Part::of(queues),
            problems: Part::of(problems),
            activity: Part::of(activity),
            failures: Part::of(failures),
        };
        Ok(Reading::new(view, cursor, read_at))
    }
}
