//! One reading for all who look: whoever asks for a view while it is read waits for that reading, and
//! whoever asks soon after takes it.

use std::{
    any::Any,
    collections::HashMap,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::error::Trouble;

/// Most views that are kept; the one that nobody asked for for longest makes room.
const VIEWS_MAX: usize = 256;

/// How long a failure stands for the next who ask: long enough that a crowd does not ask a store that
/// is down one by one.
const FAILURE_AGE_MAX: Duration = Duration::from_secs(1);

/// A view as it was read.
#[derive(Debug)]
pub(crate) struct Reading<V> {
    /// What was read.
    pub(crate) view: V,
    /// Told from any other content of the view.
    pub(crate) revision: String,
    /// The end of the journal before it was read, if the store said.
    pub(crate) cursor: Option<String>,
    /// When it was read.
    pub(crate) read_at: Timestamp,
}

impl<V: Serialize> Reading<V> {
    pub(crate) fn new(view: V, cursor: Option<String>, read_at: Timestamp) -> Self {
        let content = serde_json::to_vec(&view).unwrap_or_default();
        let digest = Sha256::digest(content);
        let revision = hex::encode(digest.first_chunk::<8>().unwrap_or(&[0; 8]));
        Self { view, revision, cursor, read_at }
    }
}

/// A reading, and whether it is as new as it should be.
#[derive(Debug)]
pub(crate) struct Found<V> {
    pub(crate) reading: Arc<Reading<V>>,
    /// Why there is nothing newer.
    pub(crate) stale: Option<Trouble>,
    /// For how long it stays the answer to whoever polls.
    pub(crate) fresh_for: Duration,
}

type Kept = Arc<dyn Any + Send + Sync>;

/// Readings by view.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    /// Goes up with every change that is made through this monitor.
    generation: AtomicU64,
    clock: AtomicU64,
}

#[derive(Debug, Default)]
struct Slot {
    asked: AtomicU64,
    state: tokio::sync::Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    kept: Option<(Instant, u64, Kept)>,
    failed: Option<(Instant, Trouble)>,
}

impl Cache {
    /// The view under this key: a reading of at most this age, or a new one.
    ///
    /// When the new one fails, the last that succeeded is answered as stale, if there was one.
    pub(crate) async fn get<V, F>(
        &self,
        key: String,
        age_max: Duration,
        fresh_for: Duration,
        read: impl FnOnce() -> F,
    ) -> Result<Found<V>, Trouble>
    where
        V: Send + Sync + 'static,
        F: Future<Output = Result<Reading<V>, Trouble>>,
    {
        self.newer(key, Instant::now().checked_sub(age_max), fresh_for, read).await
    }

    /// The same, of a reading that began at this instant or later; of any when none is given.
    pub(crate) async fn newer<V, F>(
        &self,
        key: String,
        oldest: Option<Instant>,
        fresh_for: Duration,
        read: impl FnOnce() -> F,
    ) -> Result<Found<V>, Trouble>
    where
        V: Send + Sync + 'static,
        F: Future<Output = Result<Reading<V>, Trouble>>,
    {
        let slot = self.slot(key);
        // Whoever holds this reads; the others wait for what comes of it.
        let mut state = slot.state.lock().await;
        let generation = self.generation.load(Ordering::SeqCst);
        let kept = state.kept.as_ref();
        let is_new = |at: &Instant| oldest.is_none_or(|oldest| *at >= oldest);
        let is_fresh = kept.filter(|(at, of, _)| *of == generation && is_new(at));
        if let Some(found) = is_fresh.and_then(|(at, _, kept)| {
            let left = fresh_for.saturating_sub(at.elapsed());
            found(kept, None, left)
        }) {
            return Ok(found);
        }
        let recent = state.failed.clone().filter(|(at, _)| at.elapsed() < FAILURE_AGE_MAX);
        let trouble = match recent {
            Some((_, trouble)) => trouble,
            None => {
                // The age of a reading counts from its beginning.
                let begun = Instant::now();
                match read().await {
                    Ok(reading) => {
                        let reading = Arc::new(reading);
                        let kept: Kept = Arc::clone(&reading) as Kept;
                        *state = State { kept: Some((begun, generation, kept)), failed: None };
                        let fresh_for = fresh_for.saturating_sub(begun.elapsed());
                        return Ok(Found { reading, stale: None, fresh_for });
                    }
                    Err(trouble) => {
                        state.failed = Some((Instant::now(), trouble.clone()));
                        trouble
                    }
                }
            }
        };
        let last = state.kept.as_ref();
        let stale = last.and_then(|(_, _, kept)| found(kept, Some(trouble.clone()), fresh_for));
        stale.ok_or(trouble)
    }

