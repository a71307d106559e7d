//! Events there and back.

use std::time::Duration;

use ergon_core::{ErrorKind, EventKind, event::Excerpt};
use jiff::Timestamp;

use super::*;
use crate::codec::Encoder;

const AT: i64 = 1_700_000_000_000_000;
const RAN: Duration = Duration::from_micros(12_345);

fn names() -> (Vec<QueueName>, Vec<KindName>) {
    let queues = ["default", "mail"].map(|name| QueueName::new(name).unwrap());
    let kinds = ["a", "b"].map(|name| KindName::new(name).unwrap());
    (queues.to_vec(), kinds.to_vec())
}

fn record(events: &Events) -> Vec<u8> {
    let mut out = Encoder::with_capacity(events.bytes().len());
    out.raw(events.bytes());
    out.finish()
}

fn decode(record: &[u8]) -> Result<Vec<Event>, StoreError> {
    let (queues, kinds) = names();
    let names = NameLists { queues: &queues, kinds: &kinds };
    let mut decoding = Decoding::new(Decoder::new(record)?, names);
    let mut events = Vec::new();
    while let Some(event) = decoding.next()? {
        events.push(event);
    }
    Ok(events)
}

fn id(number: u64) -> TaskId {
    TaskId::from_parts(1_700_000_000_000, number, 0)
}

fn task_events() -> Vec<TaskEvent> {
    let run_at = from_micros(AT + 7);
    let error = Excerpt::of("no such file, ä");
    let reason = ErrorKind::Poison;
    let server = ServerId::from_u128(7);
    vec![
        TaskEvent::Enqueued { run_at, priority: i16::MIN },
        TaskEvent::Started { server, waited: RAN },
        TaskEvent::Progressed { done: 3, total: None },
        TaskEvent::Progressed { done: u64::MAX, total: Some(u64::MAX) },
        TaskEvent::Completed { ran: RAN },
        TaskEvent::Retried { ran: RAN, run_at: Timestamp::MAX, reason, error: error.clone() },
        TaskEvent::Failed { ran: RAN, reason, error },
        TaskEvent::CancelRequested,
        TaskEvent::Cancelled { ran: None },
        TaskEvent::Cancelled { ran: Some(RAN) },
        TaskEvent::Snoozed { ran: RAN, run_at },
        TaskEvent::Released,
        TaskEvent::Rescued,
        TaskEvent::Reopened,
        TaskEvent::Rescheduled { run_at: from_micros(AT - 1_000_000) },
        TaskEvent::Reprioritized { priority: -3 },
        TaskEvent::Deleted,
    ]
}

/// One event of everything that is recorded, in several orders of the tasks.
fn all() -> (Events, Vec<Event>) {
    let (queues, kinds) = names();
    let (mut events, mut expected) = (Events::default(), Vec::new());
    for (number, event) in (0..).zip(task_events()) {
        for step in [0, 9, 1] {
            let even = u32::from(number % 2 == 0);
            let key = TaskKey { id: id(number * 3 + step), queue: even, kind: 1, attempt: 2 };
            assert!(events.push_task(AT, key, &event));
            let (queue, kind) = (queues[even as usize].clone(), kinds[1].clone());
            let task = TaskRef { id: key.id, queue, kind, attempt: 2 };
            expected.push(Event::task(from_micros(AT), task, event.clone()));
        }
    }
    let at = from_micros(AT + 1);
    events.push_pruned(AT + 1, 9);
    expected.push(Event::pruned(at, 9));
    for (is_paused, event) in [(true, QueueEvent::Paused), (false, QueueEvent::Resumed)] {
        events.push_queue(AT + 1, 1, is_paused);
        expected.push(Event::queue(at, queues[1].clone(), event));
    }
    let left = ServerEvent::Stopped { left: 4 };
    for event in [ServerEvent::Started, ServerEvent::Draining, left] {
        assert!(events.push_server(AT + 1, ServerId::from_u128(9), &event));
        expected.push(Event::server(at, ServerId::from_u128(9), event));
    }
    (events, expected)
}

#[test]
fn every_kind_of_event_round_trips() {
    let (events, expected) = all();
    assert_eq!(decode(&record(&events)).unwrap(), expected);
    for kind in EventKind::ALL {
        let is_there = expected.iter().any(|event| event.kind() == *kind);
        // What was not stored is told to sinks alone.
        assert_eq!(is_there, *kind != EventKind::TaskDeduplicated, "{kind}");
    }
    let told = Events::default().push_task(
        AT,
        TaskKey { id: id(1), queue: 0, kind: 0, attempt: 0 },
        &TaskEvent::Deduplicated { of: id(2) },
    );
    assert!(!told);
}

#[test]
fn tasks_that_end_together_take_few_bytes() {
    let mut events = Events::default();
    for offset in 0..1_000 {
        let id = TaskId::from_parts(1_700_000_000_000, 7, offset);
        let key = TaskKey { id, queue: 1, kind: 1, attempt: 1 };
        assert!(events.push_task(AT, key, &TaskEvent::Completed { ran: RAN }));
    }
    assert!(events.bytes().len() < 5_100, "{} bytes", events.bytes().len());
    assert_eq!(decode(&record(&events)).unwrap().len(), 1_000);
}

#[test]
fn what_was_cut_or_made_up_is_an_error_and_no_panic() {
    let (events, expected) = all();
    for len in 0..events.bytes().len() {
        let mut out = Encoder::with_capacity(len);
        out.raw(&events.bytes()[..len]);
        let found = decode(&out.finish());
        assert!(found.is_err() || found.unwrap().len() < expected.len());
    }
    for byte in 0..=u8::MAX {
        for at in 0..events.bytes().len() {
            let mut bytes = events.bytes().to_vec();
            bytes[at] = byte;
            let mut out = Encoder::with_capacity(bytes.len());
            out.raw(&bytes);
            // Whatever it says now, reading it ends.
            drop(decode(&out.finish()));
        }
    }
}
