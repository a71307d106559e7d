//! Everything at once, at random, and a ledger that knows what has to be true in the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use ergon_core::{
    Clock as _, IdSource as _, Rng as _, RunAt, StateSet, StoreError,
    client::Enqueued,
    store::{Control as _, Dispatch as _, Enqueue as _, Inspect as _, Maintain as _, PruneRequest},
    text::error_chain,
};
use ergon_postgres::EnqueueInTransaction as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Beat, ClaimRequest, Client, Command, CommandVerdict, Conclusion, Duration, ErrorKind, Held,
    Inserted, Instant, NewTask, Now, Outcome, PgPool, PostgresStore, QueueName, QueueSlots,
    RescueRequest, Sandbox, Selection, ServerId, State, SystemClock, SystemRng, TaskFilter, TaskId,
    UniqueKey, UniqueScope, Verdict, ids, is_consistent, kind, number, pack, sleep, support, task,
};

/// What was answered.
#[derive(Debug, Default)]
struct Book {
    acked: BTreeSet<TaskId>,
    /// Removed by an operator, or so short-lived that a sweep may have removed them.
    gone: BTreeSet<TaskId>,
    claims: BTreeSet<(TaskId, u64)>,
    finished: BTreeMap<TaskId, usize>,
    reopened: BTreeMap<TaskId, usize>,
    errors: BTreeMap<String, usize>,
    wrong: Vec<String>,
}

#[derive(Clone, Debug)]
struct Play {
    store: PostgresStore,
    pool: PgPool,
    book: Arc<Mutex<Book>>,
    no_more: CancellationToken,
    drained: CancellationToken,
}

fn dice(sides: u64) -> u64 {
    SystemRng.next_u64() % sides
}

fn millis(below: u64) -> Duration {
    Duration::from_millis(dice(below))
}

fn queue(number: u64) -> QueueName {
    QueueName::new(format!("q{number}")).unwrap()
}

impl Play {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    fn failed(&self, what: &str, error: &StoreError) {
        let text = format!("{what}: {}", error_chain(error));
        let mut book = self.book();
        if !error.is_transient() {
            book.wrong.push(text.clone());
        }
        *book.errors.entry(text).or_default() += 1;
    }

    fn new_tasks(&self) -> Vec<NewTask> {
        let len = u16::try_from([1, 1, 3, 40, 200][usize::try_from(dice(5)).unwrap()]).unwrap();
        let mut tasks = match dice(3) {
            0 => (0..len).map(|_| task(ids().next_id(SystemClock.now()))).collect(),
            1 if len == 3 => vec![task(ids().next_pack(SystemClock.now()).with_offset(4))],
            _ => pack(len),
        };
        let (lane, priority) = (queue(dice(2)), i16::try_from(dice(3)).unwrap());
        let kind = dice(8);
        let delay = millis(300);
        for task in &mut tasks {
            task.spec.queue = lane.clone();
            task.priority = priority;
            match kind {
                0 => task.run_at = RunAt::After(delay),
                1 => task.run_at = RunAt::At(SystemClock.now() - Duration::from_secs(5)),
                2 => {
                    let mut hash = [0; 32];
                    hash[0] = u8::try_from(dice(20)).unwrap();
                    let scope = [
                        UniqueScope::UntilStarted,
                        UniqueScope::UntilFinished,
                        UniqueScope::For(Duration::from_millis(50)),
                    ][usize::try_from(dice(3)).unwrap()];
                    task.spec.unique = Some(UniqueKey { hash, scope });
                }
                3 => task.spec.retention = Some(Duration::from_millis(200)),
                4 => task.max_attempts = 2,
                _ => {}
            }
        }
        tasks
    }

