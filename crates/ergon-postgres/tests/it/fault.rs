//! What the store makes of faults of the server and of the network; each test has a cluster of its own.

mod cancel;
mod freeze;
mod journal;
mod kill;
mod load;
mod network;
mod proxy;
mod server;

use std::{
    fs,
    ops::Deref,
    sync::OnceLock,
    time::{Duration, Instant},
};

use ergon_cluster::{Cluster, Settings};
use ergon_core::{
    ClaimedTask, Clock as _, Conclusion, IdSource as _, KindName, NewTask, Now, Outcome, QueueName,
    ServerId, StoreError, SystemClock, SystemIds, SystemRng, TaskSpec,
    store::{Beat, ClaimRequest, Dispatch as _, Held, QueueSlots},
    text::error_chain,
};
use ergon_postgres::{PostgresOptions, PostgresStore};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::{JoinSet, block_in_place},
};

/// How many clusters run at once.
static CLUSTERS: Semaphore = Semaphore::const_new(2);

/// Longer than anything that is waited for takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// Between two looks at something that is to change.
const LOOK: Duration = Duration::from_millis(20);

/// A cluster of one test.
pub(crate) struct Site {
    cluster: Cluster,
    _permit: SemaphorePermit<'static>,
}

impl Deref for Site {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

/// A cluster of one's own, if Postgres is installed.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
pub(crate) async fn site(settings: Settings) -> Option<Site> {
    if let Err(missing) = ergon_cluster::find_postgres() {
        eprintln!("skipped: {}", error_chain(&missing));
        return None;
    }
    let permit = CLUSTERS.acquire().await.unwrap();
    let cluster = block_in_place(|| Cluster::start(settings)).unwrap();
    Some(Site { cluster, _permit: permit })
}

impl Site {
    /// Does something to the cluster that takes its time.
    pub(crate) fn act<R>(&self, act: impl FnOnce(&Cluster) -> R) -> R {
        block_in_place(|| act(&self.cluster))
    }

    /// The only number that a statement answers.
    pub(crate) fn number(&self, sql: &str) -> i64 {
        let rows = self.act(|cluster| cluster.query(sql)).unwrap();
        rows[0][0].as_deref().unwrap().parse().unwrap()
    }

    /// Waits until a statement answers a number.
    pub(crate) async fn until(&self, sql: &str, expected: i64) {
        let waiting = async {
            while self.number(sql) != expected {
                pause(LOOK).await;
            }
        };
        let waited = tokio::time::timeout(LONG, waiting).await;
        assert!(waited.is_ok(), "{sql} is {} and not {expected}", self.number(sql));
    }

