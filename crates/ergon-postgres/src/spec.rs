//! The half of a task that never changes, as it is stored: plain columns, and JSON for what few choose.

use std::time::Duration;

use bytes::Bytes;
use ergon_core::{
    Jitter, KindName, Metadata, QueueName, RetryPolicy, StateSet, StoreError, Tag, TaskSpec,
    UniqueKey, UniqueScope,
    time::{from_micros, to_micros},
};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;

use crate::error::corrupt;

/// What few tasks choose, in one column; null when nothing is chosen. Times are microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Options {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry: Option<Retry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retention: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unique: Option<Unique>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Retry {
    Exponential { base: u64, cap: u64, jitter: bool },
    Fixed(u64),
    List(Vec<u64>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Unique {
    hash: String,
    scope: Scope,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Scope {
    UntilStarted,
    UntilFinished,
    /// The bits of a set of states.
    While(u16),
    For(u64),
}

/// Microseconds, at the most what 64 bits hold.
fn whole(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Options {
    /// What a task chooses; `None` when it chooses nothing.
    pub(crate) fn of(spec: &TaskSpec) -> Option<Json<Self>> {
        let retry = (spec.retry != RetryPolicy::default()).then(|| match &spec.retry {
            RetryPolicy::Exponential { base, cap, jitter } => Retry::Exponential {
                base: whole(*base),
                cap: whole(*cap),
                jitter: *jitter == Jitter::Full,
            },
            RetryPolicy::Fixed(delay) => Retry::Fixed(whole(*delay)),
            RetryPolicy::List(steps) => Retry::List(steps.iter().copied().map(whole).collect()),
        });
        let unique = spec.unique.map(|UniqueKey { hash, scope }| Unique {
            hash: hex::encode(hash),
            scope: match scope {
                UniqueScope::UntilStarted => Scope::UntilStarted,
                UniqueScope::UntilFinished => Scope::UntilFinished,
                UniqueScope::While(states) => Scope::While(states.bits()),
                UniqueScope::For(period) => Scope::For(whole(period)),
            },
        });
        let options = Self {
            retry,
            timeout: spec.timeout.map(whole),
            deadline: spec.deadline.map(to_micros),
            retention: spec.retention.map(whole),
            unique,
        };
        (options != Self::default()).then_some(Json(options))
    }

    /// How long the task wants to be kept.
    pub(crate) fn retention(&self) -> Option<Duration> {
        self.retention.map(Duration::from_micros)
    }

    /// Says whether the task is unique.
    pub(crate) const fn is_unique(&self) -> bool {
        self.unique.is_some()
    }

    fn retry(&self) -> RetryPolicy {
        match &self.retry {
            None => RetryPolicy::default(),
            Some(Retry::Exponential { base, cap, jitter }) => RetryPolicy::Exponential {
                base: Duration::from_micros(*base),
                cap: Duration::from_micros(*cap),
                jitter: if *jitter { Jitter::Full } else { Jitter::None },
            },
            Some(Retry::Fixed(delay)) => RetryPolicy::Fixed(Duration::from_micros(*delay)),
            Some(Retry::List(steps)) => {
                RetryPolicy::List(steps.iter().copied().map(Duration::from_micros).collect())
            }
        }
    }

    fn unique(&self) -> Result<Option<UniqueKey>, StoreError> {
        let Some(unique) = &self.unique else { return Ok(None) };
        let mut hash = [0; 32];
        hex::decode_to_slice(&unique.hash, &mut hash)
            .map_err(|error| corrupt(format!("unique key: {error}")))?;
        let scope = match unique.scope {
            Scope::UntilStarted => UniqueScope::UntilStarted,
            Scope::UntilFinished => UniqueScope::UntilFinished,
            Scope::While(states) => UniqueScope::While(StateSet::from_bits(states)),
            Scope::For(period) => UniqueScope::For(Duration::from_micros(period)),
        };
        Ok(Some(UniqueKey { hash, scope }))
    }
}

/// The searchable columns of a task; null when there is nothing in them.
pub(crate) fn metadata(spec: &TaskSpec) -> Option<Json<&Metadata>> {
    (!spec.metadata.is_empty()).then_some(Json(&spec.metadata))
}

/// The labels of a task; null when it has none.
pub(crate) fn tags(spec: &TaskSpec) -> Option<Json<Vec<&str>>> {
    (!spec.tags.is_empty()).then(|| Json(spec.tags.iter().map(Tag::as_str).collect()))
}

/// The columns of a specification as they were read, shared by all tasks of a run.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) kind: KindName,
    pub(crate) queue: QueueName,
    pub(crate) options: Option<Json<Options>>,
    pub(crate) metadata: Option<Json<Metadata>>,
    pub(crate) tags: Option<Json<Vec<String>>>,
}

impl Stored {
    /// The specification, with the payload of one task.
    pub(crate) fn spec(self, payload: Bytes) -> Result<TaskSpec, StoreError> {
        let mut spec = TaskSpec::new(self.kind, payload);
        spec.queue = self.queue;
        if let Some(Json(options)) = self.options {
            spec.retry = options.retry();
            spec.timeout = options.timeout.map(Duration::from_micros);
            spec.deadline = options.deadline.map(from_micros);
            spec.retention = options.retention.map(Duration::from_micros);
            spec.unique = options.unique()?;
        }
        if let Some(Json(metadata)) = self.metadata {
            spec.metadata = metadata;
        }
        if let Some(Json(tags)) = self.tags {
            let tags = tags.into_iter().map(Tag::new).collect::<Result<_, _>>();
            spec.tags = tags.map_err(|error| corrupt(error.to_string()))?;
        }
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is stored of a specification reads back as it was.
    #[track_caller]
    fn check(change: impl FnOnce(&mut TaskSpec)) {
        let mut spec = TaskSpec::new(KindName::new("k").unwrap(), "{}");
        change(&mut spec);
        let json = |value: &Option<Json<Options>>| serde_json::to_string(value).unwrap();
        let options = Options::of(&spec);
        let stored = Stored {
            kind: spec.kind.clone(),
            queue: spec.queue.clone(),
            options: serde_json::from_str(&json(&options)).unwrap(),
            metadata: metadata(&spec).map(|Json(metadata)| Json(metadata.clone())),
            tags: tags(&spec).map(|Json(tags)| Json(tags.into_iter().map(str::to_owned).collect())),
        };
        assert_eq!(stored.spec(spec.payload.clone()).unwrap(), spec);
    }

    #[test]
    fn every_choice_reads_back() {
        let second = Duration::from_micros(1_000_001);
        check(|_spec| {});
        check(|spec| spec.timeout = Some(second));
        check(|spec| spec.retention = Some(second));
        check(|spec| spec.deadline = Some(from_micros(-5)));
        check(|spec| spec.retry = RetryPolicy::Fixed(second));
        check(|spec| spec.retry = RetryPolicy::List(vec![second, Duration::ZERO]));
        check(|spec| {
            spec.retry =
                RetryPolicy::Exponential { base: second, cap: second * 9, jitter: Jitter::None };
        });
        check(|spec| spec.tags = vec![Tag::new("b").unwrap(), Tag::new("a").unwrap()]);
        check(|spec| {
            spec.metadata.insert("k".to_owned(), String::new());
        });
        let scopes = [
            UniqueScope::UntilStarted,
            UniqueScope::UntilFinished,
            UniqueScope::While(StateSet::ALL),
            UniqueScope::For(second),
        ];
        for scope in scopes {
            check(|spec| spec.unique = Some(UniqueKey { hash: [7; 32], scope }));
        }
    }

    #[test]
    fn nothing_chosen_stores_nothing() {
        let spec = TaskSpec::new(KindName::new("k").unwrap(), "{}");
        assert!(Options::of(&spec).is_none() && metadata(&spec).is_none() && tags(&spec).is_none());
    }
}
