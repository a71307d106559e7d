//! A server, or the way to it, that stands still longer than a lease.

use std::time::Duration;

use ergon_cluster::Settings;
use ergon_core::{
    ClaimedTask, NewTask, Now, Verdict,
    store::{
        Beat, Dispatch as _, Enqueue as _, Held, Inserted, Inspect as _, Maintain as _,
        RescueRequest,
    },
};
use ergon_postgres::PostgresStore;

use super::{
    Site, claim, completed, healed, is_consistent,
    load::Load,
    millis, options, pack, pause,
    proxy::{Flow, Proxy},
    server, site, tasks,
};

const LEASE: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_freezes_longer_than_a_lease_doubles_nothing() {
    let Some(site) = site(Settings::default()).await else { return };
    let short = options().statement_timeout(millis(500));
    let stores = [site.store(short.clone()).await, site.store(short).await];
    let load = Load::start(&stores, LEASE);
    for _ in 0..2 {
        pause(millis(500)).await;
        site.act(|cluster| cluster.pause()).unwrap();
        pause(LEASE + millis(500)).await;
        site.act(|cluster| cluster.resume()).unwrap();
    }
    load.end(&site, &stores[0]).await;
    site.serves_at_once(&stores[0], 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_froze_longer_than_its_lease_is_told_that_it_is_stale() {
    let Some(site) = site(Settings::default()).await else { return };
    let one = site.store(options()).await;
    let other = site.store(options()).await;
    one.insert(&pack(10), Now::Store).await.unwrap();
    let claimed = one.claim(&claim(1, 10, LEASE)).await.unwrap();
    assert_eq!(claimed.len(), 10);
    site.act(|cluster| cluster.pause()).unwrap();
    pause(LEASE + millis(200)).await;
    site.act(|cluster| cluster.resume()).unwrap();
    taken_over(&site, &one, &other, &claimed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_cut_off_longer_than_its_lease_is_told_that_it_is_stale() {
    let Some(site) = site(Settings::default()).await else { return };
    let proxy = Proxy::start(site.port()).await;
    let one = options().statement_timeout(millis(500)).connect(&proxy.url()).await.unwrap();
    let other = site.store(options()).await;
    one.insert(&pack(10), Now::Store).await.unwrap();
    let claimed = one.claim(&claim(1, 10, LEASE)).await.unwrap();
    proxy.flow(Flow::HELD);
    let held = claimed.iter().map(|task| Held { id: task.id, token: task.token }).collect();
    let beat = Beat::new(server(1), held).lease(LEASE);
    super::unavailable("beat", millis(1_500), one.beat(&beat)).await;
    pause(LEASE).await;
    assert_eq!(rescued(&other).await, 10);
    // The beat that was held back arrives now, and comes too late.
    proxy.flow(Flow::FREE);
    let reply = healed(|| one.beat(&beat)).await;
    assert_eq!(reply.lost, beat.held);
    taken_over(&site, &one, &other, &claimed).await;
}

async fn rescued(store: &PostgresStore) -> usize {
    store.rescue_expired(&RescueRequest::default()).await.unwrap().done
}

/// The other store rescues, runs and finishes the tasks; what the first one says then changes nothing.
async fn taken_over(
    site: &Site,
    one: &PostgresStore,
    other: &PostgresStore,
    claimed: &[ClaimedTask],
) {
    healed(|| async { other.rescue_expired(&RescueRequest::default()).await }).await;
    let request = claim(2, 10, LEASE * 30);
    let again = healed(|| other.claim(&request)).await;
    assert_eq!(again.len(), claimed.len());
    for (before, after) in claimed.iter().zip(&again) {
        assert_eq!((before.id, before.crash_count + 1), (after.id, after.crash_count));
        assert!(before.token < after.token);
    }
    let late = completed(claimed);
    let stale = vec![Verdict::Stale; claimed.len()];
    assert_eq!(healed(|| one.finish(&late, Now::Store)).await, stale);
    let outcomes = completed(&again);
    let applied = vec![Verdict::Applied; claimed.len()];
    assert_eq!(other.finish(&outcomes, Now::Store).await.unwrap(), applied);
    assert_eq!(one.finish(&late, Now::Store).await.unwrap(), stale);
    let ids: Vec<_> = claimed.iter().map(|task| task.id).collect();
    for (record, task) in one.tasks(&ids, Now::Store).await.unwrap().iter().zip(&again) {
        assert_eq!(record.as_ref().unwrap().progress.token, task.token);
    }
    is_consistent(site, one).await;
}

/// An insert is sent, answered by nobody, and sent again, as a whole and in parts, while the first is
/// still on its way: all of them arrive at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inserts_that_were_given_up_and_repeated_arrive_together_and_store_each_task_once() {
    let Some(site) = site(Settings::default()).await else { return };
    let store = site.store(options().statement_timeout(millis(300))).await;
    store.insert(&tasks(1), Now::Store).await.unwrap();
    for round in 0..5 {
        // All connections are open.
        site.serves_at_once(&store, 4).await;
        let batch = pack(6);
        site.act(|cluster| cluster.pause()).unwrap();
        let whole = store.insert(&batch, Now::Store).await;
        let again = store.insert(&batch, Now::Store).await;
        let single = store.insert(&batch[2..3], Now::Store).await;
        let part = store.insert(&batch[4..], Now::Store).await;
        assert!(whole.is_err() && again.is_err() && single.is_err() && part.is_err());
        site.act(|cluster| cluster.resume()).unwrap();
        let inserted = healed(|| store.insert(&batch, Now::Store)).await;
        let is_known = |one: &Inserted| matches!(one, Inserted::AlreadyExists | Inserted::Created);
        assert!(inserted.iter().all(is_known));
        site.until(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ergon' AND state = 'active'",
            0,
        )
        .await;
        let stored = site.number("SELECT sum(n) FROM ergon.pack");
        assert_eq!(stored, 7 + 6 * round, "tasks are stored twice");
        is_consistent(&site, &store).await;
    }
}

/// Two processes whose inserts overlap in time: a trigger makes them slow.
async fn slow_pair(site: &Site) -> (PostgresStore, PostgresStore) {
    let (one, other) = (site.store(options()).await, site.store(options()).await);
    for store in [&one, &other] {
        store.insert(&tasks(1), Now::Store).await.unwrap();
    }
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
                $$BEGIN PERFORM pg_sleep(0.2); RETURN NEW; END$$; \
                CREATE TRIGGER slow BEFORE INSERT ON ergon.ready FOR EACH ROW EXECUTE FUNCTION slow()";
    site.act(|cluster| cluster.execute(slow)).unwrap();
    (one, other)
}

/// Inserts two batches at once; each task that is new is created by one of them, and stored once.
async fn meet(
    site: &Site,
    by: (&PostgresStore, &PostgresStore),
    batches: [&[NewTask]; 2],
    fresh: usize,
) {
    let before = site.number("SELECT sum(n) FROM ergon.pack");
    let [first, second] = batches;
    let (one, other) = tokio::join!(
        healed(|| by.0.insert(first, Now::Store)),
        healed(|| by.1.insert(second, Now::Store)),
    );
    let created = one.iter().chain(&other).filter(|one| **one == Inserted::Created).count();
    let stored = site.number("SELECT sum(n) FROM ergon.pack") - before;
    assert_eq!((created, stored), (fresh, i64::try_from(fresh).unwrap()), "{one:?} {other:?}");
    is_consistent(site, by.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_insert_and_its_repetition_that_meet_on_their_way_store_each_task_once() {
    let Some(site) = site(Settings::default()).await else { return };
    let (one, other) = slow_pair(&site).await;
    let old = pack(6);
    one.insert(&old[..2], Now::Store).await.unwrap();
    for (batch, fresh) in [(tasks(1), 1), (tasks(5), 5), (pack(6), 6), (pack(100), 100), (old, 4)] {
        meet(&site, (&one, &other), [&batch, &batch], fresh).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_share_a_task_and_meet_on_their_way_store_it_once() {
    let Some(site) = site(Settings::default()).await else { return };
    let (one, other) = slow_pair(&site).await;
    for (first, second) in [(0..6, 2..3), (2..3, 0..6), (0..4, 2..6), (2..6, 0..4), (0..6, 0..2)] {
        let batch = pack(6);
        let all = std::cmp::max(first.end, second.end);
        meet(&site, (&one, &other), [&batch[first], &batch[second]], all).await;
    }
}
