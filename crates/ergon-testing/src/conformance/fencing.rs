//! Cases of fencing: which writes of a worker count, and which come too late.

use ergon_core::{
    Command, CommandVerdict, Conclusion, Outcome, State, TaskId, Token, Verdict,
    outcome::ConclusionKind, store::LEASE_DEFAULT,
};

use crate::harness::{
    Harness, MINUTE, OTHER_SERVER, REACHABLE, SECOND, cancel_command, complete, every_conclusion,
    fail, retry, snooze,
};

/// Tokens that no live claim of a task has.
fn foreign_tokens(newest: Token) -> [Token; 5] {
    let newest = newest.get();
    [0, newest.wrapping_sub(1), newest + 1, newest + 1_000, u64::MAX].map(Token::new)
}

pub async fn an_outcome_under_a_foreign_token_changes_nothing_in_any_state(h: Harness) {
    for state in REACHABLE {
        let id = h.in_state(state).await;
        let newest = h.get(id).await.progress.token;
        for conclusion in every_conclusion() {
            for token in foreign_tokens(newest) {
                let context = format!("{state}, {conclusion:?}, token {token}");
                let settle = h.settle(id, token, conclusion.clone());
                let verdict = h.changing_nothing(&context, settle).await;
                assert_eq!(verdict, Verdict::Stale, "{context}");
            }
        }
        h.apply(id, cancel_command()).await;
    }
}

pub async fn an_outcome_in_a_state_other_than_running_changes_nothing(h: Harness) {
    for state in REACHABLE.into_iter().filter(|&state| state != State::Running) {
        let id = h.in_state(state).await;
        let progress = h.get(id).await.progress;
        for conclusion in every_conclusion() {
            let context = format!("{state}, {conclusion:?}");
            let settle = h.settle(id, progress.token, conclusion.clone());
            let verdict = h.changing_nothing(&context, settle).await;
            let is_repeated = progress.settled.is_some_and(|s| s.kind == conclusion.kind());
            let expected = if is_repeated { Verdict::AlreadyApplied } else { Verdict::Stale };
            assert_eq!(verdict, expected, "{context}");
        }
        h.apply(id, cancel_command()).await;
    }
}

pub async fn finish_of_a_stale_claim_changes_nothing(h: Harness) {
    for conclusion in every_conclusion() {
        let id = h.insert_one(h.task()).await;
        let stale = h.claim_this(id).await;
        h.advance(LEASE_DEFAULT);
        assert_eq!(h.rescue().await.done, 1);
        let finish = h.finish(&stale, conclusion.clone());
        assert_eq!(h.changing_nothing("rescued", finish).await, Verdict::Stale);
        let live = h.claim_this(id).await;
        assert!(live.token > stale.token);
        let finish = h.finish(&stale, conclusion.clone());
        assert_eq!(h.changing_nothing("claimed anew", finish).await, Verdict::Stale);
        h.conclude(&live, complete()).await;
    }
}

pub async fn a_lease_that_is_over_does_not_void_a_claim(h: Harness) {
    for conclusion in every_conclusion() {
        let id = h.insert_one(h.task()).await;
        let claimed = h.claim_this(id).await;
        h.advance(LEASE_DEFAULT * 100);
        h.conclude(&claimed, conclusion).await;
        h.apply(id, Command::Delete).await;
    }
}

pub async fn repeating_a_finish_answers_already_applied_and_changes_nothing(h: Harness) {
    for conclusion in every_conclusion() {
        let id = h.insert_one(h.task()).await;
        let claimed = h.claim_this(id).await;
        h.conclude(&claimed, conclusion.clone()).await;
        h.advance(SECOND);
        for _ in 0..3 {
            let finish = h.finish(&claimed, conclusion.clone());
            let verdict = h.changing_nothing("a repeated finish", finish).await;
            assert_eq!(verdict, Verdict::AlreadyApplied, "{conclusion:?}");
        }
        h.apply(id, Command::Delete).await;
    }
}

