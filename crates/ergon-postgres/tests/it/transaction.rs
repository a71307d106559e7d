//! Enqueues and outcomes in transactions of the application, and enqueues from SQL.

use std::time::Duration;

use ergon_core::{
    Client, KindName, Manager, Now, QueueName, ServerId, State, Task, TaskId, Unique, Verdict,
    WatcherName,
    client::Enqueued,
    store::{
        Beat, ClaimRequest, Dispatch as _, Held, Inserted, Inspect as _, Maintain as _,
        Observe as _, QueueSlots, RescueRequest, Watch,
    },
};
use ergon_postgres::{EnqueueInTransaction as _, PostgresStore};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{AssertSqlSafe, Row as _};

use crate::support::{self, Sandbox};

#[derive(Serialize, Deserialize, Task)]
#[task(kind = "k")]
struct Number(u32);

const SECOND: Duration = Duration::from_secs(1);
const SERVER: ServerId = ServerId::from_u128(1);

async fn claim(store: &PostgresStore, slots: usize) -> Vec<Held> {
    let queue = QueueSlots { queue: QueueName::default(), slots };
    let request = ClaimRequest::new(SERVER, [KindName::new("k").unwrap()], [queue]);
    let claimed = store.claim(&request).await.unwrap();
    claimed.iter().map(|task| Held { id: task.id, token: task.token }).collect()
}

async fn state(store: &PostgresStore, id: TaskId) -> Option<State> {
    store.tasks(&[id], Now::Store).await.unwrap()[0].as_ref().map(|task| task.state)
}

