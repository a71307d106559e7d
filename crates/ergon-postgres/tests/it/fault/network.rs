//! Networks that swallow, delay and cut.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use ergon_cluster::Settings;
use ergon_core::{
    Command, CommandVerdict, Conclusion, ErrorKind, NewTask, Now, Outcome, Page, QueueName,
    Selection, StoreError, TaskFilter, UniqueKey, UniqueScope, Verdict,
    store::{
        Beat, Control as _, Dispatch as _, Enqueue as _, Held, Inserted, Inspect as _,
        Maintain as _, PruneRequest, QueueChange, RescueRequest,
    },
};
use ergon_postgres::PostgresStore;
use futures_util::future::join_all;
use tokio::task::JoinSet;

use super::{
    LONG, Site, claim, completed, healed, is_consistent, kind, millis, options, pack, pause,
    proxy::{End, Flow, Proxy},
    server, site, tasks, unavailable,
};

const DEADLINE: Duration = Duration::from_secs(1);

/// The deadline, and what a busy machine may add.
const LIMIT: Duration = Duration::from_millis(1_900);

/// A store behind a proxy.
async fn proxied() -> Option<(Site, Proxy, PostgresStore)> {
    let site = site(Settings::default()).await?;
    let proxy = Proxy::start(site.port()).await;
    // Nobody but the test says anything.
    let options = options().statement_timeout(DEADLINE).housekeeping(false);
    let store = options.connect(&proxy.url()).await.unwrap();
    Some((site, proxy, store))
}

