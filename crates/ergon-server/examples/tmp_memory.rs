//! Temporary.
use std::{sync::{Arc, atomic::{AtomicU64, Ordering::Relaxed}}, time::{Duration, Instant}};
use ergon_core::{*, store::IntoStore as _, event::*, statistics::Collector};
use ergon_server::{Queue, Server, ServerConfig};
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

#[tokio::main]
async fn main() {
    let mut times = [vec![], vec![]];
    for round in 0..6 {
        for which in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            let store = ergon_testing::MemoryStore::new();
            let client = Client::new(store.clone());
            client.enqueue_many((0..3000).map(Noop)).await.unwrap();
            let t = drain(&store.into_store(), 3000, which == 1).await;
            times[which].push(3000.0 / t.as_secs_f64());
        }
    }
    for (name, v) in ["without", "with"].iter().zip(&mut times) {
        v.sort_by(f64::total_cmp);
        println!("memory drain {name}: median {:.0}/s, best {:.0}/s", v[v.len()/2], v[v.len()-1]);
    }
}
