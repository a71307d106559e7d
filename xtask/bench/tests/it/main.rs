//! Runs the benchmark and the crash loop on a small scale.

mod bench;
mod torture;

/// Whether there is a Postgres on this machine; says why a test is skipped if not.
#[expect(clippy::print_stderr, reason = "who runs the tests shall see what did not run")]
fn has_postgres() -> bool {
    match ergon_cluster::find_postgres() {
        Ok(_programs) => true,
        Err(missing) => {
            eprintln!("skipped: {missing}");
            false
        }
    }
}
