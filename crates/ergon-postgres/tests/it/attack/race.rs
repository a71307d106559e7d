//! Ids and connections that several want at once.

use super::*;

/// Calls that are sent together may hold the same task: a caller repeated a part of its batch.
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_share_ids_and_a_statement_store_each_task_once() {
    let Some((sandbox, store, pool)) = scene().await else { return };
    store.insert(&pack(1), Now::Store).await.unwrap();
    assert_eq!(claim(&store, 1).await.len(), 1);
    let tasks = pack(4);
    let (one, two) = (pack(1), pack(1));
    let lock = open(&sandbox, &pool, "LOCK TABLE ergon.delta IN ACCESS EXCLUSIVE MODE").await;
    // Two statements are under way, so that the next two calls wait for one of their own.
    let first = store.insert(&one, Now::Store);
    let second = async {
        until_waiting(&sandbox, &pool, 1).await;
        store.insert(&two, Now::Store).await
    };
    let third = async {
        until_waiting(&sandbox, &pool, 2).await;
        tokio::join!(store.insert(&tasks, Now::Store), store.insert(&tasks[1..2], Now::Store))
    };
    let releasing = async {
        until_waiting(&sandbox, &pool, 2).await;
        sleep(Duration::from_millis(100)).await;
        lock.rollback().await.unwrap();
    };
    let (first, second, (all, part), ()) = tokio::join!(first, second, third, releasing);
    assert_eq!((first.unwrap().len(), second.unwrap().len()), (1, 1));
    let created = [all.unwrap(), part.unwrap()].concat();
    assert_eq!(created.iter().filter(|one| **one == Inserted::Created).count(), 4, "{created:?}");
    is_consistent(&sandbox, &pool).await;
    for task in &tasks {
        assert_eq!(state(&store, task.id).await, Some(State::Pending));
    }
    assert_eq!(claim(&store, 100).await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_taken_is_told_within_a_transaction() {
    let Some((_sandbox, store, pool)) = scene().await else { return };
    let client = Client::new(store.clone());
    let id = ids().next_pack(SystemClock.now());
    let one = || client.enqueue_json("k", 1).id(id);
    one().await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    let again = one().in_transaction(&store, &mut transaction).await;
    assert_eq!(again.unwrap().id(), id);
    transaction.commit().await.unwrap();
    assert_eq!(claim(&store, 10).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_ids_of_many_packs_are_stored_together() {
    let Some((sandbox, store, pool)) = scene().await else { return };
    let odd = |_| task(ids().next_pack(SystemClock.now()).with_offset(7));
    let tasks: Vec<NewTask> = (0..10_000).map(odd).collect();
    assert_eq!(store.insert(&tasks, Now::Store).await.unwrap(), vec![Inserted::Created; 10_000]);
    assert_eq!(
        store.insert(&tasks, Now::Store).await.unwrap(),
        vec![Inserted::AlreadyExists; 10_000]
    );
    is_consistent(&sandbox, &pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_durations_are_kept() {
    let Some(sandbox) = support::sandbox() else { return };
    for retention in [Duration::MAX, Duration::from_micros(9_223_372_036_854_775_807)] {
        let options = sandbox.options().retention(Retention::uniform(retention));
        let store = options.connect(&sandbox.url).await.unwrap();
        let mut tasks = pack(2);
        tasks[1].spec.unique = Some(UniqueKey { hash: [9; 32], scope: UniqueScope::UntilFinished });
        store.insert(&tasks, Now::Store).await.unwrap();
        let claimed = store.claim(&request(2).lease(retention)).await.unwrap();
        let all: Vec<Held> = claimed.iter().map(held).collect();
        let reply = store.beat(&Beat::new(SERVER, all).lease(retention)).await.unwrap();
        assert_eq!(reply.lost, []);
        assert_eq!(finish(&store, &claimed, &DONE).await, vec![Verdict::Applied; 2]);
        assert_eq!(state(&store, tasks[0].id).await, Some(State::Completed));
        assert_eq!(state(&store, tasks[1].id).await, Some(State::Completed));
        let ids: Vec<TaskId> = tasks.iter().map(|task| task.id).collect();
        let retried = store.apply(&Selection::Ids(ids), &Command::Retry, Now::Store).await.unwrap();
        assert!(retried.verdicts.iter().all(|(_, verdict)| *verdict == CommandVerdict::Applied));
        let claimed = claim(&store, 2).await;
        assert_eq!(finish(&store, &claimed, &again(retention)).await, vec![Verdict::Applied; 2]);
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_enqueues_for_the_beginning_of_time() {
    let Some((sandbox, store, pool)) = scene().await else { return };
    for run_at in ["-infinity", "4000-01-01 00:00:00+00 BC"] {
        let sql = format!("SELECT {}.enqueue('k', run_at => '{run_at}')::text", sandbox.schema);
        let id: String = sqlx::query(AssertSqlSafe(sql)).fetch_one(&pool).await.unwrap().get(0);
        let id: TaskId = id.parse().unwrap();
        let began = Instant::now();
        store.wait_for_work(&[QueueName::default()], &[kind()], LONG).await;
        assert!(began.elapsed() < LONG, "it is due");
        let cancel = Command::Cancel { reason: "no".to_owned() };
        let applied = store.apply(&Selection::Ids(vec![id]), &cancel, Now::Store).await.unwrap();
        assert_eq!(applied.verdicts, [(id, CommandVerdict::Applied)]);
    }
    is_consistent(&sandbox, &pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_for_text_that_cannot_be_stored_finds_nothing() {
    let Some((_sandbox, store, _pool)) = scene().await else { return };
    store.insert(&pack(1), Now::Store).await.unwrap();
    let mut filter = TaskFilter::default();
    filter.metadata = vec![("k".to_owned(), "\0".to_owned())];
    let page = store.list(&filter, &Page::of(10), Now::Store).await.unwrap();
    assert!(page.tasks.is_empty());
    assert_eq!(store.count(&filter, Now::Store).await.unwrap().value, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_results_are_recorded_whatever_their_number() {
    let Some(sandbox) = support::sandbox() else { return };
    let options = sandbox.options().limits(Limits::CAPS).statement_timeout(LONG * 4);
    let store = options.connect(&sandbox.url).await.unwrap();
    let mut tasks = pack(18);
    for (number, task) in (0_u8..).zip(&mut tasks) {
        task.spec.unique =
            Some(UniqueKey { hash: [number; 32], scope: UniqueScope::UntilFinished });
    }
    store.insert(&tasks, Now::Store).await.unwrap();
    let claimed = claim(&store, 18).await;
    let result = bytes::Bytes::from(vec![b' '; 16 << 20]);
    let verdicts = finish(&store, &claimed, &Conclusion::Complete { result: Some(result) }).await;
    assert_eq!(verdicts, vec![Verdict::Applied; 18]);
}

/// Handlers that each hold a connection of the pool that the store uses, too.
#[tokio::test(flavor = "multi_thread")]
async fn handlers_that_hold_the_whole_pool_can_finish_in_their_transactions() {
    let Some(sandbox) = support::sandbox() else { return };
    let pool = sandbox.pool(2).await;
    let store = sandbox.options().housekeeping(false).from_pool(pool.clone()).await.unwrap();
    store.insert(&pack(3), Now::Store).await.unwrap();
    let claimed = claim(&store, 3).await;
    let (mut a, mut b) = (pool.begin().await.unwrap(), pool.begin().await.unwrap());
    let began = Instant::now();
    let one = store.finish_in_transaction(&mut a, held(&claimed[0]), &()).await;
    assert_eq!(one.unwrap(), Verdict::Applied);
    a.commit().await.unwrap();
    let other = store.finish_in_transaction(&mut b, held(&claimed[1]), &()).await;
    assert_eq!(other.unwrap(), Verdict::Applied);
    b.commit().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5));
}

/// The sessions of an application wait for locks for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_beat_is_answered_while_a_transaction_finishes_a_task_of_a_lent_pool() {
    let Some(sandbox) = support::sandbox() else { return };
    let pool = sandbox.pool(4).await;
    let store = sandbox.options().from_pool(pool.clone()).await.unwrap();
    store.insert(&pack(3), Now::Store).await.unwrap();
    let claimed = claim(&store, 3).await;
    let mut transaction = pool.begin().await.unwrap();
    let done = store.finish_in_transaction(&mut transaction, held(&claimed[0]), &()).await.unwrap();
    assert_eq!(done, Verdict::Applied);
    let all: Vec<Held> = claimed.iter().map(held).collect();
    let reply = store.beat(&Beat::new(SERVER, all)).await.unwrap();
    assert_eq!(reply.lost, []);
    transaction.commit().await.unwrap();
}
