//! What sinks and the journal are told of a server, and how far running tasks have come.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use ergon_core::{
    Client, ErrorKind, Event, EventKind, EventSink, Manager, ProgressReport, RetryPolicy, State,
    TaskError, TaskEvent, TaskId, TaskOptions, WatcherName,
    event::Fact,
    store::{Observe as _, Watch},
};
use ergon_server::{Context, Server, ServerConfig};
use ergon_testing::{Faulty, MemoryStore, Operation, Signal};

use crate::support::{
    PATIENCE, SECOND, Work, enqueue, enqueue_many, finished, memory, pass, read, start,
};

/// Keeps what it is told.
#[derive(Debug, Default)]
struct Kept(Mutex<Vec<Event>>);

impl EventSink for Kept {
    fn publish(&self, events: &[Event]) {
        assert!(!events.is_empty());
        self.0.lock().unwrap().extend_from_slice(events);
    }
}

impl Kept {
    fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    /// What happened to one task.
    fn of(&self, id: TaskId) -> Vec<TaskEvent> {
        let events = self.events().into_iter();
        events
            .filter_map(|event| match event.fact {
                Fact::Task { task, event } if task.id == id => Some(event),
                Fact::Task { .. } | _ => None,
            })
            .collect()
    }

    fn kinds(&self) -> Vec<EventKind> {
        self.events().iter().map(Event::kind).collect()
    }
}

fn kinds(events: &[TaskEvent]) -> Vec<EventKind> {
    events.iter().map(TaskEvent::kind).collect()
}

/// What the journal holds, oldest first.
async fn journal(store: &MemoryStore, after: &ergon_core::store::Cursor) -> Vec<Event> {
    let changes = store.changes(after, 10_000).await.unwrap();
    assert_eq!(changes.gap, None);
    changes.events.into_iter().map(|recorded| recorded.event).collect()
}

#[tokio::test(start_paused = true)]
async fn a_sink_hears_of_every_step_after_its_commit() {
    let (store, kept) = (memory(), Arc::new(Kept::default()));
    let fail_at = |number: u32| {
        move |work: Work, context: Context| async move {
            match (work.number == number, context.attempt()) {
                (true, 1) => Err(TaskError::retry("not\nyet")),
                _ => Ok(work.number),
            }
        }
    };
    let options = TaskOptions::new().retry(RetryPolicy::Fixed(SECOND * 5));
    let handle = enqueue(store.clone(), options).await;
    let sink: Arc<dyn EventSink> = Arc::<Kept>::clone(&kept);
    let server = start(Server::builder(store.clone()).handler(fail_at(7)).events(sink));
    let record = finished(&handle, store.clone()).await;
    assert_eq!(record.state, State::Completed);
    drop(server.shutdown().await);
    let told = kept.of(handle.id());
    let expected = [
        EventKind::TaskStarted,
        EventKind::TaskRetried,
        EventKind::TaskStarted,
        EventKind::TaskCompleted,
    ];
    assert_eq!(kinds(&told), expected);
    let TaskEvent::Retried { reason, ref error, .. } = told[1] else { unreachable!("{told:?}") };
    assert_eq!((reason, error.as_str()), (ErrorKind::Error, "not yet"));
    let attempts: Vec<_> =
        kept.events().iter().filter_map(|event| Some(event.task_ref()?.attempt)).collect();
    assert_eq!(attempts, [1, 1, 2, 2]);
    let server_events =
        [EventKind::ServerStarted, EventKind::ServerDraining, EventKind::ServerStopped];
    let about_server: Vec<_> =
        kept.kinds().into_iter().filter(|kind| server_events.contains(kind)).collect();
    assert_eq!(about_server, server_events);
}

