//! The journal: transactions that overlap, its window, its beginning and its readers.

mod begin;
mod overlap;
mod window;

use std::{collections::BTreeSet, time::Duration};

use ergon_core::{
    Client, Event, Now, TaskId,
    event::{EventKind, ServerEvent},
    store::{Control as _, Cursor, Gap, Inspect as _, Observe as _, QueueChange, Recorded, Watch},
};
use ergon_postgres::PostgresStore;
use ergon_testing::harness::{Harness, Reader, watcher};
use sqlx::PgPool;

use crate::support::{Sandbox, sandbox};

/// Longer than anything that is waited for takes on a busy machine.
const LONG: Duration = Duration::from_secs(20);

/// A store that keeps no house by itself, and an application beside it.
struct Scene {
    sandbox: Sandbox,
    store: PostgresStore,
    client: Client,
    pool: PgPool,
}

impl Scene {
    /// If there is a server to be tested with.
    async fn new() -> Option<Self> {
        let sandbox = sandbox()?;
        let options = sandbox.options().housekeeping(false);
        let store = options.connect(&sandbox.url).await.unwrap();
        let client = Client::new(store.clone());
        let pool = sandbox.pool(8).await;
        Some(Self { sandbox, store, client, pool })
    }

    /// Watches until told otherwise, and reads from where everything is recorded.
    async fn watch(&self) -> Reader {
        let watched = self.store.watch(&Watch::durable(watcher("test"))).await.unwrap();
        self.reader(watched.cursor)
    }

    fn reader(&self, cursor: Cursor) -> Reader {
        Harness::new(self.store.clone()).reader(cursor)
    }

    /// Stores one task.
    async fn enqueue(&self) -> TaskId {
        self.client.enqueue_json("k", "{}").await.unwrap().id()
    }

    async fn number(&self, sql: &str) -> i64 {
        let sql = sql.replace("ergon.", &format!("{}.", self.sandbox.schema));
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&self.pool).await.unwrap()
    }
}

/// The tasks that were enqueued, in the order of what was read.
fn enqueued(recorded: &[Recorded]) -> Vec<TaskId> {
    let is_enqueue = |event: &&Event| event.kind() == EventKind::TaskEnqueued;
    let events = recorded.iter().map(|recorded| &recorded.event).filter(is_enqueue);
    events.filter_map(|event| event.task_ref()).map(|task| task.id).collect()
}

