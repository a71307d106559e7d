//! Tests of whose turn it is, and what a step comes to.

use super::*;
use crate::{
    filter::TaskPage,
    name::KindName,
    progress::Progress,
    record::{TaskRecord, TaskSpec},
    state::State,
};

const ME: ServerId = ServerId::from_u128(1);
const OTHER: ServerId = ServerId::from_u128(2);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn id(number: u64) -> TaskId {
    TaskId::from_parts(number, 0, 0)
}

fn operation(rate: Option<u32>) -> Operation {
    let new = NewOperation::new(TaskFilter::all(), Command::Retry, Actor::new("ana")).note("why");
    let new = rate.map_or(new.clone(), |rate| new.rate_per_second(rate));
    new.make(OperationId(id(9)), at(0), Count { value: 5, is_exact: true }, id(100))
}

#[test]
fn one_works_on_it_until_its_lease_is_over() {
    let mut operation = operation(None);
    assert_eq!(operation.turn(ME, at(0)), Turn::Claim);
    operation.own(ME, at(0));
    for (me, second, expected) in [
        (ME, 0, Turn::Mine),
        (ME, 14, Turn::Mine),
        // Before the lease is short it is prolonged.
        (ME, 15, Turn::Claim),
        (ME, 31, Turn::Claim),
        (OTHER, 0, Turn::Later(at(30))),
        (OTHER, 29, Turn::Later(at(30))),
        (OTHER, 30, Turn::Claim),
    ] {
        assert_eq!(operation.turn(me, at(second)), expected, "{me} {second}");
    }
    assert!(operation.is_owned_by(ME) && !operation.is_owned_by(OTHER));
}

#[test]
fn what_is_paused_or_over_is_nobodys_turn() {
    for (state, is_over) in [
        (OperationState::Paused, false),
        (OperationState::Stopped, true),
        (OperationState::Finished, true),
    ] {
        let mut operation = operation(None);
        operation.own(ME, at(0));
        assert!(operation.set_state(state, at(1)));
        assert!(!operation.set_state(state, at(2)), "it stands so");
        assert_eq!(operation.turn(ME, at(1)), Turn::Nobody);
        assert_eq!(operation.ended_at.is_some(), is_over);
        assert_eq!(operation.expires_at(), is_over.then(|| after(at(1), KEPT)));
        assert_eq!(operation.set_state(OperationState::Running, at(2)), !is_over, "{state:?}");
    }
}

fn page(ids: &[u64], next: Option<u64>) -> TaskPage {
    let spec = TaskSpec::new(KindName::new("k").unwrap(), "{}");
    let record = |&number: &u64| TaskRecord {
        id: id(number),
        spec: spec.clone(),
        created_at: at(0),
        progress: Progress::fresh(0, 1, at(0)),
        state: State::Pending,
        report: None,
    };
    TaskPage { tasks: ids.iter().map(record).collect(), next: next.map(id) }
}

#[test]
fn a_page_ends_where_the_operation_does() {
    let operation = operation(None);
    for (ids, next, expected) in [
        (&[1, 2][..], Some(2), (vec![1, 2], Some(2))),
        (&[1, 2], None, (vec![1, 2], None)),
        (&[], Some(7), (vec![], Some(7))),
        (&[99, 100, 101], Some(101), (vec![99, 100], None)),
        (&[99, 100], Some(100), (vec![99, 100], None)),
        (&[101], None, (vec![], None)),
        (&[], None, (vec![], None)),
    ] {
        let expected = (expected.0.into_iter().map(id).collect(), expected.1.map(id));
        assert_eq!(operation.of_page(&page(ids, next)), expected, "{ids:?} {next:?}");
    }
}

#[test]
fn a_step_counts_what_it_did_and_goes_on_behind_it() {
    let mut operation = operation(None);
    let verdicts = [
        (id(1), CommandVerdict::Applied),
        (id(2), CommandVerdict::Requested),
        (id(3), CommandVerdict::Unchanged),
        (id(4), CommandVerdict::Illegal(State::Running)),
        (id(5), CommandVerdict::NotFound),
    ];
    let done = Done { verdicts: verdicts.into(), cursor: Some(id(6)) };
    operation.note(ME, &done, at(5));
    let Operation { seen, changed, unchanged, illegal, gone, .. } = operation;
    assert_eq!([seen, changed, unchanged, illegal, gone], [5, 2, 1, 1, 1]);
    assert_eq!(operation.page().after, Some(id(6)));
    assert_eq!(operation.owner, Some(Owner { id: ME, until: at(35) }));
    let problems: Vec<_> = operation.problems.iter().map(|it| it.id).collect();
    assert_eq!(problems, [id(4), id(5)]);
    // Only the newest problems are kept.
    let many = (10..40).map(|number| (id(number), CommandVerdict::NotFound)).collect();
    operation.note(ME, &Done { verdicts: many, cursor: None }, at(6));
    assert_eq!(operation.problems.len(), PROBLEMS_MAX);
    assert_eq!(operation.problems[0].id, id(20));
    assert_eq!((operation.state, operation.cursor), (OperationState::Finished, Some(id(39))));
    assert_eq!((operation.owner, operation.ended_at), (None, Some(at(6))));
}

#[test]
fn what_was_done_before_a_pause_counts_and_the_pause_stays() {
    let mut operation = operation(None);
    operation.set_state(OperationState::Paused, at(1));
    let verdicts = vec![(id(1), CommandVerdict::Applied)];
    operation.note(ME, &Done { verdicts, cursor: Some(id(1)) }, at(2));
    assert_eq!((operation.changed, operation.state), (1, OperationState::Paused));
    let verdicts = vec![(id(2), CommandVerdict::Applied)];
    operation.note(ME, &Done { verdicts, cursor: None }, at(2));
    assert_eq!(operation.state, OperationState::Finished, "nothing is left to halt");
}

#[test]
fn a_rate_makes_pages_small_and_pauses_long_enough() {
    for (rate, limit) in [(None, 500), (Some(0), 1), (Some(7), 7), (Some(9_999), 500)] {
        assert_eq!(operation(rate).page().limit, limit, "{rate:?}");
    }
    let mut operation = operation(Some(4));
    let verdicts = (1..=4).map(|number| (id(number), CommandVerdict::Applied)).collect();
    operation.note(ME, &Done { verdicts, cursor: Some(id(4)) }, at(10));
    assert_eq!(operation.turn(ME, at(10)), Turn::Later(at(11)));
    assert_eq!(operation.turn(ME, at(11)), Turn::Mine);
}

#[test]
fn a_refused_command_stops_it_and_says_why() {
    let mut operation = operation(None);
    operation.refuse("too far".to_owned(), at(3));
    let expected = (OperationState::Stopped, Some("too far".to_owned()), Some(at(3)));
    assert_eq!((operation.state, operation.error.clone(), operation.ended_at), expected);
    assert!(!operation.set_state(OperationState::Running, at(4)));
}

#[test]
fn json_reads_back_and_an_unknown_filter_does_not() {
    let mut operation = operation(Some(4));
    operation.own(ME, at(0));
    operation.note(ME, &Done { verdicts: Vec::new(), cursor: Some(id(6)) }, at(5));
    let json = serde_json::to_string(&operation).unwrap();
    assert_eq!(serde_json::from_str::<Operation>(&json).unwrap(), operation);
    assert!(json.contains(r#""filter":{},"command":{"type":"retry"},"actor":{"name":"ana"}"#));
    let unknown = json.replace(r#""filter":{}"#, r#""filter":{"tenant":"a"}"#);
    assert!(unknown != json && serde_json::from_str::<Operation>(&unknown).is_err());
}
