//! Backends, servers and whole clusters that are killed under load.

use ergon_cluster::{Mode, Settings};
use tokio::time::interval;

use super::{load::Load, millis, options, pause, site};

/// Kills one session of a store, whichever.
const KILL_ONE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                        WHERE application_name IN ('ergon', 'ergon doorbell') ORDER BY random() LIMIT 1";

/// Kills the sessions that listen.
const KILL_LISTENERS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                              WHERE application_name = 'ergon doorbell'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_are_killed_under_load_lose_and_double_nothing() {
    let Some(site) = site(Settings::default()).await else { return };
    let stores = [site.store(options()).await, site.store(options()).await];
    let load = Load::start(&stores, millis(2_000));
    let mut beat = interval(millis(200));
    for at in 0..20 {
        beat.tick().await;
        let sql = if at % 5 == 4 { KILL_LISTENERS } else { KILL_ONE };
        site.act(|cluster| cluster.execute(sql)).unwrap();
    }
    load.end(&site, &stores[0]).await;
    site.has_no_open_transaction().await;
    for store in &stores {
        site.serves_at_once(store, 4).await;
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_crashes_under_load_loses_and_doubles_nothing() {
    let Some(site) = site(Settings::default()).await else { return };
    let stores = [site.store(options()).await, site.store(options()).await];
    let load = Load::start(&stores, millis(2_000));
    for at in 0..4 {
        pause(millis(900)).await;
        if at == 3 {
            site.act(|cluster| cluster.kill()).unwrap();
        }
        site.act(|cluster| cluster.restart(Mode::Immediate)).unwrap();
    }
    pause(millis(300)).await;
    load.end(&site, &stores[0]).await;
    for store in &stores {
        site.serves_at_once(store, 4).await;
        store.close().await;
    }
}
