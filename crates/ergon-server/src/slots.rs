//! Which queue has room for how many attempts, and how what is scarce is shared.

use std::{
    cmp::{max, min},
    ops::Range,
    sync::atomic::{
        AtomicU64, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
    time::Duration,
};

use ergon_core::{QueueName, store::QueueSlots};
use tokio::sync::Notify;

use crate::config::{CLAIM_MAX, Served};

/// The room of a server: per queue, and over all of them.
///
/// Counters, not permits: only the fetcher takes, so nothing is ever taken twice.
#[derive(Debug)]
pub(crate) struct Slots {
    /// The larger priority first.
    queues: Vec<Slot>,
    /// Attempts at once over all queues.
    cap: usize,
    busy: AtomicUsize,
    /// Whoever frees a slot rings when fewer than this many are left busy.
    ring_below: AtomicUsize,
    freed: Notify,
}

#[derive(Debug)]
struct Slot {
    served: Served,
    busy: AtomicUsize,
    /// Attempts that gave their slots back, and how long they had them in nanoseconds.
    attempts: AtomicU64,
    nanos: AtomicU64,
}

impl Slot {
    fn free(&self) -> usize {
        self.served.concurrency.saturating_sub(self.busy.load(SeqCst))
    }
}

/// What the slots of a queue have done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Worked {
    /// Attempts that ended.
    pub(crate) attempts: u64,
    /// How long they took, one by one.
    pub(crate) spent: Duration,
}

impl Worked {
    /// What was done after `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        let attempts = self.attempts.saturating_sub(before.attempts);
        Self { attempts, spent: self.spent.saturating_sub(before.spent) }
    }
}

/// What a claim asks for.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// In the order of preference; a queue can stand in it twice, first with its share and then
    /// with what it can take beyond it.
    pub(crate) queues: Vec<QueueSlots>,
    /// How many tasks each queue can take, by its place.
    pub(crate) asked: Vec<usize>,
    /// How many tasks over all queues.
    pub(crate) limit: usize,
}

impl Slots {
    pub(crate) fn new(mut queues: Vec<Served>, cap: Option<usize>) -> Self {
        queues.sort_by_key(|queue| std::cmp::Reverse(queue.priority));
        let sum = queues.iter().map(|queue| queue.concurrency).sum();
        let slot = |served| Slot {
            served,
            busy: AtomicUsize::new(0),
            attempts: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
        };
        Self {
            queues: queues.into_iter().map(slot).collect(),
            cap: min(cap.unwrap_or(sum), sum),
            busy: AtomicUsize::new(0),
            ring_below: AtomicUsize::new(0),
            freed: Notify::new(),
        }
    }

    /// How many queues there are.
    pub(crate) const fn len(&self) -> usize {
        self.queues.len()
    }

    /// The queues, and how many attempts of each run at once at the most.
    pub(crate) fn served(&self) -> impl Iterator<Item = (&QueueName, usize)> {
        self.queues.iter().map(|queue| (&queue.served.name, queue.served.concurrency))
    }

    /// How many attempts run at once over all queues at the most.
    pub(crate) const fn cap(&self) -> usize {
        self.cap
    }

    /// The place of a queue.
    pub(crate) fn place(&self, name: &QueueName) -> Option<usize> {
        self.queues.iter().position(|queue| queue.served.name == *name)
    }

    /// How many attempts can be started over all queues.
    pub(crate) fn room(&self) -> usize {
        self.cap.saturating_sub(self.busy.load(SeqCst))
    }

    /// Says whether the queue at this place can take a task.
    pub(crate) fn has_room(&self, place: usize) -> bool {
        self.room() > 0 && self.queues.get(place).is_some_and(|queue| queue.free() > 0)
    }

    /// The queues that can take a task.
    pub(crate) fn with_room(&self) -> Vec<QueueName> {
        let free = self.queues.iter().filter(|queue| queue.free() > 0);
        free.map(|queue| queue.served.name.clone()).collect()
    }

    pub(crate) fn take(&self, place: usize) {
        self.busy.fetch_add(1, SeqCst);
        if let Some(queue) = self.queues.get(place) {
            queue.busy.fetch_add(1, SeqCst);
        }
    }

    /// Frees a slot after an attempt that took so long.
    pub(crate) fn give_back(&self, place: usize, took: Duration) {
        if let Some(queue) = self.queues.get(place) {
            let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            queue.nanos.fetch_add(nanos, Relaxed);
            queue.attempts.fetch_add(1, Relaxed);
            queue.busy.fetch_sub(1, SeqCst);
        }
        let left = self.busy.fetch_sub(1, SeqCst) - 1;
        if left < self.ring_below.load(SeqCst) {
            self.freed.notify_one();
        }
    }

