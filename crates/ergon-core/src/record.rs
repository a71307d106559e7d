//! A task as it is enqueued, claimed and read.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;

use crate::{
    error::Rejection,
    id::{TaskId, Token},
    limits::{HORIZON, Limits, METADATA_KEY_BYTES_MAX, TAGS_MAX},
    name::{KindName, QueueName, Tag},
    progress::Progress,
    report::KeptReport,
    retry::RetryPolicy,
    state::State,
    time::after,
    unique::UniqueKey,
};

/// Searchable text by key: what an application wants to know of a task beside its payload.
///
/// Keys that begin with `ergon.` are reserved.
pub type Metadata = BTreeMap<String, String>;

/// The half of a task that never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskSpec {
    /// What type of task this is.
    pub kind: KindName,
    /// Where it waits.
    pub queue: QueueName,
    /// What its handler gets: by convention JSON, to a store just bytes.
    pub payload: Bytes,
    /// How long it waits between attempts.
    pub retry: RetryPolicy,
    /// How long one attempt may run; `None` leaves it to the server.
    pub timeout: Option<Duration>,
    /// The instant after which it is not started any more.
    pub deadline: Option<Timestamp>,
    /// How long it is kept once finished; `None` leaves it to the store.
    pub retention: Option<Duration>,
    /// Searchable text by key.
    pub metadata: Metadata,
    /// Searchable labels.
    pub tags: Vec<Tag>,
    /// What it is unique by.
    pub unique: Option<UniqueKey>,
}

impl TaskSpec {
    /// A task of this kind with this payload in the default queue, and nothing else chosen.
    #[must_use]
    pub fn new(kind: KindName, payload: impl Into<Bytes>) -> Self {
        Self {
            kind,
            queue: QueueName::default(),
            payload: payload.into(),
            retry: RetryPolicy::default(),
            timeout: None,
            deadline: None,
            retention: None,
            metadata: Metadata::new(),
            tags: Vec::new(),
            unique: None,
        }
    }

    /// Payload and metadata together, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.payload.len() + metadata_bytes(&self.metadata)
    }
}

/// When a new task is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RunAt {
    /// At once.
    #[default]
    Now,
    /// So long after the store took it.
    After(Duration),
    /// At an instant; one in the past means at once, in the order of the instants.
    At(Timestamp),
}

impl RunAt {
    /// The instant, given the store's time.
    #[must_use]
    pub fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Now => now,
            Self::After(delay) => after(now, delay),
            Self::At(instant) => crate::time::whole_micros(instant),
        }
    }
}

/// A task to be enqueued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTask {
    /// Its id, chosen by whoever enqueues; the same id is never a second task.
    pub id: TaskId,
    /// What never changes.
    pub spec: TaskSpec,
    /// Larger runs first. Default 0.
    pub priority: i16,
    /// Attempts until it fails; at least 1. Default 25, as in ergon for Go.
    pub max_attempts: u16,
    /// When it is due.
    pub run_at: RunAt,
}

/// Attempts of a task that chooses none.
pub const MAX_ATTEMPTS_DEFAULT: u16 = 25;

impl NewTask {
    /// A task that is due at once, and nothing else chosen.
    #[must_use]
    pub const fn new(id: TaskId, spec: TaskSpec) -> Self {
        Self { id, spec, priority: 0, max_attempts: MAX_ATTEMPTS_DEFAULT, run_at: RunAt::Now }
    }

    /// Says whether every store can take the task at `now`.
    ///
    /// # Errors
    ///
    /// The first [`Rejection`] that applies.
    pub fn check(&self, limits: &Limits, now: Timestamp) -> Result<(), Rejection> {
        let spec = &self.spec;
        if spec.payload.len() > limits.payload_bytes_max {
            let (len, max) = (spec.payload.len(), limits.payload_bytes_max);
            return Err(Rejection::PayloadTooLarge { len, max });
        }
        check_metadata(&spec.metadata, limits)?;
        if spec.tags.len() > TAGS_MAX {
            return Err(Rejection::TooManyTags { len: spec.tags.len(), max: TAGS_MAX });
        }
        if self.max_attempts == 0 {
            return Err(Rejection::NoAttempts);
        }
        if spec.timeout == Some(Duration::ZERO) {
            return Err(Rejection::ZeroDuration { what: "timeout" });
        }
        let horizon = after(now, HORIZON);
        let too_far = [
            ("run_at", self.run_at.resolve(now) > horizon),
            ("deadline", spec.deadline.is_some_and(|deadline| deadline > horizon)),
            ("timeout", spec.timeout.is_some_and(|timeout| timeout > HORIZON)),
            ("retention", spec.retention.is_some_and(|retention| retention > HORIZON)),
        ];
        if let Some(&(what, _)) = too_far.iter().find(|(_, is_too_far)| *is_too_far) {
            return Err(Rejection::BeyondHorizon { what });
        }
        spec.retry.check()?;
        spec.unique.as_ref().map_or(Ok(()), UniqueKey::check)
    }
}

fn metadata_bytes(metadata: &Metadata) -> usize {
    metadata.iter().map(|(key, value)| key.len() + value.len()).sum()
}

pub(crate) fn check_metadata(metadata: &Metadata, limits: &Limits) -> Result<(), Rejection> {
    let (len, max) = (metadata_bytes(metadata), limits.metadata_bytes_max);
    if len > max {
        return Err(Rejection::MetadataTooLarge { len, max });
    }
    let is_bad = |key: &str, value: &str| {
        key.is_empty()
            || key.len() > METADATA_KEY_BYTES_MAX
            || key.chars().any(char::is_control)
            || value.contains('\0')
    };
    match metadata.iter().find(|(key, value)| is_bad(key, value)) {
        Some((key, _)) => Err(Rejection::InvalidMetadata { key: key.clone() }),
        None => Ok(()),
    }
}

