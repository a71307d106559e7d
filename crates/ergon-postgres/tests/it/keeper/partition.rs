//! Partitions of payloads: made ahead, and dropped when nothing lives in them. No payload is lost.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use ergon_core::{
    ClaimedTask, Command, Conclusion, ErrorKind, NewTask, Now, RunAt, Selection, State, TaskId,
    UniqueKey, UniqueScope,
    store::{
        Control as _, Dispatch as _, Enqueue as _, Inserted, Inspect as _, Maintain as _,
        PruneRequest,
    },
};
use ergon_postgres::PostgresStore;
use sqlx::PgPool;

use super::{HOUR, OLD_MILLIS, claim, finish, number, old_id, quiet, sql, task};
use crate::support::Sandbox;

/// Makes a partition for the first hours of 2024.
async fn old_partition(sandbox: &Sandbox) {
    let hours = 3_600_000;
    let (low, high) = (OLD_MILLIS / hours * hours, (OLD_MILLIS / hours + 24) * hours);
    sandbox
        .run(&format!(
            "CREATE TABLE ergon.pack_old PARTITION OF ergon.pack FOR VALUES \
             FROM ('{low:012x}00000000000000000000') TO ('{high:012x}00000000000000000000')"
        ))
        .await;
}

async fn has_old_partition(sandbox: &Sandbox, pool: &PgPool) -> bool {
    number(sandbox, pool, "SELECT count(*) FROM ergon.partition WHERE name = 'pack_old'").await > 0
}

/// Removes all finished tasks that do not say how long they are kept.
async fn prune(store: &PostgresStore) {
    let later = Now::At(ergon_core::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 30));
    while store.prune(&PruneRequest::default().now(later)).await.unwrap().more {}
}

/// Every one of these tasks exists with its payload.
async fn all_are_whole(store: &PostgresStore, ids: &[TaskId]) {
    let found = store.tasks(ids, Now::Store).await.unwrap();
    for (id, found) in ids.iter().zip(found) {
        let found = found.unwrap_or_else(|| unreachable!("{id} is gone"));
        assert_eq!(found.spec.payload, format!("\"{id}\""));
    }
}

fn are_whole(claimed: &[ClaimedTask]) {
    for task in claimed {
        assert_eq!(task.spec.payload, format!("\"{}\"", task.id));
    }
}

const RETRY: Conclusion = Conclusion::Retry {
    delay: Duration::from_secs(3600),
    kind: ErrorKind::Error,
    error: String::new(),
};

#[tokio::test]
async fn a_fresh_store_has_partitions_and_its_tasks_are_in_them() {
    let Some((sandbox, store, pool)) = quiet().await else { return };
    let now = ergon_core::Timestamp::now();
    let millis = u64::try_from(now.as_millisecond()).unwrap();
    let tasks: Vec<NewTask> =
        (0..3).map(|n| task(TaskId::from_parts(millis + n * 86_400_000, 1, 0))).collect();
    store.insert(&tasks, Now::Store).await.unwrap();
    assert_eq!(number(&sandbox, &pool, "SELECT count(*) FROM ergon.partition").await, 2);
    // That of the day after tomorrow is to be made yet.
    assert_eq!(number(&sandbox, &pool, "SELECT count(*) FROM ergon.pack_default").await, 1);
    assert_eq!(store.housekeep().await.unwrap(), {
        let mut none = store.housekeep().await.unwrap();
        none.folded = 1;
        none
    });
}

