//! Cases of the laws that hold for every role.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
};

use ergon_core::{
    Applied, Command, CommandVerdict, Conclusion, Now, Outcome, ProgressReport, Selection, State,
    StoreError, TaskFilter, TaskId, Token, Verdict,
    report::ClaimReport,
    store::{Beat, BeatReply, Inserted, LEASE_DEFAULT},
    time::whole_micros,
};
use jiff::SignedDuration;

use crate::harness::{
    DAY, HOUR, Harness, MINUTE, SECOND, SERVER, WAITING, cancel_command, complete, held,
};

/// Polls a call so many times, then drops it.
pub(super) async fn abandon<T>(polls: usize, call: impl Future<Output = T>) {
    let mut call = pin!(call);
    for _ in 0..polls {
        let is_done = poll_fn(|context: &mut Context<'_>| {
            Poll::Ready(call.as_mut().poll(context).is_ready())
        });
        if is_done.await {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// How often a call is polled before it is dropped.
pub(super) const POLLS: [usize; 4] = [1, 2, 3, 10];

pub async fn an_empty_batch_answers_an_empty_list(h: Harness) {
    h.insert_one(h.task()).await;
    let empty = async {
        assert_eq!(h.insert(&[]).await, []);
        assert_eq!(h.finish_all(&[]).await, []);
        assert_eq!(h.store.report(&[], h.now()).await.unwrap(), []);
        assert_eq!(h.store.tasks(&[], h.now()).await.unwrap(), []);
        assert_eq!(h.beat(SERVER, &[]).await, BeatReply::default());
        let applied = h.apply_to(Selection::Ids(vec![]), Command::Delete).await;
        assert_eq!(applied, Applied::default());
    };
    h.changing_nothing("empty batches", empty).await;
}

pub async fn a_batch_too_large_is_refused_by_every_role(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let claimed = h.claim_one().await;
    let outcome = Outcome { id, token: claimed.token, conclusion: complete() };
    let beat = Beat::new(SERVER, vec![held(&claimed); 10_001]).now(h.now());
    let report = ClaimReport { id, token: claimed.token, report: ProgressReport::new(1) };
    let ids = vec![id; 10_001];
    let selection = Selection::Ids(ids.clone());
    let calls = async {
        let refused = [
            h.try_insert(&vec![h.task(); 10_001]).await.map(drop),
            h.store.claim(&h.request(1).limit(10_001)).await.map(drop),
            h.store.finish(&vec![outcome; 10_001], h.now()).await.map(drop),
            h.store.beat(&beat).await.map(drop),
            h.store.report(&vec![report; 10_001], h.now()).await.map(drop),
            h.store.tasks(&ids, h.now()).await.map(drop),
            h.store.apply(&selection, &cancel_command(), h.now()).await.map(drop),
        ];
        for (call, answer) in refused.into_iter().enumerate() {
            let is_refused =
                matches!(answer, Err(StoreError::BatchTooLarge { len: 10_001, max: 10_000 }));
            assert!(is_refused, "call {call}: {answer:?}");
        }
    };
    h.changing_nothing("batches too large", calls).await;
}

pub async fn the_given_instant_decides_whatever_the_clock_says(h: Harness) {
    // The store's own clock stands somewhere else than the harness: years later, or anywhere.
    let id = h.insert_one(h.task()).await;
    assert_eq!(h.get(id).await.created_at, h.instant());
    h.advance(DAY * 3_000);
    let claimed = h.claim_one().await;
    assert_eq!(claimed.claimed_at, h.instant());
    assert_eq!(h.rescue().await.done, 0);
    h.conclude(&claimed, complete()).await;
    assert_eq!(h.get(id).await.progress.finished_at, Some(h.instant()));
    assert_eq!(h.prune().await.done, 0);
}

pub async fn an_instant_may_step_back(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let early = Now::At(h.instant() - SignedDuration::from_hours(2));
    assert_eq!(h.store.claim(&h.request(1).now(early)).await.unwrap(), []);
    let claimed = h.claim_one().await;
    let outcome = Outcome { id, token: claimed.token, conclusion: complete() };
    let verdicts = h.store.finish(&[outcome], early).await.unwrap();
    assert_eq!(verdicts, [Verdict::Applied]);
    assert_eq!(h.get(id).await.state, State::Completed);
}

pub async fn instants_given_are_cut_to_microseconds(h: Harness) {
    let fine = h.instant() + SignedDuration::from_nanos(1_999);
    let task = h.task();
    h.store.insert(std::slice::from_ref(&task), Now::At(fine)).await.unwrap();
    let request = h.request(1).now(Now::At(fine));
    let claimed = h.store.claim(&request).await.unwrap();
    assert_eq!(claimed[0].claimed_at, whole_micros(fine));
    assert_eq!(claimed[0].created_at, whole_micros(fine));
}

pub async fn the_stores_own_clock_is_used_when_no_instant_is_given(h: Harness) {
    let task = h.task();
    h.store.insert(std::slice::from_ref(&task), Now::Store).await.unwrap();
    let read = h.store.tasks(&[task.id], Now::Store).await.unwrap().remove(0).unwrap();
    assert_eq!(read.created_at, whole_micros(read.created_at));
    assert_eq!((read.progress.run_at, read.state), (read.created_at, State::Pending));
    let claimed = h.store.claim(&h.request(1).now(Now::Store)).await.unwrap();
    assert!(claimed[0].claimed_at >= read.created_at);
    let outcome = Outcome { id: task.id, token: claimed[0].token, conclusion: complete() };
    let verdicts = h.store.finish(&[outcome], Now::Store).await.unwrap();
    assert_eq!(verdicts, [Verdict::Applied]);
}

pub async fn a_dropped_insert_stored_all_or_nothing(h: Harness) {
    for polls in POLLS {
        let batch = [h.tasks(20), h.pack(20)].concat();
        abandon(polls, h.try_insert(&batch)).await;
        // Repeating it tells: all were there, or all are new.
        let repeated = h.insert(&batch).await;
        assert!(repeated.iter().all(|&answer| answer == repeated[0]), "{repeated:?}");
        assert_ne!(repeated[0], Inserted::Duplicate { of: batch[0].id });
        assert_eq!(h.insert(&batch).await, vec![Inserted::AlreadyExists; 40]);
        h.check_counters().await;
    }
    assert_eq!(h.projection().await.tasks.len(), 40 * POLLS.len());
}

pub async fn a_dropped_claim_is_back_when_its_lease_ends(h: Harness) {
    let ids = h.create(&h.tasks(40)).await;
    for polls in POLLS {
        let request = h.request(10);
        abandon(polls, h.store.claim(&request)).await;
        h.check_counters().await;
    }
    h.advance(LEASE_DEFAULT);
    h.rescue().await;
    assert_eq!(crate::harness::claimed_ids(&h.claim(100).await), ids);
}

pub async fn a_dropped_finish_can_be_repeated(h: Harness) {
    for polls in POLLS {
        h.create(&h.tasks(20)).await;
        let outcome = |task: &ergon_core::ClaimedTask| Outcome {
            id: task.id,
            token: task.token,
            conclusion: complete(),
        };
        let outcomes: Vec<_> = h.claim(20).await.iter().map(outcome).collect();
        abandon(polls, h.store.finish(&outcomes, h.now())).await;
        for verdict in h.finish_all(&outcomes).await {
            assert!(matches!(verdict, Verdict::Applied | Verdict::AlreadyApplied));
        }
        assert_eq!(h.finish_all(&outcomes).await, vec![Verdict::AlreadyApplied; 20]);
        h.check_counters().await;
    }
    let completed = h.queue_info("default").await.counts.get(State::Completed);
    assert_eq!(completed, 20 * u64::try_from(POLLS.len()).unwrap());
}

pub async fn dropped_commands_and_sweeps_leave_the_store_sound(h: Harness) {
    for polls in POLLS {
        let ids = h.create(&h.tasks(10)).await;
        h.claim(4).await;
        let cancel = Selection::Ids(ids.clone());
        let command = cancel_command();
        abandon(polls, h.store.apply(&cancel, &command, h.now())).await;
        h.check_counters().await;
        h.apply_to(cancel, command).await;
        let beat = Beat::new(SERVER, vec![]).now(h.now());
        abandon(polls, h.store.beat(&beat)).await;
        h.advance(LEASE_DEFAULT);
        abandon(polls, h.rescue()).await;
        h.check_counters().await;
        h.rescue().await;
        assert!(ids_in(&h, &ids, State::Cancelled).await, "all are cancelled by now");
        h.advance(DAY + SECOND);
        abandon(polls, h.prune()).await;
        h.check_counters().await;
        h.prune().await;
        assert_eq!(h.projection().await.tasks, []);
    }
}

pub async fn dropped_reads_and_waits_leave_nothing_behind(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let filter = TaskFilter::all();
    let names = [ergon_core::QueueName::default()];
    for polls in POLLS {
        abandon(polls, h.projection()).await;
        abandon(polls, h.count(&filter)).await;
        abandon(polls, h.store.wait_for_work(&names, &[], HOUR)).await;
        abandon(polls, h.store.wait_for_finish(id, HOUR)).await;
    }
    h.claim_and_conclude(id, Conclusion::Release).await;
    assert_eq!(h.state(id).await, Some(State::Pending));
}

pub async fn a_bad_item_never_stops_its_batch(h: Harness) {
    let ids = h.create(&h.tasks(3)).await;
    let claimed = h.claim(3).await;
    let unknown = Outcome { id: TaskId::MAX, token: Token::new(1), conclusion: complete() };
    let good =
        |at: usize| Outcome { id: ids[at], token: claimed[at].token, conclusion: complete() };
    let batch = [unknown.clone(), good(0), unknown.clone(), good(1), good(2), unknown];
    let (stale, applied) = (Verdict::Stale, Verdict::Applied);
    assert_eq!(h.finish_all(&batch).await, [stale, applied, stale, applied, applied, stale]);
    let named = vec![TaskId::MAX, ids[1], TaskId::MIN, ids[0]];
    let verdicts = h.apply_to(Selection::Ids(named), Command::Delete).await.verdicts;
    let verdicts: Vec<_> = verdicts.into_iter().map(|(_, verdict)| verdict).collect();
    let (gone, applied) = (CommandVerdict::NotFound, CommandVerdict::Applied);
    assert_eq!(verdicts, [gone, applied, gone, applied]);
}

pub async fn nothing_unfinished_is_ever_removed_but_by_delete(h: Harness) {
    let waiting = h.in_state(State::Scheduled).await;
    let running = h.in_state(State::Running).await;
    for _ in 0..5 {
        h.advance(DAY * 365);
        h.prune().await;
        h.rescue().await;
        h.claim(10).await;
        h.beat(SERVER, &[]).await;
        h.prune().await;
        assert!(h.find(waiting).await.is_some() && h.find(running).await.is_some());
    }
    h.advance(MINUTE);
    h.rescue().await;
    assert!(WAITING.contains(h.get(waiting).await.state));
    assert_eq!(h.apply(waiting, Command::Delete).await, CommandVerdict::Applied);
    assert_eq!(h.find(waiting).await, None);
}

async fn ids_in(h: &Harness, ids: &[TaskId], state: State) -> bool {
    let read = h.store.tasks(ids, h.now()).await.unwrap();
    read.iter().all(|task| task.as_ref().is_some_and(|task| task.state == state))
}
