//! Counts events: plain numbers by slot, no label is looked at.

use std::time::Duration;

use ergon_core::{ErrorKind, EventKind, State, TaskEvent};

use crate::{
    histogram::{ATTEMPTS, Histogram, SECONDS},
    names::{Bounded, Folded, Slot},
};

macro_rules! labelled {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name {
            $($variant,)*
        }

        impl $name {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant),*];

            pub(crate) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

labelled! {
    /// What came of an enqueue.
    EnqueueOutcome {
        Inserted = "inserted",
        Duplicate = "duplicate",
    }
}

labelled! {
    /// How an attempt ended.
    AttemptOutcome {
        Ok = "ok",
        Retry = "retry",
        Failed = "failed",
        Cancelled = "cancelled",
        Snoozed = "snoozed",
        Timeout = "timeout",
        Panic = "panic",
        Lost = "lost",
        Released = "released",
    }
}

impl AttemptOutcome {
    /// How an attempt ended that failed for a reason.
    const fn of_failure(reason: ErrorKind, otherwise: Self) -> Self {
        match reason {
            ErrorKind::Panic => Self::Panic,
            ErrorKind::Timeout => Self::Timeout,
            ErrorKind::Poison => Self::Lost,
            ErrorKind::Error
            | ErrorKind::Decode
            | ErrorKind::Result
            | ErrorKind::Deadline
            | ErrorKind::Cancelled => otherwise,
        }
    }
}

labelled! {
    /// Whether an attempt ended as its handler wanted.
    RunOutcome {
        Ok = "ok",
        Error = "error",
    }
}

labelled! {
    /// Why a task was removed.
    DeleteReason {
        Retention = "retention",
        Manual = "manual",
    }
}

/// The terminal states, in the order of their counters.
pub(crate) const FINAL_STATES: [State; 3] = [State::Completed, State::Failed, State::Cancelled];

const ATTEMPT_OUTCOMES: usize = AttemptOutcome::ALL.len();

/// What happened to the tasks of one queue and one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct PairFold {
    pub(crate) enqueued: [u64; 2],
    pub(crate) started: u64,
    pub(crate) finished: [u64; ATTEMPT_OUTCOMES],
    pub(crate) finalized: [u64; FINAL_STATES.len()],
    pub(crate) wait: Histogram<{ SECONDS.len() }>,
    pub(crate) run: [Histogram<{ SECONDS.len() }>; 2],
}

impl PairFold {
    /// Counts one event, and says which terminal state it was, if it was one.
    #[inline]
    fn add(&mut self, event: &TaskEvent) -> Option<State> {
        match event {
            TaskEvent::Enqueued { .. } => self.enqueued[EnqueueOutcome::Inserted as usize] += 1,
            TaskEvent::Deduplicated { .. } => {
                self.enqueued[EnqueueOutcome::Duplicate as usize] += 1;
            }
            TaskEvent::Started { waited, .. } => {
                self.started += 1;
                self.wait.observe_time(*waited);
            }
            TaskEvent::Completed { ran } => {
                self.finish(AttemptOutcome::Ok, Some((RunOutcome::Ok, *ran)));
                return Some(self.finalize(State::Completed));
            }
            TaskEvent::Retried { ran, reason, .. } => {
                let outcome = AttemptOutcome::of_failure(*reason, AttemptOutcome::Retry);
                self.finish(outcome, Some((RunOutcome::Error, *ran)));
            }
            TaskEvent::Failed { ran, reason, .. } => {
                let outcome = AttemptOutcome::of_failure(*reason, AttemptOutcome::Failed);
                // Nobody knows how long an attempt ran whose server died.
                let is_known = *reason != ErrorKind::Poison;
                self.finish(outcome, is_known.then_some((RunOutcome::Error, *ran)));
                return Some(self.finalize(State::Failed));
            }
            TaskEvent::Cancelled { ran } => {
                if let Some(ran) = ran {
                    self.finish(AttemptOutcome::Cancelled, Some((RunOutcome::Error, *ran)));
                }
                return Some(self.finalize(State::Cancelled));
            }
            TaskEvent::Snoozed { ran, .. } => {
                self.finish(AttemptOutcome::Snoozed, Some((RunOutcome::Ok, *ran)));
            }
            TaskEvent::Released => self.finish(AttemptOutcome::Released, None),
            TaskEvent::Rescued => self.finish(AttemptOutcome::Lost, None),
            // Those that are counted by kind alone, and those to come.
            _ => {}
        }
        None
    }

    #[inline]
    fn finish(&mut self, outcome: AttemptOutcome, run: Option<(RunOutcome, Duration)>) {
        self.finished[outcome as usize] += 1;
        if let Some((outcome, ran)) = run {
            self.run[outcome as usize].observe_time(ran);
        }
    }

