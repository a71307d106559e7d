//! An operator's commands in every phase, and what a reopened task forgets.

use super::*;

/// What each phase answers, in the order of [`PHASES`], and that it changes nothing unless it
/// says so.
#[track_caller]
fn check(command: &Command, expected: [CommandVerdict; 5]) {
    for (phase, expected) in PHASES.into_iter().zip(expected) {
        let before = task(phase);
        let mut progress = before.clone();
        assert_eq!(order(&mut progress, command), expected, "{phase:?}");
        let may_change = matches!(expected, CommandVerdict::Applied | CommandVerdict::Requested);
        // The removal is the store's part of a delete.
        let must_change = may_change && *command != Command::Delete;
        assert_eq!(progress != before, must_change, "{phase:?}");
    }
}

const DONE: CommandVerdict = CommandVerdict::Applied;
const NOTHING: CommandVerdict = CommandVerdict::Unchanged;
const NOT_RUNNING: CommandVerdict = CommandVerdict::Illegal(State::Running);
const NOT_COMPLETED: CommandVerdict = CommandVerdict::Illegal(State::Completed);
const NOT_FAILED: CommandVerdict = CommandVerdict::Illegal(State::Failed);
const NOT_CANCELLED: CommandVerdict = CommandVerdict::Illegal(State::Cancelled);

#[test]
fn every_command_has_its_answer_in_every_phase() {
    let requested = CommandVerdict::Requested;
    check(&cancel("stop"), [DONE, requested, NOT_COMPLETED, NOT_FAILED, NOTHING]);
    // The waiting task is due, and there is nothing to hurry.
    check(&Command::Retry, [NOTHING, NOT_RUNNING, DONE, DONE, DONE]);
    check(&Command::Delete, [DONE, NOT_RUNNING, DONE, DONE, DONE]);
    let rest = [NOT_RUNNING, NOT_COMPLETED, NOT_FAILED, NOT_CANCELLED];
    let [running, completed, failed, cancelled] = rest;
    for (command, waiting) in [
        (Command::Reschedule { run_at: at(500) }, DONE),
        (Command::Reschedule { run_at: at(0) }, NOTHING),
        (Command::SetPriority { priority: -7 }, DONE),
        (Command::SetPriority { priority: 3 }, NOTHING),
    ] {
        check(&command, [waiting, running, completed, failed, cancelled]);
    }
}

#[test]
fn a_refusal_names_the_state_at_the_instant() {
    let mut progress = running();
    assert_eq!(order(&mut progress, &Command::Delete), NOT_RUNNING);
    assert_eq!(progress, running());
}

#[test]
fn a_waiting_task_is_called_off_at_once() {
    let mut progress = waiting();
    assert_eq!(order(&mut progress, &cancel("moot")), DONE);
    assert_eq!(progress.phase, Phase::Cancelled);
    // It had no attempt.
    assert_eq!(errors(&progress), [(0, ErrorKind::Cancelled, "moot")]);
    assert_eq!((progress.attempt, progress.cancel_requested), (0, false));
    assert_eq!(progress.finished_at, Some(at(100)));
    assert_eq!(progress.expires_at, Some(after(at(100), DAY * 3)));
}

#[test]
fn a_running_task_is_asked_once_to_stop_and_goes_on_running() {
    let mut progress = asked_to_stop();
    assert_eq!((progress.phase, progress.token), (Phase::Running, LIVE));
    assert!(progress.cancel_requested);
    assert_eq!(errors(&progress), [(1, ErrorKind::Cancelled, "stop")]);
    assert_eq!(progress.finished_at, None);
    let before = progress.clone();
    assert_eq!(order(&mut progress, &cancel("stop!")), NOTHING);
    assert_eq!(progress, before);
}

#[test]
fn a_task_that_waits_for_its_time_is_hurried() {
    let mut progress = running();
    end(&mut progress, LIVE, &retry(500));
    assert_eq!(progress.state(at(100)), State::Retrying);
    let before = progress.clone();
    assert_eq!(order(&mut progress, &Command::Retry), DONE);
    assert_eq!(progress, Progress { run_at: at(100), ..before });
    assert_eq!(progress.state(at(100)), State::Pending);
}

