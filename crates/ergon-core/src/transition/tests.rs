//! Every phase × every rule.

mod commands;
mod outcomes;

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::{
    limits::{ERRORS_KEPT_MAX, Limits},
    outcome::ConclusionKind,
    state::{State, StateSet},
};

const PHASES: [Phase; 5] =
    [Phase::Waiting, Phase::Running, Phase::Completed, Phase::Failed, Phase::Cancelled];
const OLDER: Token = Token::new(6);
const LIVE: Token = Token::new(7);
const NEWER: Token = Token::new(8);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The instant so many seconds after 1970. Tasks are due at 0, claimed at 10, and the rule under
/// test is applied at 100.
fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn kept() -> Retention {
    Retention { completed: DAY, failed: DAY * 2, cancelled: DAY * 3 }
}

fn retry(seconds: u64) -> Conclusion {
    let delay = Duration::from_secs(seconds);
    Conclusion::Retry { delay, kind: ErrorKind::Error, error: "broke".to_owned() }
}

fn conclusion(kind: ConclusionKind) -> Conclusion {
    match kind {
        ConclusionKind::Complete => Conclusion::Complete { result: Some(Bytes::from("1")) },
        ConclusionKind::Retry => retry(5),
        ConclusionKind::Fail => {
            Conclusion::Fail { kind: ErrorKind::Panic, error: "broke".to_owned() }
        }
        ConclusionKind::Cancel => Conclusion::Cancel { reason: "moot".to_owned() },
        ConclusionKind::Snooze => Conclusion::Snooze { delay: Duration::from_secs(5) },
        ConclusionKind::Release => Conclusion::Release,
    }
}

fn waiting() -> Progress {
    Progress::fresh(3, 25, at(0))
}

fn running() -> Progress {
    let mut progress = waiting();
    claim(&mut progress, LIVE, at(10));
    progress
}

fn asked_to_stop() -> Progress {
    let mut progress = running();
    let asked = order(&mut progress, &cancel("stop"));
    assert_eq!(asked, CommandVerdict::Requested);
    progress
}

/// A task in this phase, brought there by the rules alone.
fn task(phase: Phase) -> Progress {
    let mut progress = running();
    let last = match phase {
        Phase::Waiting => return waiting(),
        Phase::Running => return progress,
        Phase::Completed => ConclusionKind::Complete,
        Phase::Failed => ConclusionKind::Fail,
        Phase::Cancelled => ConclusionKind::Cancel,
    };
    assert_eq!(end(&mut progress, LIVE, &conclusion(last)), Verdict::Applied);
    assert_eq!(progress.phase, phase);
    progress
}

fn end(progress: &mut Progress, token: Token, conclusion: &Conclusion) -> Verdict {
    conclude(progress, &kept(), token, conclusion, at(100))
}

fn order(progress: &mut Progress, order: &Command) -> CommandVerdict {
    command(progress, &kept(), order, at(100))
}

fn cancel(reason: &str) -> Command {
    Command::Cancel { reason: reason.to_owned() }
}

/// The errors as (attempt, kind, message).
fn errors(progress: &Progress) -> Vec<(u16, ErrorKind, &str)> {
    progress.errors.iter().map(|error| (error.attempt, error.kind, &*error.message)).collect()
}

mod claims {
    use super::*;

    #[test]
    fn a_claim_sets_token_and_start_and_nothing_else() {
        let expected =
            Progress { phase: Phase::Running, token: LIVE, started_at: Some(at(10)), ..waiting() };
        assert_eq!(running(), expected);
        assert_eq!(running().state(at(100)), State::Running);
    }

    #[test]
    fn a_claim_after_an_attempt_keeps_what_happened_before() {
        let mut progress = running();
        end(&mut progress, LIVE, &retry(5));
        let before = progress.clone();
        claim(&mut progress, NEWER, at(200));
        let expected =
            Progress { phase: Phase::Running, token: NEWER, started_at: Some(at(200)), ..before };
        assert_eq!(progress, expected);
    }
}

mod retention {
    use super::*;

    #[test]
    fn a_finished_task_expires_by_its_phase_and_an_unfinished_one_never() {
        for (phase, days) in
            [(Phase::Completed, Some(1)), (Phase::Failed, Some(2)), (Phase::Cancelled, Some(3))]
                .into_iter()
                .chain([(Phase::Waiting, None), (Phase::Running, None)])
        {
            let expected = days.map(|days| after(at(100), DAY * days));
            assert_eq!(task(phase).expires_at, expected, "{phase:?}");
        }
    }

    #[test]
    fn the_choice_of_the_task_wins() {
        let own = kept().chosen_by(Some(Duration::ZERO));
        let mut progress = running();
        conclude(&mut progress, &own, LIVE, &conclusion(ConclusionKind::Fail), at(100));
        assert_eq!(progress.expires_at, Some(at(100)));
        assert_eq!(kept().chosen_by(None), kept());
    }