    async fn enqueue(self) {
        while !self.no_more.is_cancelled() {
            let tasks = self.new_tasks();
            if dice(8) == 0 {
                self.enqueue_in_transaction().await;
            }
            // Sometimes a call is given up, and sometimes a part of it is repeated.
            if dice(10) == 0 {
                drop(tokio::time::timeout(millis(3), self.store.insert(&tasks, Now::Store)).await);
            }
            if dice(10) == 0 {
                let part = &tasks[..=usize::try_from(dice(tasks.len() as u64)).unwrap()];
                let both = tokio::join!(
                    self.store.insert(part, Now::Store),
                    self.store.insert(&tasks, Now::Store)
                );
                if let (Ok(one), Ok(other)) = &both {
                    for ((one, other), task) in one.iter().zip(other).zip(part) {
                        if (*one, *other) == (Inserted::Created, Inserted::Created) {
                            self.book().wrong.push(format!("{} was created twice", task.id));
                        }
                    }
                }
            }
            loop {
                match self.store.insert(&tasks, Now::Store).await {
                    Ok(inserted) => {
                        let mut book = self.book();
                        for (task, answer) in tasks.iter().zip(inserted) {
                            if task.spec.retention.is_some() {
                                book.gone.insert(task.id);
                            }
                            if !matches!(answer, Inserted::Duplicate { .. }) {
                                // A unique task may be over, and its time, too.
                                book.acked.insert(task.id);
                            }
                        }
                        break;
                    }
                    Err(error) => self.failed("insert", &error),
                }
                sleep(millis(5)).await;
            }
            // No faster than the workers.
            let waiting = async || {
                let queues = self.store.queues(Now::Store).await.unwrap_or_default();
                let waiting =
                    |queue: &ergon_core::store::QueueInfo| queue.counts.sum(StateSet::UNFINISHED);
                queues.iter().map(waiting).sum::<u64>()
            };
            while waiting().await > 2_000 {
                sleep(millis(100)).await;
            }
        }
    }

    async fn enqueue_in_transaction(&self) {
        let client = Client::new(self.store.clone());
        let Ok(mut transaction) = self.pool.begin().await else { return };
        if dice(3) == 0 {
            let level = "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE";
            sqlx::raw_sql(level).execute(&mut *transaction).await.unwrap();
        }
        let mut ids = Vec::new();
        for _ in 0..=dice(2) {
            match client.enqueue_json("k", 1).in_transaction(&self.store, &mut transaction).await {
                Ok(Enqueued::Created(task)) => ids.push(task.id()),
                Ok(_) => {}
                Err(error) => {
                    *self.book().errors.entry(format!("in tx: {error:?}")).or_default() += 1;
                    return;
                }
            }
        }
        sleep(millis(60)).await;
        if dice(3) == 0 {
            transaction.rollback().await.unwrap();
        } else if transaction.commit().await.is_ok() {
            self.book().acked.extend(ids);
        }
    }

    async fn work(self, server: u128) {
        while !self.drained.is_cancelled() {
            let (server, lease) =
                (ServerId::from_u128(server), Duration::from_millis(50 + dice(500)));
            let slots = usize::try_from(1 + dice(60)).unwrap();
            let mut queues: Vec<QueueName> = vec![queue(0), queue(1), QueueName::default()];
            queues.rotate_left(usize::try_from(dice(3)).unwrap());
            let queues = queues.into_iter().map(|queue| QueueSlots { queue, slots });
            let request = ClaimRequest::new(server, [kind()], queues).lease(lease);
            let claiming = tokio::time::timeout(millis(200), self.store.claim(&request));
            let claimed = match claiming.await {
                Ok(Ok(claimed)) => claimed,
                Ok(Err(error)) => {
                    self.failed("claim", &error);
                    continue;
                }
                Err(_) => continue,
            };
            if claimed.is_empty() {
                sleep(millis(20)).await;
                continue;
            }
            let mut held = Vec::new();
            for task in &claimed {
                let one = (task.id, task.token.get());
                if !self.book().claims.insert(one) {
                    self.book().wrong.push(format!("{one:?} was claimed twice"));
                }
                let wanted = task.id.to_string();
                if task.spec.payload != wanted && task.spec.payload != "1" {
                    self.book().wrong.push(format!("{wanted} has the payload of another"));
                }
                held.push(Held { id: task.id, token: task.token });
            }
            if dice(20) == 0 {
                continue;
            }
            self.handle(server, held).await;
        }
    }

    /// Beats, finishes in parts and in transactions, and forgets some.
    async fn handle(&self, server: ServerId, mut held: Vec<Held>) {
        while !held.is_empty() {
            let lease = Duration::from_millis(50 + dice(500));
            if dice(3) == 0 {
                let named = held.iter().copied().filter(|_| dice(5) > 0).collect();
                match self.store.beat(&Beat::new(server, named).lease(lease)).await {
                    Ok(reply) => held.retain(|one| !reply.lost.contains(one)),
                    Err(error) => self.failed("beat", &error),
                }
            }
            if held.is_empty() {
                break;
            }
            if dice(4) == 0 {
                let len = std::cmp::min(held.len(), 2);
                let some = held.split_off(held.len() - len);
                futures_util::future::join_all(some.iter().map(|one| self.in_transaction(*one)))
                    .await;
                continue;
            }
            let len = usize::try_from(1 + dice(held.len() as u64)).unwrap();
            let outcomes: Vec<Outcome> = held.drain(..len).map(conclude).collect();
            if dice(30) == 0 {
                continue;
            }
            for attempt in 0.. {
                match self.store.finish(&outcomes, Now::Store).await {
                    Ok(verdicts) => {
                        for (outcome, verdict) in outcomes.iter().zip(verdicts) {
                            let is_over = matches!(outcome.conclusion, Conclusion::Complete { .. });
                            if is_over && verdict == Verdict::Applied {
                                *self.book().finished.entry(outcome.id).or_default() += 1;
                            }
                        }
                        break;
                    }
                    Err(error) => self.failed("finish", &error),
                }
                if attempt > 50 {
                    self.book().wrong.push("finish never succeeds".to_owned());
                    break;
                }
            }
        }
    }

