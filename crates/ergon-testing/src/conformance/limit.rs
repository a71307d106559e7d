//! Cases of limits and dirty text: what is refused, what is kept as it is, what is made storable.

use std::time::Duration;

use bytes::Bytes;
use ergon_core::{
    Command, Conclusion, ErrorKind, Jitter, NewTask, Order, Rejection, RetryPolicy, RunAt, State,
    StateSet, TaskFilter, UniqueScope, limits::HORIZON,
};

use super::rejection;
use crate::harness::{
    Harness, MINUTE, SECOND, SERVER, cancel_command, kind, queue, record_ids, tag, unique,
};

/// Fails unless the change makes a task that is refused, stored nowhere.
async fn check_refused(
    h: &Harness,
    change: impl FnOnce(&mut NewTask),
    is_expected: impl Fn(&Rejection) -> bool,
) {
    let tasks = [h.task(), h.task_with(change), h.task()];
    let answer = h.changing_nothing("a bad task", h.try_insert(&tasks)).await;
    let (index, reason) = rejection(answer);
    assert!(index == 1 && is_expected(&reason), "item {index}: {reason}");
}

/// Fails unless the change makes a task that is stored as it is.
async fn check_kept(h: &Harness, change: impl FnOnce(&mut NewTask)) {
    let task = h.task_with(change);
    h.insert_one(task.clone()).await;
    let read = h.get(task.id).await;
    assert_eq!(read.spec, task.spec);
    assert_eq!(read.progress.run_at, task.run_at.resolve(h.instant()));
}

pub async fn a_payload_may_be_a_mebibyte_and_no_more(h: Harness) {
    let of_len = |len| move |task: &mut NewTask| task.spec.payload = Bytes::from(vec![1; len]);
    check_kept(&h, of_len(1 << 20)).await;
    let expected = Rejection::PayloadTooLarge { len: (1 << 20) + 1, max: 1 << 20 };
    check_refused(&h, of_len((1 << 20) + 1), |reason| *reason == expected).await;
}

pub async fn metadata_may_be_64_kibibytes_and_no_more(h: Harness) {
    let of_len = |len: usize| {
        move |task: &mut NewTask| {
            task.spec.metadata.insert("k".repeat(28), "v".repeat(len - 36));
            task.spec.metadata.insert("key".to_owned(), "value".to_owned());
        }
    };
    check_kept(&h, of_len(64 << 10)).await;
    let is_expected = |reason: &Rejection| matches!(reason, Rejection::MetadataTooLarge { .. });
    check_refused(&h, of_len((64 << 10) + 1), is_expected).await;
}

pub async fn metadata_that_is_no_storable_text_is_refused(h: Harness) {
    let long = "k".repeat(129);
    for (key, value) in [
        ("", "v"),
        ("k\0", "v"),
        ("k\n", "v"),
        ("k\u{7f}", "v"),
        (long.as_str(), "v"),
        ("k", "v\0v"),
    ] {
        let change = |task: &mut NewTask| {
            task.spec.metadata.insert(key.to_owned(), value.to_owned());
        };
        let expected = Rejection::InvalidMetadata { key: key.to_owned() };
        check_refused(&h, change, |reason| *reason == expected).await;
    }
}

pub async fn metadata_of_any_other_text_is_kept_and_found(h: Harness) {
    let entries = [
        ("k".repeat(128), String::new()),
        ("quote'\"`;--".to_owned(), "'; DROP TABLE tasks; --".to_owned()),
        ("größe €".to_owned(), "🦀\n\t\r\u{1}\u{202e}".to_owned()),
        ("%_\\".to_owned(), "%_\\ $1 {} null".to_owned()),
        ("ergon.reserved".to_owned(), "\u{fffd}\u{10ffff}".to_owned()),
    ];
    for (key, value) in &entries {
        check_kept(&h, |task| {
            task.spec.metadata.insert(key.clone(), value.clone());
        })
        .await;
    }
    for (key, value) in entries {
        let filter = TaskFilter::all().metadata(key.as_str(), value.as_str());
        let found = h.walk(&filter, 10, Order::OldestFirst).await;
        assert_eq!(found.len(), 1, "{key:?}");
        assert_eq!(found[0].spec.metadata[&key], value);
        let other = TaskFilter::all().metadata(key, format!("{value}."));
        assert_eq!(h.walk(&other, 10, Order::OldestFirst).await, []);
    }
}

pub async fn a_task_may_have_32_tags_and_no_more(h: Harness) {
    let of_len = |len: usize| {
        move |task: &mut NewTask| {
            task.spec.tags = (0..len).map(|at| tag(&format!("{at:064}"))).collect();
        }
    };
    check_kept(&h, of_len(32)).await;
    let expected = Rejection::TooManyTags { len: 33, max: 32 };
    check_refused(&h, of_len(33), |reason| *reason == expected).await;
}

