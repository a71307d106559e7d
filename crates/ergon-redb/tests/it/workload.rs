//! Random work on a store, and a ledger of what was acknowledged when.

use std::collections::{BTreeMap, BTreeSet};

use ergon_core::{
    ClaimedTask, Command, CommandVerdict, Conclusion, NewTask, Now, Outcome, RunAt, Selection,
    State, StateSet, StoreError, TaskId, UniqueScope, Verdict,
    store::{Control, Cursor, Dispatch, Enqueue, Inserted},
};
use ergon_redb::RedbStore;
use ergon_testing::{
    SeededRng,
    harness::{HOUR, Harness, Told, cancel, complete, fail, retry, unique},
};
use tokio::task::JoinSet;

use crate::medium::{Medium, below};

/// Something that a store has acknowledged.
#[derive(Clone, Debug)]
pub(crate) enum Fact {
    Created(Vec<TaskId>),
    /// So many attempts were ended.
    Attempted(TaskId, u16),
    /// Finished for good, in this state.
    Finished(TaskId, State),
    Deleted(TaskId),
}

/// What was asked of a store, and what it acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Facts, with the number of changes to the medium when they were known.
    facts: Vec<(usize, Fact)>,
    /// Inserts of several tasks, which are all there or none.
    batches: Vec<Vec<TaskId>>,
    /// Tasks that somebody tried to delete, or may have.
    deleting: BTreeSet<TaskId>,
    finished: BTreeMap<TaskId, State>,
}

/// One call of a store.
#[derive(Clone, Debug)]
enum Step {
    Insert(Vec<NewTask>),
    Finish(Vec<(Outcome, u16)>),
    Apply(TaskId, Command),
}

impl Step {
    /// Makes the call, and answers what the store acknowledged.
    async fn run(self, store: RedbStore, now: Now) -> Result<Vec<Fact>, StoreError> {
        match self {
            Self::Insert(tasks) => {
                let inserted = store.insert(&tasks, now).await?;
                let is_created = |&(_, answer): &(_, &Inserted)| *answer == Inserted::Created;
                let created = tasks.iter().zip(&inserted).filter(is_created);
                Ok(vec![Fact::Created(created.map(|(task, _)| task.id).collect())])
            }
            Self::Finish(outcomes) => {
                let attempts: Vec<u16> = outcomes.iter().map(|(_, attempt)| *attempt).collect();
                let outcomes: Vec<_> = outcomes.into_iter().map(|(outcome, _)| outcome).collect();
                let verdicts = store.finish(&outcomes, now).await?;
                let ended = outcomes.iter().zip(attempts).zip(verdicts);
                Ok(ended
                    .filter_map(|((outcome, n), verdict)| fact_of(outcome, n, verdict))
                    .collect())
            }
            Self::Apply(id, command) => {
                let applied = store.apply(&Selection::Ids(vec![id]), &command, now).await?;
                Ok(match (&applied.verdicts[..], command) {
                    ([(id, CommandVerdict::Applied)], Command::Delete) => vec![Fact::Deleted(*id)],
                    ([(id, CommandVerdict::Applied)], _) => {
                        vec![Fact::Finished(*id, State::Cancelled)]
                    }
                    _ => Vec::new(),
                })
            }
        }
    }
}

fn fact_of(outcome: &Outcome, attempt: u16, verdict: Verdict) -> Option<Fact> {
    let id = outcome.id;
    match (verdict, &outcome.conclusion) {
        (Verdict::CancelRequested, _) | (Verdict::Applied, Conclusion::Cancel { .. }) => {
            Some(Fact::Finished(id, State::Cancelled))
        }
        (Verdict::Applied, Conclusion::Complete { .. }) => {
            Some(Fact::Finished(id, State::Completed))
        }
        (Verdict::Applied, Conclusion::Fail { .. }) => Some(Fact::Finished(id, State::Failed)),
        (Verdict::Applied, Conclusion::Retry { .. }) => Some(Fact::Attempted(id, attempt)),
        (Verdict::Applied, Conclusion::Snooze { .. } | Conclusion::Release)
        | (Verdict::AlreadyApplied | Verdict::Stale, _) => None,
    }
}

/// Random work, several callers at once.
pub(crate) struct Workload {
    pub(crate) h: Harness,
    pub(crate) ledger: Ledger,
    rng: SeededRng,
    /// Calls at once, at the most.
    callers: usize,
}

impl Workload {
    pub(crate) fn new(h: Harness, seed: u64, callers: usize) -> Self {
        Self { h, ledger: Ledger::default(), rng: SeededRng::new(seed), callers }
    }

    fn task(&self, is_alone: bool) -> NewTask {
        let rng = &self.rng;
        self.h.task_with(|task| {
            let len = [2, 20, 300, 3_000][below(rng, 4)];
            let byte = u8::try_from(below(rng, 256)).unwrap();
            task.spec.payload = vec![byte; len].into();
            task.priority = i16::try_from(below(rng, 5)).unwrap() - 2;
            if below(rng, 8) == 0 {
                task.run_at = RunAt::After(HOUR);
            }
            // A batch is all or nothing, but duplicates.
            if is_alone && below(rng, 2) == 0 {
                let number = u8::try_from(below(rng, 6)).unwrap();
                task.spec.unique = Some(unique(number, UniqueScope::UntilFinished));
            }
        })
    }

