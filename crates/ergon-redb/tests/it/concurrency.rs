//! Many callers at once: tokens, outcomes, unique keys, counters; commits are shared.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::{Future, poll_fn},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use ergon_core::{
    ClaimedTask, Command, Conclusion, Selection, StateSet, TaskId, Token, UniqueKey, UniqueScope,
    Verdict,
    store::{Dispatch, Inserted, QueueChange},
};
use ergon_redb::RedbStore;
use ergon_testing::{
    SeededRng,
    harness::{
        Harness, MINUTE, cancel_command, claimed_ids, complete, held, retry, snooze, unique,
    },
};
use tokio::task::JoinSet;

use crate::{
    medium::{Access, Medium, below},
    rig::{OnMedium, check, on},
};

const CALLERS: u64 = 8;
const OPERATIONS: usize = 250;
const TASKS: usize = 12;
const KEYS: usize = 4;

/// What the callers have seen.
#[derive(Debug, Default)]
struct Seen {
    /// Claims, with instants before and after each.
    claims: Vec<(TaskId, Token, u64, u64)>,
    /// How often an outcome of a claim was applied.
    applied: BTreeMap<(TaskId, Token), usize>,
    /// Claims that somebody may finish, or finish again.
    open: Vec<ClaimedTask>,
    ids: BTreeSet<TaskId>,
    /// Who was told to hold which key.
    created: BTreeMap<usize, BTreeSet<TaskId>>,
}

#[derive(Clone)]
struct Caller {
    h: Harness,
    store: RedbStore,
    rng: SeededRng,
    seen: Arc<Mutex<Seen>>,
    /// Counts the beginnings and ends of claims.
    instant: Arc<AtomicU64>,
}

impl Caller {
    fn below(&self, end: usize) -> usize {
        below(&self.rng, end)
    }

    fn tick(&self) -> u64 {
        self.instant.fetch_add(1, Ordering::SeqCst)
    }

    fn any_id(&self) -> Option<TaskId> {
        let seen = self.seen.lock().unwrap();
        seen.ids.iter().nth(self.below(seen.ids.len())).copied()
    }

    fn key(number: usize) -> UniqueKey {
        unique(u8::try_from(number).unwrap(), UniqueScope::UntilFinished)
    }

    async fn insert(&self) {
        let number = self.below(KEYS);
        let task = self.h.task_with(|task| task.spec.unique = Some(Self::key(number)));
        let id = task.id;
        let answer = self.h.insert(&[task]).await[0];
        let mut seen = self.seen.lock().unwrap();
        match answer {
            Inserted::Created => {
                seen.ids.insert(id);
                seen.created.entry(number).or_default().insert(id);
            }
            Inserted::Duplicate { of } => assert_ne!(of, id),
            Inserted::AlreadyExists => unreachable!("ids are never used twice"),
        }
    }

    async fn claim(&self) {
        let began = self.tick();
        let claimed = self.h.claim(1 + self.below(4)).await;
        let ended = self.tick();
        let mut seen = self.seen.lock().unwrap();
        for task in claimed {
            seen.claims.push((task.id, task.token, began, ended));
            seen.open.push(task);
        }
    }

    async fn finish(&self) {
        let claims: Vec<ClaimedTask> = {
            let mut seen = self.seen.lock().unwrap();
            let at = self.below(seen.open.len());
            // Sometimes the claim stays for somebody else to finish again.
            let is_last = self.below(2) == 0;
            let task = seen.open.get(at).cloned();
            if is_last && task.is_some() {
                seen.open.swap_remove(at);
            }
            task.into_iter().collect()
        };
        for task in claims {
            let conclusion = match self.below(5) {
                0 => complete(),
                1 => retry(Duration::ZERO),
                2 => snooze(Duration::ZERO),
                3 => Conclusion::Release,
                _ => ergon_testing::harness::fail(),
            };
            let verdict = self.h.finish(&task, conclusion).await;
            if matches!(verdict, Verdict::Applied | Verdict::CancelRequested) {
                let mut seen = self.seen.lock().unwrap();
                *seen.applied.entry((task.id, task.token)).or_default() += 1;
            }
        }
    }

    async fn order(&self) {
        let Some(id) = self.any_id() else { return };
        let command = match self.below(8) {
            0 => cancel_command(),
            1 => Command::SetPriority { priority: i16::try_from(self.below(5)).unwrap() },
            2 => Command::Reschedule { run_at: self.h.instant() },
            // A plain task may be deleted, and is replaced.
            3 => {
                self.h.apply(id, Command::Delete).await;
                let plain = self.h.insert_one(self.h.task()).await;
                self.seen.lock().unwrap().ids.insert(plain);
                return;
            }
            _ => Command::Retry,
        };
        self.h.apply(id, command).await;
    }

    async fn work(self) {
        for _ in 0..OPERATIONS {
            match self.below(20) {
                0..2 => self.insert().await,
                2..9 => self.claim().await,
                9..15 => self.finish().await,
                15..18 => self.order().await,
                18 => {
                    self.h.advance(MINUTE);
                    self.h.rescue().await;
                }
                _ => {
                    let open = self.seen.lock().unwrap().open.first().map(held);
                    self.h.beat(ergon_testing::harness::SERVER, open.as_slice()).await;
                    drop(self.store.check().await.unwrap());
                }
            }
        }
    }
}

