//! An event as programs read it.

use std::time::Duration;

use ergon_core::{
    TaskEvent,
    event::{Fact, ServerEvent},
    store::Recorded,
};
use serde::Serialize;

use crate::{
    text::clean,
    value::{At, Whole},
};

/// Something that happened. What says nothing about it is left out.
#[derive(Debug, Default, Serialize)]
pub(super) struct EventView {
    /// The same at every read, and that of no other event.
    id: String,
    /// When, by the clock of the store.
    at: Option<At>,
    /// What, such as `task.failed`.
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<TaskView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    /// How many tasks: of those that were pruned, or that a server left.
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<Whole>,
    /// When the task is due now.
    #[serde(skip_serializing_if = "Option::is_none")]
    run_at: Option<At>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i16>,
    /// How long the task had been due, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    waited_us: Option<Whole>,
    /// How long the attempt ran, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    ran_us: Option<Whole>,
    /// What kind of failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// What the handler said, its beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<Whole>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<Whole>,
}

/// Which task.
#[derive(Debug, Serialize)]
struct TaskView {
    id: String,
    queue: String,
    kind: String,
    attempt: u16,
}

fn micros(span: Duration) -> Whole {
    Whole(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
}

impl EventView {
    pub(super) fn of(recorded: &Recorded) -> Self {
        let event = &recorded.event;
        let mut view = Self {
            id: recorded.id.to_string(),
            at: Some(At(event.at)),
            kind: event.kind().as_str(),
            ..Self::default()
        };
        match &event.fact {
            Fact::Task { task, event } => {
                view.task = Some(TaskView {
                    id: task.id.to_string(),
                    queue: task.queue.to_string(),
                    kind: task.kind.to_string(),
                    attempt: task.attempt,
                });
                view.tell(event);
            }
            Fact::Pruned { tasks } => view.tasks = Some(Whole(*tasks)),
            Fact::Queue { queue, .. } => view.queue = Some(queue.to_string()),
            Fact::Server { server, event } => {
                view.server = Some(server.to_string());
                if let ServerEvent::Stopped { left } = event {
                    view.tasks = Some(Whole(*left));
                }
            }
            // Its kind says what it is.
            _ => {}
        }
        view
    }

    fn tell(&mut self, event: &TaskEvent) {
        match event {
            TaskEvent::Enqueued { run_at, priority } => {
                self.run_at = Some(At(*run_at));
                self.priority = Some(*priority);
            }
            TaskEvent::Started { server, waited } => {
                self.server = Some(server.to_string());
                self.waited_us = Some(micros(*waited));
            }
            TaskEvent::Progressed { done, total } => {
                self.done = Some(Whole(*done));
                self.total = total.map(Whole);
            }
            TaskEvent::Completed { ran } => self.ran_us = Some(micros(*ran)),
            TaskEvent::Retried { ran, run_at, reason, error } => {
                self.ran_us = Some(micros(*ran));
                self.run_at = Some(At(*run_at));
                self.reason = Some(reason.as_str());
                self.error = Some(clean(error.as_str()));
            }
            TaskEvent::Failed { ran, reason, error } => {
                self.ran_us = Some(micros(*ran));
                self.reason = Some(reason.as_str());
                self.error = Some(clean(error.as_str()));
            }
            TaskEvent::Cancelled { ran } => self.ran_us = ran.map(micros),
            TaskEvent::Snoozed { ran, run_at } => {
                self.ran_us = Some(micros(*ran));
                self.run_at = Some(At(*run_at));
            }
            TaskEvent::Rescheduled { run_at } => self.run_at = Some(At(*run_at)),
            TaskEvent::Reprioritized { priority } => self.priority = Some(*priority),
            TaskEvent::Deduplicated { .. }
            | TaskEvent::CancelRequested
            | TaskEvent::Released
            | TaskEvent::Rescued
            | TaskEvent::Reopened
            | TaskEvent::Deleted
            // Its kind says what it is.
            | _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use ergon_core::{
        ErrorKind, Event, KindName, QueueName, ServerId, TaskId, Timestamp,
        event::{Excerpt, QueueEvent, TaskRef},
        store::EventId,
    };

    use super::*;

    #[track_caller]
    fn check(event: Event, expected: &str) {
        let id = EventId { journal: 7, entry: 1, index: 0 };
        let json = serde_json::to_string(&EventView::of(&Recorded { id, event })).unwrap();
        let rest = json
            .strip_prefix(r#"{"id":"0000000000000007-1-0","at":"1970-01-01T00:00:00Z","kind":"#)
            .unwrap_or_else(|| unreachable!("{json}"));
        assert_eq!(rest, expected);
    }

    #[test]
    fn events_are_told_with_what_is_known_of_them() {
        let now = Timestamp::UNIX_EPOCH;
        let task = TaskRef {
            id: TaskId::from_parts(1, 2, 3),
            queue: QueueName::new("q").unwrap(),
            kind: KindName::new("k").unwrap(),
            attempt: 2,
        };
        let id = task.id;
        let ran = Duration::from_millis(3);
        let failed = TaskEvent::Failed {
            ran,
            reason: ErrorKind::Error,
            error: Excerpt::of("no \u{202e}<b>"),
        };
        check(
            Event::task(now, task.clone(), failed),
            &format!(
                "\"task.failed\",\"task\":{{\"id\":\"{id}\",\"queue\":\"q\",\"kind\":\"k\",\"attempt\":2}},\
                 \"ran_us\":\"3000\",\"reason\":\"error\",\"error\":\"no \u{fffd}<b>\"}}"
            ),
        );
        check(Event::pruned(now, 9), r#""tasks.pruned","tasks":"9"}"#);
        let queue = task.queue;
        check(Event::queue(now, queue, QueueEvent::Paused), r#""queue.paused","queue":"q"}"#);
        let server = ServerId::from_u128(1);
        check(
            Event::server(now, server, ServerEvent::Stopped { left: 1 }),
            &format!(r#""server.stopped","server":"{server}","tasks":"1"}}"#),
        );
    }
}
