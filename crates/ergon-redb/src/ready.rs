//! The window: the front of every lane of waiting tasks, held in memory.
//!
//! The ready index on disk holds every waiting task. A claim looks at memory alone: each lane has a
//! window on its earliest tasks, refilled behind its [`bound`](Window::bound) when it runs low.
//!
//! Invariant: of the rows of a lane on disk, exactly those up to the bound are in its window or
//! running. A lane without a window has no waiting row on disk.

use std::collections::{BTreeMap, BTreeSet};

use crate::key::{Lane, NameId, Place};

/// What a row of the ready index says beside its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Flags(pub(crate) u8);

impl Flags {
    const HAS_HEAD: u8 = 1;
    const ATTEMPTED: u8 = 1 << 1;

    pub(crate) const fn new(has_head: bool, attempted: bool) -> Self {
        let head = if has_head { Self::HAS_HEAD } else { 0 };
        Self(head | if attempted { Self::ATTEMPTED } else { 0 })
    }

    /// The task has changed since it was enqueued: its head says how.
    pub(crate) const fn has_head(self) -> bool {
        self.0 & Self::HAS_HEAD != 0
    }

    /// The task was attempted before.
    pub(crate) const fn is_attempted(self) -> bool {
        self.0 & Self::ATTEMPTED != 0
    }
}

/// A waiting task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) lane: Lane,
    pub(crate) place: Place,
    pub(crate) flags: Flags,
}

#[derive(Debug, Default)]
struct Window {
    entries: BTreeMap<Place, Flags>,
    /// Up to here the window knows its lane; `None`: all of it.
    bound: Option<Place>,
}

impl Window {
    fn is_starved(&self) -> bool {
        self.entries.is_empty() && self.bound.is_some()
    }
}

/// The windows of all lanes.
#[derive(Debug)]
pub(crate) struct Lanes {
    windows: BTreeMap<Lane, Window>,
    /// Lanes whose window runs low while more is on disk.
    low: BTreeSet<Lane>,
    /// Entries of all windows together, about.
    budget: usize,
}

/// A lane's share of the budget is never smaller.
const WINDOW_MIN: usize = 64;
/// Nor larger.
const WINDOW_MAX: usize = 16_384;

impl Lanes {
    pub(crate) const fn new(budget: usize) -> Self {
        Self { windows: BTreeMap::new(), low: BTreeSet::new(), budget }
    }

    /// How many entries a window may hold, now that there are so many lanes.
    pub(crate) fn window_max(&self) -> usize {
        let share = self.budget / std::cmp::max(1, self.windows.len());
        share.clamp(WINDOW_MIN, WINDOW_MAX)
    }

    /// Adds a task whose row is on disk.
    pub(crate) fn insert(&mut self, task: Waiting) {
        let max = self.window_max();
        let window = self.windows.entry(task.lane).or_default();
        if window.bound.is_some_and(|bound| task.place > bound) {
            return;
        }
        window.entries.insert(task.place, task.flags);
        while window.entries.len() > max {
            window.entries.pop_last();
            window.bound = window.entries.last_key_value().map(|(&place, _)| place);
        }
    }

    /// Removes a task, if the window holds it.
    pub(crate) fn remove(&mut self, lane: Lane, place: Place) {
        if let Some(window) = self.windows.get_mut(&lane) {
            window.entries.remove(&place);
            self.settle(lane);
        }
    }

    /// Takes due tasks of these kinds from a queue, the first in line first; says whether it
    /// stopped because a window has to be refilled before it is known who is next.
    pub(crate) fn take(
        &mut self,
        queue: NameId,
        kinds: &BTreeSet<NameId>,
        now: i64,
        limit: usize,
        taken: &mut Vec<Waiting>,
    ) -> bool {
        let end = taken.len() + limit;
        let wanted: Vec<Lane> = self
            .windows
            .range(Lane::first_of(queue)..=Lane::last_of(queue))
            .map(|(&lane, _)| lane)
            .filter(|lane| kinds.contains(&lane.kind))
            .collect();
        for level in wanted.chunk_by(|one, next| one.is_level_with(*next)) {
            let is_starved = self.take_level(level, now, end, taken);
            level.iter().for_each(|&lane| self.settle(lane));
            if is_starved {
                return true;
            }
            if taken.len() == end {
                break;
            }
        }
        false
    }

