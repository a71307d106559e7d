//! Calls that are dropped half-way, after each number of polls.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use ergon_cluster::Settings;
use ergon_core::{
    ClaimedTask, Command, Conclusion, ErrorKind, NewTask, Now, Order, Outcome, Page, QueueName,
    Selection, StoreError, TaskFilter, TaskId, UniqueKey, UniqueScope,
    store::{
        Beat, Control as _, Dispatch as _, Enqueue as _, Held, Inspect as _, Maintain as _,
        PruneRequest, QueueChange, RescueRequest,
    },
};
use ergon_postgres::PostgresStore;

use super::{
    LONG, Site, claim, completed, healed, is_consistent, kind, millis, options, pack, pause,
    server, site, tasks,
};

/// More polls than any call takes whose statements are prepared.
const POLLS: u32 = 20;

const LEASE: Duration = Duration::from_millis(200);

/// Polls a future so many times, each time that it asks for it, and drops it then.
async fn polled<T>(polls: u32, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// What a call is given.
struct Given {
    claimed: Vec<ClaimedTask>,
    fresh: Vec<NewTask>,
    number: u32,
}

impl Given {
    async fn new(store: &PostgresStore, what: &str, number: u32) -> Self {
        let batch = pack(3);
        healed(|| store.insert(&batch, Now::Store)).await;
        let request = claim(1, 3, LEASE);
        let claimed = healed(|| store.claim(&request)).await;
        let mut fresh = if what == "insert many" { pack(70) } else { tasks(3) };
        if what == "insert unique" {
            for task in &mut fresh {
                let mut hash = [0; 32];
                hash[..16].copy_from_slice(&task.id.as_u128().to_be_bytes());
                task.spec.unique = Some(UniqueKey { hash, scope: UniqueScope::UntilFinished });
            }
        }
        if what == "insert elsewhere" {
            for task in &mut fresh {
                task.spec.queue = QueueName::new(format!("queue-{number}")).unwrap();
            }
        }
        Self { claimed, fresh, number }
    }

    fn ids(&self) -> Vec<TaskId> {
        self.claimed.iter().map(|task| task.id).collect()
    }

    async fn call(&self, what: &str, store: &PostgresStore) -> Result<(), StoreError> {
        let (ids, now, filter) = (self.ids(), Now::Store, TaskFilter::all());
        match what {
            "insert" | "insert many" | "insert unique" | "insert elsewhere" => {
                store.insert(&self.fresh, now).await.map(drop)
            }
            "claim" => store.claim(&claim(2, 5, LEASE)).await.map(drop),
            "finish" => store.finish(&completed(&self.claimed), now).await.map(drop),
            "finish carefully" => {
                let fail = |task: &ClaimedTask| Outcome {
                    id: task.id,
                    token: task.token,
                    conclusion: Conclusion::Retry {
                        delay: Duration::ZERO,
                        kind: ErrorKind::Error,
                        error: String::new(),
                    },
                };
                let outcomes: Vec<Outcome> = self.claimed.iter().map(fail).collect();
                store.finish(&outcomes, now).await.map(drop)
            }
            "beat" | "beat in part" => {
                let held = self.claimed.iter().map(|task| Held { id: task.id, token: task.token });
                let part = if what == "beat" { 3 } else { 1 };
                let beat = Beat::new(server(1), held.take(part).collect()).lease(LEASE);
                store.beat(&beat).await.map(drop)
            }
            "rescue" => store.rescue_expired(&RescueRequest::default()).await.map(drop),
            "prune" => store.prune(&PruneRequest::default()).await.map(drop),
            "tasks" => store.tasks(&ids, now).await.map(drop),
            "list" => {
                let page = Page::of(5).order(Order::OldestFirst);
                store.list(&filter, &page, now).await.map(drop)
            }
            "count" => store.count(&filter.kind(kind()), now).await.map(drop),
            "queues" => store.queues(now).await.map(drop),
            "apply" => {
                let command = Command::Cancel { reason: "unwanted".to_owned() };
                store.apply(&Selection::Ids(ids), &command, now).await.map(drop)
            }
            "set_queue" => {
                let queue = QueueName::new(format!("other-{}", self.number)).unwrap();
                store.set_queue(&queue, &QueueChange::pause()).await.map(drop)
            }
            "wait_for_work" => {
                store.wait_for_work(&[QueueName::default()], &[kind()], millis(2)).await;
                Ok(())
            }
            "wait_for_finish" => store.wait_for_finish(ids[0], millis(2)).await.map(drop),
            other => unreachable!("{other}"),
        }
    }

    /// What was dropped is stored whole, or not at all.
    async fn is_whole(&self, what: &str, store: &PostgresStore) {
        let ids: Vec<TaskId> = self.fresh.iter().map(|task| task.id).collect();
        let found = store.tasks(&ids, Now::Store).await.unwrap();
        let stored = found.iter().filter(|task| task.is_some()).count();
        assert!([0, ids.len()].contains(&stored), "{what}: {stored} of {}", ids.len());
    }
}

async fn each_is_dropped(site: &Site, calls: &[&str]) {
    let store = site.store(options().max_connections(2)).await;
    for what in calls {
        // Once as a whole, so that names are known and statements prepared.
        Given::new(&store, what, POLLS + 1).await.call(what, &store).await.unwrap();
        let mut dropped = 0;
        let mut given = Vec::new();
        for polls in 0..=POLLS {
            let one = Given::new(&store, what, polls).await;
            let answer = polled(polls, one.call(what, &store)).await;
            dropped += u32::from(answer.is_none());
            given.push(one);
        }
        assert!(dropped > 0, "{what} was never dropped");
        site.has_no_open_transaction().await;
        site.serves_at_once(&store, 2).await;
        for one in given {
            one.is_whole(what, &store).await;
        }
    }
    // Whatever was claimed by calls that were dropped comes back, and everything can be done.
    pause(LEASE).await;
    let unfinished =
        "SELECT (SELECT count(*) FROM ergon.ready) + (SELECT count(*) FROM ergon.lease)";
    let drained = async {
        while site.number(unfinished) > 0 {
            store.rescue_expired(&RescueRequest::default()).await.unwrap();
            let mut request = claim(3, 500, LONG);
            let queues = store.queues(Now::Store).await.unwrap();
            request.queues = queues
                .iter()
                .map(|queue| ergon_core::store::QueueSlots {
                    queue: queue.name.clone(),
                    slots: 500,
                })
                .collect();
            let claimed = store.claim(&request).await.unwrap();
            store.finish(&completed(&claimed), Now::Store).await.unwrap();
        }
    };
    assert!(tokio::time::timeout(LONG, drained).await.is_ok(), "tasks are left over");
    is_consistent(site, &store).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_enqueuers_and_workers_can_be_dropped_anywhere() {
    let Some(site) = site(Settings::default()).await else { return };
    let calls = [
        "insert",
        "insert many",
        "insert unique",
        "insert elsewhere",
        "claim",
        "finish",
        "finish carefully",
        "beat",
        "beat in part",
    ];
    each_is_dropped(&site, &calls).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_readers_and_operators_can_be_dropped_anywhere() {
    let Some(site) = site(Settings::default()).await else { return };
    let calls = [
        "rescue",
        "prune",
        "tasks",
        "list",
        "count",
        "queues",
        "apply",
        "set_queue",
        "wait_for_work",
        "wait_for_finish",
    ];
    each_is_dropped(&site, &calls).await;
}
