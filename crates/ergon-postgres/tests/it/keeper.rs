//! The keeper: who leads, counters that are folded while they are read, keys that are over.

mod partition;

use std::time::Duration;

use ergon_core::{
    ClaimedTask, Clock as _, Conclusion, KindName, NewTask, Now, Outcome, QueueName, ServerId,
    StoreError, SystemClock, TaskId, TaskSpec, UniqueKey, UniqueScope,
    store::{
        ClaimRequest, Dispatch as _, Enqueue as _, Inspect as _, Maintain as _, PruneRequest,
        QueueSlots,
    },
};
use ergon_postgres::{Migrator, PostgresStore, ServerError};
use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, PgPool, Row, postgres::PgRow};
use uuid::Uuid;

use crate::support::{Sandbox, sandbox};

/// The statement by which stores try to lead.
const LEAD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/queries/maintain/lead.sql");

/// The first millisecond of the year 2024: ids from then on are old.
const OLD_MILLIS: u64 = 1_704_067_200_000;

const HOUR: Duration = Duration::from_secs(3600);

/// A store that keeps house only when it is told to, and a pool beside it.
pub(crate) async fn quiet() -> Option<(Sandbox, PostgresStore, PgPool)> {
    let sandbox = sandbox()?;
    let options = sandbox.options().housekeeping(false);
    let store = options.connect(&sandbox.url).await.expect("the server is reachable");
    let pool = sandbox.pool(4).await;
    Some((sandbox, store, pool))
}

/// A statement in which `ergon.` stands for the schema.
fn sql(sandbox: &Sandbox, sql: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(sql.replace("ergon.", &format!("{}.", sandbox.schema)))
}

async fn row(sandbox: &Sandbox, pool: &PgPool, text: &str) -> PgRow {
    sqlx::query(sql(sandbox, text)).fetch_one(pool).await.unwrap()
}

async fn number(sandbox: &Sandbox, pool: &PgPool, text: &str) -> i64 {
    row(sandbox, pool, text).await.get(0)
}

fn kind() -> KindName {
    KindName::new("job").unwrap()
}

/// The id of a task that was made long ago; the last three digits of the number are the offset.
fn old_id(number: u64) -> TaskId {
    let offset = u16::try_from(number % 1_000).unwrap();
    TaskId::from_parts(OLD_MILLIS + number / 1_000, number / 1_000, offset)
}

/// A task whose payload is its id.
fn task(id: TaskId) -> NewTask {
    NewTask::new(id, TaskSpec::new(kind(), format!("\"{id}\"")))
}

fn claim(slots: usize) -> ClaimRequest {
    let queue = QueueName::default();
    ClaimRequest::new(ServerId::from_u128(1), [kind()], [QueueSlots { queue, slots }])
}

async fn finish(store: &PostgresStore, claimed: &[ClaimedTask], conclusion: Conclusion) {
    let outcomes: Vec<Outcome> = claimed
        .iter()
        .map(|task| Outcome { id: task.id, token: task.token, conclusion: conclusion.clone() })
        .collect();
    store.finish(&outcomes, Now::Store).await.unwrap();
}

/// Asks for the lead; answers the term, 0 when another leads.
async fn lead(sandbox: &Sandbox, pool: &PgPool, server: u128, micros: i64, term: i64) -> i64 {
    let lead = std::fs::read_to_string(LEAD).unwrap();
    let query = sqlx::query(sql(sandbox, &lead)).bind(Uuid::from_u128(server));
    query.bind(micros).bind(term).fetch_one(pool).await.unwrap().get("term")
}

