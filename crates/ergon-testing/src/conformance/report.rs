//! Cases of `report`: how far running tasks have come.

use ergon_core::{
    Conclusion, Order, ProgressReport, State, StoreError, TaskFilter, TaskId, Token, Verdict,
    report::{ClaimReport, KeptReport, REPORT_BYTES_MAX},
    store::LEASE_DEFAULT,
};

use crate::harness::{
    Harness, MICROSECOND, SECOND, cancel_command, complete, every_conclusion, held, retry,
};

/// Reports under any token.
async fn report(h: &Harness, id: TaskId, token: Token, report: ProgressReport) -> Verdict {
    report_all(h, &[ClaimReport { id, token, report }]).await[0]
}

async fn report_all(h: &Harness, reports: &[ClaimReport]) -> Vec<Verdict> {
    let verdicts = h.store.report(reports, h.now()).await.unwrap();
    assert_eq!(verdicts.len(), reports.len(), "one verdict a report");
    verdicts
}

/// What is kept of a task, by id and in a list alike.
async fn kept(h: &Harness, id: TaskId) -> Option<KeptReport> {
    let task = h.get(id).await;
    let listed = h.walk(&TaskFilter::all(), 1_000, Order::NewestFirst).await;
    assert!(listed.contains(&task), "a list shows what a read by id shows: {task:?}");
    task.report
}

pub async fn a_report_is_shown_while_its_attempt_runs(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let other = h.insert_one(h.task_with(|task| task.priority = -1)).await;
    let claimed = h.claim(1).await.remove(0);
    assert_eq!(kept(&h, id).await, None);
    h.advance(SECOND + MICROSECOND);
    let told = ProgressReport::new(3).of(7).message("größe: 5 €\nzweite Zeile");
    assert_eq!(report(&h, id, claimed.token, told.clone()).await, Verdict::Applied);
    let expected = KeptReport { at: h.instant(), report: told };
    h.advance(SECOND);
    assert_eq!(kept(&h, id).await, Some(expected));
    assert_eq!(kept(&h, other).await, None);
}

pub async fn a_report_replaces_the_one_before_it_whole(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let claimed = h.claim_one().await;
    let reports = [
        ProgressReport::new(5).of(9).message("much"),
        ProgressReport::new(6),
        ProgressReport::new(2).of(4),
        ProgressReport::new(0).message("little"),
    ];
    for told in reports {
        h.advance(SECOND);
        assert_eq!(report(&h, id, claimed.token, told.clone()).await, Verdict::Applied);
        assert_eq!(kept(&h, id).await, Some(KeptReport { at: h.instant(), report: told }));
    }
}

pub async fn of_several_reports_of_a_claim_in_a_batch_the_last_is_kept(h: Harness) {
    let ids = h.create(&h.tasks(2)).await;
    let claimed = h.claim(2).await;
    let claim = |at: usize, done| ClaimReport {
        id: claimed[at].id,
        token: claimed[at].token,
        report: ProgressReport::new(done),
    };
    let reports = [claim(0, 9), claim(1, 1), claim(0, 3), claim(0, 5)];
    assert_eq!(report_all(&h, &reports).await, [Verdict::Applied; 4]);
    let done = async |id| kept(&h, id).await.unwrap().report.done;
    assert_eq!((done(ids[0]).await, done(ids[1]).await), (5, 1));
}

pub async fn a_report_is_gone_with_the_end_of_its_attempt(h: Harness) {
    for conclusion in every_conclusion() {
        let id = h.in_state(State::Pending).await;
        let claimed = h.claim_this(id).await;
        report(&h, id, claimed.token, ProgressReport::new(1)).await;
        h.conclude(&claimed, conclusion.clone()).await;
        assert_eq!(kept(&h, id).await, None, "after {conclusion:?}");
        h.apply(id, ergon_core::Command::Retry).await;
        let again = h.claim_this(id).await;
        assert_eq!(kept(&h, id).await, None, "in the attempt after {conclusion:?}");
        h.conclude(&again, complete()).await;
    }
}