    fn steps(&mut self, claimed: &[ClaimedTask]) -> Vec<Step> {
        let mut steps = Vec::new();
        for _ in 0..=below(&self.rng, self.callers) {
            let len = 1 + [0, 0, 3, 11][below(&self.rng, 4)];
            let tasks: Vec<NewTask> = (0..len).map(|_| self.task(len == 1)).collect();
            self.ledger.batches.push(tasks.iter().map(|task| task.id).collect());
            steps.push(Step::Insert(tasks));
        }
        for claims in claimed.chunks(std::cmp::max(1, claimed.len().div_ceil(2))) {
            let end = |task: &ClaimedTask| {
                let rng = &self.rng;
                let conclusion = match below(rng, 8) {
                    0 => fail(),
                    1 => cancel(),
                    2 | 3 => retry(std::time::Duration::ZERO),
                    4 => Conclusion::Release,
                    _ => complete(),
                };
                (Outcome { id: task.id, token: task.token, conclusion }, task.attempt)
            };
            steps.push(Step::Finish(claims.iter().map(end).collect()));
        }
        let at = below(&self.rng, std::cmp::max(1, self.ledger.finished.len()));
        if let Some((&id, _)) = self.ledger.finished.iter().nth(at)
            && below(&self.rng, 3) == 0
        {
            self.ledger.deleting.insert(id);
            steps.push(Step::Apply(id, Command::Delete));
        }
        if let Some(Step::Insert(tasks)) = steps.first()
            && below(&self.rng, 3) == 0
        {
            let reason = "not any more".to_owned();
            steps.push(Step::Apply(tasks[0].id, Command::Cancel { reason }));
        }
        steps
    }

    /// Works for so many rounds, or until the store fails.
    pub(crate) async fn run(
        &mut self,
        store: &RedbStore,
        medium: &Medium,
        rounds: usize,
    ) -> Result<(), StoreError> {
        for _ in 0..rounds {
            let claimed = store.claim(&self.h.request(1 + below(&self.rng, 12))).await?;
            let mut callers = JoinSet::new();
            for step in self.steps(&claimed) {
                let (store, medium, now) = (store.clone(), medium.clone(), self.h.now());
                callers.spawn(async move {
                    let answer = step.run(store, now).await;
                    (medium.len(), answer)
                });
            }
            let mut failure = None;
            while let Some(done) = callers.join_next().await {
                match done.unwrap() {
                    (at, Ok(facts)) => self.ledger.record(at, facts),
                    (_, Err(error)) => failure = Some(error),
                }
            }
            failure.map_or(Ok(()), Err)?;
        }
        Ok(())
    }
}

impl Ledger {
    pub(crate) fn len(&self) -> usize {
        self.facts.len()
    }

    fn record(&mut self, at: usize, facts: Vec<Fact>) {
        for fact in facts {
            if let Fact::Finished(id, state) = fact {
                self.finished.insert(id, state);
            }
            self.facts.push((at, fact));
        }
    }

    /// Fails unless the journal tells exactly what a store shows, each change once: by a watcher who
    /// watched from the beginning on, if the store knows of it.
    pub(crate) async fn audit_journal(h: &Harness, first: &Cursor, context: &str) {
        if h.store.watchers().await.unwrap().is_empty() {
            return;
        }
        let mut told = Told::default();
        let (gaps, recorded) = h.reader(first.clone()).read_over_gaps(500).await;
        assert_eq!(gaps, [], "{context}");
        for recorded in recorded {
            told.hear(&recorded.event).unwrap_or_else(|wrong| panic!("{context}: {wrong}"));
        }
        let shown = h.projection().await;
        told.check(&shown, h.instant()).unwrap_or_else(|wrong| panic!("{context}: {wrong}"));
    }

    /// Fails unless a store holds what was acknowledged within so many changes to the medium.
    pub(crate) async fn audit(
        &self,
        store: &RedbStore,
        h: &Harness,
        changes: usize,
        context: &str,
    ) {
        let found = store.check().await.unwrap();
        assert!(found.problems.is_empty(), "{context}: {:?}", found.problems);
        let tasks = h.projection().await.tasks;
        let tasks: BTreeMap<TaskId, _> = tasks.into_iter().map(|task| (task.id, task)).collect();
        for (at, fact) in &self.facts {
            if *at > changes {
                continue;
            }
            match fact {
                Fact::Created(ids) => {
                    let is_there = |id| tasks.contains_key(id) || self.deleting.contains(id);
                    assert!(ids.iter().all(is_there), "{context}: {fact:?} is lost");
                }
                Fact::Attempted(id, attempt) => {
                    let task = tasks.get(id);
                    let is_kept = task.is_none_or(|task| task.progress.attempt >= *attempt);
                    assert!(is_kept, "{context}: {fact:?} is lost: {task:?}");
                }
                Fact::Finished(id, state) => {
                    let is_kept = match tasks.get(id) {
                        Some(task) => task.state == *state,
                        None => self.deleting.contains(id),
                    };
                    assert!(is_kept, "{context}: {fact:?} is lost: {:?}", tasks.get(id));
                }
                Fact::Deleted(id) => {
                    assert!(!tasks.contains_key(id), "{context}: {fact:?} is lost");
                }
            }
        }
        for batch in self.batches.iter().filter(|batch| batch.len() > 1) {
            let kept: Vec<_> = batch.iter().filter(|id| !self.deleting.contains(id)).collect();
            let there = kept.iter().filter(|id| tasks.contains_key(id)).count();
            assert!(there == 0 || there == kept.len(), "{context}: half of a batch");
        }
        let is_finished = |state| StateSet::TERMINAL.contains(state);
        let early = tasks
            .values()
            .find(|task| is_finished(task.state) && task.progress.finished_at.is_none());
        assert!(early.is_none(), "{context}: {early:?}");
    }
}
