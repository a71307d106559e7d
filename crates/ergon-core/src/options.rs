//! What can be chosen for a task, and which choice wins.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    error::EnqueueError,
    id::TaskId,
    name::{KindName, QueueName, Tag},
    record::{MAX_ATTEMPTS_DEFAULT, Metadata, NewTask, RunAt, TaskSpec},
    retry::RetryPolicy,
    time::whole_micros,
    unique::{Unique, UniqueKey},
};

/// What can be chosen for a task; what is not chosen is left to the next in line.
///
/// The line: the call, then the kind ([`Task::options`](crate::Task::options)), then the queue
/// ([`ClientBuilder::queue_options`](crate::ClientBuilder::queue_options)), then the defaults named
/// here. Tags and metadata of all of them are joined; for the same metadata key the stronger wins.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[must_use]
pub struct TaskOptions {
    queue: Option<String>,
    priority: Option<i16>,
    max_attempts: Option<u16>,
    retry: Option<RetryPolicy>,
    timeout: Option<Duration>,
    run_at: Option<RunAt>,
    deadline: Option<Timestamp>,
    retention: Option<Duration>,
    unique: Option<Unique>,
    tags: Vec<String>,
    metadata: Metadata,
}

/// Hands the list of options to another macro, so that everything that carries options has the same
/// setters, with the same words.
macro_rules! with_task_options {
    ($with:ident $($head:tt)*) => {
        $with! { $($head)*
            /// Where the task waits. Default `default`.
            queue(queue: impl Into<String>) => |options| options.queue = Some(queue.into());
            /// Larger runs first. Default 0.
            priority(priority: i16) => |options| options.priority = Some(priority);
            /// Attempts until the task fails, at least 1. Default 25, as in ergon for Go.
            max_attempts(attempts: u16) => |options| options.max_attempts = Some(attempts);
            /// How long the task waits between attempts. Default exponential from 1 s to 1 h with
            /// full jitter.
            retry(policy: RetryPolicy) => |options| options.retry = Some(policy);
            /// How long one attempt may run. Default: what the server says.
            timeout(timeout: Duration) => |options| options.timeout = Some(timeout);
            /// Runs the task so long after the store took it. Default at once; at most 10 years.
            delay(delay: Duration) => |options| options.run_at = Some(RunAt::After(delay));
            /// Runs the task at an instant; one in the past means at once.
            scheduled_at(instant: Timestamp) => |options| {
                options.run_at = Some(RunAt::At(instant))
            };
            /// Does not start the task after this instant: it fails instead. Default never.
            deadline(instant: Timestamp) => |options| options.deadline = Some(instant);
            /// How long the task is kept once finished. Default: what the store says; at most 10
            /// years.
            retention(kept: Duration) => |options| options.retention = Some(kept);
            /// Makes the task unique. Default not.
            unique(unique: Unique) => |options| options.unique = Some(unique);
            /// Adds a searchable label: 1 to 64 bytes without control characters, at most 32.
            tag(tag: impl Into<String>) => |options| options.tags.push(tag.into());
            /// Adds searchable text under a key; all of it at most 64 KiB.
            metadata(entry: (impl Into<String>, impl Into<String>)) => |options| {
                options.metadata.insert(entry.0.into(), entry.1.into())
            };
        }
    };
}

