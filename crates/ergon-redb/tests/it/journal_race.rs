//! Workers, operators and readers at once: what is read is what happened, in its order.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ergon_core::{
    ClaimedTask, Command, Conclusion, Outcome, ProgressReport, Selection, TaskId, Verdict,
    report::ClaimReport,
    store::{Control, Dispatch, Enqueue, Inspect, Maintain, Observe, RescueRequest},
};
use ergon_redb::RedbStore;
use ergon_testing::harness::{Harness, Told, complete, retry};
use tokio::task::JoinSet;

const TASKS: usize = 2_000;
const WORKERS: usize = 4;

struct Work {
    h: Harness,
    store: RedbStore,
    done: AtomicUsize,
}

impl Work {
    /// Reports, ends, retries or gives back; answers whether the task is over.
    async fn serve(&self, task: &ClaimedTask, number: usize) -> bool {
        let Self { h, store, .. } = self;
        let done = u64::try_from(number).unwrap();
        let report =
            ClaimReport { id: task.id, token: task.token, report: ProgressReport::new(done) };
        let conclusion = match task.token.get() % 5 {
            0 => retry(Duration::ZERO),
            1 => Conclusion::Release,
            _ => complete(),
        };
        let is_end = matches!(conclusion, Conclusion::Complete { .. });
        let outcome = [Outcome { id: task.id, token: task.token, conclusion }];
        // At once, so that a report may meet the batch that ends its claim.
        let (reported, ended) = tokio::join!(
            store.report(std::slice::from_ref(&report), h.now()),
            store.finish(&outcome, h.now()),
        );
        assert!(reported.is_ok());
        match ended.unwrap()[0] {
            Verdict::Applied => is_end,
            Verdict::CancelRequested => true,
            // It was taken back in the meantime.
            Verdict::Stale => false,
            verdict @ Verdict::AlreadyApplied => panic!("{verdict:?}"),
        }
    }

    async fn work(&self, number: usize) {
        let mut request = self.h.request(1 + number * 3);
        while self.done.load(Ordering::SeqCst) < TASKS {
            // A lease that is over at once for some, so that sweeps find something.
            request.lease = Duration::from_micros(if number == 0 { 1 } else { 60_000_000 });
            for (at, task) in self.store.claim(&request).await.unwrap().iter().enumerate() {
                let is_over = self.serve(task, at).await;
                self.done.fetch_add(usize::from(is_over), Ordering::SeqCst);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Cancels some, moves some, and takes back what a lease has left.
    async fn meddle(&self, ids: &[TaskId]) {
        for chunk in ids.chunks(5).cycle() {
            if self.done.load(Ordering::SeqCst) >= TASKS {
                return;
            }
            let one = Selection::Ids(vec![chunk[0]]);
            let priority = Command::SetPriority { priority: 1 };
            self.store.apply(&one, &priority, self.h.now()).await.unwrap();
            let other = Selection::Ids(chunk[chunk.len() - 1..].to_vec());
            let cancel = Command::Cancel { reason: "not any more".to_owned() };
            let applied = self.store.apply(&other, &cancel, self.h.now()).await.unwrap();
            let at_once = applied
                .verdicts
                .iter()
                .filter(|(_, verdict)| matches!(verdict, ergon_core::CommandVerdict::Applied));
            self.done.fetch_add(at_once.count(), Ordering::SeqCst);
            let now = ergon_core::Now::At(self.h.later(Duration::from_secs(1)));
            let request = RescueRequest::default().deaths_max(u16::MAX).now(now);
            let rescued = self.store.rescue_expired(&request).await.unwrap();
            let cancelled = rescued
                .events
                .iter()
                .filter(|event| event.kind() == ergon_core::EventKind::TaskCancelled);
            self.done.fetch_add(cancelled.count(), Ordering::SeqCst);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everything_is_told_once_and_in_order() {
    let store = RedbStore::in_memory().unwrap();
    let h = Harness::new(store.clone());
    let mut reader = h.watch("suite").await;
    let tasks: Vec<_> =
        (0..TASKS).map(|_| h.task_with(|task| task.max_attempts = u16::MAX)).collect();
    let ids: Vec<_> = tasks.iter().map(|task| task.id).collect();
    let work = Arc::new(Work { h: h.clone(), store: store.clone(), done: AtomicUsize::new(0) });
    let mut all = JoinSet::new();
    for number in 0..WORKERS {
        let work = Arc::clone(&work);
        all.spawn(async move { work.work(number).await });
    }
    {
        let work = Arc::clone(&work);
        all.spawn(async move { work.meddle(&ids).await });
    }
    for chunk in tasks.chunks(50) {
        store.insert(chunk, h.now()).await.unwrap();
    }
    let mut told = Told::default();
    while !all.is_empty() {
        store.wait_for_changes(&reader.cursor, Duration::from_millis(20)).await;
        for event in reader.events().await {
            told.hear(&event).unwrap();
        }
        while let Some(ended) = all.try_join_next() {
            ended.unwrap();
        }
    }
    for event in reader.events().await {
        told.hear(&event).unwrap();
    }
    told.check(&h.projection().await, h.instant()).unwrap();
    assert!(store.check().await.unwrap().problems.is_empty());
    let shown = store.queues(h.now()).await.unwrap();
    assert_eq!(shown[0].counts.total(), u64::try_from(TASKS).unwrap());
}