pub async fn repeating_a_finish_with_another_outcome_is_stale(h: Harness) {
    for first in every_conclusion() {
        let id = h.insert_one(h.task()).await;
        let claimed = h.claim_this(id).await;
        h.conclude(&claimed, first.clone()).await;
        for second in every_conclusion().into_iter().filter(|s| s.kind() != first.kind()) {
            let context = format!("{first:?}, then {second:?}");
            let finish = h.finish(&claimed, second);
            let verdict = h.changing_nothing(&context, finish).await;
            assert_eq!(verdict, Verdict::Stale, "{context}");
        }
        h.apply(id, Command::Delete).await;
    }
}

pub async fn a_repeated_finish_is_recognised_while_the_task_runs_again(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let first = h.claim_this(id).await;
    h.conclude(&first, retry(SECOND)).await;
    h.advance(SECOND);
    let second = h.claim_this(id).await;
    let repeated = h.changing_nothing("repeated", h.finish(&first, retry(MINUTE))).await;
    assert_eq!(repeated, Verdict::AlreadyApplied);
    let other = h.changing_nothing("another", h.finish(&first, complete())).await;
    assert_eq!(other, Verdict::Stale);
    h.conclude(&second, complete()).await;
    let late = h.changing_nothing("late", h.finish(&first, retry(SECOND))).await;
    assert_eq!(late, Verdict::Stale);
}

pub async fn a_finish_repeated_within_its_batch_is_applied_once(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let token = h.claim_this(id).await.token;
    let outcome = |conclusion| Outcome { id, token, conclusion };
    let batch = [outcome(complete()), outcome(complete()), outcome(fail()), outcome(complete())];
    let expected =
        [Verdict::Applied, Verdict::AlreadyApplied, Verdict::Stale, Verdict::AlreadyApplied];
    assert_eq!(h.finish_all(&batch).await, expected);
    let task = h.get(id).await;
    assert_eq!((task.state, task.progress.attempt), (State::Completed, 1));
}

pub async fn verdicts_come_in_the_order_of_the_outcomes(h: Harness) {
    h.create(&h.tasks(6)).await;
    let claimed = h.claim(6).await;
    h.apply(claimed[4].id, cancel_command()).await;
    h.conclude(&claimed[1], complete()).await;
    let outcome = |at: usize, token| Outcome { id: claimed[at].id, token, conclusion: complete() };
    let batch = [
        outcome(5, claimed[5].token),
        outcome(0, Token::NONE),
        outcome(1, claimed[1].token),
        outcome(4, claimed[4].token),
        outcome(2, claimed[2].token),
    ];
    let expected = [
        Verdict::Applied,
        Verdict::Stale,
        Verdict::AlreadyApplied,
        Verdict::CancelRequested,
        Verdict::Applied,
    ];
    assert_eq!(h.finish_all(&batch).await, expected);
    let states = [
        State::Running,
        State::Completed,
        State::Completed,
        State::Running,
        State::Cancelled,
        State::Completed,
    ];
    for (claimed, expected) in claimed.iter().zip(states) {
        assert_eq!(h.get(claimed.id).await.state, expected);
    }
}

pub async fn a_stale_outcome_does_not_stop_its_batch(h: Harness) {
    h.create(&h.tasks(200)).await;
    let claimed = h.claim(200).await;
    let outcomes: Vec<_> = claimed
        .iter()
        .enumerate()
        .map(|(index, task)| Outcome {
            id: task.id,
            token: if index % 3 == 0 { Token::new(u64::MAX) } else { task.token },
            conclusion: complete(),
        })
        .collect();
    let verdicts = h.finish_all(&outcomes).await;
    for (index, verdict) in verdicts.into_iter().enumerate() {
        let expected = if index % 3 == 0 { Verdict::Stale } else { Verdict::Applied };
        assert_eq!(verdict, expected, "{index}");
    }
    assert_eq!(h.queue_info("default").await.counts.get(State::Completed), 133);
}