    /// What the slots of the queue at this place have done.
    pub(crate) fn worked(&self, place: usize) -> Worked {
        let queue = self.queues.get(place);
        let attempts = queue.map_or(0, |queue| queue.attempts.load(Relaxed));
        let nanos = queue.map_or(0, |queue| queue.nanos.load(Relaxed));
        Worked { attempts, spent: Duration::from_nanos(nanos) }
    }

    /// How many attempts of the queue at this place run at once at the most; at least 1.
    pub(crate) fn width(&self, place: usize) -> u32 {
        let concurrency = self.queues.get(place).map_or(1, |queue| queue.served.concurrency);
        u32::try_from(max(min(concurrency, self.cap), 1)).unwrap_or(u32::MAX)
    }

    /// The queue that gets the next slot, of those that want one and can take one.
    ///
    /// `credits` keeps between calls what each queue is owed.
    pub(crate) fn prefer(
        &self,
        wants: impl Fn(usize) -> bool,
        credits: &mut [i64],
    ) -> Option<usize> {
        let can = |place| wants(place) && self.has_room(place);
        self.groups().find_map(|group| self.richest(group, can, credits))
    }

    /// Waits until a slot is given back after the last look; may return for nothing.
    pub(crate) async fn freed(&self) {
        self.ring_below.store(usize::MAX, SeqCst);
        self.freed.notified().await;
        self.ring_below.store(0, SeqCst);
    }

    /// Gets ready to be rung: a slot given back after this ends the next [`freed`](Self::freed).
    pub(crate) fn listen(&self) {
        self.ring_below.store(usize::MAX, SeqCst);
    }

    /// Is not rung any more.
    pub(crate) fn ignore(&self) {
        self.ring_below.store(0, SeqCst);
    }

    /// Waits until a quarter of all slots is free.
    pub(crate) async fn quarter_free(&self) {
        let busy_max = self.cap - max(self.cap / 4, 1);
        loop {
            self.ring_below.store(busy_max + 1, SeqCst);
            if self.busy.load(SeqCst) <= busy_max {
                break;
            }
            self.freed.notified().await;
        }
        self.ring_below.store(0, SeqCst);
    }

    /// Plans a claim of the free slots and of what is wanted beyond them: up to `ahead` tasks of each
    /// queue, of which `stocked` are there, both by place.
    ///
    /// `credits` keeps between calls what each queue is owed.
    pub(crate) fn plan(&self, ahead: &[usize], stocked: &[usize], credits: &mut [i64]) -> Plan {
        let of = |counts: &[usize], place| counts.get(place).copied().unwrap_or(0);
        let places = self.queues.iter().enumerate();
        let asked = |(place, queue): (usize, &Slot)| {
            (queue.free() + of(ahead, place)).saturating_sub(of(stocked, place))
        };
        let asked: Vec<usize> = places.map(asked).collect();
        let missing = |place| of(ahead, place).saturating_sub(of(stocked, place));
        let missing: usize = (0..self.len()).map(missing).sum();
        let sum: usize = asked.iter().sum();
        let limit = min(min(self.room() + missing, CLAIM_MAX), sum);
        let mut plan = Plan { queues: Vec::with_capacity(asked.len()), asked, limit };
        if sum <= limit {
            plan.push(&self.queues, |_, free| free);
            return plan;
        }
        for group in self.groups() {
            let shares = self.shares(group.clone(), &plan, credits);
            plan.push(&self.queues, |place, _| of(&shares, place));
            let rest = |place, asked: usize| {
                if group.contains(&place) { asked - of(&shares, place) } else { 0 }
            };
            plan.push(&self.queues, rest);
        }
        plan
    }

    /// The places of queues of one priority, the larger priority first.
    fn groups(&self) -> impl Iterator<Item = Range<usize>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let priority = self.queues.get(at)?.served.priority;
            let same = |queue: &&Slot| queue.served.priority == priority;
            let start = at;
            at += self.queues.iter().skip(start).take_while(same).count();
            Some(start..at)
        })
    }

    /// Shares the limit among queues of one priority, task by task to whom most is owed.
    fn shares(&self, group: Range<usize>, plan: &Plan, credits: &mut [i64]) -> Vec<usize> {
        let mut shares = vec![0; self.queues.len()];
        for _ in 0..plan.limit {
            let can = |place| shares.get(place) < plan.asked.get(place);
            let Some(place) = self.richest(group.clone(), can, credits) else { break };
            if let Some(share) = shares.get_mut(place) {
                *share += 1;
            }
        }
        shares
    }

    /// The queue to which most is owed, of those of a group that can take one; it has had its due
    /// then.
    fn richest(
        &self,
        group: Range<usize>,
        can: impl Fn(usize) -> bool,
        credits: &mut [i64],
    ) -> Option<usize> {
        let mut sum = 0;
        let mut richest: Option<(usize, i64)> = None;
        for place in group {
            let (Some(queue), Some(credit)) = (self.queues.get(place), credits.get_mut(place))
            else {
                continue;
            };
            if !can(place) {
                continue;
            }
            let weight = i64::from(queue.served.weight);
            sum += weight;
            *credit += weight;
            if richest.is_none_or(|(_, most)| *credit > most) {
                richest = Some((place, *credit));
            }
        }
        let (place, _) = richest?;
        if let Some(credit) = credits.get_mut(place) {
            *credit -= sum;
        }
        Some(place)
    }
}

