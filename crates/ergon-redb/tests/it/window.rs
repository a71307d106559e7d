//! More tasks than the window in memory holds: every one is claimed, and in order.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use ergon_core::{Command, CommandVerdict, NewTask, RunAt, Selection, TaskId};
use ergon_redb::RedbOptions;
use ergon_testing::{
    SeededRng,
    harness::{Harness, cancel_command, complete, kind, queue},
};

use crate::{medium::below, rig::Rig};

/// The smallest window there is.
fn small_window(options: RedbOptions) -> RedbOptions {
    options.window_tasks(1_024)
}

const KINDS: [&str; 3] = ["work", "other", "third"];
const QUEUES: [&str; 2] = ["default", "second"];

/// Where a task stands in its queue: by priority, due time and id.
type Place = (Reverse<i16>, i64, TaskId);

struct Backlog {
    rng: SeededRng,
    /// What is to be claimed from each queue, in order.
    queues: [BTreeSet<Place>; 2],
    places: BTreeMap<TaskId, (usize, Place)>,
}

impl Backlog {
    fn new(seed: u64) -> Self {
        let (queues, places) = Default::default();
        Self { rng: SeededRng::new(seed), queues, places }
    }

    /// Inserts tasks of random lanes, priorities and due times in the past.
    async fn insert(&mut self, h: &Harness, len: usize, priorities: &[i16]) {
        let tasks: Vec<NewTask> = (0..len).map(|_| self.task(h, priorities)).collect();
        h.create(&tasks).await;
    }

    fn task(&mut self, h: &Harness, priorities: &[i16]) -> NewTask {
        let at = below(&self.rng, QUEUES.len());
        let late = i64::try_from(below(&self.rng, 1_000)).unwrap();
        let task = h.task_with(|task| {
            task.spec.queue = queue(QUEUES[at]);
            task.spec.kind = kind(KINDS[below(&self.rng, KINDS.len())]);
            task.priority = priorities[below(&self.rng, priorities.len())];
            let micros = ergon_core::time::to_micros(h.instant()) - late;
            task.run_at = RunAt::At(ergon_core::time::from_micros(micros));
        });
        let micros = ergon_core::time::to_micros(h.instant()) - late;
        let place = (Reverse(task.priority), micros, task.id);
        self.queues[at].insert(place);
        self.places.insert(task.id, (at, place));
        task
    }

    /// Cancels random tasks, wherever they stand.
    async fn cancel(&mut self, h: &Harness, len: usize) {
        let ids: Vec<TaskId> = (0..len).filter_map(|_| self.any()).collect();
        for &id in &ids {
            if let Some((at, place)) = self.places.remove(&id) {
                self.queues[at].remove(&place);
            }
        }
        let mut ids = ids;
        ids.sort_unstable();
        ids.dedup();
        let applied = h.apply_to(Selection::Ids(ids), cancel_command()).await;
        let is_applied = |verdict| verdict == CommandVerdict::Applied;
        assert!(applied.verdicts.iter().all(|&(_, verdict)| is_applied(verdict)));
    }

    /// Gives random tasks another priority.
    async fn reprioritise(&mut self, h: &Harness, len: usize) {
        for _ in 0..len {
            let Some(id) = self.any() else { return };
            let priority = i16::try_from(below(&self.rng, 9)).unwrap() - 4;
            h.apply(id, Command::SetPriority { priority }).await;
            if let Some((at, place)) = self.places.get_mut(&id) {
                self.queues[*at].remove(place);
                place.0 = Reverse(priority);
                self.queues[*at].insert(*place);
            }
        }
    }

    fn any(&self) -> Option<TaskId> {
        let at = below(&self.rng, std::cmp::max(1, self.places.len()));
        self.places.keys().nth(at).copied()
    }

