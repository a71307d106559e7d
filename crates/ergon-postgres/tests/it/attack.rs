//! Races and odd requests: nothing is lost, doubled or left behind.

use std::{sync::OnceLock, time::Duration};

use ergon_core::{
    ClaimedTask, Client, Clock as _, Command, CommandVerdict, Conclusion, ErrorKind, IdSource as _,
    KindName, Limits, NewTask, Now, Order, Outcome, Page, QueueName, Retention, Selection,
    ServerId, State, SystemClock, SystemIds, SystemRng, TaskFilter, TaskId, TaskSpec, UniqueKey,
    UniqueScope, Verdict,
    store::{
        Beat, ClaimRequest, Control as _, Dispatch as _, Enqueue as _, Held, Inserted,
        Inspect as _, Maintain as _, QueueSlots, RescueRequest,
    },
};
use ergon_postgres::{EnqueueInTransaction as _, PostgresStore};
use sqlx::{AssertSqlSafe, PgPool, Postgres, Row as _, Transaction};
use tokio::time::{Instant, sleep};

use crate::support::{self, Sandbox};

mod odd;
mod race;
mod stress;

const SERVER: ServerId = ServerId::from_u128(1);
const LONG: Duration = Duration::from_secs(30);

fn kind() -> KindName {
    KindName::new("k").unwrap()
}

fn ids() -> &'static SystemIds<SystemRng> {
    static IDS: OnceLock<SystemIds<SystemRng>> = OnceLock::new();
    IDS.get_or_init(|| SystemIds::new(SystemRng))
}

fn task(id: TaskId) -> NewTask {
    NewTask::new(id, TaskSpec::new(kind(), id.to_string()))
}

/// Tasks of one pack.
fn pack(len: u16) -> Vec<NewTask> {
    let first = ids().next_pack(SystemClock.now());
    (0..len).map(|offset| task(first.with_offset(offset))).collect()
}

fn request(slots: usize) -> ClaimRequest {
    let queue = QueueSlots { queue: QueueName::default(), slots };
    ClaimRequest::new(SERVER, [kind()], [queue])
}

async fn claim(store: &PostgresStore, slots: usize) -> Vec<ClaimedTask> {
    let mut claimed = store.claim(&request(slots)).await.unwrap();
    claimed.sort_by_key(|task| task.id);
    claimed
}

fn held(task: &ClaimedTask) -> Held {
    Held { id: task.id, token: task.token }
}

fn outcome(task: &ClaimedTask, conclusion: Conclusion) -> Outcome {
    Outcome { id: task.id, token: task.token, conclusion }
}

const DONE: Conclusion = Conclusion::Complete { result: None };

fn again(delay: Duration) -> Conclusion {
    Conclusion::Retry { delay, kind: ErrorKind::Error, error: "again".to_owned() }
}

async fn finish(store: &PostgresStore, tasks: &[ClaimedTask], with: &Conclusion) -> Vec<Verdict> {
    let outcomes: Vec<_> = tasks.iter().map(|task| outcome(task, with.clone())).collect();
    store.finish(&outcomes, Now::Store).await.unwrap()
}

async fn state(store: &PostgresStore, id: TaskId) -> Option<State> {
    store.tasks(&[id], Now::Store).await.unwrap()[0].as_ref().map(|task| task.state)
}

/// The only number that a statement answers.
async fn number(sandbox: &Sandbox, pool: &PgPool, sql: &str) -> i64 {
    let sql = AssertSqlSafe(sql.replace("ergon.", &format!("{}.", sandbox.schema)));
    let row = sqlx::query(sql).fetch_one(pool).await.unwrap();
    row.get::<i64, _>(0)
}

/// A transaction that ran some statements and is open.
async fn open(sandbox: &Sandbox, pool: &PgPool, sql: &str) -> Transaction<'static, Postgres> {
    let mut transaction = pool.begin().await.unwrap();
    let sql = AssertSqlSafe(sql.replace("ergon.", &format!("{}.", sandbox.schema)));
    sqlx::raw_sql(sql).execute(&mut *transaction).await.unwrap();
    transaction
}

/// Waits until so many statements of this schema wait for a lock.
async fn until_waiting(sandbox: &Sandbox, pool: &PgPool, count: i64) {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%{}%'",
        sandbox.schema
    );
    let began = Instant::now();
    while number(sandbox, pool, &sql).await < count {
        assert!(began.elapsed() < LONG, "nobody waits");
        sleep(Duration::from_millis(5)).await;
    }
}

