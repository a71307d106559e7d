//! Waits for the end of tasks: one of those who wait asks for all, and hands that on when it leaves.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ergon_core::{StoreError, TaskId, limits::BATCH_MAX};
use tokio::{
    sync::{Mutex as AsyncMutex, Notify, OwnedMutexGuard, watch},
    time::{Instant, sleep_until},
};
use tokio_util::task::TaskTracker;

use super::Questions;

/// Shortest and longest time between two questions about a task; in between, an eighth of the time
/// that it has been waited for. Chosen without measurement: a wait ends at most an eighth late.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);
const PAUSE_SHARE: u32 = 8;

/// Those whose turn comes within this time are asked for along with the first.
const TOGETHER: Duration = Duration::from_millis(10);

/// Those who wait for the end of tasks.
#[derive(Debug)]
pub(super) struct Finish {
    shared: Arc<Shared>,
    /// Held by the one who asks for all.
    turn: Arc<AsyncMutex<()>>,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Shared {
    questions: Arc<dyn Questions>,
    awaited: Mutex<HashMap<TaskId, Awaited>>,
    /// Somebody is to be asked for sooner than was known.
    sooner: Notify,
}

/// A task that is waited for.
#[derive(Debug)]
struct Awaited {
    over: Arc<watch::Sender<bool>>,
    /// When the youngest wait began.
    since: Instant,
    /// When to ask.
    ask_at: Instant,
}

/// One wait.
struct Registration<'f> {
    shared: &'f Shared,
    id: TaskId,
    over: watch::Receiver<bool>,
}

impl Finish {
    pub(super) fn new(questions: Arc<dyn Questions>, tasks: TaskTracker) -> Self {
        let (awaited, sooner) = (Mutex::default(), Notify::new());
        let shared = Arc::new(Shared { questions, awaited, sooner });
        Self { shared, turn: Arc::default(), tasks }
    }

    /// Waits until the task is finished or gone. `passing` is why the last question had no answer.
    pub(super) async fn wait(
        &self,
        id: TaskId,
        passing: &mut Option<StoreError>,
    ) -> Result<(), StoreError> {
        let mut registration = self.shared.register(id);
        tokio::select! {
            biased;
            () = registration.over() => Ok(()),
            error = self.ask_for_all(passing) => Err(error),
        }
    }

    /// Has these tasks asked for at once, if anybody waits for them.
    pub(super) fn ask_now(&self, ids: impl IntoIterator<Item = TaskId>) {
        let mut awaited = self.shared.lock();
        if awaited.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut is_sooner = false;
        for id in ids {
            if let Some(awaited) = awaited.get_mut(&id) {
                awaited.ask_at = now;
                is_sooner = true;
            }
        }
        drop(awaited);
        if is_sooner {
            self.shared.sooner.notify_one();
        }
    }

    /// Waits for its turn, then asks for all, until there is an error that will not pass.
    async fn ask_for_all(&self, passing: &mut Option<StoreError>) -> StoreError {
        let mut turn = Arc::clone(&self.turn).lock_owned().await;
        loop {
            let ids = self.shared.due().await;
            let (asked, back) = self.ask(turn, ids).await;
            turn = back;
            match asked {
                Ok(()) => *passing = None,
                Err(error) if error.is_transient() => *passing = Some(error),
                Err(error) => return error,
            }
        }
    }

    /// Asks once, whoever drops this call, and keeps the turn meanwhile.
    async fn ask(
        &self,
        turn: OwnedMutexGuard<()>,
        ids: Vec<TaskId>,
    ) -> (Result<(), StoreError>, OwnedMutexGuard<()>) {
        let shared = Arc::clone(&self.shared);
        let asking = self.tasks.spawn(async move {
            let asked = shared.questions.finished(&ids).await;
            (asked.map(|over| shared.end(&over)), turn)
        });
        match asking.await {
            Ok(asked) => asked,
            Err(error) => {
                let turn = Arc::clone(&self.turn).lock_owned().await;
                (Err(StoreError::Backend { source: error.into() }), turn)
            }
        }
    }
}

impl Shared {
    fn register(&self, id: TaskId) -> Registration<'_> {
        let now = Instant::now();
        let mut all = self.lock();
        let awaited = all.entry(id).or_insert_with(|| Awaited {
            over: Arc::default(),
            since: now,
            ask_at: now,
        });
        (awaited.since, awaited.ask_at) = (now, now);
        let over = awaited.over.subscribe();
        drop(all);
        self.sooner.notify_one();
        Registration { shared: self, id, over }
    }

    /// Waits until somebody is to be asked for; answers who, and when they are asked for next.
    async fn due(&self) -> Vec<TaskId> {
        loop {
            let (ids, first) = self.due_at(Instant::now());
            if !ids.is_empty() {
                return ids;
            }
            match first {
                Some(first) => tokio::select! {
                    () = sleep_until(first) => {}
                    () = self.sooner.notified() => {}
                },
                None => self.sooner.notified().await,
            }
        }
    }

    /// Those whose turn it is, and when the first turn is if it is nobody's.
    fn due_at(&self, now: Instant) -> (Vec<TaskId>, Option<Instant>) {
        let mut all = self.lock();
        let first = all.values().map(|awaited| awaited.ask_at).min();
        if first.is_none_or(|first| first > now) {
            return (Vec::new(), first);
        }
        let together = all.iter_mut().filter(|(_, awaited)| awaited.ask_at <= now + TOGETHER);
        let ids = together.take(BATCH_MAX).map(|(&id, awaited)| {
            let age = now.saturating_duration_since(awaited.since);
            awaited.ask_at = now + (age / PAUSE_SHARE).clamp(PAUSE_MIN, PAUSE_MAX);
            id
        });
        (ids.collect(), first)
    }

    /// Ends the waits for these tasks.
    fn end(&self, over: &[TaskId]) {
        let mut all = self.lock();
        for awaited in over.iter().filter_map(|id| all.remove(id)) {
            awaited.over.send_replace(true);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, Awaited>> {
        // No change can panic half way, so what a panicking thread left behind is whole.
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration<'_> {
    /// Waits until the task is finished or gone.
    async fn over(&mut self) {
        // The sender is dropped once it has said so, and not before this registration.
        drop(self.over.wait_for(|&over| over).await);
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        let mut all = self.shared.lock();
        // A task whose wait ended may be waited for anew by others.
        if let Some(awaited) = all.get(&self.id)
            && awaited.over.receiver_count() == 1
            && !*self.over.borrow()
        {
            all.remove(&self.id);
        }
    }
}
