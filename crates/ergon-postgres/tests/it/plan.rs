//! The plans of the statements as the store sends them, under many tasks and false statistics.

use std::{collections::BTreeSet, time::Duration};

use ergon_cluster::Settings;
use ergon_core::{
    ClaimedTask, Command, Conclusion, ErrorKind, NewTask, Now, Order, Outcome, Page,
    ProgressReport, Selection, State, StateSet, TaskFilter, UniqueKey, UniqueScope, WatcherName,
    event::ServerEvent,
    report::ClaimReport,
    store::{
        Beat, Control as _, Dispatch as _, Enqueue as _, Held, Inspect as _, Maintain as _,
        Observe as _, PruneRequest, RescueRequest, Watch,
    },
};
use ergon_postgres::{PostgresOptions, PostgresStore};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::fault::{
    LONG, Site, claim, completed, millis, options, pack, pause, server, site, tasks,
};

/// Tables that grow with the tasks, and the first letters of those that are parts of one: nothing that
/// is done often may read one from end to end.
const LARGE: [&str; 7] = ["journal", "pack", "ready", "report", "settled", "task", "uniq"];

/// One that is small, although its name begins like that of a large one.
const SMALL: &str = "journal_state";

/// Where plans are logged, and statistics are what a test makes of them.
fn settings() -> Settings {
    Settings::fast()
        .set("session_preload_libraries", "auto_explain")
        .set("auto_explain.log_format", "json")
        .set("auto_explain.log_analyze", "on")
        .set("auto_explain.log_nested_statements", "on")
        .set("auto_explain.log_timing", "off")
        .set("autovacuum", "off")
        .set("max_wal_size", "4GB")
}

/// The cluster forgets what a crash takes, and nobody has to be woken.
fn unsafe_options() -> PostgresOptions {
    options().listen(false).allow_unsafe_durability(true)
}

/// A store whose plans are logged.
async fn watched(site: &Site, plan_cache_mode: &str) -> PostgresStore {
    let url = format!(
        "{}?options[auto_explain.log_min_duration]=0&options[plan_cache_mode]={plan_cache_mode}",
        site.url()
    );
    unsafe_options().max_connections(2).housekeeping(false).connect(&url).await.unwrap()
}

fn unique(mut tasks: Vec<NewTask>) -> Vec<NewTask> {
    for task in &mut tasks {
        let mut hash = [7; 32];
        hash[..16].copy_from_slice(&task.id.as_u128().to_be_bytes());
        task.spec.unique = Some(UniqueKey { hash, scope: UniqueScope::UntilFinished });
    }
    tasks
}

/// Fills every table: most tasks wait, many are done, some failed.
async fn load(site: &Site) {
    let store = unsafe_options().connect(&site.url()).await.unwrap();
    let limit = 10_000;
    for part in 0..10 {
        for _ in 0..2 {
            let packs: Vec<NewTask> = (0..5).flat_map(|_| pack(2_000)).collect();
            store.insert(&packs, Now::Store).await.unwrap();
        }
        let singles: Vec<NewTask> = (0..3_000).flat_map(|_| pack(1)).collect();
        store.insert(&singles, Now::Store).await.unwrap();
        store.insert(&unique(tasks(500)), Now::Store).await.unwrap();
        if part < 4 {
            let claimed = store.claim(&claim(1, limit, LONG)).await.unwrap();
            let mut outcomes = completed(&claimed);
            for outcome in outcomes.iter_mut().step_by(5) {
                outcome.conclusion = failed();
            }
            for chunk in outcomes.chunks(2_000) {
                store.finish(chunk, Now::Store).await.unwrap();
            }
        }
    }
    // What few tasks and few commits make little of.
    for sql in [
        "INSERT INTO ergon.journal (at, events, event, note) \
         SELECT now(), 1, '{20}', '[{\"tasks\": 1}]' FROM generate_series(1, 20000)",
        "INSERT INTO ergon.report (pack, off, token, at, done, message) \
         SELECT gen_random_uuid(), 0, 0, now(), 0, '' FROM generate_series(1, 20000)",
    ] {
        site.act(|cluster| cluster.execute(sql)).unwrap();
    }
    store.close().await;
}

fn failed() -> Conclusion {
    Conclusion::Fail { kind: ErrorKind::Error, error: "broken".to_owned() }
}