#[tokio::test]
async fn partitions_are_made_ahead_unless_the_default_one_holds_rows_of_them() {
    let Some((sandbox, store, pool)) = quiet().await else { return };
    let drop_all = "DO $$ DECLARE p record; BEGIN FOR p IN SELECT name FROM ergon.partition LOOP \
                    EXECUTE format('DROP TABLE ergon.%I', p.name); END LOOP; END $$";
    sandbox.run(drop_all).await;
    let millis = u64::try_from(ergon_core::Timestamp::now().as_millisecond()).unwrap();
    let id = TaskId::from_parts(millis, 1, 0);
    store.insert(&[task(id)], Now::Store).await.unwrap();
    assert_eq!(store.housekeep().await.unwrap().made, 1);
    let names = "SELECT count(*) FROM ergon.partition p \
                 WHERE p.low = ergon.pack_bound(date_trunc('day', now(), 'UTC') + interval '1 day') \
                 AND p.high = ergon.pack_bound(date_trunc('day', now(), 'UTC') + interval '2 days')";
    assert_eq!(number(&sandbox, &pool, names).await, 1);
    all_are_whole(&store, &[id]).await;

    // Another span begins where the old ones end.
    sandbox.run(drop_all).await;
    sandbox.run("DELETE FROM ergon.ready; DELETE FROM ergon.pack").await;
    let options = sandbox.options().housekeeping(false);
    let hours = options.clone().partition_span(HOUR).connect(&sandbox.url).await.unwrap();
    assert_eq!(hours.housekeep().await.unwrap().made, 2);
    let days = store.housekeep().await.unwrap().made;
    assert!((1..=2).contains(&days), "{days}");
    assert_eq!(store.housekeep().await.unwrap().made, 0);
    let gaps = "SELECT count(*) FROM (SELECT low, lag(high) OVER (ORDER BY low) AS before \
                FROM ergon.partition) x WHERE before <> low";
    assert_eq!(number(&sandbox, &pool, gaps).await, 0);
}

/// Tasks in every state in which one lives, by state, in an old partition.
async fn one_of_each(store: &PostgresStore) -> (BTreeMap<&'static str, TaskId>, Vec<ClaimedTask>) {
    let id = |number: u64| old_id(number * 1_000);
    let mut scheduled = task(id(1));
    scheduled.run_at = RunAt::After(HOUR * 24 * 365);
    let mut unique = task(id(2));
    unique.run_at = RunAt::After(HOUR);
    unique.spec.unique = Some(UniqueKey { hash: [7; 32], scope: UniqueScope::UntilFinished });
    store.insert(&[scheduled, unique], Now::Store).await.unwrap();
    let finish_one = async |number: u64, conclusion: Conclusion| {
        let mut task = task(id(number));
        task.spec.retention = Some(HOUR * 24 * 365);
        store.insert(&[task], Now::Store).await.unwrap();
        let claimed = store.claim(&claim(1)).await.unwrap();
        assert_eq!(claimed.len(), 1);
        finish(store, &claimed, conclusion).await;
    };
    finish_one(3, RETRY).await;
    let failure = Conclusion::Fail { kind: ErrorKind::Error, error: "broken".to_owned() };
    finish_one(4, failure).await;
    finish_one(5, Conclusion::Complete { result: Some("1".into()) }).await;
    finish_one(6, Conclusion::Snooze { delay: HOUR }).await;
    store.insert(&[task(id(7))], Now::Store).await.unwrap();
    let running = store.claim(&claim(1).lease(HOUR)).await.unwrap();
    // A pack of which some tasks were deleted, some wait.
    let pack: Vec<NewTask> = (8_000..8_100).map(|number| task(old_id(number))).collect();
    store.insert(&pack, Now::Store).await.unwrap();
    let deleted = (8_000..8_099).map(old_id).collect();
    store.apply(&Selection::Ids(deleted), &Command::Delete, Now::Store).await.unwrap();
    // And enough that is gone.
    let gone: Vec<NewTask> = (20_000..21_000).map(|number| task(old_id(number * 10))).collect();
    store.insert(&gone, Now::Store).await.unwrap();
    let gone: Vec<TaskId> = gone.iter().map(|task| task.id).collect();
    store.apply(&Selection::Ids(gone), &Command::Delete, Now::Store).await.unwrap();
    let living = [
        ("scheduled", id(1)),
        ("unique", id(2)),
        ("retrying", id(3)),
        ("failed", id(4)),
        ("completed", id(5)),
        ("snoozed", id(6)),
        ("running", id(7)),
        ("left", old_id(8_099)),
    ];
    (living.into(), running)
}

