//! Tasks in any state, and the vocabulary of the cases.

use std::time::Duration;

use ergon_core::{
    ClaimedTask, Command, CommandVerdict, Conclusion, ErrorKind, NewTask, RunAt, ServerId, State,
    StateSet, TaskId, TaskRecord, UniqueKey, UniqueScope, store::Held,
};

use super::Harness;

/// The kind of the tasks of a harness.
pub const KIND: &str = "work";

/// The server that claims unless a case says otherwise.
pub const SERVER: ServerId = ServerId::from_u128(1);

/// Another server.
pub const OTHER_SERVER: ServerId = ServerId::from_u128(2);

/// A microsecond: the precision of every store.
pub const MICROSECOND: Duration = Duration::from_micros(1);

/// A second.
pub const SECOND: Duration = Duration::from_secs(1);

/// A minute.
pub const MINUTE: Duration = Duration::from_secs(60);

/// An hour.
pub const HOUR: Duration = Duration::from_secs(3600);

/// A day.
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// The states that a task can be in: every one but those of groups and dependencies, which no
/// role of a store leads to yet.
pub const REACHABLE: [State; 7] = [
    State::Scheduled,
    State::Pending,
    State::Running,
    State::Retrying,
    State::Completed,
    State::Failed,
    State::Cancelled,
];

/// The states of a task that waits.
pub const WAITING: StateSet = StateSet::of(&[State::Scheduled, State::Pending, State::Retrying]);

/// Done, without a result.
#[must_use]
pub const fn complete() -> Conclusion {
    Conclusion::Complete { result: None }
}

/// Failed; to be tried again after `delay`.
#[must_use]
pub fn retry(delay: Duration) -> Conclusion {
    Conclusion::Retry { delay, kind: ErrorKind::Error, error: "try again".to_owned() }
}

/// Failed for good.
#[must_use]
pub fn fail() -> Conclusion {
    Conclusion::Fail { kind: ErrorKind::Error, error: "given up".to_owned() }
}

/// Called off by the handler.
#[must_use]
pub fn cancel() -> Conclusion {
    Conclusion::Cancel { reason: "called off".to_owned() }
}

/// Not now, but after `delay`.
#[must_use]
pub const fn snooze(delay: Duration) -> Conclusion {
    Conclusion::Snooze { delay }
}

/// One conclusion of each kind, in the order of `ConclusionKind::ALL`.
#[must_use]
pub fn every_conclusion() -> [Conclusion; 6] {
    [complete(), retry(MINUTE), fail(), cancel(), snooze(MINUTE), Conclusion::Release]
}

/// An operator's order to stop.
#[must_use]
pub fn cancel_command() -> Command {
    Command::Cancel { reason: "by order".to_owned() }
}

/// The name of a claim.
#[must_use]
pub const fn held(claimed: &ClaimedTask) -> Held {
    Held { id: claimed.id, token: claimed.token }
}

/// The ids of claimed tasks.
#[must_use]
pub fn claimed_ids(claimed: &[ClaimedTask]) -> Vec<TaskId> {
    claimed.iter().map(|task| task.id).collect()
}

/// The ids of tasks read.
#[must_use]
pub fn record_ids(tasks: &[TaskRecord]) -> Vec<TaskId> {
    tasks.iter().map(|task| task.id).collect()
}

/// A unique key, told from others by `number`.
#[must_use]
pub const fn unique(number: u8, scope: UniqueScope) -> UniqueKey {
    UniqueKey { hash: [number; 32], scope }
}

/// Fixtures: tasks brought into a state by what servers and operators do.
impl Harness {
    /// Makes a task in this state.
    ///
    /// The task has the highest priority, so that the harness's own claim takes it and no other.
    pub async fn in_state(&self, state: State) -> TaskId {
        self.in_state_with(state, |_task| {}).await
    }

    /// Makes a task in this state, with changes to what is inserted; queue, kind, priority and due
    /// time are the fixture's.
    pub async fn in_state_with(&self, state: State, change: impl FnOnce(&mut NewTask)) -> TaskId {
        let mut task = self.task_with(change);
        task.priority = i16::MAX;
        if state == State::Scheduled {
            task.run_at = RunAt::After(HOUR);
        }
        let id = self.insert_one(task).await;
        match state {
            State::Scheduled | State::Pending => {}
            State::Running => {
                self.claim_this(id).await;
            }
            State::Retrying => self.claim_and_conclude(id, retry(HOUR)).await,
            State::Completed => self.claim_and_conclude(id, complete()).await,
            State::Failed => self.claim_and_conclude(id, fail()).await,
            State::Cancelled => {
                let verdict = self.apply(id, cancel_command()).await;
                assert_eq!(verdict, CommandVerdict::Applied);
            }
            State::Aggregating | State::Blocked => {
                unreachable!("no role of a store leads to {state}")
            }
        }
        assert_eq!(self.get(id).await.state, state, "the fixture for {state}");
        id
    }

    /// Claims the task, which comes first of all.
    pub async fn claim_this(&self, id: TaskId) -> ClaimedTask {
        let mut claimed = self.claim(1).await;
        assert_eq!(claimed_ids(&claimed), [id], "the task comes first");
        claimed.remove(0)
    }

    /// Claims the task, which comes first of all, and ends the claim.
    pub async fn claim_and_conclude(&self, id: TaskId, conclusion: Conclusion) {
        let claimed = self.claim_this(id).await;
        self.conclude(&claimed, conclusion).await;
    }

    /// The state of a task; `None` when it is gone.
    pub async fn state(&self, id: TaskId) -> Option<State> {
        self.find(id).await.map(|task| task.state)
    }
}
