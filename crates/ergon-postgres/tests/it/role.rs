//! What a role can do that was given the least that a store needs.

use std::time::Duration;

use ergon_core::{
    ClaimedTask, Clock as _, Command, Conclusion, ErrorKind, IdSource as _, KindName, NewTask, Now,
    Outcome, ProgressReport, QueueName, Selection, ServerId, SystemClock, SystemIds, SystemRng,
    Tag, TaskFilter, TaskSpec, Verdict, WatcherName,
    event::ServerEvent,
    filter::Page,
    report::ClaimReport,
    store::{
        Beat, ClaimRequest, Control as _, Dispatch as _, Enqueue as _, Held, Inspect as _,
        Maintain as _, Observe as _, PruneRequest, QueueChange, QueueSlots, RescueRequest, Watch,
    },
};
use ergon_postgres::{ConnectError, MigrateError, Migrator, PostgresStore};
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::{Sandbox, sandbox};

/// A role of one test, dropped with its schema.
struct Role {
    sandbox: Sandbox,
    name: String,
    owner: PgPool,
}

impl Role {
    /// A role that may do nothing, if there is a server to be tested with.
    async fn new() -> Option<Self> {
        let sandbox = sandbox()?;
        let name = format!("{}_app", sandbox.schema);
        sandbox.run(&format!("CREATE ROLE {name} NOSUPERUSER NOCREATEDB NOCREATEROLE")).await;
        let owner = sandbox.pool(2).await;
        Some(Self { sandbox, name, owner })
    }

    async fn grant(&self) {
        let migrator = Migrator::new(&self.sandbox.schema).unwrap();
        for statement in migrator.grants(&self.name) {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&self.owner).await.unwrap();
        }
    }

    /// The URL of a session of this role.
    fn url(&self) -> String {
        self.sandbox.url_with(&format!("options[role]={}", self.name))
    }

    async fn connect(&self) -> Result<PostgresStore, ConnectError> {
        self.sandbox.options().migrate(false).connect(&self.url()).await
    }

    /// The SQLSTATE with which a statement of this role fails, if it fails.
    async fn fails(&self, sql: &str) -> Option<String> {
        let pool = PgPool::connect(&self.url()).await.unwrap();
        let sql = sql.replace("ergon.", &format!("{}.", self.sandbox.schema));
        let error = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.err()?;
        Some(error.as_database_error().unwrap().code().unwrap().into_owned())
    }
}

#[tokio::test]
async fn a_role_that_was_given_nothing_is_told_so() {
    let Some(role) = Role::new().await else { return };
    Migrator::new(&role.sandbox.schema).unwrap().up(&role.owner).await.unwrap();
    let error = role.connect().await.unwrap_err();
    let is_denied = matches!(&error, ConnectError::Migrate { source: MigrateError::Denied { .. } });
    assert!(is_denied, "{error:?}");
}

#[tokio::test]
async fn a_role_without_the_right_to_make_a_schema_uses_one_that_was_made() {
    let Some(role) = Role::new().await else { return };
    let migrator = Migrator::new(&role.sandbox.schema).unwrap();
    let pool = PgPool::connect(&role.url()).await.unwrap();
    let error = migrator.up(&pool).await.unwrap_err();
    assert!(matches!(error, MigrateError::Denied { .. }), "{error:?}");
    let (schema, name) = (&role.sandbox.schema, &role.name);
    role.sandbox.run(&format!("CREATE SCHEMA {schema} AUTHORIZATION {name}")).await;
    assert_eq!(migrator.up(&pool).await.unwrap(), 1);
    pool.close().await;
    role.connect().await.unwrap();
}

#[tokio::test]
async fn a_role_with_the_grants_uses_the_tables_and_changes_none() {
    let Some(role) = Role::new().await else { return };
    Migrator::new(&role.sandbox.schema).unwrap().up(&role.owner).await.unwrap();
    role.grant().await;
    let store = role.connect().await.unwrap();
    use_every_role_of(&store).await;
    store.close().await;
    let denied = Some("42501".to_owned());
    for sql in [
        "CREATE TABLE ergon.mine (x int)",
        "ALTER TABLE ergon.task ADD x int",
        "DROP TABLE ergon.task",
        "TRUNCATE ergon.task",
        "INSERT INTO ergon.migration VALUES (2, 'mine')",
        "DELETE FROM ergon.migration",
    ] {
        assert_eq!(role.fails(sql).await, denied, "{sql}");
    }
    for sql in [
        "SELECT nextval('ergon.token')",
        "INSERT INTO ergon.queue (name) VALUES ('mail')",
        "DELETE FROM ergon.ready",
        "SELECT version FROM ergon.migration",
    ] {
        assert_eq!(role.fails(sql).await, None, "{sql}");
    }
}

