//! Takes batches of events: finds the slots of their names, once for a run of equal names.

use std::{
    num::NonZero,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use ergon_core::{
    Event, KindName, QueueName,
    event::{Fact, TaskRef},
};

use crate::{
    fold::{DeleteReason, Fold},
    lock::{lock, try_lock},
    names::{Names, Slot},
};

/// Most threads that count at once without waiting. Chosen without measurement: a batch is counted
/// in microseconds, and every shard that is used takes about 150 KB when all names are.
const SHARDS_MAX: usize = 8;

/// Slots that a shard remembers by the addresses of their names; a power of two. Chosen without
/// measurement: more kinds than most programs have.
const RECENT: usize = 64;

/// Slots by the addresses of names that are kept, so that no other name can have the same.
type Recent = Vec<Option<(QueueName, KindName, Slot)>>;

/// What one thread counts.
#[derive(Debug, Default)]
struct Shard {
    fold: Fold,
    recent: Recent,
}

/// Whether both are the same text, at the same place in memory.
fn is_same(one: &str, other: &str) -> bool {
    std::ptr::eq(one, other)
}

impl Shard {
    fn publish(&mut self, names: &Names, events: &[Event]) {
        let mut last: Option<(&TaskRef, Slot)> = None;
        for event in events {
            match &event.fact {
                Fact::Task { task, event } => {
                    let slot = match last {
                        Some((like, slot)) if are_alike(like, task) => slot,
                        Some(_) | None => self.slot(names, task),
                    };
                    last = Some((task, slot));
                    self.fold.add(slot, task.attempt, event);
                }
                Fact::Pruned { tasks } => {
                    self.fold.add_kind(event.kind());
                    self.fold.add_deleted(DeleteReason::Retention, *tasks);
                }
                // Counted by kind alone, as those to come.
                _ => self.fold.add_kind(event.kind()),
            }
        }
    }

    fn slot(&mut self, names: &Names, task: &TaskRef) -> Slot {
        let TaskRef { queue, kind, .. } = task;
        // Texts are aligned, so the low bits of an address say nothing.
        let (a, b) = (queue.as_str().as_ptr().addr(), kind.as_str().as_ptr().addr());
        let place = ((a >> 4) ^ (b >> 4) ^ (b >> 10)) % RECENT;
        if let Some(Some((known_queue, known_kind, slot))) = self.recent.get(place)
            && is_same(known_queue.as_str(), queue.as_str())
            && is_same(known_kind.as_str(), kind.as_str())
        {
            return *slot;
        }
        let slot = names.slot(queue, kind);
        self.fold.reserve(slot);
        if self.recent.is_empty() {
            self.recent.resize(RECENT, None);
        }
        if let Some(recent) = self.recent.get_mut(place) {
            *recent = Some((queue.clone(), kind.clone(), slot));
        }
        slot
    }
}

/// Whether two tasks are of the same queue and kind.
#[inline]
fn are_alike(one: &TaskRef, other: &TaskRef) -> bool {
    let is_equal = |one: &str, other: &str| is_same(one, other) || one == other;
    is_equal(one.queue.as_str(), other.queue.as_str())
        && is_equal(one.kind.as_str(), other.kind.as_str())
}

/// What all threads count.
#[derive(Debug)]
pub(crate) struct Shards(Box<[Mutex<Shard>]>);

impl Shards {
    /// As many as the machine runs threads at once.
    pub(crate) fn new() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let shards = std::cmp::min(threads, SHARDS_MAX);
        Self((0..shards).map(|_| Mutex::default()).collect())
    }

    /// Counts events.
    pub(crate) fn publish(&self, names: &Names, events: &[Event]) {
        if let Some(mut shard) = self.any() {
            shard.publish(names, events);
        }
    }

    /// Some shard: the one of this thread, another one when it is taken, or else that after a wait.
    fn any(&self) -> Option<MutexGuard<'_, Shard>> {
        let own = thread_number() % std::cmp::max(self.0.len(), 1);
        let (before, from) = self.0.split_at_checked(own)?;
        from.iter().chain(before).find_map(try_lock).or_else(|| from.first().map(lock))
    }

    /// What all of them counted together.
    pub(crate) fn sum(&self) -> Fold {
        let mut sum = Fold::default();
        for shard in &self.0 {
            sum.merge(&lock(shard).fold);
        }
        sum
    }
}

/// A number of this thread, small and spread evenly.
fn thread_number() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = THREADS.fetch_add(1, Relaxed);
    }
    NUMBER.with(|number| *number)
}
