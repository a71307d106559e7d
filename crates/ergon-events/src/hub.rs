//! The hub: the ring behind its lock, who reads it, and how readers are woken.
//!
//! Whoever publishes wakes nobody but the ringer, a task of the bus, and the ringer wakes the readers:
//! publishing costs the same however many there are, and what a waker does is not done in the time of
//! a worker. While no ringer runs, since the bus was not started, the publisher wakes them itself.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use ergon_core::{
    Event, EventKindSet,
    store::{Changes, Cursor},
};
use tokio::sync::Notify;

use crate::{
    call::caught,
    config::SLOT_EVENTS_MAX,
    item::Facts,
    ring::{Bounds, Place, Ring, Slot, Taken},
    stats::Tally,
};

/// Wakers that are taken out under one lock.
const WAKERS_MAX: usize = 32;

/// The ring, shared by those who fill it and those who read.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    /// How many seats are taken, to be seen without the lock.
    seated: AtomicUsize,
    bell: Notify,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    seats: BTreeMap<u64, Seat>,
    next_seat: u64,
    /// How many seats have a waker.
    waiting: usize,
    /// The ringer was told, and has not looked yet.
    is_rung: bool,
    has_ringer: bool,
    is_closed: bool,
    /// Where the journal was first read from, and where it was last.
    cursors: Option<Cursors>,
}

#[derive(Debug)]
struct Cursors {
    first: Cursor,
    last: Cursor,
}

/// Where a reader is.
#[derive(Debug)]
struct Seat {
    /// The slot that it takes next.
    place: Place,
    /// The first event that it may not be done with.
    done: u64,
    waker: Option<Waker>,
    tally: Arc<Tally>,
}

/// Who has to be woken after something was appended.
#[derive(Clone, Copy, Debug)]
enum Call {
    Nobody,
    Ringer,
    Readers,
}

/// How far a reader is behind.
#[derive(Clone, Debug)]
pub(crate) struct Lag {
    pub(crate) tally: Arc<Tally>,
    pub(crate) events: u64,
}

impl Hub {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            state: Mutex::new(State {
                ring: Ring::new(bounds),
                seats: BTreeMap::new(),
                next_seat: 0,
                waiting: 0,
                is_rung: false,
                has_ringer: false,
                is_closed: false,
                cursors: None,
            }),
            seated: AtomicUsize::new(0),
            bell: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends what this process published.
    pub(crate) fn publish(&self, events: &[Event]) {
        if self.seated.load(Ordering::Acquire) == 0 && self.skip(events.len(), None) {
            return;
        }
        for part in events.chunks(SLOT_EVENTS_MAX) {
            self.push(Slot::new(Facts::Process(Arc::from(part))), None);
        }
    }

    /// Says where the journal is read from.
    pub(crate) fn begin(&self, cursor: &Cursor) {
        self.state().reached(cursor);
    }

    /// Appends what was read from the journal.
    pub(crate) fn append(&self, changes: Changes) {
        let no_reader = self.seated.load(Ordering::Acquire) == 0;
        if no_reader && self.skip(changes.events.len(), Some(&changes.cursor)) {
            return;
        }
        let mut gap = changes.gap;
        // A part that is not the last one has no place of its own: reading from the one before it
        // repeats a few events, and leaves none out.
        let before = self.state().cursors.as_ref().map(|cursors| cursors.last.clone());
        let mut events = changes.events.into_iter();
        while events.len() > SLOT_EVENTS_MAX {
            let part = events.by_ref().take(SLOT_EVENTS_MAX).collect();
            let mut slot = Slot::new(Facts::Journal(part));
            slot.gap = gap.take();
            slot.behind.clone_from(&before);
            self.push(slot, None);
        }
        if events.len() == 0 && gap.is_none() {
            return self.begin(&changes.cursor);
        }
        let mut slot = Slot::new(Facts::Journal(events.collect()));
        slot.gap = gap;
        slot.behind = Some(changes.cursor.clone());
        self.push(slot, Some(&changes.cursor));
    }

