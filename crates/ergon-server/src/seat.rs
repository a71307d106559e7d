//! What an attempt owes the server however it goes: its slot, and word of its end.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use ergon_core::{Conclusion, ErrorKind};
use tokio::time::Instant;

use crate::{
    attempt::{Attempt, flag},
    shared::{Finished, Shared},
};

/// The slot of an attempt and the duty to say how it ended.
///
/// However an attempt goes, also when something panics that nobody thought of: its slot comes free,
/// and its claim is not renewed for ever.
pub(crate) struct Seat {
    shared: Arc<Shared>,
    attempt: Arc<Attempt>,
    since: Instant,
    progress: Progress,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Waiting,
    Started,
    HandedIn,
}

impl Seat {
    pub(crate) fn take(shared: Arc<Shared>, attempt: Arc<Attempt>, now: Instant) -> Self {
        shared.slots.take(attempt.queue);
        Self { shared, attempt, since: now, progress: Progress::Waiting }
    }

    pub(crate) const fn attempt(&self) -> &Arc<Attempt> {
        &self.attempt
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Notes that the handler may be called from now on.
    pub(crate) const fn begin(&mut self) {
        self.progress = Progress::Started;
    }

    /// Hands the outcome in. Waits when too many are unrecorded: the slot stays taken, so that no
    /// further task is started.
    pub(crate) async fn hand_in(mut self, conclusion: Conclusion) {
        self.attempt.set_ended();
        self.progress = Progress::HandedIn;
        let finished = self.finished(conclusion);
        if self.attempt.has(flag::DISOWNED) {
            // The claim is somebody else's by now, and so is the task: there is nothing to record.
            self.shared.tally.stale.fetch_add(1, Relaxed);
            self.shared.held.remove([&self.attempt.held()]);
            return;
        }
        if let Err(closed) = self.shared.outcomes.send(finished).await {
            let id = closed.0.attempt.task.id;
            tracing::warn!(%id, "an attempt outlived its server; its outcome is not recorded");
        }
    }

    fn finished(&self, conclusion: Conclusion) -> Finished {
        let attempt = Arc::clone(&self.attempt);
        let followers = attempt.take_followers();
        Finished { attempt, conclusion, ran: self.since.elapsed(), followers }
    }

    /// What is recorded when nobody said how the attempt ended.
    fn fallback(&self) -> Conclusion {
        if self.progress == Progress::Waiting {
            return Conclusion::Release;
        }
        let task = &self.attempt.task;
        let delay = task.spec.retry.ceiling(task.attempt);
        let error = "the attempt was cut off".to_owned();
        Conclusion::Retry { delay, kind: ErrorKind::Panic, error }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.attempt.set_ended();
        let ran = self.since.elapsed();
        if self.progress != Progress::HandedIn {
            let finished = self.finished(self.fallback());
            if self.shared.outcomes.try_send(finished).is_err() {
                // There is no room, and nobody to wait for it: others take the task when its lease
                // ends.
                self.shared.held.remove([&self.attempt.held()]);
                self.shared.tally.unrecorded.push(self.attempt.task.id);
            }
        }
        self.shared.slots.give_back(self.attempt.queue, ran);
    }
}