/// Sends every statement that is sent often.
async fn use_all(store: &PostgresStore) {
    let (now, lease) = (Now::Store, millis(20));
    let watch = Watch::durable(WatcherName::new("plan").unwrap());
    let began = store.watch(&watch).await.unwrap().cursor;
    let fresh = tasks(3);
    store.insert(&fresh, now).await.unwrap();
    store.insert(&fresh, now).await.unwrap();
    let unique = unique(tasks(2));
    store.insert(&unique, now).await.unwrap();
    store.insert(&unique, now).await.unwrap();
    let held = |task: &ClaimedTask| Held { id: task.id, token: task.token };
    let claimed = store.claim(&claim(1, 30, LONG)).await.unwrap();
    assert_eq!(claimed.len(), std::cmp::min(30, claimed.len()));
    let told = ProgressReport::new(1);
    let report =
        |task: &ClaimedTask| ClaimReport { id: task.id, token: task.token, report: told.clone() };
    let reports: Vec<ClaimReport> = claimed.iter().map(report).collect();
    store.report(&reports, now).await.unwrap();
    let half: Vec<Held> = claimed.iter().take(claimed.len() / 2).map(held).collect();
    store.beat(&Beat::new(server(1), claimed.iter().map(held).collect())).await.unwrap();
    store.beat(&Beat::new(server(1), half)).await.unwrap();
    let mut outcomes = completed(&claimed);
    for outcome in outcomes.iter_mut().skip(2).step_by(3) {
        outcome.conclusion = failed();
    }
    let (one, other): (Vec<Outcome>, Vec<Outcome>) =
        outcomes.into_iter().partition(|outcome| outcome.id.as_u128().is_multiple_of(2));
    store.finish(&one, now).await.unwrap();
    store.finish(&other, now).await.unwrap();
    let whole = store.claim(&claim(1, 5, LONG)).await.unwrap();
    store.finish(&completed(&whole), now).await.unwrap();
    let lost = store.claim(&claim(1, 5, lease)).await.unwrap();
    pause(lease).await;
    store.rescue_expired(&RescueRequest::default()).await.unwrap();
    let ids: Vec<_> = lost.iter().map(|task| task.id).collect();
    let selection = Selection::Ids(ids.clone());
    for command in [
        Command::SetPriority { priority: 3 },
        Command::Reschedule { run_at: ergon_core::Timestamp::UNIX_EPOCH },
        Command::Cancel { reason: String::new() },
        Command::Retry,
        Command::Delete,
    ] {
        store.apply(&selection, &command, now).await.unwrap();
    }
    store.prune(&PruneRequest::default()).await.unwrap();
    store.tasks(&ids, now).await.unwrap();
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let page = Page::of(20).order(order);
        store.list(&TaskFilter::all(), &page, now).await.unwrap();
        let failed = TaskFilter::all().states(StateSet::of(&[State::Failed]));
        store.list(&failed, &page, now).await.unwrap();
    }
    store.announce(server(1), &ServerEvent::Started).await.unwrap();
    let latest = store.latest().await.unwrap();
    let mut cursor = began.clone();
    for _ in 0..3 {
        cursor = store.changes(&cursor, 5).await.unwrap().cursor;
    }
    store.wait_for_changes(&latest, millis(5)).await;
    store.watch(&watch.reached(began)).await.unwrap();
    store.watchers().await.unwrap();
    store.queues(now).await.unwrap();
    let (queue, kind) = (ergon_core::QueueName::default(), crate::fault::kind());
    store.wait_for_work(&[queue], &[kind], millis(5)).await;
    if let Some(task) = claimed.first() {
        store.wait_for_finish(task.id, Duration::from_secs(1)).await.unwrap();
    }
}

/// The plans that were logged, each after the text of its statement.
fn plans(log: &str) -> Vec<(String, Value)> {
    let mut plans = Vec::new();
    for entry in log.split("plan:\n").skip(1) {
        let lines = entry.lines().take_while(|line| line.starts_with('\t'));
        let json: String = lines.flat_map(|line| [&line[1..], "\n"]).collect();
        let mut plan: Value = serde_json::from_str(&json).unwrap();
        let text = plan["Query Text"].as_str().unwrap_or_default().to_owned();
        plans.push((text, plan["Plan"].take()));
    }
    plans
}

