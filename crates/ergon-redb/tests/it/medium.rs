//! A simulated medium: it remembers what was synced, fails and blocks on demand, and loses power.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ergon_core::Rng;
use redb::StorageBackend;

/// What was done to the medium.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Write { at: usize, bytes: Vec<u8> },
    SetLen(usize),
    Sync,
}

/// What a thread has to wait for the test to allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reads of a thread with this name.
    ReadsOf(&'static str),
    /// Writes and syncs of any thread.
    Changes,
}

#[derive(Debug, Default)]
struct State {
    /// What a reader sees.
    bytes: Vec<u8>,
    /// What was there when the log began.
    first: Vec<u8>,
    log: Vec<Change>,
    syncs: usize,
    /// Writes, changes of the length and syncs that were asked for.
    changes: usize,
    /// Which of them fails.
    fail_at: Option<usize>,
    blocked: Option<Access>,
    /// Accesses that wait for the test.
    waiting: usize,
}

/// A simulated medium. Clones are the same medium.
#[derive(Clone, Debug, Default)]
pub(crate) struct Medium {
    shared: Arc<(Mutex<State>, Condvar)>,
}

/// Far longer than anything that works takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What is lost or kept as a whole.
const SECTOR_BYTES: usize = 512;

impl Medium {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let medium = Self::default();
        medium.state().first.clone_from(&bytes);
        medium.state().bytes = bytes;
        medium
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the medium holds when its process is killed: everything that was written.
    pub(crate) fn image(&self) -> Vec<u8> {
        self.state().bytes.clone()
    }

    /// How many changes were made so far.
    pub(crate) fn len(&self) -> usize {
        self.state().log.len()
    }

    pub(crate) fn syncs(&self) -> usize {
        self.state().syncs
    }

    /// Changes that were asked for so far, also one that failed.
    pub(crate) fn changes(&self) -> usize {
        self.state().changes
    }

    /// Has the change of this number, counted from 0, fail: once, then everything works again.
    pub(crate) fn fail_at(&self, change: usize) {
        self.state().fail_at = Some(change);
    }

    pub(crate) fn has_failed(&self) -> bool {
        let state = self.state();
        state.fail_at.is_some_and(|at| state.changes > at)
    }

    /// Has these accesses wait.
    pub(crate) fn block(&self, access: Access) {
        self.state().blocked = Some(access);
    }

    /// Lets everything go on.
    pub(crate) fn unblock(&self) {
        self.state().blocked = None;
        self.shared.1.notify_all();
    }

    /// Waits, blocking, until an access waits.
    pub(crate) fn until_blocked(&self) {
        let state = self.state();
        let waited = self.shared.1.wait_timeout_while(state, PATIENCE, |it| it.waiting == 0);
        let (state, outcome) = waited.unwrap_or_else(PoisonError::into_inner);
        drop(state);
        assert!(!outcome.timed_out(), "nothing was blocked");
    }

    fn pass(&self, is_change: bool) -> MutexGuard<'_, State> {
        let mut state = self.state();
        let this = std::thread::current();
        let is_blocked = |state: &State| match state.blocked {
            Some(Access::Changes) => is_change,
            Some(Access::ReadsOf(thread)) => !is_change && this.name() == Some(thread),
            None => false,
        };
        state.waiting += 1;
        while is_blocked(&state) {
            self.shared.1.notify_all();
            state = self.shared.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
        state
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.pass(true);
        let number = state.changes;
        state.changes += 1;
        if state.fail_at == Some(number) {
            if matches!(change, Change::Sync) {
                // What a failed sync had to keep is gone, though reads still show it.
                let synced = state.log.iter().rposition(|it| matches!(it, Change::Sync));
                state.log.truncate(synced.map_or(0, |at| at + 1));
            }
            return Err(io::Error::other("an injected failure"));
        }
        state.syncs += usize::from(matches!(change, Change::Sync));
        apply(&mut state.bytes, &change);
        state.log.push(change);
        Ok(())
    }

