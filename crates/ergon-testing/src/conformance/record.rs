//! Cases of what enqueues and workers have recorded: these events, and no others.

use std::time::Duration;

use ergon_core::{
    Command, Conclusion, ErrorKind, Event, NewTask, Now, Outcome, ProgressReport, RunAt, State,
    TaskEvent, TaskId, Token, UniqueScope, Verdict,
    event::{Excerpt, Fact, TaskRef},
    report::ClaimReport,
    store::Inserted,
    time::whole_micros,
};
use jiff::{SignedDuration, Timestamp};

use crate::harness::{
    HOUR, Harness, MICROSECOND, MINUTE, OTHER_SERVER, Reader, SECOND, SERVER, by_task, cancel,
    cancel_command, complete, every_conclusion, fail, kind, queue, retry, snooze, unique,
};

/// What happened to a task that a harness made.
pub(super) fn of(id: TaskId, attempt: u16, event: TaskEvent, at: Timestamp) -> Event {
    let task = TaskRef { id, queue: queue("default"), kind: kind("work"), attempt };
    Event::task(at, task, event)
}

fn enqueued(task: &NewTask, run_at: Timestamp, at: Timestamp) -> Event {
    of(task.id, 0, TaskEvent::Enqueued { run_at, priority: task.priority }, at)
}

/// A reader that has read everything so far, although it is not the one that watches.
pub(super) async fn reader(h: &Harness) -> Reader {
    h.watch("suite").await;
    h.reader_at_end().await
}

pub async fn an_insert_records_each_task_that_was_created(h: Harness) {
    let mut reader = reader(&h).await;
    let now = h.instant();
    let due = h.later(HOUR);
    let tasks = [
        h.task(),
        h.task_with(|task| task.priority = i16::MIN),
        h.task_with(|task| task.run_at = RunAt::After(MINUTE)),
        h.task_with(|task| task.run_at = RunAt::At(due)),
        h.task_with(|task| task.run_at = RunAt::At(Timestamp::UNIX_EPOCH)),
    ];
    h.create(&tasks).await;
    let run_at = [now, now, h.later(MINUTE), due, Timestamp::UNIX_EPOCH];
    let expected = tasks.iter().zip(run_at).map(|(task, run_at)| enqueued(task, run_at, now));
    assert_eq!(by_task(reader.events().await), Vec::from_iter(expected));
    assert_eq!(reader.events().await, []);
}

pub async fn an_event_names_queue_and_kind_of_its_task(h: Harness) {
    let mut reader = reader(&h).await;
    let (long_queue, long_kind) = (queue(&"q/:".repeat(42)), kind(&"k.-_".repeat(32)));
    let id = h
        .add(|task| (task.spec.queue, task.spec.kind) = (long_queue.clone(), long_kind.clone()))
        .await;
    let event = TaskEvent::Enqueued { run_at: h.instant(), priority: 0 };
    let task = TaskRef { id, queue: long_queue, kind: long_kind, attempt: 0 };
    assert_eq!(reader.event().await, Event::task(h.instant(), task, event));
}

pub async fn tasks_that_were_not_created_are_not_recorded(h: Harness) {
    let mut reader = reader(&h).await;
    let key = |number| Some(unique(number, UniqueScope::UntilFinished));
    let first = h.task_with(|task| task.spec.unique = key(1));
    h.insert_one(first.clone()).await;
    assert_eq!(reader.events().await.len(), 1);
    let duplicate = h.task_with(|task| task.spec.unique = key(1));
    let fresh = h.task_with(|task| task.spec.unique = key(2));
    let of_first = Inserted::Duplicate { of: first.id };
    let answers = h.insert(&[first.clone(), duplicate, fresh.clone()]).await;
    assert_eq!(answers, [Inserted::AlreadyExists, of_first, Inserted::Created]);
    assert_eq!(reader.event().await, enqueued(&fresh, h.instant(), h.instant()));
    let bad = h.task_with(|task| task.max_attempts = 0);
    assert!(h.try_insert(&[h.task(), bad]).await.is_err());
    assert_eq!(h.insert(&[]).await, []);
    assert_eq!(h.insert(&[first]).await, [Inserted::AlreadyExists]);
    assert_eq!(reader.events().await, []);
}

