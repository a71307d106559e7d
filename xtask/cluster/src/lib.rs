//! Throw-away Postgres clusters: made in a moment, killed at will, gone with their owner.
//!
//! A [`Cluster`] is a Postgres server of one's own in a temporary directory, with a free port and a
//! superuser `postgres` who needs no password. It can be stopped, killed, restarted and frozen, so
//! that a test can watch what its clients make of that. A [`PgBouncer`] stands in front of one, in
//! transaction mode. Both end when they are dropped, and when the process that owns them ends in
//! whatever way.
//!
//! Nothing here needs root. Where the tests run as root nevertheless, which Postgres refuses, the
//! servers run as the user `postgres`, or else `nobody`.
//!
//! Unix only. What has to be installed is named by the errors of [`find_postgres`] and
//! [`find_pgbouncer`].
//!
//! ```no_run
//! use ergon_cluster::{Cluster, Mode, Settings};
//!
//! let cluster = Cluster::start(Settings::default())?;
//! cluster.execute("CREATE TABLE t (n int)")?;
//! cluster.kill()?;
//! cluster.restart(Mode::Fast)?;
//! assert_eq!(cluster.query("SELECT count(*) FROM t")?, [[Some("0".to_owned())]]);
//! # Ok::<(), ergon_cluster::ClusterError>(())
//! ```

mod account;
mod bouncer;
mod cluster;
mod error;
mod place;
mod process;
mod program;
mod settings;
mod template;
mod watchdog;
mod wire;

pub use crate::{
    bouncer::PgBouncer,
    cluster::{Cluster, Mode},
    error::ClusterError,
    process::wait_until_gone,
    program::{find_pgbouncer, find_postgres},
    settings::Settings,
    wire::Row,
};