pub async fn a_report_is_gone_with_the_rescue_of_its_task(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let claimed = h.claim_one().await;
    report(&h, id, claimed.token, ProgressReport::new(1)).await;
    h.advance(LEASE_DEFAULT);
    assert_eq!(h.rescue().await.done, 1);
    assert_eq!(kept(&h, id).await, None);
    let stale = report(&h, id, claimed.token, ProgressReport::new(2)).await;
    assert_eq!((stale, kept(&h, id).await), (Verdict::Stale, None));
    let again = h.claim_one().await;
    assert_eq!(kept(&h, id).await, None);
    let stale = report(&h, id, claimed.token, ProgressReport::new(3)).await;
    assert_eq!((stale, kept(&h, id).await), (Verdict::Stale, None));
    assert_eq!(report(&h, id, again.token, ProgressReport::new(4)).await, Verdict::Applied);
    assert_eq!(kept(&h, id).await.unwrap().report.done, 4);
}

pub async fn a_report_of_no_live_claim_is_stale_and_changes_nothing(h: Harness) {
    let running = h.in_state(State::Running).await;
    let token = h.get(running).await.progress.token;
    report(&h, running, token, ProgressReport::new(1)).await;
    let mut stale = vec![
        (running, Token::new(token.get() + 1)),
        (running, Token::NONE),
        (running, Token::new(u64::MAX)),
        (h.id(), token),
        (TaskId::MAX, Token::NONE),
    ];
    for state in [State::Scheduled, State::Pending, State::Retrying, State::Completed] {
        let id = h.in_state(state).await;
        let newest = h.get(id).await.progress.token;
        stale.extend([(id, newest), (id, Token::new(newest.get() + 1)), (id, Token::NONE)]);
        if state == State::Pending {
            h.apply(id, cancel_command()).await;
        }
    }
    let report = ProgressReport::new(7).message("late");
    let claim = |(id, token)| ClaimReport { id, token, report: report.clone() };
    let reports: Vec<_> = stale.into_iter().map(claim).collect();
    let verdicts = h.changing_nothing("stale reports", report_all(&h, &reports)).await;
    assert_eq!(verdicts, vec![Verdict::Stale; reports.len()]);
}

pub async fn a_stale_report_does_not_stop_its_batch(h: Harness) {
    let ids = h.create(&h.tasks(3)).await;
    let claimed = h.claim(3).await;
    h.conclude(&claimed[1], complete()).await;
    let claim = |id, token: Token| ClaimReport { id, token, report: ProgressReport::new(1) };
    let own = |at: usize| claim(ids[at], claimed[at].token);
    let batch = [claim(h.id(), Token::new(1)), own(2), own(1), claim(ids[0], Token::NONE), own(0)];
    let (stale, applied) = (Verdict::Stale, Verdict::Applied);
    assert_eq!(report_all(&h, &batch).await, [stale, applied, stale, stale, applied]);
    assert!(kept(&h, ids[0]).await.is_some() && kept(&h, ids[2]).await.is_some());
    assert_eq!(kept(&h, ids[1]).await, None);
}

pub async fn a_claim_is_live_until_somebody_ends_it(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let claimed = h.claim_one().await;
    h.advance(LEASE_DEFAULT * 2);
    assert_eq!(report(&h, id, claimed.token, ProgressReport::new(1)).await, Verdict::Applied);
    h.apply(id, cancel_command()).await;
    assert_eq!(kept(&h, id).await.unwrap().report.done, 1);
    assert_eq!(report(&h, id, claimed.token, ProgressReport::new(2)).await, Verdict::Applied);
    assert_eq!(kept(&h, id).await.unwrap().report.done, 2);
    let reply = h.beat(crate::harness::SERVER, &[held(&claimed)]).await;
    assert_eq!(reply.cancelled, [held(&claimed)]);
    assert_eq!(kept(&h, id).await.unwrap().report.done, 2, "a beat keeps it");
}