pub async fn a_claim_records_who_took_what_and_how_long_it_had_been_due(h: Harness) {
    let tasks = [h.task(), h.task_with(|task| task.run_at = RunAt::After(SECOND * 3)), h.task()];
    h.create(&tasks).await;
    let mut reader = reader(&h).await;
    h.advance(SECOND * 5 + MICROSECOND);
    let claimed = h.claim_as(OTHER_SERVER, 10).await;
    assert_eq!(claimed.len(), 3);
    let waited = [SECOND * 5, SECOND * 2, SECOND * 5].map(|waited| waited + MICROSECOND);
    let started = |(task, waited): (&NewTask, Duration)| {
        of(task.id, 1, TaskEvent::Started { server: OTHER_SERVER, waited }, h.instant())
    };
    let expected: Vec<_> = tasks.iter().zip(waited).map(started).collect();
    assert_eq!(by_task(reader.events().await), expected);
    assert_eq!(h.claim(10).await, []);
    assert_eq!(reader.events().await, []);
}

pub async fn a_claim_after_a_retry_names_the_next_attempt(h: Harness) {
    let id = h.insert_one(h.task()).await;
    h.claim_and_conclude(id, retry(MINUTE)).await;
    let mut reader = reader(&h).await;
    h.advance(MINUTE * 2);
    h.claim_this(id).await;
    let started = TaskEvent::Started { server: SERVER, waited: MINUTE };
    assert_eq!(reader.event().await, of(id, 2, started, h.instant()));
}

pub async fn every_conclusion_is_recorded_by_what_it_made_of_the_task(h: Harness) {
    let ran = SECOND * 5;
    for conclusion in every_conclusion() {
        let id = h.in_state(State::Retrying).await;
        h.advance(HOUR);
        let claimed = h.claim_this(id).await;
        let mut reader = reader(&h).await;
        h.advance(ran);
        h.conclude(&claimed, conclusion.clone()).await;
        let run_at = h.later(MINUTE);
        let reason = ErrorKind::Error;
        let expected = match conclusion {
            Conclusion::Complete { .. } => TaskEvent::Completed { ran },
            Conclusion::Retry { .. } => {
                TaskEvent::Retried { ran, run_at, reason, error: Excerpt::of("try again") }
            }
            Conclusion::Fail { .. } => {
                TaskEvent::Failed { ran, reason, error: Excerpt::of("given up") }
            }
            Conclusion::Cancel { .. } => TaskEvent::Cancelled { ran: Some(ran) },
            Conclusion::Snooze { .. } => TaskEvent::Snoozed { ran, run_at },
            Conclusion::Release => TaskEvent::Released,
        };
        assert_eq!(reader.event().await, of(id, 2, expected, h.instant()));
        h.apply(id, Command::Delete).await;
    }
}

pub async fn the_last_attempt_is_recorded_as_failed(h: Harness) {
    let id = h.add(|task| task.max_attempts = 1).await;
    let claimed = h.claim_this(id).await;
    let mut reader = reader(&h).await;
    h.advance(MICROSECOND);
    h.conclude(&claimed, retry(MINUTE)).await;
    let error = Excerpt::of("try again");
    let failed = TaskEvent::Failed { ran: MICROSECOND, reason: ErrorKind::Error, error };
    assert_eq!(reader.event().await, of(id, 1, failed, h.instant()));
}

pub async fn what_a_task_asked_to_stop_answers_is_recorded_as_its_cancel(h: Harness) {
    for conclusion in every_conclusion() {
        let id = h.in_state(State::Pending).await;
        let claimed = h.claim_this(id).await;
        h.apply(id, cancel_command()).await;
        let mut reader = reader(&h).await;
        h.advance(SECOND);
        assert_eq!(h.finish(&claimed, conclusion).await, Verdict::CancelRequested);
        let cancelled = TaskEvent::Cancelled { ran: Some(SECOND) };
        assert_eq!(reader.event().await, of(id, 1, cancelled, h.instant()));
    }
}

