//! What servers count, and what is read of it.

use std::{collections::BTreeMap, sync::Arc};

use ergon_core::{
    Client, Manager, RetryPolicy, State, TaskError, TaskOptions,
    failure::{FailureOrder, FailureQuery},
    statistics::{Group, Resolution, Statistics, StatisticsQuery},
    time::after,
};
use ergon_server::{Context, RunningServer, Server, ServerConfig};
use ergon_testing::{Faulty, MemoryStore, Operation};

use crate::support::{SECOND, Work, enqueue_many, memory, pass, start};

fn manager(store: &MemoryStore) -> Manager {
    Manager::new(store.clone()).clock(Arc::clone(store.clock()))
}

/// All that servers wrote of the last two hours.
async fn read(store: &MemoryStore, resolution: Resolution) -> Statistics {
    let now = store.clock().now();
    let query = StatisticsQuery::new(now - SECOND * 7_200, after(now, SECOND));
    let query = query.resolution(resolution).group(Group::Pair);
    manager(store).statistics().read(&query).await.unwrap()
}

fn server(store: impl ergon_core::store::IntoStore, clock: &MemoryStore) -> RunningServer {
    let handler = async |work: Work, context: Context| match (work.number % 5, context.attempt()) {
        (0, _) => Err(TaskError::fail(format!("row {} is bad", work.number))),
        (1, _) => Err(TaskError::cancel("not wanted")),
        (2, 1) => Err(TaskError::retry(format!("try {} again", work.number))),
        _ => Ok(work.number),
    };
    start(Server::builder(store).clock(Arc::clone(clock.clock())).handler(handler))
}

#[tokio::test(start_paused = true)]
async fn the_counts_of_all_servers_are_those_of_the_store() {
    let store = memory();
    let options = || TaskOptions::new().retry(RetryPolicy::Fixed(SECOND * 2));
    enqueue_many(store.clone(), 500, options()).await;
    let servers = [server(store.clone(), &store), server(store.clone(), &store)];
    pass(SECOND * 70).await;
    enqueue_many(store.clone(), 100, options()).await;
    pass(SECOND * 15).await;
    for resolution in [Resolution::Minute, Resolution::Hour] {
        let read = read(&store, resolution).await;
        assert_eq!((read.series.len(), read.unreadable, read.cut_before), (1, 0, None));
        let total = &read.series[0].total;
        let counts = [total.started, total.completed, total.failed, total.retried, total.cancelled];
        assert_eq!(counts, [720, 360, 120, 120, 120], "{resolution:?}");
        assert_eq!((total.waited.count(), total.ran.count()), (720, 720));
        assert!(total.waited.max() < SECOND, "{:?}", total.waited.max());
        let points: Vec<_> = read.series[0].points.iter().map(|it| it.failed).collect();
        let busy: Vec<_> = points.into_iter().filter(|&failed| failed > 0).collect();
        let expected = if resolution == Resolution::Minute { vec![100, 20] } else { vec![120] };
        assert_eq!(busy, expected);
    }
    for server in servers {
        assert!(server.shutdown().await.is_clean());
    }
    let queues = manager(&store).tasks().queues().await.unwrap();
    assert_eq!(queues[0].counts.get(State::Completed), 360);
    let total = &read(&store, Resolution::Hour).await.series[0].total;
    assert_eq!(total.completed, 360, "writing again at the end changes nothing");
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_put_together_by_what_it_has_in_common() {
    let store = memory();
    enqueue_many(store.clone(), 50, TaskOptions::new().retry(RetryPolicy::Fixed(SECOND))).await;
    let server = server(store.clone(), &store);
    pass(SECOND * 5).await;
    // The last counts are written at the end.
    assert!(server.shutdown().await.is_clean());
    let now = store.clock().now();
    let query = FailureQuery::new(now - SECOND * 3_600, after(now, SECOND));
    let query = query.order(FailureOrder::Most);
    let failures = manager(&store).failures().read(&query).await.unwrap();
    let groups = failures.groups.iter().map(|it| (it.record.pattern.as_str(), it.record.count));
    let groups: BTreeMap<_, _> = groups.collect();
    assert_eq!(groups, BTreeMap::from([("row <n> is bad", 10), ("try <n> again", 10)]));
    assert_eq!(failures.failures_total, 20);
}

#[tokio::test(start_paused = true)]
async fn counts_outlive_a_store_that_takes_none_for_a_while() {
    let store = memory();
    let faulty = Faulty::new(store.clone());
    let server = server(faulty.clone(), &store);
    faulty.fail_before(Operation::Put, usize::MAX);
    for _ in 0..5 {
        let options = TaskOptions::new().retry(RetryPolicy::Fixed(SECOND));
        enqueue_many(store.clone(), 10, options).await;
        pass(SECOND * 60).await;
    }
    assert!(read(&store, Resolution::Minute).await.series.is_empty());
    faulty.heal();
    pass(SECOND * 30).await;
    let read = read(&store, Resolution::Minute).await;
    // Of ten tasks six complete, two of them at the second attempt.
    assert_eq!(read.series[0].total.completed, 5 * 6);
    assert!(server.shutdown().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn who_wants_no_statistics_writes_none() {
    let store = memory();
    let config = ServerConfig::new().statistics(false);
    let work = async |work: Work| Ok(work.number);
    let server = start(Server::builder(store.clone()).config(config).handler(work));
    enqueue_many(store.clone(), 10, TaskOptions::new()).await;
    pass(SECOND * 60).await;
    assert!(server.shutdown().await.is_clean());
    assert_eq!(read(&store, Resolution::Minute).await.documents, 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_server_writes_nothing_but_that_it_lives() {
    let store = memory();
    let faulty = Faulty::new(store.clone());
    let server = server(faulty.clone(), &store);
    Client::new(store.clone()).enqueue(Work { number: 3 }).await.unwrap();
    pass(SECOND * 95).await;
    // Its tenth sign of life, the counts of its only task, and no more.
    assert_eq!(faulty.calls(Operation::Put), 10 + 1);
    assert!(server.shutdown().await.is_clean());
}
