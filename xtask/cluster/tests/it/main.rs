//! Clusters that are stopped, killed, frozen and left alone by their owners.

mod bouncer;
mod lifecycle;
mod owner;

use ergon_cluster::{Cluster, ClusterError, Settings};

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// A cluster, or nothing on a machine without Postgres, which counts as skipped.
fn cluster() -> Result<Option<Cluster>> {
    available(Cluster::start(Settings::default()))
}

fn available<T>(started: Result<T, ClusterError>) -> Result<Option<T>> {
    match started {
        Ok(started) => Ok(Some(started)),
        Err(error) if error.is_missing_program() => {
            skip(&error);
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

#[expect(clippy::print_stdout, reason = "the test report counts and shows this line")]
fn skip(reason: &ClusterError) {
    println!("skipped: {reason}");
}
