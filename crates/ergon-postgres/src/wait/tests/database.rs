//! The questions, asked of a real database.

#![expect(clippy::large_futures, reason = "the futures of sqlx are large, and these few are tests")]
#![expect(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::time::Duration;

use ergon_core::{Rng as _, SystemRng, TaskId};
use sqlx::{AssertSqlSafe, PgPool, postgres::PgPoolOptions, raw_sql};

use super::{kinds, queues};
use crate::{
    Migrator,
    database::{Database, Ownership, Sessions},
    schema::Schema,
    sql::Statements,
    wait::{Asking, Questions as _},
};

/// A schema of its own.
struct Rig {
    pool: PgPool,
    schema: Schema,
    asking: Asking,
}

impl Rig {
    /// `None` without a database.
    async fn new() -> Option<Self> {
        let Ok(url) = std::env::var("DATABASE_URL") else {
            println!("skipped: DATABASE_URL is not set");
            return None;
        };
        let schema = format!("ergon_wait_{:x}", SystemRng.next_u64());
        let pool = PgPoolOptions::new().max_connections(2).connect(&url).await.unwrap();
        Migrator::new(&schema).unwrap().up(&pool).await.unwrap();
        let schema = Schema::new(&schema).unwrap();
        let deadline = Duration::from_secs(10);
        let database = Database::new(pool.clone(), deadline, Ownership::Lent, Sessions::Kept);
        let statements = Statements::new(&schema);
        let asking = Asking::new(database, statements.due, statements.finished);
        Some(Self { pool, schema, asking })
    }

    async fn run(&self, sql: &str) {
        let sql = AssertSqlSafe(self.schema.qualify(sql));
        raw_sql(sql).execute(&self.pool).await.unwrap();
    }

    async fn due(&self) -> Option<Duration> {
        self.asking.due(&queues(&["a", "b"]), &kinds()).await.unwrap()
    }

    async fn done(self) {
        self.run(&format!("DROP SCHEMA {} CASCADE", self.schema.name())).await;
        self.pool.close().await;
    }
}

const NAMES: &str = "
    INSERT INTO ergon.queue (name) VALUES ('a'), ('b'), ('c');
    INSERT INTO ergon.kind (name) VALUES ('kind'), ('other');
    INSERT INTO ergon.lane (queue, priority) SELECT q, p FROM generate_series(1, 3) q,
      generate_series(1, 2) p ORDER BY q, p;
";

/// A waiting task, `$` being how long until it is due, of a lane and a kind.
fn waiting(seconds: i64, lane: i64, kind: i64) -> String {
    format!(
        "INSERT INTO ergon.ready (run_at, pack, lane, kind, attempt, first, n, base, late, own)
         VALUES (clock_timestamp() + interval '{seconds} second', gen_random_uuid(), {lane}, {kind},
           0, 0, 1, 0, {}, false);",
        seconds % 2 == 0,
    )
}

#[tokio::test]
async fn the_database_says_when_work_is_due() {
    let Some(rig) = Rig::new().await else { return };
    rig.run(NAMES).await;
    assert_eq!(rig.due().await, None);
    // Another queue, another kind.
    rig.run(&(waiting(-1, 5, 1) + &waiting(-1, 1, 2))).await;
    assert_eq!(rig.due().await, None);
    for (seconds, lane) in [(2_000, 1), (1_001, 2), (500, 3), (2_001, 4)] {
        rig.run(&waiting(seconds, lane, 1)).await;
    }
    let due = rig.due().await.unwrap();
    assert!(due <= Duration::from_secs(500) && due > Duration::from_secs(400), "{due:?}");
    rig.run(&waiting(-1, 4, 1)).await;
    assert_eq!(rig.due().await, Some(Duration::ZERO));
    rig.run("UPDATE ergon.queue SET paused = true WHERE name = 'b'").await;
    let due = rig.due().await.unwrap();
    assert!(due <= Duration::from_secs(1_001) && due > Duration::from_secs(900), "{due:?}");
    rig.done().await;
}

#[tokio::test]
async fn the_database_says_which_tasks_are_over() {
    let Some(rig) = Rig::new().await else { return };
    rig.run(NAMES).await;
    let pack = TaskId::from_parts(1_700_000_000_000, 7, 0);
    // Of the tasks 10 to 29, in two rows of `pack`: 10–12 wait, 13 is gone, 14 and 20 run, 15–19
    // completed; 21 failed, 22 is retried, 23 was moved, 24 completed later on, 25–29 wait.
    let tasks = format!(
        "INSERT INTO ergon.pack (pack, run_at, created_at, lane, kind, max_attempts, first, n, late,
           payload)
         SELECT '{pack}', '2024-01-01', now(), 1, 1, 3, first, 10, false, ''
         FROM unnest('{{10,20}}'::int2[]) first;
         INSERT INTO ergon.ready (run_at, pack, lane, kind, attempt, first, n, base, late, own)
         SELECT run_at, '{pack}', lane, 1, 0, first, n, 0, false, own
         FROM (VALUES (timestamptz '2024-01-01', 1, 10::int2, 3::int2, false),
           ('2024-01-01', 1, 25, 5, false), ('2025-01-01', 2, 23, 1, true)) v(run_at, lane, first, n, own);
         INSERT INTO ergon.settled (pack, token, started_at, finished_at, expires_at, lane, first, n,
           base)
         VALUES ('{pack}', 1, now(), now(), now(), 1, 15, 5, 15);
         INSERT INTO ergon.lease (token, part, version, cancels, server, started_at, until, packs,
           firsts, ns)
         VALUES (2, 0, 0, 0, gen_random_uuid(), now(), now(), '{{{pack},{pack}}}', '{{14,20}}', '{{1,1}}');
         INSERT INTO ergon.task (pack, run_at, token, version, lane, attempt, max_attempts,
           crash_count, off, phase, cancel_requested, late)
         SELECT '{pack}', now(), 1, 1, 1, 1, 3, 0, off, phase, false, false
         FROM (VALUES (21::int2, 3::int2), (22, 0), (23, 0), (24, 2)) v(off, phase);",
    );
    rig.run(&tasks).await;
    let ids: Vec<_> = (8..32).map(|offset| pack.with_offset(offset)).collect();
    let mut over = rig.asking.finished(&ids).await.unwrap();
    over.sort_unstable();
    let over: Vec<_> = over.into_iter().map(TaskId::offset).collect();
    assert_eq!(over, [8, 9, 13, 15, 16, 17, 18, 19, 21, 24, 30, 31]);
    let unknown = [TaskId::MIN, pack.with_offset(10), TaskId::MAX];
    assert_eq!(rig.asking.finished(&unknown).await.unwrap(), [TaskId::MIN, TaskId::MAX]);
    rig.done().await;
}