pub async fn tags_of_any_text_are_kept_in_order_and_found(h: Harness) {
    let tags = ["b", "a", "größe: 5 €", "'; --", "a b", "🦀", "%", "b"].map(tag);
    check_kept(&h, |task| task.spec.tags = tags.to_vec()).await;
    for tag in tags {
        let found = h.walk(&TaskFilter::all().tag(tag), 10, Order::OldestFirst).await;
        assert_eq!(found.len(), 1);
    }
    let part = TaskFilter::all().tag(tag("größe"));
    assert_eq!(h.walk(&part, 10, Order::OldestFirst).await, []);
}

pub async fn a_task_without_attempts_is_refused(h: Harness) {
    let none = |task: &mut NewTask| task.max_attempts = 0;
    check_refused(&h, none, |reason| *reason == Rejection::NoAttempts).await;
}

pub async fn spans_of_no_length_are_refused(h: Harness) {
    let zero =
        |what: &'static str| move |reason: &Rejection| *reason == Rejection::ZeroDuration { what };
    check_refused(&h, |t| t.spec.timeout = Some(Duration::ZERO), zero("timeout")).await;
    let key = unique(1, UniqueScope::For(Duration::ZERO));
    check_refused(&h, |t| t.spec.unique = Some(key), zero("unique")).await;
}

pub async fn times_beyond_the_horizon_are_refused(h: Harness) {
    let far = HORIZON + SECOND;
    let at = h.later(far);
    let beyond =
        |what: &'static str| move |reason: &Rejection| *reason == Rejection::BeyondHorizon { what };
    check_refused(&h, |t| t.run_at = RunAt::After(far), beyond("run_at")).await;
    check_refused(&h, |t| t.run_at = RunAt::After(Duration::MAX), beyond("run_at")).await;
    check_refused(&h, |t| t.run_at = RunAt::At(at), beyond("run_at")).await;
    check_refused(&h, |t| t.spec.deadline = Some(at), beyond("deadline")).await;
    check_refused(&h, |t| t.spec.timeout = Some(far), beyond("timeout")).await;
    check_refused(&h, |t| t.spec.retention = Some(far), beyond("retention")).await;
    check_refused(&h, |t| t.spec.retry = RetryPolicy::Fixed(far), beyond("retry")).await;
    let key = unique(1, UniqueScope::For(far));
    check_refused(&h, |t| t.spec.unique = Some(key), beyond("unique")).await;
}

pub async fn times_up_to_the_horizon_are_kept(h: Harness) {
    let at = h.later(HORIZON);
    check_kept(&h, |t| t.run_at = RunAt::After(HORIZON)).await;
    check_kept(&h, |t| t.run_at = RunAt::At(at)).await;
    check_kept(&h, |t| t.spec.deadline = Some(at)).await;
    check_kept(&h, |t| t.spec.timeout = Some(HORIZON)).await;
    check_kept(&h, |t| t.spec.timeout = Some(Duration::from_micros(1))).await;
    check_kept(&h, |t| t.spec.retention = Some(HORIZON)).await;
    check_kept(&h, |t| t.spec.retention = Some(Duration::ZERO)).await;
    let key = unique(1, UniqueScope::For(HORIZON));
    check_kept(&h, |t| t.spec.unique = Some(key)).await;
}

pub async fn retry_policies_that_say_nothing_or_too_much_are_refused(h: Harness) {
    let is_expected = |reason: &Rejection| matches!(reason, Rejection::InvalidRetry { .. });
    let (base, cap) = (MINUTE, SECOND);
    for retry in [
        RetryPolicy::List(vec![]),
        RetryPolicy::List(vec![SECOND; 101]),
        RetryPolicy::Exponential { base, cap, jitter: Jitter::None },
    ] {
        check_refused(&h, |task| task.spec.retry = retry, is_expected).await;
    }
}

pub async fn every_retry_policy_is_kept(h: Harness) {
    let exponential = |base, cap, jitter| RetryPolicy::Exponential { base, cap, jitter };
    for retry in [
        RetryPolicy::default(),
        exponential(Duration::ZERO, HORIZON, Jitter::None),
        exponential(Duration::from_micros(1), MINUTE, Jitter::Full),
        RetryPolicy::Fixed(Duration::ZERO),
        RetryPolicy::Fixed(HORIZON),
        RetryPolicy::List((1..=100).map(|step| SECOND * step).collect()),
    ] {
        check_kept(&h, |task| task.spec.retry = retry).await;
    }
}

pub async fn a_uniqueness_scope_with_gaps_is_refused(h: Harness) {
    let is_expected = |reason: &Rejection| *reason == Rejection::InvalidUniqueScope;
    for missing in StateSet::UNFINISHED.iter() {
        let states = StateSet::ALL.iter().filter(|&state| state != missing).collect();
        let key = unique(1, UniqueScope::While(states));
        check_refused(&h, |task| task.spec.unique = Some(key), is_expected).await;
    }
}

pub async fn every_uniqueness_scope_is_kept(h: Harness) {
    let scopes = [
        UniqueScope::UntilStarted,
        UniqueScope::UntilFinished,
        UniqueScope::While(StateSet::UNFINISHED),
        UniqueScope::While(StateSet::ALL),
        UniqueScope::For(Duration::from_micros(1)),
    ];
    for (number, scope) in (0..).zip(scopes) {
        check_kept(&h, |task| task.spec.unique = Some(unique(number, scope))).await;
    }
}