    #[test]
    fn the_longest_retention_ends_with_time() {
        let mut progress = running();
        let for_ever = Retention::uniform(Duration::MAX);
        conclude(&mut progress, &for_ever, LIVE, &conclusion(ConclusionKind::Fail), at(100));
        assert_eq!(progress.expires_at, Some(whole_micros(Timestamp::MAX)));
    }
}

mod rescues {
    use super::*;

    #[test]
    fn a_rescued_task_is_due_as_before_with_one_death_more() {
        let mut progress = running();
        rescue(&mut progress, &kept(), 10, at(100));
        let expected = Progress { phase: Phase::Waiting, crash_count: 1, ..running() };
        assert_eq!(progress, expected);
        assert_eq!(progress.state(at(100)), State::Pending);
    }

    #[test]
    fn the_claim_of_a_rescued_task_is_stale() {
        for kind in ConclusionKind::ALL {
            let mut progress = running();
            rescue(&mut progress, &kept(), 10, at(100));
            let before = progress.clone();
            assert_eq!(end(&mut progress, LIVE, &conclusion(kind)), Verdict::Stale, "{kind:?}");
            assert_eq!(progress, before, "{kind:?}");
        }
    }

    #[test]
    fn deaths_use_up_no_attempt_and_at_the_limit_the_task_fails_as_poison() {
        let mut progress = waiting();
        for death in 1..=POISON_DEATHS_MAX {
            assert_eq!(progress.phase, Phase::Waiting, "death {death}");
            claim(&mut progress, Token::new(death.into()), at(10));
            rescue(&mut progress, &kept(), POISON_DEATHS_MAX, at(100));
            assert_eq!((progress.crash_count, progress.attempt), (death, 0));
        }
        assert_eq!(progress.phase, Phase::Failed);
        let message = "10 servers died while they ran this task";
        assert_eq!(errors(&progress), [(1, ErrorKind::Poison, message)]);
        assert_eq!(progress.finished_at, Some(at(100)));
        assert_eq!(progress.expires_at, Some(after(at(100), DAY * 2)));
    }

    #[test]
    fn a_task_asked_to_stop_is_cancelled_even_as_poison() {
        for deaths_max in [1, 10] {
            let mut progress = asked_to_stop();
            rescue(&mut progress, &kept(), deaths_max, at(100));
            assert_eq!((progress.phase, progress.crash_count), (Phase::Cancelled, 1));
            assert_eq!(errors(&progress), [(1, ErrorKind::Cancelled, "stop")]);
            assert_eq!(progress.expires_at, Some(after(at(100), DAY * 3)));
        }
    }
}

mod scopes {
    use super::*;

    #[test]
    fn every_scope_ends_where_it_says() {
        let with =
            |states: &[State]| UniqueScope::While(StateSet::UNFINISHED.union(StateSet::of(states)));
        // In the order of the phases.
        for (scope, expected) in [
            (UniqueScope::UntilStarted, [false, true, true, true, true]),
            (UniqueScope::UntilFinished, [false, false, true, true, true]),
            (with(&[]), [false, false, true, true, true]),
            (with(&[State::Completed]), [false, false, false, true, true]),
            (with(&[State::Failed, State::Cancelled]), [false, false, true, false, false]),
            (UniqueScope::While(StateSet::ALL), [false; 5]),
            (UniqueScope::For(DAY), [false; 5]),
        ] {
            for (phase, expected) in PHASES.into_iter().zip(expected) {
                let has_left = has_left_scope(scope, &task(phase));
                assert_eq!(has_left, expected, "{scope:?} {phase:?}");
            }
        }
    }

    #[test]
    fn a_task_that_was_started_once_has_left_the_scope_for_good() {
        for kind in [ConclusionKind::Retry, ConclusionKind::Snooze, ConclusionKind::Release] {
            let mut progress = running();
            end(&mut progress, LIVE, &conclusion(kind));
            assert_eq!(progress.phase, Phase::Waiting);
            assert!(has_left_scope(UniqueScope::UntilStarted, &progress), "{kind:?}");
            assert!(!has_left_scope(UniqueScope::UntilFinished, &progress), "{kind:?}");
        }
    }

    #[test]
    fn the_due_time_does_not_matter() {
        for run_at in [Timestamp::MIN, at(0), Timestamp::MAX] {
            let progress = Progress { run_at, ..waiting() };
            for scope in [
                UniqueScope::UntilStarted,
                UniqueScope::UntilFinished,
                UniqueScope::While(StateSet::UNFINISHED),
            ] {
                assert!(!has_left_scope(scope, &progress), "{scope:?} {run_at}");
            }
        }
    }

    #[test]
    fn the_states_of_a_scope_say_the_same() {
        for scope in [UniqueScope::UntilFinished, UniqueScope::While(StateSet::ALL)] {
            let states = scope.states().unwrap();
            for phase in PHASES {
                let progress = task(phase);
                let is_held = states.contains(progress.state(at(100)));
                assert_eq!(has_left_scope(scope, &progress), !is_held, "{scope:?} {phase:?}");
            }
        }
        assert_eq!(UniqueScope::For(DAY).states(), None);
    }
}