impl Plan {
    fn push(&mut self, queues: &[Slot], slots: impl Fn(usize, usize) -> usize) {
        for (place, (queue, &free)) in queues.iter().zip(&self.asked).enumerate() {
            let slots = slots(place, free);
            if slots > 0 {
                let queue = queue.served.name.clone();
                self.queues.push(QueueSlots { queue, slots });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(name: &str, concurrency: usize, weight: u32, priority: i16) -> Served {
        Served { name: QueueName::new(name).unwrap(), concurrency, weight, priority }
    }

    fn shown(plan: &Plan) -> Vec<(&str, usize)> {
        let queues = plan.queues.iter();
        queues.map(|queue| (queue.queue.as_str(), queue.slots)).collect()
    }

    #[test]
    fn without_scarcity_each_queue_asks_for_what_it_can_take() {
        let slots = Slots::new(vec![served("a", 3, 1, 0), served("b", 2, 1, 5)], None);
        slots.take(1);
        let plan = slots.plan(&[], &[], &mut [0, 0]);
        assert_eq!(shown(&plan), [("b", 2), ("a", 2)]);
        assert_eq!(plan.limit, 4);
    }

    #[test]
    fn scarce_room_goes_by_priority_then_by_weight() {
        let queues = vec![served("low", 8, 1, 0), served("a", 8, 3, 1), served("b", 8, 1, 1)];
        let slots = Slots::new(queues, Some(4));
        let plan = slots.plan(&[], &[], &mut [0; 3]);
        assert_eq!(plan.limit, 4);
        assert_eq!(shown(&plan), [("a", 3), ("b", 1), ("a", 5), ("b", 7), ("low", 4), ("low", 4)]);
    }

    #[test]
    fn weights_hold_over_claims_of_a_single_slot() {
        let slots = Slots::new(vec![served("a", 8, 3, 0), served("b", 8, 1, 0)], Some(1));
        let mut credits = [0, 0];
        let first = |plan: Plan| plan.queues.first().map(|queue| queue.queue.to_string());
        let firsts: Vec<_> =
            (0..8).filter_map(|_| first(slots.plan(&[], &[], &mut credits))).collect();
        assert_eq!(firsts.iter().filter(|name| *name == "a").count(), 6);
    }

    #[test]
    fn what_is_taken_is_not_asked_for_again() {
        let slots = Slots::new(vec![served("a", 2, 1, 0)], None);
        slots.take(0);
        slots.take(0);
        assert_eq!((slots.room(), slots.plan(&[], &[], &mut [0]).limit), (0, 0));
        assert!(!slots.has_room(0));
        slots.give_back(0, Duration::ZERO);
        assert_eq!(slots.plan(&[], &[], &mut [0]).limit, 1);
    }

    #[test]
    fn what_is_claimed_ahead_comes_on_top_of_the_free_slots() {
        let slots = Slots::new(vec![served("a", 4, 1, 0), served("b", 4, 1, 0)], None);
        slots.take(0);
        let plan = slots.plan(&[5, 0], &[2, 0], &mut [0; 2]);
        assert_eq!((shown(&plan), plan.limit), (vec![("a", 6), ("b", 4)], 10));
        (0..7).for_each(|taken| slots.take(usize::from(taken >= 3)));
        let plan = slots.plan(&[5, 0], &[2, 0], &mut [0; 2]);
        assert_eq!((shown(&plan), plan.limit), (vec![("a", 3)], 3));
        // What is there already is more than enough.
        assert_eq!(slots.plan(&[5, 0], &[9, 0], &mut [0; 2]).limit, 0);
    }

    #[test]
    fn a_slot_goes_to_the_highest_priority_that_wants_it_and_then_by_weight() {
        let queues = vec![served("low", 8, 1, 0), served("a", 8, 3, 1), served("b", 8, 1, 1)];
        let slots = Slots::new(queues, Some(8));
        let mut credits = [0; 3];
        let next = |credits: &mut [i64]| slots.prefer(|_| true, credits).unwrap();
        let places: Vec<_> = (0..8).map(|_| next(&mut credits)).collect();
        assert_eq!(places.iter().filter(|place| **place == 0).count(), 6, "{places:?}");
        assert!(!places.contains(&2), "{places:?}");
        assert_eq!(slots.prefer(|place| place == 2, &mut credits), Some(2));
        (0..8).for_each(|_| slots.take(0));
        assert_eq!(slots.prefer(|_| true, &mut credits), None);
    }
}
