//! Statements against a server: deadlines, repetitions, connections that are of no use any more.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use sqlx::postgres::PgPoolOptions;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A pool of so many connections, if there is a server to be tested with.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
async fn pool(connections: u32) -> Option<PgPool> {
    let Ok(url) = std::env::var("DATABASE_URL") else {
        eprintln!("skipped: DATABASE_URL is not set");
        return None;
    };
    let options = PgPoolOptions::new().max_connections(connections).test_before_acquire(false);
    Some(Box::pin(options.connect(&url)).await.unwrap())
}

fn own(pool: &PgPool, deadline: Duration) -> Database {
    Database::new(pool.clone(), deadline, Ownership::Own, Sessions::Kept)
}

fn lent(pool: &PgPool) -> Database {
    Database::new(pool.clone(), SECOND * 10, Ownership::Lent, Sessions::Kept)
}

fn process() -> Statement {
    sqlx::query("SELECT pg_backend_pid()")
}

async fn process_of(database: &Database) -> i32 {
    database.row(process).await.unwrap().get(0)
}

/// Leaves a connection in a transaction, as a `BEGIN` whose future was dropped does.
async fn poison(pool: &PgPool, last: &'static str) -> i32 {
    let mut connection = Box::pin(pool.acquire()).await.unwrap();
    let process = process().fetch_one(&mut *connection).await.unwrap().get(0);
    sqlx::raw_sql("BEGIN").execute(&mut *connection).await.unwrap();
    // May fail, which leaves the transaction failed.
    sqlx::raw_sql(last).execute(&mut *connection).await.ok();
    process
}

#[tokio::test]
async fn rows_are_collected_and_counted() {
    let Some(pool) = pool(2).await else { return };
    let database = own(&pool, SECOND * 10);
    let numbers = || sqlx::query("SELECT generate_series(1, $1)").bind(3_i32);
    assert_eq!(database.rows(numbers).await.unwrap().len(), 3);
    assert_eq!(database.execute(numbers).await.unwrap(), 3);
    assert_eq!(database.row(numbers).await.unwrap().get::<i32, _>(0), 1);
    let none = || sqlx::query("SELECT 1 WHERE false");
    assert!(database.optional(none).await.unwrap().is_none());
    assert!(matches!(database.row(none).await, Err(StoreError::Backend { .. })));
}

#[tokio::test]
async fn what_exceeds_the_deadline_is_given_up_with_its_connection() {
    let Some(pool) = pool(1).await else { return };
    let before = process_of(&own(&pool, SECOND * 10)).await;
    let database = own(&pool, Duration::from_millis(100));
    let slow = || sqlx::query("SELECT pg_sleep(3)");
    let error = database.execute(slow).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    let told = ergon_core::text::error_chain(&error);
    assert_eq!(told, "the store is unavailable: no answer within 100ms");
    // The only connection of the pool does not wait for the statement to end.
    assert_ne!(process_of(&own(&pool, SECOND * 2)).await, before);
}

#[tokio::test]
async fn waiting_for_a_connection_counts_towards_the_deadline() {
    let Some(pool) = pool(1).await else { return };
    let taken = Box::pin(pool.acquire()).await.unwrap();
    let database = own(&pool, Duration::from_millis(100));
    let error = database.rows(process).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    drop(taken);
    process_of(&own(&pool, SECOND * 10)).await;
}

#[tokio::test]
async fn a_dropped_call_does_not_keep_its_connection() {
    let Some(pool) = pool(1).await else { return };
    let database = own(&pool, SECOND * 10);
    let before = process_of(&database).await;
    let slow = || sqlx::query("SELECT pg_sleep(3)");
    let dropped = tokio::time::timeout(Duration::from_millis(100), database.execute(slow)).await;
    assert!(dropped.is_err());
    assert_ne!(process_of(&own(&pool, SECOND * 2)).await, before);
}

#[tokio::test]
async fn connections_that_died_in_the_pool_are_not_noticed() {
    let Some(pool) = pool(4).await else { return };
    let Some(other) = self::pool(1).await else { return };
    let database = own(&pool, SECOND * 10);
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(Box::pin(pool.acquire()).await.unwrap());
    }
    let mut processes = Vec::new();
    for connection in &mut all {
        let row = process().fetch_one(&mut **connection).await.unwrap();
        processes.push(row.get::<i32, _>(0));
    }
    for connection in &mut all {
        connection.return_to_pool().await;
    }
    // Answers once the processes are gone.
    let ended = "SELECT bool_and(pg_terminate_backend(p, 5000)) FROM unnest($1::int4[]) AS p";
    sqlx::query(ended).bind(&processes).execute(&other).await.unwrap();
    for _ in 0..4 {
        assert!(!processes.contains(&process_of(&database).await));
    }
}

