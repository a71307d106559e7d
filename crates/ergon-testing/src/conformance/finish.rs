//! Cases of `finish`: what each outcome makes of a task.

use std::time::Duration;

use bytes::Bytes;
use ergon_core::{
    Command, Conclusion, ErrorKind, Limits, State, Verdict, limits::HORIZON, time::after,
};

use crate::harness::{
    DAY, HOUR, Harness, MINUTE, SECOND, cancel, cancel_command, claimed_ids, complete,
    every_conclusion, fail, retry, snooze,
};

pub async fn complete_keeps_the_result(h: Harness) {
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let results = [None, Some(Bytes::new()), Some(Bytes::from(every_byte))];
    for result in results {
        let id = h.insert_one(h.task()).await;
        h.advance(SECOND);
        let result_given = result.clone();
        h.claim_and_conclude(id, Conclusion::Complete { result: result_given }).await;
        let task = h.get(id).await;
        assert_eq!((task.state, &task.progress.result), (State::Completed, &result));
        assert_eq!((task.progress.attempt, task.progress.errors.len()), (1, 0));
        assert_eq!(task.progress.finished_at, Some(h.instant()));
        assert_eq!(task.progress.expires_at, Some(h.later(DAY)));
    }
}

pub async fn retry_waits_for_its_delay_and_keeps_the_error(h: Harness) {
    let id = h.insert_one(h.task()).await;
    h.claim_and_conclude(id, retry(MINUTE)).await;
    let failed_at = h.instant();
    let task = h.get(id).await;
    assert_eq!((task.state, task.progress.run_at), (State::Retrying, h.later(MINUTE)));
    assert_eq!((task.progress.attempt, task.progress.finished_at), (1, None));
    let [error] = task.progress.errors.as_slice() else {
        panic!("one error has to be kept: {task:?}");
    };
    assert_eq!((error.attempt, error.at, error.kind), (1, failed_at, ErrorKind::Error));
    assert_eq!(error.message, "try again");
    h.advance(MINUTE);
    assert_eq!(h.get(id).await.state, State::Pending);
    assert_eq!(h.claim_one().await.attempt, 2);
}

pub async fn a_retry_without_delay_is_due_at_once(h: Harness) {
    let id = h.insert_one(h.task()).await;
    h.claim_and_conclude(id, retry(Duration::ZERO)).await;
    assert_eq!(h.get(id).await.state, State::Pending);
    assert_eq!(h.claim_one().await.attempt, 2);
}

pub async fn the_last_attempt_fails_the_task(h: Harness) {
    for max_attempts in [1, 2, 5] {
        let id = h.add(|task| task.max_attempts = max_attempts).await;
        for attempt in 1..=max_attempts {
            let claimed = h.claim_this(id).await;
            assert_eq!((claimed.attempt, claimed.max_attempts), (attempt, max_attempts));
            h.conclude(&claimed, retry(SECOND)).await;
            let is_last = attempt == max_attempts;
            let expected = if is_last { State::Failed } else { State::Retrying };
            assert_eq!(h.get(id).await.state, expected);
            h.advance(SECOND);
        }
        let progress = h.get(id).await.progress;
        assert_eq!(progress.attempt, max_attempts);
        assert_eq!(progress.errors.len(), usize::from(max_attempts));
    }
}

pub async fn fail_fails_whatever_attempts_are_left(h: Harness) {
    let id = h.insert_one(h.task()).await;
    h.claim_and_conclude(id, fail()).await;
    let task = h.get(id).await;
    assert_eq!((task.state, task.progress.attempt), (State::Failed, 1));
    assert_eq!(task.progress.errors[0].message, "given up");
    assert_eq!(task.progress.expires_at, Some(h.later(DAY * 7)));
    assert_eq!(h.claim(1).await, []);
}

pub async fn cancel_by_the_handler_ends_the_task(h: Harness) {
    let id = h.insert_one(h.task()).await;
    h.claim_and_conclude(id, cancel()).await;
    let task = h.get(id).await;
    assert_eq!((task.state, task.progress.attempt), (State::Cancelled, 1));
    assert_eq!(task.progress.errors[0].kind, ErrorKind::Cancelled);
    assert_eq!(task.progress.errors[0].message, "called off");
    assert_eq!(task.progress.expires_at, Some(h.later(DAY)));
}

