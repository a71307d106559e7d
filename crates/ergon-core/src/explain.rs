//! Why a task is not running: from the same facts that a claim goes by.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    id::TaskId,
    name::{KindName, QueueName},
    progress::{AttemptError, ErrorKind, Phase},
    record::TaskRecord,
    servers::{ServerInfo, ServerState},
    state::{State, StateSet},
    store::QueueInfo,
};

/// One reason why a task stands as it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// It waits for its time, and was never attempted.
    Scheduled {
        /// When it is due.
        until: Timestamp,
    },
    /// It waits for its next attempt.
    Retrying {
        /// When it is due.
        until: Timestamp,
        /// Attempts that ended.
        attempts: u16,
        /// Attempts until it fails.
        max_attempts: u16,
        /// What the last one said, if it failed.
        error: Option<LastError>,
    },
    /// It is due, and nothing stands in its way that is known here.
    Due {
        /// When it came due.
        since: Timestamp,
    },
    /// Its deadline is over: it fails as soon as a server takes it.
    DeadlinePassed {
        /// The deadline.
        deadline: Timestamp,
    },
    /// Its queue is paused.
    QueuePaused {
        /// The queue.
        queue: QueueName,
    },
    /// No server that lives serves its queue.
    QueueUnserved {
        /// The queue.
        queue: QueueName,
        /// Servers that serve it and are about to end.
        draining: u64,
        /// Servers that served it and are lost.
        lost: u64,
    },
    /// Servers that live serve its queue, but none of them handles its kind.
    KindUnhandled {
        /// The kind.
        kind: KindName,
        /// Servers that serve the queue.
        servers: u64,
    },
    /// All servers that could run it hold as many tasks as they can run.
    SlotsTaken {
        /// Tasks that they hold.
        held: u64,
        /// Attempts that they run at once.
        slots: u64,
    },
    /// Other tasks of the queue are due too: some or all of them go first, by priority and time.
    Ahead {
        /// How many at the most.
        tasks: u64,
    },
    /// It runs.
    Running {
        /// When it was claimed.
        since: Timestamp,
        /// Which attempt this is, counted from 1.
        attempt: u16,
        /// It was asked to stop.
        is_cancelling: bool,
    },
    /// It runs as far as the store knows, but no server that lives serves its queue: it is taken back
    /// once its lease is over, if somebody is left to do so.
    MaybeAbandoned,
    /// It is finished.
    Finished {
        /// How.
        state: State,
        /// When.
        at: Option<Timestamp>,
        /// The last error, of a task that failed or was cancelled.
        error: Option<LastError>,
    },
}

/// What went wrong last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// What kind of failure.
    pub kind: ErrorKind,
    /// When it was recorded.
    pub at: Timestamp,
    /// What was said, at most 16 KiB.
    pub message: String,
}

impl LastError {
    fn of(error: &AttemptError) -> Self {
        Self { kind: error.kind, at: error.at, message: error.message.clone() }
    }
}

/// Why a task stands as it does, the weightiest reason first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The task.
    pub id: TaskId,
    /// Its state.
    pub state: State,
    /// The reasons; at least one.
    pub reasons: Vec<Reason>,
}

/// Says why a task stands as it does at `now`, by what is known of its queue and of all servers.
///
/// ```
/// use ergon_core::{Client, Manager, explain::Reason};
/// use ergon_testing::MemoryStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new();
/// let id = Client::new(store.clone()).enqueue_json("greet", "Ada").await?.id();
///
/// let explanation = Manager::new(store).tasks().explain(id).await?.unwrap();
/// assert!(matches!(explanation.reasons[0], Reason::QueueUnserved { .. }));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn explain(
    task: &TaskRecord,
    queue: Option<&QueueInfo>,
    servers: &[ServerInfo],
    now: Timestamp,
) -> Explanation {
    let progress = &task.progress;
    let error = || progress.errors.last().map(LastError::of);
    let reasons = match progress.phase {
        Phase::Waiting => waiting(task, queue, servers, now),
        Phase::Running => {
            let running = Reason::Running {
                since: progress.started_at.unwrap_or(task.created_at),
                attempt: progress.attempt.saturating_add(1),
                is_cancelling: progress.cancel_requested,
            };
            let lives = |server: &&ServerInfo| {
                server.state != ServerState::Lost && server.profile.serves(&task.spec.queue)
            };
            let abandoned = servers.iter().find(lives).is_none().then_some(Reason::MaybeAbandoned);
            [running].into_iter().chain(abandoned).collect()
        }
        Phase::Completed => {
            let (state, at) = (State::Completed, progress.finished_at);
            vec![Reason::Finished { state, at, error: None }]
        }
        Phase::Failed | Phase::Cancelled => {
            let (state, at) = (progress.state(now), progress.finished_at);
            vec![Reason::Finished { state, at, error: error() }]
        }
    };
    Explanation { id: task.id, state: progress.state(now), reasons }
}

