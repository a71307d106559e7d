//! Changes of single tasks: read where each is, decide by the rules of core, write all or nothing.
//!
//! The write names every row as it was read. When one of them is not there any more, since a claim, an
//! outcome or another command came first, nothing happens, and the whole is read and decided anew.

mod list;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ergon_core::{
    Event, Outcome, Phase, Progress, Retention, StoreError, TaskEvent, TaskId, Verdict,
    event::TaskRef, time::between, transition,
};
use jiff::Timestamp;

use self::list::Lists;
use crate::{
    place::{self, Found, Place},
    range::Runs,
    runner::Runner,
    shared::Shared,
    sql::Bound,
    value::{column, small},
};

/// How often a change is decided anew before it is given up as lost.
const ATTEMPTS_MAX: u32 = 20;

/// Tasks as they were found, and as they are to become.
#[derive(Debug)]
pub(crate) struct Change {
    entries: BTreeMap<TaskId, Entry>,
    /// What happens by it.
    events: Vec<Event>,
    is_recorded: bool,
}

/// One task.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) found: Found,
    pub(crate) progress: Progress,
    /// Whether it is to be removed.
    pub(crate) is_removed: bool,
}

impl Entry {
    /// The attempt that runs, or else the last one, counted from 1; 0 before the first.
    pub(crate) fn newest_attempt(&self) -> u16 {
        let Progress { phase, attempt, .. } = self.progress;
        if phase == Phase::Running { attempt.saturating_add(1) } else { attempt }
    }

    /// How long the newest claim is held, or was.
    pub(crate) fn ran(&self, now: Timestamp) -> Duration {
        self.progress.started_at.map_or(Duration::ZERO, |started_at| between(started_at, now))
    }

    /// What happens to the task in an attempt.
    pub(crate) fn event(&self, attempt: u16, event: TaskEvent, at: Timestamp) -> Event {
        let (queue, kind) = (self.found.lane.queue.clone(), self.found.kind_name());
        Event::task(at, TaskRef { id: self.found.id, queue, kind, attempt }, event)
    }

    fn is_changed(&self) -> bool {
        self.is_removed || self.progress != self.found.progress
    }

    /// Whether a row of `settled` says everything about the task.
    fn is_plain(&self) -> bool {
        let progress = &self.progress;
        let settled = progress.settled.map(|settled| settled.token);
        progress.phase == Phase::Completed
            && self.found.version == 0
            && progress.attempt == 1
            && progress.crash_count == 0
            && progress.errors.is_empty()
            && !progress.cancel_requested
            && progress.max_attempts == self.found.max_attempts
            && progress.priority == self.found.lane.priority
            && settled == Some(progress.token)
    }
}

impl Change {
    fn new(found: Vec<Found>) -> Self {
        let entry = |found: Found| {
            let progress = found.progress.clone();
            (found.id, Entry { found, progress, is_removed: false })
        };
        let entries = found.into_iter().map(entry).collect();
        Self { entries, events: Vec::new(), is_recorded: false }
    }

    /// The task, unless it does not exist.
    pub(crate) fn task(&mut self, id: TaskId) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(&id)?;
        (entry.found.place != Place::Gone && !entry.is_removed).then_some(entry)
    }

    /// Notes what happens.
    pub(crate) fn tell(&mut self, event: Event) {
        self.events.push(event);
    }

    /// What happens, in order.
    pub(crate) fn events(&self) -> &[Event] {
        &self.events
    }

    /// Whether the journal has it.
    pub(crate) const fn is_recorded(&self) -> bool {
        self.is_recorded
    }

    /// Applies what a worker wrote, by the rules of core.
    pub(crate) fn conclude(
        &mut self,
        outcome: &Outcome,
        retention: &Retention,
        now: Option<Timestamp>,
    ) -> Verdict {
        let Outcome { id, token, conclusion } = outcome;
        let Some((entry, now)) = self.task(*id).zip(now) else { return Verdict::Stale };
        let (attempt, ran) = (entry.newest_attempt(), entry.ran(now));
        let retention = retention.chosen_by(entry.found.retention());
        let progress = &mut entry.progress;
        let verdict = transition::conclude(progress, &retention, *token, conclusion, now);
        let event = TaskEvent::of_outcome(progress, conclusion, verdict, ran);
        let event = event.map(|event| entry.event(attempt, event, now));
        self.events.extend(event);
        verdict
    }

    /// The instant that the clock showed at the read; `None` when nothing was found.
    pub(crate) fn now(&self) -> Option<Timestamp> {
        self.entries.values().next().map(|entry| entry.found.now)
    }

    fn changed(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(|entry| entry.is_changed())
    }
}