#[tokio::test]
async fn losing_against_others_is_repeated_three_times() {
    let Some(pool) = pool(2).await else { return };
    let database = own(&pool, SECOND * 10);
    let calls = AtomicU32::new(0);
    // Answers a serialisation failure, as often as asked.
    let losing = |times: u32| {
        let calls = &calls;
        move || {
            let lost = calls.fetch_add(1, Ordering::Relaxed) < times;
            sqlx::query(if lost { LOSING } else { "SELECT 1" })
        }
    };
    assert_eq!(database.execute(losing(3)).await.unwrap(), 1);
    assert_eq!(calls.swap(0, Ordering::Relaxed), 4);
    let error = database.execute(losing(4)).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict), "{error:?}");
    assert_eq!(calls.load(Ordering::Relaxed), 4);
}

/// A statement that fails as one that lost against another transaction does.
const LOSING: &str = "DO $$ BEGIN RAISE 'lost' USING ERRCODE = '40001'; END $$";

#[tokio::test]
async fn a_session_left_in_a_transaction_is_found_out_and_closed() {
    let Some(pool) = pool(1).await else { return };
    let database = lent(&pool);
    for left in ["SELECT 1", "SELECT 1 / 0"] {
        let poisoned = poison(&pool, left).await;
        // What is run is committed: outside of a transaction each statement has its own.
        let mut transactions = Vec::new();
        for _ in 0..2 {
            let row = database
                .row(|| sqlx::query("SELECT pg_backend_pid(), pg_current_xact_id()::text"))
                .await
                .unwrap();
            assert_ne!(row.get::<i32, _>(0), poisoned, "{left}");
            transactions.push(row.get::<String, _>(1));
        }
        assert_ne!(transactions[0], transactions[1], "{left}");
    }
}

#[tokio::test]
async fn a_sound_session_of_the_application_is_kept() {
    let Some(pool) = pool(1).await else { return };
    let database = lent(&pool);
    let first = process_of(&database).await;
    let error = database.execute(|| sqlx::query("SELECT 1 / 0")).await.unwrap_err();
    assert!(matches!(error, StoreError::Backend { .. }), "{error:?}");
    for _ in 0..10 {
        assert_eq!(process_of(&database).await, first);
    }
}

#[tokio::test]
async fn a_shared_session_is_kept_for_a_statement_and_its_limits() {
    let Some(pool) = pool(1).await else { return };
    let sessions = Sessions::Shared { lock_timeout: SECOND };
    let database = Database::new(pool.clone(), SECOND * 3, Ownership::Own, sessions);
    let settings = || {
        let sql = "SELECT current_setting('statement_timeout') || current_setting('lock_timeout')";
        sqlx::query(sql)
    };
    let of_session: String = settings().fetch_one(&pool).await.unwrap().get(0);
    let first = process_of(&database).await;
    for _ in 0..2 {
        assert_eq!(database.row(settings).await.unwrap().get::<String, _>(0), "4s1s");
        let error = database.execute(|| sqlx::query("SELECT 1 / 0")).await.unwrap_err();
        assert!(matches!(error, StoreError::Backend { .. }), "{error:?}");
        // Neither the transaction nor its limits are left behind, and the connection is the same.
        let (process, after): (i32, String) = {
            let mut connection = Box::pin(pool.acquire()).await.unwrap();
            let outside = is_outside(&mut connection).await.unwrap();
            assert!(outside);
            let process = process().fetch_one(&mut *connection).await.unwrap().get(0);
            (process, settings().fetch_one(&mut *connection).await.unwrap().get(0))
        };
        assert_eq!((process, after.as_str()), (first, of_session.as_str()));
    }
}

#[tokio::test]
async fn what_a_shared_session_did_is_committed() {
    let Some(pool) = pool(1).await else { return };
    let sessions = Sessions::Shared { lock_timeout: SECOND };
    let database = Database::new(pool.clone(), SECOND * 3, Ownership::Own, sessions);
    let drawn = |id: String| async {
        let status = "SELECT pg_xact_status($1::text::xid8)";
        sqlx::query(status).bind(id).fetch_one(&pool).await.unwrap().get::<String, _>(0)
    };
    let id = || sqlx::query("SELECT pg_current_xact_id()::text");
    let done: String = database.row(id).await.unwrap().get(0);
    assert_eq!(drawn(done).await, "committed");
}

#[tokio::test]
async fn a_closed_pool_is_a_closed_store() {
    let Some(pool) = pool(1).await else { return };
    let database = own(&pool, SECOND * 10);
    database.close().await;
    assert!(matches!(database.rows(process).await, Err(StoreError::Closed)));
    assert!(format!("{database:?}").starts_with("Database { connections: 0, deadline: 10s"));
}

#[tokio::test]
async fn the_pool_of_an_application_is_left_open() {
    let Some(pool) = pool(1).await else { return };
    lent(&pool).close().await;
    assert!(!pool.is_closed());
}

#[test]
fn waits_grow_up_to_their_limit() {
    assert_eq!(pause(0), Duration::ZERO);
    for failures in 1..100 {
        assert!(pause(failures) <= WAIT_MAX);
        assert!(pause(failures) <= WAIT_MIN * 2_u32.saturating_pow(failures - 1));
    }
}
