//! Cases of reading from cursor to cursor while many write at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use ergon_core::{
    ClaimedTask, Command, CommandVerdict, Event, EventKind, State, TaskId, Verdict,
    store::{LEASE_DEFAULT, Recorded},
};
use tokio::sync::Mutex;

use super::{
    concurrency::at_once,
    follow::{busy_history, check_told, hear, lives, report},
};
use crate::harness::{
    Harness, Reader, Told, by_task, cancel_command, complete, record_ids, retry, snooze,
};

/// How long a follower waits for more before it looks again.
const PULSE: Duration = Duration::from_millis(20);

/// Follows until what is written has come to its end, and answers what was read.
async fn follow(reader: &mut Reader, is_over: &AtomicBool) -> Vec<Recorded> {
    let mut recorded = Vec::new();
    loop {
        // Asked before the read, so that the last read sees everything.
        let is_last = is_over.load(Ordering::SeqCst);
        recorded.extend(reader.read_all(7).await);
        if is_last {
            return recorded;
        }
        reader.wait(PULSE).await;
    }
}

pub async fn many_write_at_once_and_every_event_is_read_once(h: Harness) {
    let (producers, batches, servers) = (3, 8, 4);
    let tasks = producers * batches * 3;
    let mut reader = h.watch("suite").await;
    let (open, is_over) = (Arc::new(AtomicUsize::new(tasks)), AtomicBool::new(false));
    let writing = async {
        let done = at_once(&h, producers + servers, |h, number| {
            let open = Arc::clone(&open);
            async move {
                if number < producers { produce(&h, batches).await } else { serve(&h, &open).await }
            }
        });
        let done = done.await;
        is_over.store(true, Ordering::SeqCst);
        done
    };
    let (done, recorded) = tokio::join!(writing, follow(&mut reader, &is_over));
    let read: Vec<Deed> = recorded.iter().filter_map(|recorded| deed(&recorded.event)).collect();
    let sorted = |mut deeds: Vec<Deed>| {
        deeds.sort_unstable();
        deeds
    };
    let expected = done.iter().flatten().flatten().copied().collect();
    assert!(sorted(read.clone()) == sorted(expected), "each event was read once");
    let ids: BTreeSet<_> = recorded.iter().map(|recorded| recorded.id).collect();
    assert_eq!(ids.len(), recorded.len(), "each is another event");
    for calls in done {
        check_order(&read, &calls);
    }
    let mut told = Told::default();
    hear(&mut told, &recorded);
    check_told(&h, &told).await;
}

/// What happened once in the life of a task: it, and in which attempt.
type Deed = (TaskId, EventKind, u16);

fn deed(event: &Event) -> Option<Deed> {
    let task = event.task_ref()?;
    Some((task.id, event.kind(), task.attempt))
}

/// Fails unless what a caller did, call by call, was read in its order: whoever calls knows of what
/// was answered before.
fn check_order(read: &[Deed], calls: &[Vec<Deed>]) {
    let numbered = calls.iter().enumerate();
    let call_of: BTreeMap<Deed, usize> =
        numbered.flat_map(|(call, deeds)| deeds.iter().map(move |&deed| (deed, call))).collect();
    let order: Vec<usize> = read.iter().filter_map(|deed| call_of.get(deed).copied()).collect();
    assert!(order.is_sorted(), "the calls of one caller were read in the order {order:?}");
}

/// Inserts batches of three; answers what each call did.
async fn produce(h: &Harness, batches: usize) -> Vec<Vec<Deed>> {
    let mut calls = Vec::new();
    for _ in 0..batches {
        let ids = h.create(&h.tasks(3)).await;
        calls.push(ids.into_iter().map(|id| (id, EventKind::TaskEnqueued, 0)).collect());
        tokio::task::yield_now().await;
    }
    calls
}

/// Runs tasks until all are completed; answers what each call did.
async fn serve(h: &Harness, open: &AtomicUsize) -> Vec<Vec<Deed>> {
    let mut calls = Vec::new();
    while open.load(Ordering::SeqCst) > 0 {
        let claimed = h.claim(3).await;
        let deed = |task: &ClaimedTask, kind| (task.id, kind, task.attempt);
        calls.push(claimed.iter().map(|task| deed(task, EventKind::TaskStarted)).collect());
        for task in claimed {
            assert_eq!(report(h, &task, 1).await, Verdict::Applied);
            calls.push(vec![deed(&task, EventKind::TaskProgressed)]);
            let (conclusion, kind) = match task.attempt {
                1 => (retry(Duration::ZERO), EventKind::TaskRetried),
                _ => (complete(), EventKind::TaskCompleted),
            };
            h.conclude(&task, conclusion).await;
            calls.push(vec![deed(&task, kind)]);
            if kind == EventKind::TaskCompleted {
                open.fetch_sub(1, Ordering::SeqCst);
            }
        }
        tokio::task::yield_now().await;
    }
    calls
}

pub async fn of_a_task_in_many_hands_the_order_is_told(h: Harness) {
    let mut reader = h.watch("suite").await;
    let ids = h.create(&h.tasks(4)).await;
    let is_over = AtomicBool::new(false);
    let writing = async {
        at_once(&h, 6, |h, number| {
            let ids = ids.clone();
            async move {
                for round in 0..20 {
                    meddle(&h, ids[(number + round) % ids.len()], number + round).await;
                }
            }
        })
        .await;
        is_over.store(true, Ordering::SeqCst);
    };
    let ((), recorded) = tokio::join!(writing, follow(&mut reader, &is_over));
    let mut told = Told::default();
    hear(&mut told, &recorded);
    check_told(&h, &told).await;
    assert!(recorded.len() > ids.len() * 5, "much happens to few tasks: {}", recorded.len());
}

