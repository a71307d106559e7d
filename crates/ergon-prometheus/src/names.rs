//! Which names the series tell apart: the first ones that come, within bounds.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    sync::{Arc, RwLock},
};

use ergon_core::{KindName, QueueName};

use crate::lock::{read, write};

/// What stands for the names that are not told apart.
pub(crate) const OTHER: &str = "_other";

/// The place of [`OTHER`] in every list.
pub(crate) const OTHER_ID: u16 = 0;

/// How many names the series tell apart at the most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) queues: u16,
    pub(crate) kinds: u16,
    pub(crate) pairs: u16,
}

/// A label whose values are bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bounded {
    Queue,
    Kind,
    Pair,
    Observer,
}

impl Bounded {
    pub(crate) const ALL: [Self; 4] = [Self::Queue, Self::Kind, Self::Pair, Self::Observer];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Kind => "kind",
            Self::Pair => "pair",
            Self::Observer => "observer",
        }
    }
}

/// Where the values of a queue and a kind are counted; never changes once it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) pair: u16,
    pub(crate) queue: u16,
    /// The labels that are `_other` because of a bound.
    pub(crate) folded: Folded,
}

/// Which labels of a slot are `_other` because of a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Folded {
    pub(crate) queue: bool,
    /// The kind, or else the pair of both.
    pub(crate) rest: Option<Bounded>,
}

impl Folded {
    pub(crate) const fn is_any(self) -> bool {
        self.queue || self.rest.is_some()
    }
}

/// The names of one label, by the order in which they came.
#[derive(Debug)]
struct Table<N> {
    ids: HashMap<N, u16>,
    names: Vec<Arc<str>>,
    max: u16,
}

impl<N: Borrow<str> + Hash + Eq + Clone> Table<N> {
    fn new(max: u16) -> Self {
        Self { ids: HashMap::new(), names: vec![Arc::from(OTHER)], max }
    }

    /// Its place, and whether it has none of its own because of the bound; nothing when it can get
    /// one.
    fn find(&self, name: &str) -> Option<(u16, bool)> {
        // A queue or a kind may be called so itself.
        if name == OTHER {
            return Some((OTHER_ID, false));
        }
        match self.ids.get(name) {
            Some(&id) => Some((id, false)),
            None if self.ids.len() >= usize::from(self.max) => Some((OTHER_ID, true)),
            None => None,
        }
    }

    fn find_or_add(&mut self, name: &N) -> (u16, bool) {
        self.find(name.borrow()).unwrap_or_else(|| {
            // The bound is below the end of the range.
            let id = u16::try_from(self.names.len()).unwrap_or(OTHER_ID);
            self.names.push(Arc::from(name.borrow()));
            self.ids.insert(name.clone(), id);
            (id, false)
        })
    }
}

#[derive(Debug)]
struct Tables {
    queues: Table<QueueName>,
    kinds: Table<KindName>,
    pair_ids: HashMap<(u16, u16), u16>,
    pairs: Vec<(u16, u16)>,
    pairs_max: u16,
}

impl Tables {
    /// The slot, if all its names have their places or will never get one.
    fn find(&self, queue: &QueueName, kind: &KindName) -> Option<Slot> {
        let (queue, is_folded) = self.queues.find(queue.as_str())?;
        let kind = self.kinds.find(kind.as_str());
        let pair = kind.and_then(|(kind, _)| self.pair_ids.get(&(queue, kind)));
        let (pair, rest) = match (pair, kind) {
            (Some(&pair), Some((_, true))) => (pair, Some(Bounded::Kind)),
            (Some(&pair), _) => (pair, None),
            // The first pair is that of all others.
            (None, _) if self.pairs.len() > usize::from(self.pairs_max) => {
                (OTHER_ID, Some(Bounded::Pair))
            }
            (None, _) => return None,
        };
        Some(Slot { pair, queue, folded: Folded { queue: is_folded, rest } })
    }

    fn add(&mut self, queue: &QueueName, kind: &KindName) {
        let (queue, _) = self.queues.find_or_add(queue);
        // A kind without a pair would take the place of one that has a pair.
        if self.pairs.len() <= usize::from(self.pairs_max) {
            let (kind, _) = self.kinds.find_or_add(kind);
            let id = u16::try_from(self.pairs.len()).unwrap_or(OTHER_ID);
            if let std::collections::hash_map::Entry::Vacant(entry) =
                self.pair_ids.entry((queue, kind))
            {
                entry.insert(id);
                self.pairs.push((queue, kind));
            }
        }
    }
}

/// The names that the series tell apart; shared by all threads, and hardly ever written.
#[derive(Debug)]
pub(crate) struct Names(RwLock<Tables>);

