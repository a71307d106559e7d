//! What the events say, told one after another: how tasks and queues stand.

use std::collections::BTreeMap;

use ergon_core::{
    Event, KindName, Phase, QueueName, State, TaskEvent, TaskId, TaskRecord,
    event::{Fact, QueueEvent, TaskRef},
    store::StateCounts,
};
use jiff::Timestamp;

use super::{Snapshot, snapshot::to_u64};

/// How a task stands, by what was told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldTask {
    /// Where it waits.
    pub queue: QueueName,
    /// What type of task it is.
    pub kind: KindName,
    /// The phase that it is in.
    pub phase: Phase,
    /// Its priority.
    pub priority: i16,
    /// When it is due.
    pub run_at: Timestamp,
    /// Attempts that were ended, while it is not finished.
    pub attempt: u16,
    /// It was asked to stop.
    pub cancel_requested: bool,
}

impl ToldTask {
    fn fresh(task: &TaskRef, run_at: Timestamp, priority: i16) -> Self {
        Self {
            queue: task.queue.clone(),
            kind: task.kind.clone(),
            phase: Phase::Waiting,
            priority,
            run_at,
            attempt: 0,
            cancel_requested: false,
        }
    }

    /// The attempt that an event now has to name; none of a finished task, whose last one an event
    /// does not always tell.
    fn expected_attempt(&self) -> Option<u16> {
        match self.phase {
            Phase::Waiting => Some(self.attempt),
            Phase::Running => Some(self.attempt.saturating_add(1)),
            Phase::Completed | Phase::Failed | Phase::Cancelled => None,
        }
    }

    /// The state at `now`.
    fn state(&self, now: Timestamp) -> State {
        match self.phase {
            Phase::Waiting => State::of_waiting(self.run_at, self.attempt, now),
            Phase::Running => State::Running,
            Phase::Completed => State::Completed,
            Phase::Failed => State::Failed,
            Phase::Cancelled => State::Cancelled,
        }
    }

    /// Waits again, for this time, with so many attempts ended.
    fn waiting(self, run_at: Timestamp, attempt: u16) -> Self {
        Self { phase: Phase::Waiting, run_at, attempt, cancel_requested: false, ..self }
    }

    fn ended(self, phase: Phase) -> Self {
        Self { phase, ..self }
    }
}

/// What an event makes of a task; `None` stands for a task that there is not.
///
/// # Errors
///
/// What is wrong, when the event cannot have happened to a task that stands so.
pub fn tell(
    told: Option<ToldTask>,
    task: &TaskRef,
    event: &TaskEvent,
    at: Timestamp,
) -> Result<Option<ToldTask>, String> {
    let wrong = || format!("{event:?} of {task:?} cannot follow {told:?}");
    if let TaskEvent::Enqueued { run_at, priority } = event {
        // A finished task may have been pruned, which does not say which tasks went.
        let is_free = told.as_ref().is_none_or(|told| told.phase.is_terminal());
        let fresh = ToldTask::fresh(task, *run_at, *priority);
        return if is_free && task.attempt == 0 { Ok(Some(fresh)) } else { Err(wrong()) };
    }
    let before = told.clone().ok_or_else(wrong)?;
    let is_its_own = (&before.queue, &before.kind) == (&task.queue, &task.kind);
    if !is_its_own || before.expected_attempt().is_some_and(|attempt| attempt != task.attempt) {
        return Err(wrong());
    }
    // The attempts before the one that ran.
    let spent = task.attempt.saturating_sub(1);
    let run_at = before.run_at;
    let after = match (before.phase, event) {
        (Phase::Waiting, TaskEvent::Started { .. }) => before.ended(Phase::Running),
        (Phase::Waiting, TaskEvent::Cancelled { ran: None }) => before.ended(Phase::Cancelled),
        (Phase::Waiting, TaskEvent::Rescheduled { run_at }) => ToldTask { run_at: *run_at, ..before },
        (Phase::Waiting, TaskEvent::Reprioritized { priority }) => {
            ToldTask { priority: *priority, ..before }
        }
        (Phase::Running, TaskEvent::Progressed { .. }) => before,
        (Phase::Running, TaskEvent::Cancelled { ran: Some(_) }) => before.ended(Phase::Cancelled),
        (Phase::Running, _) if before.cancel_requested => return Err(wrong()),
        (Phase::Running, TaskEvent::CancelRequested) => {
            ToldTask { cancel_requested: true, ..before }
        }
        (Phase::Running, TaskEvent::Completed { .. }) => before.ended(Phase::Completed),
        (Phase::Running, TaskEvent::Failed { .. }) => before.ended(Phase::Failed),
        (Phase::Running, TaskEvent::Retried { run_at, .. }) => before.waiting(*run_at, task.attempt),
        (Phase::Running, TaskEvent::Snoozed { run_at, .. }) => before.waiting(*run_at, spent),
        (Phase::Running, TaskEvent::Released | TaskEvent::Rescued) => before.waiting(run_at, spent),
        (Phase::Waiting | Phase::Completed | Phase::Failed | Phase::Cancelled, event) => {
            match event {
                TaskEvent::Reopened => before.waiting(at, task.attempt),
                TaskEvent::Deleted => return Ok(None),
                _ => return Err(wrong()),
            }
        }
        (Phase::Running, _) => return Err(wrong()),
    };
    Ok(Some(after))
}