/// What a waiting task waits for.
fn waiting(
    task: &TaskRecord,
    queue: Option<&QueueInfo>,
    servers: &[ServerInfo],
    now: Timestamp,
) -> Vec<Reason> {
    let (spec, progress) = (&task.spec, &task.progress);
    let until = progress.run_at;
    let mut reasons = Vec::new();
    let is_due = until <= now;
    if !is_due && progress.attempt == 0 {
        reasons.push(Reason::Scheduled { until });
    } else if !is_due {
        let (attempts, max_attempts) = (progress.attempt, progress.max_attempts);
        let error = progress.errors.last().map(LastError::of);
        reasons.push(Reason::Retrying { until, attempts, max_attempts, error });
    }
    let is_paused = queue.is_some_and(|queue| queue.is_paused);
    reasons.extend(is_paused.then(|| Reason::QueuePaused { queue: spec.queue.clone() }));
    let obstacle = obstacle(&spec.queue, &spec.kind, servers);
    let is_served = obstacle.as_ref().is_none_or(|it| matches!(it, Reason::SlotsTaken { .. }));
    // Whether a slot is free now says nothing of a task that is due later.
    reasons.extend(obstacle.filter(|_| is_due || !is_served));
    if let Some(deadline) = spec.deadline.filter(|&deadline| deadline < std::cmp::max(until, now)) {
        reasons.push(Reason::DeadlinePassed { deadline });
    }
    if is_due {
        let pending = queue.map_or(0, |queue| queue.counts.sum(StateSet::of(&[State::Pending])));
        let tasks = pending.saturating_sub(1);
        reasons.extend((tasks > 0).then_some(Reason::Ahead { tasks }));
    }
    if reasons.is_empty() {
        reasons.push(Reason::Due { since: until });
    }
    reasons
}

/// Why no server would take a task that is due, if there is a reason.
fn obstacle(queue: &QueueName, kind: &KindName, servers: &[ServerInfo]) -> Option<Reason> {
    let of_state = |state| {
        let in_state = servers.iter().filter(move |server| server.state == state);
        in_state.filter(|server| server.profile.serves(queue))
    };
    let count = |state| of_state(state).map(|_| 1_u64).sum::<u64>();
    let serving = count(ServerState::Running);
    if serving == 0 {
        let (draining, lost) = (count(ServerState::Draining), count(ServerState::Lost));
        return Some(Reason::QueueUnserved { queue: queue.clone(), draining, lost });
    }
    let able = || of_state(ServerState::Running).filter(|server| server.profile.handles(kind));
    if able().next().is_none() {
        return Some(Reason::KindUnhandled { kind: kind.clone(), servers: serving });
    }
    let is_full = able().all(|server| server.held >= server.slots);
    is_full.then(|| Reason::SlotsTaken {
        held: able().map(|server| server.held).sum(),
        slots: able().map(|server| server.slots).sum(),
    })
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error_of = |error: &Option<LastError>| {
            error.as_ref().map_or(String::new(), |error| {
                format!(" after {}: {}", error.kind.as_str(), error.message)
            })
        };
        match self {
            Self::Scheduled { until } => write!(f, "scheduled for {until}"),
            Self::Retrying { until, attempts, max_attempts, error } => {
                write!(f, "attempt {attempts} of {max_attempts} is over")?;
                write!(f, "{}; the next one is due at {until}", error_of(error))
            }
            Self::Due { since } => {
                write!(f, "due since {since}; the next free server takes it")
            }
            Self::DeadlinePassed { deadline } => {
                write!(f, "its deadline {deadline} is over by then: it fails when it is taken")
            }
            Self::QueuePaused { queue } => write!(f, "queue {queue} is paused"),
            Self::QueueUnserved { queue, draining, lost } => {
                write!(f, "no server serves queue {queue}")?;
                match (draining, lost) {
                    (0, 0) => Ok(()),
                    _ => write!(f, " ({draining} about to end, {lost} lost)"),
                }
            }
            Self::KindUnhandled { kind, servers } => {
                write!(f, "none of the {servers} servers of the queue handles kind {kind}")
            }
            Self::SlotsTaken { held, slots } => {
                write!(f, "all slots are taken: {held} tasks are held for {slots} slots")
            }
            Self::Ahead { tasks } => {
                write!(f, "up to {tasks} other tasks of the queue are due and may go first")
            }
            Self::Running { since, attempt, is_cancelling } => {
                write!(f, "attempt {attempt} runs since {since}")?;
                if *is_cancelling { write!(f, ", and was asked to stop") } else { Ok(()) }
            }
            Self::MaybeAbandoned => {
                write!(f, "no server serves the queue: it is taken back when its lease ends")
            }
            Self::Finished { state, at, error } => {
                write!(f, "{state}")?;
                at.map_or(Ok(()), |at| write!(f, " at {at}"))?;
                write!(f, "{}", error_of(error))
            }
        }
    }
}

#[cfg(test)]
mod tests;
