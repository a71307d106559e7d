//! The waits against a database that is made up, in a time that is turned.

use std::{
    collections::HashSet,
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
};

use futures_util::future::join_all;
use tokio::{
    sync::Semaphore,
    task::{JoinSet, yield_now},
    time::{Instant, advance},
};

use super::*;
use crate::doorbell::{Doorbell, DoorbellConfig};

mod database;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// A database that answers what it is told to.
#[derive(Debug)]
struct Fake {
    /// When the next task is due.
    due_at: Mutex<Option<Instant>>,
    unfinished: Mutex<HashSet<TaskId>>,
    is_down: Mutex<bool>,
    /// One permit a question, unless there are plenty.
    permits: Semaphore,
    looks: AtomicUsize,
    asks: AtomicUsize,
    /// Of all questions about tasks.
    asked: AtomicU64,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            due_at: Mutex::default(),
            unfinished: Mutex::default(),
            is_down: Mutex::default(),
            permits: Semaphore::new(Semaphore::MAX_PERMITS),
            looks: AtomicUsize::default(),
            asks: AtomicUsize::default(),
            asked: AtomicU64::default(),
        }
    }
}

#[async_trait]
impl Questions for Fake {
    async fn due(
        &self,
        _queues: &[QueueName],
        _kinds: &[KindName],
    ) -> Result<Option<Duration>, StoreError> {
        self.looks.fetch_add(1, SeqCst);
        let due_at = *self.due_at.lock().unwrap();
        self.permits.acquire().await.unwrap().forget();
        self.answer()?;
        Ok(due_at.map(|due_at| due_at.saturating_duration_since(Instant::now())))
    }

    async fn finished(&self, ids: &[TaskId]) -> Result<Vec<TaskId>, StoreError> {
        self.asks.fetch_add(1, SeqCst);
        self.asked.fetch_add(ids.len().try_into().unwrap(), SeqCst);
        let unfinished = self.unfinished.lock().unwrap().clone();
        self.permits.acquire().await.unwrap().forget();
        self.answer()?;
        Ok(ids.iter().copied().filter(|id| !unfinished.contains(id)).collect())
    }
}

impl Fake {
    fn answer(&self) -> Result<(), StoreError> {
        let is_down = *self.is_down.lock().unwrap();
        if is_down { Err(StoreError::Unavailable { source: "down".into() }) } else { Ok(()) }
    }
}

struct Rig {
    fake: Arc<Fake>,
    doorbell: Doorbell,
    waits: Arc<Waits>,
}

impl Rig {
    fn new() -> Self {
        let fake = Arc::new(Fake::default());
        let doorbell = Doorbell::start(DoorbellConfig::new(None, "ergon"));
        let questions: Arc<dyn Questions> = fake.clone();
        let waits = Waits::new(questions, Arc::clone(doorbell.bell()), SECOND);
        Self { fake, doorbell, waits: Arc::new(waits) }
    }

    async fn work(&self, within: Duration) {
        self.waits.wait_for_work(&queues(&["a"]), &kinds(), within).await;
    }

    /// Waits for work in a task of its own, and lets it look; answers how long it waited.
    async fn working(&self, running: &mut JoinSet<Duration>) {
        let (waits, looks) = (Arc::clone(&self.waits), self.looks());
        running.spawn(async move {
            let began = Instant::now();
            waits.wait_for_work(&queues(&["a"]), &kinds(), HOUR).await;
            began.elapsed()
        });
        while self.looks() == looks {
            yield_now().await;
        }
        settle().await;
    }

    fn looks(&self) -> usize {
        self.fake.looks.load(SeqCst)
    }

    fn asks(&self) -> usize {
        self.fake.asks.load(SeqCst)
    }
}

fn queues(names: &[&str]) -> Vec<QueueName> {
    names.iter().map(|name| QueueName::new(name).unwrap()).collect()
}

fn kinds() -> Vec<KindName> {
    vec![KindName::new("kind").unwrap()]
}

fn id(number: u64) -> TaskId {
    TaskId::from_parts(1, number, 0)
}

/// Lets all other tasks go on as far as they can without time.
async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

async fn ended(running: &mut JoinSet<Duration>) -> Duration {
    running.join_next().await.unwrap().unwrap()
}