/// How everything stands, by what was told from the beginning on.
#[derive(Clone, Debug, Default)]
pub struct Told {
    tasks: BTreeMap<TaskId, ToldTask>,
    paused: BTreeMap<QueueName, bool>,
    /// How many tasks were removed, of which it is not known which.
    pruned: u64,
}

impl Told {
    /// Hears of one more event.
    ///
    /// # Errors
    ///
    /// What is wrong, when it cannot have happened after those before.
    pub fn hear(&mut self, event: &Event) -> Result<(), String> {
        match &event.fact {
            Fact::Task { task, event: what } => {
                let before = self.tasks.remove(&task.id);
                if before.is_some() && matches!(what, TaskEvent::Enqueued { .. }) {
                    // Its place was taken, so it is one of those that were pruned.
                    self.unprune(1)?;
                }
                if let Some(after) = tell(before, task, what, event.at)? {
                    self.tasks.insert(task.id, after);
                }
                Ok(())
            }
            Fact::Pruned { tasks } => {
                self.pruned += tasks;
                Ok(())
            }
            Fact::Queue { queue, event } => {
                let is_paused = *event == QueueEvent::Paused;
                let was_paused = self.paused.insert(queue.clone(), is_paused).unwrap_or(false);
                same(&was_paused, &!is_paused, || format!("{queue} before it was {event:?}"))
            }
            _ => Ok(()),
        }
    }

    /// How a task stands, if there is one.
    #[must_use]
    pub fn task(&self, id: TaskId) -> Option<&ToldTask> {
        self.tasks.get(&id)
    }

    /// Says whether what was told is exactly what a store shows at `now`: each task, and the counts of
    /// each queue.
    ///
    /// # Errors
    ///
    /// The first difference.
    pub fn check(&self, shown: &Snapshot, now: Timestamp) -> Result<(), String> {
        let mut rest = self.clone();
        let mut counts: BTreeMap<&QueueName, StateCounts> = BTreeMap::new();
        for task in &shown.tasks {
            let told = rest.tasks.remove(&task.id);
            let told = told.ok_or_else(|| format!("nothing was told of {task:?}"))?;
            check_task(&told, task, now)?;
            counts.entry(&task.spec.queue).or_default().add(told.state(now), 1);
        }
        if let Some((id, told)) = rest.tasks.iter().find(|(_, told)| !told.phase.is_terminal()) {
            return Err(format!("{id} is gone: {told:?}"));
        }
        rest.unprune(to_u64(rest.tasks.len()))?;
        same(&rest.pruned, &0, || "tasks that were said to be pruned".to_owned())?;
        for queue in &shown.queues {
            let told = counts.remove(&queue.name).unwrap_or_default();
            same(&queue.counts, &told, || format!("counts of {}", queue.name))?;
            let was_told = self.paused.get(&queue.name).copied().unwrap_or(false);
            same(&queue.is_paused, &was_told, || format!("{} is paused", queue.name))?;
        }
        same(&counts.len(), &0, || "queues that are not shown".to_owned())
    }

    /// Takes so many from those that were pruned.
    fn unprune(&mut self, tasks: u64) -> Result<(), String> {
        let rest = self.pruned.checked_sub(tasks);
        self.pruned = rest.ok_or_else(|| "more tasks are gone than were pruned".to_owned())?;
        Ok(())
    }
}

fn check_task(told: &ToldTask, task: &TaskRecord, now: Timestamp) -> Result<(), String> {
    let of = |what: &str| format!("{what} of {}", task.id);
    let (spec, progress) = (&task.spec, &task.progress);
    same(&(&spec.queue, &spec.kind), &(&told.queue, &told.kind), || of("what never changes"))?;
    same(&progress.phase, &told.phase, || of("phase"))?;
    same(&task.state, &told.state(now), || of("state"))?;
    same(&(progress.priority, progress.run_at), &(told.priority, told.run_at), || of("place"))?;
    if !told.phase.is_terminal() {
        same(&progress.attempt, &told.attempt, || of("attempts"))?;
        same(&progress.cancel_requested, &told.cancel_requested, || of("request to stop"))?;
    }
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(
    shown: &T,
    told: &T,
    what: impl FnOnce() -> String,
) -> Result<(), String> {
    if shown == told {
        Ok(())
    } else {
        Err(format!("{}: shown {shown:?}, told {told:?}", what()))
    }
}