#[tokio::test]
async fn what_lives_longer_than_its_partition_keeps_its_payload() {
    let Some((sandbox, store, pool)) = quiet().await else { return };
    old_partition(&sandbox).await;
    let (living, running) = one_of_each(&store).await;
    let ids: Vec<TaskId> = living.values().copied().collect();
    let before = store.tasks(&ids, Now::Store).await.unwrap();
    let done = store.housekeep().await.unwrap();
    assert_eq!((done.dropped, done.moved, done.postponed), (1, 8, 0));
    assert!(!has_old_partition(&sandbox, &pool).await);
    assert_eq!(number(&sandbox, &pool, "SELECT count(*) FROM ergon.pack").await, 8);
    all_are_whole(&store, &ids).await;
    assert_eq!(store.tasks(&ids, Now::Store).await.unwrap(), before);

    // All of them go on.
    finish(&store, &running, Conclusion::Complete { result: None }).await;
    let again = ["scheduled", "unique", "retrying", "failed", "completed", "snoozed"];
    let again: Vec<TaskId> = again.iter().map(|name| living[name]).collect();
    store.apply(&Selection::Ids(again.clone()), &Command::Retry, Now::Store).await.unwrap();
    let claimed = store.claim(&claim(100)).await.unwrap();
    are_whole(&claimed);
    let mut taken: Vec<TaskId> = claimed.iter().map(|task| task.id).collect();
    taken.sort_unstable();
    assert_eq!(taken, [&again[..], &[living["left"]]].concat());
    let mut second = task(old_id(9_000));
    second.spec.unique = Some(UniqueKey { hash: [7; 32], scope: UniqueScope::UntilFinished });
    let inserted = store.insert(&[second], Now::Store).await.unwrap();
    assert_eq!(inserted, [Inserted::Duplicate { of: living["unique"] }]);
}

#[tokio::test]
async fn a_partition_in_which_much_lives_stays() {
    let Some((sandbox, store, pool)) = quiet().await else { return };
    old_partition(&sandbox).await;
    let at = |number: u64| RunAt::After(HOUR + Duration::from_secs(number));
    let mut tasks: Vec<NewTask> = (0..1_001).map(|number| task(old_id(number * 1_000))).collect();
    for (task, number) in tasks.iter_mut().zip(0..) {
        task.run_at = at(number);
    }
    store.insert(&tasks, Now::Store).await.unwrap();
    let done = store.housekeep().await.unwrap();
    assert_eq!((done.dropped, done.moved), (0, 0));
    assert!(has_old_partition(&sandbox, &pool).await);
    let one = Selection::Ids(vec![tasks[0].id]);
    store.apply(&one, &Command::Delete, Now::Store).await.unwrap();
    let done = store.housekeep().await.unwrap();
    assert_eq!((done.dropped, done.moved), (1, 1_000));
    let left: Vec<TaskId> = tasks[1..].iter().map(|task| task.id).collect();
    all_are_whole(&store, &left).await;
}