    #[inline]
    fn finalize(&mut self, state: State) -> State {
        let at = FINAL_STATES.iter().position(|&it| it == state);
        if let Some(count) = at.and_then(|at| self.finalized.get_mut(at)) {
            *count += 1;
        }
        state
    }

    fn merge(&mut self, other: &Self) {
        add_all(&mut self.enqueued, &other.enqueued);
        self.started += other.started;
        add_all(&mut self.finished, &other.finished);
        add_all(&mut self.finalized, &other.finalized);
        self.wait.merge(&other.wait);
        self.run.iter_mut().zip(&other.run).for_each(|(run, more)| run.merge(more));
    }
}

/// What happened to the tasks of one queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct QueueFold {
    pub(crate) rescued: u64,
    /// Spent by tasks that reached a terminal state.
    pub(crate) attempts: Histogram<{ ATTEMPTS.len() }>,
}

/// All that was counted.
#[derive(Debug, Default)]
pub(crate) struct Fold {
    /// By the place of the kind in [`EventKind::ALL`].
    pub(crate) events: Vec<u64>,
    /// By the place of the pair among the names.
    pub(crate) pairs: Vec<PairFold>,
    /// By the place of the queue among the names.
    pub(crate) queues: Vec<QueueFold>,
    pub(crate) deleted: [u64; 2],
    pub(crate) overflow: [u64; Bounded::ALL.len()],
}

impl Fold {
    /// Makes room for the values of a slot.
    pub(crate) fn reserve(&mut self, slot: Slot) {
        grow(&mut self.pairs, usize::from(slot.pair) + 1);
        grow(&mut self.queues, usize::from(slot.queue) + 1);
        grow(&mut self.events, EventKind::ALL.len());
    }

    /// Counts something that happened to a task of a slot; there is room for it.
    #[inline]
    pub(crate) fn add(&mut self, slot: Slot, attempt: u16, event: &TaskEvent) {
        self.add_kind(event.kind());
        if slot.folded.is_any() {
            self.add_folded(slot.folded);
        }
        let (pair, queue) = (usize::from(slot.pair), usize::from(slot.queue));
        let finalized = self.pairs.get_mut(pair).and_then(|pair| pair.add(event));
        if let Some(queue) = self.queues.get_mut(queue) {
            if finalized.is_some() {
                queue.attempts.observe(&ATTEMPTS, f64::from(attempt));
            }
            let is_rescue = matches!(
                event,
                TaskEvent::Rescued | TaskEvent::Failed { reason: ErrorKind::Poison, .. }
            );
            queue.rescued += u64::from(is_rescue);
        }
        if matches!(event, TaskEvent::Deleted) {
            self.add_deleted(DeleteReason::Manual, 1);
        }
    }

    /// Counts an event of a kind.
    #[inline]
    pub(crate) fn add_kind(&mut self, kind: EventKind) {
        if let Some(count) = self.events.get_mut(kind as usize) {
            *count += 1;
        } else {
            grow(&mut self.events, EventKind::ALL.len());
            self.events.iter_mut().skip(kind as usize).take(1).for_each(|count| *count += 1);
        }
    }

    /// Counts tasks that were removed.
    pub(crate) const fn add_deleted(&mut self, reason: DeleteReason, tasks: u64) {
        self.deleted[reason as usize] += tasks;
    }

    /// Counts labels that are `_other` because of a bound.
    pub(crate) fn add_folded(&mut self, folded: Folded) {
        self.overflow[Bounded::Queue as usize] += u64::from(folded.queue);
        if let Some(rest) = folded.rest {
            self.overflow[rest as usize] += 1;
        }
    }

    /// Adds what another one counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        grow(&mut self.events, other.events.len());
        add_all(&mut self.events, &other.events);
        grow(&mut self.pairs, other.pairs.len());
        self.pairs.iter_mut().zip(&other.pairs).for_each(|(pair, more)| pair.merge(more));
        grow(&mut self.queues, other.queues.len());
        for (queue, more) in self.queues.iter_mut().zip(&other.queues) {
            queue.rescued += more.rescued;
            queue.attempts.merge(&more.attempts);
        }
        add_all(&mut self.deleted, &other.deleted);
        add_all(&mut self.overflow, &other.overflow);
    }
}

fn add_all(counts: &mut [u64], more: &[u64]) {
    counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
}

/// Never makes it shorter.
fn grow<T: Default + Clone>(values: &mut Vec<T>, len: usize) {
    if values.len() < len {
        values.resize(len, T::default());
    }
}

#[cfg(test)]
mod tests {
    use ergon_core::{ServerId, TaskId, Timestamp, event::Excerpt};

    use super::*;

    const RAN: Duration = Duration::from_secs(1);
    const RUN_AT: Timestamp = Timestamp::UNIX_EPOCH;

    fn failed(reason: ErrorKind) -> TaskEvent {
        TaskEvent::Failed { ran: RAN, reason, error: Excerpt::of("e") }
    }

