//! Reads a scrape: an independent and simple-minded parser of the text format.

use std::{collections::BTreeMap, time::Duration};

use ergon_core::{
    ErrorKind, Event, KindName, QueueName, ServerId, TaskEvent, TaskId, Timestamp,
    event::{Excerpt, QueueEvent, ServerEvent, TaskRef},
};
use ergon_prometheus::{Metrics, ObserverNumbers};

/// The samples of a scrape: name and labels as they are written, and the value.
#[derive(Debug)]
pub(crate) struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    #[track_caller]
    pub(crate) fn of(metrics: &Metrics) -> Self {
        Self::parse(&metrics.encode())
    }

    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        let mut samples = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let value = value.parse().unwrap();
            assert!(samples.insert(series.to_owned(), value).is_none(), "twice: {series}");
        }
        Self(samples)
    }

    /// The value of a series, if there is one.
    pub(crate) fn get(&self, series: &str) -> Option<f64> {
        self.0.get(series).copied()
    }

    /// The series whose text begins so, with their values.
    pub(crate) fn all<'s>(&'s self, start: &'s str) -> impl Iterator<Item = (&'s str, f64)> {
        let all = self.0.iter().filter(move |(series, _)| series.starts_with(start));
        all.map(|(series, value)| (series.as_str(), *value))
    }

    /// The sum of the series of a metric that have this text among their labels.
    pub(crate) fn sum(&self, name: &str, label: &str) -> f64 {
        let start = format!("{name}{{");
        self.all(&start).filter(|(series, _)| series.contains(label)).map(|it| it.1).sum()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

pub(crate) fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

/// Something that happens to a task in its first attempt.
pub(crate) fn event(queue_name: &str, kind: &str, event: TaskEvent) -> Event {
    let (queue, kind) = (queue(queue_name), KindName::new(kind).unwrap());
    let task = TaskRef { id: TaskId::MIN, queue, kind, attempt: 1 };
    Event::task(Timestamp::UNIX_EPOCH, task, event)
}

pub(crate) fn enqueued() -> TaskEvent {
    TaskEvent::Enqueued { run_at: Timestamp::UNIX_EPOCH, priority: 0 }
}

/// Everything that can happen to a task, once.
pub(crate) fn every_task_event() -> Vec<TaskEvent> {
    let (run_at, ran) = (Timestamp::UNIX_EPOCH, Duration::from_millis(20));
    let error = || Excerpt::of("no");
    let mut events = vec![
        enqueued(),
        TaskEvent::Deduplicated { of: TaskId::MIN },
        TaskEvent::Started { server: ServerId::from_u128(1), waited: ran },
        TaskEvent::Progressed { done: 1, total: None },
        TaskEvent::Completed { ran },
        TaskEvent::CancelRequested,
        TaskEvent::Cancelled { ran: None },
        TaskEvent::Cancelled { ran: Some(ran) },
        TaskEvent::Snoozed { ran, run_at },
        TaskEvent::Released,
        TaskEvent::Rescued,
        TaskEvent::Reopened,
        TaskEvent::Rescheduled { run_at },
        TaskEvent::Reprioritized { priority: 1 },
        TaskEvent::Deleted,
    ];
    for reason in ErrorKind::ALL {
        events.push(TaskEvent::Retried { ran, run_at, reason, error: error() });
        events.push(TaskEvent::Failed { ran, reason, error: error() });
    }
    events
}

/// Everything that can happen, once.
pub(crate) fn every_event() -> Vec<Event> {
    let (at, server) = (Timestamp::UNIX_EPOCH, ServerId::from_u128(1));
    let mut events: Vec<_> =
        every_task_event().into_iter().map(|it| event("mail", "email.send", it)).collect();
    events.extend([
        Event::pruned(at, 3),
        Event::queue(at, queue("mail"), QueueEvent::Paused),
        Event::queue(at, queue("mail"), QueueEvent::Resumed),
        Event::server(at, server, ServerEvent::Started),
        Event::server(at, server, ServerEvent::Draining),
        Event::server(at, server, ServerEvent::Stopped { left: 0 }),
    ]);
    events
}

/// Two observers, one with a name that is hard to write.
pub(crate) fn observers() -> Vec<ObserverNumbers> {
    let mut numbers = ObserverNumbers::new("mailer");
    numbers.lag = 1;
    numbers.missed = 2;
    numbers.gaps = 3;
    numbers.panics = 4;
    numbers.busy = Duration::from_millis(5);
    vec![numbers, ObserverNumbers::new("a \"quoted\"\nname\\ with a \0 and a \u{1b}")]
}