pub async fn stale_and_repeated_outcomes_are_not_recorded(h: Harness) {
    h.create(&h.tasks(2)).await;
    let claimed = h.claim(2).await;
    let mut reader = reader(&h).await;
    h.conclude(&claimed[0], complete()).await;
    assert_eq!(reader.events().await.len(), 1);
    assert_eq!(h.finish(&claimed[0], complete()).await, Verdict::AlreadyApplied);
    assert_eq!(h.finish(&claimed[0], fail()).await, Verdict::Stale);
    let foreign = Token::new(claimed[1].token.get() + 1);
    assert_eq!(h.settle(claimed[1].id, foreign, complete()).await, Verdict::Stale);
    assert_eq!(h.settle(h.id(), claimed[1].token, complete()).await, Verdict::Stale);
    assert_eq!(reader.events().await, []);
    let twice = claimed.iter().chain(&claimed).map(|task| Outcome {
        id: task.id,
        token: task.token,
        conclusion: complete(),
    });
    h.finish_all(&Vec::from_iter(twice)).await;
    let completed = TaskEvent::Completed { ran: Duration::ZERO };
    assert_eq!(reader.event().await, of(claimed[1].id, 1, completed, h.instant()));
}

pub async fn a_result_too_large_is_recorded_as_the_failure_that_it_is(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let claimed = h.claim_one().await;
    let mut reader = reader(&h).await;
    let result = Some(vec![0; (1 << 20) + 1].into());
    h.conclude(&claimed, Conclusion::Complete { result }).await;
    let error = Excerpt::of("result of 1048577 bytes exceeds 1048576");
    let failed = TaskEvent::Failed { ran: Duration::ZERO, reason: ErrorKind::Result, error };
    assert_eq!(reader.event().await, of(id, 1, failed, h.instant()));
}

pub async fn of_an_error_its_beginning_is_recorded_in_one_line(h: Harness) {
    let dirty = format!("line\nline\r\t\0{}", "größe 5 € ".repeat(10_000));
    let texts = ["", " ", "plain", "\0", "'; drop table x; --", "{\"a\": [1,\"\\\"\"]}", &dirty];
    for (text, reason) in texts.into_iter().zip(ErrorKind::ALL) {
        let id = h.in_state(State::Pending).await;
        let claimed = h.claim_this(id).await;
        let mut reader = reader(&h).await;
        let error = text.to_owned();
        h.conclude(&claimed, Conclusion::Fail { kind: reason, error }).await;
        let kept = h.get(id).await.progress.errors.remove(0).message;
        let error = Excerpt::of(&kept);
        assert!(error.as_str().len() <= Excerpt::BYTES_MAX && !error.as_str().contains('\n'));
        let failed = TaskEvent::Failed { ran: Duration::ZERO, reason, error };
        assert_eq!(reader.event().await, of(id, 1, failed, h.instant()));
    }
}

pub async fn delays_are_recorded_as_they_are_kept(h: Harness) {
    for (delay, is_retry) in [(Duration::ZERO, true), (Duration::MAX, true), (Duration::MAX, false)]
    {
        let id = h.in_state(State::Pending).await;
        let claimed = h.claim_this(id).await;
        let mut reader = reader(&h).await;
        h.conclude(&claimed, if is_retry { retry(delay) } else { snooze(delay) }).await;
        let kept = h.get(id).await.progress.run_at;
        match reader.event().await.fact {
            Fact::Task { event: TaskEvent::Retried { run_at, .. }, .. } if is_retry => {
                assert_eq!(run_at, kept);
            }
            Fact::Task { event: TaskEvent::Snoozed { run_at, .. }, .. } if !is_retry => {
                assert_eq!(run_at, kept);
            }
            other => panic!("not what happened: {other:?}"),
        }
        h.apply(id, Command::Delete).await;
    }
}