    fn retried(reason: ErrorKind) -> TaskEvent {
        TaskEvent::Retried { ran: RAN, run_at: RUN_AT, reason, error: Excerpt::of("e") }
    }

    /// How an event is counted: the outcome of its attempt, its terminal state, its run.
    #[track_caller]
    fn check(
        event: &TaskEvent,
        outcome: Option<AttemptOutcome>,
        state: Option<State>,
        run: Option<RunOutcome>,
    ) {
        let mut fold = PairFold::default();
        assert_eq!(fold.add(event), state, "{event:?}");
        for &it in AttemptOutcome::ALL {
            assert_eq!(fold.finished[it as usize], u64::from(outcome == Some(it)), "{event:?}");
        }
        for (&it, count) in FINAL_STATES.iter().zip(fold.finalized) {
            assert_eq!(count, u64::from(state == Some(it)), "{event:?}");
        }
        for &it in RunOutcome::ALL {
            assert_eq!(fold.run[it as usize].count(), u64::from(run == Some(it)), "{event:?}");
        }
    }

    #[test]
    fn attempts_end_in_one_way() {
        use AttemptOutcome as Outcome;
        use RunOutcome as Run;
        let ok = TaskEvent::Completed { ran: RAN };
        check(&ok, Some(Outcome::Ok), Some(State::Completed), Some(Run::Ok));
        for (reason, of_retry, of_failure) in [
            (ErrorKind::Error, Outcome::Retry, Outcome::Failed),
            (ErrorKind::Decode, Outcome::Retry, Outcome::Failed),
            (ErrorKind::Deadline, Outcome::Retry, Outcome::Failed),
            (ErrorKind::Timeout, Outcome::Timeout, Outcome::Timeout),
            (ErrorKind::Panic, Outcome::Panic, Outcome::Panic),
        ] {
            check(&retried(reason), Some(of_retry), None, Some(Run::Error));
            check(&failed(reason), Some(of_failure), Some(State::Failed), Some(Run::Error));
        }
        check(&failed(ErrorKind::Poison), Some(Outcome::Lost), Some(State::Failed), None);
        check(&TaskEvent::Rescued, Some(Outcome::Lost), None, None);
        check(&TaskEvent::Released, Some(Outcome::Released), None, None);
        let snoozed = TaskEvent::Snoozed { ran: RAN, run_at: RUN_AT };
        check(&snoozed, Some(Outcome::Snoozed), None, Some(Run::Ok));
        let cancelled = |ran| TaskEvent::Cancelled { ran };
        let state = Some(State::Cancelled);
        check(&cancelled(Some(RAN)), Some(Outcome::Cancelled), state, Some(Run::Error));
        check(&cancelled(None), None, state, None);
        check(&TaskEvent::CancelRequested, None, None, None);
        check(&TaskEvent::Enqueued { run_at: RUN_AT, priority: 0 }, None, None, None);
        check(&TaskEvent::Deleted, None, None, None);
    }

    #[test]
    fn every_kind_of_event_is_counted() {
        let mut fold = Fold::default();
        for &kind in EventKind::ALL {
            fold.add_kind(kind);
        }
        assert_eq!(fold.events, vec![1; EventKind::ALL.len()]);
    }

    #[test]
    fn merged_folds_count_what_both_did() {
        let slot = |pair| Slot { pair, queue: 1, folded: Folded::default() };
        let (mut one, mut other) = (Fold::default(), Fold::default());
        one.reserve(slot(1));
        one.add(slot(1), 2, &TaskEvent::Completed { ran: RAN });
        let started = TaskEvent::Started { server: ServerId::from_u128(1), waited: RAN };
        for (pair, event) in [(1, started), (2, failed(ErrorKind::Poison)), (2, TaskEvent::Deleted)]
        {
            other.reserve(slot(pair));
            other.add(slot(pair), 3, &event);
        }
        other.reserve(Slot { folded: Folded { queue: true, rest: None }, ..slot(0) });
        let duplicate = TaskEvent::Deduplicated { of: TaskId::MIN };
        other.add(Slot { folded: Folded { queue: true, rest: None }, ..slot(0) }, 0, &duplicate);
        one.merge(&other);
        let pair = &one.pairs[1];
        assert_eq!((pair.started, pair.finalized, pair.wait.count()), (1, [1, 0, 0], 1));
        assert_eq!(one.pairs[2].finalized, [0, 1, 0]);
        assert_eq!(one.pairs[0].enqueued, [0, 1]);
        assert_eq!((one.queues[1].rescued, one.queues[1].attempts.count()), (1, 2));
        assert_eq!((one.deleted, one.overflow), ([0, 1], [1, 0, 0, 0]));
        assert_eq!(one.events.iter().sum::<u64>(), 5);
    }
}
