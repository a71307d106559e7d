//! Cases of many callers at once.

use std::collections::{BTreeMap, BTreeSet};

use ergon_core::{
    ClaimedTask, Command, CommandVerdict, State, TaskFilter, TaskId, Token, UniqueScope, Verdict,
    store::{Inserted, LEASE_DEFAULT, QueueChange},
};
use tokio::task::JoinSet;

use crate::harness::{
    Harness, MINUTE, OTHER_SERVER, SECOND, SERVER, cancel_command, complete, every_conclusion,
    fail, held, retry, unique,
};

/// Runs `len` callers at once, and answers what they answer in the order of their numbers.
pub(super) async fn at_once<T, F>(
    h: &Harness,
    len: usize,
    caller: impl Fn(Harness, usize) -> F,
) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut callers = JoinSet::new();
    for number in 0..len {
        let call = caller(h.clone(), number);
        callers.spawn(async move { (number, call.await) });
    }
    let mut answers: Vec<_> = callers.join_all().await;
    answers.sort_by_key(|&(number, _)| number);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

pub async fn of_64_enqueues_with_one_key_exactly_one_is_created(h: Harness) {
    let scopes = [UniqueScope::UntilStarted, UniqueScope::UntilFinished, UniqueScope::For(MINUTE)];
    for (number, scope) in (0..).zip(scopes) {
        let key = unique(number, scope);
        let answers = at_once(&h, 64, move |h, _| async move {
            let task = h.task_with(|task| task.spec.unique = Some(key));
            (task.id, h.insert(&[task]).await[0])
        })
        .await;
        let created: Vec<TaskId> = answers
            .iter()
            .filter(|(_, answer)| *answer == Inserted::Created)
            .map(|&(id, _)| id)
            .collect();
        assert_eq!(created.len(), 1, "{scope:?}");
        let of = created[0];
        let duplicates =
            answers.iter().filter(|(_, answer)| *answer == Inserted::Duplicate { of }).count();
        assert_eq!(duplicates, 63, "{scope:?}");
    }
    assert_eq!(h.projection().await.tasks.len(), 3);
}

pub async fn the_same_task_enqueued_at_once_is_created_once(h: Harness) {
    let tasks = h.tasks(5);
    let answers = at_once(&h, 32, |h, _| {
        let tasks = tasks.clone();
        async move { h.insert(&tasks).await }
    })
    .await;
    let created = answers.iter().filter(|answer| **answer == [Inserted::Created; 5]).count();
    let known = answers.iter().filter(|answer| **answer == [Inserted::AlreadyExists; 5]).count();
    assert_eq!((created, known), (1, 31));
}

pub async fn overlapping_batches_are_each_whole(h: Harness) {
    let tasks = h.tasks(30);
    let answers = at_once(&h, 6, |h, number| {
        let mut batch = tasks.clone();
        batch.rotate_left(number * 5);
        async move {
            let answers = h.insert(&batch).await;
            let ids = batch.iter().map(|task| task.id);
            ids.zip(answers).collect::<Vec<_>>()
        }
    })
    .await;
    let created = answers.iter().flatten().filter(|(_, answer)| *answer == Inserted::Created);
    let created: Vec<TaskId> = created.map(|&(id, _)| id).collect();
    assert_eq!((created.len(), created.iter().collect::<BTreeSet<_>>().len()), (30, 30));
}

pub async fn no_task_is_given_to_two_servers(h: Harness) {
    let ids = h.create(&[h.tasks(200), h.pack(200)].concat()).await;
    let claims = at_once(&h, 8, |h, number| async move {
        let server = if number % 2 == 0 { SERVER } else { OTHER_SERVER };
        let mut all = Vec::new();
        loop {
            let claimed = h.claim_as(server, 7).await;
            if claimed.is_empty() {
                break all;
            }
            all.extend(claimed);
        }
    })
    .await;
    let claimed: Vec<TaskId> = claims.iter().flatten().map(|task| task.id).collect();
    let distinct: BTreeSet<TaskId> = claimed.iter().copied().collect();
    assert_eq!((claimed.len(), distinct.len()), (400, 400));
    assert!(ids.iter().all(|id| distinct.contains(id)));
}

pub async fn of_many_finishes_of_a_claim_one_is_applied(h: Harness) {
    for round in 0..5 {
        h.insert_one(h.task()).await;
        let claimed = h.claim_one().await;
        let verdicts = at_once(&h, 16, |h, number| {
            let claimed = claimed.clone();
            async move {
                let is_even = (number + round) % 2 == 0;
                let conclusion = if is_even { complete() } else { fail() };
                (is_even, h.finish(&claimed, conclusion).await)
            }
        })
        .await;
        let first: Vec<_> = verdicts.iter().filter(|(_, v)| *v == Verdict::Applied).collect();
        assert_eq!(first.len(), 1, "{verdicts:?}");
        for (is_even, verdict) in &verdicts {
            let is_same = *is_even == first[0].0;
            let expected = if is_same { Verdict::AlreadyApplied } else { Verdict::Stale };
            assert!(*verdict == expected || *verdict == Verdict::Applied, "{verdicts:?}");
        }
        let expected = if first[0].0 { State::Completed } else { State::Failed };
        assert_eq!(h.state(claimed.id).await, Some(expected));
    }
}