async fn scene() -> Option<(Sandbox, PostgresStore, Client, sqlx::PgPool)> {
    let (sandbox, store) = support::store().await?;
    let pool = sandbox.pool(2).await;
    let client = Client::new(store.clone());
    Some((sandbox, store, client, pool))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_exists_from_the_commit_on_and_never_after_a_rollback() {
    let Some((_sandbox, store, client, pool)) = scene().await else { return };
    let mut transaction = pool.begin().await.unwrap();
    let enqueue = client.enqueue_json("k", "kept");
    let kept = enqueue.in_transaction(&store, &mut transaction).await.unwrap();
    assert_eq!(state(&store, kept.id()).await, None);
    assert_eq!(claim(&store, 5).await, []);
    transaction.commit().await.unwrap();
    assert_eq!(state(&store, kept.id()).await, Some(State::Pending));

    let mut transaction = pool.begin().await.unwrap();
    let enqueue = client.enqueue_json("k", "lost");
    let lost = enqueue.in_transaction(&store, &mut transaction).await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(state(&store, lost.id()).await, None);
    assert_eq!(claim(&store, 5).await.len(), 1);
    assert_eq!(store.queues(Now::Store).await.unwrap()[0].counts.total(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_the_application_is_as_durable_as_without_tasks() {
    let Some((_sandbox, store, client, pool)) = scene().await else { return };
    let watch = Watch::durable(WatcherName::new("test").unwrap());
    store.watch(&watch).await.unwrap();
    client.enqueue_json("k", "claimed").await.unwrap();
    let claimed = claim(&store, 1).await;
    let mut transaction = pool.begin().await.unwrap();
    let enqueue = client.enqueue_json("k", "kept");
    enqueue.in_transaction(&store, &mut transaction).await.unwrap();
    store.finish_in_transaction(&mut transaction, claimed[0], &()).await.unwrap();
    let settings = sqlx::query("SHOW synchronous_commit").fetch_one(&mut *transaction).await;
    assert_eq!(settings.unwrap().get::<String, _>(0), "on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_wakes_those_who_wait_for_work() {
    let Some((sandbox, store, client, pool)) = scene().await else { return };
    let other = sandbox.options().connect(&sandbox.url).await.unwrap();
    let kinds = [KindName::new("k").unwrap()];
    let queues = [QueueName::default()];
    let wait = async {
        let began = tokio::time::Instant::now();
        // The first wait makes the store listen; it ends by what comes, or looks again.
        while claim(&other, 1).await.is_empty() {
            other.wait_for_work(&queues, &kinds, SECOND * 20).await;
        }
        began.elapsed()
    };
    let commit = async {
        let mut transaction = pool.begin().await.unwrap();
        client.enqueue_json("k", 1).in_transaction(&store, &mut transaction).await.unwrap();
        transaction.commit().await.unwrap();
    };
    let (waited, ()) = tokio::join!(wait, commit);
    assert!(waited < SECOND * 10, "{waited:?}");
    other.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unique_key_is_decided_in_the_transaction() {
    let Some((_sandbox, store, client, pool)) = scene().await else { return };
    let one = || client.enqueue_json("k", json!({"a": 1})).unique(Unique::by_payload());
    let mut transaction = pool.begin().await.unwrap();
    let first = one().in_transaction(&store, &mut transaction).await.unwrap();
    let again = one().in_transaction(&store, &mut transaction).await.unwrap();
    assert!(matches!(&again, Enqueued::Duplicate(of) if of.id() == first.id()), "{again:?}");
    transaction.rollback().await.unwrap();
    assert!(!one().await.unwrap().is_duplicate(), "a rollback frees the key");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_are_enqueued_together() {
    let Some((_sandbox, store, client, pool)) = scene().await else { return };
    let mut transaction = pool.begin().await.unwrap();
    let many = client.enqueue_many((0..2_500).map(Number));
    let inserted = many.in_transaction(&store, &mut transaction).await.unwrap();
    assert_eq!(inserted, vec![Inserted::Created; 2_500]);
    transaction.commit().await.unwrap();
    assert_eq!(claim(&store, 3_000).await.len(), 2_500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_done_with_what_its_transaction_writes_or_not_at_all() {
    let Some((sandbox, store, client, pool)) = scene().await else { return };
    sandbox.run("CREATE TABLE ergon.ledger (task text PRIMARY KEY)").await;
    let write = format!("INSERT INTO {}.ledger VALUES ($1)", sandbox.schema);
    for _ in 0..3 {
        client.enqueue_json("k", 1).await.unwrap();
    }
    let held = claim(&store, 3).await;

    let mut transaction = pool.begin().await.unwrap();
    let task = held[0].id.to_string();
    let write = sqlx::query(AssertSqlSafe(write)).bind(task);
    write.execute(&mut *transaction).await.unwrap();
    let verdict = store.finish_in_transaction(&mut transaction, held[0], &"done").await.unwrap();
    assert_eq!(verdict, Verdict::Applied);
    // Its neighbours in the claim are renewed and finished meanwhile; it itself stays as it is.
    let reply = store.beat(&Beat::new(SERVER, held.clone())).await.unwrap();
    assert_eq!((reply.lost, reply.cancelled), (vec![], vec![]));
    let rest: Vec<_> = held[1..]
        .iter()
        .map(|held| ergon_core::Outcome {
            id: held.id,
            token: held.token,
            conclusion: ergon_core::Conclusion::Complete { result: None },
        })
        .collect();
    let verdicts = store.finish(&rest, Now::Store).await.unwrap();
    assert_eq!(verdicts, [Verdict::Applied; 2]);
    assert_eq!(state(&store, held[0].id).await, Some(State::Running));
    transaction.rollback().await.unwrap();
    assert_eq!(state(&store, held[0].id).await, Some(State::Running));

    let mut transaction = pool.begin().await.unwrap();
    let verdict = store.finish_in_transaction(&mut transaction, held[0], &"done").await.unwrap();
    assert_eq!(verdict, Verdict::Applied);
    transaction.commit().await.unwrap();
    let done = store.tasks(&[held[0].id], Now::Store).await.unwrap()[0].clone().unwrap();
    assert_eq!(done.state, State::Completed);
    assert_eq!(done.progress.result.as_deref(), Some(&b"\"done\""[..]));
    // The handler returns, and its server writes the outcome once more.
    let again = ergon_core::Outcome {
        id: held[0].id,
        token: held[0].token,
        conclusion: ergon_core::Conclusion::Complete { result: None },
    };
    assert_eq!(store.finish(&[again], Now::Store).await.unwrap(), [Verdict::AlreadyApplied]);
}

#[tokio::test(flavor = "multi_thread")]
async fn neighbours_of_one_claim_finish_at_once_in_every_way() {
    let Some((sandbox, store, client, _pool)) = scene().await else { return };
    let pool = sandbox.pool(8).await;
    for _ in 0..5 {
        client.enqueue_many((0..20).map(Number)).await.unwrap();
        for _ in 0..10 {
            client.enqueue_json("k", 1).await.unwrap();
        }
        let held = claim(&store, 30).await;
        assert_eq!(held.len(), 30);
        let beating = async {
            for _ in 0..10 {
                store.beat(&Beat::new(SERVER, held.clone())).await.unwrap();
            }
        };
        let one = async |at: usize, held: Held| {
            if at.is_multiple_of(2) {
                let mut transaction = pool.begin().await.unwrap();
                let finishing = store.finish_in_transaction(&mut transaction, held, &at);
                let verdict = finishing.await.unwrap();
                transaction.commit().await.unwrap();
                return verdict;
            }
            let conclusion = ergon_core::Conclusion::Complete { result: None };
            let outcome = ergon_core::Outcome { id: held.id, token: held.token, conclusion };
            store.finish(&[outcome], Now::Store).await.unwrap()[0]
        };
        let all = held.iter().enumerate().map(|(at, &held)| one(at, held));
        let (verdicts, ()) = tokio::join!(futures_util::future::join_all(all), beating);
        assert_eq!(verdicts, vec![Verdict::Applied; 30]);
        assert_eq!(store.rescue_expired(&RescueRequest::default()).await.unwrap().done, 0);
        let counts = store.queues(Now::Store).await.unwrap()[0].counts;
        assert_eq!(counts.get(State::Completed), counts.total());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_claim_finishes_nothing_in_a_transaction() {
    let Some((_sandbox, store, client, pool)) = scene().await else { return };
    client.enqueue_json("k", 1).await.unwrap();
    let queue = QueueSlots { queue: QueueName::default(), slots: 1 };
    let request = ClaimRequest::new(SERVER, [KindName::new("k").unwrap()], [queue]);
    let claimed = store.claim(&request.lease(Duration::from_micros(1))).await.unwrap();
    let held = Held { id: claimed[0].id, token: claimed[0].token };
    assert_eq!(store.rescue_expired(&RescueRequest::default()).await.unwrap().done, 1);
    let mut transaction = pool.begin().await.unwrap();
    let verdict = store.finish_in_transaction(&mut transaction, held, &()).await.unwrap();
    assert_eq!(verdict, Verdict::Stale);
    transaction.commit().await.unwrap();
    assert_eq!(state(&store, held.id).await, Some(State::Pending));
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_enqueues_a_task_like_any_other() {
    let Some((sandbox, store, _client, pool)) = scene().await else { return };
    let call = |arguments: &str| {
        let text = format!("SELECT {}.enqueue({arguments})::text AS id", sandbox.schema);
        sqlx::query(AssertSqlSafe(text)).fetch_one(&pool)
    };
    let all = "kind => 'k', payload => '{\"a\": \"ä\"}', priority => 7, max_attempts => 3, \
               metadata => '{\"tenant\": \"x\"}', tags => '{one,two}'";
    let id: TaskId = call(all).await.unwrap().get::<String, _>("id").parse().unwrap();
    let task = store.tasks(&[id], Now::Store).await.unwrap()[0].clone().unwrap();
    assert_eq!((task.state, task.progress.priority), (State::Pending, 7));
    assert_eq!((task.progress.max_attempts, task.spec.tags.len()), (3, 2));
    assert_eq!(task.spec.metadata["tenant"], "x");
    assert_eq!(task.spec.payload, "{\"a\": \"ä\"}");
    assert_eq!(claim(&store, 5).await.len(), 1);

    let later = call("'k', run_at => now() + interval '1 hour'").await.unwrap();
    let later: TaskId = later.get::<String, _>("id").parse().unwrap();
    assert_eq!(state(&store, later).await, Some(State::Scheduled));
    let manager = Manager::new(store.clone());
    assert_eq!(manager.tasks().queues().await.unwrap()[0].counts.total(), 2);

    for bad in [
        "''",
        "NULL",
        "'a b'",
        "'k', queue => 'a b'",
        "'k', priority => 40000",
        "'k', max_attempts => 0",
        "'k', payload => NULL",
        "'k', run_at => now() + interval '11 years'",
        "'k', metadata => '[]'",
        "'k', metadata => '{\"a\": 1}'",
        "'k', tags => ARRAY['']",
        "'k', tags => ARRAY[NULL]",
        "'k', tags => array_fill('t'::text, ARRAY[33])",
    ] {
        let error = call(bad).await.unwrap_err();
        let code = error.as_database_error().and_then(|error| error.code().map(String::from));
        assert_eq!(code.as_deref(), Some("22023"), "{bad}: {error}");
    }
    assert_eq!(manager.tasks().queues().await.unwrap()[0].counts.total(), 2);
}
