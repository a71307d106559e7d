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

/// Slots that a shard remembers by the hashes of their names; a power of two. Chosen without
/// measurement: far more than the pairs of most programs, so that two of them seldom share a place.
const RECENT: usize = 512;

/// Slots by the hashes of their names; of two with the same place the newer one.
type Recent = Vec<Option<(QueueName, KindName, Slot)>>;

/// What one thread counts, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    fold: Fold,
    recent: Recent,
    /// The place among them of the names that came last.
    last: usize,
}

/// A place among the recent slots. Quick, and no more: names that share a place are only slower.
fn place(queue: &str, kind: &str) -> usize {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = 0;
    for text in [queue, kind] {
        let (chunks, rest) = text.as_bytes().as_chunks::<8>();
        let chunks = chunks.iter().map(|chunk| u64::from_le_bytes(*chunk));
        let rest = rest.iter().fold(text.len() as u64, |rest, &byte| rest << 8 ^ u64::from(byte));
        for word in chunks.chain([rest]) {
            hash = (u64::rotate_left(hash, 5) ^ word).wrapping_mul(ODD);
        }
    }
    // The high bits are those that everything before has gone into.
    usize::try_from(hash >> 32).unwrap_or_default() % RECENT
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

    /// The slot at a place, if it is that of these names.
    fn known(&self, place: usize, task: &TaskRef) -> Option<Slot> {
        let (queue, kind, slot) = self.recent.get(place)?.as_ref()?;
        let is_known = is_equal(queue.as_str(), task.queue.as_str())
            && is_equal(kind.as_str(), task.kind.as_str());
        is_known.then_some(*slot)
    }

    fn slot(&mut self, names: &Names, task: &TaskRef) -> Slot {
        let TaskRef { queue, kind, .. } = task;
        if let Some(slot) = self.known(self.last, task) {
            return slot;
        }
        let place = place(queue.as_str(), kind.as_str());
        self.last = place;
        if let Some(slot) = self.known(place, task) {
            return slot;
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
    is_equal(one.queue.as_str(), other.queue.as_str())
        && is_equal(one.kind.as_str(), other.kind.as_str())
}

/// Whether two texts are the same; mostly they are at the same place in memory.
#[inline]
fn is_equal(one: &str, other: &str) -> bool {
    std::ptr::eq(one, other) || one == other
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