/// No task stands in two places, and counters are what a scan counts.
async fn is_consistent(sandbox: &Sandbox, pool: &PgPool) {
    let places = "SELECT pack, o AS off FROM ergon.ready, generate_series(first, first + n - 1) o \
        UNION ALL SELECT x.pack, o FROM ergon.lease l, unnest(packs, firsts, ns) AS x(pack, first, n), \
          generate_series(x.first, x.first + x.n - 1) o \
        UNION ALL SELECT pack, o FROM ergon.settled, generate_series(first, first + n - 1) o \
        UNION ALL SELECT pack, off FROM ergon.task WHERE phase > 0";
    let twice = format!(
        "SELECT count(*) FROM (SELECT FROM ({places}) p GROUP BY pack, off HAVING count(*) > 1) x"
    );
    assert_eq!(number(sandbox, pool, &twice).await, 0, "tasks in two places");
    let nowhere = format!(
        "SELECT count(*) FROM ergon.task t WHERE phase = 0 AND (t.pack, t.off) NOT IN (SELECT * FROM ({places}) p)"
    );
    assert_eq!(number(sandbox, pool, &nowhere).await, 0, "unfinished tasks in no place");
    let twice = "SELECT count(*) FROM ergon.pack a JOIN ergon.pack b ON a.pack = b.pack \
        AND a.first < b.first AND a.first + a.n > b.first";
    assert_eq!(number(sandbox, pool, twice).await, 0, "ranges of pack overlap");
    let off =
        "WITH scan AS (
           SELECT l.queue, sum(n) AS waiting, 0 AS running, 0 AS completed, 0 AS failed, 0 AS cancelled
             FROM ergon.ready r JOIN ergon.lane l ON l.id = r.lane GROUP BY 1
           UNION ALL SELECT l.queue, 0, sum(least(x.first + x.n, p.first + p.n) - greatest(x.first, p.first)), 0, 0, 0
             FROM ergon.lease, unnest(packs, firsts, ns) AS x(pack, first, n)
             JOIN ergon.pack p ON p.pack = x.pack AND p.first < x.first + x.n AND p.first + p.n > x.first
             JOIN ergon.lane l ON l.id = p.lane GROUP BY 1
           UNION ALL SELECT l.queue, 0, 0, sum(n), 0, 0
             FROM ergon.settled s JOIN ergon.lane l ON l.id = s.lane GROUP BY 1
           UNION ALL SELECT l.queue, 0, 0, count(*) FILTER (WHERE phase = 2), count(*) FILTER (WHERE phase = 3),
             count(*) FILTER (WHERE phase = 4)
             FROM ergon.task t JOIN ergon.lane l ON l.id = t.lane GROUP BY 1
         ), counted AS (SELECT * FROM ergon.count UNION ALL SELECT * FROM ergon.delta), diff AS (
           SELECT queue, sum(waiting) a, sum(running) b, sum(completed) c, sum(failed) d, sum(cancelled) e FROM (
             SELECT * FROM counted UNION ALL
             SELECT queue, -waiting, -running, -completed, -failed, -cancelled FROM scan) x GROUP BY 1)
         SELECT count(*) FROM diff WHERE (a, b, c, d, e) <> (0, 0, 0, 0, 0)";
    assert_eq!(number(sandbox, pool, off).await, 0, "counters");
}

async fn scene() -> Option<(Sandbox, PostgresStore, PgPool)> {
    let (sandbox, store) = support::store().await?;
    let pool = sandbox.pool(8).await;
    Some((sandbox, store, pool))
}