pub async fn a_snooze_spends_no_attempt(h: Harness) {
    let id = h.add(|task| task.max_attempts = 1).await;
    for _ in 0..50 {
        let claimed = h.claim_this(id).await;
        assert_eq!(claimed.attempt, 1);
        h.conclude(&claimed, snooze(MINUTE)).await;
        let task = h.get(id).await;
        assert_eq!((task.state, task.progress.run_at), (State::Scheduled, h.later(MINUTE)));
        assert_eq!((task.progress.attempt, task.progress.errors.len()), (0, 0));
        h.advance(MINUTE);
    }
    h.claim_and_conclude(id, complete()).await;
}

pub async fn a_snooze_after_a_failed_attempt_is_retrying(h: Harness) {
    let id = h.insert_one(h.task()).await;
    h.claim_and_conclude(id, retry(SECOND)).await;
    h.advance(SECOND);
    h.claim_and_conclude(id, snooze(HOUR)).await;
    let task = h.get(id).await;
    assert_eq!((task.state, task.progress.attempt), (State::Retrying, 1));
}

pub async fn a_release_spends_no_attempt_and_keeps_its_place(h: Harness) {
    let first = h.add(|task| task.max_attempts = 1).await;
    let run_at = h.get(first).await.progress.run_at;
    h.advance(SECOND);
    let second = h.insert_one(h.task()).await;
    for _ in 0..20 {
        let claimed = h.claim_this(first).await;
        h.advance(SECOND);
        h.conclude(&claimed, Conclusion::Release).await;
        let task = h.get(first).await;
        assert_eq!((task.state, task.progress.attempt), (State::Pending, 0));
        assert_eq!(task.progress.run_at, run_at);
    }
    assert_eq!(claimed_ids(&h.claim(2).await), [first, second]);
}

pub async fn the_claim_of_a_released_task_belongs_to_nobody(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let claimed = h.claim_this(id).await;
    h.conclude(&claimed, Conclusion::Release).await;
    h.advance(HOUR);
    assert_eq!(h.changing_nothing("released", h.rescue()).await.done, 0);
}

pub async fn delays_are_cut_to_the_horizon(h: Harness) {
    for delay in [Duration::MAX, HORIZON + SECOND, HORIZON] {
        for conclusion in [retry(delay), snooze(delay)] {
            let id = h.insert_one(h.task()).await;
            h.claim_and_conclude(id, conclusion).await;
            assert_eq!(h.get(id).await.progress.run_at, after(h.instant(), HORIZON));
        }
    }
}

pub async fn eleven_errors_keep_the_last_ten(h: Harness) {
    let id = h.add(|task| task.max_attempts = 100).await;
    for attempt in 1..=25 {
        let error = format!("attempt {attempt}");
        let kind = ErrorKind::ALL[usize::from(attempt % 8_u16)];
        let claimed = h.claim_this(id).await;
        h.conclude(&claimed, Conclusion::Retry { delay: SECOND, kind, error }).await;
        h.advance(SECOND);
        let errors = h.get(id).await.progress.errors;
        let first = attempt.saturating_sub(9).clamp(1, 100);
        let kept: Vec<_> = errors.iter().map(|error| error.attempt).collect();
        assert_eq!(kept, (first..=attempt).collect::<Vec<_>>());
        for error in errors {
            assert_eq!(error.message, format!("attempt {}", error.attempt));
            assert_eq!(error.kind, ErrorKind::ALL[usize::from(error.attempt % 8)]);
        }
    }
}

pub async fn a_result_beyond_the_limit_becomes_a_failure_that_says_so(h: Harness) {
    let max = Limits::default().result_bytes_max;
    let of_len = |len| Conclusion::Complete { result: Some(Bytes::from(vec![7; len])) };
    let fits = h.insert_one(h.task()).await;
    h.claim_and_conclude(fits, of_len(max)).await;
    let task = h.get(fits).await;
    assert_eq!(task.state, State::Completed);
    assert_eq!(task.progress.result.map(|result| result.len()), Some(max));
    let exceeds = h.insert_one(h.task()).await;
    h.claim_and_conclude(exceeds, of_len(max + 1)).await;
    let task = h.get(exceeds).await;
    assert_eq!((task.state, &task.progress.result), (State::Failed, &None));
    assert_eq!(task.progress.errors[0].kind, ErrorKind::Result);
    assert!(task.progress.errors[0].message.contains(&max.to_string()));
}