    /// Only counts events, if it is true that nobody reads; says so.
    fn skip(&self, events: usize, reached: Option<&Cursor>) -> bool {
        let mut state = self.state();
        let is_skipped = state.seats.is_empty();
        if is_skipped && !state.is_closed {
            state.ring.skip(u64::try_from(events).unwrap_or(u64::MAX));
            if let Some(cursor) = reached {
                state.reached(cursor);
            }
        }
        is_skipped
    }

    fn push(&self, slot: Slot, reached: Option<&Cursor>) {
        // What goes is dropped after the lock is free.
        let mut evicted = Vec::new();
        let call = {
            let mut state = self.state();
            if state.is_closed {
                return;
            }
            if state.seats.is_empty() {
                state.ring.skip(u64::try_from(slot.facts.len()).unwrap_or(u64::MAX));
            } else {
                state.ring.push(slot, &mut evicted);
            }
            if let Some(cursor) = reached {
                state.reached(cursor);
            }
            state.call()
        };
        drop(evicted);
        self.make(call);
    }

    fn make(&self, call: Call) {
        match call {
            Call::Nobody => {}
            Call::Ringer => self.bell.notify_one(),
            Call::Readers => self.wake_readers(),
        }
    }

    /// Wakes every reader that waits.
    fn wake_readers(&self) {
        let mut from = Bound::Unbounded;
        loop {
            let mut wakers = [const { None::<Waker> }; WAKERS_MAX];
            let last = self.state().take_wakers(from, &mut wakers);
            for waker in wakers.into_iter().flatten() {
                // A waker may be anybody's.
                if let Err(panic) = caught(|| waker.wake()) {
                    tracing::error!(panic, "the waker of a reader panicked");
                }
            }
            match last {
                Some(last) => from = Bound::Excluded(last),
                None => return,
            }
        }
    }

    /// Wakes readers whenever something was appended; never ends. From this call on, not from the first
    /// poll, publishers leave it to the future that is answered.
    pub(crate) fn ringer(self: Arc<Self>) -> impl Future<Output = ()> + Send {
        self.state().has_ringer = true;
        let post = Post(self);
        async move {
            loop {
                post.0.bell.notified().await;
                post.0.wake_readers();
            }
        }
    }

    /// Takes a seat at the end of the ring.
    pub(crate) fn sit(self: &Arc<Self>, tally: Arc<Tally>) -> Reader {
        Tally::add(&tally.listening, 1);
        let mut state = self.state();
        let seat = state.next_seat;
        state.next_seat += 1;
        let place = state.ring.end();
        let cursor = state.cursors.as_ref().map(|cursors| cursors.last.clone());
        let done = place.event;
        state.seats.insert(seat, Seat { place, done, waker: None, tally: Arc::clone(&tally) });
        self.seated.store(state.seats.len(), Ordering::Release);
        drop(state);
        Reader { hub: Arc::clone(self), seat, tally, cursor }
    }

    /// Takes no more events; readers end once they have read what there is.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
        self.wake_readers();
    }

    /// How many events ever came, how many are held, and in how many bytes.
    pub(crate) fn sizes(&self) -> (u64, u64, usize) {
        let state = self.state();
        (state.ring.head(), state.ring.events(), state.ring.bytes())
    }

    /// How far each reader is behind.
    pub(crate) fn lags(&self) -> Vec<Lag> {
        let state = self.state();
        let head = state.ring.head();
        let lag = |seat: &Seat| Lag {
            tally: Arc::clone(&seat.tally),
            events: head.saturating_sub(seat.done),
        };
        state.seats.values().map(lag).collect()
    }

    /// How many events of these kinds a reader has not taken.
    pub(crate) fn left(&self, seat: u64, kinds: EventKindSet) -> u64 {
        let state = self.state();
        state.seats.get(&seat).map_or(0, |seat| state.ring.left(seat.place, kinds))
    }
}

