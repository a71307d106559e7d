//! Opening a store: what is refused, in which words, and what survives.

use std::{net::TcpListener, time::Duration};

use ergon_core::text::error_chain;
use ergon_postgres::{ConnectError, MigrateError, Migrator, PostgresStore};
use futures_util::future::join_all;

use crate::support::{self, sandbox};

#[tokio::test]
async fn a_store_opens_in_an_empty_database_and_again() {
    let Some((sandbox, store)) = support::store().await else { return };
    drop(store);
    let again = sandbox.options().migrate(false).connect(&sandbox.url).await;
    again.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_stores_open_in_an_empty_database_at_once() {
    let Some(sandbox) = sandbox() else { return };
    let stores = join_all((0..8).map(|_| sandbox.options().connect(&sandbox.url))).await;
    for store in stores {
        store.unwrap();
    }
}

#[tokio::test]
async fn tables_are_not_made_unless_they_may_be() {
    let Some(sandbox) = sandbox() else { return };
    let error = sandbox.options().migrate(false).connect(&sandbox.url).await.unwrap_err();
    let expected = MigrateError::Older { found: 0, needed: 1 }.to_string();
    assert!(error_chain(&error).ends_with(&expected), "{error:?}");
    let migrator = Migrator::new(&sandbox.schema).unwrap();
    let pool = sandbox.pool(1).await;
    assert_eq!(migrator.status(&pool).await.unwrap().version, 0);
}

#[tokio::test]
async fn tables_of_a_newer_program_are_refused_and_left_alone() {
    let Some((sandbox, store)) = support::store().await else { return };
    drop(store);
    sandbox.run("INSERT INTO ergon.migration VALUES (99, 'from the future')").await;
    let pool = sandbox.pool(2).await;
    let migrator = Migrator::new(&sandbox.schema).unwrap();
    let before = migrator.status(&pool).await.unwrap();
    for migrate in [true, false] {
        let opened = sandbox.options().migrate(migrate).connect(&sandbox.url).await;
        let Err(ConnectError::Migrate { source: MigrateError::Newer { found, known } }) = opened
        else {
            unreachable!("{opened:?}");
        };
        assert_eq!((found, known), (99, before.known));
    }
    assert!(matches!(migrator.up(&pool).await, Err(MigrateError::Newer { found: 99, .. })));
    assert!(matches!(migrator.down(&pool, 0).await, Err(MigrateError::Newer { found: 99, .. })));
    assert_eq!(migrator.status(&pool).await.unwrap(), before);
}

#[tokio::test]
async fn a_server_that_may_lose_what_it_acknowledges_is_refused_unless_allowed() {
    let Some(sandbox) = sandbox() else { return };
    let url = sandbox.url_with("options[synchronous_commit]=off");
    let error = sandbox.options().connect(&url).await.unwrap_err();
    assert!(
        matches!(&error, ConnectError::NotDurable { setting: "synchronous_commit", value } if value == "off"),
        "{error:?}"
    );
    sandbox.options().allow_unsafe_durability(true).connect(&url).await.unwrap();
    let local = sandbox.url_with("options[synchronous_commit]=local");
    sandbox.options().connect(&local).await.unwrap();
}

#[tokio::test]
async fn tables_that_a_crash_empties_are_refused_by_their_names() {
    let Some((sandbox, store)) = support::store().await else { return };
    drop(store);
    sandbox.run("ALTER TABLE ergon.uniq SET UNLOGGED").await;
    sandbox.run("ALTER TABLE ergon.task SET UNLOGGED").await;
    let error = sandbox.options().connect(&sandbox.url).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the server may lose what it acknowledges: unlogged tables is task, uniq"
    );
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_refused() {
    let Some(sandbox) = sandbox() else { return };
    let url = sandbox.url_with("options[default_transaction_read_only]=on");
    let error = sandbox.options().connect(&url).await.unwrap_err();
    assert!(matches!(error, ConnectError::ReadOnly), "{error:?}");
}

#[tokio::test]
async fn a_store_works_whatever_isolation_the_role_prefers() {
    let Some(sandbox) = sandbox() else { return };
    let url = sandbox.url_with("options[default_transaction_isolation]=serializable");
    sandbox.options().connect(&url).await.unwrap();
}

#[tokio::test]
async fn a_store_opens_without_named_statements() {
    let Some(sandbox) = sandbox() else { return };
    sandbox.options().pooled_by_bouncer(true).connect(&sandbox.url).await.unwrap();
    sandbox.options().pooled_by_bouncer(true).migrate(false).connect(&sandbox.url).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_open_through_a_pooler_that_shares_sessions() {
    let (Some(sandbox), Some(url)) = (sandbox(), support::pooler()) else { return };
    let options = || sandbox.options().pooled_by_bouncer(true);
    // More connections than the pooler has sessions, several rounds, so that sessions are mixed.
    for migrate in [true, false, false] {
        let stores = join_all((0..8).map(|_| options().migrate(migrate).connect(&url))).await;
        for store in stores {
            store.unwrap();
        }
    }
}

#[tokio::test]
async fn a_pool_of_an_application_is_used_even_if_it_left_sessions_in_transactions() {
    let Some(sandbox) = sandbox() else { return };
    let pool = sandbox.pool(1).await;
    let mut left = pool.acquire().await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut *left).await.unwrap();
    drop(left);
    sandbox.options().from_pool(pool.clone()).await.unwrap();
    // Made in a transaction of their own, not in the one that was left.
    let migrator = Migrator::new(&sandbox.schema).unwrap();
    let other = sandbox.pool(1).await;
    assert_eq!(migrator.status(&other).await.unwrap().version, 1);
}

/// Every message of an error, and what it shows to a programmer.
fn told(error: &ConnectError) -> String {
    format!("{error:?} {}", error_chain(error))
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_without_the_password() {
    // A port that nobody listens at: it was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://app:hunter2@127.0.0.1:{port}/app");
    let options = PostgresStore::builder().acquire_timeout(Duration::from_millis(200));
    let error = options.connect(&url).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    let told = told(&error);
    assert!(told.contains("refused"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    // Accepts connections, as the kernel does by itself, and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("postgres://app:hunter2@127.0.0.1:{port}/app");
    let options = PostgresStore::builder().acquire_timeout(Duration::from_millis(200));
    let error = options.connect(&url).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    assert!(!told(&error).contains("hunter2"));
}

#[tokio::test]
async fn a_database_or_a_role_that_does_not_exist_is_told_by_its_name() {
    let Some(sandbox) = sandbox() else { return };
    let url = sandbox.url_with("user=nobody_here&password=hunter2");
    let error = sandbox.options().connect(&url).await.unwrap_err();
    let told_of_role = told(&error);
    assert!(told_of_role.contains("nobody_here"), "{told_of_role}");
    assert!(!told_of_role.contains("hunter2"), "{told_of_role}");
    let url = sandbox.url_with("dbname=nothing_here&password=hunter2");
    let error = sandbox.options().connect(&url).await.unwrap_err();
    let told_of_database = told(&error);
    assert!(told_of_database.contains("nothing_here"), "{told_of_database}");
    assert!(!told_of_database.contains("hunter2"), "{told_of_database}");
}