/// The large tables that a plan reads from end to end; not those of a branch that was not taken.
fn scans(plan: &Value, found: &mut BTreeSet<String>) {
    let relation = plan["Relation Name"].as_str().unwrap_or_default();
    let is_taken = plan["Actual Loops"] != 0;
    if plan["Node Type"] == "Seq Scan"
        && is_taken
        && relation != SMALL
        && LARGE.iter().any(|large| relation.starts_with(large))
    {
        found.insert(relation.to_owned());
    }
    for child in plan["Plans"].as_array().into_iter().flatten() {
        scans(child, found);
    }
}

/// No plan that was logged since `from` reads a large table from end to end.
#[track_caller]
fn all_use_indexes(site: &Site, from: usize, what: &str) {
    let log = site.whole_log();
    let mut bad = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for (text, plan) in plans(&log[from..]) {
        let name = text.lines().next().unwrap_or_default().to_owned();
        let mut found = BTreeSet::new();
        scans(&plan, &mut found);
        if !found.is_empty() {
            bad.insert(format!("{name} reads {found:?}"));
        }
        seen.insert(name);
    }
    assert!(seen.len() > 15, "{what}: {seen:#?}");
    assert!(bad.is_empty(), "{what}: {bad:#?}");
}

/// What is looked for is found when it is there.
fn is_seen(site: &Site) {
    let from = site.whole_log().len();
    for table in LARGE {
        let sql =
            format!("SET auto_explain.log_min_duration = 0; SELECT count(*) FROM ergon.{table}");
        site.act(|cluster| cluster.execute(&format!("SET enable_indexonlyscan = off; {sql}")))
            .unwrap();
    }
    let mut found = BTreeSet::new();
    plans(&site.whole_log()[from..]).iter().for_each(|(_, plan)| scans(plan, &mut found));
    let is_found = |large: &&str| found.iter().any(|found| found.starts_with(*large));
    assert!(LARGE.iter().all(is_found), "{found:?}");
}

/// Plans of a store are looked at while it does everything some times.
async fn look(site: &Site, store: &PostgresStore, what: &str) {
    let from = site.whole_log().len();
    for _ in 0..7 {
        use_all(store).await;
    }
    store.housekeep().await.unwrap();
    all_use_indexes(site, from, what);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_reads_a_large_table_from_end_to_end() {
    let Some(site) = site(settings()).await else { return };
    // Statistics of next to nothing, and plans that were made for it.
    let early = [watched(&site, "auto").await, watched(&site, "force_generic_plan").await];
    early[0].insert(&tasks(1), Now::Store).await.unwrap();
    site.act(|cluster| cluster.execute("VACUUM ANALYZE")).unwrap();
    for store in &early {
        for _ in 0..7 {
            use_all(store).await;
        }
    }
    load(&site).await;
    is_seen(&site);
    for mode in ["auto", "force_generic_plan", "force_custom_plan"] {
        let store = watched(&site, mode).await;
        look(&site, &store, &format!("{mode}, stale statistics")).await;
        store.close().await;
    }
    for store in early {
        look(&site, &store, "plans made when there was nothing").await;
        store.close().await;
    }
    site.act(|cluster| cluster.execute("VACUUM ANALYZE")).unwrap();
    for mode in ["auto", "force_generic_plan", "force_custom_plan"] {
        let store = watched(&site, mode).await;
        look(&site, &store, &format!("{mode}, true statistics")).await;
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_keep_their_limits_whatever_the_statistics_say() {
    let Some(site) = site(settings()).await else { return };
    let store = unsafe_options().max_connections(10).connect(&site.url()).await.unwrap();
    store.insert(&tasks(1), Now::Store).await.unwrap();
    site.act(|cluster| cluster.execute("VACUUM ANALYZE")).unwrap();
    for _ in 0..10 {
        let singles: Vec<NewTask> = (0..2_000).flat_map(|_| pack(1)).collect();
        store.insert(&singles, Now::Store).await.unwrap();
        store.insert(&pack(500), Now::Store).await.unwrap();
    }
    let mut claimers = JoinSet::new();
    for by in 1..=8 {
        let store = store.clone();
        claimers.spawn(async move {
            let mut all = Vec::new();
            for limit in [2, 7, 50, 300].into_iter().cycle().take(24) {
                let claimed = store.claim(&claim(by, limit, LONG)).await.unwrap();
                assert!(claimed.len() <= limit, "{} of {limit}", claimed.len());
                assert!(!claimed.is_empty());
                all.extend(claimed.iter().map(|task| task.id));
            }
            all
        });
    }
    let all: Vec<_> = claimers.join_all().await.concat();
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len(), "tasks were claimed twice");
}
