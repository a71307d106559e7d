//! What a worker writes: live, stale, repeated, after a request to stop.

use super::*;

#[test]
fn a_live_outcome_does_what_it_says() {
    use ConclusionKind as Kind;
    let panic = vec![(1, ErrorKind::Panic, "broke")];
    for (kind, phase, attempt, run_at, kept_errors) in [
        (Kind::Complete, Phase::Completed, 1, 0, vec![]),
        (Kind::Retry, Phase::Waiting, 1, 105, vec![(1, ErrorKind::Error, "broke")]),
        (Kind::Fail, Phase::Failed, 1, 0, panic),
        (Kind::Cancel, Phase::Cancelled, 1, 0, vec![(1, ErrorKind::Cancelled, "moot")]),
        (Kind::Snooze, Phase::Waiting, 0, 105, vec![]),
        (Kind::Release, Phase::Waiting, 0, 0, vec![]),
    ] {
        let mut progress = running();
        assert_eq!(end(&mut progress, LIVE, &conclusion(kind)), Verdict::Applied, "{kind:?}");
        assert_eq!(progress.phase, phase, "{kind:?}");
        assert_eq!(progress.attempt, attempt, "{kind:?}");
        assert_eq!(progress.run_at, at(run_at), "{kind:?}");
        assert_eq!(errors(&progress), kept_errors, "{kind:?}");
        assert!(progress.errors.iter().all(|error| error.at == at(100)), "{kind:?}");
        assert_eq!(progress.settled, Some(Settled { token: LIVE, kind }));
        assert_eq!(progress.result.is_some(), kind == Kind::Complete, "{kind:?}");
        let finished_at = phase.is_terminal().then(|| at(100));
        assert_eq!(progress.finished_at, finished_at, "{kind:?}");
        // Neither the claim nor what was chosen at the enqueue is touched.
        let unchanged = (progress.token, progress.started_at, progress.crash_count);
        assert_eq!(unchanged, (LIVE, Some(at(10)), 0));
        assert_eq!((progress.priority, progress.max_attempts), (3, 25));
    }
}

#[test]
fn an_outcome_that_is_not_of_the_live_claim_changes_nothing() {
    for phase in PHASES {
        for kind in ConclusionKind::ALL {
            for token in [Token::NONE, OLDER, LIVE, NEWER] {
                let before = task(phase);
                let is_live = phase == Phase::Running && token == LIVE;
                let repeats = before.settled == Some(Settled { token, kind });
                if is_live || repeats {
                    continue;
                }
                let mut progress = before.clone();
                let verdict = end(&mut progress, token, &conclusion(kind));
                assert_eq!(verdict, Verdict::Stale, "{phase:?} {kind:?} {token}");
                assert_eq!(progress, before, "{phase:?} {kind:?} {token}");
            }
        }
    }
}

#[test]
fn a_repeated_outcome_is_recognised_by_its_token_and_kind_and_changes_nothing() {
    for first in ConclusionKind::ALL {
        for second in ConclusionKind::ALL {
            let mut progress = running();
            end(&mut progress, LIVE, &conclusion(first));
            let before = progress.clone();
            let verdict = end(&mut progress, LIVE, &conclusion(second));
            let is_same = first == second;
            let expected = if is_same { Verdict::AlreadyApplied } else { Verdict::Stale };
            assert_eq!(verdict, expected, "{first:?} then {second:?}");
            assert_eq!(progress, before, "{first:?} then {second:?}");
        }
    }
}

#[test]
fn an_outcome_is_recognised_until_the_next_one_is_applied() {
    let mut progress = running();
    end(&mut progress, LIVE, &retry(5));
    claim(&mut progress, NEWER, at(200));
    assert_eq!(end(&mut progress, LIVE, &retry(5)), Verdict::AlreadyApplied);
    assert_eq!(progress.phase, Phase::Running);
    end(&mut progress, NEWER, &Conclusion::Release);
    assert_eq!(end(&mut progress, LIVE, &retry(5)), Verdict::Stale);
}

#[test]
fn a_task_never_claimed_takes_no_outcome() {
    let mut progress = waiting();
    progress.phase = Phase::Failed;
    for kind in ConclusionKind::ALL {
        assert_eq!(end(&mut progress, Token::NONE, &conclusion(kind)), Verdict::Stale);
    }
}

