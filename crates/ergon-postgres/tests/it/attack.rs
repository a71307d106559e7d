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
    let twice = format!("SELECT count(*) FROM (SELECT FROM ({places}) p GROUP BY pack, off HAVING count(*) > 1) x");
    assert_eq!(number(sandbox, pool, &twice).await, 0, "tasks in two places");
    let nowhere = format!(
        "SELECT count(*) FROM ergon.task t WHERE phase = 0 AND (t.pack, t.off) NOT IN (SELECT * FROM ({places}) p)"
    );
    assert_eq!(number(sandbox, pool, &nowhere).await, 0, "unfinished tasks in no place");
    let twice = "SELECT count(*) FROM ergon.pack a JOIN ergon.pack b ON a.pack = b.pack \
        AND a.first < b.first AND a.first + a.n > b.first";
    assert_eq!(number(sandbox, pool, twice).await, 0, "ranges of pack overlap");
    let off = format!(
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
         SELECT count(*) FROM diff WHERE (a, b, c, d, e) <> (0, 0, 0, 0, 0)"
    );
    assert_eq!(number(sandbox, pool, &off).await, 0, "counters");
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

/// Calls that are sent together may hold the same task: a caller repeated a part of its batch.
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_share_ids_and_a_statement_store_each_task_once() {
    let Some((sandbox, store, pool)) = scene().await else { return };
    store.insert(&pack(1), Now::Store).await.unwrap();
    assert_eq!(claim(&store, 1).await.len(), 1);
    let tasks = pack(4);
    let (one, two) = (pack(1), pack(1));
    let lock = open(&sandbox, &pool, "LOCK TABLE ergon.delta IN ACCESS EXCLUSIVE MODE").await;
    // Two statements are under way, so that the next two calls wait for one of their own.
    let first = store.insert(&one, Now::Store);
    let second = async {
        until_waiting(&sandbox, &pool, 1).await;
        store.insert(&two, Now::Store).await
    };
    let third = async {
        until_waiting(&sandbox, &pool, 2).await;
        tokio::join!(store.insert(&tasks, Now::Store), store.insert(&tasks[1..2], Now::Store))
    };
    let releasing = async {
        until_waiting(&sandbox, &pool, 2).await;
        sleep(Duration::from_millis(100)).await;
        lock.rollback().await.unwrap();
    };
    let (first, second, (all, part), ()) = tokio::join!(first, second, third, releasing);
    assert_eq!((first.unwrap().len(), second.unwrap().len()), (1, 1));
    let created = [all.unwrap(), part.unwrap()].concat();
    assert_eq!(created.iter().filter(|one| **one == Inserted::Created).count(), 4, "{created:?}");
    is_consistent(&sandbox, &pool).await;
    for task in &tasks {
        assert_eq!(state(&store, task.id).await, Some(State::Pending));
    }
    assert_eq!(claim(&store, 100).await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_taken_is_told_within_a_transaction() {
    let Some((_sandbox, store, pool)) = scene().await else { return };
    let client = Client::new(store.clone());
    let id = ids().next_pack(SystemClock.now());
    let one = || client.enqueue_json("k", 1).id(id);
    one().await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    let again = one().in_transaction(&store, &mut transaction).await;
    assert_eq!(again.unwrap().id(), id);
    transaction.commit().await.unwrap();
    assert_eq!(claim(&store, 10).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_ids_of_many_packs_are_stored_together() {
    let Some((sandbox, store, pool)) = scene().await else { return };
    let odd = |_| task(ids().next_pack(SystemClock.now()).with_offset(7));
    let tasks: Vec<NewTask> = (0..10_000).map(odd).collect();
    assert_eq!(store.insert(&tasks, Now::Store).await.unwrap(), vec![Inserted::Created; 10_000]);
    assert_eq!(store.insert(&tasks, Now::Store).await.unwrap(), vec![Inserted::AlreadyExists; 10_000]);
    is_consistent(&sandbox, &pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_durations_are_kept() {
    let Some(sandbox) = support::sandbox() else { return };
    for retention in [Duration::MAX, Duration::from_micros(9_223_372_036_854_775_807)] {
        let options = sandbox.options().retention(Retention::uniform(retention));
        let store = options.connect(&sandbox.url).await.unwrap();
        let mut tasks = pack(2);
        tasks[1].spec.unique = Some(UniqueKey {
            hash: [9; 32],
            scope: UniqueScope::UntilFinished,
        });
        store.insert(&tasks, Now::Store).await.unwrap();
        let claimed = store.claim(&request(2).lease(retention)).await.unwrap();
        let all: Vec<Held> = claimed.iter().map(held).collect();
        let reply = store.beat(&Beat::new(SERVER, all).lease(retention)).await.unwrap();
        assert_eq!(reply.lost, []);
        assert_eq!(finish(&store, &claimed, &DONE).await, vec![Verdict::Applied; 2]);
        assert_eq!(state(&store, tasks[0].id).await, Some(State::Completed));
        assert_eq!(state(&store, tasks[1].id).await, Some(State::Completed));
        let ids: Vec<TaskId> = tasks.iter().map(|task| task.id).collect();
        let retried = store.apply(&Selection::Ids(ids), &Command::Retry, Now::Store).await.unwrap();
        assert!(retried.verdicts.iter().all(|(_, verdict)| *verdict == CommandVerdict::Applied));
        let claimed = claim(&store, 2).await;
        assert_eq!(finish(&store, &claimed, &again(retention)).await, vec![Verdict::Applied; 2]);
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_enqueues_for_the_beginning_of_time() {
    let Some((sandbox, store, pool)) = scene().await else { return };
    for run_at in ["-infinity", "4000-01-01 00:00:00+00 BC"] {
        let sql = format!("SELECT {}.enqueue('k', run_at => '{run_at}')::text", sandbox.schema);
        let id: String = sqlx::query(AssertSqlSafe(sql)).fetch_one(&pool).await.unwrap().get(0);
        let id: TaskId = id.parse().unwrap();
        let began = Instant::now();
        store.wait_for_work(&[QueueName::default()], &[kind()], LONG).await;
        assert!(began.elapsed() < LONG, "it is due");
        let cancel = Command::Cancel { reason: "no".to_owned() };
        let applied = store.apply(&Selection::Ids(vec![id]), &cancel, Now::Store).await.unwrap();
        assert_eq!(applied.verdicts, [(id, CommandVerdict::Applied)]);
    }
    is_consistent(&sandbox, &pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_for_text_that_cannot_be_stored_finds_nothing() {
    let Some((_sandbox, store, _pool)) = scene().await else { return };
    store.insert(&pack(1), Now::Store).await.unwrap();
    let mut filter = TaskFilter::default();
    filter.metadata = vec![("k".to_owned(), "\0".to_owned())];
    let page = store.list(&filter, &Page::of(10), Now::Store).await.unwrap();
    assert!(page.tasks.is_empty());
    assert_eq!(store.count(&filter, Now::Store).await.unwrap().value, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_results_are_recorded_whatever_their_number() {
    let Some(sandbox) = support::sandbox() else { return };
    let options = sandbox.options().limits(Limits::CAPS).statement_timeout(LONG * 4);
    let store = options.connect(&sandbox.url).await.unwrap();
    let mut tasks = pack(18);
    for (number, task) in (0_u8..).zip(&mut tasks) {
        task.spec.unique = Some(UniqueKey { hash: [number; 32], scope: UniqueScope::UntilFinished });
    }
    store.insert(&tasks, Now::Store).await.unwrap();
    let claimed = claim(&store, 18).await;
    let result = bytes::Bytes::from(vec![b' '; 16 << 20]);
    let verdicts = finish(&store, &claimed, &Conclusion::Complete { result: Some(result) }).await;
    assert_eq!(verdicts, vec![Verdict::Applied; 18]);
}

/// Handlers that each hold a connection of the pool that the store uses, too.
#[tokio::test(flavor = "multi_thread")]
async fn handlers_that_hold_the_whole_pool_can_finish_in_their_transactions() {
    let Some(sandbox) = support::sandbox() else { return };
    let pool = sandbox.pool(2).await;
    let store = sandbox.options().housekeeping(false).from_pool(pool.clone()).await.unwrap();
    store.insert(&pack(3), Now::Store).await.unwrap();
    let claimed = claim(&store, 3).await;
    let (mut a, mut b) = (pool.begin().await.unwrap(), pool.begin().await.unwrap());
    let began = Instant::now();
    let one = store.finish_in_transaction(&mut a, held(&claimed[0]), &()).await;
    assert_eq!(one.unwrap(), Verdict::Applied);
    a.commit().await.unwrap();
    let other = store.finish_in_transaction(&mut b, held(&claimed[1]), &()).await;
    assert_eq!(other.unwrap(), Verdict::Applied);
    b.commit().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5));
}

/// The sessions of an application wait for locks for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_beat_is_answered_while_a_transaction_finishes_a_task_of_a_lent_pool() {
    let Some(sandbox) = support::sandbox() else { return };
    let pool = sandbox.pool(4).await;
    let store = sandbox.options().from_pool(pool.clone()).await.unwrap();
    store.insert(&pack(3), Now::Store).await.unwrap();
    let claimed = claim(&store, 3).await;
    let mut transaction = pool.begin().await.unwrap();
    let done = store.finish_in_transaction(&mut transaction, held(&claimed[0]), &()).await.unwrap();
    assert_eq!(done, Verdict::Applied);
    let all: Vec<Held> = claimed.iter().map(held).collect();
    let reply = store.beat(&Beat::new(SERVER, all)).await.unwrap();
    assert_eq!(reply.lost, []);
    transaction.commit().await.unwrap();
}

/// Pages over tasks in rare states show each once, in either order.
#[tokio::test(flavor = "multi_thread")]
async fn pages_show_each_task_once() {
    let Some((_sandbox, store, _pool)) = scene().await else { return };
    for _ in 0..5 {
        store.insert(&pack(20), Now::Store).await.unwrap();
    }
    let claimed = claim(&store, 30).await;
    finish(&store, &claimed[..10], &DONE).await;
    finish(&store, &claimed[10..15], &again(LONG * 100)).await;
    let stop = Command::Cancel { reason: String::new() };
    let waiting = Selection::Matching {
        filter: TaskFilter::default(),
        limit: 7,
    };
    store.apply(&waiting, &stop, Now::Store).await.unwrap();
    for states in [vec![], vec![State::Running], vec![State::Pending, State::Retrying, State::Cancelled]] {
        for order in [Order::OldestFirst, Order::NewestFirst] {
            let mut filter = TaskFilter::default();
            filter.states = states.iter().copied().collect();
            let expected = store.count(&filter, Now::Store).await.unwrap().value;
            for limit in [1, 3, 1_000] {
                let (mut page, mut seen) = (Page::of(limit).order(order), Vec::new());
                loop {
                    let read = store.list(&filter, &page, Now::Store).await.unwrap();
                    seen.extend(read.tasks.iter().map(|task| task.id));
                    let Some(next) = read.next else { break };
                    page = page.after(next);
                }
                assert_eq!(u64::try_from(seen.len()).unwrap(), expected, "{states:?} {order:?} {limit}");
                assert!(seen.is_sorted_by(|one, next| match order {
                    Order::OldestFirst => one < next,
                    Order::NewestFirst => one > next,
                }));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rescue_gets_past_a_thousand_leases() {
    let Some((sandbox, store, pool)) = scene().await else { return };
    store.insert(&pack(1_200), Now::Store).await.unwrap();
    for _ in 0..1_200 {
        let lease = Duration::from_micros(1);
        assert_eq!(store.claim(&request(1).lease(lease)).await.unwrap().len(), 1);
    }
    let mut done = 0;
    loop {
        let report = store.rescue_expired(&RescueRequest::default()).await.unwrap();
        done += report.done;
        if !report.more {
            break;
        }
    }
    assert_eq!(done, 1_200);
    is_consistent(&sandbox, &pool).await;
}

/// What the sessions of an application are set to changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_settings_of_lent_sessions_do_not_matter() {
    let Some(sandbox) = support::sandbox() else { return };
    let settings = [
        ("search_path", "nowhere"),
        ("default_transaction_isolation", "serializable"),
        ("default_transaction_deferrable", "on"),
        ("TimeZone", "Asia/Kolkata"),
        ("DateStyle", "German"),
        ("IntervalStyle", "sql_standard"),
        ("bytea_output", "escape"),
        ("extra_float_digits", "-15"),
        ("array_nulls", "off"),
        ("standard_conforming_strings", "off"),
        ("quote_all_identifiers", "on"),
        ("enable_indexscan", "off"),
        ("enable_nestloop", "off"),
        ("statement_timeout", "20s"),
        ("lock_timeout", "100ms"),
    ];
    let connect: sqlx::postgres::PgConnectOptions = sandbox.url.parse().unwrap();
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(6);
    let pool = pool.connect_with(connect.options(settings)).await.unwrap();
    let options = sandbox.options().housekeeping(false);
    let store = options.from_pool(pool.clone()).await.unwrap();
    let partitions = "SELECT count(*) FROM ergon.partition";
    assert_eq!(number(&sandbox, &pool, partitions).await, 2);
    let mut tasks = pack(40);
    for task in &mut tasks {
        task.spec.metadata = [("quo'te\\".to_owned(), "\\x41 \u{1}'\"\u{1f600}".to_owned())].into();
        task.spec.tags = vec![ergon_core::Tag::new("a\\'b\",{}").unwrap()];
    }
    tasks[3].spec.unique = Some(UniqueKey { hash: [0x5c; 32], scope: UniqueScope::UntilStarted });
    store.insert(&tasks, Now::Store).await.unwrap();
    let claimed = claim(&store, 40).await;
    assert_eq!(claimed.iter().map(|task| &task.spec).collect::<Vec<_>>(),
        tasks.iter().map(|task| &task.spec).collect::<Vec<_>>());
    let result = bytes::Bytes::from_static(b"\\x00\0\xff'");
    let complete = Conclusion::Complete { result: Some(result.clone()) };
    finish(&store, &claimed[..10], &complete).await;
    let error = Conclusion::Fail { kind: ErrorKind::Error, error: "\\u0000 \0 '\"\\x".to_owned() };
    finish(&store, &claimed[10..20], &error).await;
    finish(&store, &claimed[20..30], &again(Duration::ZERO)).await;
    let second = claim(&store, 10).await;
    assert_eq!(second.len(), 10);
    assert_eq!(finish(&store, &second, &complete).await, vec![Verdict::Applied; 10]);
    let mut filter = TaskFilter::all();
    filter.metadata = tasks[0].spec.metadata.clone().into_iter().collect();
    filter.tags = tasks[0].spec.tags.clone();
    let page = store.list(&filter, &Page::of(100), Now::Store).await.unwrap();
    assert_eq!(page.tasks.len(), 40);
    let results = page.tasks.iter().filter(|task| task.progress.result.as_ref() == Some(&result));
    assert_eq!(results.count(), 20);
    store.housekeep().await.unwrap();
    is_consistent(&sandbox, &pool).await;
    assert_eq!(number(&sandbox, &pool, partitions).await, 2);
    // Those who claim at once take each other's place, but nothing else happens.
    store.insert(&pack(400), Now::Store).await.unwrap();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = store.clone();
        workers.spawn(async move {
            let mut mine = 0;
            let mut idle = 0;
            while idle < 10 {
                match store.claim(&request(7)).await {
                    Ok(claimed) if claimed.is_empty() => idle += 1,
                    Ok(claimed) => {
                        mine += claimed.len();
                        loop {
                            let outcomes: Vec<_> =
                                claimed.iter().map(|task| outcome(task, DONE)).collect();
                            match store.finish(&outcomes, Now::Store).await {
                                Ok(_) => break,
                                Err(error) => assert!(error.is_transient(), "{error:?}"),
                            }
                        }
                    }
                    Err(error) => assert!(error.is_transient(), "{error:?}"),
                }
            }
            mine
        });
    }
    let done: usize = workers.join_all().await.into_iter().sum();
    assert!(done == 400, "{done}");
    is_consistent(&sandbox, &pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_kinds_and_every_priority_are_served() {
    let Some((sandbox, store, pool)) = scene().await else { return };
    let mut tasks = pack(4_000);
    for (number, task) in tasks.iter_mut().enumerate() {
        task.spec.kind = KindName::new(format!("kind.{number}")).unwrap();
        task.priority = [i16::MIN, -1, 0, i16::MAX][number % 4];
        task.run_at = ergon_core::RunAt::At([jiff::Timestamp::MIN, SystemClock.now()][number % 2]);
    }
    store.insert(&tasks, Now::Store).await.unwrap();
    let kinds: Vec<KindName> =
        (0..10_000).map(|number| KindName::new(format!("kind.{number}")).unwrap()).collect();
    let queue = QueueSlots { queue: QueueName::default(), slots: 10_000 };
    let claimed = store.claim(&ClaimRequest::new(SERVER, kinds, [queue])).await.unwrap();
    assert_eq!(claimed.len(), 4_000);
    assert!(claimed.is_sorted_by(|one, next| one.priority >= next.priority));
    assert_eq!(finish(&store, &claimed[..2_000], &DONE).await, vec![Verdict::Applied; 2_000]);
    let retried = finish(&store, &claimed[2_000..], &again(Duration::ZERO)).await;
    assert_eq!(retried, vec![Verdict::Applied; 2_000]);
    is_consistent(&sandbox, &pool).await;
}
