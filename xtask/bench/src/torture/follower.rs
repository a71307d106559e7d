//! Follows the journal of the store, and audits what was read of it.
//!
//! A follower appends what it reads to one file, together with the place that it has come to, and goes
//! on from there in its next life. A line that its death has torn was not read.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use ergon_core::{
    EventKind, Now, Phase, Store, TaskId, TaskRecord, WatcherName,
    store::{Changes, Cursor, Watch},
};
use serde::{Deserialize, Serialize};

use super::{Report, enqueuer::unless_transient};

/// Events that are read at once.
const PAGE: usize = 1_000;
/// How long a follower waits for more before it looks again.
const WAIT: Duration = Duration::from_millis(500);
/// Tasks read at once by the audit.
const BATCH: usize = 1_000;
/// Findings that are told of one sort.
const TOLD_MAX: usize = 20;

/// What was read at once.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    /// The place behind it.
    cursor: String,
    gap: Option<String>,
    events: Vec<Told>,
}

/// What is kept of an event: its identity, the task, the kind, the attempt.
#[derive(Debug, Serialize, Deserialize)]
struct Told(String, Option<TaskText>, String, u16);

type TaskText = String;

/// Follows the journal of a store.
#[derive(Debug)]
pub(super) struct Follower {
    store: Arc<dyn Store>,
    file: File,
    cursor: Cursor,
}

impl Follower {
    /// Goes on where the last follower of this place was killed; the first one begins to watch, before
    /// anything happens.
    pub(super) async fn resume(place: &Path, store: &Arc<dyn Store>) -> Result<Self> {
        let path = path(place);
        let text = read_whole_lines(&path)?;
        let last = text.lines().last().map(serde_json::from_str::<Line>).transpose()?;
        // What a death has torn off the last line is read again.
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        file.set_len(text.len().try_into()?)?;
        let cursor = match last {
            Some(line) => line.cursor.parse()?,
            None => {
                let watch = Watch::durable(WatcherName::new("torture")?);
                store.watch(&watch).await?.cursor
            }
        };
        Ok(Self { store: Arc::clone(store), file, cursor })
    }

    /// Follows until it is killed.
    pub(super) async fn follow(mut self) -> Result<()> {
        loop {
            let changes = self.store.changes(&self.cursor, PAGE).await.map_err(Into::into);
            let Some(changes) = unless_transient(changes).await? else { continue };
            self.keep(&changes)?;
            if !changes.more {
                self.store.wait_for_changes(&self.cursor, WAIT).await;
            }
        }
    }

    /// Reads to the end of the journal.
    pub(super) async fn catch_up(mut self) -> Result<()> {
        loop {
            let changes = self.store.changes(&self.cursor, PAGE).await?;
            self.keep(&changes)?;
            if !changes.more {
                return Ok(());
            }
        }
    }

    /// Keeps what was read, and the place behind it, in one write.
    fn keep(&mut self, changes: &Changes) -> Result<()> {
        if changes.events.is_empty() && changes.gap.is_none() {
            self.cursor = changes.cursor.clone();
            return Ok(());
        }
        let told = changes.events.iter().map(|recorded| {
            let task = recorded.event.task_ref();
            let kind = recorded.event.kind().to_string();
            let id = task.map(|task| task.id.to_string());
            Told(recorded.id.to_string(), id, kind, task.map_or(0, |task| task.attempt))
        });
        let line = Line {
            cursor: changes.cursor.to_string(),
            gap: changes.gap.map(|gap| gap.as_str().to_owned()),
            events: told.collect(),
        };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        self.file.write_all(&text).context("write what was read of the journal")?;
        self.cursor = changes.cursor.clone();
        Ok(())
    }
}

fn path(place: &Path) -> PathBuf {
    place.join("journal.jsonl")
}

/// The text up to the last end of a line.
fn read_whole_lines(path: &Path) -> Result<String> {
    if !path.exists() {
        return Ok(String::new());
    }
    let mut text = fs::read_to_string(path).context("read what was read of the journal")?;
    text.truncate(text.rfind('\n').map_or(0, |at| at + 1));
    Ok(text)
}

/// Compares what was read of the journal with what is stored, and adds what is wrong to the report.
pub(super) async fn audit(place: &Path, store: &dyn Store, report: &mut Report) -> Result<()> {
    let mut lives: BTreeMap<TaskId, Life> = BTreeMap::new();
    let mut seen = HashSet::new();
    for line in read_whole_lines(&path(place))?.lines() {
        let line: Line = serde_json::from_str(line)?;
        if let Some(gap) = line.gap {
            report.missing.push(format!("a gap: {gap}"));
        }
        for Told(id, task, kind, attempt) in line.events {
            report.events += 1;
            if !seen.insert(id.clone()) {
                report.duplicate.push(format!("{id} was read twice: {kind} {task:?}"));
                continue;
            }
            if let Some(task) = task {
                lives.entry(task.parse()?).or_default().tell(kind.parse()?, attempt);
            }
        }
    }
    let mut page = ergon_core::Page::of(BATCH);
    loop {
        let found = store.list(&ergon_core::TaskFilter::all(), &page, Now::Store).await?;
        for record in found.tasks {
            let life = lives.remove(&record.id).unwrap_or_default();
            report.missing.extend(life.problem(&record));
        }
        let Some(next) = found.next else { break };
        page = page.after(next);
    }
    report.wrong.extend(lives.keys().map(|id| format!("{id} is told of and not stored")));
    for findings in [&mut report.missing, &mut report.duplicate] {
        findings.truncate(TOLD_MAX);
    }
    Ok(())
}