pub async fn a_report_changes_nothing_else(h: Harness) {
    let id = h.in_state(State::Retrying).await;
    h.advance(crate::harness::HOUR);
    let claimed = h.claim_this(id).await;
    let before = h.projection().await;
    report(&h, id, claimed.token, ProgressReport::new(1)).await;
    let mut after = h.projection().await;
    assert!(after.tasks[0].report.take().is_some());
    after.assert_same(&before, "all but the report");
    // Least of all the lease.
    h.advance(LEASE_DEFAULT - MICROSECOND);
    report(&h, id, claimed.token, ProgressReport::new(2)).await;
    assert_eq!(h.rescue().await.done, 0);
    h.advance(MICROSECOND);
    assert_eq!(h.rescue().await.done, 1);
}

pub async fn reports_of_every_number_and_text_are_kept(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let claimed = h.claim_one().await;
    let longest = "ä".repeat(REPORT_BYTES_MAX / 2);
    let reports = [
        ProgressReport::new(0),
        ProgressReport::new(0).of(0),
        ProgressReport::new(u64::MAX).of(u64::MAX),
        ProgressReport::new(1 << 63).of((1 << 63) - 1),
        ProgressReport::new(9).of(1).message(longest),
        ProgressReport::new(1).message("\t\u{1}\u{7f}\r\n'; -- \\ {} % \u{10ffff}"),
    ];
    for told in reports {
        assert_eq!(report(&h, id, claimed.token, told.clone()).await, Verdict::Applied);
        assert_eq!(kept(&h, id).await.unwrap().report, told);
    }
}

pub async fn a_message_that_was_not_made_storable_is(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let claimed = h.claim_one().await;
    for message in ["\0".to_owned(), "nul \0 within".to_owned(), "ä".repeat(REPORT_BYTES_MAX)] {
        let dirty = ProgressReport { message: message.clone(), ..ProgressReport::new(1) };
        assert_eq!(report(&h, id, claimed.token, dirty).await, Verdict::Applied);
        let expected = ProgressReport::new(1).message(message);
        assert_eq!(kept(&h, id).await.unwrap().report, expected);
    }
}

pub async fn a_full_batch_is_reported_at_once(h: Harness) {
    h.create(&h.pack(2_000)).await;
    let claimed = h.claim(2_000).await;
    let reports: Vec<_> = (0..10_000_usize)
        .zip(claimed.iter().cycle())
        .map(|(number, task)| ClaimReport {
            id: task.id,
            token: task.token,
            report: ProgressReport::new(u64::try_from(number).unwrap()),
        })
        .collect();
    assert!(report_all(&h, &reports).await == vec![Verdict::Applied; 10_000]);
    let shown = h.walk(&TaskFilter::all(), 1_000, Order::OldestFirst).await;
    let done: Vec<_> = shown.iter().map(|task| task.report.as_ref().unwrap().report.done).collect();
    assert_eq!(done, (8_000..10_000).collect::<Vec<_>>());
}

pub async fn reports_and_ends_of_claims_at_once_agree(h: Harness) {
    for round in 0..20 {
        let id = h.in_state(State::Pending).await;
        let claimed = h.claim_this(id).await;
        let conclusion = if round % 2 == 0 { complete() } else { Conclusion::Release };
        let (reported, ended) = tokio::join!(
            report(&h, id, claimed.token, ProgressReport::new(1)),
            h.finish(&claimed, conclusion),
        );
        assert!(matches!(reported, Verdict::Applied | Verdict::Stale), "{reported:?}");
        assert_eq!((ended, kept(&h, id).await), (Verdict::Applied, None));
        if round % 2 == 1 {
            h.claim_and_conclude(id, retry(crate::harness::HOUR)).await;
            assert_eq!(kept(&h, id).await, None);
        }
    }
}

pub async fn a_batch_of_no_or_too_many_reports_reports_nothing(h: Harness) {
    let id = h.insert_one(h.task()).await;
    let claimed = h.claim_one().await;
    assert_eq!(report_all(&h, &[]).await, []);
    let claim = ClaimReport { id, token: claimed.token, report: ProgressReport::new(1) };
    let answer = h.store.report(&vec![claim; 10_001], h.now()).await;
    let is_refused = matches!(answer, Err(StoreError::BatchTooLarge { len: 10_001, max: 10_000 }));
    assert!(is_refused, "{answer:?}");
    assert_eq!(kept(&h, id).await, None);
}
