//! What the store holds in memory: windows, running tasks, names, counters.
//!
//! The writer changes it only after a commit, so that it never says more than the file. Claims alone
//! change it in between: a claim is not written, and is over when the process is.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use ergon_core::{
    Phase, Progress, ServerId, TaskEvent, TaskId, Token,
    report::KeptReport,
    store::Held,
    time::{between, from_micros},
};
use jiff::Timestamp;

use crate::{
    journal::{Journal, TaskKey},
    key::{Lane, NameId},
    names::Names,
    queue::QueueRow,
    ready::{Lanes, Waiting},
    record::BodyHead,
};

/// A task as its two records say it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TaskState {
    pub(crate) body: BodyHead,
    pub(crate) progress: Progress,
}

impl TaskState {
    /// The task in its newest attempt: the one that runs, or else the last that ended.
    pub(crate) fn key(&self, id: TaskId) -> TaskKey {
        let BodyHead { queue, kind, .. } = self.body;
        let attempt = self.progress.attempt;
        let is_running = self.progress.phase == Phase::Running;
        let attempt = if is_running { attempt.saturating_add(1) } else { attempt };
        TaskKey { id, queue, kind, attempt }
    }

    /// How long the newest claim is held at `now`, or was.
    pub(crate) fn ran(&self, now: Timestamp) -> Duration {
        self.progress.started_at.map_or(Duration::ZERO, |started_at| between(started_at, now))
    }
}

/// A claim.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) token: Token,
    pub(crate) server: ServerId,
    pub(crate) lease: Duration,
    /// By store time, in microseconds.
    pub(crate) lease_until: i64,
    /// By store time, in microseconds.
    pub(crate) claimed_at: i64,
    /// When the claim was made, by the clock that never jumps.
    pub(crate) claimed: Instant,
    /// When it was made or last renewed, by the clock that never jumps.
    pub(crate) renewed: Instant,
    /// Where the task waits if it comes back unchanged; its row on disk.
    pub(crate) waiting: Waiting,
    /// The task is being taken back.
    pub(crate) is_over: bool,
    /// The file says that the task runs.
    pub(crate) is_noted: bool,
    /// An operator asked for the task to stop.
    pub(crate) is_cancel_requested: bool,
    /// Which attempt it is, once it is known and the journal was told of the claim, if anybody watched.
    pub(crate) attempt: Option<u16>,
    /// How far it has come, as its handler tells.
    pub(crate) report: Option<Arc<KeptReport>>,
    /// The task, once the claim has read it, and while no batch has it in its hands.
    pub(crate) state: Option<Box<TaskState>>,
}

impl Running {
    /// What is told of the claim of a task that was due at an instant.
    pub(crate) fn started(&self, run_at: Timestamp) -> TaskEvent {
        let waited = between(run_at, from_micros(self.claimed_at));
        TaskEvent::Started { server: self.server, waited }
    }

    /// What is told of the task of this claim.
    pub(crate) fn key(&self, id: TaskId) -> TaskKey {
        let Lane { queue, kind, .. } = self.waiting.lane;
        TaskKey { id, queue, kind, attempt: self.attempt.unwrap_or(0) }
    }
}

/// What is known of a queue beside its row.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Queue {
    /// The file has a row of it: it was used, or changed.
    pub(crate) is_known: bool,
    pub(crate) row: QueueRow,
    pub(crate) running: u64,
}

/// Everything in memory.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) names: Names,
    pub(crate) lanes: Lanes,
    pub(crate) running: HashMap<TaskId, Running>,
    /// By number.
    pub(crate) queues: Vec<Queue>,
    pub(crate) journal: Journal,
    /// Claims in the order in which they were made, until they are over or written down.
    unnoted: VecDeque<(Instant, Held)>,
    /// The store is closed: nothing is claimed any more.
    pub(crate) is_closed: bool,
    /// A batch has begun to take over what transactions of the application have added.
    pub(crate) is_adopting: bool,
    newest_token: u64,
}

/// Tokens of one incarnation of the store; the bits above count the incarnations.
const TOKEN_BITS: u32 = 40;

impl Live {
    pub(crate) fn new(incarnation: u64, window_budget: usize, journal: Journal) -> Self {
        Self {
            names: Names::default(),
            lanes: Lanes::new(window_budget),
            running: HashMap::new(),
            queues: Vec::new(),
            journal,
            unnoted: VecDeque::new(),
            is_closed: false,
            is_adopting: false,
            newest_token: incarnation << TOKEN_BITS,
        }
    }

    /// A token larger than every one before, also those of earlier incarnations.
    pub(crate) const fn next_token(&mut self) -> Token {
        self.newest_token += 1;
        Token::new(self.newest_token)
    }

    /// A queue by its number, known from now on.
    pub(crate) fn queue_mut(&mut self, number: NameId) -> &mut Queue {
        let at = number as usize;
        if self.queues.len() <= at {
            self.queues.resize(at + 1, Queue::default());
        }
        &mut self.queues[at]
    }

    /// Takes the row of a queue over from the file.
    pub(crate) fn set_row(&mut self, number: NameId, row: QueueRow) {
        let queue = self.queue_mut(number);
        queue.is_known = true;
        queue.row = row;
    }

    pub(crate) fn queue(&self, number: NameId) -> Queue {
        self.queues.get(number as usize).copied().unwrap_or_default()
    }

    /// Begins a claim of a task that was taken out of its window.
    pub(crate) fn start(&mut self, waiting: Waiting, claim: Running) {
        self.queue_mut(waiting.lane.queue).running += 1;
        if let Ok(id) = TaskId::from_u128(waiting.place.id) {
            self.unnoted.push_back((claim.claimed, Held { id, token: claim.token }));
            self.running.insert(id, claim);
        }
    }

    /// When the oldest claim was made that goes on and is not written down.
    pub(crate) fn oldest_unnoted(&mut self) -> Option<Instant> {
        while let Some(&(claimed, held)) = self.unnoted.front() {
            let claim = self.running.get(&held.id);
            if claim.is_some_and(|claim| claim.token == held.token && !claim.is_noted) {
                return Some(claimed);
            }
            self.unnoted.pop_front();
        }
        None
    }

    /// The claims that go on, are not written down, and were made before an instant.
    pub(crate) fn unnoted_before(&mut self, instant: Instant) -> Vec<TaskId> {
        let mut before = Vec::new();
        while self.oldest_unnoted().is_some_and(|claimed| claimed <= instant) {
            before.extend(self.unnoted.pop_front().map(|(_, held)| held.id));
        }
        before
    }

    /// Ends a claim.
    pub(crate) fn end(&mut self, id: TaskId) -> Option<Running> {
        let claim = self.running.remove(&id)?;
        let queue = self.queue_mut(claim.waiting.lane.queue);
        queue.running = queue.running.saturating_sub(1);
        Some(claim)
    }
}