    /// All that the server has logged.
    pub(crate) fn whole_log(&self) -> String {
        let log = fs::read(self.directory().join("log")).unwrap();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// A store with a small pool.
    pub(crate) async fn store(&self, options: PostgresOptions) -> PostgresStore {
        options.connect(&self.url()).await.unwrap()
    }

    /// No session of a store sits in a transaction, now or in a moment.
    pub(crate) async fn has_no_open_transaction(&self) {
        let sql = "SELECT count(*) FROM pg_stat_activity \
                   WHERE application_name LIKE 'ergon%' AND state LIKE 'idle in transaction%'";
        self.until(sql, 0).await;
    }

    /// The pool serves as many calls at once as it has connections: none was lost.
    pub(crate) async fn serves_at_once(&self, store: &PostgresStore, connections: i64) {
        let waiting = "SELECT count(*) FROM pg_stat_activity \
                       WHERE application_name = 'ergon' AND wait_event_type = 'Lock'";
        let blocker = sqlx::PgPool::connect(&self.url()).await.unwrap();
        let mut transaction = blocker.begin().await.unwrap();
        let lock = sqlx::raw_sql("LOCK TABLE ergon.lease IN ACCESS EXCLUSIVE MODE");
        lock.execute(&mut *transaction).await.unwrap();
        let mut calls = JoinSet::new();
        for _ in 0..connections {
            let store = store.clone();
            let held = Held { id: ergon_core::TaskId::MIN, token: ergon_core::Token::new(1) };
            calls.spawn(async move { store.beat(&Beat::new(server(9), vec![held])).await });
        }
        self.until(waiting, connections).await;
        transaction.rollback().await.unwrap();
        for call in calls.join_all().await {
            call.unwrap();
        }
        blocker.close().await;
    }
}

/// Lets time pass in which something happens elsewhere.
pub(crate) async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Options with few connections and short times.
pub(crate) fn options() -> PostgresOptions {
    PostgresStore::builder().max_connections(4).poll_interval(millis(200))
}

pub(crate) const fn server(number: u128) -> ServerId {
    ServerId::from_u128(number)
}

pub(crate) fn kind() -> KindName {
    KindName::new("work").unwrap()
}

fn ids() -> &'static SystemIds<SystemRng> {
    static IDS: OnceLock<SystemIds<SystemRng>> = OnceLock::new();
    IDS.get_or_init(|| SystemIds::new(SystemRng))
}

/// Tasks that were made one by one.
pub(crate) fn tasks(len: usize) -> Vec<NewTask> {
    let task = |_| {
        let id = ids().next_id(SystemClock.now());
        NewTask::new(id, TaskSpec::new(kind(), id.to_string()))
    };
    (0..len).map(task).collect()
}

/// Tasks of one pack.
pub(crate) fn pack(len: u16) -> Vec<NewTask> {
    let first = ids().next_pack(SystemClock.now());
    let task = |offset| {
        let id = first.with_offset(offset);
        NewTask::new(id, TaskSpec::new(kind(), id.to_string()))
    };
    (0..len).map(task).collect()
}

pub(crate) fn claim(by: u128, slots: usize, lease: Duration) -> ClaimRequest {
    let queue = QueueSlots { queue: QueueName::default(), slots };
    ClaimRequest::new(server(by), [kind()], [queue]).lease(lease)
}

pub(crate) fn completed(claimed: &[ClaimedTask]) -> Vec<Outcome> {
    let outcome = |task: &ClaimedTask| Outcome {
        id: task.id,
        token: task.token,
        conclusion: Conclusion::Complete { result: None },
    };
    claimed.iter().map(outcome).collect()
}

/// Repeats a call until it succeeds; what it says in the meantime may pass.
pub(crate) async fn healed<T, F>(call: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, StoreError>>,
{
    let began = Instant::now();
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => {
                assert!(error.is_transient(), "{}", error_chain(&error));
                assert!(began.elapsed() < LONG, "{}", error_chain(&error));
                pause(LOOK).await;
            }
        }
    }
}

/// Runs a call that must answer that the store is unavailable, by its deadline and some patience.
pub(crate) async fn unavailable<T: std::fmt::Debug>(
    what: &str,
    limit: Duration,
    call: impl Future<Output = Result<T, StoreError>>,
) {
    let began = Instant::now();
    let answer = tokio::time::timeout(LONG, call).await.expect("an answer some time");
    let took = began.elapsed();
    assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{what}: {answer:?}");
    assert!(took <= limit, "{what} took {took:?}");
}

/// Everything that is stored about tasks agrees with itself: no range overlaps another, and the
/// counters are what a scan counts.
pub(crate) async fn is_consistent(site: &Site, store: &PostgresStore) {
    use ergon_core::store::Inspect as _;

    for table in ["pack", "ready", "settled"] {
        let sql = format!(
            "SELECT count(*) FROM ergon.{table} a JOIN ergon.{table} b ON a.pack = b.pack \
             AND a.ctid <> b.ctid AND a.first <= b.first AND a.first + a.n > b.first"
        );
        assert_eq!(site.number(&sql), 0, "ranges of {table} overlap");
    }
    let tasks = site.number("SELECT coalesce(sum(n), 0) FROM ergon.pack");
    let places = site.number(
        "SELECT coalesce((SELECT sum(n) FROM ergon.ready), 0) \
           + coalesce((SELECT sum(x) FROM ergon.lease, unnest(ns) x), 0) \
           + coalesce((SELECT sum(n) FROM ergon.settled), 0) \
           + (SELECT count(*) FROM ergon.task WHERE phase > 0)",
    );
    // Of what was deleted only the payload may stay for a while.
    assert!(places <= tasks, "{places} places for {tasks} tasks");
    let queues = store.queues(Now::Store).await.unwrap();
    let counted: u64 = queues.iter().map(|queue| queue.counts.total()).sum();
    assert_eq!(i64::try_from(counted).unwrap(), places, "{queues:?}");
}
