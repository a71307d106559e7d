//! What the attempts of a test server came to.

use ergon_core::{ClaimedTask, KindName, TaskId, Verdict};

/// How one attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RunEnd {
    /// The task is completed.
    Completed,
    /// The attempt failed, and the task will be tried again.
    Retried,
    /// The task is failed: its attempts are used up, or it is not to be tried again.
    Failed,
    /// The task is cancelled, by its handler or by an operator.
    Cancelled,
    /// The task will run again, and no attempt was spent.
    Snoozed,
    /// The server died, as [`crash_next`](super::TestServer::crash_next) or
    /// [`crash_next_after_handler`](super::TestServer::crash_next_after_handler) asked it to.
    Crashed,
    /// The claim was not live any more when the handler ended: the test took the task back while the
    /// handler ran.
    Lost,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Run {
    /// The task.
    pub id: TaskId,
    /// Its kind.
    pub kind: KindName,
    /// Which attempt it was, counted from 1.
    pub attempt: u16,
    /// What the store answered to the outcome; `None` when the server died before.
    pub verdict: Option<Verdict>,
    /// How it ended.
    pub end: RunEnd,
}

impl Run {
    pub(super) fn new(task: &ClaimedTask, verdict: Option<Verdict>, end: RunEnd) -> Self {
        let kind = task.spec.kind.clone();
        Self { id: task.id, kind, attempt: task.attempt, verdict, end }
    }
}

/// Attempts in the order in which they ran, and how many ended in which way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunSummary {
    /// Attempts after which the task is completed.
    pub completed: usize,
    /// Attempts that failed and will be repeated.
    pub retried: usize,
    /// Attempts after which the task is failed.
    pub failed: usize,
    /// Attempts after which the task is cancelled.
    pub cancelled: usize,
    /// Attempts after which the task waits without having spent one.
    pub snoozed: usize,
    /// Attempts in which the server died.
    pub crashed: usize,
    /// Attempts whose claim was lost before they ended.
    pub lost: usize,
    /// Every attempt, the first one first.
    pub runs: Vec<Run>,
}

impl RunSummary {
    pub(super) fn push(&mut self, run: Run) {
        let counter = match run.end {
            RunEnd::Completed => &mut self.completed,
            RunEnd::Retried => &mut self.retried,
            RunEnd::Failed => &mut self.failed,
            RunEnd::Cancelled => &mut self.cancelled,
            RunEnd::Snoozed => &mut self.snoozed,
            RunEnd::Crashed => &mut self.crashed,
            RunEnd::Lost => &mut self.lost,
        };
        *counter += 1;
        self.runs.push(run);
    }
}
