//! What pages and programs are shown: one typed view a page, built before anything is rendered.

use ergon_core::{
    Command, Retention, State, TaskRecord,
    store::{QueueInfo, StateCounts},
    transition,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    auth::Action,
    error::Trouble,
    shared::Shared,
    text::{clean, excerpt},
    value::{At, Whole},
};

pub(crate) mod activity;
pub(crate) mod audit;
pub(crate) mod errors;
pub(crate) mod filter;
pub(crate) mod operations;
pub(crate) mod overview;
pub(crate) mod problems;
pub(crate) mod queues;
pub(crate) mod range;
pub(crate) mod system;
pub(crate) mod task;
pub(crate) mod tasks;
pub(crate) mod workers;

/// A part of a view that can fail while the others do not.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub(crate) enum Part<T> {
    /// It was read.
    Ready {
        /// What was read.
        data: T,
    },
    /// It could not be read.
    Failed {
        /// Why.
        reason: String,
    },
}

impl<T> Part<T> {
    pub(crate) fn of(read: Result<T, Trouble>) -> Self {
        match read {
            Ok(data) => Self::Ready { data },
            Err(trouble) => Self::Failed { reason: trouble.to_string() },
        }
    }
}

/// A view as programs are answered: with where it stands in time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Answer<'v, V> {
    /// The end of the journal of events before the view was read.
    pub(crate) cursor: Option<&'v str>,
    /// Told from any other content of the view; ask with `since` to be answered 204 when it has not
    /// changed.
    pub(crate) revision: &'v str,
    /// When it was read.
    pub(crate) read_at: At,
    /// Why there is nothing newer, if it is older than it should be.
    pub(crate) stale: Option<String>,
    /// The view.
    #[serde(flatten)]
    pub(crate) view: &'v V,
}

/// How many tasks stand in a state.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct StateFigure {
    /// The state.
    pub(crate) state: &'static str,
    /// How many tasks.
    pub(crate) tasks: Whole,
}

/// The states of a count, in the order of a task's life; those that no store can lead to yet are left
/// out while they are empty.
pub(crate) fn figures(counts: &StateCounts) -> Vec<StateFigure> {
    let is_shown = |&state: &State| {
        !matches!(state, State::Aggregating | State::Blocked) || counts.get(state) > 0
    };
    let figure =
        |state: State| StateFigure { state: state.as_str(), tasks: Whole(counts.get(state)) };
    State::ALL.into_iter().filter(is_shown).map(figure).collect()
}

/// All queues together.
pub(crate) fn total<'q>(queues: impl IntoIterator<Item = &'q QueueInfo>) -> StateCounts {
    let mut counts = StateCounts::default();
    for queue in queues {
        State::ALL.into_iter().for_each(|state| counts.add(state, queue.counts.get(state)));
    }
    counts
}

/// A task in a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct TaskRow {
    /// Its id.
    pub(crate) id: String,
    /// What type of task it is.
    pub(crate) kind: String,
    /// Where it waits.
    pub(crate) queue: String,
    /// Where it stands.
    pub(crate) state: &'static str,
    /// The attempt that runs, or else how many were ended.
    pub(crate) attempt: u16,
    /// Attempts until it fails.
    pub(crate) max_attempts: u16,
    /// Larger runs first.
    pub(crate) priority: i16,
    /// Its labels.
    pub(crate) tags: Vec<String>,
    /// When the store took it.
    pub(crate) created_at: At,
    /// When it is, or was last, due.
    pub(crate) run_at: At,
    /// When its newest attempt began.
    pub(crate) started_at: Option<At>,
    /// When it finished.
    pub(crate) finished_at: Option<At>,
    /// Its newest error, in one line.
    pub(crate) error: Option<ErrorRow>,
    /// What can be ordered in this state.
    pub(crate) actions: Vec<&'static str>,
}

/// A failed attempt.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ErrorRow {
    /// Which attempt, counted from 1.
    pub(crate) attempt: u16,
    /// When it was recorded.
    pub(crate) at: At,
    /// What kind of failure.
    pub(crate) kind: &'static str,
    /// What the handler said.
    pub(crate) message: String,
}

/// Longest message of an error in a list, in characters.
const LINE_MAX: usize = 160;

impl TaskRow {
    pub(crate) fn of(task: &TaskRecord) -> Self {
        let progress = &task.progress;
        let running = u16::from(task.state == State::Running);
        let error = progress.errors.last().map(|error| {
            let line = error.message.lines().next().unwrap_or_default();
            let (line, is_whole) = excerpt(line, LINE_MAX);
            let message = if is_whole { clean(line) } else { format!("{}…", clean(line)) };
            ErrorRow {
                attempt: error.attempt,
                at: At(error.at),
                kind: error.kind.as_str(),
                message,
            }
        });
        Self {
            id: task.id.to_string(),
            kind: task.spec.kind.to_string(),
            queue: task.spec.queue.to_string(),
            state: task.state.as_str(),
            attempt: progress.attempt.saturating_add(running),
            max_attempts: progress.max_attempts,
            priority: progress.priority,
            tags: task.spec.tags.iter().map(|tag| clean(tag.as_str())).collect(),
            created_at: At(task.created_at),
            run_at: At(progress.run_at),
            started_at: progress.started_at.map(At),
            finished_at: progress.finished_at.map(At),
            error,
            actions: legal(task).map(Action::as_str).collect(),
        }
    }

    /// Says whether the order fits the state of the task.
    pub(crate) fn takes(&self, action: Action) -> bool {
        self.actions.contains(&action.as_str())
    }
}

/// What can be ordered for a task as it stands, by the rules that every store carries out.
fn legal(task: &TaskRecord) -> impl Iterator<Item = Action> + '_ {
    use ergon_core::CommandVerdict::{Applied, Requested};
    // The instant matters for none of the answers.
    let now = task.progress.run_at;
    let commands = [
        (Action::Retry, Command::Retry),
        (Action::Cancel, Command::Cancel { reason: String::new() }),
        (Action::Reschedule, Command::Reschedule { run_at: now }),
        (Action::SetPriority, Command::SetPriority { priority: !task.progress.priority }),
        (Action::Delete, Command::Delete),
    ];
    let is_legal = move |command: &Command| {
        let mut progress = task.progress.clone();
        let verdict = transition::command(&mut progress, &Retention::default(), command, now);
        // To move a task to where it stands changes nothing, and is legal all the same.
        matches!(verdict, Applied | Requested)
            || (matches!(command, Command::Reschedule { .. })
                && verdict == ergon_core::CommandVerdict::Unchanged)
    };
    commands.into_iter().filter(move |(_, command)| is_legal(command)).map(|(action, _)| action)
}

/// The end of the journal now, if the store says.
pub(crate) async fn cursor(shared: &Shared) -> Option<String> {
    let latest = shared.reads.read("latest", shared.manager.store().latest()).await;
    latest.ok().map(|cursor| cursor.as_str().to_owned())
}
