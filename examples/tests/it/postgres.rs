//! The examples on Postgres, each with a database of its own.
#![expect(clippy::print_stdout, reason = "a test that cannot run says so in its output")]

use std::{
    env,
    process::Output,
    str::FromStr as _,
    sync::atomic::{AtomicU32, Ordering},
};

use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection, postgres::PgConnectOptions};

use crate::program;

/// Counts the databases of this process.
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// Runs one statement on the server that `DATABASE_URL` names.
fn execute(server: &PgConnectOptions, statement: String) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut connection: PgConnection = server.connect().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    });
}

/// Runs an example on an empty database of the server that `DATABASE_URL` names. Without one the
/// example starts its own server; where Postgres is not installed there is nothing to run.
fn run(path: &str, args: &[&str]) -> Option<Output> {
    let directory = tempfile::tempdir().unwrap();
    let mut command = program(path, directory.path());
    command.args(args);
    let Some(url) = env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()) else {
        if let Err(missing) = ergon_cluster::find_postgres() {
            println!("skipped: {missing}");
            return None;
        }
        return Some(command.output().unwrap());
    };
    let server = PgConnectOptions::from_str(&url).unwrap();
    let number = DATABASES.fetch_add(1, Ordering::Relaxed);
    let name = format!("ergon_example_{}_{number}", std::process::id());
    execute(&server, format!("CREATE DATABASE {name}"));
    let own = server.clone().database(&name).to_url_lossy();
    let output = command.env("DATABASE_URL", own.as_str()).output().unwrap();
    execute(&server, format!("DROP DATABASE {name} WITH (FORCE)"));
    Some(output)
}

/// The lines of an example that succeeded.
#[track_caller]
fn lines(output: &Output) -> Vec<&str> {
    let (out, err) = (str::from_utf8(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let out = out.unwrap();
    assert!(output.status.success(), "{}\n{out}{err}", output.status);
    out.lines().collect()
}

#[test]
fn postgres() {
    let Some(output) = run(env!("CARGO_BIN_EXE_postgres"), &[]) else { return };
    assert_eq!(lines(&output), ["printed invoice 7, by attempt 1"]);
}

#[test]
fn transactional_postgres() {
    let Some(output) = run(env!("CARGO_BIN_EXE_transactional_postgres"), &[]) else { return };
    let expected = [
        "committed: 1 orders, 1 tasks",
        "rolled back, out of teapots: 1 orders, 1 tasks",
        "shipped order 1: a kettle, by attempt 2",
        "times that order 1 was shipped: 1",
    ];
    assert_eq!(lines(&output), expected);
}

#[test]
fn multi_process() {
    let args = ["--tasks", "300", "--kills", "4"];
    let Some(output) = run(env!("CARGO_BIN_EXE_multi_process"), &args) else { return };
    let lines = lines(&output);
    let kills = lines.iter().filter(|line| line.contains("tasks done: killed worker")).count();
    assert_eq!(kills, 4);
    assert!(lines.contains(&"enqueued 300 tasks, completed 300"), "{lines:?}");
    assert!(lines.contains(&"300 tasks took effect, 0 of them more than once"), "{lines:?}");
    assert_eq!(lines.last(), Some(&"every task took effect exactly once"));
}