pub async fn an_outcome_of_an_unknown_task_is_stale(h: Harness) {
    let claimed = h.claim_this(h.insert_one(h.task()).await).await;
    for id in [h.id(), TaskId::from_parts(1, 1, 1), claimed.id.with_offset(9)] {
        let settle = h.settle(id, claimed.token, complete());
        assert_eq!(h.changing_nothing("unknown", settle).await, Verdict::Stale);
    }
}

pub async fn an_outcome_of_a_deleted_task_is_stale(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let claimed = h.claim_this(id).await;
    h.conclude(&claimed, complete()).await;
    assert_eq!(h.apply(id, Command::Delete).await, CommandVerdict::Applied);
    assert_eq!(h.finish(&claimed, complete()).await, Verdict::Stale);
    assert_eq!(h.find(id).await, None);
}

pub async fn a_token_of_a_deleted_task_means_nothing_to_its_successor(h: Harness) {
    let task = h.task();
    let id = h.insert_one(task.clone()).await;
    let old = h.claim_this(id).await;
    h.conclude(&old, complete()).await;
    h.apply(id, Command::Delete).await;
    h.insert_one(task).await;
    for conclusion in every_conclusion() {
        let finish = h.finish(&old, conclusion);
        assert_eq!(h.changing_nothing("deleted", finish).await, Verdict::Stale);
    }
}

pub async fn a_finish_before_an_operators_retry_is_forgotten_by_it(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let old = h.claim_this(id).await;
    h.conclude(&old, complete()).await;
    assert_eq!(h.apply(id, Command::Retry).await, CommandVerdict::Applied);
    let again = h.changing_nothing("waiting again", h.finish(&old, complete())).await;
    assert_eq!(again, Verdict::Stale);
    let new = h.claim_this(id).await;
    let again = h.changing_nothing("running again", h.finish(&old, complete())).await;
    assert_eq!(again, Verdict::Stale);
    h.conclude(&new, complete()).await;
}

pub async fn tokens_increase_over_the_whole_life_of_a_task(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let mut newest = Token::NONE;
    for round in 0..4 {
        let endings = [
            Some(retry(SECOND)),
            Some(snooze(SECOND)),
            Some(Conclusion::Release),
            None,
            Some(complete()),
            Some(fail()),
        ];
        for (step, ending) in endings.into_iter().enumerate() {
            let claimed = h.claim_this(id).await;
            assert!(claimed.token > newest, "round {round}, step {step}");
            newest = claimed.token;
            if let Some(conclusion) = ending {
                h.conclude(&claimed, conclusion).await;
            } else {
                h.advance(LEASE_DEFAULT);
                assert_eq!(h.rescue().await.done, 1);
            }
            h.apply(id, Command::Retry).await;
            assert_eq!(h.get(id).await.progress.token, newest, "a token is never reset");
            h.advance(SECOND);
        }
    }
}

pub async fn the_server_that_lost_a_claim_cannot_finish_the_next_one(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let lost = h.claim_this(id).await;
    h.advance(LEASE_DEFAULT);
    h.rescue().await;
    let mut claimed = h.claim_as(OTHER_SERVER, 1).await;
    let live = claimed.remove(0);
    assert_eq!(h.finish(&lost, complete()).await, Verdict::Stale);
    h.conclude(&live, fail()).await;
    assert_eq!(h.finish(&lost, fail()).await, Verdict::Stale);
    assert_eq!(h.get(id).await.state, State::Failed);
}

pub async fn the_last_outcome_applied_is_shown(h: Harness) {
    for (conclusion, kind) in every_conclusion().into_iter().zip(ConclusionKind::ALL) {
        let id = h.insert_one(h.task()).await;
        let claimed = h.claim_this(id).await;
        h.conclude(&claimed, conclusion).await;
        let settled = h.get(id).await.progress.settled;
        let shown = settled.map(|settled| (settled.token, settled.kind));
        assert_eq!(shown, Some((claimed.token, kind)));
        h.apply(id, Command::Delete).await;
    }
}