#[tokio::test(start_paused = true)]
async fn what_a_sink_hears_is_what_the_journal_holds() {
    let (store, kept) = (memory(), Arc::new(Kept::default()));
    let watch = Watch::durable(WatcherName::new("test").unwrap());
    let from = store.watch(&watch).await.unwrap().cursor;
    let sink: Arc<dyn EventSink> = Arc::<Kept>::clone(&kept);
    let client = Client::builder(store.clone()).events(Arc::clone(&sink)).build();
    let works = (0..200).map(|number| Work { number });
    let retry = RetryPolicy::Fixed(SECOND);
    client.enqueue_many(works).max_attempts(2).retry(retry).await.unwrap();
    let outcome = async |work: Work, context: Context| match work.number % 5 {
        0 => Err(TaskError::fail("never")),
        1 => Err(TaskError::cancel("not wanted")),
        2 => Err(TaskError::retry("again")),
        3 if context.claimed_at() < context.created_at() + SECOND => {
            Err(TaskError::snooze(SECOND * 2))
        }
        _ => Ok(work.number),
    };
    let server = Server::builder(store.clone()).handler(outcome).events(sink);
    let server = start(server);
    pass(SECOND * 60).await;
    drop(server.shutdown().await);
    let by_task = |events: &[Event]| {
        let mut by_task: BTreeMap<TaskId, Vec<(u16, EventKind)>> = BTreeMap::new();
        for event in events {
            if let Some(task) = event.task_ref() {
                by_task.entry(task.id).or_default().push((task.attempt, event.kind()));
            }
        }
        by_task
    };
    let (told, recorded) = (by_task(&kept.events()), by_task(&journal(&store, &from).await));
    assert_eq!(recorded.len(), 200);
    assert_eq!(told, recorded);
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_came_too_late_is_told_to_nobody() {
    let (store, kept) = (memory(), Arc::new(Kept::default()));
    let (entered, go_on) = (Signal::default(), Signal::default());
    let handler = {
        let (entered, go_on) = (entered.clone(), go_on.clone());
        move |work: Work| {
            let (entered, go_on) = (entered.clone(), go_on.clone());
            async move {
                entered.fire();
                go_on.wait().await;
                Ok(work.number)
            }
        }
    };
    let handle = enqueue(store.clone(), TaskOptions::new()).await;
    let sink: Arc<dyn EventSink> = Arc::<Kept>::clone(&kept);
    // It runs one task at a time, so that the second claim is the other's.
    let queue = ergon_server::Queue::new("default").concurrency(1);
    let server = start(Server::builder(store.clone()).handler(handler).queue(queue).events(sink));
    entered.wait().await;
    // Its server seems dead: the task is taken back, given to another one, and finished there.
    let far =
        ergon_core::Now::At(read(&handle, store.clone()).await.progress.run_at + SECOND * 3600);
    let request = ergon_core::store::RescueRequest::default().now(far);
    let rescued = ergon_core::store::Maintain::rescue_expired(&store, &request).await.unwrap();
    assert_eq!(rescued.done, 1);
    let other = start(Server::builder(store.clone()).handler(async |work: Work| Ok(work.number)));
    finished(&handle, store.clone()).await;
    go_on.fire();
    drop(server.shutdown().await);
    drop(other.shutdown().await);
    assert_eq!(kinds(&kept.of(handle.id())), [EventKind::TaskStarted]);
}

#[tokio::test(start_paused = true)]
async fn rescues_and_removals_are_told() {
    let clock = Arc::new(ergon_testing::TokioClock::default());
    let retention = ergon_core::Retention::uniform(SECOND);
    let store = MemoryStore::builder().clock(clock).retention(retention).build();
    let handle = enqueue(store.clone(), TaskOptions::new()).await;
    // Somebody claims it and is never heard of again.
    let dead = ergon_core::ServerId::from_u128(1);
    let queue = ergon_core::store::QueueSlots { queue: "default".parse().unwrap(), slots: 1 };
    let kinds_handled = ["work".parse().unwrap()];
    let request = ergon_core::store::ClaimRequest::new(dead, kinds_handled, [queue]);
    let claimed = ergon_core::store::Dispatch::claim(&store, &request).await.unwrap();
    assert_eq!(claimed.len(), 1);
    let kept = Arc::new(Kept::default());
    let sink: Arc<dyn EventSink> = Arc::<Kept>::clone(&kept);
    let config = ServerConfig::new().prune_interval(SECOND);
    let work = async |work: Work| Ok(work.number);
    let server = Server::builder(store.clone()).handler(work).config(config).events(sink);
    let server = start(server);
    pass(SECOND * 120).await;
    drop(server.shutdown().await);
    let expected = [EventKind::TaskRescued, EventKind::TaskStarted, EventKind::TaskCompleted];
    assert_eq!(kinds(&kept.of(handle.id())), expected);
    let pruned = kept.events().into_iter().find(|event| event.kind() == EventKind::TasksPruned);
    assert_eq!(pruned.unwrap().fact, Fact::Pruned { tasks: 1 });
}

#[tokio::test(start_paused = true)]
async fn a_result_that_no_store_takes_is_told_as_the_failure_that_it_becomes() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Large;
    impl ergon_core::Task for Large {
        const KIND: &'static str = "large";
        type Output = String;
    }
    let (store, kept) = (memory(), Arc::new(Kept::default()));
    let sink: Arc<dyn EventSink> = Arc::<Kept>::clone(&kept);
    let large = async |_large: Large| Ok("x".repeat(2 << 20));
    let server = start(Server::builder(store.clone()).handler(large).events(sink));
    let handle = Client::new(store.clone()).enqueue(Large).await.unwrap().into_handle();
    assert_eq!(finished(&handle, store.clone()).await.state, State::Failed);
    drop(server.shutdown().await);
    let told = kept.of(handle.id());
    assert_eq!(kinds(&told), [EventKind::TaskStarted, EventKind::TaskFailed]);
    let TaskEvent::Failed { reason, .. } = told[1] else { unreachable!("{told:?}") };
    assert_eq!(reason, ErrorKind::Result);
}