#[tokio::test]
async fn one_leads_until_it_is_late_and_no_term_is_given_twice() {
    let Some((sandbox, _store, pool)) = quiet().await else { return };
    let long = 60_000_000;
    assert_eq!(lead(&sandbox, &pool, 1, long, 0).await, 1);
    assert_eq!(lead(&sandbox, &pool, 2, long, 0).await, 0);
    assert_eq!(lead(&sandbox, &pool, 1, long, 1).await, 1);
    // It was started anew, or never heard the answer.
    assert_eq!(lead(&sandbox, &pool, 1, long, 0).await, 0);
    // It is late, but nobody came.
    assert_eq!(lead(&sandbox, &pool, 1, -1, 1).await, 1);
    assert_eq!(lead(&sandbox, &pool, 1, -1, 1).await, 1);
    assert_eq!(lead(&sandbox, &pool, 2, long, 0).await, 2);
    // The old leader wakes up.
    assert_eq!(lead(&sandbox, &pool, 1, long, 1).await, 0);
    sandbox.run("UPDATE ergon.leader SET until = clock_timestamp()").await;
    assert_eq!(lead(&sandbox, &pool, 1, long, 1).await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_want_to_lead_at_once_one_does() {
    let Some((sandbox, _store, pool)) = quiet().await else { return };
    for round in 1..20 {
        let terms =
            join_all((1..9).map(|server| lead(&sandbox, &pool, server, 60_000_000, 0))).await;
        let leading: Vec<i64> = terms.into_iter().filter(|&term| term > 0).collect();
        assert_eq!(leading, [round]);
        sandbox.run("UPDATE ergon.leader SET until = clock_timestamp()").await;
    }
}

#[tokio::test]
async fn a_store_leads_folds_and_gives_the_lead_back() {
    let Some((sandbox, store, pool)) = quiet().await else { return };
    store.insert(&[task(old_id(1))], Now::Store).await.unwrap();
    assert_eq!(number(&sandbox, &pool, "SELECT count(*) FROM ergon.delta").await, 1);
    let keeping = sandbox.options().connect(&sandbox.url).await.unwrap();
    let folded =
        async { while number(&sandbox, &pool, "SELECT count(*) FROM ergon.delta").await > 0 {} };
    tokio::time::timeout(HOUR / 60, folded).await.unwrap();
    let led = "SELECT count(*) FROM ergon.leader WHERE term = 1 AND until > clock_timestamp()";
    assert_eq!(number(&sandbox, &pool, led).await, 1);
    keeping.close().await;
    assert_eq!(number(&sandbox, &pool, led).await, 0);
    assert_eq!(number(&sandbox, &pool, "SELECT sum(waiting)::int8 FROM ergon.count").await, 1);
}

/// What a store counts in all states together.
async fn total(store: &PostgresStore) -> u64 {
    store.queues(Now::Store).await.unwrap().iter().map(|queue| queue.counts.total()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_are_exact_while_they_are_folded() {
    let Some((_sandbox, store, _pool)) = quiet().await else { return };
    let tasks: Vec<NewTask> = (0..1_000).map(|n| task(old_id(n * 1_000))).collect();
    store.insert(&tasks, Now::Store).await.unwrap();
    let work = async {
        loop {
            let claimed = store.claim(&claim(3)).await.unwrap();
            if claimed.is_empty() {
                break;
            }
            finish(&store, &claimed, Conclusion::Complete { result: None }).await;
        }
    };
    let read = async {
        loop {
            assert_eq!(total(&store).await, 1_000);
        }
    };
    let fold = async {
        loop {
            store.housekeep().await.unwrap();
        }
    };
    tokio::select! {
        () = work => {},
        () = read => {},
        () = fold => {},
    }
    assert_eq!(total(&store).await, 1_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_delta_is_folded_once_by_many_at_once() {
    let Some((sandbox, store, pool)) = quiet().await else { return };
    store.insert(&[task(old_id(1))], Now::Store).await.unwrap();
    let many = "INSERT INTO ergon.delta SELECT queue, 1, -1, 2, 0, 0 FROM ergon.delta, generate_series(1, 25000)";
    sandbox.run(many).await;
    let folded = join_all((0..4).map(|_| store.housekeep())).await;
    let folded: u64 = folded.into_iter().map(|done| done.unwrap().folded).sum();
    assert_eq!(folded, 25_001);
    let counted = row(&sandbox, &pool, "SELECT waiting, running, completed FROM ergon.count").await;
    assert_eq!(
        (counted.get::<i64, _>(0), counted.get::<i64, _>(1), counted.get::<i64, _>(2)),
        (25_001, -25_000, 50_000)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_deltas_do_not_pile_up_under_a_held_snapshot() {
    let Some((sandbox, store, pool)) = quiet().await else { return };
    store.insert(&[task(old_id(1))], Now::Store).await.unwrap();
    let mut held = pool.begin().await.unwrap();
    let hold = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ";
    sqlx::query(hold).execute(&mut *held).await.unwrap();
    sqlx::query("SELECT txid_current()").execute(&mut *held).await.unwrap();
    let many = "INSERT INTO ergon.delta SELECT (SELECT queue FROM ergon.count LIMIT 1), i % 2 * 2 - 1, \
                0, 0, 0, 0 FROM generate_series(1, 400000) i";
    store.housekeep().await.unwrap();
    sandbox.run(many).await;
    let bytes = "SELECT pg_relation_size('ergon.delta')";
    assert!(number(&sandbox, &pool, bytes).await > 16 << 20);
    let fold = async {
        while number(&sandbox, &pool, bytes).await > 0 {
            store.housekeep().await.unwrap();
        }
    };
    let read = async {
        loop {
            let [queue] = &store.queues(Now::Store).await.unwrap()[..] else { unreachable!() };
            assert_eq!(queue.counts.total(), 1);
        }
    };
    tokio::select! {
        () = fold => {},
        () = read => {},
        () = tokio::time::sleep(HOUR / 60) => unreachable!("the table stays large"),
    }
    held.commit().await.unwrap();
    let counted = number(&sandbox, &pool, "SELECT waiting FROM ergon.count").await;
    assert_eq!(counted, 1);
}

#[tokio::test]
async fn a_prune_removes_keys_that_time_has_freed_and_no_other() {
    let Some((sandbox, store, pool)) = quiet().await else { return };
    let unique = |number: u8, period| {
        let mut task = task(old_id(u64::from(number) * 1_000));
        let scope = UniqueScope::For(period);
        task.spec.unique = Some(UniqueKey { hash: [number; 32], scope });
        task
    };
    let long_ago = SystemClock.now() - jiff::SignedDuration::from_hours(3);
    let tasks = [unique(1, HOUR), unique(2, HOUR * 24), unique(3, HOUR * 5 / 2)];
    store.insert(&tasks, Now::At(long_ago)).await.unwrap();
    store.prune(&PruneRequest::default()).await.unwrap();
    assert_eq!(number(&sandbox, &pool, "SELECT count(*) FROM ergon.uniq").await, 1);
}

/// The SQLSTATE of an error of the server.
fn code(error: &StoreError) -> String {
    let StoreError::Backend { source } = error else { unreachable!("{error:?}") };
    source.downcast_ref::<ServerError>().unwrap().code().to_owned()
}

#[tokio::test]
async fn a_role_keeps_house_with_the_grants_alone_and_is_told_without_them() {
    let Some((sandbox, owner, pool)) = quiet().await else { return };
    let role = format!("{}_app", sandbox.schema);
    sandbox.run(&format!("CREATE ROLE {role} NOSUPERUSER NOCREATEDB NOCREATEROLE")).await;
    for grant in Migrator::new(&sandbox.schema).unwrap().grants(&role) {
        sqlx::raw_sql(AssertSqlSafe(grant)).execute(&pool).await.unwrap();
    }
    let url = sandbox.url_with(&format!("options[role]={role}"));
    let options = sandbox.options().migrate(false).housekeeping(false).partition_span(HOUR);
    let store = options.connect(&url).await.unwrap();
    let drop_all = "DO $$ DECLARE p record; BEGIN FOR p IN SELECT name FROM ergon.partition LOOP \
                    EXECUTE format('DROP TABLE ergon.%I', p.name); END LOOP; END $$";
    sandbox.run(drop_all).await;
    assert_eq!(store.housekeep().await.unwrap().made, 2);
    owner.insert(&[task(old_id(1))], Now::Store).await.unwrap();
    // The partitions that it made belong to the owner.
    let owned = "SELECT count(*) FROM pg_class c, ergon.partition p \
                 WHERE c.oid = format('ergon.%I', p.name)::regclass AND c.relowner = 'ROLE'::regrole";
    assert_eq!(number(&sandbox, &pool, &owned.replace("ROLE", &role)).await, 0);

    sandbox.run(drop_all).await;
    let revoke = "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA";
    sandbox.run(&format!("{revoke} {} FROM {role}", sandbox.schema)).await;
    assert_eq!(code(&store.housekeep().await.unwrap_err()), "42501");
    let millis = u64::try_from(SystemClock.now().as_millisecond()).unwrap();
    let id = TaskId::from_parts(millis, 1, 0);
    store.insert(&[task(id)], Now::Store).await.unwrap();
    assert_eq!(store.claim(&claim(10)).await.unwrap().len(), 2);
    assert_eq!(number(&sandbox, &pool, "SELECT count(*) FROM ergon.pack_default").await, 2);
}