    /// Claims from one queue, and expects those that are first in line; completes them.
    async fn claim(&mut self, h: &Harness, at: usize, limit: usize) {
        let mut request = h.request_from(limit, &[QUEUES[at]]);
        request.kinds = KINDS.map(kind).to_vec().into();
        let mut claimed = h.claim_by(&request).await;
        // A claim may answer fewer while it refills its window, but never none of many.
        assert!(!claimed.is_empty() || self.queues[at].is_empty());
        for task in &claimed {
            let place = self.queues[at].pop_first().expect("no more than was enqueued");
            assert_eq!(task.id, place.2, "the first in line comes first");
            self.places.remove(&task.id);
        }
        let outcomes: Vec<_> = claimed
            .drain(..)
            .map(|task| ergon_core::Outcome {
                id: task.id,
                token: task.token,
                conclusion: complete(),
            })
            .collect();
        h.finish_all(&outcomes).await;
    }

    fn len(&self) -> usize {
        self.places.len()
    }
}

#[tokio::test]
async fn a_backlog_larger_than_the_window_is_claimed_in_order() {
    const PRIORITIES: [i16; 5] = [i16::MIN, -3, 0, 1, 5];
    let mut rig = Rig::with(small_window).await;
    let mut backlog = Backlog::new(1);
    for _ in 0..5 {
        backlog.insert(&rig.h, 1_000, &PRIORITIES).await;
    }
    rig.check().await;
    for round in 0..12 {
        match round {
            3 => rig.reopen().await,
            6 => rig.kill().await,
            9 => rig.drop_and_reopen().await,
            _ => {}
        }
        // In between come urgent ones, and spilled ones are cancelled or moved.
        backlog.insert(&rig.h, 30, &[i16::MAX, 7, -3]).await;
        backlog.cancel(&rig.h, 25).await;
        backlog.reprioritise(&rig.h, 5).await;
        for at in [0, 1] {
            backlog.claim(&rig.h, at, 150).await;
        }
    }
    rig.store.check().await.unwrap();
    while backlog.len() > 0 {
        backlog.claim(&rig.h, 0, 500).await;
        backlog.claim(&rig.h, 1, 500).await;
    }
    rig.check().await;
    assert!(rig.h.claim(1).await.is_empty());
}

#[tokio::test]
async fn one_lane_much_longer_than_the_window_is_claimed_in_order() {
    let mut rig = Rig::with(small_window).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.extend(rig.h.create(&rig.h.tasks(1_250)).await);
    }
    // Spilled ones are called off before they were ever in memory.
    let cancelled: Vec<TaskId> = ids.iter().copied().skip(2_000).step_by(3).collect();
    rig.h.apply_to(Selection::Ids(cancelled.clone()), cancel_command()).await;
    ids.retain(|id| cancelled.binary_search(id).is_err());
    let mut claimed = Vec::new();
    for round in 0.. {
        if round == 2 {
            rig.kill().await;
        }
        let batch = rig.h.claim(700).await;
        if batch.is_empty() {
            break;
        }
        claimed.extend(batch.iter().map(|task| task.id));
        let outcomes = batch.into_iter().map(|task| ergon_core::Outcome {
            id: task.id,
            token: task.token,
            conclusion: complete(),
        });
        rig.h.finish_all(&outcomes.collect::<Vec<_>>()).await;
    }
    assert_eq!(claimed, ids);
    rig.check().await;
}

#[tokio::test]
async fn what_is_given_back_stands_where_it_stood() {
    let rig = Rig::with(small_window).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.extend(rig.h.create(&rig.h.tasks(1_000)).await);
    }
    for _ in 0..3 {
        let claimed = rig.h.claim(1_500).await;
        for task in claimed.iter().rev().step_by(2) {
            rig.h.conclude(task, ergon_core::Conclusion::Release).await;
        }
        for task in claimed.iter().rev().skip(1).step_by(2) {
            rig.h.conclude(task, ergon_core::Conclusion::Release).await;
        }
        rig.check().await;
    }
    let mut claimed = Vec::new();
    while claimed.len() < ids.len() {
        let batch = rig.h.claim(2_000).await;
        assert!(!batch.is_empty());
        claimed.extend(batch.iter().map(|task| task.id));
    }
    assert_eq!(claimed, ids);
}
