//! Tasks that are claimed and that no slot runs yet.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use ergon_core::{ClaimedTask, Conclusion};
use tokio::time::Instant;

use crate::{
    attempt::{Attempt, flag},
    config::ServerConfig,
    registry::Registered,
    shared::{Finished, Shared},
};

/// Longest time that a task waits here for a slot. It is claimed for slots that are about to come
/// free, so by then they have not: another server may have some. Chosen without measurement: twice
/// as long as a stock can last that is worked off as fast as was foreseen, and short enough for
/// whoever pauses a queue.
const AGE_MAX: Duration = Duration::from_millis(100);

/// How long a task has to wait that the store should not have handed out.
const MISPLACED_DELAY: Duration = Duration::from_secs(60);

/// A task that is held and can be started.
pub(crate) struct Ready {
    pub(crate) attempt: Arc<Attempt>,
    pub(crate) handler: Arc<Registered>,
    /// When its claim was answered.
    since: Instant,
}

/// Tasks that are held and wait for a slot, by queue. Those of one queue are in the order in which
/// they start: the larger priority first, then the earlier claim.
///
/// Beats renew their leases like those of tasks that run.
pub(crate) struct Stock {
    queues: Vec<VecDeque<Ready>>,
    len: usize,
    age_max: Duration,
}

impl Stock {
    /// Empty, for so many queues.
    pub(crate) fn new(queues: usize, config: &ServerConfig) -> Self {
        Self {
            queues: (0..queues).map(|_| VecDeque::new()).collect(),
            len: 0,
            age_max: std::cmp::min(AGE_MAX, config.lease / 4),
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many tasks of the queue at this place wait.
    pub(crate) fn len_of(&self, place: usize) -> usize {
        self.queues.get(place).map_or(0, VecDeque::len)
    }

    /// How long a task may wait here.
    pub(crate) const fn age_max(&self) -> Duration {
        self.age_max
    }

    /// Takes in what a claim brought, sent at `claim_sent` of the server's life. Answers what cannot
    /// be run here, and how its attempts end.
    pub(crate) fn take_in(
        &mut self,
        shared: &Shared,
        claimed: Vec<ClaimedTask>,
        claim_sent: Duration,
    ) -> Vec<Finished> {
        let since = Instant::now();
        let mut misplaced = Vec::new();
        let mut held = Vec::with_capacity(claimed.len());
        for task in claimed {
            let handler = shared.registry.get(&task.spec.kind).cloned();
            let place = shared.slots.place(&task.spec.queue);
            let queue = place.unwrap_or(usize::MAX);
            let attempt = Arc::new(Attempt::new(task, queue, claim_sent, Arc::clone(&shared.home)));
            held.push(Arc::clone(&attempt));
            match (handler, self.queues.get_mut(queue)) {
                (Some(handler), Some(queue)) => {
                    push(queue, Ready { attempt, handler, since });
                    self.len += 1;
                }
                (None, _) | (_, None) => {
                    let id = attempt.task.id;
                    tracing::error!(%id, "the store handed out what was not asked for");
                    attempt.set_ended();
                    let conclusion = Conclusion::Snooze { delay: MISPLACED_DELAY };
                    misplaced.push(Finished::unstarted(attempt, conclusion));
                }
            }
        }
        shared.held.insert(held);
        misplaced
    }

    /// Takes the task out that is the next of its queue.
    pub(crate) fn take(&mut self, place: usize) -> Option<Ready> {
        let ready = self.queues.get_mut(place)?.pop_front()?;
        self.len -= 1;
        Some(ready)
    }

    /// Takes everything out.
    pub(crate) fn take_all(&mut self) -> Vec<Ready> {
        self.len = 0;
        self.queues.iter_mut().flat_map(|queue| queue.drain(..)).collect()
    }

    /// Takes out what has waited for too long.
    pub(crate) fn take_old(&mut self, now: Instant) -> Vec<Ready> {
        let mut old = Vec::new();
        for queue in &mut self.queues {
            let (gone, left) = queue.drain(..).partition(|ready| now >= ready.since + self.age_max);
            *queue = left;
            old.extend::<VecDeque<_>>(gone);
        }
        self.len -= old.len();
        old
    }

    /// When the oldest has waited for too long.
    pub(crate) fn next_old(&self) -> Option<Instant> {
        let since = self.queues.iter().flatten().map(|ready| ready.since);
        since.min().map(|since| since + self.age_max)
    }
}

/// Adds a task behind those of its priority.
fn push(queue: &mut VecDeque<Ready>, ready: Ready) {
    let priority = ready.attempt.task.priority;
    if queue.back().is_none_or(|last| last.attempt.task.priority >= priority) {
        queue.push_back(ready);
    } else {
        let at = queue.partition_point(|before| before.attempt.task.priority >= priority);
        queue.insert(at, ready);
    }
}

/// How attempts end that were never started: they are given back, unless the claim is lost already.
pub(crate) fn released(shared: &Shared, stocked: Vec<Ready>) -> Vec<Finished> {
    let mut finished = Vec::with_capacity(stocked.len());
    for Ready { attempt, .. } in stocked {
        attempt.set_ended();
        if attempt.has(flag::DISOWNED) {
            shared.held.remove([&attempt.held()]);
        } else {
            let conclusion = Conclusion::Release;
            finished.push(Finished::unstarted(attempt, conclusion));
        }
    }
    finished
}