/// The labels of a pair.
#[derive(Clone, Debug)]
pub(crate) struct PairLabels {
    pub(crate) queue: Arc<str>,
    pub(crate) kind: Arc<str>,
}

impl Names {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let others = (OTHER_ID, OTHER_ID);
        Self(RwLock::new(Tables {
            queues: Table::new(bounds.queues),
            kinds: Table::new(bounds.kinds),
            pair_ids: HashMap::from([(others, OTHER_ID)]),
            pairs: vec![others],
            pairs_max: bounds.pairs,
        }))
    }

    /// Where the values of a queue and a kind are counted.
    pub(crate) fn slot(&self, queue: &QueueName, kind: &KindName) -> Slot {
        if let Some(slot) = read(&self.0).find(queue, kind) {
            return slot;
        }
        let mut tables = write(&self.0);
        tables.add(queue, kind);
        let folded = Folded { queue: true, rest: Some(Bounded::Pair) };
        let other = Slot { pair: OTHER_ID, queue: OTHER_ID, folded };
        tables.find(queue, kind).unwrap_or(other)
    }

    /// The place of a queue, and whether it has none of its own because of the bound.
    pub(crate) fn queue(&self, queue: &QueueName) -> (u16, bool) {
        let found = read(&self.0).queues.find(queue.as_str());
        found.unwrap_or_else(|| write(&self.0).queues.find_or_add(queue))
    }

    /// The labels of all queues, by place.
    pub(crate) fn queues(&self) -> Vec<Arc<str>> {
        read(&self.0).queues.names.clone()
    }

    /// The labels of all pairs, by place.
    pub(crate) fn pairs(&self) -> Vec<PairLabels> {
        let tables = read(&self.0);
        let name = |names: &[Arc<str>], id: u16| {
            names.get(usize::from(id)).map_or_else(|| Arc::from(OTHER), Arc::clone)
        };
        let labels = |&(queue, kind): &(u16, u16)| PairLabels {
            queue: name(&tables.queues.names, queue),
            kind: name(&tables.kinds.names, kind),
        };
        tables.pairs.iter().map(labels).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(names: &Names, queue: &str, kind: &str) -> (String, String, Folded) {
        let found = names.slot(&QueueName::new(queue).unwrap(), &KindName::new(kind).unwrap());
        let labels = names.pairs()[usize::from(found.pair)].clone();
        (labels.queue.to_string(), labels.kind.to_string(), found.folded)
    }

    #[track_caller]
    fn check(names: &Names, name: (&str, &str), expected: (&str, &str), folded: Folded) {
        // What was answered once stays.
        for _ in 0..2 {
            let (queue, kind, is_folded) = slot(names, name.0, name.1);
            assert_eq!(((&*queue, &*kind), is_folded), (expected, folded), "{name:?}");
        }
    }

    const NOTHING: Folded = Folded { queue: false, rest: None };

    #[test]
    fn the_first_names_are_told_apart() {
        let names = Names::new(Bounds { queues: 2, kinds: 2, pairs: 10 });
        for name in [("q1", "k1"), ("q1", "k2"), ("q2", "k1")] {
            check(&names, name, name, NOTHING);
        }
        let no_kind = Folded { queue: false, rest: Some(Bounded::Kind) };
        check(&names, ("q1", "k3"), ("q1", OTHER), no_kind);
        check(&names, ("q3", "k1"), (OTHER, "k1"), Folded { queue: true, rest: None });
        check(&names, ("q4", "k4"), (OTHER, OTHER), Folded { queue: true, ..no_kind });
    }

    #[test]
    fn pairs_beyond_their_bound_are_others() {
        let names = Names::new(Bounds { queues: 9, kinds: 9, pairs: 2 });
        check(&names, ("q", "k1"), ("q", "k1"), NOTHING);
        check(&names, ("q", "k2"), ("q", "k2"), NOTHING);
        let no_pair = Folded { queue: false, rest: Some(Bounded::Pair) };
        check(&names, ("q", "k3"), (OTHER, OTHER), no_pair);
        check(&names, ("q2", "k1"), (OTHER, OTHER), no_pair);
        // The queue is told apart where no kind is named.
        assert_eq!(names.queue(&QueueName::new("q2").unwrap()), (2, false));
        assert_eq!((names.queues().len(), names.pairs().len()), (3, 3));
    }

    #[test]
    fn a_queue_may_be_called_as_the_others_are() {
        let names = Names::new(Bounds { queues: 1, kinds: 1, pairs: 4 });
        check(&names, (OTHER, OTHER), (OTHER, OTHER), NOTHING);
        check(&names, ("q", OTHER), ("q", OTHER), NOTHING);
        assert_eq!(names.queue(&QueueName::new(OTHER).unwrap()), (OTHER_ID, false));
    }
}