pub async fn an_outcome_of_a_task_asked_to_stop_cancels_it_whatever_it_says(h: Harness) {
    for conclusion in every_conclusion() {
        let id = h.insert_one(h.task()).await;
        let claimed = h.claim_this(id).await;
        h.apply(id, cancel_command()).await;
        h.advance(SECOND);
        let verdict = h.finish(&claimed, conclusion.clone()).await;
        assert_eq!(verdict, Verdict::CancelRequested, "{conclusion:?}");
        let task = h.get(id).await;
        assert_eq!(task.state, State::Cancelled, "{conclusion:?}");
        assert_eq!(task.progress.finished_at, Some(h.instant()));
        let is_error = matches!(conclusion, Conclusion::Retry { .. } | Conclusion::Fail { .. });
        assert_eq!(task.progress.errors.len(), if is_error { 2 } else { 1 });
        assert_eq!(task.progress.result, None);
        let repeated = h.changing_nothing("repeated", h.finish(&claimed, conclusion)).await;
        assert_eq!(repeated, Verdict::AlreadyApplied);
    }
    assert_eq!(h.claim(10).await, []);
}

pub async fn the_retention_of_a_task_wins_over_that_of_the_store(h: Harness) {
    for (conclusion, kept) in [(complete(), SECOND), (fail(), DAY * 365), (cancel(), HOUR)] {
        let id = h.add(|task| task.spec.retention = Some(kept)).await;
        h.claim_and_conclude(id, conclusion).await;
        assert_eq!(h.get(id).await.progress.expires_at, Some(h.later(kept)));
    }
}

pub async fn a_full_batch_is_finished_at_once(h: Harness) {
    h.create(&[h.pack(4_000), h.tasks(6_000)].concat()).await;
    let outcomes: Vec<_> = h
        .claim(10_000)
        .await
        .iter()
        .map(|task| ergon_core::Outcome { id: task.id, token: task.token, conclusion: complete() })
        .collect();
    let verdicts = h.finish_all(&outcomes).await;
    assert!(verdicts.iter().all(|&verdict| verdict == Verdict::Applied));
    let counts = h.queue_info("default").await.counts;
    assert_eq!((counts.get(State::Completed), counts.total()), (10_000, 10_000));
}

pub async fn waiting_for_a_finish_is_over_at_once_for_finished_and_gone_tasks(h: Harness) {
    let within = HOUR;
    for state in [State::Completed, State::Failed, State::Cancelled] {
        let id = h.in_state(state).await;
        assert!(h.store.wait_for_finish(id, within).await.unwrap(), "{state}");
        h.apply(id, Command::Delete).await;
        assert!(h.store.wait_for_finish(id, within).await.unwrap(), "deleted");
    }
    assert!(h.store.wait_for_finish(h.id(), within).await.unwrap(), "never there");
}

pub async fn waiting_for_a_finish_ends_with_its_time(h: Harness) {
    for state in [State::Running, State::Pending, State::Scheduled, State::Retrying] {
        let id = h.in_state(state).await;
        for within in [Duration::ZERO, Duration::from_millis(5)] {
            assert!(!h.store.wait_for_finish(id, within).await.unwrap(), "{state}");
        }
        h.apply(id, cancel_command()).await;
    }
}

pub async fn waiting_for_a_finish_ends_with_it(h: Harness) {
    let endings = [Some(complete()), Some(fail()), Some(cancel()), None];
    for ending in endings {
        let id = h.insert_one(h.task()).await;
        let store = h.store.clone();
        let mut waiting = tokio::task::JoinSet::new();
        waiting.spawn(async move { store.wait_for_finish(id, HOUR).await });
        if let Some(conclusion) = ending {
            h.claim_and_conclude(id, retry(Duration::ZERO)).await;
            h.claim_and_conclude(id, conclusion).await;
        } else {
            h.apply(id, Command::Delete).await;
        }
        assert!(waiting.join_next().await.unwrap().unwrap().unwrap());
    }
}