impl Shared {
    /// Finds tasks, lets `decide` change them, and writes what it changed.
    ///
    /// `decide` is called again when something came first.
    pub(crate) async fn change<R>(
        &self,
        find: &Bound,
        mut decide: impl FnMut(&mut Change) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let mut attempt = 0;
        loop {
            match self.change_once(&mut self.each(), find, &mut decide).await {
                Err(StoreError::Conflict) if attempt < ATTEMPTS_MAX => attempt += 1,
                Err(error) => return Err(error),
                Ok((change, answer)) => {
                    self.after(&change);
                    return Ok(answer);
                }
            }
            self.step_back(attempt).await;
        }
    }

    /// Finds tasks, lets `decide` change them, and writes what it changed if nothing came first.
    pub(crate) async fn change_once<R>(
        &self,
        runner: &mut Runner<'_>,
        find: &Bound,
        decide: &mut impl FnMut(&mut Change) -> Result<R, StoreError>,
    ) -> Result<(Change, R), StoreError> {
        let rows = runner.rows(find).await?;
        let found = place::read(runner, &self.sql, &self.names, &rows).await?;
        let mut change = Change::new(found);
        let answer = decide(&mut change)?;
        change.is_recorded = self.write(runner, &change).await?;
        Ok((change, answer))
    }

    /// Says whether the journal has it.
    async fn write(&self, runner: &mut Runner<'_>, change: &Change) -> Result<bool, StoreError> {
        if change.changed().next().is_none() {
            return Ok(false);
        }
        let lanes =
            change.changed().map(|entry| (&entry.found.lane.queue, entry.progress.priority));
        self.names.ensure_lanes(&self.database, &self.sql, lanes).await?;
        let leases = self.leases_of(runner, change).await?;
        let lists = Lists::of(change, &self.names, leases)?;
        let rows = runner.rows(&lists.bind(&self.sql)).await?;
        rows.first().map_or(Ok(false), |row| column(row, "recorded"))
    }

    /// Reads the leases that tasks are to be taken out of.
    async fn leases_of(
        &self,
        runner: &mut Runner<'_>,
        change: &Change,
    ) -> Result<BTreeMap<(i64, i64), Runs>, StoreError> {
        let token = |entry: &Entry| match entry.found.place {
            Place::Lease { token, .. } => Some(token),
            Place::Ready { .. }
            | Place::OtherLease
            | Place::Settled { .. }
            | Place::Finished
            | Place::Gone => None,
        };
        let mut tokens: Vec<i64> = change.changed().filter_map(token).collect();
        tokens.sort_unstable();
        tokens.dedup();
        if tokens.is_empty() {
            return Ok(BTreeMap::new());
        }
        let rows = runner.rows(&self.sql.leases.with(tokens)).await?;
        rows.iter()
            .map(|row| Ok(((column(row, "token")?, column(row, "part")?), Runs::read(row)?)))
            .collect()
    }

    /// Tells whoever waits in this process what a change made due, or finished.
    fn after(&self, change: &Change) {
        if change.is_recorded {
            self.ring_journal();
        }
        let (mut due, mut later) = (BTreeSet::new(), BTreeSet::new());
        for Entry { found, progress, is_removed } in change.changed() {
            if *is_removed || progress.phase != Phase::Waiting {
                continue;
            }
            let queues = if progress.run_at <= found.now { &mut due } else { &mut later };
            queues.insert(found.lane.queue.clone());
        }
        self.ring(&due.into_iter().collect::<Vec<_>>());
        self.ring_later(&later.into_iter().collect::<Vec<_>>());
        let is_over = |entry: &&Entry| entry.is_removed || entry.progress.phase.is_terminal();
        self.finished(change.changed().filter(is_over).map(|entry| entry.found.id));
        for entry in change.changed() {
            if let Place::Lease { token, .. } = entry.found.place
                && let Ok(token) = small::<u64, i64>(token)
            {
                self.claims.forget(token);
            }
        }
    }
}

/// Whether a task that stands so does not hold its unique key any more.
fn frees_key(entry: &Entry) -> Result<Option<[u8; 32]>, StoreError> {
    let key = entry.found.unique()?;
    Ok(key
        .filter(|key| entry.is_removed || transition::has_left_scope(key.scope, &entry.progress))
        .map(|key| key.hash))
}