/// A task as its events tell it.
#[derive(Debug, Default)]
struct Life {
    phase: Option<Phase>,
    attempt: u16,
    /// The first event that could not follow the one before.
    broken: Option<EventKind>,
}

impl Life {
    fn tell(&mut self, kind: EventKind, attempt: u16) {
        let next = match (kind, self.phase) {
            // After a crash, what was claimed is claimed again.
            (EventKind::TaskStarted, Some(Phase::Waiting | Phase::Running))
            | (EventKind::TaskCancelRequested, Some(Phase::Running)) => Phase::Running,
            (EventKind::TaskCompleted, Some(Phase::Running)) => Phase::Completed,
            (EventKind::TaskFailed, Some(Phase::Running)) => Phase::Failed,
            (EventKind::TaskCancelled, Some(Phase::Waiting | Phase::Running)) => Phase::Cancelled,
            (EventKind::TaskEnqueued, None)
            | (
                EventKind::TaskRetried
                | EventKind::TaskSnoozed
                | EventKind::TaskReleased
                | EventKind::TaskRescued,
                Some(Phase::Running),
            ) => Phase::Waiting,
            _ => {
                self.broken.get_or_insert(kind);
                return;
            }
        };
        (self.phase, self.attempt) = (Some(next), attempt);
    }

    /// How the story differs from what is stored.
    fn problem(&self, record: &TaskRecord) -> Option<String> {
        let (id, progress) = (record.id, &record.progress);
        if let Some(kind) = self.broken {
            return Some(format!("{id}: something before {kind} is missing: {self:?}"));
        }
        if self.phase != Some(progress.phase) {
            return Some(format!("{id} is {:?}, its events say {:?}", progress.phase, self.phase));
        }
        let has_spent = progress.phase == Phase::Completed;
        (has_spent && self.attempt != progress.attempt).then(|| {
            format!("{id} took {} attempts, its events say {}", progress.attempt, self.attempt)
        })
    }
}

#[cfg(test)]
mod tests {
    use ergon_core::{KindName, Progress, State, TaskSpec, Timestamp};

    use super::*;

    /// What is wrong with a task that completed at this attempt, and of which was told so.
    fn problem(attempt: u16, told: &[(EventKind, u16)]) -> Option<String> {
        let now = Timestamp::UNIX_EPOCH;
        let mut progress = Progress::fresh(0, 25, now);
        (progress.phase, progress.attempt) = (Phase::Completed, attempt);
        let spec = TaskSpec::new(KindName::new("k").unwrap(), "{}");
        let (id, state) = (TaskId::MIN, State::Completed);
        let record = TaskRecord { id, spec, created_at: now, progress, state, report: None };
        let mut life = Life::default();
        told.iter().for_each(|&(kind, attempt)| life.tell(kind, attempt));
        life.problem(&record)
    }

    #[test]
    fn a_story_without_holes_is_whole() {
        let enqueued = (EventKind::TaskEnqueued, 0);
        let [first, second] = [1, 2].map(|attempt| (EventKind::TaskStarted, attempt));
        let completed = |attempt| (EventKind::TaskCompleted, attempt);
        let retried = (EventKind::TaskRetried, 1);
        assert_eq!(problem(1, &[enqueued, first, completed(1)]), None);
        assert_eq!(problem(1, &[enqueued, first, first, completed(1)]), None, "a crash");
        assert_eq!(problem(2, &[enqueued, first, retried, second, completed(2)]), None);
        assert!(problem(1, &[]).is_some(), "nothing was told");
        assert!(problem(1, &[first, completed(1)]).is_some(), "no enqueue");
        assert!(problem(1, &[enqueued, completed(1)]).is_some(), "no start");
        assert!(problem(1, &[enqueued, first]).is_some(), "no end");
        assert!(problem(2, &[enqueued, first, completed(1)]).is_some(), "an attempt");
        assert!(problem(1, &[enqueued, enqueued, first, completed(1)]).is_some(), "twice");
    }

    #[test]
    fn a_torn_line_was_not_read() {
        let place = tempfile::tempdir().unwrap();
        let path = path(place.path());
        assert_eq!(read_whole_lines(&path).unwrap(), "");
        fs::write(&path, "{\"a\":1}\n{\"b\"").unwrap();
        assert_eq!(read_whole_lines(&path).unwrap(), "{\"a\":1}\n");
        fs::write(&path, "{\"b\"").unwrap();
        assert_eq!(read_whole_lines(&path).unwrap(), "");
    }
}
