//! What the pages of operations show: one command for all tasks that match, and how far it is.

use ergon_core::{
    Command, TaskFilter,
    operation::{Operation, OperationId},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{cursor, filter::Query, task::Entry};
use crate::{
    auth::Action,
    cache::Reading,
    error::Trouble,
    service::TaskOutcome,
    shared::Shared,
    text::clean,
    value::{At, Whole},
};

/// For more tasks than so many a word has to be typed.
pub(crate) const TYPED_FROM: u64 = 1_000;

/// A page of operations.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OperationsView {
    /// The operations, the newest first.
    pub(crate) operations: Vec<OperationRow>,
    /// Ask with `after` for the operations behind these; none at the end.
    pub(crate) older: Option<String>,
}

/// An operation in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OperationRow {
    /// Its id.
    pub(crate) id: String,
    /// What is done: `retry`, `cancel`, `reschedule`, `priority` or `delete`.
    pub(crate) action: &'static str,
    /// To which tasks, as the query of the list of tasks.
    pub(crate) filter: String,
    /// The same for people.
    pub(crate) tasks: String,
    /// `running`, `paused`, `stopped` or `finished`.
    pub(crate) state: &'static str,
    /// Who ordered it.
    pub(crate) actor: String,
    /// When it was ordered.
    pub(crate) created_at: At,
    /// When it was finished or stopped.
    pub(crate) ended_at: Option<At>,
    /// How many tasks matched when it was made.
    pub(crate) expected: Whole,
    /// These were all; otherwise there were at least so many.
    pub(crate) expected_is_exact: bool,
    /// Tasks that were met.
    pub(crate) seen: Whole,
    /// Of these, those that were changed, or asked to stop.
    pub(crate) changed: Whole,
}

/// An operation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OperationView {
    /// What a list says of it.
    #[serde(flatten)]
    pub(crate) row: OperationRow,
    /// What the command says beside its name.
    pub(crate) details: Vec<Entry>,
    /// What was said to it.
    pub(crate) note: String,
    /// Tasks that were as ordered already.
    pub(crate) unchanged: Whole,
    /// Those that could not take the command in the state that they were in.
    pub(crate) illegal: Whole,
    /// Those that were gone.
    pub(crate) gone: Whole,
    /// How many tasks a second at the most; none when it is as fast as the store takes them.
    pub(crate) rate_per_second: Option<u32>,
    /// The newest tasks that could not take the command or were gone, at most 20.
    pub(crate) problems: Vec<TaskOutcome>,
    /// Why it was stopped, if nobody asked for it.
    pub(crate) error: Option<String>,
    /// The server or monitor that works on it, or did last; none before anybody does.
    pub(crate) owner: Option<String>,
}

/// What is done to each task.
const fn action(command: &Command) -> Action {
    match command {
        Command::Cancel { .. } => Action::Cancel,
        Command::Retry => Action::Retry,
        Command::Delete => Action::Delete,
        Command::Reschedule { .. } => Action::Reschedule,
        Command::SetPriority { .. } => Action::SetPriority,
    }
}

impl OperationRow {
    fn of(operation: &Operation) -> Self {
        let query = Query::of(operation.filter.clone());
        Self {
            id: operation.id.to_string(),
            action: action(&operation.command).as_str(),
            filter: query.text(),
            tasks: clean(&query.words()),
            state: operation.state.as_str(),
            actor: clean(&operation.actor.name),
            created_at: At(operation.created_at),
            ended_at: operation.ended_at.map(At),
            expected: Whole(operation.expected.value),
            expected_is_exact: operation.expected.is_exact,
            seen: Whole(operation.seen),
            changed: Whole(operation.changed),
        }
    }
}

impl OperationView {
    pub(crate) fn of(operation: &Operation) -> Self {
        let detail = match &operation.command {
            Command::Cancel { reason } => Some(("reason", clean(reason))),
            Command::Reschedule { run_at } => Some(("due", run_at.to_string())),
            Command::SetPriority { priority } => Some(("priority", priority.to_string())),
            Command::Retry | Command::Delete => None,
        };
        let detail = detail.map(|(key, value)| Entry { key: key.to_owned(), value });
        let problems = operation.problems.iter();
        Self {
            row: OperationRow::of(operation),
            details: detail.into_iter().collect(),
            note: clean(&operation.note),
            unchanged: Whole(operation.unchanged),
            illegal: Whole(operation.illegal),
            gone: Whole(operation.gone),
            rate_per_second: operation.rate_per_second,
            problems: problems.map(|it| TaskOutcome::of(it.id, it.verdict)).collect(),
            error: operation.error.as_deref().map(clean),
            owner: operation.owner.map(|owner| owner.id.to_string()),
        }
    }

    pub(crate) async fn read(
        shared: &Shared,
        id: OperationId,
    ) -> Result<Reading<Option<Self>>, Trouble> {
        let cursor = cursor(shared).await;
        let read_at = shared.clock.now();
        let operations = shared.manager.operations();
        let found = shared.reads.read("operation", operations.get(id)).await?;
        Ok(Reading::new(found.as_ref().map(Self::of), cursor, read_at))
    }
}

impl OperationsView {
    pub(crate) async fn read(
        shared: &Shared,
        after: Option<OperationId>,
    ) -> Result<Reading<Self>, Trouble> {
        let cursor = cursor(shared).await;
        let read_at = shared.clock.now();
        let (limit, operations) = (shared.config.page_rows, shared.manager.operations());
        let found = shared.reads.read("operations", operations.list(limit, after)).await?;
        // Those that cannot be read are left out: only a page without any is the last one.
        let older = found.last().map(|operation| operation.id.to_string());
        let is_first_alone = after.is_none() && found.len() < limit;
        let view = Self {
            operations: found.iter().map(OperationRow::of).collect(),
            older: older.filter(|_| !is_first_alone),
        };
        Ok(Reading::new(view, cursor, read_at))
    }
}

/// What an operation would meet.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PreviewView {
    /// How many tasks match.
    pub(crate) matching: Whole,
    /// These are all; otherwise there are at least so many.
    pub(crate) is_exact: bool,
    /// The oldest of them, at most 20.
    pub(crate) first: Vec<String>,
}

impl PreviewView {
    pub(crate) async fn read(shared: &Shared, filter: &TaskFilter) -> Result<Self, Trouble> {
        let operations = shared.manager.operations();
        let preview = shared.reads.read("preview", operations.preview(filter)).await?;
        Ok(Self {
            matching: Whole(preview.matching.value),
            is_exact: preview.matching.is_exact,
            first: preview.first.iter().map(ToString::to_string).collect(),
        })
    }
}
