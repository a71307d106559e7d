//! Servers that are full, or take no writes, and pools that are small or left in a mess.

use std::time::Duration;

use ergon_cluster::Settings;
use ergon_core::{
    Conclusion, NewTask, Now, QueueName, StoreError, UniqueKey, UniqueScope, Verdict,
    store::{
        Beat, Dispatch as _, Enqueue as _, Held, Inserted, Inspect as _, Maintain as _,
        RescueRequest,
    },
};
use ergon_postgres::PostgresStore;
use sqlx::{Connection as _, PgConnection, PgPool, postgres::PgPoolOptions};
use tokio::task::JoinSet;

use super::{
    LONG, claim, completed, healed, is_consistent, kind, millis, options, pack, pause, server,
    site, tasks, unavailable,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_a_connection_to_spare_is_unavailable_until_it_has_one() {
    let full = Settings::default()
        .set("max_connections", "10")
        .set("superuser_reserved_connections", "0")
        .set("autovacuum", "off");
    let Some(site) = site(full).await else { return };
    let options =
        options().listen(false).housekeeping(false).statement_timeout(Duration::from_secs(1));
    let store = site.store(options).await;
    store.insert(&tasks(1), Now::Store).await.unwrap();
    let mut others = Vec::new();
    let mine = "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity \
                WHERE application_name = 'ergon'";
    others.push(PgConnection::connect(&site.url()).await.unwrap());
    sqlx::raw_sql(mine).execute(&mut others[0]).await.unwrap();
    while let Ok(other) = PgConnection::connect(&site.url()).await {
        others.push(other);
    }
    let limit = millis(1_900);
    let batch = tasks(2);
    unavailable("insert", limit, store.insert(&batch, Now::Store)).await;
    unavailable("claim", limit, store.claim(&claim(1, 1, LONG))).await;
    unavailable("queues", limit, store.queues(Now::Store)).await;
    for other in others {
        other.close().await.unwrap();
    }
    let inserted = healed(|| store.insert(&batch, Now::Store)).await;
    assert_eq!(inserted, [Inserted::Created; 2]);
    site.serves_at_once(&store, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_became_read_only_is_unavailable_until_it_takes_writes() {
    let Some(site) = site(Settings::default()).await else { return };
    let store = site.store(options()).await;
    store.insert(&tasks(4), Now::Store).await.unwrap();
    let claimed = store.claim(&claim(1, 2, LONG)).await.unwrap();
    site.serves_at_once(&store, 4).await;
    let pids =
        "SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE application_name = 'ergon'";
    let before = site.number(pids);
    for (setting, is_read_only) in [("on", true), ("off", false)] {
        let sql = format!("ALTER SYSTEM SET default_transaction_read_only = {setting}");
        site.act(|cluster| cluster.execute(&sql)).unwrap();
        site.act(|cluster| cluster.execute("SELECT pg_reload_conf()")).unwrap();
        let (batch, limit) = (tasks(2), Duration::from_secs(11));
        let outcomes = completed(&claimed);
        if is_read_only {
            // Sessions hear of it a moment later.
            while store.insert(&tasks(1), Now::Store).await.is_ok() {
                pause(millis(5)).await;
            }
            pause(millis(100)).await;
            unavailable("insert", limit, store.insert(&batch, Now::Store)).await;
            unavailable("claim", limit, store.claim(&claim(1, 2, LONG))).await;
            unavailable("finish", limit, store.finish(&outcomes, Now::Store)).await;
            let mut unique = tasks(1);
            let scope = UniqueScope::UntilFinished;
            unique[0].spec.unique = Some(UniqueKey { hash: [1; 32], scope });
            unavailable("unique", limit, store.insert(&unique, Now::Store)).await;
            // Reading goes on.
            assert_eq!(store.tasks(&[claimed[0].id], Now::Store).await.unwrap().len(), 1);
        } else {
            healed(|| store.insert(&batch, Now::Store)).await;
            let verdicts = healed(|| store.finish(&outcomes, Now::Store)).await;
            assert_eq!(verdicts, [Verdict::Applied; 2]);
        }
    }
    assert_ne!(site.number(pids), before, "the sessions that took no writes are still used");
    is_consistent(&site, &store).await;
}

/// Leaves every connection of a pool in a transaction, as an application can that drops a future.
async fn leave_open(pool: &PgPool, how: &'static str) {
    let mut connections = Vec::new();
    for _ in 0..2 {
        connections.push(pool.acquire().await.unwrap());
    }
    for connection in &mut connections {
        // The last statement may be one that fails.
        drop(sqlx::raw_sql(how).execute(&mut **connection).await);
    }
    drop(connections);
    let returning = async {
        while pool.num_idle() < 2 {
            pause(millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(LONG, returning).await.is_ok(), "connections are missing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_the_application_left_in_a_transaction_lose_nothing() {
    let Some(site) = site(Settings::default()).await else { return };
    let pool = PgPoolOptions::new().max_connections(2).connect(&site.url()).await.unwrap();
    let store = options().housekeeping(false).from_pool(pool.clone()).await.unwrap();
    let stored = || site.number("SELECT coalesce(sum(n), 0) FROM ergon.pack");
    let settled = || site.number("SELECT coalesce(sum(n), 0) FROM ergon.settled");
    let mut hash = [0; 32];
    for (round, how) in (1..).zip(["BEGIN", "BEGIN; SELECT 1/0", "BEGIN READ ONLY"]) {
        leave_open(&pool, how).await;
        store.insert(&tasks(1), Now::Store).await.unwrap();
        assert_eq!(stored(), 4 * round - 3, "{how}");
        leave_open(&pool, how).await;
        store.insert(&pack(2), Now::At(ergon_core::Timestamp::UNIX_EPOCH)).await.unwrap();
        assert_eq!(stored(), 4 * round - 1, "{how}");
        leave_open(&pool, how).await;
        let mut unique = tasks(1);
        hash[0] = u8::try_from(round).unwrap();
        unique[0].spec.unique = Some(UniqueKey { hash, scope: UniqueScope::UntilStarted });
        store.insert(&unique, Now::Store).await.unwrap();
        assert_eq!(stored(), 4 * round, "{how}");
        leave_open(&pool, how).await;
        let claimed = store.claim(&claim(1, 10, LONG)).await.unwrap();
        assert_eq!(claimed.len(), 4, "{how}");
        assert_eq!(site.number("SELECT count(*) FROM ergon.ready"), 0);
        leave_open(&pool, how).await;
        let verdicts = store.finish(&completed(&claimed), Now::Store).await.unwrap();
        assert_eq!(verdicts, [Verdict::Applied; 4], "{how}");
        assert_eq!(settled(), 4 * round, "{how}");
    }
    is_consistent(&site, &store).await;
    let open = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'";
    assert_eq!(site.number(open), 0);
}

/// Everything that a worker does with one task, and its enqueuer.
async fn cycle(store: PostgresStore, number: u8) -> Result<(), StoreError> {
    let mut all: Vec<NewTask> = tasks(2);
    all.extend(pack(3));
    let scope = UniqueScope::UntilFinished;
    all[0].spec.unique = Some(UniqueKey { hash: [number % 5; 32], scope });
    for task in &mut all {
        task.spec.queue = QueueName::new(format!("queue-{}", number % 4)).unwrap();
    }
    let queue = all[0].spec.queue.clone();
    store.insert(&all[..1], Now::Store).await?;
    store.insert(&all[1..], Now::Store).await?;
    let server = server(u128::from(number));
    store.wait_for_work(std::slice::from_ref(&queue), &[kind()], millis(50)).await;
    let mut request = claim(u128::from(number), 5, LONG);
    request.queues[0].queue = queue;
    let claimed = store.claim(&request).await?;
    let held = |task: &ergon_core::ClaimedTask| Held { id: task.id, token: task.token };
    let held: Vec<Held> = claimed.iter().map(held).collect();
    let some = Beat::new(server, held.iter().copied().step_by(2).collect());
    assert_eq!(store.beat(&some).await?.lost, []);
    assert_eq!(store.beat(&Beat::new(server, held)).await?.lost, []);
    let mut outcomes = completed(&claimed);
    for outcome in outcomes.iter_mut().skip(3) {
        outcome.conclusion = Conclusion::Release;
    }
    let verdicts = store.finish(&outcomes, Now::Store).await?;
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Applied), "{verdicts:?}");
    if let Some(first) = claimed.first() {
        assert!(store.wait_for_finish(first.id, LONG).await?);
    }
    store.rescue_expired(&RescueRequest::default()).await?;
    store.queues(Now::Store).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_connections_are_enough_for_many_callers() {
    let Some(site) = site(Settings::default()).await else { return };
    let store = site.store(options().max_connections(2)).await;
    let mut callers = JoinSet::new();
    for number in 0..32 {
        let store = store.clone();
        callers.spawn(async move {
            for _ in 0..4 {
                cycle(store.clone(), number).await.unwrap();
            }
        });
    }
    let all = tokio::time::timeout(LONG, callers.join_all()).await;
    assert!(all.is_ok(), "they wait for one another");
    is_consistent(&site, &store).await;
    site.serves_at_once(&store, 2).await;
    site.has_no_open_transaction().await;
}
