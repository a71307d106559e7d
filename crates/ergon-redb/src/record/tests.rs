//! Every field of a record comes back as it went in.

use ergon_core::TaskId;

use super::*;

fn full_task() -> NewTask {
    let mut spec = TaskSpec::new(KindName::new("k").unwrap(), vec![0, 1, 255]);
    spec.queue = QueueName::new("q").unwrap();
    spec.retry = RetryPolicy::List(vec![Duration::from_secs(1), Duration::from_micros(7)]);
    spec.timeout = Some(Duration::from_millis(3));
    spec.deadline = Some(Timestamp::UNIX_EPOCH);
    spec.retention = Some(Duration::from_secs(9));
    spec.metadata = Metadata::from([("a".to_owned(), "ä\n".to_owned())]);
    spec.tags = vec![Tag::new("t").unwrap(), Tag::new("größe").unwrap()];
    let scope = UniqueScope::For(Duration::from_secs(5));
    spec.unique = Some(UniqueKey { hash: [7; 32], scope });
    NewTask { priority: -3, max_attempts: 9, ..NewTask::new(TaskId::MIN, spec) }
}

fn round_trip(task: &NewTask) -> TaskSpec {
    let (head, record) = encode_body(task, 3, 7, Timestamp::UNIX_EPOCH);
    assert_eq!(decode_body_head(&record).unwrap(), head);
    let names = |head: &BodyHead| {
        assert_eq!((head.queue, head.kind), (3, 7));
        Ok((task.spec.queue.clone(), task.spec.kind.clone()))
    };
    let (again, spec) = decode_body(&record, names).unwrap();
    assert_eq!(again, head);
    spec
}

#[test]
fn bodies_round_trip() {
    let plain = NewTask::new(TaskId::MIN, TaskSpec::new(KindName::new("k").unwrap(), ""));
    for task in [full_task(), plain] {
        assert_eq!(round_trip(&task), task.spec);
    }
}

#[test]
fn scopes_and_policies_round_trip() {
    let second = Duration::from_secs(1);
    for scope in [
        UniqueScope::UntilStarted,
        UniqueScope::UntilFinished,
        UniqueScope::While(StateSet::ALL),
        UniqueScope::For(second),
    ] {
        let mut task = full_task();
        task.spec.unique = Some(UniqueKey { hash: [1; 32], scope });
        assert_eq!(round_trip(&task), task.spec);
    }
    for retry in [
        RetryPolicy::Fixed(second),
        RetryPolicy::Exponential { base: second, cap: second * 2, jitter: Jitter::None },
        RetryPolicy::Exponential { base: second, cap: second * 2, jitter: Jitter::Full },
    ] {
        let mut task = full_task();
        task.spec.retry = retry;
        assert_eq!(round_trip(&task), task.spec);
    }
}

#[test]
fn heads_round_trip() {
    let mut progress = Progress::fresh(-7, 3, Timestamp::UNIX_EPOCH);
    assert_eq!(decode_head(&encode_head(&progress)).unwrap(), progress);
    for (kind, error) in ConclusionKind::ALL.into_iter().zip(ErrorKind::ALL) {
        progress.settled = Some(Settled { token: Token::new(u64::MAX), kind });
        progress.errors.push(AttemptError {
            attempt: 3,
            at: from_micros(5),
            kind: error,
            message: "größer".to_owned(),
        });
        assert_eq!(decode_head(&encode_head(&progress)).unwrap(), progress);
    }
    for phase in [Phase::Completed, Phase::Failed, Phase::Cancelled] {
        progress.phase = phase;
        progress.attempt = u16::MAX;
        progress.crash_count = 4;
        progress.cancel_requested = true;
        progress.token = Token::new(9);
        progress.started_at = Some(from_micros(-1));
        progress.finished_at = Some(from_micros(2));
        progress.expires_at = Some(from_micros(3));
        progress.result = Some(Bytes::from_static(b"\0\xff"));
        assert_eq!(decode_head(&encode_head(&progress)).unwrap(), progress);
    }
}

#[test]
fn a_running_task_is_stored_as_waiting() {
    let mut progress = Progress::fresh(0, 3, Timestamp::UNIX_EPOCH);
    progress.phase = Phase::Running;
    assert_eq!(decode_head(&encode_head(&progress)).unwrap().phase, Phase::Waiting);
}

#[test]
fn every_number_stands_at_its_place() {
    for (number, kind) in (0..).zip(ErrorKind::ALL) {
        assert_eq!(kind as u8, number);
    }
    for (number, kind) in (0..).zip(ConclusionKind::ALL) {
        assert_eq!(kind as u8, number);
    }
}
