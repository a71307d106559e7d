//! A bouncer lets clients through, in transaction mode.

use std::{net::TcpStream, time::Duration};

use ergon_cluster::{PgBouncer, wait_until_gone};

use crate::{Result, available, cluster};

#[test]
fn a_bouncer_serves_the_cluster_and_is_gone_when_it_is_dropped() -> Result {
    let Some(cluster) = cluster()? else { return Ok(()) };
    let Some(bouncer) = available(PgBouncer::start(&cluster))? else { return Ok(()) };
    TcpStream::connect(("127.0.0.1", bouncer.port()))?;
    assert_ne!(bouncer.url(), cluster.url());
    assert!(bouncer.url_for("a").ends_with(&format!(":{}/a", bouncer.port())));
    let sessions = cluster.query(
        "SELECT FROM pg_stat_activity \
         WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
    )?;
    assert_eq!(sessions.len(), 1, "the bouncer holds on to its connection");
    let (pid, directory) = (bouncer.pid(), bouncer.directory().to_owned());
    drop(bouncer);
    assert!(wait_until_gone(pid, Duration::ZERO));
    assert!(!directory.exists());
    Ok(())
}

#[test]
fn a_bouncer_that_cannot_start_says_why() -> Result {
    let Some(cluster) = cluster()? else { return Ok(()) };
    let Some(_bouncer) = available(PgBouncer::start(&cluster))? else { return Ok(()) };
    let error = PgBouncer::start_with(&cluster, &[("pool_mode", "telepathy")])
        .expect_err("there is no such mode");
    assert!(error.to_string().contains("telepathy"), "{error}");
    Ok(())
}