async fn at_random(seed: u64) {
    let store = RedbStore::in_memory().unwrap();
    let h = Harness::new(store.clone());
    let ids = h.create(&h.tasks(TASKS)).await.into_iter().collect();
    let seen = Arc::new(Mutex::new(Seen { ids, ..Seen::default() }));
    let mut callers = JoinSet::new();
    let instant = Arc::new(AtomicU64::new(0));
    for number in 0..CALLERS {
        let rng = SeededRng::new(seed * CALLERS + number);
        let (seen, instant) = (Arc::clone(&seen), Arc::clone(&instant));
        let caller = Caller { h: h.clone(), store: store.clone(), rng, seen, instant };
        callers.spawn(caller.work());
    }
    callers.join_all().await;
    check(&store).await;
    h.check_counters().await;
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert!(seen.claims.len() > 200, "{} claims", seen.claims.len());
    assert!(seen.applied.values().all(|&times| times == 1), "seed {seed}: {:?}", seen.applied);
    let mut tokens = BTreeSet::new();
    for &(id, token, began, ended) in &seen.claims {
        assert!(tokens.insert((id, token)), "seed {seed}: token {token} of {id} was given twice");
        let earlier = seen.claims.iter().filter(|claim| claim.0 == id && claim.3 < began);
        let later = seen.claims.iter().filter(|claim| claim.0 == id && claim.2 > ended);
        assert!(earlier.map(|claim| claim.1).all(|it| it < token), "seed {seed}: {id}");
        assert!(later.map(|claim| claim.1).all(|it| it > token), "seed {seed}: {id}");
    }
    for (number, ids) in seen.created {
        // One that was finished and retried by order runs without the key.
        let again = h.task_with(|task| task.spec.unique = Some(Caller::key(number)));
        if let [Inserted::Duplicate { of }] = h.insert(&[again]).await[..] {
            assert!(ids.contains(&of), "seed {seed}: key {number} is held by {of}");
            let holder = h.get(of).await;
            assert!(StateSet::UNFINISHED.contains(holder.state), "seed {seed}: {holder:?}");
        }
    }
    check(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations_of_many_callers_obey_the_laws() {
    for seed in 0..4 {
        at_random(seed).await;
    }
}

#[tokio::test]
async fn enqueues_that_come_during_a_commit_share_the_next() {
    const LEN: usize = 300;
    let medium = Medium::default();
    let rig = OnMedium::open(&medium, RedbStore::builder()).await;
    let h = Harness::new(rig.store.clone());
    h.create(&h.tasks(1)).await;
    let before = medium.syncs();
    h.create(&h.tasks(1)).await;
    let of_one = medium.syncs() - before;
    medium.block(Access::Changes);
    let mut callers = JoinSet::new();
    for _ in 0..LEN {
        let h = h.clone();
        callers.spawn(async move { h.create(&h.tasks(1)).await });
    }
    tokio::task::yield_now().await;
    medium.until_blocked();
    let before = medium.syncs();
    medium.unblock();
    callers.join_all().await;
    let commits = (medium.syncs() - before) / of_one;
    assert!(commits <= LEN / 10, "{commits} commits of {LEN} enqueues");
    assert_eq!(h.projection().await.tasks.len(), LEN + 2);
    check(&rig.store).await;
}

/// Polls a future so many times, then drops it; says whether it was done.
async fn poll_and_drop<T>(future: impl Future<Output = T>, times: usize) -> bool {
    let mut future = Box::pin(future);
    for _ in 0..times {
        let poll = poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready()));
        if poll.await {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

#[tokio::test]
async fn a_claim_that_is_dropped_claims_nothing() {
    const LEN: usize = 20;
    let first = Medium::default();
    let killed = {
        let rig = OnMedium::open(&first, RedbStore::builder()).await;
        let image = first.image();
        rig.store.close().await.unwrap();
        Medium::new(image)
    };
    // After a kill a claim is written before it is answered, so that it can be dropped in between.
    let rig = OnMedium::open(&killed, RedbStore::builder()).await;
    let h = on(&Harness::new(rig.store.clone()), &rig.store);
    let ids = h.create(&h.tasks(LEN)).await;
    let mut newest = Token::NONE;
    let mut dropped = 0;
    for round in 0..150 {
        let request = h.request(LEN);
        if poll_and_drop(rig.store.claim(&request), round % 3 + 1).await {
            // It was answered: the claims are the caller's, who is gone.
            h.advance(MINUTE);
            h.rescue().await;
            continue;
        }
        dropped += 1;
        // Whatever was given back is by now.
        h.set_queue("default", QueueChange::resume()).await;
        let claimed = h.claim(LEN).await;
        assert_eq!(claimed_ids(&claimed), ids, "round {round}");
        assert!(claimed.iter().all(|task| task.token > newest), "round {round}");
        newest = claimed.iter().map(|task| task.token).max().unwrap();
        for task in &claimed {
            assert_eq!(
                (task.attempt, h.finish(task, Conclusion::Release).await),
                (1, Verdict::Applied)
            );
        }
    }
    assert!(dropped > 50, "{dropped} claims were dropped");
    check(&rig.store).await;
}

#[tokio::test]
async fn other_calls_that_are_dropped_happen_or_not() {
    let store = RedbStore::in_memory().unwrap();
    let h = Harness::new(store.clone());
    for round in 0..100 {
        let tasks = h.tasks(3);
        let ids: Vec<TaskId> = tasks.iter().map(|task| task.id).collect();
        poll_and_drop(h.insert(&tasks), round % 3).await;
        let command = cancel_command();
        let selection = Selection::Ids(ids.clone());
        poll_and_drop(h.apply_to(selection, command), round % 2).await;
        h.set_queue("default", QueueChange::resume()).await;
        let found = h.store.tasks(&ids, h.now()).await.unwrap();
        let there = found.iter().flatten().count();
        assert!(there == 0 || there == 3, "round {round}: {there} of 3");
    }
    check(&store).await;
    h.check_counters().await;
}
