//! Unique tasks: what makes two tasks the same, and for how long.

use std::{fmt, time::Duration};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    error::Rejection,
    limits::HORIZON,
    name::{KindName, QueueName},
    state::StateSet,
};

/// How long a task holds its unique key.
///
/// The key is held without interruption from the enqueue until the task leaves the scope, and is
/// never regained: a retry by an operator runs the task without it. Deleting a task frees its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum UniqueScope {
    /// Until a worker starts the task.
    UntilStarted,
    /// Until the task is finished, whatever comes of it.
    #[default]
    UntilFinished,
    /// While the task is in one of these states. The set holds every
    /// [unfinished](StateSet::UNFINISHED) state, and with it any finished ones.
    While(StateSet),
    /// For a time from the enqueue, whatever state the task is in: at most one in the time.
    For(Duration),
}

impl UniqueScope {
    /// The states in which the key is held, unless time alone decides.
    #[must_use]
    pub const fn states(self) -> Option<StateSet> {
        use crate::state::State::{Pending, Scheduled};
        match self {
            // Retrying is not among them: once started, the key is free for good.
            Self::UntilStarted => Some(StateSet::of(&[Scheduled, Pending])),
            Self::UntilFinished => Some(StateSet::UNFINISHED),
            Self::While(states) => Some(states),
            Self::For(_) => None,
        }
    }

    fn check(self) -> Result<(), Rejection> {
        match self {
            Self::While(states) if !states.contains_all(StateSet::UNFINISHED) => {
                Err(Rejection::InvalidUniqueScope)
            }
            Self::For(Duration::ZERO) => Err(Rejection::ZeroDuration { what: "unique" }),
            Self::For(period) if period > HORIZON => {
                Err(Rejection::BeyondHorizon { what: "unique" })
            }
            Self::UntilStarted | Self::UntilFinished | Self::While(_) | Self::For(_) => Ok(()),
        }
    }
}

/// The key of a unique task as a store keeps it: a hash and a scope.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct UniqueKey {
    /// SHA-256 of what makes the task unique.
    pub hash: [u8; 32],
    /// How long the key is held.
    pub scope: UniqueScope,
}

impl UniqueKey {
    pub(crate) fn check(&self) -> Result<(), Rejection> {
        self.scope.check()
    }
}

impl fmt::Debug for UniqueKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash: String = self.hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        f.debug_struct("UniqueKey").field("hash", &hash).field("scope", &self.scope).finish()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
enum Basis {
    #[default]
    KindOnly,
    Payload,
    Fields(Vec<String>),
    Custom(Vec<u8>),
}

/// What makes two tasks the same; the kind always counts.
///
/// ```
/// use std::time::Duration;
///
/// use ergon_core::Unique;
///
/// // One per tenant and queue in any hour.
/// let unique = Unique::by_fields(["tenant"]).in_queue().period(Duration::from_secs(3600));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Unique {
    basis: Basis,
    in_queue: bool,
    scope: UniqueScope,
}

impl Unique {
    /// One task of the kind.
    #[must_use]
    pub fn by_kind() -> Self {
        Self::default()
    }

    /// One task of the kind with the same payload, whatever the order of its keys.
    #[must_use]
    pub fn by_payload() -> Self {
        Self { basis: Basis::Payload, ..Self::default() }
    }

    /// One task of the kind with the same values in these top-level fields of the payload.
    #[must_use]
    pub fn by_fields<F: Into<String>>(fields: impl IntoIterator<Item = F>) -> Self {
        let mut fields: Vec<String> = fields.into_iter().map(Into::into).collect();
        fields.sort_unstable();
        fields.dedup();
        Self { basis: Basis::Fields(fields), ..Self::default() }
    }

    /// One task of the kind with this key: any bytes.
    #[must_use]
    pub fn by_key(key: impl AsRef<[u8]>) -> Self {
        Self { basis: Basis::Custom(key.as_ref().to_vec()), ..Self::default() }
    }

    /// Counts each queue for itself.
    #[must_use]
    pub const fn in_queue(mut self) -> Self {
        self.in_queue = true;
        self
    }

    /// Holds the key for this scope. Default: until the task is finished.
    #[must_use]
    pub const fn scope(mut self, scope: UniqueScope) -> Self {
        self.scope = scope;
        self
    }

    /// Holds the key until a worker starts the task.
    #[must_use]
    pub const fn until_started(self) -> Self {
        self.scope(UniqueScope::UntilStarted)
    }

    /// Holds the key for a time from the enqueue: at most one task in the time.
    #[must_use]
    pub const fn period(self, period: Duration) -> Self {
        self.scope(UniqueScope::For(period))
    }