#[tokio::test(start_paused = true)]
async fn the_newest_report_is_seen_while_the_task_runs() {
    let (store, kept) = (memory(), Arc::new(Kept::default()));
    let handler = async |work: Work, context: Context| {
        for done in 0..=100 {
            context.report(ProgressReport::new(done).of(100).message(format!("row {done}")));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(work.number)
    };
    let sink: Arc<dyn EventSink> = Arc::<Kept>::clone(&kept);
    let server = start(Server::builder(store.clone()).handler(handler).events(sink));
    let handle = enqueue(store.clone(), TaskOptions::new()).await;
    pass(Duration::from_millis(5_050)).await;
    let report = read(&handle, store.clone()).await.report.unwrap().report;
    assert!((35..=51).contains(&report.done), "{report:?}");
    assert_eq!((report.total, report.message), (Some(100), format!("row {}", report.done)));
    let record = finished(&handle, store.clone()).await;
    assert_eq!(record.report, None);
    drop(server.shutdown().await);
    let progressed = kinds(&kept.of(handle.id()));
    let times = progressed.iter().filter(|&&kind| kind == EventKind::TaskProgressed).count();
    // Once a second, though there were ten times as many reports.
    assert!((9..=12).contains(&times), "{times}");
}

#[tokio::test(start_paused = true)]
async fn reports_of_many_tasks_outlive_a_store_that_fails_for_a_while() {
    let faulty = Faulty::new(memory());
    faulty.fail_before(Operation::Report, 3);
    let handler = async |work: Work, context: Context| {
        context.report(ProgressReport::new(u64::from(work.number)));
        tokio::time::sleep(SECOND * 30).await;
        Ok(work.number)
    };
    let config = ServerConfig::new().concurrency(100);
    let queue = ergon_server::Queue::new("default").concurrency(100);
    let server = Server::builder(faulty.clone()).handler(handler).config(config).queue(queue);
    let handles = enqueue_many(faulty.clone(), 100, TaskOptions::new()).await;
    let server = start(server);
    pass(SECOND * 20).await;
    let manager = Manager::new(faulty);
    for (handle, number) in handles.iter().zip(0..) {
        let record = manager.tasks().get(handle.id()).await.unwrap().unwrap();
        assert_eq!(record.report.unwrap().report.done, number);
    }
    for handle in &handles {
        handle.result().within(PATIENCE).await.unwrap();
    }
    drop(server.shutdown().await);
}
