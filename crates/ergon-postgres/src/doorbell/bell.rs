//! What a process hears: rings of its own and of others, handed to those whom they concern.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use ergon_core::{KindName, QueueName};
use tokio::{
    sync::{Mutex as AsyncMutex, Notify, watch},
    time::Instant,
};

/// How many sets of queues and kinds are remembered while nobody waits for them.
const WATCHES_MAX: usize = 64;

/// Everybody who waits or waited for work, and whether others are heard.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    watches: Mutex<HashMap<Key, Arc<Watch>>>,
    /// Those who wait for the journal.
    journal: watch::Sender<()>,
    is_listening: AtomicBool,
    is_wanted: AtomicBool,
    is_journal_wanted: AtomicBool,
    wanted: Notify,
}

/// What somebody in this process ever wanted to hear of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wants {
    pub(super) work: bool,
    pub(super) journal: bool,
}

impl Wants {
    pub(super) const fn any(self) -> bool {
        self.work || self.journal
    }
}

/// Queues and kinds, sorted.
type Key = (Arc<[QueueName]>, Arc<[KindName]>);

/// Those who wait for work of the same kinds in the same queues, and what they know.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) queues: Arc<[QueueName]>,
    pub(crate) kinds: Arc<[KindName]>,
    rings: watch::Sender<Rings>,
    /// What was seen last. Locked while somebody looks, so that the others need not.
    pub(crate) look: Arc<AsyncMutex<Option<Look>>>,
}

/// How often it rang.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rings {
    /// Tasks became due.
    pub(crate) due: u64,
    /// Anything else made it necessary to look again.
    pub(crate) look: u64,
}

impl Rings {
    /// Once more: tasks are due.
    pub(crate) fn due(&mut self) {
        self.due = self.due.wrapping_add(1);
    }

    /// Once more: look again.
    pub(crate) fn look(&mut self) {
        self.look = self.look.wrapping_add(1);
    }
}

/// What was seen in the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// When the look began.
    pub(crate) began: Instant,
    /// How often it had rung when the look began.
    pub(crate) rings: Rings,
    /// From when on it says nothing any more: then a task will be due, or one may have come unheard.
    pub(crate) until: Instant,
    /// Whether a task was due.
    pub(crate) is_due: bool,
}

impl Watch {
    /// Hears the rings from now on.
    pub(crate) fn listen(&self) -> watch::Receiver<Rings> {
        self.rings.subscribe()
    }

    /// How often it rang until now.
    pub(crate) fn rings(&self) -> Rings {
        *self.rings.borrow()
    }
}

impl Bell {
    /// Joins those who wait for work of these kinds in these queues.
    pub(crate) fn watch(&self, queues: &[QueueName], kinds: &[KindName]) -> Arc<Watch> {
        self.want(&self.is_wanted);
        let key = (sorted(queues), sorted(kinds));
        let mut watches = self.lock();
        if let Some(watch) = watches.get(&key) {
            return Arc::clone(watch);
        }
        if watches.len() >= WATCHES_MAX {
            watches.retain(|_, watch| Arc::strong_count(watch) > 1);
        }
        let (queues, kinds) = key.clone();
        let watch = Watch { queues, kinds, rings: watch::Sender::default(), look: Arc::default() };
        let watch = Arc::new(watch);
        watches.insert(key, Arc::clone(&watch));
        watch
    }

    /// Tells those who wait for one of these queues.
    pub(crate) fn ring<'q>(
        &self,
        queues: impl Iterator<Item = &'q str> + Clone,
        what: impl Fn(&mut Rings),
    ) {
        for ((wanted, _), watch) in self.lock().iter() {
            let is_wanted =
                |name| wanted.binary_search_by(|queue| queue.as_str().cmp(name)).is_ok();
            if queues.clone().any(is_wanted) {
                watch.rings.send_modify(&what);
            }
        }
    }

    /// Joins those who wait for the journal.
    pub(crate) fn listen_for_journal(&self) -> watch::Receiver<()> {
        self.want(&self.is_journal_wanted);
        self.journal.subscribe()
    }

    /// Tells those who wait for the journal.
    pub(crate) fn ring_journal(&self) {
        self.journal.send_modify(|()| {});
    }

    /// Tells everybody who waits for work.
    pub(crate) fn ring_all(&self, what: impl Fn(&mut Rings)) {
        self.lock().values().for_each(|watch| watch.rings.send_modify(&what));
    }

    /// Says whether what other processes ring is heard now, as far as can be known.
    pub(crate) fn is_listening(&self) -> bool {
        self.is_listening.load(Ordering::SeqCst)
    }

    /// Others are heard from now on, or not any more: either way everybody has to look, since rings
    /// may have been missed, or will be.
    pub(super) fn set_listening(&self, is_listening: bool) {
        if self.is_listening.swap(is_listening, Ordering::SeqCst) != is_listening {
            self.ring_all(Rings::look);
            self.ring_journal();
        }
    }

    /// As if others were heard.
    #[cfg(test)]
    pub(crate) fn hear_others(&self) {
        self.set_listening(true);
    }

    /// Waits until somebody wants to hear more of others than this, now or before.
    ///
    /// # Cancel safety
    ///
    /// A dropped call loses nothing.
    pub(super) async fn wanted(&self, known: Wants) {
        while self.wants() == known {
            self.wanted.notified().await;
        }
    }

    /// What anybody ever wanted to hear of others.
    pub(super) fn wants(&self) -> Wants {
        Wants {
            work: self.is_wanted.load(Ordering::SeqCst),
            journal: self.is_journal_wanted.load(Ordering::SeqCst),
        }
    }

    fn want(&self, what: &AtomicBool) {
        if !what.swap(true, Ordering::SeqCst) {
            self.wanted.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Watch>>> {
        // No change can panic half way, so what a panicking thread left behind is whole.
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sorted<N: Clone + Ord>(names: &[N]) -> Arc<[N]> {
    let mut names = names.to_vec();
    names.sort_unstable();
    names.dedup();
    names.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(names: &[&str]) -> Vec<QueueName> {
        names.iter().map(|name| QueueName::new(name).unwrap()).collect()
    }

    #[test]
    fn a_ring_reaches_those_whom_it_concerns() {
        let bell = Bell::default();
        let (ab, c) = (bell.watch(&queues(&["b", "a"]), &[]), bell.watch(&queues(&["c"]), &[]));
        assert!(Arc::ptr_eq(&ab, &bell.watch(&queues(&["a", "b", "a"]), &[])));
        bell.ring(["b", "a", "x"].into_iter(), Rings::due);
        bell.ring_all(Rings::look);
        bell.ring(["x"].into_iter(), Rings::due);
        assert_eq!(ab.rings(), Rings { due: 1, look: 1 });
        assert_eq!(c.rings(), Rings { due: 0, look: 1 });
        bell.set_listening(true);
        bell.set_listening(true);
        assert_eq!(c.rings(), Rings { due: 0, look: 2 });
    }

    #[test]
    fn what_nobody_waits_for_is_forgotten() {
        let bell = Bell::default();
        let awaited = bell.watch(&queues(&["awaited"]), &[]);
        for number in 0..WATCHES_MAX * 3 {
            bell.watch(&queues(&[&number.to_string()]), &[]);
            assert!(bell.lock().len() <= WATCHES_MAX);
        }
        assert!(Arc::ptr_eq(&awaited, &bell.watch(&queues(&["awaited"]), &[])));
    }
}