pub async fn payloads_of_any_bytes_are_kept_and_handed_over(h: Harness) {
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let payloads = [
        vec![],
        vec![0],
        vec![0; 1_000],
        every_byte.repeat(3),
        b"\xff\xfe\xed\xa0\x80".to_vec(),
        b"{\"a\":1.00,\"b\":\"\\u0000\"}".to_vec(),
    ];
    for payload in payloads {
        let payload = Bytes::from(payload);
        check_kept(&h, |task| task.spec.payload = payload.clone()).await;
        assert_eq!(h.claim_one().await.spec.payload, payload);
    }
}

pub async fn names_of_every_length_and_sign_are_kept(h: Harness) {
    let long = "x".repeat(128);
    let signs = "AZaz09._:/-";
    for name in ["a", "0", "-", ":", "/", ".", "..", "::", "a:", ":a", signs, long.as_str()] {
        check_kept(&h, |task| {
            (task.spec.kind, task.spec.queue) = (kind(name), queue(name));
        })
        .await;
        assert_eq!(h.queue_info(name).await.counts.get(State::Pending), 1, "{name}");
        let found = h.walk(&TaskFilter::all().kind(kind(name)), 10, Order::OldestFirst).await;
        assert_eq!(found.len(), 1, "{name}");
    }
}

pub async fn names_with_separators_do_not_collide(h: Harness) {
    let names = ["a", "b", "a:b", "b:c", "c", "a/b", "a:b:c", "a.", "aa", "A", "a-b", "a_b", ":"];
    for queue_name in names {
        for kind_name in names {
            h.add(|task| {
                (task.spec.queue, task.spec.kind) = (queue(queue_name), kind(kind_name));
            })
            .await;
        }
    }
    for queue_name in names {
        for kind_name in names {
            let filter = TaskFilter::all().queue(queue(queue_name)).kind(kind(kind_name));
            let listed = record_ids(&h.walk(&filter, 10, Order::OldestFirst).await);
            let slots = ergon_core::store::QueueSlots { queue: queue(queue_name), slots: 100 };
            let request = ergon_core::store::ClaimRequest::new(SERVER, [kind(kind_name)], [slots]);
            let claimed = h.claim_by(&request.now(h.now())).await;
            assert_eq!(crate::harness::claimed_ids(&claimed), listed);
            assert_eq!(listed.len(), 1, "queue {queue_name:?}, kind {kind_name:?}");
        }
    }
}

pub async fn dirty_error_texts_are_made_storable(h: Harness) {
    let long = "ä".repeat(16 << 10);
    let texts = ["a\0b", "", "\u{fffd}🦀\n\r\t\u{1b}[31m", "'; DROP TABLE", "\0", long.as_str()];
    for text in texts {
        let error = text.to_owned();
        let kind = ErrorKind::Panic;
        for conclusion in [
            Conclusion::Retry { delay: SECOND, kind, error: error.clone() },
            Conclusion::Fail { kind, error: error.clone() },
            Conclusion::Cancel { reason: error.clone() },
        ] {
            let id = h.insert_one(h.task()).await;
            h.claim_and_conclude(id, conclusion).await;
            check_message(&h, id, text).await;
        }
        let id = h.insert_one(h.task()).await;
        h.apply(id, Command::Cancel { reason: error }).await;
        check_message(&h, id, text).await;
    }
}

async fn check_message(h: &Harness, id: ergon_core::TaskId, text: &str) {
    let errors = h.get(id).await.progress.errors;
    let expected = ergon_core::text::storable(text, 16 << 10);
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].message, expected);
    assert!(expected.len() <= 16 << 10 && !expected.contains('\0'));
}

pub async fn ten_errors_of_full_length_are_kept(h: Harness) {
    let id = h.insert_one(h.task()).await;
    for _ in 0..11 {
        let error = "€".repeat(16 << 10);
        let conclusion = Conclusion::Retry { delay: SECOND, kind: ErrorKind::Timeout, error };
        h.claim_and_conclude(id, conclusion).await;
        h.advance(SECOND);
    }
    let errors = h.get(id).await.progress.errors;
    assert_eq!(errors.len(), 10);
    assert!(errors.iter().all(|error| error.message == "€".repeat((16 << 10) / 3)));
}

pub async fn a_dirty_reason_to_cancel_a_running_task_is_made_storable(h: Harness) {
    let id = h.in_state(State::Running).await;
    h.apply(id, Command::Cancel { reason: "why\0".repeat(10_000) }).await;
    let errors = h.get(id).await.progress.errors;
    assert!(errors[0].message.len() <= 16 << 10 && !errors[0].message.contains('\0'));
    let again = h.changing_nothing("asked before", h.apply(id, cancel_command())).await;
    assert_eq!(again, ergon_core::CommandVerdict::Unchanged);
}