/// No event was read twice, and these tasks were enqueued, each of them once.
#[track_caller]
fn is_told(recorded: &[Recorded], expected: impl IntoIterator<Item = TaskId>) {
    let ids: BTreeSet<_> = recorded.iter().map(|recorded| recorded.id).collect();
    assert_eq!(ids.len(), recorded.len(), "an event was read twice");
    let mut told = enqueued(recorded);
    told.sort_unstable();
    let mut expected: Vec<TaskId> = expected.into_iter().collect();
    expected.sort_unstable();
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_while_nobody_watches() {
    let Some(scene) = Scene::new().await else { return };
    scene.enqueue().await;
    let queue = ergon_core::QueueName::default();
    assert!(scene.store.set_queue(&queue, &QueueChange::pause()).await.unwrap());
    let server = ergon_core::ServerId::from_u128(1);
    scene.store.announce(server, &ServerEvent::Started).await.unwrap();
    scene.sandbox.run("SELECT ergon.enqueue('k')").await;
    assert_eq!(scene.number("SELECT count(*) FROM ergon.journal").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_store_records_ends_a_wait() {
    let Some(scene) = Scene::new().await else { return };
    let mut reader = scene.watch().await;
    let other = scene.sandbox.options().connect(&scene.sandbox.url).await.unwrap();
    let other = Client::new(other);
    for _ in 0..3 {
        let cursor = reader.cursor.clone();
        let waiting = scene.store.wait_for_changes(&cursor, LONG * 10);
        let telling = async { other.enqueue_json("k", "{}").await.unwrap().id() };
        let both = async { tokio::join!(waiting, telling).1 };
        let id = tokio::time::timeout(LONG, both).await.expect("the wait ends");
        let told = reader.read_all(10).await;
        is_told(&told, [id]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_what_does_not_happen_ends_in_time() {
    let Some(scene) = Scene::new().await else { return };
    let reader = scene.watch().await;
    let began = std::time::Instant::now();
    reader.wait(Duration::from_millis(300)).await;
    assert!((Duration::from_millis(300)..LONG).contains(&began.elapsed()));
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_sql_enqueues_are_told() {
    let Some(scene) = Scene::new().await else { return };
    let mut reader = scene.watch().await;
    scene.sandbox.run("SELECT ergon.enqueue('k', queue => 'q', priority => 7)").await;
    let event = reader.event().await;
    let task = event.task_ref().unwrap();
    assert_eq!((task.queue.as_str(), task.kind.as_str(), task.attempt), ("q", "k", 0));
    let stored = scene.store.tasks(&[task.id], Now::Store).await.unwrap().remove(0).unwrap();
    let what = ergon_core::TaskEvent::Enqueued { run_at: stored.progress.run_at, priority: 7 };
    assert_eq!(event, Event::task(stored.created_at, task.clone(), what));
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_of_other_schemas_are_foreign() {
    let (Some(one), Some(other)) = (Scene::new().await, Scene::new().await) else { return };
    let (mine, mut reader) = (one.watch().await.cursor, other.watch().await);
    other.enqueue().await;
    let theirs = reader.cursor.clone();
    reader.cursor = mine;
    let changes = reader.read(10).await;
    assert_eq!((changes.gap, changes.events.len(), changes.more), (Some(Gap::Foreign), 0, false));
    let id = other.enqueue().await;
    is_told(&reader.read_all(10).await, [id]);
    // A number of a transaction that does not exist yet.
    let mut parts: Vec<&str> = theirs.as_str().split('.').collect();
    parts[2] = "7fffffffff:5:A";
    reader.cursor = Cursor::new(parts.join(".")).unwrap();
    assert_eq!(reader.read(10).await.gap, Some(Gap::Foreign));
    let future = format!("{theirs}.7fffffffff:5:A.1");
    reader.cursor = Cursor::new(future).unwrap();
    assert_eq!(reader.read(10).await.gap, Some(Gap::Foreign));
    // Whoever waits with one is sent to read.
    reader.wait(LONG).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_made_anew_is_another_one() {
    let Some(scene) = Scene::new().await else { return };
    let mut reader = scene.watch().await;
    scene.enqueue().await;
    scene.sandbox.run("SELECT ergon.journal_reset()").await;
    assert_eq!(reader.read(10).await.gap, Some(Gap::Foreign));
    scene.watch().await;
    let id = scene.enqueue().await;
    let (gaps, told) = reader.read_over_gaps(10).await;
    assert_eq!(gaps, [Gap::Unrecorded]);
    is_told(&told, [id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_of_attempts_that_ended_are_swept() {
    let Some(scene) = Scene::new().await else { return };
    let h = Harness::new(scene.store.clone());
    h.create(&h.tasks(2)).await;
    let claimed = h.claim(2).await;
    let report = |task: &ergon_core::ClaimedTask| ergon_core::report::ClaimReport {
        id: task.id,
        token: task.token,
        report: ergon_core::ProgressReport::new(u64::MAX).of(u64::MAX).message("far"),
    };
    use ergon_core::store::Dispatch as _;
    let reports: Vec<_> = claimed.iter().map(report).collect();
    scene.store.report(&reports, h.now()).await.unwrap();
    h.conclude(&claimed[0], ergon_core::Conclusion::Complete { result: None }).await;
    assert_eq!(scene.number("SELECT count(*) FROM ergon.report").await, 2);
    scene.store.housekeep().await.unwrap();
    assert_eq!(scene.number("SELECT count(*) FROM ergon.report").await, 1);
    let kept = h.get(claimed[1].id).await.report.unwrap().report;
    assert_eq!(kept, reports[1].report);
    assert_eq!(h.get(claimed[0].id).await.report, None);
}