/// Asks a store for something of each kind; what it answers is for others to judge.
async fn use_every_role_of(store: &PostgresStore) {
    let ids = SystemIds::new(SystemRng);
    let kind = KindName::new("mail").unwrap();
    let queue = QueueName::default();
    let mut tasks: Vec<NewTask> = (0..6)
        .map(|_| NewTask::new(ids.next_id(SystemClock.now()), TaskSpec::new(kind.clone(), "{}")))
        .collect();
    tasks[0].spec.tags = vec![Tag::new("urgent").unwrap()];
    store.insert(&tasks, Now::Store).await.unwrap();
    store.insert(&tasks, Now::Store).await.unwrap();
    let slots = QueueSlots { queue: queue.clone(), slots: 5 };
    let server = ServerId::from_u128(7);
    let claim = ClaimRequest::new(server, [kind.clone()], [slots]);
    let claimed = store.claim(&claim).await.unwrap();
    assert_eq!(claimed.len(), 5);
    let watch = Watch::durable(WatcherName::new("role").unwrap());
    let cursor = store.watch(&watch).await.unwrap().cursor;
    let told = |task: &ClaimedTask| ClaimReport {
        id: task.id,
        token: task.token,
        report: ProgressReport::new(1),
    };
    let reports: Vec<ClaimReport> = claimed.iter().map(told).collect();
    store.report(&reports, Now::Store).await.unwrap();
    let held = |task: &ClaimedTask| Held { id: task.id, token: task.token };
    let beat = Beat::new(server, claimed.iter().map(held).collect());
    assert_eq!(store.beat(&beat).await.unwrap().lost, []);
    let (error, reason) = ("broken".to_owned(), "unwanted".to_owned());
    let delay = Duration::ZERO;
    let conclusions = [
        Conclusion::Complete { result: Some("{}".into()) },
        Conclusion::Retry { delay, kind: ErrorKind::Error, error: error.clone() },
        Conclusion::Fail { kind: ErrorKind::Error, error },
        Conclusion::Cancel { reason },
        Conclusion::Snooze { delay },
    ];
    let outcome = |(task, conclusion): (&ClaimedTask, Conclusion)| Outcome {
        id: task.id,
        token: task.token,
        conclusion,
    };
    let outcomes: Vec<Outcome> = claimed.iter().zip(conclusions).map(outcome).collect();
    let verdicts = store.finish(&outcomes, Now::Store).await.unwrap();
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Applied), "{verdicts:?}");
    let all: Vec<_> = tasks.iter().map(|task| task.id).collect();
    store.tasks(&all, Now::Store).await.unwrap();
    store.list(&TaskFilter::all(), &Page::of(10), Now::Store).await.unwrap();
    store.count(&TaskFilter::all().tag(Tag::new("urgent").unwrap()), Now::Store).await.unwrap();
    store.wait_for_finish(claimed[0].id, Duration::from_secs(1)).await.unwrap();
    store.set_queue(&queue, &QueueChange::pause()).await.unwrap();
    store.set_queue(&queue, &QueueChange::resume()).await.unwrap();
    let selection = Selection::Ids(vec![tasks[5].id, claimed[1].id]);
    store.apply(&selection, &Command::Delete, Now::Store).await.unwrap();
    store.queues(Now::Store).await.unwrap();
    store.rescue_expired(&RescueRequest::default()).await.unwrap();
    store.prune(&PruneRequest::default()).await.unwrap();
    store.announce(server, &ServerEvent::Draining).await.unwrap();
    store.wait_for_changes(&cursor, Duration::from_secs(1)).await;
    let changes = store.changes(&cursor, 1_000).await.unwrap();
    assert!(changes.gap.is_none() && changes.events.len() > 10, "{changes:?}");
    store.watch(&watch.clone().reached(changes.cursor)).await.unwrap();
    store.watchers().await.unwrap();
    assert!(store.unwatch(&watch.name).await.unwrap());
    store.housekeep().await.unwrap();
}