/// Does one of many things to a task, or to whichever is due.
async fn meddle(h: &Harness, id: TaskId, choice: usize) {
    match choice % 6 {
        0..=2 => {
            for task in h.claim(2).await {
                let endings = [complete(), retry(Duration::ZERO), snooze(Duration::ZERO)];
                h.finish(&task, endings[choice % 3].clone()).await;
            }
        }
        3 => drop(h.apply(id, Command::Retry).await),
        4 => {
            let priority = i16::try_from(choice).unwrap();
            h.apply(id, Command::SetPriority { priority }).await;
        }
        _ => drop(h.apply(id, cancel_command()).await),
    }
}

pub async fn the_end_of_the_journal_lies_between_what_was_and_what_comes(h: Harness) {
    h.watch("suite").await;
    let answered: Arc<Mutex<BTreeSet<TaskId>>> = Arc::default();
    let reads = at_once(&h, 5, |h, number| {
        let answered = Arc::clone(&answered);
        async move {
            let mut reads = Vec::new();
            for _ in 0..15 {
                if number < 3 {
                    let ids = h.create(&h.tasks(2)).await;
                    answered.lock().await.extend(ids);
                    continue;
                }
                let before = answered.lock().await.clone();
                let reader = h.reader_at_end().await;
                let shown = record_ids(&h.projection().await.tasks);
                reads.push((before, reader, BTreeSet::from_iter(shown)));
            }
            reads
        }
    })
    .await;
    let all = answered.lock().await.clone();
    assert_eq!(all.len(), 90);
    for (before, mut reader, shown) in reads.into_iter().flatten() {
        let read: Vec<TaskId> = lives(&reader.events().await).into_keys().collect();
        assert!(read.iter().all(|id| !before.contains(id)), "what was answered is read again");
        let known: BTreeSet<TaskId> = shown.iter().chain(&read).copied().collect();
        assert_eq!(known, all, "what the page and the events behind it show is everything");
    }
}

pub async fn many_readers_read_the_same(h: Harness) {
    let first = h.watch("suite").await;
    let is_over = Arc::new(AtomicBool::new(false));
    let reads = at_once(&h, 5, |h, number| {
        let (mut reader, is_over) = (first.clone(), Arc::clone(&is_over));
        async move {
            if number > 0 {
                return follow(&mut reader, &is_over).await;
            }
            busy_history(&h).await;
            is_over.store(true, Ordering::SeqCst);
            vec![]
        }
    })
    .await;
    // Each has read every event once; who reads at another time may meet tasks in another order.
    let sorted = |read: &[Recorded]| {
        let mut read = read.to_vec();
        read.sort_by_key(|recorded| recorded.id);
        read
    };
    let whole = sorted(&reads[1]);
    assert!(whole.len() > 100, "{}", whole.len());
    for read in &reads[2..] {
        assert!(sorted(read) == whole, "a reader missed something");
        let mut told = Told::default();
        hear(&mut told, read);
        check_told(&h, &told).await;
    }
}

pub async fn an_operator_and_a_worker_at_once_are_told_in_one_order(h: Harness) {
    let (mut reader, mut told) = (h.watch("suite").await, Told::default());
    for _ in 0..20 {
        let id = h.insert_one(h.task()).await;
        let claimed = h.claim_this(id).await;
        let (cancelled, finished) =
            tokio::join!(h.apply(id, cancel_command()), h.finish(&claimed, complete()));
        let events = reader.events().await;
        events.iter().for_each(|event| told.hear(event).unwrap());
        let expected = match (cancelled, finished) {
            (CommandVerdict::Requested, Verdict::CancelRequested) => {
                vec![EventKind::TaskCancelRequested, EventKind::TaskCancelled]
            }
            (CommandVerdict::Illegal(State::Completed), Verdict::Applied) => {
                vec![EventKind::TaskCompleted]
            }
            other => panic!("no order of the two explains {other:?}"),
        };
        assert_eq!(lives(&events)[&id][2..], expected);
        check_told(&h, &told).await;
    }
}

pub async fn a_rescue_and_a_finish_at_once_tell_of_one_of_them(h: Harness) {
    let mut reader = h.watch("suite").await;
    for _ in 0..20 {
        let id = h.insert_one(h.task()).await;
        let claimed = h.claim_this(id).await;
        h.advance(LEASE_DEFAULT);
        let (rescued, finished) = tokio::join!(h.rescue(), h.finish(&claimed, complete()));
        let expected = match (rescued.done, finished) {
            (1, Verdict::Stale) => EventKind::TaskRescued,
            (0, Verdict::Applied) => EventKind::TaskCompleted,
            other => panic!("no order of the two explains {other:?}"),
        };
        h.apply(id, Command::Delete).await;
        let events = by_task(reader.events().await);
        let started = [EventKind::TaskEnqueued, EventKind::TaskStarted];
        let life = [started.as_slice(), &[expected, EventKind::TaskDeleted]].concat();
        assert_eq!(lives(&events), BTreeMap::from([(id, life)]));
    }
}