fn unique(mut tasks: Vec<NewTask>) -> Vec<NewTask> {
    for (at, task) in (0..).zip(&mut tasks) {
        let mut hash = [at; 32];
        hash[..16].copy_from_slice(&task.id.as_u128().to_be_bytes());
        task.spec.unique = Some(UniqueKey { hash, scope: UniqueScope::UntilFinished });
    }
    tasks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_insert_whose_reply_was_lost_is_repeated_without_a_second_task() {
    let Some((site, proxy, store)) = proxied().await else { return };
    store.insert(&tasks(1), Now::Store).await.unwrap();
    let old = pack(5);
    store.insert(&old[..2], Now::Store).await.unwrap();
    let mut stored = BTreeSet::from([old[0].id, old[1].id]);
    let insert = "INSERT INTO \"ergon\".pack";
    let cases = [
        (insert, 0, tasks(3)),
        (insert, 0, pack(100)),
        // The first with this in it begins the transaction: READ COMMITTED.
        ("COMMIT", 1, unique(tasks(2))),
        // Taken in part already, so that it goes the careful way.
        ("COMMIT", 1, old),
    ];
    for (at, (marker, answered, tasks)) in cases.into_iter().enumerate() {
        proxy.lose_reply_behind(answered, marker);
        let lost = store.insert(&tasks, Now::Store).await;
        assert_eq!(proxy.lost_replies(), at + 1, "{lost:?}");
        assert!(matches!(lost, Err(StoreError::Unavailable { .. })), "{lost:?}");
        let again = healed(|| store.insert(&tasks, Now::Store)).await;
        assert_eq!(again, vec![Inserted::AlreadyExists; tasks.len()]);
        stored.extend(tasks.iter().map(|task| task.id));
        let expected = i64::try_from(stored.len() + 1).unwrap();
        assert_eq!(site.number("SELECT sum(n) FROM ergon.pack"), expected);
    }
    is_consistent(&site, &store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finish_whose_reply_was_lost_is_repeated_without_effect() {
    let Some((site, proxy, store)) = proxied().await else { return };
    let (delay, kind) = (Duration::ZERO, ErrorKind::Error);
    let (error, reason) = (String::new(), String::new());
    let conclusions = [
        Conclusion::Complete { result: None },
        Conclusion::Complete { result: Some("{}".into()) },
        Conclusion::Retry { delay, kind, error: error.clone() },
        Conclusion::Fail { kind, error },
        Conclusion::Cancel { reason },
        Conclusion::Snooze { delay },
        Conclusion::Release,
    ];
    for (at, conclusion) in conclusions.into_iter().enumerate() {
        store.insert(&pack(4), Now::Store).await.unwrap();
        let claimed = store.claim(&claim(1, 4, LONG)).await.unwrap();
        let outcome = |task: &ergon_core::ClaimedTask| Outcome {
            id: task.id,
            token: task.token,
            conclusion: conclusion.clone(),
        };
        // Some of a lease, and then what is left of it.
        let outcomes: Vec<Outcome> = claimed.iter().map(outcome).collect();
        for (part, outcomes) in outcomes.chunks(3).enumerate() {
            proxy.lose_reply_of("INSERT INTO \"ergon\".settled");
            let lost = store.finish(outcomes, Now::Store).await;
            assert_eq!(proxy.lost_replies(), 2 * at + part + 1, "{conclusion:?}: {lost:?}");
            assert!(matches!(lost, Err(StoreError::Unavailable { .. })), "{lost:?}");
            let again = healed(|| store.finish(outcomes, Now::Store)).await;
            let expected = vec![Verdict::AlreadyApplied; outcomes.len()];
            assert_eq!(again, expected, "{conclusion:?}");
        }
        is_consistent(&site, &store).await;
        drained(&store).await;
    }
}

/// Finishes whatever is due.
async fn drained(store: &PostgresStore) {
    loop {
        let claimed = store.claim(&claim(1, 100, LONG)).await.unwrap();
        if claimed.is_empty() {
            return;
        }
        let verdicts = store.finish(&completed(&claimed), Now::Store).await.unwrap();
        assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Applied), "{verdicts:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_a_beat_or_a_command_whose_reply_was_lost_harms_nobody() {
    let Some((site, proxy, store)) = proxied().await else { return };
    store.insert(&pack(6), Now::Store).await.unwrap();
    proxy.lose_reply_of("nextval('\"ergon\".token')");
    let lost = store.claim(&claim(1, 6, millis(300))).await;
    assert!(matches!(lost, Err(StoreError::Unavailable { .. })), "{lost:?}");
    assert_eq!(proxy.lost_replies(), 1);
    let request = claim(1, 6, LONG);
    assert_eq!(healed(|| store.claim(&request)).await.len(), 0);
    pause(millis(350)).await;
    assert_eq!(store.rescue_expired(&RescueRequest::default()).await.unwrap().done, 6);
    let claimed = store.claim(&claim(1, 6, LONG)).await.unwrap();
    assert_eq!(claimed.iter().map(|task| task.crash_count).collect::<Vec<_>>(), [1; 6]);

    let held = claimed.iter().map(|task| Held { id: task.id, token: task.token }).collect();
    let beat = Beat::new(server(1), held);
    proxy.lose_reply_of("SET until = ");
    assert!(store.beat(&beat).await.is_err());
    assert_eq!(proxy.lost_replies(), 2);
    assert_eq!(healed(|| store.beat(&beat)).await, ergon_core::store::BeatReply::default());
    // A part of a lease, which is split for it.
    let part = Beat::new(server(1), beat.held[..2].to_vec());
    proxy.lose_reply_of("SELECT old.token, nextval(");
    assert!(store.beat(&part).await.is_err());
    assert_eq!(proxy.lost_replies(), 3);
    assert_eq!(healed(|| store.beat(&part)).await, ergon_core::store::BeatReply::default());

    let waiting = tasks(2);
    store.insert(&waiting, Now::Store).await.unwrap();
    let commands = [
        (claimed[3].id, Command::Cancel { reason: String::new() }, CommandVerdict::Unchanged),
        (waiting[0].id, Command::SetPriority { priority: 5 }, CommandVerdict::Unchanged),
        (waiting[1].id, Command::Cancel { reason: String::new() }, CommandVerdict::Unchanged),
        (waiting[1].id, Command::Delete, CommandVerdict::NotFound),
    ];
    for (at, (id, command, again)) in commands.into_iter().enumerate() {
        let selection = Selection::Ids(vec![id]);
        proxy.lose_reply_of("task_new AS");
        assert!(store.apply(&selection, &command, Now::Store).await.is_err());
        assert_eq!(proxy.lost_replies(), 4 + at);
        let applied = healed(|| store.apply(&selection, &command, Now::Store)).await;
        assert_eq!(applied.verdicts, [(id, again)], "{command:?}");
    }
    let verdicts = store.finish(&completed(&claimed), Now::Store).await.unwrap();
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Applied).count(), 5);
    is_consistent(&site, &store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_claimed_is_answered_though_the_rest_of_the_claim_is_lost() {
    let Some((site, proxy, store)) = proxied().await else { return };
    store.insert(&tasks(10), Now::Store).await.unwrap();
    let mut request = claim(1, 4, LONG);
    // A queue that stands twice is asked by two statements.
    request.queues.push(request.queues[0].clone());
    request.limit = 8;
    proxy.lose_reply_behind(1, "nextval('\"ergon\".token')");
    let claimed = store.claim(&request).await.unwrap();
    assert_eq!((claimed.len(), proxy.lost_replies()), (4, 1));
    let verdicts = healed(|| async { store.finish(&completed(&claimed), Now::Store).await }).await;
    assert_eq!(verdicts, [Verdict::Applied; 4]);
    is_consistent(&site, &store).await;
}

/// Calls every method; each has to say that the store is unavailable, by its deadline.
async fn nothing_answers(store: &PostgresStore, queue: &str) {
    let mut fresh = tasks(1);
    fresh[0].spec.queue = QueueName::new(queue).unwrap();
    let (filter, ids) = (TaskFilter::all(), [fresh[0].id]);
    let selection = Selection::Ids(ids.to_vec());
    let held = vec![Held { id: ids[0], token: ergon_core::Token::new(1) }];
    let outcomes =
        [Outcome { id: ids[0], token: ergon_core::Token::new(1), conclusion: Conclusion::Release }];
    let (uniques, many, counted) = (unique(tasks(1)), pack(70), filter.clone().kind(kind()));
    let (request, beat, queue) =
        (claim(1, 1, LONG), Beat::new(server(1), held), fresh[0].spec.queue.clone());
    let (rescue, prune) = (RescueRequest::default(), PruneRequest::default());
    let (page, resume) = (Page::of(10), QueueChange::resume());
    tokio::join!(
        unavailable("insert", LIMIT, store.insert(&fresh, Now::Store)),
        unavailable("insert many", LIMIT, store.insert(&many, Now::Store)),
        unavailable("insert unique", LIMIT, store.insert(&uniques, Now::Store)),
        unavailable("claim", LIMIT, store.claim(&request)),
        unavailable("finish", LIMIT, store.finish(&outcomes, Now::Store)),
    );
    tokio::join!(
        unavailable("beat", LIMIT, store.beat(&beat)),
        unavailable("rescue", LIMIT, store.rescue_expired(&rescue)),
        unavailable("prune", LIMIT, store.prune(&prune)),
        unavailable("tasks", LIMIT, store.tasks(&ids, Now::Store)),
        unavailable("list", LIMIT, store.list(&filter, &page, Now::Store)),
    );
    tokio::join!(
        unavailable("count", LIMIT, store.count(&counted, Now::Store)),
        unavailable("queues", LIMIT, store.queues(Now::Store)),
        unavailable("apply", LIMIT, store.apply(&selection, &Command::Delete, Now::Store)),
        unavailable("set_queue", LIMIT, store.set_queue(&queue, &resume)),
        unavailable("wait_for_finish", LIMIT, store.wait_for_finish(ids[0], millis(1_500))),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_outlives_its_deadline_in_a_black_hole() {
    let Some((site, proxy, _)) = proxied().await else { return };
    let holes = [
        ("both", Flow::HELD),
        ("requests", Flow { to_client: true, ..Flow::HELD }),
        ("replies", Flow { to_server: true, ..Flow::HELD }),
    ];
    let mut all = JoinSet::new();
    let mut stores = Vec::new();
    for _ in &holes {
        let proxy = Proxy::start(site.port()).await;
        let options = options().statement_timeout(DEADLINE).max_connections(20);
        stores.push((options.connect(&proxy.url()).await.unwrap(), proxy));
    }
    for ((name, hole), (store, proxy)) in holes.into_iter().zip(stores) {
        all.spawn(async move {
            store.insert(&tasks(1), Now::Store).await.unwrap();
            proxy.flow(hole);
            nothing_answers(&store, name).await;
            proxy.flow(Flow::FREE);
            healed(|| store.queues(Now::Store)).await;
            store.close().await;
        });
    }
    all.join_all().await;
    drop(proxy);
    site.has_no_open_transaction().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_wait_for_one_another_keep_their_deadlines_too() {
    let Some((site, proxy, store)) = proxied().await else { return };
    store.insert(&pack(60), Now::Store).await.unwrap();
    let mut claims = Vec::new();
    for _ in 0..6 {
        claims.push(store.claim(&claim(1, 10, LONG)).await.unwrap());
    }
    proxy.flow(Flow::HELD);
    let finishing = claims.iter().map(|claimed| async {
        let outcomes = completed(claimed);
        unavailable("finish", LIMIT, store.finish(&outcomes, Now::Store)).await;
    });
    let inserting = (0..6).map(|_| async {
        let tasks = tasks(2);
        unavailable("insert", LIMIT, store.insert(&tasks, Now::Store)).await;
    });
    tokio::join!(join_all(finishing), join_all(inserting));
    proxy.flow(Flow::FREE);
    for claimed in &claims {
        let verdicts =
            healed(|| async { store.finish(&completed(claimed), Now::Store).await }).await;
        let is_good =
            |verdict: &Verdict| matches!(verdict, Verdict::Applied | Verdict::AlreadyApplied);
        assert!(verdicts.iter().all(is_good), "{verdicts:?}");
    }
    is_consistent(&site, &store).await;
}

/// How long a call takes, whatever it answers.
async fn took<T>(what: &str, call: impl Future<Output = T>) -> (&str, Duration) {
    let began = Instant::now();
    drop(call.await);
    (what, began.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_several_statements_keep_one_deadline_on_a_slow_line() {
    let Some((_site, proxy, store)) = proxied().await else { return };
    store.insert(&tasks(4), Now::Store).await.unwrap();
    let claimed = store.claim(&claim(1, 4, LONG)).await.unwrap();
    proxy.flow(Flow { delay: millis(450), ..Flow::FREE });
    let mut fresh = tasks(1);
    fresh[0].spec.queue = QueueName::new("new").unwrap();
    let held = claimed.iter().map(|task| Held { id: task.id, token: task.token }).collect();
    let beat = Beat::new(server(1), held);
    let selection = Selection::Ids(vec![claimed[0].id]);
    let command = Command::Cancel { reason: String::new() };
    let failed = Outcome {
        id: claimed[1].id,
        token: claimed[1].token,
        conclusion: Conclusion::Fail { kind: ErrorKind::Error, error: String::new() },
    };
    let outcomes = [completed(&claimed[..1]).remove(0), failed];
    let (fresh_unique, selected) = (unique(tasks(1)), &selection);
    let all = tokio::join!(
        took("insert", store.insert(&fresh, Now::Store)),
        took("unique", store.insert(&fresh_unique, Now::Store)),
        took("beat", store.beat(&beat)),
        took("apply", store.apply(selected, &command, Now::Store)),
        took("finish", store.finish(&outcomes, Now::Store)),
    );
    let all = [all.0, all.1, all.2, all.3, all.4];
    let late: Vec<_> = all.iter().filter(|(_, took)| *took > LIMIT).collect();
    assert!(late.is_empty(), "beyond {LIMIT:?}: {late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_end_are_replaced() {
    let Some((site, proxy, store)) = proxied().await else { return };
    for end in [End::Fin, End::Reset, End::Fin, End::Reset] {
        // All of the pool are open; then all of them are gone at once.
        site.serves_at_once(&store, 4).await;
        proxy.end(end);
        let tasks = tasks(2);
        healed(|| store.insert(&tasks, Now::Store)).await;
        let request = claim(1, 10, LONG);
        let claimed = healed(|| store.claim(&request)).await;
        let outcomes = completed(&claimed);
        healed(|| store.finish(&outcomes, Now::Store)).await;
    }
    site.serves_at_once(&store, 4).await;
    is_consistent(&site, &store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_doorbell_that_hears_nothing_any_more_is_noticed() {
    let Some((site, proxy, store)) = proxied().await else { return };
    let other = site.store(options()).await;
    let queues = [QueueName::default()];
    store.wait_for_work(&queues, &[kind()], millis(10)).await;
    let sessions = "SELECT count(*) FROM pg_stat_activity \
                    WHERE application_name = 'ergon doorbell' AND client_port IS NOT NULL";
    site.until(sessions, 1).await;
    let pid =
        site.number("SELECT pid FROM pg_stat_activity WHERE application_name = 'ergon doorbell'");
    proxy.flow(Flow { doorbell_only: true, ..Flow::HELD });
    let began = Instant::now();
    let newer = format!(
        "SELECT count(*) FROM pg_stat_activity \
         WHERE application_name = 'ergon doorbell' AND pid <> {pid}"
    );
    // Claims go on; work is found by polling, if not at once.
    let mut is_noticed = false;
    while !is_noticed && began.elapsed() < Duration::from_secs(15) {
        other.insert(&tasks(1), Now::Store).await.unwrap();
        let looking = async {
            loop {
                let claimed = store.claim(&claim(1, 1, LONG)).await.unwrap();
                if !claimed.is_empty() {
                    return claimed;
                }
                store.wait_for_work(&queues, &[kind()], LONG).await;
            }
        };
        let claimed = tokio::time::timeout(Duration::from_secs(11), looking).await;
        let claimed = claimed.expect("work is found though nobody is heard");
        store.finish(&completed(&claimed), Now::Store).await.unwrap();
        // What is opened anew is held as well, so it shows only at the server once this ends.
        pause(millis(500)).await;
        if began.elapsed() > Duration::from_secs(11) {
            proxy.flow(Flow::FREE);
        }
        is_noticed = site.number(&newer) > 0;
    }
    assert!(is_noticed, "the doorbell still waits on a dead connection");
    let mut waiting = JoinSet::new();
    waiting.spawn(async move { store.wait_for_work(&queues, &[kind()], LONG).await });
    pause(millis(300)).await;
    let began = Instant::now();
    other.insert(&tasks(1), Now::Store).await.unwrap();
    waiting.join_next().await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
}
