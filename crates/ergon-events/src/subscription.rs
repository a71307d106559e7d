//! Subscriptions: reading the ring by oneself.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use ergon_core::{
    EventKindSet,
    store::{Cursor, EventId, Gap},
};
use futures_util::Stream;
use tokio::task::coop::poll_proceed;

use crate::{
    hub::Reader,
    item::{Batch, Facts, Item, Lagged, Told},
    ring::Taken,
    stats::Tally,
};

/// Most events of one batch.
const BATCH_EVENTS_MAX: usize = 256;

/// Most slots that are looked at for one batch.
const BATCH_SLOTS_MAX: usize = 1_024;

/// Reads what the bus tells, from the moment of its making on.
///
/// It takes as long as it likes: nobody waits for it. What leaves the ring before it was read is told as
/// one [`Lagged`]. It is a [`Stream`] too. Dropping it ends it.
#[derive(Debug)]
#[must_use = "a subscription that is dropped is told nothing"]
pub struct Subscription {
    parts: Parts,
}

impl Subscription {
    pub(crate) const fn new(reader: Reader, kinds: EventKindSet) -> Self {
        Self { parts: Parts::new(reader, kinds) }
    }

    /// The next event of the chosen kinds, or word of what was missed before it. None when the bus has
    /// ended and everything was read.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn next(&mut self) -> Option<Item> {
        poll_fn(|cx| self.poll_item(cx)).await
    }

    /// What is there, at least one event or word of what was missed, and at most 256 events; waits only
    /// when there is nothing. None when the bus has ended and everything was read.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn next_batch(&mut self) -> Option<Batch> {
        poll_fn(|cx| self.poll_batch(cx)).await
    }

    /// The place in the journal up to which everything was yielded: who goes on from here, in whatever
    /// process, misses nothing, and is told at most 1,000 events or one transaction once more. None when
    /// the events come from this process, or the journal was not reached yet.
    #[must_use]
    pub const fn cursor(&self) -> Option<&Cursor> {
        self.parts.cursor()
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        loop {
            if let Some(item) = self.parts.next_item() {
                return Poll::Ready(Some(item));
            }
            if !ready!(self.parts.poll_more(cx)) {
                return Poll::Ready(None);
            }
            self.parts.count_missed();
        }
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Option<Batch>> {
        ready!(poll_proceed(cx)).made_progress();
        let mut batch = Batch::default();
        for _ in 0..BATCH_SLOTS_MAX {
            if self.parts.fill(&mut batch, BATCH_EVENTS_MAX) {
                return Poll::Ready(Some(batch));
            }
            match self.parts.poll_slot(cx) {
                Poll::Ready(true) => self.parts.count_missed(),
                Poll::Pending if batch.is_blank() => return Poll::Pending,
                Poll::Ready(false) if batch.is_blank() => return Poll::Ready(None),
                Poll::Ready(false) | Poll::Pending => return Poll::Ready(Some(batch)),
            }
        }
        self.parts.fill(&mut batch, BATCH_EVENTS_MAX);
        if batch.is_blank() {
            // There is much that nobody wants: others may run before the rest is passed by.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(batch))
    }
}

impl Stream for Subscription {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        self.poll_item(cx)
    }
}

/// Goes through the slots of the ring, event by event.
#[derive(Debug)]
pub(crate) struct Parts {
    reader: Reader,
    kinds: EventKindSet,
    part: Option<Part>,
}

/// A slot that is being read.
#[derive(Debug)]
struct Part {
    lagged: Option<Lagged>,
    gap: Option<Gap>,
    facts: Facts,
    /// The event to be looked at next.
    next: usize,
    behind: Option<Cursor>,
}

impl Part {
    /// The next event of these kinds.
    fn next_told(&mut self, kinds: EventKindSet) -> Option<Told> {
        while let Some(event) = self.facts.event(self.next) {
            let index = self.next;
            self.next += 1;
            if kinds.contains(event.kind()) {
                return Told::new(&self.facts, index);
            }
        }
        None
    }
}

impl Parts {
    pub(crate) const fn new(reader: Reader, kinds: EventKindSet) -> Self {
        Self { reader, kinds, part: None }
    }