#[track_caller]
fn check_between(found: Duration, least: Duration, most: Duration) {
    assert!(least <= found && found <= most, "{found:?} is not in {least:?}..={most:?}");
}

#[tokio::test(start_paused = true)]
async fn work_that_is_due_ends_a_wait_at_once() {
    let (rig, began) = (Rig::new(), Instant::now());
    *rig.fake.due_at.lock().unwrap() = Some(began);
    for _ in 0..3 {
        rig.work(HOUR).await;
    }
    assert_eq!((began.elapsed(), rig.looks()), (Duration::ZERO, 3));
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_when_its_queue_rings_and_needs_no_look_for_it() {
    let (rig, mut running) = (Rig::new(), JoinSet::new());
    rig.working(&mut running).await;
    rig.doorbell.ring(&queues(&["b"]));
    settle().await;
    assert_eq!((running.try_join_next().is_none(), rig.looks()), (true, 1));
    rig.doorbell.ring(&queues(&["b", "a"]));
    assert_eq!((ended(&mut running).await, rig.looks()), (Duration::ZERO, 1));
}

#[tokio::test(start_paused = true)]
async fn a_ring_during_the_look_is_not_lost() {
    let (rig, mut running) = (Rig::new(), JoinSet::new());
    rig.fake.permits.forget_permits(Semaphore::MAX_PERMITS);
    rig.working(&mut running).await;
    rig.doorbell.ring(&queues(&["a"]));
    rig.fake.permits.add_permits(1);
    assert_eq!((ended(&mut running).await, rig.looks()), (Duration::ZERO, 1));
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_when_the_next_task_is_due() {
    let (rig, mut running) = (Rig::new(), JoinSet::new());
    rig.doorbell.bell().hear_others();
    *rig.fake.due_at.lock().unwrap() = Some(Instant::now() + SECOND * 3);
    rig.working(&mut running).await;
    // It was moved, which rings.
    *rig.fake.due_at.lock().unwrap() = Some(Instant::now() + SECOND * 2);
    rig.doorbell.ring_later(&queues(&["a"]));
    let waited = ended(&mut running).await;
    check_between(waited, SECOND * 2, Duration::from_millis(2_010));
    assert_eq!(rig.looks(), 3);
}

#[tokio::test(start_paused = true)]
async fn work_that_nobody_rang_for_is_found_by_polling() {
    for (hears, longest) in [(false, SECOND), (true, SECOND * 5)] {
        let (rig, mut running) = (Rig::new(), JoinSet::new());
        if hears {
            rig.doorbell.bell().hear_others();
        }
        rig.working(&mut running).await;
        *rig.fake.due_at.lock().unwrap() = Some(Instant::now());
        check_between(ended(&mut running).await, longest / 2, longest);
        assert_eq!(rig.looks(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_server_hardly_looks() {
    for (hears, most) in [(false, 90), (true, 18)] {
        let (rig, began) = (Rig::new(), Instant::now());
        if hears {
            rig.doorbell.bell().hear_others();
        }
        while began.elapsed() < SECOND * 60 {
            rig.work(SECOND).await;
        }
        assert!(rig.looks() <= most, "{} looks", rig.looks());
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_shared_until_it_rings() {
    let (rig, mut running) = (Rig::new(), JoinSet::new());
    rig.working(&mut running).await;
    for _ in 0..3 {
        rig.work(Duration::from_millis(1)).await;
    }
    assert_eq!(rig.looks(), 1);
    rig.doorbell.ring(&queues(&["a"]));
    ended(&mut running).await;
    rig.work(Duration::from_millis(1)).await;
    assert_eq!(rig.looks(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_look_outlives_its_wait_and_is_the_only_one() {
    let rig = Rig::new();
    rig.fake.permits.forget_permits(Semaphore::MAX_PERMITS);
    for _ in 0..5 {
        rig.work(Duration::from_millis(1)).await;
    }
    rig.fake.permits.add_permits(1);
    rig.waits.settled().await;
    rig.work(Duration::from_millis(1)).await;
    assert_eq!((rig.looks(), rig.fake.permits.available_permits()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_down_ends_no_wait_for_work() {
    let (rig, mut running) = (Rig::new(), JoinSet::new());
    *rig.fake.is_down.lock().unwrap() = true;
    rig.working(&mut running).await;
    advance(SECOND * 2).await;
    settle().await;
    assert!(rig.looks() > 1 && running.try_join_next().is_none());
    *rig.fake.due_at.lock().unwrap() = Some(Instant::now());
    *rig.fake.is_down.lock().unwrap() = false;
    check_between(ended(&mut running).await, SECOND * 2, SECOND * 3);
}

#[tokio::test(start_paused = true)]
async fn a_finished_task_ends_a_wait_at_once() {
    let (rig, began) = (Rig::new(), Instant::now());
    assert!(rig.waits.wait_for_finish(id(1), HOUR).await.unwrap());
    assert_eq!((began.elapsed(), rig.asks()), (Duration::ZERO, 1));
}

#[tokio::test(start_paused = true)]
async fn all_waits_ask_together_and_less_often_with_time() {
    let (rig, began) = (Rig::new(), Instant::now());
    rig.fake.unfinished.lock().unwrap().extend((0..100).map(id));
    let waits = (0..100).map(|number| rig.waits.wait_for_finish(id(number), SECOND * 60));
    let over = async {
        advance(SECOND * 30).await;
        rig.fake.unfinished.lock().unwrap().clear();
    };
    let (finished, ()) = tokio::join!(join_all(waits), over);
    assert!(finished.into_iter().all(|finished| finished.unwrap()));
    check_between(began.elapsed(), SECOND * 30, SECOND * 31);
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_task_ends_no_wait_before_its_time() {
    let (rig, began) = (Rig::new(), Instant::now());
    rig.fake.unfinished.lock().unwrap().extend((0..100).map(id));
    let waits = (0..100).map(|number| rig.waits.wait_for_finish(id(number), SECOND * 60));
    assert!(join_all(waits).await.into_iter().all(|finished| !finished.unwrap()));
    check_between(began.elapsed(), SECOND * 60, SECOND * 61);
    let (asks, asked) = (rig.asks(), rig.fake.asked.load(SeqCst));
    assert!((100..=200).contains(&asks), "{asks} questions");
    assert!(asked <= 200 * 100, "{asked} tasks asked for");
    advance(SECOND * 60).await;
    settle().await;
    assert_eq!(rig.asks(), asks, "nobody waits any more");
}

#[tokio::test(start_paused = true)]
async fn what_this_process_finishes_is_asked_for_at_once() {
    let (rig, began) = (Rig::new(), Instant::now());
    rig.fake.unfinished.lock().unwrap().extend([id(1), id(2)]);
    let wait = rig.waits.wait_for_finish(id(1), HOUR);
    let finish = async {
        advance(SECOND * 10).await;
        settle().await;
        rig.fake.unfinished.lock().unwrap().clear();
        rig.waits.finished([id(2), id(3)]);
        settle().await;
        let asks = rig.asks();
        rig.waits.finished([id(3), id(1)]);
        settle().await;
        assert_eq!(rig.asks(), asks + 1);
    };
    let (finished, ()) = tokio::join!(wait, finish);
    assert!(finished.unwrap());
    assert_eq!(began.elapsed(), SECOND * 10);
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_for_all_hands_that_on() {
    let rig = Rig::new();
    rig.fake.unfinished.lock().unwrap().extend([id(1), id(2)]);
    let first = rig.waits.wait_for_finish(id(1), Duration::from_millis(5));
    let second = rig.waits.wait_for_finish(id(2), HOUR);
    let over = async {
        advance(SECOND).await;
        rig.fake.unfinished.lock().unwrap().clear();
    };
    let (first, second, ()) = tokio::join!(first, second, over);
    assert_eq!((first.unwrap(), second.unwrap()), (false, true));
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_reported_at_the_end_only() {
    let rig = Rig::new();
    *rig.fake.is_down.lock().unwrap() = true;
    let error = rig.waits.wait_for_finish(id(1), SECOND).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    let wait = rig.waits.wait_for_finish(id(1), HOUR);
    let repair = async {
        advance(SECOND).await;
        *rig.fake.is_down.lock().unwrap() = false;
    };
    assert!(tokio::join!(wait, repair).0.unwrap());
}
