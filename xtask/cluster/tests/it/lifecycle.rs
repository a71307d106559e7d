//! What becomes of a server and its data when it is stopped, killed, restarted and frozen.

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use ergon_cluster::{Cluster, ClusterError, Mode, Settings, wait_until_gone};

use crate::{Result, cluster};

const SOON: Duration = Duration::from_secs(30);

fn count(cluster: &Cluster) -> Result<String> {
    let rows = cluster.query("SELECT count(*) FROM t")?;
    Ok(rows.into_iter().flatten().flatten().collect())
}

fn setting(cluster: &Cluster, name: &str) -> Result<String> {
    let rows = cluster.query(&format!("SHOW {name}"))?;
    Ok(rows.into_iter().flatten().flatten().collect())
}

#[test]
fn a_cluster_answers_and_is_gone_when_it_is_dropped() -> Result {
    let Some(cluster) = cluster()? else { return Ok(()) };
    let pid = cluster.pid().ok_or("it does not run")?;
    let directory = cluster.directory().to_owned();
    TcpStream::connect(("127.0.0.1", cluster.port()))?;
    assert!(cluster.url().ends_with(&format!("@127.0.0.1:{}/postgres", cluster.port())));
    assert!(cluster.data_directory().join("PG_VERSION").is_file());
    assert!(cluster.version()?.contains("PostgreSQL"));
    drop(cluster);
    assert!(wait_until_gone(pid, Duration::ZERO));
    assert!(!directory.exists());
    Ok(())
}

#[test]
fn a_cluster_is_durable_unless_it_is_told_otherwise() -> Result {
    let Some(cluster) = cluster()? else { return Ok(()) };
    for name in ["fsync", "synchronous_commit", "full_page_writes"] {
        assert_eq!(setting(&cluster, name)?, "on", "{name}");
    }
    for (name, value) in [
        ("max_connections", "200"),
        ("server_encoding", "UTF8"),
        ("lc_collate", "C"),
        ("timezone", "UTC"),
    ] {
        assert_eq!(setting(&cluster, name)?, value, "{name}");
    }
    let fast = Cluster::start(Settings::fast().set("max_connections", "7"))?;
    assert_eq!(setting(&fast, "fsync")?, "off");
    assert_eq!(setting(&fast, "max_connections")?, "7");
    Ok(())
}

#[test]
fn two_clusters_know_nothing_of_each_other() -> Result {
    let Some(one) = cluster()? else { return Ok(()) };
    let other = Cluster::start(Settings::default())?;
    one.execute("CREATE TABLE t AS SELECT 1 AS n")?;
    one.create_database("a \"b\"")?;
    assert_eq!(one.query_in("a \"b\"", "SELECT NULL")?, [[None]]);
    assert_ne!(one.port(), other.port());
    let error = count(&other).expect_err("the table is in the other cluster");
    assert!(error.to_string().contains("42P01"), "{error}");
    drop(one);
    other.ping(SOON)?;
    Ok(())
}

#[test]
fn an_orderly_stop_keeps_data_and_url() -> Result {
    let Some(cluster) = cluster()? else { return Ok(()) };
    cluster.execute("CREATE TABLE t AS SELECT generate_series(1, 10)")?;
    let url = cluster.url();
    for mode in [Mode::Smart, Mode::Fast, Mode::Immediate] {
        cluster.stop(mode)?;
        assert_eq!(cluster.pid(), None);
        assert!(cluster.ping(SOON).is_err());
        cluster.restart(mode)?;
        let first = cluster.pid();
        cluster.restart(mode)?;
        assert_ne!(cluster.pid(), first);
        assert_eq!((count(&cluster)?, cluster.url()), ("10".to_owned(), url.clone()), "{mode:?}");
    }
    Ok(())
}

#[test]
fn a_killed_server_keeps_what_was_committed() -> Result {
    let Some(cluster) = cluster()? else { return Ok(()) };
    cluster.execute("CREATE TABLE t (n int)")?;
    for round in 1..=3 {
        cluster.execute("INSERT INTO t VALUES (1)")?;
        let pid = cluster.pid().ok_or("it does not run")?;
        cluster.kill()?;
        assert!(wait_until_gone(pid, Duration::ZERO));
        assert_eq!(cluster.pid(), None);
        cluster.kill()?;
        cluster.restart(Mode::Fast)?;
        assert_eq!(count(&cluster)?, round.to_string());
    }
    assert!(cluster.log().contains("was not properly shut down"), "{}", cluster.log());
    cluster.kill()?;
    Ok(())
}

#[test]
fn a_kill_takes_busy_sessions_along() -> Result {
    let Some(cluster) = cluster()? else { return Ok(()) };
    let start = Instant::now();
    std::thread::scope(|scope| -> Result {
        let busy = scope
            .spawn(|| cluster.execute("SELECT 'busy', count(*) FROM generate_series(1, 1e12)"));
        let is_busy = "SELECT FROM pg_stat_activity WHERE query LIKE 'SELECT ''busy''%'";
        while cluster.query(is_busy)?.is_empty() {
            assert!(start.elapsed() < SOON, "the statement does not start");
        }
        cluster.kill()?;
        let ended = busy.join().map_err(|_panic| "the session panicked")?;
        assert!(matches!(ended, Err(ClusterError::Io { .. })), "{ended:?}");
        Ok(())
    })
}

#[test]
fn a_frozen_server_is_silent_until_it_is_resumed() -> Result {
    let Some(cluster) = cluster()? else { return Ok(()) };
    let pid = cluster.pid();
    cluster.pause()?;
    let error = cluster.ping(Duration::from_millis(200)).expect_err("it is frozen");
    assert!(error.is_timeout(), "{error}");
    assert_eq!(cluster.pid(), pid);
    cluster.resume()?;
    cluster.ping(SOON)?;
    cluster.pause()?;
    cluster.restart(Mode::Fast)?;
    cluster.ping(SOON)?;
    cluster.pause()?;
    cluster.kill()?;
    assert!(matches!(cluster.pause(), Err(ClusterError::NotRunning)));
    assert!(matches!(cluster.resume(), Err(ClusterError::NotRunning)));
    cluster.restart(Mode::Fast)?;
    cluster.pause()?;
    Ok(())
}

#[test]
fn a_server_that_cannot_start_says_why() -> Result {
    let Some(_postgres) = cluster()? else { return Ok(()) };
    let error = Cluster::start(Settings::default().set("shared_buffers", "plenty"))
        .expect_err("there is no such number");
    assert!(matches!(error, ClusterError::Ended { .. }), "{error:?}");
    assert!(error.to_string().contains("invalid value for parameter"), "{error}");
    Ok(())
}

#[test]
fn a_server_that_cannot_stop_in_time_goes_on_stopping() -> Result {
    let Some(_postgres) = cluster()? else { return Ok(()) };
    let cluster = Cluster::start(Settings::default().stop_limit(Duration::from_millis(100)))?;
    std::thread::scope(|scope| -> Result {
        let session = scope.spawn(|| cluster.execute("SELECT 'held', pg_sleep(60)"));
        let start = Instant::now();
        let is_held = "SELECT FROM pg_stat_activity WHERE query LIKE 'SELECT ''held''%'";
        while cluster.query(is_held)?.is_empty() {
            assert!(start.elapsed() < SOON, "the statement does not start");
        }
        let error = cluster.stop(Mode::Smart).expect_err("a client stays");
        assert!(error.is_timeout(), "{error}");
        cluster.kill()?;
        let ended = session.join().map_err(|_panic| "the session panicked")?;
        assert!(ended.is_err());
        Ok(())
    })
}
