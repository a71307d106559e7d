//! Migrations: made and removed, at once, cut short, printed, by those who may and those who may not.

use std::{future::poll_fn, pin::pin, task::Poll};

use ergon_postgres::{MigrateError, Migrator};
use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, PgPool, Row};

use crate::support::{Sandbox, sandbox};

fn migrator(sandbox: &Sandbox) -> Migrator {
    Migrator::new(&sandbox.schema).unwrap()
}

/// How many tables and sequences there are in the schema.
async fn relations(sandbox: &Sandbox, pool: &PgPool) -> i64 {
    let sql = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'S')";
    sqlx::query(sql).bind(&sandbox.schema).fetch_one(pool).await.unwrap().get(0)
}

#[tokio::test]
async fn tables_are_made_told_and_removed() {
    let Some(sandbox) = sandbox() else { return };
    let pool = sandbox.pool(2).await;
    let migrator = migrator(&sandbox);
    let empty = migrator.status(&pool).await.unwrap();
    assert_eq!((empty.version, empty.applied.len()), (0, 0));
    for _ in 0..2 {
        assert_eq!(migrator.up(&pool).await.unwrap(), empty.known);
        assert_eq!(migrator.up(&pool).await.unwrap(), empty.known);
        let full = migrator.status(&pool).await.unwrap();
        assert_eq!(full.version, empty.known);
        assert_eq!(full.applied.len(), usize::try_from(empty.known).unwrap());
        assert_eq!(full.applied[0].name, "packs, ranges, leases");
        assert!(relations(&sandbox, &pool).await > 10);
        migrator.down(&pool, full.version).await.unwrap();
        assert_eq!(migrator.status(&pool).await.unwrap(), full);
        migrator.down(&pool, 0).await.unwrap();
        assert_eq!(relations(&sandbox, &pool).await, 0);
        migrator.down(&pool, 0).await.unwrap();
        assert_eq!(migrator.status(&pool).await.unwrap(), empty);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrating_at_once_ends_well() {
    let Some(sandbox) = sandbox() else { return };
    let pool = sandbox.pool(8).await;
    let migrator = migrator(&sandbox);
    for done in join_all((0..8).map(|_| migrator.up(&pool))).await {
        assert_eq!(done.unwrap(), 1);
    }
    assert_eq!(migrator.status(&pool).await.unwrap().applied.len(), 1);
    for done in join_all((0..8).map(|_| migrator.down(&pool, 0))).await {
        done.unwrap();
    }
    assert_eq!(relations(&sandbox, &pool).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_whose_future_is_dropped_is_whole() {
    let Some(sandbox) = sandbox() else { return };
    let pool = sandbox.pool(4).await;
    let migrator = migrator(&sandbox);
    // Dropped after each number of polls, until one that is not cut short.
    for polls in 0.. {
        let mut left = polls;
        let mut up = pin!(migrator.up(&pool));
        let cut = poll_fn(|context| match up.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => {
                left -= 1;
                Poll::Pending
            }
        });
        let done = cut.await;
        // Waits for the one that goes on, if it does.
        assert_eq!(migrator.up(&pool).await.unwrap(), 1);
        assert_eq!(migrator.status(&pool).await.unwrap().applied.len(), 1);
        migrator.down(&pool, 0).await.unwrap();
        assert_eq!(relations(&sandbox, &pool).await, 0);
        if let Some(done) = done {
            assert_eq!(done.unwrap(), 1);
            break;
        }
    }
}

#[tokio::test]
async fn a_migration_waits_for_the_lock_of_another() {
    let Some(sandbox) = sandbox() else { return };
    let pool = sandbox.pool(4).await;
    let migrator = migrator(&sandbox);
    let mut other = pool.begin().await.unwrap();
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended('ergon migrate ' || $1, 0))";
    sqlx::query(lock).bind(&sandbox.schema).execute(&mut *other).await.unwrap();
    let waiting = async {
        // Ends once somebody waits for the lock.
        let sql = "SELECT count(*) > 0 FROM pg_locks l WHERE l.locktype = 'advisory' AND NOT l.granted \
                   AND l.pid <> pg_backend_pid() AND (l.classid, l.objid) IN (SELECT h.classid, h.objid \
                   FROM pg_locks h WHERE h.locktype = 'advisory' AND h.granted AND h.pid = $1)";
        let row = sqlx::query("SELECT pg_backend_pid()").fetch_one(&mut *other).await.unwrap();
        let holder: i32 = row.get(0);
        loop {
            let row = sqlx::query(sql).bind(holder).fetch_one(&pool).await.unwrap();
            if row.get::<bool, _>(0) {
                break;
            }
        }
        assert_eq!(migrator.status(&pool).await.unwrap().version, 0);
        other.commit().await.unwrap();
    };
    let (done, ()) = tokio::join!(migrator.up(&pool), waiting);
    assert_eq!(done.unwrap(), 1);
}

#[tokio::test]
async fn what_is_printed_makes_the_same_tables() {
    let Some(sandbox) = sandbox() else { return };
    let pool = sandbox.pool(1).await;
    let migrator = migrator(&sandbox);
    migrator.up(&pool).await.unwrap();
    let made = relations(&sandbox, &pool).await;
    migrator.down(&pool, 0).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(migrator.sql())).execute(&pool).await.unwrap();
    assert_eq!(relations(&sandbox, &pool).await, made);
    assert_eq!(migrator.up(&pool).await.unwrap(), 1);
    assert_eq!(migrator.status(&pool).await.unwrap().applied.len(), 1);
}

#[tokio::test]
async fn what_fails_half_way_leaves_nothing() {
    let Some(sandbox) = sandbox() else { return };
    let pool = sandbox.pool(2).await;
    // In the way of the last table.
    let schema = &sandbox.schema;
    sandbox.run(&format!("CREATE SCHEMA {schema}; CREATE TABLE {schema}.leader (x int)")).await;
    let error = migrator(&sandbox).up(&pool).await.unwrap_err();
    assert!(matches!(error, MigrateError::Failed { .. }), "{error:?}");
    assert_eq!(relations(&sandbox, &pool).await, 1);
    assert_eq!(migrator(&sandbox).status(&pool).await.unwrap().version, 0);
}