    async fn in_transaction(&self, held: Held) {
        let Ok(mut transaction) = self.pool.begin().await else { return };
        let verdict = self.store.finish_in_transaction(&mut transaction, held, &1).await;
        sleep(millis(30)).await;
        match verdict {
            Ok(Verdict::Applied) if dice(4) > 0 => {
                transaction.commit().await.unwrap();
                *self.book().finished.entry(held.id).or_default() += 1;
            }
            Ok(_) => transaction.rollback().await.unwrap(),
            Err(error) => {
                self.failed("finish in transaction", &error);
                return;
            }
        }
        if dice(2) == 0
            && let Err(error) = self.store.finish(&[conclude(held)], Now::Store).await
        {
            // Its answer says nothing: it may have been rolled back or not.
            self.failed("finish after a transaction", &error);
        }
    }

    async fn rescue(self) {
        while !self.drained.is_cancelled() {
            let request = RescueRequest::default().deaths_max(u16::MAX);
            if let Err(error) = self.store.rescue_expired(&request).await {
                self.failed("rescue", &error);
            }
            if let Err(error) = self.store.prune(&PruneRequest::default()).await {
                self.failed("prune", &error);
            }
            if dice(5) == 0
                && let Err(error) = self.store.housekeep().await
            {
                self.failed("housekeep", &error);
            }
            match self.store.queues(Now::Store).await {
                Ok(_) => {}
                Err(error) => self.failed("queues", &error),
            }
            sleep(millis(100)).await;
        }
    }

    async fn operate(self) {
        while !self.no_more.is_cancelled() {
            let some: Vec<TaskId> = {
                let book = self.book();
                let len = book.acked.len() as u64;
                let skip = usize::try_from(dice(std::cmp::max(len, 1))).unwrap();
                book.acked.iter().rev().skip(skip).take(20).copied().collect()
            };
            let command = match dice(6) {
                0 => Command::Cancel { reason: "\0".to_owned() },
                1 => Command::Retry,
                2 => Command::Delete,
                3 => Command::Reschedule { run_at: SystemClock.now() + millis(500) },
                4 => Command::Reschedule { run_at: SystemClock.now() - Duration::from_secs(9) },
                _ => Command::SetPriority { priority: i16::MIN },
            };
            if command == Command::Delete {
                self.book().gone.extend(&some);
            }
            if command == Command::Retry {
                for id in &some {
                    *self.book().reopened.entry(*id).or_default() += 1;
                }
            }
            let selection = match dice(4) {
                0 if command != Command::Delete && command != Command::Retry => {
                    Selection::Matching {
                        filter: TaskFilter::all().states(State::Pending),
                        limit: 30,
                    }
                }
                _ => Selection::Ids(some),
            };
            match self.store.apply(&selection, &command, Now::Store).await {
                Ok(applied) => {
                    let is_odd = |(_, verdict): &&(TaskId, CommandVerdict)| {
                        *verdict == CommandVerdict::NotFound
                    };
                    for (id, _) in applied.verdicts.iter().filter(is_odd) {
                        if !self.book().gone.contains(id) {
                            self.book().wrong.push(format!("{id} is not found"));
                        }
                    }
                }
                Err(error) => self.failed("apply", &error),
            }
            sleep(millis(30)).await;
        }
    }
}