macro_rules! own_setters {
    ($($(#[$doc:meta])* $name:ident($arg:ident: $type:ty) => |$options:ident| $set:expr;)*) => {
        impl TaskOptions {
            $($(#[$doc])*
            pub fn $name(mut self, $arg: $type) -> Self {
                let $options = &mut self;
                $set;
                self
            })*
        }
    };
}

/// Writes the setters of a type with a field `options`.
macro_rules! forwarded_setters {
    (
        [$($impl:tt)*]
        $($(#[$doc:meta])* $name:ident($arg:ident: $type:ty) => |$options:ident| $set:expr;)*
    ) => {
        $($impl)* {
            $($(#[$doc])*
            pub fn $name(mut self, $arg: $type) -> Self {
                self.options = self.options.$name($arg);
                self
            })*
        }
    };
}

pub(crate) use forwarded_setters;
pub(crate) use with_task_options;

with_task_options!(own_setters);

impl TaskOptions {
    /// Nothing chosen.
    pub fn new() -> Self {
        Self::default()
    }

    /// These choices, and where there is none the weaker ones.
    pub fn or(mut self, weaker: Self) -> Self {
        let mut metadata = weaker.metadata;
        metadata.append(&mut self.metadata);
        let mut tags = self.tags;
        for tag in weaker.tags {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        Self {
            queue: self.queue.or(weaker.queue),
            priority: self.priority.or(weaker.priority),
            max_attempts: self.max_attempts.or(weaker.max_attempts),
            retry: self.retry.or(weaker.retry),
            timeout: self.timeout.or(weaker.timeout),
            run_at: self.run_at.or(weaker.run_at),
            deadline: self.deadline.or(weaker.deadline),
            retention: self.retention.or(weaker.retention),
            unique: self.unique.or(weaker.unique),
            tags,
            metadata,
        }
    }

    pub(crate) fn chosen_queue(&self) -> &str {
        self.queue.as_deref().unwrap_or(QueueName::DEFAULT)
    }

    /// Makes a task of these choices.
    ///
    /// # Errors
    ///
    /// [`EnqueueError::InvalidOptions`] when a name, a tag or a unique key cannot be taken.
    pub fn into_task(
        self,
        id: TaskId,
        kind: KindName,
        payload: Vec<u8>,
    ) -> Result<NewTask, EnqueueError> {
        let queue = match &self.queue {
            Some(queue) => QueueName::new(queue).map_err(|error| invalid("queue", &error))?,
            None => QueueName::default(),
        };
        if let Some(key) = self.metadata.keys().find(|key| key.starts_with(RESERVED_METADATA)) {
            let reason = format!("key {key:?} is reserved: it begins with {RESERVED_METADATA:?}");
            return Err(invalid("metadata", &reason));
        }
        let mut tags = Vec::with_capacity(self.tags.len());
        for text in &self.tags {
            let tag = Tag::new(text).map_err(|error| invalid("tags", &error))?;
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        let unique = self.unique_key(&kind, &queue, &payload)?;
        let spec = TaskSpec {
            kind,
            queue,
            payload: payload.into(),
            retry: self.retry.unwrap_or_default(),
            timeout: self.timeout,
            deadline: self.deadline.map(whole_micros),
            retention: self.retention,
            metadata: self.metadata,
            tags,
            unique,
        };
        Ok(NewTask {
            id,
            spec,
            priority: self.priority.unwrap_or(0),
            max_attempts: self.max_attempts.unwrap_or(MAX_ATTEMPTS_DEFAULT),
            run_at: self.run_at.unwrap_or_default(),
        })
    }
}

impl TaskOptions {
    /// The unique key of a task with this payload, if uniqueness is chosen.
    pub(crate) fn unique_key(
        &self,
        kind: &KindName,
        queue: &QueueName,
        payload: &[u8],
    ) -> Result<Option<UniqueKey>, EnqueueError> {
        let key = self.unique.as_ref().map(|unique| unique.key(kind, queue, payload));
        key.transpose().map_err(|reason| invalid("unique", &reason))
    }
}

/// How metadata keys begin that ergon keeps for itself.
const RESERVED_METADATA: &str = "ergon.";

fn invalid(field: &'static str, reason: &impl ToString) -> EnqueueError {
    EnqueueError::InvalidOptions { field, reason: reason.to_string() }
}

/// Presets: choices that belong together.
impl TaskOptions {
    /// Queue `critical`, priority 10, 5 minutes for an attempt.
    pub fn high_priority() -> Self {
        Self::new().queue("critical").priority(10).timeout(MINUTE * 5)
    }

    /// Queue `low`, priority −10, an hour for an attempt.
    pub fn low_priority() -> Self {
        Self::new().queue("low").priority(-10).timeout(MINUTE * 60)
    }

    /// One attempt.
    pub fn no_retry() -> Self {
        Self::new().max_attempts(1)
    }

    /// Two attempts.
    pub fn retry_once() -> Self {
        Self::new().max_attempts(2)
    }

    /// At most one task with the same payload in any hour.
    pub fn at_most_once_per_hour() -> Self {
        Self::new().unique(Unique::by_payload().period(MINUTE * 60))
    }

    /// At most one task with the same payload in any 24 hours.
    pub fn at_most_once_per_day() -> Self {
        Self::new().unique(Unique::by_payload().period(MINUTE * 60 * 24))
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn task(options: TaskOptions) -> Result<NewTask, EnqueueError> {
        options.into_task(TaskId::MIN, KindName::new("k").unwrap(), b"{}".to_vec())
    }

    #[test]
    fn the_stronger_choice_wins_and_the_rest_is_filled_up() {
        let call = TaskOptions::new().priority(1).tag("a").metadata(("x", "call"));
        let kind = TaskOptions::new().priority(2).max_attempts(3).metadata(("x", "kind"));
        let queue = TaskOptions::new().max_attempts(4).timeout(MINUTE).tag("a").tag("b");
        let task = task(call.or(kind).or(queue)).unwrap();
        assert_eq!((task.priority, task.max_attempts), (1, 3));
        assert_eq!(task.spec.timeout, Some(MINUTE));
        assert_eq!(task.spec.metadata["x"], "call");
        assert_eq!(task.spec.tags, [Tag::new("a").unwrap(), Tag::new("b").unwrap()]);
    }

    #[test]
    fn a_tag_chosen_twice_is_one() {
        let task = task(TaskOptions::new().tag("a").tag("b").tag("a")).unwrap();
        assert_eq!(task.spec.tags, [Tag::new("a").unwrap(), Tag::new("b").unwrap()]);
    }

    #[test]
    fn what_nobody_chooses_has_its_default() {
        let expected = NewTask::new(TaskId::MIN, TaskSpec::new(KindName::new("k").unwrap(), "{}"));
        assert_eq!(task(TaskOptions::new()).unwrap(), expected);
    }

    #[test]
    fn a_deadline_is_kept_in_the_microseconds_that_every_store_keeps() {
        let fine = Timestamp::new(1, 1_999).unwrap();
        let task = task(TaskOptions::new().deadline(fine)).unwrap();
        assert_eq!(task.spec.deadline, Some(Timestamp::new(1, 1_000).unwrap()));
    }

    #[test]
    fn options_that_cannot_be_taken_are_named() {
        for (options, expected) in [
            (TaskOptions::new().queue("a b"), "queue"),
            (TaskOptions::new().tag(""), "tags"),
            (TaskOptions::new().metadata(("ergon.trace", "")), "metadata"),
            (TaskOptions::new().unique(Unique::by_fields(["absent"])), "unique"),
        ] {
            let Err(EnqueueError::InvalidOptions { field, .. }) = task(options) else {
                unreachable!("{expected} has to be refused");
            };
            assert_eq!(field, expected);
        }
    }
}