/// A task that a server was given to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedTask {
    /// Its id.
    pub id: TaskId,
    /// The fencing token of this claim.
    pub token: Token,
    /// What never changes.
    pub spec: TaskSpec,
    /// Its priority.
    pub priority: i16,
    /// Which attempt this is, counted from 1.
    pub attempt: u16,
    /// Attempts until it fails.
    pub max_attempts: u16,
    /// How often a server died while running it.
    pub crash_count: u16,
    /// When the store took it.
    pub created_at: Timestamp,
    /// When it was due.
    pub run_at: Timestamp,
    /// When it was claimed, by store time.
    pub claimed_at: Timestamp,
}

/// A task as it stands in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRecord {
    /// Its id.
    pub id: TaskId,
    /// What never changes.
    pub spec: TaskSpec,
    /// When the store took it.
    pub created_at: Timestamp,
    /// What changes.
    pub progress: Progress,
    /// Its state at the instant of the read.
    pub state: State,
    /// How far it has come, if it runs and its handler told.
    pub report: Option<KeptReport>,
}

impl TaskRecord {
    /// Payload, metadata and result together, in bytes: what it adds to a page.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.spec.bytes() + self.progress.result.as_ref().map_or(0, Bytes::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> NewTask {
        NewTask::new(TaskId::MIN, TaskSpec::new(KindName::new("k").unwrap(), "{}"))
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut NewTask), expected: &str) {
        let mut task = task();
        change(&mut task);
        let error = task.check(&Limits::default(), Timestamp::UNIX_EPOCH).unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{error:?}");
    }

    #[test]
    fn a_plain_task_is_taken() {
        assert_eq!(task().check(&Limits::default(), Timestamp::UNIX_EPOCH), Ok(()));
    }

    #[test]
    fn a_task_at_every_limit_is_taken() {
        let now = Timestamp::UNIX_EPOCH;
        let mut task = task();
        task.spec.payload = vec![b' '; 1 << 20].into();
        let value = "v".repeat((64 << 10) - 128);
        task.spec.metadata = Metadata::from([("k".repeat(128), value)]);
        task.spec.tags = vec![Tag::new("t").unwrap(); 32];
        task.max_attempts = 1;
        task.spec.timeout = Some(HORIZON);
        task.spec.retention = Some(HORIZON);
        task.spec.deadline = Some(after(now, HORIZON));
        for run_at in [RunAt::After(HORIZON), RunAt::At(after(now, HORIZON))] {
            task.run_at = run_at;
            assert_eq!(task.check(&Limits::default(), now), Ok(()));
        }
    }

    #[test]
    fn a_new_task_is_due_by_the_time_of_the_store() {
        let now = Timestamp::from_second(100).unwrap();
        let second = Duration::from_secs(1);
        assert_eq!(RunAt::Now.resolve(now), now);
        assert_eq!(RunAt::After(second).resolve(now), Timestamp::from_second(101).unwrap());
        let fine = Timestamp::new(1, 1_999).unwrap();
        assert_eq!(RunAt::At(fine).resolve(now), Timestamp::new(1, 1_000).unwrap());
    }

    #[test]
    fn payload_metadata_and_result_count_towards_a_page() {
        let mut spec = TaskSpec::new(KindName::new("k").unwrap(), "{}");
        spec.metadata = Metadata::from([("key".to_owned(), "value".to_owned())]);
        assert_eq!(spec.bytes(), 10);
        let now = Timestamp::UNIX_EPOCH;
        let mut progress = Progress::fresh(0, 1, now);
        progress.result = Some(Bytes::from_static(b"123"));
        let id = TaskId::MIN;
        let record =
            TaskRecord { id, spec, created_at: now, progress, state: State::Pending, report: None };
        assert_eq!(record.bytes(), 13);
    }

    #[test]
    fn each_limit_has_its_rejection() {
        let long = HORIZON + Duration::from_secs(1);
        let entry = |key: &str, value: &str| Metadata::from([(key.to_owned(), value.to_owned())]);
        check(|t| t.spec.payload = vec![0; (1 << 20) + 1].into(), "PayloadTooLarge");
        check(|t| t.spec.metadata = entry("k", &"v".repeat(64 << 10)), "MetadataTooLarge");
        check(|t| t.spec.metadata = entry("", "v"), "InvalidMetadata");
        check(|t| t.spec.metadata = entry("k\0", "v"), "InvalidMetadata");
        check(|t| t.spec.metadata = entry("k", "v\0"), "InvalidMetadata");
        check(|t| t.spec.metadata = entry(&"k".repeat(129), "v"), "InvalidMetadata");
        check(|t| t.spec.tags = vec![Tag::new("t").unwrap(); 33], "TooManyTags");
        check(|t| t.max_attempts = 0, "NoAttempts");
        check(|t| t.spec.timeout = Some(Duration::ZERO), "ZeroDuration");
        check(|t| t.spec.timeout = Some(long), "BeyondHorizon");
        check(|t| t.run_at = RunAt::After(long), "BeyondHorizon");
        check(|t| t.run_at = RunAt::At(Timestamp::MAX), "BeyondHorizon");
        check(|t| t.spec.deadline = Some(Timestamp::MAX), "BeyondHorizon");
        check(|t| t.spec.retention = Some(Duration::MAX), "BeyondHorizon");
        check(|t| t.spec.retry = RetryPolicy::List(vec![]), "InvalidRetry");
    }
}