    /// Computes the key of a task.
    ///
    /// # Errors
    ///
    /// The message says what is wrong when a chosen field is not in the payload, or the payload is
    /// no JSON object although fields are chosen.
    pub fn key(
        &self,
        kind: &KindName,
        queue: &QueueName,
        payload: &[u8],
    ) -> Result<UniqueKey, String> {
        let mut hasher = Hasher(Sha256::new());
        hasher.part(kind.as_str().as_bytes());
        hasher.part(if self.in_queue { queue.as_str().as_bytes() } else { b"" });
        match &self.basis {
            Basis::KindOnly => hasher.part(b"kind"),
            Basis::Payload => {
                hasher.part(b"payload");
                match serde_json::from_slice::<Value>(payload) {
                    Ok(value) => hasher.json(&value),
                    Err(_not_json) => hasher.part(payload),
                }
            }
            Basis::Fields(fields) => {
                hasher.part(b"fields");
                let value: Value = serde_json::from_slice(payload)
                    .map_err(|error| format!("the payload is not JSON: {error}"))?;
                for field in fields {
                    let value = value
                        .get(field)
                        .ok_or_else(|| format!("the payload has no field {field:?}"))?;
                    hasher.part(field.as_bytes());
                    hasher.json(value);
                }
            }
            Basis::Custom(key) => {
                hasher.part(b"custom");
                hasher.part(key);
            }
        }
        Ok(UniqueKey { hash: hasher.0.finalize().into(), scope: self.scope })
    }
}

/// Hashes parts so that no two lists of parts look alike.
struct Hasher(Sha256);

impl Hasher {
    fn part(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    /// Hashes a value independently of the order of its keys. The sorting is done here because
    /// another crate of the application may switch `serde_json`'s maps to insertion order.
    fn json(&mut self, value: &Value) {
        match value {
            Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_unstable_by_key(|(key, _)| *key);
                self.part(b"{");
                self.0.update((entries.len() as u64).to_be_bytes());
                for (key, value) in entries {
                    self.part(key.as_bytes());
                    self.json(value);
                }
            }
            Value::Array(items) => {
                self.part(b"[");
                self.0.update((items.len() as u64).to_be_bytes());
                for item in items {
                    self.json(item);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                self.part(value.to_string().as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;

    fn hash(unique: &Unique, kind: &str, queue: &str, payload: &str) -> [u8; 32] {
        let (kind, queue) = (KindName::new(kind).unwrap(), QueueName::new(queue).unwrap());
        unique.key(&kind, &queue, payload.as_bytes()).unwrap().hash
    }

    #[test]
    fn the_payload_counts_by_meaning_not_by_spelling() {
        let unique = Unique::by_payload();
        let one = hash(&unique, "k", "q", r#"{"a":1,"b":[1,2]}"#);
        assert_eq!(one, hash(&unique, "k", "q", r#"{ "b": [1,2], "a": 1 }"#));
        assert_eq!(one, hash(&unique, "k", "other", r#"{"a":1,"b":[1,2]}"#));
        assert_ne!(one, hash(&unique, "k", "q", r#"{"a":1,"b":[2,1]}"#));
        assert_ne!(one, hash(&unique, "other", "q", r#"{"a":1,"b":[1,2]}"#));
    }

    #[test]
    fn chosen_fields_count_and_the_rest_does_not() {
        let unique = Unique::by_fields(["b", "a", "a"]);
        let one = hash(&unique, "k", "q", r#"{"a":1,"b":2,"c":3}"#);
        assert_eq!(one, hash(&unique, "k", "q", r#"{"a":1,"b":2,"c":4}"#));
        assert_ne!(one, hash(&unique, "k", "q", r#"{"a":2,"b":1,"c":3}"#));
        let (kind, queue) = (KindName::new("k").unwrap(), QueueName::default());
        assert!(unique.key(&kind, &queue, br#"{"a":1}"#).unwrap_err().contains("\"b\""));
        assert!(unique.key(&kind, &queue, b"\xff").is_err());
    }

    #[test]
    fn queues_are_told_apart_on_request() {
        let unique = Unique::by_kind().in_queue();
        assert_ne!(hash(&unique, "k", "q", "1"), hash(&unique, "k", "p", "1"));
        assert_eq!(hash(&unique, "k", "q", "1"), hash(&unique, "k", "q", "2"));
    }

    #[test]
    fn parts_cannot_be_shifted_into_one_another() {
        assert_ne!(
            hash(&Unique::by_key("ab"), "k", "q", ""),
            hash(&Unique::by_key("b"), "ka", "q", "")
        );
        let unique = Unique::by_payload();
        assert_ne!(hash(&unique, "k", "q", "[[1],2]"), hash(&unique, "k", "q", "[[1,2]]"));
    }

    #[test]
    fn a_scope_holds_every_unfinished_state() {
        let check = |scope| UniqueKey { hash: [0; 32], scope }.check();
        assert!(check(UniqueScope::While(StateSet::UNFINISHED)).is_ok());
        assert!(check(UniqueScope::While(StateSet::ALL)).is_ok());
        let without_running: StateSet =
            StateSet::ALL.iter().filter(|&state| state != State::Running).collect();
        assert!(check(UniqueScope::While(without_running)).is_err());
        assert!(check(UniqueScope::For(Duration::ZERO)).is_err());
        assert!(check(UniqueScope::For(HORIZON)).is_ok());
        assert!(check(UniqueScope::For(HORIZON + Duration::from_micros(1))).is_err());
    }
}
