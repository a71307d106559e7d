//! Callbacks: each is called for what its name says, and for nothing else.

use std::time::Duration;

use ergon_core::{
    ErrorKind, Event, EventSink as _, KindName, QueueName, ServerId, TaskEvent, TaskId, Timestamp,
    event::{Excerpt, QueueEvent, ServerEvent, TaskRef},
};
use ergon_events::{Bus, Role};

use crate::support::{Seen, build, listener, publish_together};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const RAN: Duration = Duration::from_millis(7);

fn events() -> Vec<Event> {
    let task = TaskRef {
        id: TaskId::MIN,
        queue: QueueName::default(),
        kind: KindName::new("k").unwrap(),
        attempt: 1,
    };
    let server = ServerId::from_u128(7);
    let (reason, error) = (ErrorKind::Timeout, Excerpt::of("too late"));
    let of_tasks = [
        TaskEvent::Enqueued { run_at: NOW, priority: 1 },
        TaskEvent::Deduplicated { of: TaskId::MAX },
        TaskEvent::Started { server, waited: RAN },
        TaskEvent::Progressed { done: 1, total: Some(2) },
        TaskEvent::Completed { ran: RAN },
        TaskEvent::Failed { ran: RAN, reason, error: error.clone() },
        TaskEvent::Retried { ran: RAN, run_at: NOW, reason, error },
        TaskEvent::CancelRequested,
        TaskEvent::Cancelled { ran: None },
        TaskEvent::Snoozed { ran: RAN, run_at: NOW },
        TaskEvent::Released,
        TaskEvent::Rescued,
        TaskEvent::Reopened,
        TaskEvent::Rescheduled { run_at: NOW },
        TaskEvent::Reprioritized { priority: 5 },
        TaskEvent::Deleted,
    ];
    let of_tasks = of_tasks.into_iter().map(|event| Event::task(NOW, task.clone(), event));
    let queue = |event| Event::queue(NOW, QueueName::default(), event);
    let others = [
        Event::pruned(NOW, 9),
        queue(QueueEvent::Paused),
        queue(QueueEvent::Resumed),
        Event::server(NOW, server, ServerEvent::Draining),
    ];
    of_tasks.chain(others).collect()
}

fn expected() -> Vec<String> {
    let server = format!("{:?}", ServerId::from_u128(7));
    [
        "on_task_enqueued 1970-01-01T00:00:00Z".to_owned(),
        format!("on_task_deduplicated {:?}", TaskId::MAX),
        format!("on_task_started {server} 7ms"),
        "on_task_progressed 1 Some(2)".to_owned(),
        "on_task_completed 7ms".to_owned(),
        "on_task_failed Timeout \"too late\"".to_owned(),
        "on_task_retried Timeout \"too late\" 1970-01-01T00:00:00Z".to_owned(),
        "on_task_cancel_requested".to_owned(),
        "on_task_cancelled".to_owned(),
        "on_task_snoozed 1970-01-01T00:00:00Z".to_owned(),
        "on_task_released".to_owned(),
        "on_task_rescued".to_owned(),
        "on_task_reopened".to_owned(),
        "on_task_rescheduled 1970-01-01T00:00:00Z".to_owned(),
        "on_task_reprioritized 5".to_owned(),
        "on_task_deleted".to_owned(),
        "on_tasks_cleaned 9".to_owned(),
        "on_queue_paused default".to_owned(),
        "on_queue_resumed default".to_owned(),
        "on_server_changed Draining".to_owned(),
    ]
    .to_vec()
}

#[test]
fn each_is_called_for_what_its_name_says() {
    let seen = Seen::<String>::default();
    let note = |name: &'static str| {
        let seen = seen.clone();
        move |rest: String| seen.add([format!("{name} {rest}").trim_end().to_owned()])
    };
    macro_rules! noted {
        ($builder:expr, $($name:ident($($arg:ident),*);)*) => {{
            let builder = $builder;
            $(let told = note(stringify!($name));
            let builder = builder.$name(move |_task $(, $arg)*| {
                let rest: &[String] = &[$(format!("{:?}", $arg)),*];
                told(rest.join(" "));
            });)*
            builder
        }};
    }
    let builder = noted! { Bus::builder(),
        on_task_enqueued(a);
        on_task_deduplicated(a);
        on_task_started(a, b);
        on_task_progressed(a, b);
        on_task_completed(a);
        on_task_failed(a, b);
        on_task_retried(a, b, c);
        on_task_cancel_requested();
        on_task_cancelled();
        on_task_snoozed(a);
        on_task_released();
        on_task_rescued();
        on_task_reopened();
        on_task_rescheduled(a);
        on_task_reprioritized(a);
        on_task_deleted();
    };
    let (cleaned, paused) = (note("on_tasks_cleaned"), note("on_queue_paused"));
    let (resumed, changed) = (note("on_queue_resumed"), note("on_server_changed"));
    let bus = builder
        .on_tasks_cleaned(move |tasks| cleaned(tasks.to_string()))
        .on_queue_paused(move |queue| paused(queue.to_string()))
        .on_queue_resumed(move |queue| resumed(queue.to_string()))
        .on_server_changed(move |_server, event| changed(format!("{event:?}")));
    let bus = build(bus);
    for event in events() {
        bus.publish(&[event]);
    }
    let expected = expected();
    assert_eq!(seen.get(), expected);
    // All at once, each finds its own.
    bus.publish(&events());
    assert_eq!(seen.get().len(), expected.len() * 2);
}

#[test]
fn one_that_panics_is_called_for_the_next_event_all_the_same() {
    let seen = Seen::default();
    let noted = seen.clone();
    let bus = build(Bus::builder().on_tasks_cleaned(move |tasks| {
        noted.add([tasks]);
        assert!(tasks.is_multiple_of(2), "odd");
    }));
    publish_together(&bus, 0..5);
    publish_together(&bus, 6..7);
    assert_eq!(seen.get(), [0, 1, 2, 3, 4, 6]);
    let stats = listener(&bus, Role::Inline, "on_tasks_cleaned");
    assert_eq!((stats.calls, stats.panics), (2, 1));
}