#[tokio::test]
async fn what_is_inserted_after_a_partition_was_sealed_is_moved() {
    let Some((sandbox, store, pool)) = quiet().await else { return };
    old_partition(&sandbox).await;
    store.insert(&[task(old_id(1))], Now::Store).await.unwrap();
    store.insert(&[task(old_id(5_000))], Now::Store).await.unwrap();
    sandbox.run("SELECT ergon.partition_seal('pack_old')").await;
    // A second one in a pack, and one whose task was deleted, and is enqueued again.
    store.insert(&[task(old_id(2))], Now::Store).await.unwrap();
    let gone = Selection::Ids(vec![old_id(5_000)]);
    store.apply(&gone, &Command::Delete, Now::Store).await.unwrap();
    store.insert(&[task(old_id(5_000))], Now::Store).await.unwrap();
    let done = store.housekeep().await.unwrap();
    assert_eq!((done.dropped, done.moved), (1, 3));
    all_are_whole(&store, &[old_id(1), old_id(2), old_id(5_000)]).await;
    assert_eq!(number(&sandbox, &pool, "SELECT count(*) FROM ergon.revived").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_inserted_while_a_drop_waits_for_its_lock_is_moved() {
    let Some((sandbox, store, pool)) = quiet().await else { return };
    old_partition(&sandbox).await;
    sandbox.run("SELECT ergon.partition_seal('pack_old')").await;
    let mut inserted = Vec::new();
    loop {
        // Somebody is in a transaction that used the table.
        let mut other = pool.begin().await.unwrap();
        let lock = sql(&sandbox, "LOCK TABLE ergon.pack IN ROW EXCLUSIVE MODE");
        sqlx::query(lock).execute(&mut *other).await.unwrap();
        let id = old_id(1_000 * (1 + inserted.len() as u64));
        let insert = async {
            let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted \
                         AND relation = 'ergon.pack'::regclass AND mode = 'AccessExclusiveLock'";
            while number(&sandbox, &pool, waits).await == 0 {}
            let insert = format!(
                "WITH p AS (INSERT INTO ergon.pack (pack, run_at, created_at, lane, kind, \
                 max_attempts, first, n, late, payload) VALUES ('{id}', now(), now(), l, k, 1, 0, 1, \
                 true, '\"{id}\"') RETURNING *) INSERT INTO ergon.ready (run_at, pack, lane, kind, \
                 attempt, first, n, base, late, own) SELECT run_at, pack, lane, kind, 0, 0, 1, 0, true, \
                 false FROM p"
            );
            let names = "(SELECT id FROM ergon.lane LIMIT 1), (SELECT id FROM ergon.kind LIMIT 1)";
            let insert = insert.replace("l, k", names);
            sqlx::query(sql(&sandbox, &insert)).execute(&mut *other).await.unwrap();
            other.commit().await.unwrap();
        };
        // So that there are names.
        if inserted.is_empty() {
            let mut first = task(TaskId::from_parts(1, 1, 0));
            first.run_at = RunAt::After(HOUR);
            store.insert(&[first], Now::Store).await.unwrap();
        }
        let (done, ()) = tokio::join!(store.housekeep(), insert);
        inserted.push(id);
        let done = done.unwrap();
        if done.dropped > 0 {
            assert_eq!(done.moved, inserted.len() as u64);
            break;
        }
        assert_eq!(done.postponed, 1);
    }
    assert!(!has_old_partition(&sandbox, &pool).await);
    let claimed = store.claim(&claim(100)).await.unwrap();
    assert_eq!(claimed.iter().map(|task| task.id).collect::<Vec<_>>(), inserted);
    are_whole(&claimed);
}

/// Makes a partition for old ids, which nothing keeps from being dropped but its tasks.
async fn make_old_partition(sandbox: &Sandbox, pool: &PgPool) -> Result<(), sqlx::Error> {
    let make = "CREATE TABLE ergon.pack_old PARTITION OF ergon.pack FOR VALUES FROM \
                ('018cc251-f400-0000-0000-000000000000') TO ('018cc778-5000-0000-0000-000000000000')";
    sqlx::query(sql(sandbox, make)).execute(pool).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_are_inserted_and_claimed_while_their_partitions_are_dropped() {
    const TASKS: u64 = 2_000;
    let Some((sandbox, store, pool)) = quiet().await else { return };
    let (taken, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let produce = async {
        for number in 0..TASKS / 4 {
            let batch: Vec<NewTask> =
                (0..4).map(|offset| task(old_id(number * 1_000 + offset))).collect();
            store.insert(&batch, Now::Store).await.unwrap();
        }
    };
    let consume = async {
        while taken.load(Ordering::Relaxed) < TASKS {
            let claimed = store.claim(&claim(7)).await.unwrap();
            are_whole(&claimed);
            let (retried, completed) = claimed.split_at(claimed.len() / 3);
            finish(&store, completed, Conclusion::Complete { result: None }).await;
            let retry = Conclusion::Snooze { delay: Duration::ZERO };
            finish(&store, retried, retry).await;
            taken.fetch_add(completed.len() as u64, Ordering::Relaxed);
            prune(&store).await;
        }
        is_over.store(true, Ordering::Relaxed);
    };
    // Made before the first row is in `pack_default`: there would be none to drop otherwise.
    make_old_partition(&sandbox, &pool).await.unwrap();
    let mut dropped = 0;
    let keep = async {
        while !is_over.load(Ordering::Relaxed) {
            for _ in 0..5 {
                dropped += store.housekeep().await.unwrap().dropped;
            }
            // It is refused while `pack_default` holds some of its rows.
            make_old_partition(&sandbox, &pool).await.ok();
        }
    };
    tokio::join!(produce, consume, keep);
    prune(&store).await;
    // On a busy machine every drop may have been put off until now.
    while has_old_partition(&sandbox, &pool).await {
        dropped += store.housekeep().await.unwrap().dropped;
    }
    assert!(dropped > 0, "no partition was made in which anything could be dropped");
    assert_eq!(store.claim(&claim(1)).await.unwrap(), []);
    assert_eq!(super::total(&store).await, 0);
}

#[tokio::test]
async fn the_default_partition_is_swept_of_what_is_gone_alone() {
    let Some((sandbox, store, pool)) = quiet().await else { return };
    let (living, running) = one_of_each(&store).await;
    let ids: Vec<TaskId> = living.values().copied().collect();
    // Long runs of ids, in several rows, of which the middle is gone.
    let run: Vec<NewTask> = (40_000..40_600).map(|number| task(old_id(number))).collect();
    for part in run.chunks(200) {
        store.insert(part, Now::Store).await.unwrap();
    }
    let middle = run[150..450].iter().map(|task| task.id).collect();
    store.apply(&Selection::Ids(middle), &Command::Delete, Now::Store).await.unwrap();
    let before = number(&sandbox, &pool, "SELECT count(*) FROM ergon.pack_default").await;
    let swept = store.housekeep().await.unwrap().swept;
    let after = number(&sandbox, &pool, "SELECT count(*) FROM ergon.pack_default").await;
    assert_eq!(before - after, i64::try_from(swept).unwrap());
    assert_eq!(after, 8 + 2);
    all_are_whole(&store, &ids).await;
    let ends = [&run[..150], &run[450..]].concat();
    all_are_whole(&store, &ends.iter().map(|task| task.id).collect::<Vec<_>>()).await;
    assert_eq!(store.housekeep().await.unwrap().swept, 0);

    // Once all is finished and pruned, nothing is left.
    finish(&store, &running, Conclusion::Complete { result: None }).await;
    let waiting = [&ids[..], &ends.iter().map(|task| task.id).collect::<Vec<_>>()].concat();
    store.apply(&Selection::Ids(waiting), &Command::Delete, Now::Store).await.unwrap();
    store.housekeep().await.unwrap();
    assert_eq!(number(&sandbox, &pool, "SELECT count(*) FROM ergon.pack_default").await, 0);
    assert_eq!(store.tasks(&ids, Now::Store).await.unwrap(), vec![None; ids.len()]);
}

#[tokio::test]
async fn many_deleted_rows_are_swept_in_batches() {
    let Some((sandbox, store, pool)) = quiet().await else { return };
    let mut gone = Vec::new();
    for batch in 0..5_u64 {
        let tasks: Vec<NewTask> =
            (0..1_000).map(|number| task(old_id((batch * 1_000 + number) * 1_000))).collect();
        store.insert(&tasks, Now::Store).await.unwrap();
        gone.extend(tasks.iter().map(|task| task.id));
    }
    let kept = gone.split_off(4_990);
    let selection = Selection::Ids(gone);
    store.apply(&selection, &Command::Delete, Now::Store).await.unwrap();
    assert_eq!(store.housekeep().await.unwrap().swept, 4_990);
    assert_eq!(number(&sandbox, &pool, "SELECT count(*) FROM ergon.pack_default").await, 10);
    all_are_whole(&store, &kept).await;
    let claimed = store.claim(&claim(100)).await.unwrap();
    are_whole(&claimed);
    assert_eq!(claimed.len(), 10);
    let states = store.tasks(&kept, Now::Store).await.unwrap();
    assert!(states.into_iter().flatten().all(|task| task.state == State::Running));
}
