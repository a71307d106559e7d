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

    /// The attempt that the event has to name; none of a finished task, whose last one an event does
    /// not always tell.
    fn expected_attempt(&self, event: &TaskEvent) -> Option<u16> {
        let is_start = matches!(event, TaskEvent::Started { .. });
        match self.phase {
            Phase::Waiting if !is_start => Some(self.attempt),
            Phase::Waiting | Phase::Running => Some(self.attempt.saturating_add(1)),
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

    /// What an event makes of it while it waits, if that can be.
    fn not_started(self, event: &TaskEvent) -> Option<Self> {
        let after = match event {
            TaskEvent::Started { .. } => Self { phase: Phase::Running, ..self },
            TaskEvent::Cancelled { ran: None } => Self { phase: Phase::Cancelled, ..self },
            TaskEvent::Rescheduled { run_at } => Self { run_at: *run_at, ..self },
            TaskEvent::Reprioritized { priority } => Self { priority: *priority, ..self },
            _ => return None,
        };
        Some(after)
    }

    /// What an event makes of it while this attempt runs, if that can be.
    fn running(self, attempt: u16, event: &TaskEvent) -> Option<Self> {
        let (run_at, spent) = (self.run_at, attempt.saturating_sub(1));
        let after = match event {
            TaskEvent::Progressed { .. } => self,
            TaskEvent::Cancelled { ran: Some(_) } => Self { phase: Phase::Cancelled, ..self },
            // Whatever else happens to it, it was asked to stop, and would have been cancelled.
            _ if self.cancel_requested => return None,
            TaskEvent::CancelRequested => Self { cancel_requested: true, ..self },
            TaskEvent::Completed { .. } => Self { phase: Phase::Completed, ..self },
            TaskEvent::Failed { .. } => Self { phase: Phase::Failed, ..self },
            TaskEvent::Retried { run_at, .. } => self.waiting(*run_at, attempt),
            TaskEvent::Snoozed { run_at, .. } => self.waiting(*run_at, spent),
            TaskEvent::Released | TaskEvent::Rescued => self.waiting(run_at, spent),
            _ => return None,
        };
        Some(after)
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
    let is_out_of_turn =
        before.expected_attempt(event).is_some_and(|attempt| attempt != task.attempt);
    if !is_its_own || is_out_of_turn {
        return Err(wrong());
    }
    let after = match (before.phase, event) {
        (Phase::Running, event) => before.running(task.attempt, event),
        (_, TaskEvent::Deleted) => return Ok(None),
        (_, TaskEvent::Reopened) => Some(before.waiting(at, task.attempt)),
        (Phase::Waiting, event) => before.not_started(event),
        (Phase::Completed | Phase::Failed | Phase::Cancelled, _) => None,
    };
    after.map(Some).ok_or_else(wrong)
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
    if shown == told { Ok(()) } else { Err(format!("{}: shown {shown:?}, told {told:?}", what())) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ergon_core::ErrorKind;

    use super::*;

    const AT: Timestamp = Timestamp::UNIX_EPOCH;

    fn of(attempt: u16) -> TaskRef {
        let (queue, kind) = (super::super::queue("q"), super::super::kind("k"));
        TaskRef { id: TaskId::MIN, queue, kind, attempt }
    }

    /// Tells one event after another, each with its attempt.
    fn life(events: &[(u16, TaskEvent)]) -> Result<Option<ToldTask>, String> {
        events.iter().try_fold(None, |told, (attempt, event)| tell(told, &of(*attempt), event, AT))
    }

    fn begun() -> Vec<(u16, TaskEvent)> {
        let server = ergon_core::ServerId::from_u128(1);
        let started = TaskEvent::Started { server, waited: Duration::ZERO };
        vec![(0, TaskEvent::Enqueued { run_at: AT, priority: 0 }), (1, started)]
    }

    fn after(events: Vec<(u16, TaskEvent)>) -> Result<Option<ToldTask>, String> {
        life(&[begun(), events].concat())
    }

    #[test]
    fn what_was_told_is_how_a_task_stands() {
        let ran = Duration::ZERO;
        let run_at = AT + jiff::SignedDuration::from_secs(1);
        let (reason, error) = (ErrorKind::Error, ergon_core::event::Excerpt::default());
        let retried = TaskEvent::Retried { ran, run_at, reason, error };
        let waiting = after(vec![(1, retried)]).unwrap().unwrap();
        assert_eq!((waiting.phase, waiting.attempt, waiting.run_at), (Phase::Waiting, 1, run_at));
        let waiting = after(vec![(1, TaskEvent::Released)]).unwrap().unwrap();
        assert_eq!((waiting.phase, waiting.attempt, waiting.run_at), (Phase::Waiting, 0, AT));
        let done = after(vec![(1, TaskEvent::Completed { ran })]).unwrap().unwrap();
        assert_eq!((done.phase, done.state(AT)), (Phase::Completed, State::Completed));
        let ended = [(1, TaskEvent::CancelRequested), (1, TaskEvent::Cancelled { ran: Some(ran) })];
        assert_eq!(after(ended.to_vec()).unwrap().unwrap().phase, Phase::Cancelled);
        assert_eq!(after([ended.to_vec(), vec![(1, TaskEvent::Deleted)]].concat()), Ok(None));
    }

    #[test]
    fn what_cannot_have_happened_is_not_believed() {
        let ran = Duration::ZERO;
        let again = begun().remove(1);
        for wrong in [
            vec![(1, TaskEvent::Deleted)],
            vec![(2, TaskEvent::Completed { ran })],
            vec![(1, TaskEvent::Cancelled { ran: None })],
            vec![again],
            vec![(1, TaskEvent::CancelRequested), (1, TaskEvent::Completed { ran })],
            vec![(1, TaskEvent::Released), (1, TaskEvent::Released)],
            vec![(1, TaskEvent::Released), (1, TaskEvent::Rescheduled { run_at: AT })],
            vec![(1, TaskEvent::Completed { ran }), (1, TaskEvent::Completed { ran })],
            begun(),
        ] {
            assert!(after(wrong.clone()).is_err(), "{wrong:?}");
        }
        assert!(life(&begun()[1..]).is_err(), "there is no such task");
    }

    #[test]
    fn tasks_that_are_gone_have_to_be_those_that_were_pruned() {
        let told = |pruned: u64| {
            let mut told = Told::default();
            let completed = (1, TaskEvent::Completed { ran: Duration::ZERO });
            for (attempt, event) in [begun(), vec![completed]].concat() {
                told.hear(&Event::task(AT, of(attempt), event)).unwrap();
            }
            told.hear(&Event::pruned(AT, pruned)).unwrap();
            told
        };
        let nothing = Snapshot { tasks: Vec::new(), queues: Vec::new() };
        assert_eq!(told(1).check(&nothing, AT), Ok(()));
        assert!(told(0).check(&nothing, AT).is_err());
        assert!(told(2).check(&nothing, AT).is_err());
        assert_eq!(told(1).task(TaskId::MIN).map(|task| task.phase), Some(Phase::Completed));
    }
}
