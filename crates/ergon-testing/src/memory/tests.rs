//! What the memory store does where the laws leave a choice, and how it wakes those who wait.

use std::time::Duration;

use ergon_core::{
    Command, CommandVerdict, Conclusion, Manager, NewTask, Outcome, RunAt, Selection, State,
    StateSet, TaskFilter, UniqueKey, Verdict,
    store::{
        Beat, ClaimRequest, Control, Dispatch, Enqueue, Held, Inserted, Inspect, Maintain,
        PruneRequest, QueueChange, QueueSlots, RescueRequest,
    },
};
use futures_util::FutureExt;
use tokio::time::Instant;

use super::*;
use crate::{TokioClock, VirtualClock};

mod invariants;
mod journal;

const SECOND: Duration = Duration::from_secs(1);
const SERVER: ServerId = ServerId::from_u128(1);

fn kind() -> KindName {
    KindName::new("k").unwrap()
}

fn id(number: u64) -> TaskId {
    TaskId::from_parts(1, number, 0)
}

fn task(number: u64) -> NewTask {
    NewTask::new(id(number), TaskSpec::new(kind(), "{}"))
}

fn unique(number: u64, scope: UniqueScope) -> NewTask {
    let mut task = task(number);
    task.spec.unique = Some(UniqueKey { hash: [7; 32], scope });
    task
}

/// A store, and the clock that decides for it.
fn store() -> (MemoryStore, VirtualClock) {
    let clock = VirtualClock::default();
    (MemoryStore::builder().clock(Arc::new(clock.clone())).build(), clock)
}

async fn insert(store: &MemoryStore, tasks: &[NewTask]) -> Vec<Inserted> {
    store.insert(tasks, Now::Store).await.unwrap()
}

fn claim_request(slots: usize) -> ClaimRequest {
    ClaimRequest::new(SERVER, [kind()], [QueueSlots { queue: QueueName::default(), slots }])
}

async fn claim(store: &MemoryStore, slots: usize) -> Vec<Held> {
    let claimed = store.claim(&claim_request(slots)).await.unwrap();
    claimed.into_iter().map(|task| Held { id: task.id, token: task.token }).collect()
}

async fn finish(store: &MemoryStore, held: Held, conclusion: Conclusion) -> Verdict {
    let outcome = Outcome { id: held.id, token: held.token, conclusion };
    store.finish(&[outcome], Now::Store).await.unwrap()[0]
}

async fn state(store: &MemoryStore, number: u64) -> Option<State> {
    let found = store.tasks(&[id(number)], Now::Store).await.unwrap();
    found[0].as_ref().map(|task| task.state)
}

