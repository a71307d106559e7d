//! Holds a cluster until its standard input ends; the tests kill it to see what becomes of that.
#![expect(clippy::print_stdout, reason = "a program talks to the one who started it")]

use std::io::{self, Read};

use ergon_cluster::{Cluster, ClusterError, PgBouncer, Settings};

/// Prints the server's process id, the bouncer's or `-`, and the cluster's directory.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = Cluster::start(Settings::fast())?;
    let bouncer = match PgBouncer::start(&cluster) {
        Ok(bouncer) => Some(bouncer),
        Err(ClusterError::Missing { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let pid = cluster.pid().ok_or(ClusterError::NotRunning)?;
    let bouncer_pid = bouncer.as_ref().map_or("-".to_owned(), |bouncer| bouncer.pid().to_string());
    println!("{pid} {bouncer_pid} {}", cluster.directory().display());
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
