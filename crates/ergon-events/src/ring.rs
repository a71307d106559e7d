//! The ring: the newest events, kept once for all readers, and the places of those who read.

use std::collections::VecDeque;

use ergon_core::{
    Event, EventKindSet,
    event::{Fact, TaskEvent},
    store::{Cursor, EventId, Gap},
};

use crate::item::Facts;

/// What is appended and read together.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) facts: Facts,
    /// The kinds of its events, so that who wants none of them passes it by.
    pub(crate) kinds: EventKindSet,
    /// What is missing before its first event.
    pub(crate) gap: Option<Gap>,
    /// Where to read the journal from to get what follows, and at most this slot once more.
    pub(crate) behind: Option<Cursor>,
    bytes: usize,
}

/// What a slot takes beside its events.
const SLOT_BYTES: usize = size_of::<Slot>() + 64;

impl Slot {
    pub(crate) fn new(facts: Facts) -> Self {
        let (mut kinds, mut bytes) = (EventKindSet::EMPTY, SLOT_BYTES);
        let mut add = |event: &Event| {
            kinds = kinds.union(event.kind().into());
            bytes += bytes_of(event);
        };
        match &facts {
            Facts::Process(events) => events.iter().for_each(&mut add),
            Facts::Journal(events) => {
                events.iter().for_each(|recorded| add(&recorded.event));
                bytes += events.len() * size_of::<EventId>();
            }
        }
        Self { facts, kinds, gap: None, behind: None, bytes }
    }

    fn len(&self) -> u64 {
        len_of(&self.facts)
    }
}

fn len_of(facts: &Facts) -> u64 {
    u64::try_from(facts.len()).unwrap_or(u64::MAX)
}

/// What an event takes. Names are counted although events may share them: those of a journal do not.
fn bytes_of(event: &Event) -> usize {
    let text = match &event.fact {
        Fact::Task { task, event } => {
            let error = match event {
                TaskEvent::Retried { error, .. } | TaskEvent::Failed { error, .. } => {
                    error.as_str().len()
                }
                _ => 0,
            };
            task.queue.as_str().len() + task.kind.as_str().len() + error
        }
        Fact::Queue { queue, .. } => queue.as_str().len(),
        _ => 0,
    };
    size_of::<Event>() + text
}

/// How much a ring holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) bytes_max: usize,
    pub(crate) events_max: usize,
}

/// A place between two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// How many slots came before it.
    slot: u64,
    /// How many events came before it.
    pub(crate) event: u64,
}

/// What was overrun: from here to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overrun {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// What a reader takes at its place.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) overrun: Option<Overrun>,
    pub(crate) slot: Slot,
    /// The place of its first event.
    pub(crate) first: u64,
}

/// The newest slots, within the bounds; always at least the newest one.
#[derive(Debug)]
pub(crate) struct Ring {
    bounds: Bounds,
    slots: VecDeque<Slot>,
    /// The place before the oldest slot.
    tail: Place,
    /// How many events there ever were.
    head: u64,
    bytes: usize,
}

impl Ring {
    pub(crate) const fn new(bounds: Bounds) -> Self {
        let tail = Place { slot: 0, event: 0 };
        Self { bounds, slots: VecDeque::new(), tail, head: 0, bytes: 0 }
    }

    /// How many events there ever were.
    pub(crate) const fn head(&self) -> u64 {
        self.head
    }

    /// How many events it holds.
    pub(crate) const fn events(&self) -> u64 {
        self.head - self.tail.event
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The place behind the newest slot.
    pub(crate) fn end(&self) -> Place {
        let slots = u64::try_from(self.slots.len()).unwrap_or(u64::MAX);
        Place { slot: self.tail.slot.saturating_add(slots), event: self.head }
    }

    /// Appends a slot; the oldest ones go out of the bounds into `evicted`.
    pub(crate) fn push(&mut self, slot: Slot, evicted: &mut Vec<Slot>) {
        self.head = self.head.saturating_add(slot.len());
        self.bytes += slot.bytes;
        self.slots.push_back(slot);
        let events_max = u64::try_from(self.bounds.events_max).unwrap_or(u64::MAX);
        while self.slots.len() > 1
            && (self.bytes > self.bounds.bytes_max || self.events() > events_max)
        {
            self.evict(evicted);
        }
    }

    /// Counts events that nobody reads.
    pub(crate) fn skip(&mut self, events: u64) {
        if self.slots.is_empty() {
            self.head = self.head.saturating_add(events);
            self.tail.event = self.head;
        }
    }

    /// Lets everything go.
    pub(crate) fn clear(&mut self, evicted: &mut Vec<Slot>) {
        while !self.slots.is_empty() {
            self.evict(evicted);
        }
    }

    fn evict(&mut self, evicted: &mut Vec<Slot>) {
        if let Some(slot) = self.slots.pop_front() {
            self.tail.slot += 1;
            self.tail.event += slot.len();
            self.bytes -= slot.bytes;
            evicted.push(slot);
        }
    }

    /// Takes the slot at a place and moves the place behind it; none when it is the end. A place that
    /// was overrun moves to the oldest slot first.
    pub(crate) fn take(&self, place: &mut Place) -> Option<Taken> {
        let overrun = self.overrun(*place);
        let at = if overrun.is_some() { self.tail } else { *place };
        let index = usize::try_from(at.slot - self.tail.slot).ok()?;
        let slot = self.slots.get(index)?.clone();
        *place = Place { slot: at.slot + 1, event: at.event.saturating_add(slot.len()) };
        Some(Taken { overrun, slot, first: at.event })
    }

    fn overrun(&self, place: Place) -> Option<Overrun> {
        (place.slot < self.tail.slot).then_some(Overrun { from: place.event, to: self.tail.event })
    }

    /// How many events of these kinds are behind a place, those that it was overrun by all counted.
    pub(crate) fn left(&self, mut place: Place, kinds: EventKindSet) -> u64 {
        let mut left = 0_u64;
        while let Some(taken) = self.take(&mut place) {
            left += taken.overrun.map_or(0, |overrun| overrun.to - overrun.from);
            let facts = &taken.slot.facts;
            let events = (0..facts.len()).filter_map(|index| facts.event(index));
            left += events.filter(|event| kinds.contains(event.kind())).map(|_| 1).sum::<u64>();
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use ergon_core::Timestamp;
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds =
        Bounds { bytes_max: 40 * (SLOT_BYTES + size_of::<Event>()), events_max: 20 };

    /// A slot whose events say which they are.
    fn slot(from: u64, len: u64) -> Slot {
        let event = |number| Event::pruned(Timestamp::UNIX_EPOCH, number);
        Slot::new(Facts::Process((from..from + len).map(event).collect()))
    }

    fn numbers(slot: &Slot) -> Vec<u64> {
        let number = |index| match slot.facts.event(index).map(|event| &event.fact) {
            Some(Fact::Pruned { tasks }) => *tasks,
            other => unreachable!("{other:?}"),
        };
        (0..slot.facts.len()).map(number).collect()
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u64),
        Skip(u64),
        Read(usize),
        Clear,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0..8_u64).prop_map(Step::Push),
            6 => (0..3_usize).prop_map(Step::Read),
            1 => (0..5_u64).prop_map(Step::Skip),
            1 => Just(Step::Clear),
        ];
        proptest::collection::vec(step, 0..200)
    }