    pub(crate) const fn reader(&self) -> &Reader {
        &self.reader
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.reader.tally
    }

    pub(crate) const fn kinds(&self) -> EventKindSet {
        self.kinds
    }

    const fn cursor(&self) -> Option<&Cursor> {
        self.reader.cursor.as_ref()
    }

    /// Takes the next slot, once the present one is done; false when there is none to come. Lets others
    /// run when it finds one time after time.
    pub(crate) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let coop = ready!(poll_proceed(cx));
        let more = ready!(self.poll_slot(cx));
        coop.made_progress();
        Poll::Ready(more)
    }

    fn poll_slot(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(Taken { overrun, slot, .. }) = ready!(self.reader.poll(cx)) else {
            return Poll::Ready(false);
        };
        let lagged = overrun.map(|overrun| Lagged {
            missed: overrun.to - overrun.from,
            from: overrun.from,
            to: overrun.to,
            resume: self.reader.cursor.clone(),
        });
        // Nothing in it is wanted: to be passed by.
        let next = if slot.kinds.intersects(self.kinds) { 0 } else { slot.facts.len() };
        let mut part = Part { lagged, gap: slot.gap, facts: slot.facts, next, behind: slot.behind };
        if part.gap.is_some() {
            Tally::add(&self.tally().gaps, 1);
        }
        if part.lagged.is_none() && part.gap.is_none() && part.next == part.facts.len() {
            self.done(&mut part);
        } else {
            self.part = Some(part);
        }
        Poll::Ready(true)
    }

    fn done(&mut self, part: &mut Part) {
        if part.behind.is_some() {
            self.reader.cursor = part.behind.take();
        }
    }

    /// Counts what the slot just taken says was missed.
    pub(crate) fn count_missed(&self) {
        if let Some(lagged) = self.part.as_ref().and_then(|part| part.lagged.as_ref()) {
            self.tally().missed(lagged);
        }
    }

    /// The overrun before the present slot, and the first event behind it.
    pub(crate) fn take_overrun(&mut self) -> Option<(Lagged, Option<EventId>)> {
        let part = self.part.as_mut()?;
        Some((part.lagged.take()?, part.facts.id(0)))
    }

    fn next_item(&mut self) -> Option<Item> {
        let part = self.part.as_mut()?;
        if let Some(lagged) = part.lagged.take() {
            return Some(Item::Lagged(lagged));
        }
        if let Some(gap) = part.gap.take() {
            return Some(Item::Gap(gap));
        }
        let told = part.next_told(self.kinds);
        if told.is_some() {
            Tally::add(&self.reader.tally.events, 1);
        }
        self.end_part();
        told.map(Item::Event)
    }

    /// Forgets the present slot once everything of it was looked at.
    fn end_part(&mut self) {
        if let Some(mut part) = self.part.take_if(|part| part.next == part.facts.len()) {
            self.done(&mut part);
        }
    }

    /// Puts what the present slot has into a batch; says whether the batch is to be handed over before
    /// anything else.
    pub(crate) fn fill(&mut self, batch: &mut Batch, events_max: usize) -> bool {
        let Some(part) = &mut self.part else { return batch.events.len() >= events_max };
        let is_missing = part.lagged.is_some() || part.gap.is_some();
        if is_missing && !batch.is_blank() {
            return true;
        }
        if is_missing {
            batch.lagged = part.lagged.take();
            batch.gap = part.gap.take();
        }
        let before = batch.events.len();
        while batch.events.len() < events_max {
            let Some(told) = part.next_told(self.kinds) else { break };
            batch.events.push(told);
        }
        Tally::count(&self.reader.tally.events, batch.events.len() - before);
        self.end_part();
        self.part.is_some() || batch.events.len() >= events_max
    }

    /// How many events of the present slot are still to be told.
    pub(crate) fn remaining(&self) -> u64 {
        let Some(part) = &self.part else { return 0 };
        let events = (part.next..part.facts.len()).filter_map(|index| part.facts.event(index));
        events.filter(|event| self.kinds.contains(event.kind())).map(|_| 1).sum()
    }
}