#[tokio::test]
async fn tokens_are_one_counter_and_go_on_over_retries() {
    let (store, _clock) = store();
    insert(&store, &[task(1), task(2)]).await;
    let held = claim(&store, 2).await;
    assert_eq!(held.iter().map(|held| held.token.get()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(finish(&store, held[0], Conclusion::Release).await, Verdict::Applied);
    let again = claim(&store, 2).await;
    assert_eq!(again, [Held { id: id(1), token: Token::new(3) }]);
    assert_eq!(finish(&store, held[0], Conclusion::Release).await, Verdict::AlreadyApplied);
    assert_eq!(
        finish(&store, held[0], Conclusion::Complete { result: None }).await,
        Verdict::Stale
    );
}

#[tokio::test]
async fn a_stored_id_wins_over_a_duplicate_key() {
    let (store, clock) = store();
    let scope = UniqueScope::For(SECOND * 10);
    assert_eq!(insert(&store, &[unique(1, scope), task(2)]).await, [Inserted::Created; 2]);
    let again = insert(&store, &[unique(2, scope), unique(1, scope), unique(3, scope)]).await;
    let duplicate = Inserted::Duplicate { of: id(1) };
    assert_eq!(again, [Inserted::AlreadyExists, Inserted::AlreadyExists, duplicate]);
    clock.advance(SECOND * 10);
    assert_eq!(insert(&store, &[unique(3, scope)]).await, [Inserted::Created]);
}

#[tokio::test]
async fn a_key_for_a_time_outlives_its_pruned_task_but_not_its_deleted_one() {
    let (store, clock) = store();
    let scope = UniqueScope::For(SECOND * 3600 * 48);
    insert(&store, &[unique(1, scope)]).await;
    let held = claim(&store, 1).await[0];
    finish(&store, held, Conclusion::Complete { result: None }).await;
    clock.advance(SECOND * 3600 * 24);
    assert_eq!(store.prune(&PruneRequest::default()).await.unwrap().done, 1);
    assert_eq!(state(&store, 1).await, None);
    let duplicate = Inserted::Duplicate { of: id(1) };
    let again = insert(&store, &[unique(1, scope), unique(2, scope)]).await;
    assert_eq!(again, [Inserted::AlreadyExists, duplicate]);
    clock.advance(SECOND * 3600 * 24);
    assert_eq!(insert(&store, &[unique(2, scope)]).await, [Inserted::Created]);
    Manager::new(store.clone()).control().delete(id(2)).await.unwrap();
    assert_eq!(insert(&store, &[unique(3, scope)]).await, [Inserted::Created]);
}

#[tokio::test]
async fn a_key_is_freed_when_its_scope_is_left_and_never_regained() {
    let (store, _clock) = store();
    insert(&store, &[unique(1, UniqueScope::UntilStarted)]).await;
    let held = claim(&store, 1).await[0];
    finish(&store, held, Conclusion::Release).await;
    assert_eq!(insert(&store, &[unique(2, UniqueScope::UntilFinished)]).await, [Inserted::Created]);
    // What the first task does does not touch the key of the second.
    let both = claim(&store, 2).await;
    finish(&store, both[0], Conclusion::Complete { result: None }).await;
    let duplicate = Inserted::Duplicate { of: id(2) };
    assert_eq!(insert(&store, &[unique(3, UniqueScope::UntilFinished)]).await, [duplicate]);
    finish(&store, both[1], Conclusion::Complete { result: None }).await;
    let control = Manager::new(store.clone());
    control.control().retry(id(2)).await.unwrap();
    assert_eq!(insert(&store, &[unique(3, UniqueScope::UntilFinished)]).await, [Inserted::Created]);
}

#[tokio::test]
async fn a_key_of_a_finished_state_is_freed_by_the_prune() {
    let (store, clock) = store();
    let scope = UniqueScope::While(StateSet::ALL);
    insert(&store, &[unique(1, scope)]).await;
    let held = claim(&store, 1).await[0];
    finish(&store, held, Conclusion::Complete { result: None }).await;
    assert_eq!(insert(&store, &[unique(2, scope)]).await, [Inserted::Duplicate { of: id(1) }]);
    clock.advance(SECOND * 3600 * 24);
    store.prune(&PruneRequest::default()).await.unwrap();
    assert_eq!(insert(&store, &[unique(2, scope)]).await, [Inserted::Created]);
}

#[tokio::test]
async fn a_beat_renews_what_it_names_if_the_server_holds_it() {
    let (store, clock) = store();
    insert(&store, &[task(1), task(2), task(3)]).await;
    let held = claim(&store, 3).await;
    let manager = Manager::new(store.clone());
    manager.control().cancel(id(2), "").await.unwrap();
    clock.advance(SECOND * 40);
    let stranger = Beat::new(ServerId::from_u128(2), vec![held[1], held[0]]);
    assert_eq!(store.beat(&stranger).await.unwrap().lost, [held[1], held[0]]);
    let old = Held { id: id(1), token: Token::new(99) };
    // The leases are over, but nobody took the tasks back yet.
    let reply = store.beat(&Beat::new(SERVER, vec![held[1], old, held[0]])).await.unwrap();
    assert_eq!((reply.lost, reply.cancelled), (vec![old], vec![held[1]]));
    assert_eq!(store.rescue_expired(&RescueRequest::default()).await.unwrap().done, 1);
    assert_eq!(state(&store, 3).await, Some(State::Pending));
    assert_eq!(store.beat(&Beat::new(SERVER, vec![held[2]])).await.unwrap().lost, [held[2]]);
}

#[tokio::test]
async fn sweeps_take_the_earliest_first_and_say_when_more_is_waiting() {
    let (store, clock) = store();
    insert(&store, &[task(3), task(1), task(2)]).await;
    let late = claim_request(1).lease(SECOND * 20);
    assert_eq!(store.claim(&late).await.unwrap()[0].id, id(1));
    store.claim(&claim_request(2).lease(SECOND * 10)).await.unwrap();
    clock.advance(SECOND * 20);
    let report = store.rescue_expired(&RescueRequest::default().limit(2)).await.unwrap();
    assert_eq!((report.done, report.more), (2, true));
    assert_eq!(state(&store, 1).await, Some(State::Running));
    let report = store.rescue_expired(&RescueRequest::default()).await.unwrap();
    assert_eq!((report.done, report.more), (1, false));
}

#[tokio::test]
async fn a_selection_is_decided_before_the_command_and_repeated_ids_in_order() {
    let (store, clock) = store();
    let mut later = task(1);
    later.run_at = RunAt::After(SECOND * 60);
    insert(&store, &[later, task(2), task(3)]).await;
    let pending = TaskFilter::all().states(State::Pending);
    let matching = Selection::Matching { filter: pending, limit: 1 };
    let run_at = clock.now() + jiff::SignedDuration::from_secs(9);
    let command = Command::Reschedule { run_at };
    for (expected, more) in [(2, true), (3, false)] {
        let applied = store.apply(&matching, &command, Now::Store).await.unwrap();
        assert_eq!(applied.verdicts, [(id(expected), CommandVerdict::Applied)]);
        assert_eq!(applied.more, more);
    }
    let twice = Selection::Ids(vec![id(3), id(2), id(3)]);
    let applied = store.apply(&twice, &Command::Delete, Now::Store).await.unwrap();
    let (done, gone) = (CommandVerdict::Applied, CommandVerdict::NotFound);
    assert_eq!(applied.verdicts, [(id(3), done), (id(2), done), (id(3), gone)]);
}

#[tokio::test]
async fn leases_and_limits_out_of_range_are_refused() {
    let (store, _clock) = store();
    assert!(store.claim(&claim_request(0).lease(Duration::ZERO)).await.is_err());
    assert!(store.claim(&claim_request(1).limit(10_001)).await.is_err());
    assert!(store.beat(&Beat::new(SERVER, vec![]).lease(Duration::ZERO)).await.is_err());
    assert!(store.prune(&PruneRequest::default().limit(0)).await.is_err());
    assert_eq!(store.claim(&claim_request(1).limit(0)).await.unwrap(), []);
}

/// A store whose clock goes with a paused runtime.
fn waiting_store() -> MemoryStore {
    MemoryStore::builder().clock(Arc::new(TokioClock::default())).build()
}

async fn wait_for_work(store: &MemoryStore, within: Duration) -> Duration {
    let start = Instant::now();
    store.wait_for_work(&[QueueName::default()], &[kind()], within).await;
    start.elapsed()
}

/// How long a wait of an hour lasts when `change` happens after 5 seconds.
async fn wait_through<T>(store: &MemoryStore, change: impl AsyncFnOnce() -> T) -> Duration {
    let changing = async {
        tokio::time::sleep(SECOND * 5).await;
        change().await;
    };
    tokio::join!(wait_for_work(store, SECOND * 3600), changing).0
}

#[tokio::test(start_paused = true)]
async fn work_ends_a_wait_and_work_for_others_does_not() {
    let store = waiting_store();
    insert(&store, &[task(1)]).await;
    assert_eq!(wait_for_work(&store, SECOND).await, Duration::ZERO);
    // A server of another kind, or of another queue, waits in peace.
    let start = Instant::now();
    let (own, other) = (QueueName::default(), QueueName::new("other").unwrap());
    store.wait_for_work(&[own], &[KindName::new("other").unwrap()], SECOND).await;
    store.wait_for_work(&[other], &[kind()], SECOND).await;
    assert_eq!(start.elapsed(), SECOND * 2);
    assert_eq!(claim(&store, 2).await.len(), 1);
    assert_eq!(wait_for_work(&store, Duration::ZERO).await, Duration::ZERO);
    assert_eq!(wait_for_work(&store, SECOND).await, SECOND);
    assert_eq!(wait_through(&store, async || insert(&store, &[task(2)]).await).await, SECOND * 5);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_comes_due_ends_a_wait() {
    let store = waiting_store();
    let mut later = task(1);
    later.run_at = RunAt::After(SECOND * 30);
    insert(&store, &[later]).await;
    assert_eq!(claim(&store, 1).await, []);
    assert_eq!(wait_for_work(&store, SECOND * 10).await, SECOND * 10);
    assert_eq!(wait_for_work(&store, SECOND * 3600).await, SECOND * 20);
    assert_eq!(claim(&store, 1).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn whatever_makes_a_task_due_ends_a_wait() {
    let store = waiting_store();
    insert(&store, &[task(1)]).await;
    let held = claim(&store, 2).await[0];
    let release = async || finish(&store, held, Conclusion::Release).await;
    assert_eq!(wait_through(&store, release).await, SECOND * 5);

    store.claim(&claim_request(2).lease(SECOND)).await.unwrap();
    let rescue = async || store.rescue_expired(&RescueRequest::default()).await;
    assert_eq!(wait_through(&store, rescue).await, SECOND * 5);

    let held = claim(&store, 2).await[0];
    finish(&store, held, Conclusion::Complete { result: None }).await;
    let manager = Manager::new(store.clone());
    let retry = async || manager.control().retry(id(1)).await;
    assert_eq!(wait_through(&store, retry).await, SECOND * 5);

    store.set_queue(&QueueName::default(), &QueueChange::pause()).await.unwrap();
    assert_eq!(claim(&store, 2).await, []);
    assert_eq!(wait_for_work(&store, SECOND).await, SECOND);
    let queue = QueueName::default();
    let resume = async || store.set_queue(&queue, &QueueChange::resume()).await.unwrap();
    assert_eq!(wait_through(&store, resume).await, SECOND * 5);
}

#[tokio::test(start_paused = true)]
async fn a_finished_or_absent_task_ends_a_wait_for_its_finish() {
    let store = waiting_store();
    insert(&store, &[task(1)]).await;
    assert!(store.wait_for_finish(id(2), SECOND).await.unwrap());
    let held = claim(&store, 1).await[0];
    assert!(!store.wait_for_finish(id(1), SECOND).await.unwrap());
    let wait = store.wait_for_finish(id(1), Duration::MAX);
    let finish = finish(&store, held, Conclusion::Complete { result: None });
    assert!(tokio::join!(wait, finish).0.unwrap());
    assert!(store.wait_for_finish(id(1), Duration::ZERO).now_or_never().unwrap().unwrap());
}

#[tokio::test]
async fn counts_say_when_they_stop() {
    let (store, _clock) = store();
    for batch in 0..2 {
        let tasks: Vec<_> = (0..5_001).map(|number| task(batch * 10_000 + number)).collect();
        insert(&store, &tasks).await;
    }
    let all = store.count(&TaskFilter::all(), Now::Store).await.unwrap();
    assert_eq!((all.value, all.is_exact), (10_002, true));
    let of_kind = store.count(&TaskFilter::all().kind(kind()), Now::Store).await.unwrap();
    assert_eq!((of_kind.value, of_kind.is_exact), (10_000, false));
}

#[tokio::test]
async fn work_from_another_thread_is_never_missed() {
    const ROUNDS: u64 = 500;
    let store = MemoryStore::new();
    let (begin, rounds) = std::sync::mpsc::channel();
    let producer = {
        let store = store.clone();
        std::thread::spawn(move || {
            for number in rounds {
                store.insert(&[task(number)], Now::Store).now_or_never().unwrap().unwrap();
            }
        })
    };
    let patience = SECOND * 60;
    for number in 0..ROUNDS {
        begin.send(number).unwrap();
        while claim(&store, 1).await.is_empty() {
            assert!(wait_for_work(&store, patience).await < patience, "round {number}");
        }
    }
    drop(begin);
    producer.join().unwrap();
}
