//! Cases of what sweeps, operators and servers have recorded.

use std::time::Duration;

use ergon_core::{
    Command, CommandVerdict, ErrorKind, Event, Now, Selection, State, TaskEvent, TaskFilter, Token,
    event::{Excerpt, Fact, QueueEvent, ServerEvent},
    store::{Held, LEASE_DEFAULT, PruneRequest, QueueChange, RescueRequest},
    time::whole_micros,
};
use jiff::{SignedDuration, Timestamp};

use super::record::{of, reader};
use crate::harness::{
    DAY, Harness, OTHER_SERVER, REACHABLE, SECOND, SERVER, by_task, cancel_command, queue,
};

pub async fn a_rescue_records_what_it_made_of_each_task(h: Harness) {
    let poisoned = h.insert_one(h.task()).await;
    for _ in 0..2 {
        h.claim_this(poisoned).await;
        h.advance(LEASE_DEFAULT);
        assert_eq!(h.rescue().await.done, 1);
    }
    let (rescued, cancelled) = (h.insert_one(h.task()).await, h.insert_one(h.task()).await);
    assert_eq!(h.claim(10).await.len(), 3);
    h.apply(cancelled, cancel_command()).await;
    let mut reader = reader(&h).await;
    let ran = LEASE_DEFAULT + SECOND;
    h.advance(ran);
    let request = RescueRequest::default().deaths_max(3).now(h.now());
    let report = h.store.rescue_expired(&request).await.unwrap();
    let at = h.instant();
    let error = Excerpt::of("3 servers died while they ran this task");
    let failed = TaskEvent::Failed { ran, reason: ErrorKind::Poison, error };
    let expected = [
        of(poisoned, 1, failed, at),
        of(rescued, 1, TaskEvent::Rescued, at),
        of(cancelled, 1, TaskEvent::Cancelled { ran: Some(ran) }, at),
    ];
    assert_eq!(by_task(reader.events().await), expected);
    assert_eq!((report.done, by_task(report.events)), (3, expected.to_vec()));
    assert_eq!(h.rescue().await.done, 0);
    assert_eq!(reader.events().await, []);
}

pub async fn every_command_is_recorded_in_every_state_that_takes_it(h: Harness) {
    let run_at = h.later(DAY);
    let commands = [
        (cancel_command(), TaskEvent::Cancelled { ran: None }),
        (Command::Retry, TaskEvent::Reopened),
        (Command::Delete, TaskEvent::Deleted),
        (Command::Reschedule { run_at }, TaskEvent::Rescheduled { run_at }),
        (Command::SetPriority { priority: -7 }, TaskEvent::Reprioritized { priority: -7 }),
    ];
    for (command, event) in commands {
        for state in REACHABLE {
            let id = h.in_state(state).await;
            let spent = h.get(id).await.progress.attempt;
            let mut reader = reader(&h).await;
            h.advance(SECOND);
            let selection = Selection::Ids(vec![id]);
            let applied = h.apply_to(selection, command.clone()).await;
            let expected = match applied.verdicts[0].1 {
                CommandVerdict::Applied => vec![of(id, spent, event.clone(), h.instant())],
                CommandVerdict::Requested => {
                    vec![of(id, 1, TaskEvent::CancelRequested, h.instant())]
                }
                CommandVerdict::Unchanged
                | CommandVerdict::Illegal(_)
                | CommandVerdict::NotFound => vec![],
            };
            assert_eq!(reader.events().await, expected, "{command:?} of {state}");
            assert_eq!(applied.events, expected, "{command:?} of {state}");
            h.apply(id, Command::Delete).await;
        }
    }
}

pub async fn a_command_that_changes_nothing_is_not_recorded(h: Harness) {
    let running = h.in_state(State::Running).await;
    let pending = h.in_state(State::Pending).await;
    let done = h.in_state(State::Cancelled).await;
    h.apply(running, cancel_command()).await;
    let mut reader = reader(&h).await;
    let ids = vec![running, done, h.id(), done];
    let applied = h.apply_to(Selection::Ids(ids), cancel_command()).await;
    assert_eq!((applied.changed(), applied.events), (0, vec![]));
    assert_eq!(h.apply(pending, Command::Retry).await, CommandVerdict::Unchanged);
    let run_at = h.get(pending).await.progress.run_at;
    for command in [Command::Reschedule { run_at }, Command::SetPriority { priority: i16::MAX }] {
        assert_eq!(h.apply(pending, command).await, CommandVerdict::Unchanged);
    }
    let command = Command::Reschedule { run_at: Timestamp::MAX };
    let selection = Selection::Ids(vec![pending]);
    assert!(h.store.apply(&selection, &command, h.now()).await.is_err());
    assert_eq!(reader.events().await, []);
}

pub async fn a_command_for_many_records_each_that_it_changed(h: Harness) {
    let mut ids = h.create(&h.tasks(6)).await;
    h.claim(1).await;
    let mut reader = reader(&h).await;
    let matching = Selection::Matching { filter: TaskFilter::all(), limit: 4 };
    let applied = h.apply_to(matching, Command::SetPriority { priority: 5 }).await;
    let event = TaskEvent::Reprioritized { priority: 5 };
    let at = h.instant();
    let expected: Vec<_> = ids[1..4].iter().map(|&id| of(id, 0, event.clone(), at)).collect();
    assert_eq!(by_task(reader.events().await), expected);
    assert_eq!(by_task(applied.events), expected);
    // One task twice: the second time it is gone.
    ids.push(ids[5]);
    let applied = h.apply_to(Selection::Ids(ids.clone()), Command::Delete).await;
    let expected: Vec<_> = ids[1..6].iter().map(|&id| of(id, 0, TaskEvent::Deleted, at)).collect();
    assert_eq!(by_task(reader.events().await), expected);
    assert_eq!(by_task(applied.events), expected);
}

