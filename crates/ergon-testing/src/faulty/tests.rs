//! What is planned happens, and everything else reaches the store behind.

use ergon_core::{Client, KindName, TaskSpec};

use super::*;
use crate::MemoryStore;

fn task(number: u64) -> NewTask {
    let kind = KindName::new("k").unwrap();
    NewTask::new(TaskId::from_parts(1, number, 0), TaskSpec::new(kind, "{}"))
}

#[tokio::test]
async fn a_failure_before_leaves_nothing_and_one_after_leaves_everything() {
    let faulty = Faulty::new(MemoryStore::new());
    faulty.fail_before(Operation::Insert, 1);
    faulty.fail_after(Operation::Insert, 1);
    for number in 1..=2 {
        let error = faulty.insert(&[task(number)], Now::Store).await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
    }
    let again = faulty.insert(&[task(1), task(2)], Now::Store).await.unwrap();
    assert_eq!(again, [Inserted::Created, Inserted::AlreadyExists]);
    assert_eq!(faulty.calls(Operation::Insert), 3);
    assert_eq!(faulty.calls(Operation::Claim), 0);
}

#[tokio::test]
async fn what_the_store_refuses_is_answered_as_it_is() {
    let faulty = Faulty::new(MemoryStore::new());
    faulty.fail_after(Operation::Insert, 1);
    let error = faulty.insert(&[task(1), task(1)], Now::Store).await.unwrap_err();
    assert!(matches!(error, StoreError::Rejected { index: 1, .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn delays_last_until_the_store_is_healed() {
    let faulty = Faulty::new(MemoryStore::new());
    let start = tokio::time::Instant::now();
    faulty.delay(Operation::Count, Duration::from_secs(5));
    faulty.fail_before(Operation::Count, usize::MAX);
    assert!(faulty.count(&TaskFilter::all(), Now::Store).await.is_err());
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    faulty.heal();
    assert!(faulty.count(&TaskFilter::all(), Now::Store).await.is_ok());
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    assert_eq!(faulty.calls(Operation::Count), 2);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_fails_returns_for_nothing() {
    let faulty = Faulty::new(MemoryStore::new());
    let start = tokio::time::Instant::now();
    faulty.fail_before(Operation::WaitForWork, 1);
    faulty.wait_for_work(&[QueueName::default()], &[], Duration::from_secs(5)).await;
    assert!(start.elapsed().is_zero());
    faulty.wait_for_work(&[QueueName::default()], &[], Duration::from_secs(5)).await;
    assert_eq!(start.elapsed(), Duration::from_secs(5));
}

#[tokio::test]
async fn every_role_reaches_the_store_behind() {
    let faulty = Faulty::new(MemoryStore::new());
    let client = Client::new(faulty.clone());
    let id = client.enqueue_json("k", 1).await.unwrap().id();
    let found = faulty.tasks(&[id], Now::Store).await.unwrap();
    assert!(found[0].is_some());
    let all = TaskFilter::all();
    assert_eq!(faulty.list(&all, &Page::of(1), Now::Store).await.unwrap().tasks.len(), 1);
    let applied = faulty.apply(&Selection::Ids(vec![id]), &Command::Delete, Now::Store).await;
    assert_eq!(applied.unwrap().changed(), 1);
    assert!(faulty.wait_for_finish(id, Duration::ZERO).await.unwrap());
    faulty.set_queue(&QueueName::default(), &QueueChange::pause()).await.unwrap();
    assert!(faulty.queues(Now::Store).await.unwrap()[0].is_paused);
    assert_eq!(faulty.rescue_expired(&RescueRequest::default()).await.unwrap().done, 0);
    assert_eq!(faulty.prune(&PruneRequest::default()).await.unwrap().done, 0);
    assert_eq!(faulty.capabilities(), Capabilities::none());
}

#[tokio::test]
async fn the_journal_of_the_store_behind_is_reached() {
    let faulty = Faulty::new(MemoryStore::new());
    let name = WatcherName::new("w").unwrap();
    let watched = faulty.watch(&Watch::durable(name.clone())).await.unwrap();
    assert_eq!(faulty.watchers().await.unwrap()[0].name, name);
    faulty.fail_before(Operation::Announce, 1);
    faulty.fail_after(Operation::Announce, 1);
    for _ in 0..2 {
        let error = faulty.announce(ServerId::from_u128(1), &ServerEvent::Started).await;
        assert!(error.unwrap_err().is_transient());
    }
    faulty.wait_for_changes(&watched.cursor, Duration::MAX).await;
    let changes = faulty.changes(&watched.cursor, 10).await.unwrap();
    assert_eq!((changes.events.len(), &changes.cursor), (1, &faulty.latest().await.unwrap()));
    assert_eq!(faulty.calls(Operation::Announce), 2);
    let claim = ClaimReport {
        id: TaskId::MIN,
        token: ergon_core::Token::NONE,
        report: ergon_core::ProgressReport::new(1),
    };
    assert_eq!(faulty.report(&[claim], Now::Store).await.unwrap(), [Verdict::Stale]);
    assert!(faulty.unwatch(&name).await.unwrap());
    for operation in [Operation::Watch, Operation::Report, Operation::Unwatch] {
        assert_eq!(faulty.calls(operation), 1, "{operation:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_changes_that_fails_returns_for_nothing() {
    let faulty = Faulty::new(MemoryStore::new());
    let (start, cursor) = (tokio::time::Instant::now(), faulty.latest().await.unwrap());
    faulty.fail_before(Operation::WaitForChanges, 1);
    faulty.wait_for_changes(&cursor, Duration::from_secs(5)).await;
    assert!(start.elapsed().is_zero());
    faulty.wait_for_changes(&cursor, Duration::from_secs(5)).await;
    assert_eq!(start.elapsed(), Duration::from_secs(5));
}
