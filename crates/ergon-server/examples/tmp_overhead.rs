//! Scratch.
#![allow(clippy::all, missing_docs, clippy::unwrap_used, clippy::print_stdout)]
use std::{sync::{Arc, Mutex, atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst}}, time::{Duration, Instant}};
use async_trait::async_trait;
use ergon_core::*;
use ergon_core::store::*;
use ergon_server::*;
use serde::{Serialize, Deserialize};
use jiff::Timestamp;

#[derive(Debug)]
struct Stub { todo: Arc<Mutex<u64>>, done: Arc<AtomicU64>, target: AtomicU64, claims: AtomicU64, finishes: AtomicU64, spec: TaskSpec, all: tokio::sync::Notify, tx: std::sync::mpsc::SyncSender<Job>, token: AtomicU64, work: tokio::sync::Notify }
enum Job { Claim(usize, tokio::sync::oneshot::Sender<Vec<ClaimedTask>>), Finish(usize, tokio::sync::oneshot::Sender<Vec<Verdict>>) }
impl std::fmt::Debug for Job { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("j") } }
fn un<T>() -> Result<T, StoreError> { Err(StoreError::Closed) }
#[derive(Clone, Debug)] struct S(Arc<Stub>);
#[async_trait] impl Enqueue for S { async fn insert(&self, _t: &[NewTask], _n: Now) -> Result<Vec<Inserted>, StoreError> { un() } }
#[async_trait] impl Dispatch for S {
  async fn claim(&self, r: &ClaimRequest) -> Result<Vec<ClaimedTask>, StoreError> {
    let (tx, rx) = tokio::sync::oneshot::channel(); self.0.claims.fetch_add(1, SeqCst);
    self.0.tx.send(Job::Claim(r.limit, tx)).unwrap(); Ok(rx.await.unwrap()) }
  async fn finish(&self, o: &[Outcome], _n: Now) -> Result<Vec<Verdict>, StoreError> {
    let (tx, rx) = tokio::sync::oneshot::channel(); self.0.finishes.fetch_add(1, SeqCst);
    self.0.tx.send(Job::Finish(o.len(), tx)).unwrap(); let v = rx.await.unwrap();
    if self.0.done.fetch_add(o.len() as u64, SeqCst) + o.len() as u64 >= self.0.target.load(SeqCst) { self.0.all.notify_one(); }
    Ok(v) }
  async fn beat(&self, _b: &Beat) -> Result<BeatReply, StoreError> { Ok(BeatReply::default()) }
  async fn wait_for_work(&self, _q: &[QueueName], within: Duration) { let _ = tokio::time::timeout(within, self.0.work.notified()).await; }
}
#[async_trait] impl Maintain for S { async fn rescue_expired(&self, _r: &RescueRequest) -> Result<Report, StoreError> { Ok(Report::default()) } async fn prune(&self, _r: &PruneRequest) -> Result<Report, StoreError> { Ok(Report::default()) } }
#[async_trait] impl Inspect for S {
  async fn tasks(&self, _i: &[TaskId], _n: Now) -> Result<Vec<Option<TaskRecord>>, StoreError> { un() }
  async fn list(&self, _f: &TaskFilter, _p: &Page, _n: Now) -> Result<TaskPage, StoreError> { un() }
  async fn count(&self, _f: &TaskFilter, _n: Now) -> Result<Count, StoreError> { un() }
  async fn queues(&self, _n: Now) -> Result<Vec<QueueInfo>, StoreError> { Ok(vec![]) }
  async fn wait_for_finish(&self, _id: TaskId, _w: Duration) -> Result<bool, StoreError> { un() }
}
#[async_trait] impl Control for S {
  async fn apply(&self, _s: &Selection, _c: &Command, _n: Now) -> Result<Applied, StoreError> { un() }
  async fn set_queue(&self, _q: &QueueName, _c: &QueueChange) -> Result<(), StoreError> { un() }
  fn capabilities(&self) -> Capabilities { Capabilities::none() }
}
#[derive(Serialize, Deserialize)] struct Noop { n: u32 }
impl Task for Noop { const KIND: &'static str = "noop"; type Output = (); }
fn cpu() -> f64 { let s = std::fs::read_to_string("/proc/self/stat").unwrap(); let f: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect(); (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0 }
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
  let conc: usize = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(64);
  let total: u64 = 1_000_000;
  let (tx, rx) = std::sync::mpsc::sync_channel::<Job>(1000);
  let spec = TaskSpec::new(KindName::new("noop").unwrap(), r#"{"n":7}"#);
  let todo = Arc::new(Mutex::new(0u64));
  let st = S(Arc::new(Stub { todo: todo.clone(), done: Default::default(), target: AtomicU64::new(total), claims: Default::default(), finishes: Default::default(), spec: spec.clone(), all: Default::default(), tx, token: Default::default(), work: Default::default() }));
  std::thread::spawn(move || { let mut token = 0; let now = Timestamp::now();
    while let Ok(j) = rx.recv() { match j {
      Job::Claim(l, tx) => { let mut t = todo.lock().unwrap(); let n = std::cmp::min(l as u64, *t); *t -= n;
        let v = (0..n).map(|_| { token += 1; ClaimedTask { id: TaskId::from_parts(token, token, 0), token: Token::new(token), spec: spec.clone(), priority: 0, attempt: 1, max_attempts: 3, crash_count: 0, created_at: now, run_at: now, claimed_at: now } }).collect(); let _ = tx.send(v); }
      Job::Finish(n, tx) => { let _ = tx.send(vec![Verdict::Applied; n]); } } } });
  let server = Server::builder(st.clone()).handler(async |_n: Noop| Ok(())).queue(Queue::new("default").concurrency(conc)).build().unwrap().start();
  tokio::time::sleep(Duration::from_millis(200)).await;
  for _ in 0..3 {
  st.0.done.store(0, SeqCst); let c0 = st.0.claims.load(SeqCst); let f0 = st.0.finishes.load(SeqCst);
  *st.0.todo.lock().unwrap() = total; let (t, c) = (Instant::now(), cpu()); st.0.work.notify_one();
  st.0.all.notified().await;
  let (t, c) = (t.elapsed().as_secs_f64(), cpu() - c);
  println!("conc {conc}: {:.0} tasks/s, cpu {:.2} us/task, per claim {:.1}, per finish {:.1}", total as f64 / t, c * 1e6 / total as f64, total as f64 / (st.0.claims.load(SeqCst) - c0) as f64, total as f64 / (st.0.finishes.load(SeqCst) - f0) as f64);
  }
  let c = cpu(); tokio::time::sleep(Duration::from_secs(5)).await; println!("idle cpu {:.2} %", (cpu() - c) / 5.0 * 100.0);
  drop(server.shutdown().await);
  let _ = AtomicUsize::new(0);
}