    /// Takes from lanes of one priority, the earliest of all of them first.
    fn take_level(
        &mut self,
        level: &[Lane],
        now: i64,
        end: usize,
        taken: &mut Vec<Waiting>,
    ) -> bool {
        while taken.len() < end {
            let mut earliest: Option<(Place, Lane)> = None;
            for &lane in level {
                let Some(window) = self.windows.get(&lane) else { continue };
                if window.is_starved() {
                    return true;
                }
                let Some((&place, _)) = window.entries.first_key_value() else { continue };
                if place.run_at <= now && earliest.is_none_or(|(other, _)| place < other) {
                    earliest = Some((place, lane));
                }
            }
            let Some((_, lane)) = earliest else { return false };
            let Some(window) = self.windows.get_mut(&lane) else { return false };
            // With one lane on the level, nobody else can be earlier.
            let run = if level.len() == 1 { end - taken.len() } else { 1 };
            for _ in 0..run {
                match window.entries.first_entry() {
                    Some(entry) if entry.key().run_at <= now => {
                        let (place, flags) = entry.remove_entry();
                        taken.push(Waiting { lane, place, flags });
                    }
                    Some(_) | None => break,
                }
            }
        }
        false
    }

    /// Forgets a lane that is empty, and remembers one that runs low.
    fn settle(&mut self, lane: Lane) {
        let low = self.window_max() / 4;
        let Some(window) = self.windows.get(&lane) else { return };
        if window.bound.is_none() {
            self.low.remove(&lane);
            if window.entries.is_empty() {
                self.windows.remove(&lane);
            }
        } else if window.entries.len() < low {
            self.low.insert(lane);
        }
    }

    /// A lane that runs low, and the place behind which its rows on disk go on.
    pub(crate) fn next_low(&self) -> Option<(Lane, Place)> {
        let lane = *self.low.first()?;
        let bound = self.windows.get(&lane).and_then(|window| window.bound);
        Some((lane, bound.unwrap_or(Place::MIN)))
    }

    /// Whether any lane runs low.
    pub(crate) fn has_low(&self) -> bool {
        !self.low.is_empty()
    }

    /// Adds the rows that follow a lane's bound. `bound` is the last row that was read, or `None`
    /// when that was the end of the lane.
    pub(crate) fn refill(
        &mut self,
        lane: Lane,
        rows: impl IntoIterator<Item = (Place, Flags)>,
        bound: Option<Place>,
    ) {
        let window = self.windows.entry(lane).or_default();
        window.entries.extend(rows);
        window.bound = bound;
        self.low.remove(&lane);
        self.settle(lane);
    }

    /// When the next task of these kinds is due in a queue; in the past when one is, and as soon as
    /// there can be one when a window has to be refilled before it is known.
    pub(crate) fn next_due(&self, queue: NameId, kinds: &BTreeSet<NameId>) -> Option<i64> {
        self.windows
            .range(Lane::first_of(queue)..=Lane::last_of(queue))
            .filter(|(lane, _)| kinds.contains(&lane.kind))
            .filter_map(|(_, window)| match window.entries.first_key_value() {
                Some((place, _)) => Some(place.run_at),
                None => window.bound.map(|bound| bound.run_at),
            })
            .min()
    }

    /// Says whether a window holds the task, or a refill will find it.
    pub(crate) fn knows(&self, lane: Lane, place: Place) -> bool {
        self.windows.get(&lane).is_some_and(|window| {
            window.entries.contains_key(&place) || window.bound.is_some_and(|bound| place > bound)
        })
    }

    /// The entries of all windows together.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.windows.values().map(|window| window.entries.len()).sum()
    }
}

#[cfg(test)]
mod tests;