#[test]
fn instants_are_kept_in_microseconds() {
    let mut progress = waiting();
    let fine = Timestamp::new(500, 1_999).unwrap();
    assert_eq!(order(&mut progress, &Command::Reschedule { run_at: fine }), DONE);
    assert_eq!(progress.run_at, Timestamp::new(500, 1_000).unwrap());
    assert_eq!(order(&mut progress, &Command::Reschedule { run_at: fine }), NOTHING);
}

#[test]
fn a_reopened_task_is_due_at_once_and_keeps_errors_attempts_and_token() {
    for phase in [Phase::Completed, Phase::Failed, Phase::Cancelled] {
        let before = Progress { crash_count: 4, ..task(phase) };
        let mut progress = before.clone();
        assert_eq!(order(&mut progress, &Command::Retry), DONE, "{phase:?}");
        let expected = Progress {
            phase: Phase::Waiting,
            run_at: at(100),
            crash_count: 0,
            settled: None,
            finished_at: None,
            expires_at: None,
            result: None,
            ..before
        };
        assert_eq!(progress, expected, "{phase:?}");
        assert_eq!(progress.state(at(100)), State::Pending, "{phase:?}");
        assert_eq!(progress.token, LIVE, "{phase:?}");
    }
}

#[test]
fn a_reopened_task_takes_no_outcome_of_before() {
    for phase in [Phase::Completed, Phase::Failed, Phase::Cancelled] {
        for kind in ConclusionKind::ALL {
            let mut progress = task(phase);
            order(&mut progress, &Command::Retry);
            let before = progress.clone();
            let verdict = end(&mut progress, LIVE, &conclusion(kind));
            assert_eq!(verdict, Verdict::Stale, "{phase:?} {kind:?}");
            assert_eq!(progress, before, "{phase:?} {kind:?}");
            // Nor while somebody runs it anew.
            claim(&mut progress, NEWER, at(200));
            assert_eq!(end(&mut progress, LIVE, &conclusion(kind)), Verdict::Stale);
        }
    }
}

#[test]
fn a_task_that_had_been_asked_to_stop_runs_freely_once_reopened() {
    let mut progress = asked_to_stop();
    end(&mut progress, LIVE, &Conclusion::Release);
    order(&mut progress, &Command::Retry);
    assert!(!progress.cancel_requested);
    claim(&mut progress, NEWER, at(200));
    let complete = conclusion(ConclusionKind::Complete);
    assert_eq!(end(&mut progress, NEWER, &complete), Verdict::Applied);
}

#[test]
fn an_exhausted_task_gets_one_attempt_more() {
    let mut progress = Progress { max_attempts: 1, ..running() };
    end(&mut progress, LIVE, &retry(5));
    assert_eq!(progress.phase, Phase::Failed);
    order(&mut progress, &Command::Retry);
    assert_eq!((progress.attempt, progress.max_attempts), (1, 2));
    claim(&mut progress, NEWER, at(200));
    end(&mut progress, NEWER, &retry(5));
    assert_eq!((progress.phase, progress.attempt), (Phase::Failed, 2));
}

#[test]
fn at_the_top_of_the_range_a_reopened_task_starts_over() {
    let top = u16::MAX;
    let mut progress = Progress { attempt: top, max_attempts: top, ..task(Phase::Failed) };
    order(&mut progress, &Command::Retry);
    assert_eq!((progress.attempt, progress.max_attempts), (0, top));
}

#[test]
fn commands_are_checked_whatever_the_task() {
    let horizon = after(at(100), HORIZON);
    let reschedule = |run_at| check_command(Command::Reschedule { run_at }, 10, at(100));
    assert_eq!(reschedule(horizon), Ok(Command::Reschedule { run_at: horizon }));
    let beyond = after(horizon, Duration::from_micros(1));
    assert_eq!(reschedule(beyond), Err(Rejection::BeyondHorizon { what: "run_at" }));
    assert!(reschedule(Timestamp::MIN).is_ok());
    let cleaned = check_command(cancel("a\0b and much more"), 10, at(100));
    assert_eq!(cleaned, Ok(cancel("a\u{fffd}b and ")));
    for command in [Command::Retry, Command::Delete, Command::SetPriority { priority: 1 }] {
        assert_eq!(check_command(command.clone(), 10, at(100)), Ok(command));
    }
}
