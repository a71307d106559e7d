//! Odd requests and odd sessions.

use super::*;

/// Pages over tasks in rare states show each once, in either order.
#[tokio::test(flavor = "multi_thread")]
async fn pages_show_each_task_once() {
    let Some((_sandbox, store, _pool)) = scene().await else { return };
    for _ in 0..5 {
        store.insert(&pack(20), Now::Store).await.unwrap();
    }
    let claimed = claim(&store, 30).await;
    finish(&store, &claimed[..10], &DONE).await;
    finish(&store, &claimed[10..15], &again(LONG * 100)).await;
    let stop = Command::Cancel { reason: String::new() };
    let waiting = Selection::Matching { filter: TaskFilter::default(), limit: 7 };
    store.apply(&waiting, &stop, Now::Store).await.unwrap();
    for states in
        [vec![], vec![State::Running], vec![State::Pending, State::Retrying, State::Cancelled]]
    {
        for order in [Order::OldestFirst, Order::NewestFirst] {
            let mut filter = TaskFilter::default();
            filter.states = states.iter().copied().collect();
            let expected = store.count(&filter, Now::Store).await.unwrap().value;
            for limit in [1, 3, 1_000] {
                let (mut page, mut seen) = (Page::of(limit).order(order), Vec::new());
                loop {
                    let read = store.list(&filter, &page, Now::Store).await.unwrap();
                    seen.extend(read.tasks.iter().map(|task| task.id));
                    let Some(next) = read.next else { break };
                    page = page.after(next);
                }
                assert_eq!(
                    u64::try_from(seen.len()).unwrap(),
                    expected,
                    "{states:?} {order:?} {limit}"
                );
                assert!(seen.is_sorted_by(|one, next| match order {
                    Order::OldestFirst => one < next,
                    Order::NewestFirst => one > next,
                }));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rescue_gets_past_a_thousand_leases() {
    let Some((sandbox, store, pool)) = scene().await else { return };
    store.insert(&pack(1_200), Now::Store).await.unwrap();
    for _ in 0..1_200 {
        let lease = Duration::from_micros(1);
        assert_eq!(store.claim(&request(1).lease(lease)).await.unwrap().len(), 1);
    }
    let mut done = 0;
    loop {
        let report = store.rescue_expired(&RescueRequest::default()).await.unwrap();
        done += report.done;
        if !report.more {
            break;
        }
    }
    assert_eq!(done, 1_200);
    is_consistent(&sandbox, &pool).await;
}

/// Four workers claim and finish until nothing is left; answers how many tasks they finished.
async fn work_off(store: &PostgresStore) -> usize {
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = store.clone();
        workers.spawn(async move {
            let mut mine = 0;
            let mut idle = 0;
            while idle < 10 {
                match store.claim(&request(7)).await {
                    Ok(claimed) if claimed.is_empty() => idle += 1,
                    Ok(claimed) => {
                        mine += claimed.len();
                        loop {
                            let outcomes: Vec<_> =
                                claimed.iter().map(|task| outcome(task, DONE)).collect();
                            match store.finish(&outcomes, Now::Store).await {
                                Ok(_) => break,
                                Err(error) => assert!(error.is_transient(), "{error:?}"),
                            }
                        }
                    }
                    Err(error) => assert!(error.is_transient(), "{error:?}"),
                }
            }
            mine
        });
    }
    workers.join_all().await.into_iter().sum()
}

/// What the sessions of an application are set to changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_settings_of_lent_sessions_do_not_matter() {
    let Some(sandbox) = support::sandbox() else { return };
    let settings = [
        ("search_path", "nowhere"),
        ("default_transaction_isolation", "serializable"),
        ("default_transaction_deferrable", "on"),
        ("TimeZone", "Asia/Kolkata"),
        ("DateStyle", "German"),
        ("IntervalStyle", "sql_standard"),
        ("bytea_output", "escape"),
        ("extra_float_digits", "-15"),
        ("array_nulls", "off"),
        ("standard_conforming_strings", "off"),
        ("quote_all_identifiers", "on"),
        ("statement_timeout", "20s"),
        ("lock_timeout", "100ms"),
    ];
    let connect: sqlx::postgres::PgConnectOptions = sandbox.url.parse().unwrap();
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(6);
    let pool = pool.connect_with(connect.options(settings)).await.unwrap();
    let options = sandbox.options().housekeeping(false);
    let store = options.from_pool(pool.clone()).await.unwrap();
    let partitions = "SELECT count(*) FROM ergon.partition";
    assert_eq!(number(&sandbox, &pool, partitions).await, 2);
    let mut tasks = pack(40);
    for task in &mut tasks {
        task.spec.metadata = [("quo'te\\".to_owned(), "\\x41 \u{1}'\"\u{1f600}".to_owned())].into();
        task.spec.tags = vec![ergon_core::Tag::new("a\\'b\",{}").unwrap()];
    }
    tasks[3].spec.unique = Some(UniqueKey { hash: [0x5c; 32], scope: UniqueScope::UntilStarted });
    store.insert(&tasks, Now::Store).await.unwrap();
    let claimed = claim(&store, 40).await;
    assert_eq!(
        claimed.iter().map(|task| &task.spec).collect::<Vec<_>>(),
        tasks.iter().map(|task| &task.spec).collect::<Vec<_>>()
    );
    let result = bytes::Bytes::from_static(b"\\x00\0\xff'");
    let complete = Conclusion::Complete { result: Some(result.clone()) };
    finish(&store, &claimed[..10], &complete).await;
    let error = Conclusion::Fail { kind: ErrorKind::Error, error: "\\u0000 \0 '\"\\x".to_owned() };
    finish(&store, &claimed[10..20], &error).await;
    finish(&store, &claimed[20..30], &again(Duration::ZERO)).await;
    let second = claim(&store, 10).await;
    assert_eq!(second.len(), 10);
    assert_eq!(finish(&store, &second, &complete).await, vec![Verdict::Applied; 10]);
    let mut filter = TaskFilter::all();
    filter.metadata = tasks[0].spec.metadata.clone().into_iter().collect();
    filter.tags = tasks[0].spec.tags.clone();
    let page = store.list(&filter, &Page::of(100), Now::Store).await.unwrap();
    assert_eq!(page.tasks.len(), 40);
    let results = page.tasks.iter().filter(|task| task.progress.result.as_ref() == Some(&result));
    assert_eq!(results.count(), 20);
    store.housekeep().await.unwrap();
    is_consistent(&sandbox, &pool).await;
    assert_eq!(number(&sandbox, &pool, partitions).await, 2);
    // Those who claim at once take each other's place, but nothing else happens.
    store.insert(&pack(400), Now::Store).await.unwrap();
    let done = work_off(&store).await;
    assert!(done == 400, "{done}");
    is_consistent(&sandbox, &pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_kinds_and_every_priority_are_served() {
    let Some((sandbox, store, pool)) = scene().await else { return };
    let mut tasks = pack(4_000);
    for (number, task) in tasks.iter_mut().enumerate() {
        task.spec.kind = KindName::new(format!("kind.{number}")).unwrap();
        task.priority = [i16::MIN, -1, 0, i16::MAX][number % 4];
        task.run_at = ergon_core::RunAt::At([jiff::Timestamp::MIN, SystemClock.now()][number % 2]);
    }
    store.insert(&tasks, Now::Store).await.unwrap();
    let kinds: Vec<KindName> =
        (0..10_000).map(|number| KindName::new(format!("kind.{number}")).unwrap()).collect();
    let queue = QueueSlots { queue: QueueName::default(), slots: 10_000 };
    let claimed = store.claim(&ClaimRequest::new(SERVER, kinds, [queue])).await.unwrap();
    assert_eq!(claimed.len(), 4_000);
    assert!(claimed.is_sorted_by(|one, next| one.priority >= next.priority));
    assert_eq!(finish(&store, &claimed[..2_000], &DONE).await, vec![Verdict::Applied; 2_000]);
    let retried = finish(&store, &claimed[2_000..], &again(Duration::ZERO)).await;
    assert_eq!(retried, vec![Verdict::Applied; 2_000]);
    is_consistent(&sandbox, &pool).await;
}
