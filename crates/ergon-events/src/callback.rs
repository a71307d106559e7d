//! Callbacks: one closure for one thing that can happen.
//!
//! Each is a thin function over [`observe_inline`](BusBuilder::observe_inline).

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::Duration,
};

use ergon_core::{
    ErrorKind, Event, QueueName, ServerId, TaskEvent, TaskId, Timestamp,
    event::{Fact, QueueEvent, ServerEvent, TaskRef},
};

use crate::builder::BusBuilder;

/// Callbacks that are called **after the commit** of what they tell, by the one who committed it.
///
/// They see what this process committed, at once, in order, and nothing that was not committed: a callback
/// cannot change an outcome. They hold up work while they run, so they are for what is quick; what waits
/// for a network belongs into [`observe`](Self::observe). A callback that panics is called for the next
/// event all the same. Each is counted under its own name.
impl BusBuilder {
    /// Calls back with the events one by one.
    fn each(self, name: &'static str, call: impl Fn(&Fact) + Send + Sync + 'static) -> Self {
        self.observe_inline(name, move |events: &[Event]| {
            let calls = events
                .iter()
                .filter_map(|event| catch_unwind(AssertUnwindSafe(|| call(&event.fact))).err());
            // It is counted, and said, by whoever calls an inline observer.
            if let Some(panic) = calls.last() {
                resume_unwind(panic);
            }
        })
    }

    fn on_queue(
        self,
        name: &'static str,
        wanted: QueueEvent,
        call: impl Fn(&QueueName) + Send + Sync + 'static,
    ) -> Self {
        self.each(name, move |fact| {
            if let Fact::Queue { queue, event } = fact
                && *event == wanted
            {
                call(queue);
            }
        })
    }
}

macro_rules! task_callbacks {
    ($($(#[$doc:meta])* $name:ident($($type:ty),*): $pattern:pat => ($($value:expr),*);)*) => {
        impl BusBuilder {
            $(
                $(#[$doc])*
                ///
                /// Called after the commit, by the one who committed it; see
                /// [`observe_inline`](Self::observe_inline).
                pub fn $name(self, call: impl Fn(&TaskRef $(, $type)*) + Send + Sync + 'static) -> Self {
                    self.each(stringify!($name), move |fact| {
                        if let Fact::Task { task, event: $pattern } = fact {
                            call(task $(, $value)*);
                        }
                    })
                }
            )*
        }
    };
}

task_callbacks! {
    /// A task was enqueued; it is due at this instant.
    on_task_enqueued(Timestamp): TaskEvent::Enqueued { run_at, .. } => (*run_at);
    /// A task was not enqueued, because that other one holds its unique key.
    on_task_deduplicated(TaskId): TaskEvent::Deduplicated { of } => (*of);
    /// An attempt began on that server, after the task had been due for so long.
    on_task_started(ServerId, Duration): TaskEvent::Started { server, waited } => (*server, *waited);
    /// A handler told how much is done, and of how much if that is known.
    on_task_progressed(u64, Option<u64>): TaskEvent::Progressed { done, total } => (*done, *total);
    /// A task finished well; its last attempt ran for so long.
    on_task_completed(Duration): TaskEvent::Completed { ran } => (*ran);
    /// A task failed for good: why, and what the handler said.
    on_task_failed(ErrorKind, &str):
        TaskEvent::Failed { reason, error, .. } => (*reason, error.as_str());
    /// An attempt failed and the task is tried again: why, what the handler said, and when.
    on_task_retried(ErrorKind, &str, Timestamp):
        TaskEvent::Retried { reason, error, run_at, .. } => (*reason, error.as_str(), *run_at);
    /// A running task was called off; its handler will be told.
    on_task_cancel_requested(): TaskEvent::CancelRequested => ();
    /// A task was called off.
    on_task_cancelled(): TaskEvent::Cancelled { .. } => ();
    /// A handler put its task off until this instant.
    on_task_snoozed(Timestamp): TaskEvent::Snoozed { run_at, .. } => (*run_at);
    /// A server gave a task back unfinished, at its end or because it had claimed too many.
    on_task_released(): TaskEvent::Released => ();
    /// A task was taken back from a server whose lease was over.
    on_task_rescued(): TaskEvent::Rescued => ();
    /// An operator had a task run again, or at once.
    on_task_reopened(): TaskEvent::Reopened => ();
    /// An operator moved a task to this instant.
    on_task_rescheduled(Timestamp): TaskEvent::Rescheduled { run_at } => (*run_at);
    /// An operator gave a task this priority.
    on_task_reprioritized(i16): TaskEvent::Reprioritized { priority } => (*priority);
    /// An operator removed a task.
    on_task_deleted(): TaskEvent::Deleted => ();
}

impl BusBuilder {
    /// So many tasks were removed because they had outlived their retention.
    ///
    /// Called after the commit, by the one who committed it; see
    /// [`observe_inline`](Self::observe_inline).
    pub fn on_tasks_cleaned(self, call: impl Fn(u64) + Send + Sync + 'static) -> Self {
        self.each("on_tasks_cleaned", move |fact| {
            if let Fact::Pruned { tasks } = fact {
                call(*tasks);
            }
        })
    }

    /// Claims pass this queue by, from now on.
    ///
    /// Called after the commit, by the one who committed it; see
    /// [`observe_inline`](Self::observe_inline).
    pub fn on_queue_paused(self, call: impl Fn(&QueueName) + Send + Sync + 'static) -> Self {
        self.on_queue("on_queue_paused", QueueEvent::Paused, call)
    }

    /// Claims serve this queue again.
    ///
    /// Called after the commit, by the one who committed it; see
    /// [`observe_inline`](Self::observe_inline).
    pub fn on_queue_resumed(self, call: impl Fn(&QueueName) + Send + Sync + 'static) -> Self {
        self.on_queue("on_queue_resumed", QueueEvent::Resumed, call)
    }

    /// A server of this process began to claim, was told to stop, or ended.
    ///
    /// Called after the commit, by the one who committed it; see
    /// [`observe_inline`](Self::observe_inline).
    pub fn on_server_changed(
        self,
        call: impl Fn(ServerId, &ServerEvent) + Send + Sync + 'static,
    ) -> Self {
        self.each("on_server_changed", move |fact| {
            if let Fact::Server { server, event } = fact {
                call(*server, event);
            }
        })
    }
}