    /// The naive queue: every slot ever pushed, and from which of them on the ring may hold them.
    #[derive(Default)]
    struct Model {
        slots: Vec<(u64, u64)>,
        oldest: usize,
        head: u64,
    }

    impl Model {
        fn push(&mut self, len: u64) {
            self.slots.push((self.head, len));
            self.head += len;
            let is_over = |slots: &[(u64, u64)]| {
                let events: u64 = slots.iter().map(|slot| slot.1).sum();
                let bytes = slots.len() * SLOT_BYTES
                    + usize::try_from(events).unwrap_or(usize::MAX) * size_of::<Event>();
                bytes > BOUNDS.bytes_max || events > 20
            };
            while self.slots.len() - self.oldest > 1 && is_over(&self.slots[self.oldest..]) {
                self.oldest += 1;
            }
        }
    }

    /// A reader of the model: the next slot, and the next event.
    #[derive(Clone, Copy)]
    struct Reader {
        place: Place,
        slot: usize,
        event: u64,
    }

    fn check_read(ring: &Ring, model: &Model, reader: &mut Reader) {
        let taken = ring.take(&mut reader.place);
        let next = std::cmp::max(reader.slot, model.oldest);
        let expected = model.slots.get(next);
        assert_eq!(taken.is_some(), expected.is_some());
        let (Some(taken), Some(&(first, len))) = (taken, expected) else { return };
        let overrun = (next > reader.slot).then_some(Overrun { from: reader.event, to: first });
        assert_eq!(taken.overrun, overrun);
        assert_eq!(taken.first, first);
        assert_eq!(numbers(&taken.slot), (first..first + len).collect::<Vec<_>>());
        (reader.slot, reader.event) = (next + 1, first + len);
        assert_eq!(reader.place.event, reader.event);
    }

    proptest! {
        #[test]
        fn the_ring_is_a_queue_that_forgets_its_oldest(steps in steps()) {
            let (mut ring, mut model) = (Ring::new(BOUNDS), Model::default());
            let start = Reader { place: ring.end(), slot: 0, event: 0 };
            let mut readers = [start; 3];
            for step in steps {
                let mut evicted = Vec::new();
                match step {
                    Step::Push(len) => {
                        ring.push(slot(model.head, len), &mut evicted);
                        model.push(len);
                    }
                    // Events that nobody reads are counted when nobody reads: everybody leaves.
                    Step::Skip(events) => {
                        ring.clear(&mut evicted);
                        ring.skip(events);
                        model.head += events;
                        model.oldest = model.slots.len();
                        let slot = model.slots.len();
                        readers = [Reader { place: ring.end(), slot, event: model.head }; 3];
                    }
                    Step::Read(reader) => check_read(&ring, &model, &mut readers[reader]),
                    Step::Clear => {
                        ring.clear(&mut evicted);
                        model.oldest = model.slots.len();
                    }
                }
                let kept = &model.slots[model.oldest..];
                prop_assert_eq!(ring.events(), kept.iter().map(|slot| slot.1).sum::<u64>());
                prop_assert_eq!(ring.slots.len(), kept.len());
                prop_assert_eq!(ring.head(), model.head);
                prop_assert_eq!(ring.bytes(), ring.slots.iter().map(|slot| slot.bytes).sum::<usize>());
            }
            for reader in &mut readers {
                for _ in 0..200 {
                    check_read(&ring, &model, reader);
                }
            }
        }
    }

    #[test]
    fn what_is_left_behind_a_place_is_counted_by_kind() {
        let mut ring = Ring::new(BOUNDS);
        let start = ring.end();
        let mut evicted = Vec::new();
        for number in 0..30 {
            ring.push(slot(number, 1), &mut evicted);
        }
        assert_eq!(evicted.len(), 10);
        assert_eq!(ring.left(start, EventKindSet::EVERY), 30);
        assert_eq!(ring.left(start, EventKindSet::EMPTY), 10, "what was overrun may have been any");
        assert_eq!(ring.left(ring.end(), EventKindSet::EVERY), 0);
    }
}