/// Puts a task that has a story of its own, and plain ones, into one claim.
async fn mixed_claim(store: &PostgresStore, plain: u16) -> Vec<ClaimedTask> {
    let tasks = pack(plain + 1);
    store.insert(&tasks[..1], Now::Store).await.unwrap();
    let first = claim(store, 1).await;
    assert_eq!(finish(store, &first, &again(Duration::ZERO)).await, [Verdict::Applied]);
    store.insert(&tasks[1..], Now::Store).await.unwrap();
    let claimed = claim(store, 100).await;
    assert_eq!(claimed.len(), usize::from(plain) + 1);
    assert_eq!(claimed[0].attempt, 2);
    claimed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_task_that_a_transaction_finishes_leaves_its_claim_for_good() {
    let Some((sandbox, store, pool)) = scene().await else { return };
    let claimed = mixed_claim(&store, 2).await;
    let mut transaction = pool.begin().await.unwrap();
    let done = store.finish_in_transaction(&mut transaction, held(&claimed[0]), &()).await.unwrap();
    assert_eq!(done, Verdict::Applied);
    transaction.commit().await.unwrap();
    assert_eq!(finish(&store, &claimed[1..2], &DONE).await, [Verdict::Applied]);
    is_consistent(&sandbox, &pool).await;
    assert_eq!(finish(&store, &claimed[..1], &DONE).await, [Verdict::AlreadyApplied]);
    assert_eq!(finish(&store, &claimed[2..], &DONE).await, [Verdict::Applied]);
    assert_eq!(number(&sandbox, &pool, "SELECT count(*) FROM ergon.lease").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_set_apart_while_others_of_its_claim_are_settled() {
    let Some((sandbox, store, pool)) = scene().await else { return };
    store.insert(&pack(10), Now::Store).await.unwrap();
    let claimed = claim(&store, 10).await;
    let lock = open(&sandbox, &pool, "SELECT FROM ergon.lease FOR UPDATE").await;
    let settling = finish(&store, &claimed[..3], &DONE);
    let finishing = async {
        until_waiting(&sandbox, &pool, 1).await;
        let mut transaction = pool.begin().await.unwrap();
        let finishing = store.finish_in_transaction(&mut transaction, held(&claimed[7]), &());
        let verdict = finishing.await;
        transaction.commit().await.unwrap();
        verdict
    };
    let releasing = async {
        until_waiting(&sandbox, &pool, 2).await;
        lock.rollback().await.unwrap();
    };
    let (settled, finished, ()) = tokio::join!(settling, finishing, releasing);
    assert_eq!(settled, vec![Verdict::Applied; 3]);
    assert_eq!(finished.unwrap(), Verdict::Applied);
    is_consistent(&sandbox, &pool).await;
    finish(&store, &claimed, &DONE).await;
    assert_eq!(number(&sandbox, &pool, "SELECT count(*) FROM ergon.lease").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tasks_of_a_claim_are_set_apart_at_once() {
    let Some((sandbox, store, pool)) = scene().await else { return };
    store.insert(&pack(10), Now::Store).await.unwrap();
    let claimed = claim(&store, 10).await;
    let lock = open(&sandbox, &pool, "SELECT FROM ergon.lease FOR UPDATE").await;
    let finishing = async |at: usize| {
        let mut transaction = pool.begin().await.unwrap();
        let finishing = store.finish_in_transaction(&mut transaction, held(&claimed[at]), &());
        let verdict = finishing.await;
        transaction.commit().await.unwrap();
        verdict
    };
    let releasing = async {
        until_waiting(&sandbox, &pool, 2).await;
        lock.rollback().await.unwrap();
    };
    let (one, other, ()) = tokio::join!(finishing(3), finishing(7), releasing);
    assert_eq!((one.unwrap(), other.unwrap()), (Verdict::Applied, Verdict::Applied));
    is_consistent(&sandbox, &pool).await;
    finish(&store, &claimed, &DONE).await;
    assert_eq!(number(&sandbox, &pool, "SELECT count(*) FROM ergon.lease").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_split_however_many_tokens_were_given() {
    let Some((sandbox, store, pool)) = scene().await else { return };
    sandbox.run("ALTER SEQUENCE ergon.token RESTART WITH 4611686018427387903").await;
    store.insert(&pack(3), Now::Store).await.unwrap();
    let claimed = claim(&store, 3).await;
    let reply = store.beat(&Beat::new(SERVER, vec![held(&claimed[1])])).await.unwrap();
    assert_eq!(reply.lost, []);
    let mut transaction = pool.begin().await.unwrap();
    let done = store.finish_in_transaction(&mut transaction, held(&claimed[0]), &()).await.unwrap();
    assert_eq!(done, Verdict::Applied);
    transaction.commit().await.unwrap();
    is_consistent(&sandbox, &pool).await;
}

/// A beat that splits one part of a lease while another part is split: no task falls out of both.
#[tokio::test(flavor = "multi_thread")]
async fn two_parts_of_a_lease_are_split_at_once() {
    let Some((sandbox, store, pool)) = scene().await else { return };
    store.insert(&pack(8), Now::Store).await.unwrap();
    let claimed = claim(&store, 8).await;
    let half: Vec<Held> = claimed[4..].iter().map(held).collect();
    store.beat(&Beat::new(SERVER, half)).await.unwrap();
    // Part 0 holds four, part 1 four.
    let lock = open(&sandbox, &pool, "SELECT FROM ergon.lease FOR UPDATE").await;
    let beat = Beat::new(SERVER, vec![held(&claimed[0])]);
    let beating = store.beat(&beat);
    let finishing = async {
        let mut transaction = pool.begin().await.unwrap();
        let finishing = store.finish_in_transaction(&mut transaction, held(&claimed[7]), &());
        let verdict = finishing.await;
        transaction.commit().await.unwrap();
        verdict
    };
    let releasing = async {
        until_waiting(&sandbox, &pool, 2).await;
        lock.rollback().await.unwrap();
    };
    let (beaten, finished, ()) = tokio::join!(beating, finishing, releasing);
    assert_eq!(beaten.unwrap().lost, []);
    assert_eq!(finished.unwrap(), Verdict::Applied);
    for task in &claimed[..7] {
        assert_eq!(state(&store, task.id).await, Some(State::Running));
    }
    finish(&store, &claimed, &DONE).await;
    is_consistent(&sandbox, &pool).await;
    assert_eq!(number(&sandbox, &pool, "SELECT count(*) FROM ergon.lease").await, 0);
}
