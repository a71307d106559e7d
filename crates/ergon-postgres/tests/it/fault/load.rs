//! A load of enqueuers and workers, and the ledger that knows what has to be true of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use ergon_core::{
    ClaimedTask, Conclusion, ErrorKind, Now, Outcome, QueueName, State, StoreError, TaskId, Token,
    Verdict,
    store::{Dispatch as _, Enqueue as _, Inserted, Inspect as _, Maintain as _, RescueRequest},
    text::error_chain,
};
use ergon_postgres::PostgresStore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{LONG, Site, claim, is_consistent, kind, millis, pack, pause, tasks};

/// What was acknowledged, and what was answered that never may be.
#[derive(Debug, Default)]
struct Book {
    acked: BTreeSet<TaskId>,
    claims: BTreeSet<(TaskId, Token)>,
    completed: BTreeMap<TaskId, BTreeSet<Token>>,
    stale: usize,
    /// Errors that may pass, by their text.
    passing: BTreeMap<String, usize>,
    wrong: Vec<String>,
}

/// What everybody who takes part writes into.
#[derive(Clone, Debug, Default)]
struct Ledger(Arc<Mutex<Book>>);

impl Ledger {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap()
    }

    /// Notes an error, and lets a moment pass.
    async fn failed(&self, what: &str, error: &StoreError) {
        let text = format!("{what}: {}", error_chain(error));
        if error.is_transient() {
            *self.book().passing.entry(text).or_default() += 1;
        } else {
            self.book().wrong.push(text);
        }
        pause(millis(10)).await;
    }

    fn claimed(&self, claimed: &[ClaimedTask]) {
        let mut book = self.book();
        for task in claimed {
            if !book.claims.insert((task.id, task.token)) {
                book.wrong.push(format!("{} was claimed twice with {}", task.id, task.token));
            }
            if task.spec.payload != task.id.to_string() {
                book.wrong.push(format!("{} has the payload of another", task.id));
            }
        }
    }

    fn finished(&self, outcomes: &[Outcome], verdicts: &[Verdict]) {
        let mut book = self.book();
        for (outcome, verdict) in outcomes.iter().zip(verdicts) {
            let is_complete = matches!(outcome.conclusion, Conclusion::Complete { .. });
            match verdict {
                Verdict::Applied | Verdict::AlreadyApplied if is_complete => {
                    book.completed.entry(outcome.id).or_default().insert(outcome.token);
                }
                Verdict::Applied | Verdict::AlreadyApplied => {}
                Verdict::Stale => book.stale += 1,
                other @ Verdict::CancelRequested => {
                    book.wrong.push(format!("{} was answered {other:?}", outcome.id));
                }
            }
        }
    }
}

/// A load that runs until it is ended.
pub(crate) struct Load {
    ledger: Ledger,
    lease: Duration,
    enqueuers: JoinSet<()>,
    workers: JoinSet<()>,
    no_more: CancellationToken,
    drained: CancellationToken,
}

impl Load {
    /// Starts two enqueuers, two workers and a rescuer at each store.
    pub(crate) fn start(stores: &[PostgresStore], lease: Duration) -> Self {
        let mut load = Self {
            ledger: Ledger::default(),
            lease,
            enqueuers: JoinSet::new(),
            workers: JoinSet::new(),
            no_more: CancellationToken::new(),
            drained: CancellationToken::new(),
        };
        for (at, store) in (1..).zip(stores) {
            for packed in [true, false] {
                let (store, ledger) = (store.clone(), load.ledger.clone());
                load.enqueuers.spawn(enqueue(store, ledger, packed, load.no_more.clone()));
            }
            for _ in 0..2 {
                let (store, ledger) = (store.clone(), load.ledger.clone());
                load.workers.spawn(work(store, ledger, at, lease, load.drained.clone()));
            }
            let (store, ledger) = (store.clone(), load.ledger.clone());
            load.workers.spawn(rescue(store, ledger, load.drained.clone()));
        }
        load
    }

    /// Ends the load once everything is done, and checks the ledger; answers how many tasks there were.
    pub(crate) async fn end(mut self, site: &Site, store: &PostgresStore) -> usize {
        self.no_more.cancel();
        let enqueued =
            tokio::time::timeout(LONG, std::mem::take(&mut self.enqueuers).join_all()).await;
        assert!(enqueued.is_ok(), "an enqueuer never succeeded: {:#?}", self.ledger.book());
        let unfinished = async {
            while unfinished(store).await > 0 {
                pause(millis(50)).await;
            }
        };
        let drained = tokio::time::timeout(LONG + self.lease, unfinished).await;
        self.drained.cancel();
        std::mem::take(&mut self.workers).join_all().await;
        let wrong = std::mem::take(&mut self.ledger.book().wrong);
        assert!(wrong.is_empty(), "{wrong:#?}");
        let passing: Vec<_> = self.ledger.book().passing.clone().into_iter().collect();
        assert!(drained.is_ok(), "tasks are left over; {passing:#?}");
        let is_poisoned = |(text, _): &&(String, usize)| text.contains("25P02");
        assert_eq!(passing.iter().find(is_poisoned), None);
        assert!(!site.whole_log().contains("current transaction is aborted"));
        self.audit(store).await;
        is_consistent(site, store).await;
        let acked = self.ledger.book().acked.len();
        let stored = site.number("SELECT sum(n) FROM ergon.pack");
        assert_eq!(stored, i64::try_from(acked).unwrap(), "stored and acknowledged");
        assert!(acked > 0);
        acked
    }

