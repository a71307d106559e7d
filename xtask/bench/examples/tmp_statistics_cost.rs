//! Temporary.
use std::{sync::{Arc, atomic::{AtomicU64, Ordering::Relaxed}}, time::{Duration, Instant}};
use ergon_core::{*, store::IntoStore as _, event::*, statistics::Collector};
use ergon_server::{Queue, Server, ServerConfig};
use ergon_redb::RedbStore;
use serde::{Serialize, Deserialize};
#[derive(Serialize, Deserialize)]
struct Noop(u64);
impl Task for Noop { const KIND: &'static str = "noop"; type Output = (); }

async fn drain(store: &Arc<dyn Store>, tasks: u64, statistics: bool) -> Duration {
    let ran = Arc::new(AtomicU64::new(0));
    let r = Arc::clone(&ran);
    let handler = move |_t: Noop| { r.fetch_add(1, Relaxed); std::future::ready(Ok::<(), TaskError>(())) };
    let server = Server::builder(store).handler(handler).config(ServerConfig::new().statistics(statistics))
        .queue(Queue::new("default").concurrency(64)).build().unwrap();
    let began = Instant::now();
    let running = server.start();
    let manager = Manager::new(store);
    loop {
        tokio::time::sleep(Duration::from_millis(2)).await;
        if ran.load(Relaxed) >= tasks {
            let n = manager.tasks().count(&TaskFilter::all().states(State::Completed)).await.unwrap();
            if n.value >= tasks { break }
        }
    }
    let time = began.elapsed();
    assert!(running.shutdown().await.is_clean());
    time
}

fn fold() {
    let kinds: Vec<KindName> = (0..40).map(|i| format!("mail.send.{i}").parse().unwrap()).collect();
    let queue = QueueName::default();
    let mk = |kind: &KindName, i: u64| {
        let t = |e| Event::task(Timestamp::UNIX_EPOCH, TaskRef { id: TaskId::MIN, queue: queue.clone(), kind: kind.clone(), attempt: 1 }, e);
        if i % 2 == 0 { t(TaskEvent::Started { server: ServerId::from_u128(1), waited: Duration::from_micros(i * 7919 % 5_000_000) }) }
        else { t(TaskEvent::Completed { ran: Duration::from_micros(i * 104729 % 30_000_000) }) }
    };
    for (name, events) in [
        ("one pair", (0..1000).map(|i| mk(&kinds[0], i)).collect::<Vec<_>>()),
        ("40 pairs in turn", (0..1000).map(|i| mk(&kinds[(i % 40) as usize], i)).collect()),
        ("40 pairs, runs of 10", (0..1000).map(|i| mk(&kinds[(i / 10 % 40) as usize], i)).collect()),
    ] {
        let mut c = Collector::new(ServerId::from_u128(1));
        let now = SystemClock.now();
        c.fold(&events, now);
        let mut best = f64::MAX;
        for _ in 0..200 {
            let b = Instant::now();
            for _ in 0..20 { c.fold(std::hint::black_box(&events), now); }
            best = best.min(b.elapsed().as_nanos() as f64 / 20_000.0);
        }
        println!("fold {name}: {best:.1} ns an event");
    }
}

fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<&str> = s[s.rfind(')').unwrap()..].split(' ').collect();
    (f[12].parse::<f64>().unwrap() + f[13].parse::<f64>().unwrap()) / 100.0
}
#[tokio::main]
async fn main() {
    fold();
    let tasks: u64 = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(100_000);
    let mut cpus = [vec![], vec![]];
    let mut times = [vec![], vec![]];
    for round in 0..12 {
        for which in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            let dir = tempfile::tempdir().unwrap();
            let store = RedbStore::open(dir.path().join("f.redb")).await.unwrap();
            let client = Client::new(store.clone());
            for c in (0..tasks).collect::<Vec<_>>().chunks(4000) { client.enqueue_many(c.iter().map(|&n| Noop(n))).await.unwrap(); }
            let c0 = cpu();
            let t = drain(&store.clone().into_store(), tasks, which == 1).await;
            cpus[which].push((cpu() - c0) * 1e6 / tasks as f64);
            store.close().await.unwrap();
            times[which].push(tasks as f64 / t.as_secs_f64());
        }
    }
    for (name, v) in ["without", "with"].iter().zip(&mut times) {
        v.sort_by(f64::total_cmp);
        println!("redb drain {name}: median {:.0}/s, best {:.0}/s", v[v.len()/2], v[v.len()-1]);
    }
    for (name, v) in ["without", "with"].iter().zip(&mut cpus) {
        v.sort_by(f64::total_cmp);
        println!("redb drain {name}: cpu median {:.2} us a task, least {:.2}", v[v.len()/2], v[0]);
    }
}