    /// What was read before is not good enough any more: something was changed.
    pub(crate) fn forget(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    fn slot(&self, key: String) -> Arc<Slot> {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= VIEWS_MAX && !slots.contains_key(&key) {
            let oldest = slots.iter().min_by_key(|(_, slot)| slot.asked.load(Ordering::Relaxed));
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                slots.remove(&oldest);
            }
        }
        let slot = slots.entry(key).or_default();
        slot.asked.store(now, Ordering::Relaxed);
        Arc::clone(slot)
    }
}

/// A key means one type of view, so that the types always fit.
fn found<V: Send + Sync + 'static>(
    kept: &Kept,
    stale: Option<Trouble>,
    fresh_for: Duration,
) -> Option<Found<V>> {
    let reading = Arc::clone(kept).downcast::<Reading<V>>().ok()?;
    Some(Found { reading, stale, fresh_for })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures_util::future::join_all;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn reading(number: u32) -> Reading<u32> {
        Reading::new(number, None, Timestamp::UNIX_EPOCH)
    }

    fn trouble() -> Trouble {
        Trouble::Failed("x".to_owned())
    }

    /// A cache, and how often was read.
    #[derive(Default)]
    struct Case {
        cache: Cache,
        readings: AtomicUsize,
    }

    impl Case {
        /// Asks for view `k`; answers what was found, and whether it is stale.
        async fn ask(&self, answer: Option<u32>) -> Result<(u32, bool), Trouble> {
            let read = || async {
                self.readings.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(SECOND / 10).await;
                answer.map(reading).ok_or_else(trouble)
            };
            let found = self.cache.get("k".to_owned(), SECOND, SECOND, read).await?;
            Ok((found.reading.view, found.stale.is_some()))
        }

        fn readings(&self) -> usize {
            self.readings.load(Ordering::Relaxed)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_ask_at_once_share_one_reading() {
        let case = Case::default();
        let asked = join_all((0..100).map(|number| case.ask(Some(number)))).await;
        assert!(asked.iter().all(|found| *found == Ok((0, false))), "{asked:?}");
        assert_eq!(case.readings(), 1);
        tokio::time::advance(SECOND).await;
        assert_eq!(case.ask(Some(7)).await, Ok((7, false)));
        case.cache.forget();
        assert_eq!(case.ask(Some(8)).await, Ok((8, false)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_shared_and_shows_what_was_read_before() {
        let case = Case::default();
        let asked = join_all((0..9).map(|_| case.ask(None))).await;
        assert!(asked.iter().all(|found| *found == Err(trouble())), "{asked:?}");
        assert_eq!(case.readings(), 1);
        tokio::time::advance(SECOND).await;
        assert_eq!(case.ask(Some(1)).await, Ok((1, false)));
        case.cache.forget();
        assert_eq!(case.ask(None).await, Ok((1, true)));
        assert_eq!(case.readings(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn views_are_bounded() {
        let cache = Cache::default();
        for number in 0..1_000_u32 {
            let read = || async { Ok(reading(number)) };
            cache.get(number.to_string(), SECOND, SECOND, read).await.unwrap();
        }
        let kept = cache.slots.lock().unwrap().len();
        assert_eq!(kept, VIEWS_MAX);
    }

    #[test]
    fn revisions_tell_contents_apart() {
        assert_eq!(reading(1).revision, reading(1).revision);
        assert_ne!(reading(1).revision, reading(2).revision);
    }
}