impl State {
    fn reached(&mut self, cursor: &Cursor) {
        match &mut self.cursors {
            Some(cursors) => cursors.last = cursor.clone(),
            None => {
                self.cursors = Some(Cursors { first: cursor.clone(), last: cursor.clone() });
            }
        }
    }

    /// Who has to be woken now.
    fn call(&mut self) -> Call {
        if self.waiting == 0 || self.is_rung {
            Call::Nobody
        } else if self.has_ringer {
            self.is_rung = true;
            Call::Ringer
        } else {
            Call::Readers
        }
    }

    /// Takes wakers out until there is no more room; answers the seat to go on behind.
    fn take_wakers(
        &mut self,
        from: Bound<u64>,
        wakers: &mut [Option<Waker>; WAKERS_MAX],
    ) -> Option<u64> {
        self.is_rung = false;
        let waiting = self
            .seats
            .range_mut((from, Bound::Unbounded))
            .filter_map(|(seat, Seat { waker, .. })| Some((*seat, waker.take()?)));
        let mut last = None;
        for (room, (seat, waker)) in wakers.iter_mut().zip(waiting) {
            *room = Some(waker);
            self.waiting -= 1;
            last = Some(seat);
        }
        let is_full = wakers.iter().all(Option::is_some);
        last.filter(|_| is_full)
    }
}

/// That a ringer runs.
struct Post(Arc<Hub>);

impl Drop for Post {
    fn drop(&mut self) {
        self.0.state().has_ringer = false;
        // It may have been told, and not have come to it.
        self.0.wake_readers();
    }
}

/// One who reads the ring.
#[derive(Debug)]
pub(crate) struct Reader {
    hub: Arc<Hub>,
    seat: u64,
    pub(crate) tally: Arc<Tally>,
    /// Where to read the journal from to get what this reader is told next.
    pub(crate) cursor: Option<Cursor>,
}

impl Reader {
    /// Takes the next slot; none when the hub is closed and everything was taken. Who calls has dealt
    /// with the slot before.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Taken>> {
        let (polled, stale) = self.look(cx);
        // A waker may be anybody's: it is dropped after the lock is free.
        drop(stale);
        polled
    }

    /// The same, and the waker that nobody needs any more.
    fn look(&mut self, cx: &Context<'_>) -> (Poll<Option<Taken>>, Option<Waker>) {
        let mut state = self.hub.state();
        let State { ring, seats, waiting, is_closed, cursors, .. } = &mut *state;
        if self.cursor.is_none() {
            self.cursor = cursors.as_ref().map(|cursors| cursors.first.clone());
        }
        // Every reader has its seat until it is dropped.
        let Some(seat) = seats.get_mut(&self.seat) else { return (Poll::Ready(None), None) };
        if let Some(taken) = ring.take(&mut seat.place) {
            seat.done = taken.first;
            let stale = seat.waker.take();
            *waiting -= usize::from(stale.is_some());
            return (Poll::Ready(Some(taken)), stale);
        }
        seat.done = ring.head();
        if *is_closed {
            return (Poll::Ready(None), None);
        }
        if seat.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return (Poll::Pending, None);
        }
        let stale = seat.waker.replace(cx.waker().clone());
        *waiting += usize::from(stale.is_none());
        (Poll::Pending, stale)
    }

    /// Where it sits.
    pub(crate) const fn seat(&self) -> u64 {
        self.seat
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.tally.listening.fetch_sub(1, Ordering::Relaxed);
        let mut evicted = Vec::new();
        let mut state = self.hub.state();
        let seat = state.seats.remove(&self.seat);
        if seat.as_ref().is_some_and(|seat| seat.waker.is_some()) {
            state.waiting -= 1;
        }
        if state.seats.is_empty() {
            state.ring.clear(&mut evicted);
        }
        self.hub.seated.store(state.seats.len(), Ordering::Release);
        drop(state);
        // A waker and the events are dropped after the lock is free.
        drop((seat, evicted));
    }
}