pub async fn a_report_records_how_far_the_attempt_has_come(h: Harness) {
    let id = h.insert_one(h.task()).await;
    h.claim_and_conclude(id, retry(Duration::ZERO)).await;
    let claimed = h.claim_this(id).await;
    let mut reader = reader(&h).await;
    let foreign = Token::new(claimed.token.get() + 1);
    let reports = [
        (claimed.token, ProgressReport::new(1)),
        (foreign, ProgressReport::new(2)),
        (claimed.token, ProgressReport::new(u64::MAX).of(u64::MAX).message("a word")),
        (claimed.token, ProgressReport::new(0).of(0)),
    ];
    h.advance(SECOND);
    let claims = reports.map(|(token, report)| ClaimReport { id, token, report });
    let verdicts = h.store.report(&claims, h.now()).await.unwrap();
    let applied = Verdict::Applied;
    assert_eq!(verdicts, [applied, Verdict::Stale, applied, applied]);
    let told = [(1, None), (u64::MAX, Some(u64::MAX)), (0, Some(0))];
    let expected =
        told.map(|(done, total)| of(id, 2, TaskEvent::Progressed { done, total }, h.instant()));
    assert_eq!(reader.events().await, expected);
}

pub async fn a_task_runs_no_shorter_than_not_at_all(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let early = Now::At(h.instant() - SignedDuration::from_hours(1));
    let claimed = h.claim_one().await;
    let mut reader = reader(&h).await;
    let outcome = Outcome { id, token: claimed.token, conclusion: cancel() };
    h.store.finish(&[outcome], early).await.unwrap();
    let expected = TaskEvent::Cancelled { ran: Some(Duration::ZERO) };
    let event = reader.event().await;
    assert_eq!(Now::At(event.at), early);
    assert_eq!(event, of(id, 1, expected, event.at));
}

pub async fn instants_are_recorded_in_microseconds(h: Harness) {
    let mut reader = reader(&h).await;
    let fine = h.instant() + SignedDuration::from_nanos(1_999);
    let task = h.task_with(|task| task.run_at = RunAt::At(fine));
    h.store.insert(std::slice::from_ref(&task), Now::At(fine)).await.unwrap();
    let cut = whole_micros(fine);
    assert_eq!(reader.event().await, enqueued(&task, cut, cut));
}

pub async fn instants_of_any_century_are_recorded(h: Harness) {
    let mut reader = reader(&h).await;
    for second in [-62_000_000_000, -1, 0, 1, 250_000_000_000] {
        let now = Timestamp::from_second(second).unwrap() + SignedDuration::from_micros(1);
        let task = h.task();
        h.store.insert(std::slice::from_ref(&task), Now::At(now)).await.unwrap();
        assert_eq!(reader.event().await, enqueued(&task, now, now));
        let request = h.request(1).now(Now::At(Timestamp::from_second(253_000_000_000).unwrap()));
        let claimed = h.store.claim(&request).await.unwrap();
        assert_eq!(claimed[0].id, task.id);
        let Fact::Task { event: TaskEvent::Started { waited, .. }, .. } = reader.event().await.fact
        else {
            panic!("it was started");
        };
        let micros = u128::try_from(253_000_000_000_i64 - second).unwrap() * 1_000_000 - 1;
        assert_eq!(waited.as_micros(), micros);
    }
}

pub async fn the_largest_batch_is_recorded_whole(h: Harness) {
    let mut reader = reader(&h).await;
    let tasks = [h.pack(4_096), h.tasks(5_904)].concat();
    h.create(&tasks).await;
    let expected: Vec<_> =
        tasks.iter().map(|task| enqueued(task, h.instant(), h.instant())).collect();
    assert!(by_task(reader.events().await) == by_task(expected), "ten thousand were enqueued");
}