    /// Every acknowledged task was completed once, by the claim that the store names.
    async fn audit(&self, store: &PostgresStore) {
        let acked: Vec<TaskId> = self.ledger.book().acked.iter().copied().collect();
        let completed = self.ledger.book().completed.clone();
        for chunk in acked.chunks(1_000) {
            let records = store.tasks(chunk, Now::Store).await.unwrap();
            for (id, record) in chunk.iter().zip(records) {
                let record = record.unwrap_or_else(|| unreachable!("{id} is lost"));
                assert_eq!(record.state, State::Completed, "{record:?}");
                let by = completed.get(id).into_iter().flatten();
                let by: Vec<Token> = by.copied().collect();
                assert_eq!(by, [record.progress.token], "{id} was completed by {by:?}");
            }
        }
    }
}

async fn unfinished(store: &PostgresStore) -> u64 {
    let queues = super::healed(|| store.queues(Now::Store)).await;
    let unfinished =
        |queue: &ergon_core::store::QueueInfo| queue.counts.sum(ergon_core::StateSet::UNFINISHED);
    queues.iter().map(unfinished).sum()
}

async fn enqueue(store: PostgresStore, ledger: Ledger, packed: bool, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let tasks = if packed { pack(40) } else { tasks(3) };
        let mut was_lost = false;
        loop {
            match store.insert(&tasks, Now::Store).await {
                Ok(inserted) => {
                    // The store itself repeats what it may, so a first answer can say either.
                    let is_good =
                        |one: &Inserted| matches!(one, Inserted::Created | Inserted::AlreadyExists);
                    let mut book = ledger.book();
                    if !inserted.iter().all(is_good) || inserted.len() != tasks.len() {
                        book.wrong.push(format!("{inserted:?} after a loss: {was_lost}"));
                    }
                    book.acked.extend(tasks.iter().map(|task| task.id));
                    break;
                }
                Err(error) => {
                    was_lost = true;
                    ledger.failed("insert", &error).await;
                }
            }
        }
        pause(millis(5)).await;
    }
}

/// What becomes of a task: some are tried again, some have a result.
fn outcome(task: &ClaimedTask) -> Outcome {
    let number = task.id.as_u128() % 11;
    let conclusion = match number {
        0 if task.attempt == 1 => Conclusion::Retry {
            delay: Duration::ZERO,
            kind: ErrorKind::Error,
            error: "again".to_owned(),
        },
        1 | 2 => Conclusion::Complete { result: Some("{}".into()) },
        _ => Conclusion::Complete { result: None },
    };
    Outcome { id: task.id, token: task.token, conclusion }
}

async fn work(
    store: PostgresStore,
    ledger: Ledger,
    by: u128,
    lease: Duration,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let claimed = match store.claim(&claim(by, 30, lease)).await {
            Ok(claimed) => claimed,
            Err(error) => {
                ledger.failed("claim", &error).await;
                continue;
            }
        };
        if claimed.is_empty() {
            store.wait_for_work(&[QueueName::default()], &[kind()], millis(100)).await;
            continue;
        }
        ledger.claimed(&claimed);
        let outcomes: Vec<Outcome> = claimed.iter().map(outcome).collect();
        // Two parts, so that claims are left over between two calls.
        let (one, other) = outcomes.split_at(outcomes.len() / 2);
        for part in [one, other] {
            while let Err(error) = finish(&store, &ledger, part).await {
                ledger.failed("finish", &error).await;
            }
        }
    }
}

async fn finish(
    store: &PostgresStore,
    ledger: &Ledger,
    outcomes: &[Outcome],
) -> Result<(), StoreError> {
    let verdicts = store.finish(outcomes, Now::Store).await?;
    ledger.finished(outcomes, &verdicts);
    Ok(())
}

async fn rescue(store: PostgresStore, ledger: Ledger, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let request = RescueRequest::default().deaths_max(u16::MAX);
        if let Err(error) = store.rescue_expired(&request).await {
            ledger.failed("rescue", &error).await;
        }
        pause(millis(100)).await;
    }
}
