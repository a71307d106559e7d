//! What readers are handed: events, and word of those that they missed.

use std::{fmt, ops::Deref, sync::Arc};

use ergon_core::{
    Event,
    store::{Cursor, EventId, Gap, Recorded},
};

/// The events of one slot of the ring, as they came.
#[derive(Clone, Debug)]
pub(crate) enum Facts {
    /// From this process.
    Process(Arc<[Event]>),
    /// From the journal.
    Journal(Arc<[Recorded]>),
}

impl Facts {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Process(events) => events.len(),
            Self::Journal(events) => events.len(),
        }
    }

    pub(crate) fn event(&self, index: usize) -> Option<&Event> {
        match self {
            Self::Process(events) => events.get(index),
            Self::Journal(events) => events.get(index).map(|recorded| &recorded.event),
        }
    }

    pub(crate) fn id(&self, index: usize) -> Option<EventId> {
        match self {
            Self::Process(_) => None,
            Self::Journal(events) => events.get(index).map(|recorded| recorded.id),
        }
    }
}

/// An event as the bus hands it over; it stands for the [`Event`] itself.
///
/// Cheap to clone: all who are told share it. Whoever keeps one keeps those alive that came with it, up
/// to 255; clone the [`Event`] to keep it alone.
#[derive(Clone)]
pub struct Told {
    facts: Facts,
    index: usize,
}

impl Told {
    /// The event at this place of a slot.
    pub(crate) fn new(facts: &Facts, index: usize) -> Option<Self> {
        (index < facts.len()).then(|| Self { facts: facts.clone(), index })
    }

    /// Its identity in the journal; none when it comes from this process.
    #[must_use]
    pub fn id(&self) -> Option<EventId> {
        self.facts.id(self.index)
    }
}

impl Deref for Told {
    type Target = Event;

    fn deref(&self) -> &Event {
        // The index is within: it was checked when this was made.
        match &self.facts {
            Facts::Process(events) => &events[self.index],
            Facts::Journal(events) => &events[self.index].event,
        }
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Told").field("id", &self.id()).field("event", &**self).finish()
    }
}

/// A reader was too slow: events left the ring before it read them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lagged {
    /// How many events it missed, of all kinds: those that its filter leaves out are counted too. Always
    /// `to - from`; zero if what it missed was word of a [gap](Item::Gap).
    pub missed: u64,
    /// The place of the first one that it missed, counted in events since the bus was made.
    pub from: u64,
    /// The place of the next event that it is told.
    pub to: u64,
    /// Where to read the journal to make up for it: all that was missed is behind it, and perhaps a few
    /// events that were told. None when the events come from this process.
    pub resume: Option<Cursor>,
}

/// What a subscription yields.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Item {
    /// Something happened.
    Event(Told),
    /// The reader was too slow. What follows is the next event that is left; told once for each time
    /// that it was overrun.
    Lagged(Lagged),
    /// The journal does not hold everything that happened before what follows.
    Gap(Gap),
}

/// Events that are handed over together, in order.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(crate) lagged: Option<Lagged>,
    pub(crate) gap: Option<Gap>,
    pub(crate) events: Vec<Told>,
}

impl Batch {
    /// What the reader missed before these events because it was too slow.
    #[must_use]
    pub const fn lagged(&self) -> Option<&Lagged> {
        self.lagged.as_ref()
    }

    /// Why the journal does not hold everything that happened before these events.
    #[must_use]
    pub const fn gap(&self) -> Option<Gap> {
        self.gap
    }

    /// What happened. Empty only when the batch tells that something was missed.
    #[must_use]
    pub fn events(&self) -> &[Told] {
        &self.events
    }

    /// Says whether nothing is in it, not even word of something that was missed.
    pub(crate) const fn is_blank(&self) -> bool {
        self.lagged.is_none() && self.gap.is_none() && self.events.is_empty()
    }
}

impl<'b> IntoIterator for &'b Batch {
    type Item = &'b Told;
    type IntoIter = std::slice::Iter<'b, Told>;

    fn into_iter(self) -> Self::IntoIter {
        self.events.iter()
    }
}
