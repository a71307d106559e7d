//! The manager's views of servers, statistics, failures, the audit trail and explanations.

use ergon_core::{
    Manager, Timestamp,
    audit::{Actor, Audit, AuditOutcome},
    document::{Put, Space},
    event::{Event, Excerpt, TaskEvent, TaskRef},
    explain::Reason,
    failure::{self, FailureQuery},
    servers::{Presence, ServedQueue, ServerProfile, ServerState},
    statistics::{self, Group, StatisticsQuery},
    store::Control as _,
    time::after,
};

use super::*;

fn manager(store: &MemoryStore) -> Manager {
    Manager::new(store.clone()).clock(Arc::clone(store.clock()))
}

async fn tell(store: &MemoryStore, server: u128) {
    let queue = ServedQueue { queue: QueueName::default(), concurrency: 2 };
    let now = store.clock().now();
    let profile = ServerProfile::new("host", 7, now).queues([queue]);
    let profile = profile.kinds(["plain".parse().unwrap()]);
    let presence = Presence::new(profile, now, SECOND * 10).held(1, 2);
    store.put(&[presence.put(ServerId::from_u128(server)).unwrap()]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn servers_are_listed_until_a_day_after_they_were_lost() {
    let (_client, store) = client();
    tell(&store, 1).await;
    tokio::time::advance(SECOND * 31).await;
    tell(&store, 2).await;
    let listed = async || {
        let servers = manager(&store).servers().list().await.unwrap();
        servers.iter().map(|it| (it.id.as_u128(), it.state)).collect::<Vec<_>>()
    };
    assert_eq!(listed().await, [(1, ServerState::Lost), (2, ServerState::Running)]);
    // What is of another form is left out.
    store.put(&[Put::new(Space::Server, "x", "{}")]).await.unwrap();
    assert_eq!(listed().await.len(), 2);
    tokio::time::advance(SECOND * (24 * 3600 - 31)).await;
    assert_eq!(listed().await, [(2, ServerState::Lost)]);
}

#[tokio::test(start_paused = true)]
async fn an_explanation_knows_the_task_its_queue_and_the_servers() {
    let (client, store) = client();
    let id = client.enqueue(Plain(1)).await.unwrap().id();
    let manager = manager(&store);
    let reasons = async |id| {
        let explanation = manager.tasks().explain(id).await.unwrap();
        explanation.map(|it| it.reasons)
    };
    assert_eq!(reasons(TaskId::MAX).await, None);
    assert!(matches!(reasons(id).await.unwrap()[..], [Reason::QueueUnserved { .. }]));
    tell(&store, 1).await;
    assert!(matches!(reasons(id).await.unwrap()[..], [Reason::Due { .. }]));
    manager.control().pause_queue(&QueueName::default()).await.unwrap();
    assert!(matches!(reasons(id).await.unwrap()[..], [Reason::QueuePaused { .. }]));
    manager.control().resume_queue(&QueueName::default()).await.unwrap();
    client.enqueue(Plain(2)).await.unwrap();
    assert_eq!(reasons(id).await.unwrap(), [Reason::Ahead { tasks: 1 }]);
    claim(&store, "plain").await;
    assert!(matches!(reasons(id).await.unwrap()[..], [Reason::Running { .. }]));
}

fn event(kind: &str, id: u64, event: TaskEvent) -> Event {
    let id = TaskId::from_parts(id, 0, 0);
    let (queue, kind) = (QueueName::default(), kind.parse().unwrap());
    Event::task(Timestamp::UNIX_EPOCH, TaskRef { id, queue, kind, attempt: 1 }, event)
}

#[tokio::test(start_paused = true)]
async fn statistics_of_many_servers_are_read_page_by_page() {
    let (_client, store) = client();
    let now = store.clock().now();
    for server in 0..10 {
        let server = ServerId::from_u128(server);
        let mut collector = statistics::Collector::new(server);
        for kind in 0..150 {
            let done = event(&format!("k{kind}"), 1, TaskEvent::Completed { ran: SECOND });
            collector.fold(&[done], now);
        }
        for chunk in collector.flush(now).chunks(1_000) {
            store.put(chunk).await.unwrap();
        }
    }
    let manager = manager(&store);
    let query = StatisticsQuery::new(now, after(now, SECOND)).group(Group::Kind);
    let read = manager.statistics().read(&query).await.unwrap();
    assert_eq!((read.documents, read.series.len(), read.cut_before), (1_500, 50, None));
    assert_eq!(read.series[0].total.completed, 10);
    assert_eq!(read.series[49].total.completed, 101 * 10);
    let none = manager.statistics().read(&StatisticsQuery::new(now, now)).await.unwrap();
    assert_eq!((none.documents, none.starts.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn failures_are_read_together() {
    let (_client, store) = client();
    let now = store.clock().now();
    for server in 0..3 {
        let mut collector = failure::Collector::new(ServerId::from_u128(server));
        let (ran, reason) = (SECOND, ergon_core::ErrorKind::Error);
        let error = Excerpt::of("user 7 is gone");
        let failed = event("mail", 1, TaskEvent::Failed { ran, reason, error });
        collector.fold(&[failed], now);
        store.put(&collector.flush(now)).await.unwrap();
    }
    let query = FailureQuery::new(now, after(now, SECOND));
    let read = manager(&store).failures().read(&query).await.unwrap();
    assert_eq!((read.groups.len(), read.failures_total), (1, 3));
    assert_eq!(read.groups[0].record.pattern, "user <n> is gone");
}

#[tokio::test(start_paused = true)]
async fn the_audit_trail_tells_what_was_begun_and_what_came_of_it() {
    let (_client, store) = client();
    let manager = manager(&store);
    let trail = manager.audit();
    let audit = |action: &str| Audit::new(Actor::new("ana").role("operator"), action, "all");
    let mut ids = Vec::new();
    for number in 0..25 {
        let entry = trail.begin(audit(&format!("act.{number}")).note("ticket")).await.unwrap();
        ids.push(entry.id);
        if number == 24 {
            continue;
        }
        tokio::time::advance(SECOND).await;
        let outcome = if number % 2 == 0 { AuditOutcome::Done } else { AuditOutcome::Failed };
        trail.complete(entry, outcome, Some(number), "").await.unwrap();
    }
    ids.push(trail.denied(audit("act.forbidden").count(3)).await.unwrap().id);
    let mut read = Vec::new();
    let mut after = None;
    loop {
        let page = trail.page(10, after).await.unwrap();
        read.extend(page.entries);
        let Some(next) = page.next else { break };
        after = Some(next);
    }
    let read_ids: Vec<_> = read.iter().rev().map(|entry| entry.id).collect();
    assert_eq!(read_ids, ids);
    let outcomes: Vec<_> = read.iter().take(4).map(|entry| entry.outcome).collect();
    let expected =
        [AuditOutcome::Denied, AuditOutcome::Begun, AuditOutcome::Failed, AuditOutcome::Done];
    assert_eq!(outcomes, expected);
    assert_eq!((read[2].count, read[2].note.as_str()), (Some(23), "ticket"));
    assert!(trail.page(0, None).await.is_err());
    // Entries that cannot be read are counted, and paging goes on behind them.
    store.put(&[Put::new(Space::Audit, "ffffffff", "{}")]).await.unwrap();
    let page = trail.page(1, None).await.unwrap();
    assert_eq!((page.entries[0].id, page.unreadable), (ids[25], 1));
    assert_eq!(page.next, Some(ids[25]));
}
