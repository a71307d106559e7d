//! The queues as one owner read them last: written by its sampler, read by every scrape.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use ergon_core::{State, Timestamp, store::QueueInfo};

use crate::{
    lock::lock,
    names::{Bounded, Names},
};

/// How many tasks stand in each state.
pub(crate) type Counts = [u64; State::ALL.len()];

/// One queue, or all that are `_other` together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) queue: Arc<str>,
    pub(crate) counts: Counts,
    pub(crate) oldest_due_at: Option<Timestamp>,
    pub(crate) paused: u64,
}

/// What a scrape shows.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Shown {
    pub(crate) rows: Arc<[Row]>,
    /// When they were read; `None` before the first time.
    pub(crate) read_at: Option<Timestamp>,
}

/// Why the queues could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadFailure {
    Store,
    Deadline,
}

impl ReadFailure {
    pub(crate) const ALL: [Self; 2] = [Self::Store, Self::Deadline];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Store => "error",
            Self::Deadline => "timeout",
        }
    }
}

/// Who may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner(u64);

#[derive(Debug, Default)]
struct Current {
    /// The newest owner, whether or not it still is one.
    newest: u64,
    /// Nothing is shown when there is none.
    shown: Option<Shown>,
}

/// Where the newest sampler leaves what it read.
///
/// The lock is never held over a read of the store, so a scrape never waits for one.
#[derive(Debug, Default)]
pub(crate) struct Board {
    current: Mutex<Current>,
    failures: [AtomicU64; ReadFailure::ALL.len()],
}

impl Board {
    /// Makes a new owner; what the one before read is gone, and it can write no more.
    pub(crate) fn own(&self) -> Owner {
        let mut current = lock(&self.current);
        current.newest += 1;
        current.shown = None;
        Owner(current.newest)
    }

    /// Whether nobody took over.
    pub(crate) fn is_owner(&self, owner: Owner) -> bool {
        lock(&self.current).newest == owner.0
    }

    /// Shows the queues of an owner from now on, or nothing at once; whoever is no owner any more
    /// changes nothing.
    pub(crate) fn open(&self, owner: Owner, is_open: bool) {
        let mut current = lock(&self.current);
        if current.newest == owner.0 {
            current.shown = is_open.then(|| current.shown.take().unwrap_or_default());
        }
    }

    /// Shows what was read, if the owner still is one and has not been told to show nothing.
    pub(crate) fn write(&self, owner: Owner, rows: Arc<[Row]>, read_at: Timestamp) {
        let mut current = lock(&self.current);
        if current.newest == owner.0
            && let Some(shown) = &mut current.shown
        {
            *shown = Shown { rows, read_at: Some(read_at) };
        }
    }

    /// Counts a read that failed; what was read before is still shown.
    pub(crate) fn fail(&self, failure: ReadFailure) {
        self.failures[failure as usize].fetch_add(1, Relaxed);
    }

    /// What is shown; nothing unless there is an owner that shows something.
    pub(crate) fn shown(&self) -> Option<Shown> {
        lock(&self.current).shown.clone()
    }

    /// How often a read failed.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (ReadFailure, u64)> {
        ReadFailure::ALL
            .into_iter()
            .zip(&self.failures)
            .map(|(failure, count)| (failure, count.load(Relaxed)))
    }
}

/// The queues by the names that the series tell apart, and how many have none of their own.
pub(crate) fn rows(names: &Names, queues: &[QueueInfo]) -> (Arc<[Row]>, u64) {
    let mut folded = 0;
    let mut by_id = BTreeMap::<u16, Row>::new();
    let places: Vec<_> = queues.iter().map(|queue| names.queue(&queue.name)).collect();
    let labels = names.queues();
    for (queue, (id, is_folded)) in queues.iter().zip(places) {
        folded += u64::from(is_folded);
        let Some(label) = labels.get(usize::from(id)) else { continue };
        let row = by_id.entry(id).or_insert_with(|| Row {
            queue: Arc::clone(label),
            counts: Counts::default(),
            oldest_due_at: None,
            paused: 0,
        });
        for (count, state) in row.counts.iter_mut().zip(State::ALL) {
            *count += queue.counts.get(state);
        }
        let known = row.oldest_due_at.into_iter().chain(queue.oldest_due_at);
        row.oldest_due_at = known.reduce(std::cmp::min);
        row.paused += u64::from(queue.is_paused);
    }
    (by_id.into_values().collect(), folded)
}

/// What a row without a name of its own is counted as.
pub(crate) const FOLDED: Bounded = Bounded::Queue;

#[cfg(test)]
mod tests {
    use ergon_core::{QueueName, store::StateCounts};

    use super::*;
    use crate::names::{Bounds, OTHER};

    #[test]
    fn only_the_newest_owner_shows_anything() {
        let board = Board::default();
        assert_eq!(board.shown(), None);
        let first = board.own();
        assert_eq!(board.shown(), None);
        board.open(first, true);
        assert_eq!(board.shown(), Some(Shown::default()));
        let (rows, at) = (rows_of(&[("q", 1, None)]), Timestamp::UNIX_EPOCH);
        board.write(first, Arc::clone(&rows), at);
        assert_eq!(board.shown(), Some(Shown { rows: Arc::clone(&rows), read_at: Some(at) }));

        board.open(first, false);
        assert_eq!(board.shown(), None);
        board.write(first, Arc::clone(&rows), at);
        assert_eq!(board.shown(), None, "a read that was under way is dropped");

        let second = board.own();
        board.open(second, true);
        board.open(first, false);
        assert!(board.is_owner(second) && !board.is_owner(first));
        board.write(first, rows, at);
        assert_eq!(board.shown(), Some(Shown::default()));
    }

    fn rows_of(queues: &[(&str, u64, Option<i64>)]) -> Arc<[Row]> {
        let bounds = Bounds { queues: 2, kinds: 1, pairs: 1 };
        let info = |&(name, pending, due): &(&str, u64, Option<i64>)| {
            let mut counts = StateCounts::default();
            counts.add(State::Pending, pending);
            QueueInfo {
                name: QueueName::new(name).unwrap(),
                is_paused: pending > 5,
                counts,
                oldest_due_at: due.map(|due| Timestamp::from_second(due).unwrap()),
            }
        };
        let queues: Vec<_> = queues.iter().map(info).collect();
        rows(&Names::new(bounds), &queues).0
    }

    #[test]
    fn queues_beyond_the_bound_are_added_up() {
        let rows = rows_of(&[
            ("a", 1, Some(9)),
            ("b", 2, None),
            ("c", 6, Some(5)),
            (OTHER, 7, Some(4)),
            ("d", 4, None),
        ]);
        let shown: Vec<_> = rows
            .iter()
            .map(|row| (&*row.queue, row.counts[1], row.oldest_due_at.map(|it| it.as_second())))
            .collect();
        assert_eq!(shown, [(OTHER, 17, Some(4)), ("a", 1, Some(9)), ("b", 2, None)]);
        assert_eq!(rows[0].paused, 2);
    }
}