fn conclude(Held { id, token }: Held) -> Outcome {
    let error = "e\0".repeat(usize::try_from(dice(30)).unwrap());
    let conclusion = match dice(16) {
        0 => Conclusion::Retry { delay: millis(200), kind: ErrorKind::Panic, error },
        1 => Conclusion::Retry { delay: Duration::ZERO, kind: ErrorKind::Error, error },
        2 => Conclusion::Fail { kind: ErrorKind::Error, error },
        3 => Conclusion::Snooze { delay: millis(200) },
        4 => Conclusion::Release,
        5 => Conclusion::Cancel { reason: error },
        6..9 => Conclusion::Complete { result: Some(id.to_string().into()) },
        _ => Conclusion::Complete { result: None },
    };
    Outcome { id, token, conclusion }
}

/// For so many seconds; two unless the environment says otherwise.
fn seconds() -> u64 {
    std::env::var("ERGON_STRESS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

/// Waits until nothing is left to do; says whether that came.
async fn drains(store: &PostgresStore) -> bool {
    let began = Instant::now();
    loop {
        let queues = store.queues(Now::Store).await.unwrap();
        if queues.iter().all(|queue| queue.counts.sum(StateSet::UNFINISHED) == 0) {
            return true;
        }
        if began.elapsed() > Duration::from_secs(60) {
            return false;
        }
        if seconds() > 2 {
            let left: u64 = queues.iter().map(|queue| queue.counts.sum(StateSet::UNFINISHED)).sum();
            print(&format!("{left} are left after {:?}", began.elapsed()));
            sleep(Duration::from_secs(1)).await;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Compares what was answered with what is stored.
async fn audit(
    book: &Book,
    is_drained: bool,
    store: &PostgresStore,
    sandbox: &Sandbox,
    pool: &PgPool,
) {
    assert!(book.wrong.is_empty(), "{:#?}", book.wrong);
    assert!(is_drained, "tasks are left over: {:#?}", book.errors);
    is_consistent(sandbox, pool).await;
    for left in ["ergon.ready", "ergon.lease", "ergon.task WHERE phase = 0"] {
        assert_eq!(
            number(sandbox, pool, &format!("SELECT count(*) FROM {left}")).await,
            0,
            "{left}"
        );
    }
    let acked: Vec<TaskId> = book.acked.difference(&book.gone).copied().collect();
    for chunk in acked.chunks(1_000) {
        let records = store.tasks(chunk, Now::Store).await.unwrap();
        for (id, record) in chunk.iter().zip(records) {
            let record = record.unwrap_or_else(|| unreachable!("{id} is lost"));
            assert!(record.state.is_terminal(), "{record:?}");
            let finished = book.finished.get(id).copied().unwrap_or(0);
            let reopened = book.reopened.get(id).copied().unwrap_or(0);
            assert!(finished <= 1 + reopened, "{id} was completed {finished} times, {record:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_or_doubled_when_everything_happens_at_once() {
    let Some(sandbox) = support::sandbox() else { return };
    let pool = sandbox.pool(16).await;
    let options = || sandbox.options().max_connections(6);
    let stores = [
        options().connect(&sandbox.url).await.unwrap(),
        options().connect(&sandbox.url).await.unwrap(),
        options().from_pool(pool.clone()).await.unwrap(),
    ];
    let book = Arc::new(Mutex::new(Book::default()));
    let (no_more, drained) = (CancellationToken::new(), CancellationToken::new());
    let (mut makers, mut workers) = (JoinSet::new(), JoinSet::new());
    for (server, store) in (1_u128..).zip(&stores) {
        let play = Play {
            store: store.clone(),
            pool: pool.clone(),
            book: Arc::clone(&book),
            no_more: no_more.clone(),
            drained: drained.clone(),
        };
        for worker in 0..3 {
            workers.spawn(play.clone().work(server * 10 + worker));
        }
        workers.spawn(play.clone().rescue());
        makers.spawn(play.clone().enqueue());
        makers.spawn(play.clone().enqueue());
        makers.spawn(play.operate());
    }
    sleep(Duration::from_secs(seconds())).await;
    no_more.cancel();
    makers.join_all().await;
    let is_drained = drains(&stores[0]).await;
    drained.cancel();
    workers.join_all().await;
    let book = std::mem::take(&mut *book.lock().unwrap());
    if seconds() > 2 {
        let claims: Vec<usize> =
            stores.iter().map(|store| format!("{store:?}").matches("Claim {").count()).collect();
        let tasks = (book.acked.len(), book.claims.len());
        print(&format!("{tasks:?} {claims:?} {:#?}", book.errors));
    }
    audit(&book, is_drained, &stores[1], &sandbox, &pool).await;
    for store in stores {
        store.close().await;
    }
}

#[expect(clippy::print_stderr, reason = "a long run by hand tells what it did")]
fn print(text: &str) {
    eprintln!("{text}");
}
