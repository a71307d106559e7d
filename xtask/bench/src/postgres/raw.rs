//! What Postgres itself can do: the same bytes by plain statements, with nothing of ergon in between.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ergon_core::{Clock as _, IdSource as _, SystemClock, SystemIds, SystemRng};
use sqlx::PgConnection;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::host::{Database, Host};
use crate::workload::{Noop, block_on};

const TABLE: &str = "CREATE TABLE IF NOT EXISTS raw (id uuid PRIMARY KEY, payload bytea NOT NULL)";
const UNNEST: &str = "INSERT INTO raw (id, payload) SELECT * FROM unnest($1::uuid[], $2::bytea[])";
const ONE: &str = "INSERT INTO raw (id, payload) VALUES ($1, $2)";
const CLAIM_DELETE: &str = "DELETE FROM raw WHERE ctid = ANY (ARRAY (\
     SELECT ctid FROM raw ORDER BY id LIMIT 500 FOR UPDATE SKIP LOCKED)) RETURNING payload";

/// Rows of one statement.
const BATCH: usize = 1_000;

/// Ids as a client makes them for tasks enqueued alone, and payloads.
type Rows = (Vec<Uuid>, Vec<Vec<u8>>);

/// How long it takes to insert so many rows in batches, on so many connections.
pub(super) async fn unnest(
    database: &Database<'_>,
    connections: u64,
    rows: u64,
) -> Result<Duration> {
    let callers = connect(database, connections).await?;
    let work = callers.into_iter().map(|mut connection| {
        let batches = batches(rows / connections);
        async move {
            for (ids, payloads) in batches {
                sqlx::query(UNNEST).bind(ids).bind(payloads).execute(&mut connection).await?;
            }
            Ok(())
        }
    });
    timed(work).await
}

/// How long so many connections need to insert so many rows each, one a commit.
pub(super) async fn commits(
    database: &Database<'_>,
    connections: u64,
    of_each: u64,
) -> Result<Duration> {
    let callers = connect(database, connections).await?;
    let work = callers.into_iter().map(|mut connection| {
        let batches = batches(of_each);
        async move {
            for (ids, payloads) in batches {
                for (id, payload) in ids.into_iter().zip(payloads) {
                    sqlx::query(ONE).bind(id).bind(payload).execute(&mut connection).await?;
                }
            }
            Ok(())
        }
    });
    timed(work).await
}

/// How long one commit of one row takes, on average over some.
pub(super) fn mean_commit(host: &Host) -> Result<Duration> {
    const COMMITS: u32 = 500;
    let database = host.database()?;
    Ok(block_on(commits(&database, 1, COMMITS.into()))? / COMMITS)
}

/// How long two connections need to claim and delete so many rows. Inserting them does not count.
pub(super) async fn claim_delete(database: &Database<'_>, rows: u64) -> Result<Duration> {
    unnest(database, 2, rows).await?;
    let callers = connect(database, 2).await?;
    let work = callers.into_iter().map(|mut connection| async move {
        while !sqlx::query(CLAIM_DELETE).fetch_all(&mut connection).await?.is_empty() {}
        Ok(())
    });
    timed(work).await
}

/// Connections that have done their first statement.
async fn connect(database: &Database<'_>, count: u64) -> Result<Vec<PgConnection>> {
    let mut connections = Vec::new();
    for _ in 0..count {
        let mut connection = database.connect_as_store().await?;
        sqlx::query(TABLE).execute(&mut connection).await?;
        connections.push(connection);
    }
    Ok(connections)
}

/// Runs all at once, and says how long it took.
async fn timed<F>(work: impl Iterator<Item = F>) -> Result<Duration>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    // Made before the watch starts.
    let work: Vec<F> = work.collect();
    let mut running = JoinSet::new();
    let began = Instant::now();
    for one in work {
        running.spawn(one);
    }
    while let Some(ended) = running.join_next().await {
        ended.context("a caller panicked")??;
    }
    Ok(began.elapsed())
}

fn batches(rows: u64) -> Vec<Rows> {
    let (ids, clock) = (SystemIds::new(SystemRng), SystemClock);
    let rows: Vec<_> = (0..rows)
        .map(|number| (Uuid::from_u128(ids.next_id(clock.now()).as_u128()), Noop::payload(number)))
        .collect();
    rows.chunks(BATCH).map(|batch| batch.iter().cloned().unzip()).collect()
}
