//! What somebody should look into: work that nobody does.

use ergon_core::{
    State, Timestamp,
    servers::{ServerInfo, ServerState},
    store::QueueInfo,
    time::between,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::value::{At, Whole};

/// How long a task may be due before it is a problem.
const DUE_MAX: std::time::Duration = std::time::Duration::from_secs(5 * 60);

/// Most problems that are told.
const PROBLEMS_MAX: usize = 10;

/// A queue whose tasks wait in vain, or too long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ProblemRow {
    /// `unserved`: tasks are due, and no server that claims serves the queue. `late`: a task has been
    /// due for more than five minutes.
    pub(crate) problem: &'static str,
    /// The queue.
    pub(crate) queue: String,
    /// How many of its tasks are due.
    pub(crate) tasks: Whole,
    /// Since when the first of them is.
    pub(crate) due_since: Option<At>,
}

/// The problems of these queues, that of the longest wait first. What is paused waits as it should.
pub(crate) fn problems<'q>(
    queues: impl IntoIterator<Item = &'q QueueInfo>,
    servers: &[ServerInfo],
    now: Timestamp,
) -> Vec<ProblemRow> {
    let is_served = |queue: &QueueInfo| {
        let serves = |server: &ServerInfo| {
            server.state == ServerState::Running && server.profile.serves(&queue.name)
        };
        servers.iter().any(serves)
    };
    let problem = |queue: &QueueInfo| {
        let tasks = queue.counts.get(State::Pending);
        if queue.is_paused || tasks == 0 {
            return None;
        }
        let is_late = queue.oldest_due_at.is_some_and(|due| between(due, now) > DUE_MAX);
        let problem = match (is_served(queue), is_late) {
            (false, _) => "unserved",
            (true, true) => "late",
            (true, false) => return None,
        };
        let (name, due_since) = (queue.name.to_string(), queue.oldest_due_at.map(At));
        Some(ProblemRow { problem, queue: name, tasks: Whole(tasks), due_since })
    };
    let mut found: Vec<_> = queues.into_iter().filter_map(problem).collect();
    found.sort_by_key(|problem| (problem.due_since.is_none(), problem.due_since));
    found.truncate(PROBLEMS_MAX);
    found
}
