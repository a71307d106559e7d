//! How many tasks are worth claiming before there are slots for them.

use std::{
    cmp::{max, min},
    time::Duration,
};

use tokio::time::Instant;

use crate::slots::{Slots, Worked};

/// For how many claims the stock is to last. A claim for it is sent when half of it is left, so that
/// it lasts until that is answered, also when it takes half as long again as usual.
const LASTS_CLAIMS: u32 = 3;

/// For how much longer the stock is to last, so that claims for it are not sent for single tasks. As
/// long as a claim for free slots waits for others.
const MARGIN: Duration = Duration::from_millis(1);

/// Longest time that the stock is to last, however long claims take: half of how long a task may wait
/// in it.
const LASTS_MAX: Duration = Duration::from_millis(50);

/// By how much slots may be faster than they were. What they did may be less than they can, as they
/// waited for tasks.
const GROWTH: u32 = 4;

/// Measures how fast attempts end and how long claims take.
///
/// Of every queue so many tasks are worth claiming ahead as its slots work off during a few claims.
/// The slower of two rates counts, both taken of what ended since the claim before the last one was
/// sent: what the slots can do when attempts take as long as those did, and a few times what they did.
/// By the first a server whose attempts are slow claims nothing ahead, also when some happen to end
/// together; by the second nor does one that was idle, or whose attempts have become slow.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Most tasks to be claimed ahead, over all queues.
    most: usize,
    /// How long a claim takes, smoothed; unknown at first.
    latency: Option<Duration>,
    older: Mark,
    newer: Mark,
}

/// What had been done when a claim was sent, by place of the queue.
#[derive(Debug)]
struct Mark {
    at: Instant,
    worked: Vec<Worked>,
}

impl Pace {
    pub(crate) fn new(most: usize, now: Instant, slots: &Slots) -> Self {
        let mark = || Mark { at: now, worked: worked(slots) };
        Self { most, latency: None, older: mark(), newer: mark() }
    }

    /// Notes that a claim is sent.
    pub(crate) fn claim_sent(&mut self, now: Instant, slots: &Slots) {
        let newest = Mark { at: now, worked: worked(slots) };
        self.older = std::mem::replace(&mut self.newer, newest);
    }

    /// Notes that a claim was answered.
    pub(crate) fn claim_answered(&mut self, took: Duration) {
        let took = min(took, LASTS_MAX);
        self.latency = Some(self.latency.map_or(took, |latency| (latency * 3 + took) / 4));
    }

    /// Forgets how fast the queue at this place was.
    pub(crate) fn forget(&mut self, place: usize, slots: &Slots) {
        for mark in [&mut self.older, &mut self.newer] {
            if let Some(worked) = mark.worked.get_mut(place) {
                *worked = slots.worked(place);
            }
        }
    }

    /// How many tasks of each queue are worth claiming ahead, by its place.
    pub(crate) fn ahead(&self, now: Instant, slots: &Slots, ahead: &mut Vec<usize>) {
        ahead.clear();
        let mut left = self.most;
        for (place, before) in self.older.worked.iter().enumerate() {
            let worked = slots.worked(place).since(*before);
            let time = max((now - self.older.at) / GROWTH, worked.spent / slots.width(place));
            let share = min(self.worked_off(worked.attempts, time), left);
            left -= share;
            ahead.push(share);
        }
    }

    /// How many tasks are worked off while the stock is to last, when so many took this time.
    fn worked_off(&self, attempts: u64, time: Duration) -> usize {
        let Some(latency) = self.latency else { return 0 };
        let lasts = min(latency * LASTS_CLAIMS + MARGIN, LASTS_MAX).as_nanos();
        let time = time.as_nanos();
        if time == 0 {
            return 0;
        }
        // Rounded: slow handlers make it nothing.
        let tasks = (u128::from(attempts) * lasts + time / 2) / time;
        usize::try_from(tasks).unwrap_or(usize::MAX)
    }
}

fn worked(slots: &Slots) -> Vec<Worked> {
    (0..slots.len()).map(|place| slots.worked(place)).collect()
}

#[cfg(test)]
mod tests {
    use ergon_core::QueueName;

    use super::*;
    use crate::config::Served;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn slots(queues: &[(&str, usize)]) -> Slots {
        let served = |&(name, concurrency)| {
            let name = QueueName::new(name).unwrap();
            Served { name, concurrency, weight: 1, priority: 0 }
        };
        Slots::new(queues.iter().map(served).collect(), None)
    }

    fn work(slots: &Slots, place: usize, attempts: u32, each: Duration) {
        for _ in 0..attempts {
            slots.take(place);
            slots.give_back(place, each);
        }
    }

    fn ahead(pace: &Pace, now: Instant, slots: &Slots) -> Vec<usize> {
        let mut ahead = Vec::new();
        pace.ahead(now, slots, &mut ahead);
        ahead
    }

    #[test]
    fn as_much_is_ahead_as_is_worked_off_during_a_few_claims() {
        let (start, slots) = (Instant::now(), slots(&[("a", 10), ("b", 10)]));
        let mut pace = Pace::new(1_000, start, &slots);
        work(&slots, 0, 100, MILLISECOND);
        let now = start + MILLISECOND * 10;
        assert_eq!(ahead(&pace, now, &slots), [0, 0], "nobody knows how long a claim takes");
        pace.claim_answered(MILLISECOND * 3);
        // 10 a millisecond, for thrice three milliseconds and one.
        assert_eq!(ahead(&pace, now, &slots), [100, 0]);
        // Of the time since, three quarters may have been without work.
        assert_eq!(ahead(&pace, start + MILLISECOND * 40, &slots), [100, 0]);
        assert_eq!(ahead(&pace, start + MILLISECOND * 400, &slots), [10, 0]);
        // What was done before the claim before the last one does not count.
        pace.claim_sent(now, &slots);
        assert_eq!(ahead(&pace, now, &slots), [100, 0]);
        pace.claim_sent(now, &slots);
        assert_eq!(ahead(&pace, now + MILLISECOND, &slots), [0, 0]);
    }

    #[test]
    fn slow_attempts_that_end_together_are_slow_all_the_same() {
        let (start, slots) = (Instant::now(), slots(&[("a", 10)]));
        let mut pace = Pace::new(1_000, start, &slots);
        pace.claim_answered(MILLISECOND);
        work(&slots, 0, 10, Duration::from_secs(1));
        assert_eq!(ahead(&pace, start + MILLISECOND, &slots), [0]);
    }

    #[test]
    fn the_stock_has_bounds_in_tasks_and_in_time() {
        let (start, slots) = (Instant::now(), slots(&[("a", 10), ("b", 10)]));
        let mut pace = Pace::new(70, start, &slots);
        pace.claim_answered(Duration::from_secs(60));
        work(&slots, 0, 10, MILLISECOND);
        work(&slots, 1, 100, MILLISECOND);
        let now = start + MILLISECOND * 40;
        assert_eq!(ahead(&pace, now, &slots), [50, 20]);
        pace.forget(0, &slots);
        assert_eq!(ahead(&pace, now, &slots), [0, 70]);
        assert_eq!(ahead(&Pace::new(0, start, &slots), now, &slots), [0, 0]);
    }
}