pub async fn a_prune_records_how_many_tasks_went(h: Harness) {
    for _ in 0..5 {
        h.in_state(State::Completed).await;
    }
    h.in_state(State::Pending).await;
    let mut reader = reader(&h).await;
    assert_eq!(h.prune().await.done, 0);
    assert_eq!(reader.events().await, []);
    h.advance(DAY + SECOND);
    for (limit, tasks) in [(2, 2), (3, 3)] {
        let request = PruneRequest::default().limit(limit).now(h.now());
        let report = h.store.prune(&request).await.unwrap();
        let expected = [Event::pruned(h.instant(), tasks)];
        assert_eq!(reader.events().await, expected);
        assert_eq!((report.done, report.events.as_slice()), (limit, expected.as_slice()));
    }
    assert_eq!(h.prune().await.done, 0);
    assert_eq!(reader.events().await, []);
}

pub async fn a_queue_is_recorded_when_it_is_paused_or_resumed(h: Harness) {
    let mut reader = reader(&h).await;
    let changes = [
        (QueueChange::pause(), Some(QueueEvent::Paused)),
        (QueueChange::pause(), None),
        (QueueChange::default(), None),
        (QueueChange::resume(), Some(QueueEvent::Resumed)),
        (QueueChange::resume(), None),
        (QueueChange::default(), None),
    ];
    for name in ["default", "other"] {
        for (change, event) in &changes {
            h.set_queue(name, *change).await;
            let recorded: Vec<_> = reader.events().await.into_iter().map(|e| e.fact).collect();
            let expected = event.clone().map(|event| Fact::Queue { queue: queue(name), event });
            assert_eq!(recorded, Vec::from_iter(expected));
        }
    }
}

pub async fn what_a_server_announces_is_recorded(h: Harness) {
    let mut reader = reader(&h).await;
    let said = [
        (SERVER, ServerEvent::Started),
        (OTHER_SERVER, ServerEvent::Started),
        (SERVER, ServerEvent::Draining),
        (SERVER, ServerEvent::Stopped { left: u64::MAX }),
        (OTHER_SERVER, ServerEvent::Stopped { left: 0 }),
    ];
    for (server, event) in &said {
        h.store.announce(*server, event).await.unwrap();
    }
    let recorded: Vec<_> = reader.events().await.into_iter().map(|event| event.fact).collect();
    assert_eq!(recorded, said.map(|(server, event)| Fact::Server { server, event }));
}

pub async fn what_belongs_to_no_task_is_recorded_by_the_clock_of_the_store(h: Harness) {
    let mut reader = reader(&h).await;
    let task = h.task();
    h.store.insert(std::slice::from_ref(&task), Now::Store).await.unwrap();
    h.set_queue("default", QueueChange::pause()).await;
    h.store.announce(SERVER, &ServerEvent::Started).await.unwrap();
    let at: Vec<_> = reader.events().await.iter().map(|event| event.at).collect();
    let created_at = h.get(task.id).await.created_at;
    assert!(at.len() == 3 && at[0] == created_at, "{at:?}, {created_at}");
    // Clocks may be set, but not by a year within this test.
    let year = SignedDuration::from_hours(24 * 366);
    assert!(at.iter().all(|at| at.duration_since(created_at).abs() < year), "{at:?}");
    assert!(at.iter().all(|&at| at == whole_micros(at)), "{at:?}");
}

pub async fn beats_and_reads_are_not_recorded(h: Harness) {
    let id = h.in_state(State::Running).await;
    let mut reader = reader(&h).await;
    let claimed = h.get(id).await;
    let name = Held { id, token: claimed.progress.token };
    h.beat(SERVER, &[name]).await;
    h.beat(SERVER, &[name, Held { id, token: Token::NONE }]).await;
    h.projection().await;
    h.count(&TaskFilter::all()).await;
    h.store.watchers().await.unwrap();
    h.watch("another").await;
    h.unwatch("another").await;
    h.store.latest().await.unwrap();
    h.store.wait_for_finish(id, Duration::ZERO).await.unwrap();
    assert_eq!(reader.events().await, []);
}

pub async fn what_sweeps_and_commands_answer_is_told_while_nobody_watches(h: Harness) {
    let id = h.in_state(State::Running).await;
    h.advance(LEASE_DEFAULT);
    let at = h.instant();
    let report = h.store.rescue_expired(&RescueRequest::default().now(h.now())).await.unwrap();
    assert_eq!(report.events, [of(id, 1, TaskEvent::Rescued, at)]);
    let applied = h.apply_to(Selection::Ids(vec![id]), cancel_command()).await;
    assert_eq!(applied.events, [of(id, 0, TaskEvent::Cancelled { ran: None }, at)]);
    h.advance(DAY + SECOND);
    let report = h.store.prune(&PruneRequest::default().now(h.now())).await.unwrap();
    assert_eq!(report.events, [Event::pruned(h.instant(), 1)]);
}