    /// Follows the medium through its log.
    pub(crate) fn history(&self) -> History {
        let state = self.state();
        History { image: state.first.clone(), log: state.log.clone(), at: 0 }
    }
}

fn apply(image: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { at, bytes } => {
            let end = at + bytes.len();
            if image.len() < end {
                image.resize(end, 0);
            }
            image[*at..end].copy_from_slice(bytes);
        }
        Change::SetLen(len) => image.resize(*len, 0),
        Change::Sync => {}
    }
}

impl StorageBackend for Medium {
    fn len(&self) -> io::Result<u64> {
        Ok(u64::try_from(self.state().bytes.len()).unwrap())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.pass(false);
        let at = usize::try_from(offset).unwrap();
        let found = state.bytes.get(at..at + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::SetLen(usize::try_from(len).unwrap()))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(Change::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        self.change(Change::Write { at, bytes: data.to_vec() })
    }
}

/// What happens to changes that were not synced when the power is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// All of them are lost.
    All,
    /// None is.
    None,
    /// The first ones are kept, the last of them in part.
    Tail,
    /// Any of them.
    Any,
    /// Any sector of them.
    AnySector,
}

impl Loss {
    pub(crate) const ALL: [Self; 5] =
        [Self::All, Self::None, Self::Tail, Self::Any, Self::AnySector];
}

/// The life of a medium, from its beginning on.
#[derive(Debug)]
pub(crate) struct History {
    /// What was synced.
    image: Vec<u8>,
    log: Vec<Change>,
    /// How much of the log the image holds.
    at: usize,
}

impl History {
    pub(crate) fn len(&self) -> usize {
        self.log.len()
    }

    /// What the medium holds when the power is cut after so many changes. The cuts have to come in
    /// the order of the log.
    pub(crate) fn cut(&mut self, cut: usize, loss: Loss, rng: &dyn Rng) -> Vec<u8> {
        let is_sync = |change: &Change| matches!(change, Change::Sync);
        let synced = self.log[..cut].iter().rposition(is_sync).map_or(0, |at| at + 1);
        while self.at < synced {
            apply(&mut self.image, &self.log[self.at]);
            self.at += 1;
        }
        let mut image = self.image.clone();
        let unsynced = &self.log[synced..cut];
        match loss {
            Loss::All => {}
            Loss::None => unsynced.iter().for_each(|change| apply(&mut image, change)),
            Loss::Tail => {
                let kept = below(rng, unsynced.len() + 1);
                unsynced[..kept].iter().for_each(|change| apply(&mut image, change));
                if let Some(Change::Write { at, bytes }) = unsynced.get(kept) {
                    let sectors = below(rng, bytes.len().div_ceil(SECTOR_BYTES));
                    let bytes = bytes[..sectors * SECTOR_BYTES].to_vec();
                    apply(&mut image, &Change::Write { at: *at, bytes });
                }
            }
            Loss::Any => {
                let kept = unsynced.iter().filter(|_| below(rng, 2) == 0);
                kept.for_each(|change| apply(&mut image, change));
            }
            Loss::AnySector => {
                for change in unsynced {
                    let Change::Write { at, bytes } = change else {
                        if below(rng, 2) == 0 {
                            apply(&mut image, change);
                        }
                        continue;
                    };
                    for (number, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                        if below(rng, 2) == 0 {
                            let at = at + number * SECTOR_BYTES;
                            apply(&mut image, &Change::Write { at, bytes: sector.to_vec() });
                        }
                    }
                }
            }
        }
        image
    }
}

/// A random number below `end`; 0 when there is none.
pub(crate) fn below(rng: &dyn Rng, end: usize) -> usize {
    let end = u64::try_from(std::cmp::max(end, 1)).unwrap();
    usize::try_from(rng.next_u64() % end).unwrap()
}