pub async fn a_cancel_and_a_finish_at_once_agree(h: Harness) {
    for _ in 0..20 {
        let id = h.insert_one(h.task()).await;
        let claimed = h.claim_this(id).await;
        let (cancelled, finished) =
            tokio::join!(h.apply(id, cancel_command()), h.finish(&claimed, complete()));
        let expected = match (cancelled, finished) {
            (CommandVerdict::Requested, Verdict::CancelRequested) => State::Cancelled,
            (CommandVerdict::Illegal(State::Completed), Verdict::Applied) => State::Completed,
            other => panic!("no order of the two explains {other:?}"),
        };
        assert_eq!(h.state(id).await, Some(expected));
    }
}

pub async fn a_rescue_and_a_finish_at_once_agree(h: Harness) {
    for _ in 0..20 {
        let id = h.insert_one(h.task()).await;
        let claimed = h.claim_this(id).await;
        h.advance(LEASE_DEFAULT);
        let (rescued, finished) = tokio::join!(h.rescue(), h.finish(&claimed, complete()));
        let expected = match (rescued.done, finished) {
            (1, Verdict::Stale) => State::Pending,
            (0, Verdict::Applied) => State::Completed,
            other => panic!("no order of the two explains {other:?}"),
        };
        assert_eq!(h.state(id).await, Some(expected));
        h.apply(id, Command::Delete).await;
    }
}

pub async fn a_rescue_and_a_beat_at_once_agree(h: Harness) {
    for _ in 0..20 {
        let id = h.insert_one(h.task()).await;
        let claimed = h.claim_this(id).await;
        h.advance(LEASE_DEFAULT);
        let names = [held(&claimed)];
        let (rescued, reply) = tokio::join!(h.rescue(), h.beat(SERVER, &names));
        let is_lost = !reply.lost.is_empty();
        assert_eq!(rescued.done == 1, is_lost, "a lease is renewed or taken, not both");
        let expected = if is_lost { State::Pending } else { State::Running };
        assert_eq!(h.state(id).await, Some(expected));
        h.finish(&claimed, complete()).await;
        h.apply(id, Command::Delete).await;
    }
}

pub async fn after_a_pause_was_answered_nothing_is_claimed(h: Harness) {
    h.create(&h.tasks(500)).await;
    let claims = at_once(&h, 4, |h, number| async move {
        if number == 0 {
            h.set_queue("default", QueueChange::pause()).await;
            return h.claim(1).await.len();
        }
        for _ in 0..20 {
            h.claim(3).await;
        }
        0
    })
    .await;
    assert_eq!(claims[0], 0);
    assert_eq!(h.changing_nothing("paused", h.claim(500)).await, []);
}

pub async fn of_many_deletes_one_is_applied(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let verdicts = at_once(&h, 16, |h, _| async move { h.apply(id, Command::Delete).await }).await;
    let applied = verdicts.iter().filter(|&&v| v == CommandVerdict::Applied).count();
    let gone = verdicts.iter().filter(|&&v| v == CommandVerdict::NotFound).count();
    assert_eq!((applied, gone), (1, 15));
}

pub async fn every_task_runs_to_its_end_under_many_servers(h: Harness) {
    let producers = 3;
    let (per_producer, servers) = (60, 4);
    let runs = at_once(&h, producers + servers, move |h, number| async move {
        let mut runs: Vec<(TaskId, Token)> = Vec::new();
        if number < producers {
            for _ in 0..per_producer / 6 {
                h.create(&h.tasks(6)).await;
                tokio::task::yield_now().await;
            }
            return runs;
        }
        for round in 0..60 {
            for (claimed, at) in h.claim(4).await.iter().zip(number + round..) {
                runs.push((claimed.id, claimed.token));
                end(&h, claimed, at).await;
            }
            tokio::task::yield_now().await;
        }
        runs
    })
    .await;
    let mut rest = runs.into_iter().flatten().collect::<Vec<_>>();
    loop {
        h.advance(SECOND);
        let claimed = h.claim(100).await;
        for task in &claimed {
            rest.push((task.id, task.token));
            h.conclude(task, complete()).await;
        }
        if claimed.is_empty() {
            break;
        }
    }
    let mut tokens: BTreeMap<TaskId, BTreeSet<Token>> = BTreeMap::new();
    for (id, token) in rest {
        assert!(tokens.entry(id).or_default().insert(token), "a token came twice: {id}");
    }
    assert_eq!(tokens.len(), producers * per_producer);
    let completed = h.count(&TaskFilter::all().states(State::Completed)).await;
    assert_eq!(completed.value, u64::try_from(producers * per_producer).unwrap());
}

/// Ends a claim in one of several ways, all of which let the task run on or complete.
async fn end(h: &Harness, claimed: &ClaimedTask, at: usize) {
    let conclusion = match at % 3 {
        0 => retry(SECOND),
        1 => ergon_core::Conclusion::Release,
        _ => complete(),
    };
    assert_eq!(h.finish(claimed, conclusion).await, Verdict::Applied);
}

pub async fn reads_are_whole_while_others_write(h: Harness) {
    h.create(&h.tasks(50)).await;
    at_once(&h, 5, |h, number| async move {
        for round in 0..15 {
            if number == 0 {
                let total: u64 = h.queues().await.iter().map(|queue| queue.counts.total()).sum();
                assert_eq!(total, 50, "counts of one snapshot");
                let page = ergon_core::Page::of(1_000);
                let read = h.store.list(&TaskFilter::all(), &page, h.now()).await.unwrap();
                assert_eq!(read.tasks.len(), 50);
                continue;
            }
            let endings = every_conclusion();
            for (claimed, ending) in h.claim(3).await.iter().zip(endings.iter().cycle().skip(round))
            {
                h.finish(claimed, ending.clone()).await;
            }
        }
    })
    .await;
}