#[test]
fn after_a_request_to_stop_every_outcome_cancels() {
    use ConclusionKind as Kind;
    let reason = (1, ErrorKind::Cancelled, "stop");
    for (kind, attempt, own_error) in [
        (Kind::Complete, 1, None),
        (Kind::Retry, 1, Some((1, ErrorKind::Error, "broke"))),
        (Kind::Fail, 1, Some((1, ErrorKind::Panic, "broke"))),
        (Kind::Cancel, 1, None),
        (Kind::Snooze, 0, None),
        (Kind::Release, 0, None),
    ] {
        let mut progress = asked_to_stop();
        let verdict = end(&mut progress, LIVE, &conclusion(kind));
        assert_eq!(verdict, Verdict::CancelRequested, "{kind:?}");
        assert_eq!(progress.phase, Phase::Cancelled, "{kind:?}");
        assert_eq!(progress.attempt, attempt, "{kind:?}");
        let expected: Vec<_> = [Some(reason), own_error].into_iter().flatten().collect();
        assert_eq!(errors(&progress), expected, "{kind:?}");
        assert_eq!(progress.result, None, "{kind:?}");
        assert_eq!(progress.finished_at, Some(at(100)), "{kind:?}");
        assert_eq!(progress.expires_at, Some(after(at(100), DAY * 3)), "{kind:?}");
        // The reply was lost, and the worker writes again.
        let again = end(&mut progress, LIVE, &conclusion(kind));
        assert_eq!(again, Verdict::AlreadyApplied, "{kind:?}");
    }
}

#[test]
fn attempts_are_used_up_one_by_one_until_the_task_fails() {
    let mut progress = Progress::fresh(0, 3, at(0));
    for (token, phase) in [(1, Phase::Waiting), (2, Phase::Waiting), (3, Phase::Failed)] {
        claim(&mut progress, Token::new(token), at(10));
        end(&mut progress, Token::new(token), &retry(5));
        assert_eq!(progress.phase, phase, "attempt {token}");
        assert_eq!(u64::from(progress.attempt), token);
    }
    let attempts: Vec<_> = errors(&progress).iter().map(|error| error.0).collect();
    assert_eq!(attempts, [1, 2, 3]);
    assert_eq!(progress.expires_at, Some(after(at(100), DAY * 2)));
}

#[test]
fn snoozes_and_releases_use_up_no_attempt_however_many() {
    let mut progress = Progress::fresh(0, 1, at(0));
    for token in 1..=100 {
        let token = Token::new(token);
        claim(&mut progress, token, at(10));
        let kind = ConclusionKind::ALL[4 + usize::from(token.get().is_multiple_of(2))];
        assert_eq!(end(&mut progress, token, &conclusion(kind)), Verdict::Applied);
        assert_eq!((progress.phase, progress.attempt), (Phase::Waiting, 0));
    }
}

#[test]
fn a_release_keeps_the_due_time_and_with_it_the_place_in_the_queue() {
    let mut progress = running();
    end(&mut progress, LIVE, &Conclusion::Release);
    assert_eq!(progress.run_at, at(0));
    assert_eq!(progress.state(at(100)), State::Pending);
}

#[test]
fn the_longest_delay_ends_at_the_horizon() {
    let snooze = Conclusion::Snooze { delay: Duration::MAX }.storable(&Limits::default());
    let mut progress = running();
    end(&mut progress, LIVE, &snooze);
    assert_eq!(progress.run_at, after(at(100), HORIZON));
}

#[test]
fn the_last_ten_errors_are_kept() {
    let mut progress = Progress::fresh(0, u16::MAX, at(0));
    for attempt in 1..=25 {
        let token = Token::new(attempt);
        claim(&mut progress, token, at(10));
        let error = format!("error {attempt}");
        let delay = Duration::ZERO;
        end(&mut progress, token, &Conclusion::Retry { delay, kind: ErrorKind::Error, error });
    }
    assert_eq!(progress.errors.len(), ERRORS_KEPT_MAX);
    let expected: Vec<_> = (16..=25).map(|attempt| format!("error {attempt}")).collect();
    let messages: Vec<_> = progress.errors.iter().map(|error| &error.message).collect();
    assert!(messages.into_iter().eq(&expected));
    assert_eq!(progress.errors[0].attempt, 16);
}

#[test]
fn counters_stop_at_the_top_of_their_range() {
    let mut progress = Progress { attempt: u16::MAX, max_attempts: u16::MAX, ..running() };
    end(&mut progress, LIVE, &retry(5));
    assert_eq!((progress.phase, progress.attempt), (Phase::Failed, u16::MAX));
    assert_eq!(progress.errors[0].attempt, u16::MAX);
    let mut progress = Progress { crash_count: u16::MAX, ..running() };
    rescue(&mut progress, &kept(), u16::MAX, at(100));
    assert_eq!((progress.phase, progress.crash_count), (Phase::Failed, u16::MAX));
}
