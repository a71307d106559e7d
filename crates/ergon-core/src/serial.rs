//! What is written as text: names, ids and states in JSON, checked on the way in.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    audit::AuditId,
    id::{ServerId, TaskId},
    name::{KindName, QueueName, Tag, WatcherName},
    operation::OperationId,
    state::{State, StateSet},
};

macro_rules! as_text {
    ($($name:ty),+ $(,)?) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    )+};
}

as_text!(AuditId, KindName, OperationId, QueueName, ServerId, State, Tag, TaskId, WatcherName);

/// The states by name, in the order of a task's life.
impl Serialize for StateSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for StateSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<State>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// Ids of what a manager keeps: UUIDs of version 7, so that they sort by the time of their making.
macro_rules! made_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(crate::id::TaskId);

        impl $name {
            /// Makes one.
            pub(crate) fn make(ids: &dyn crate::id::IdSource, now: jiff::Timestamp) -> Self {
                Self(ids.next_pack(now))
            }

            /// When it was made, by the clock of whoever made it.
            #[must_use]
            pub fn made_at(self) -> jiff::Timestamp {
                self.0.made_at()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::error::InvalidId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

pub(crate) use made_id;

/// For a field that is left out when it holds no state.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
pub(crate) const fn is_no_state(states: &StateSet) -> bool {
    states.is_empty()
}

/// For fields that are left out when they are 0.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
pub(crate) const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// For fields that are left out when they are not so.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
pub(crate) const fn is_false(flag: &bool) -> bool {
    !*flag
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::de::DeserializeOwned;

    use super::*;
    use crate::{
        command::{Command, CommandVerdict, Selection},
        filter::TaskFilter,
        progress::ErrorKind,
    };

    #[track_caller]
    fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, json: &str) {
        assert_eq!(serde_json::to_string(value).unwrap(), json);
        assert_eq!(serde_json::from_str::<T>(json).unwrap(), *value);
    }

    #[track_caller]
    fn refused<T: DeserializeOwned + Debug>(json: &str) {
        let read = serde_json::from_str::<T>(json);
        assert!(read.is_err(), "{read:?}");
    }

    #[test]
    fn names_and_ids_are_text_and_checked() {
        round_trip(&KindName::new("mail.send").unwrap(), r#""mail.send""#);
        round_trip(&Tag::new("größe").unwrap(), r#""größe""#);
        let id = TaskId::from_parts(1, 2, 3);
        round_trip(&id, &format!("\"{id}\""));
        round_trip(&ServerId::from_u128(7), r#""00000000-0000-0000-0000-000000000007""#);
        refused::<KindName>(r#""a b""#);
        refused::<QueueName>(r#""""#);
        refused::<QueueName>("7");
        refused::<TaskId>(r#""936da01f-9abd-4d9d-80c7-02af85c822a8""#);
        refused::<State>(r#""available""#);
    }

    #[test]
    fn every_state_and_kind_of_error_goes_by_its_name() {
        for state in State::ALL {
            round_trip(&state, &format!("\"{state}\""));
        }
        for kind in ErrorKind::ALL {
            round_trip(&kind, &format!("\"{}\"", kind.as_str()));
        }
        round_trip(&StateSet::TERMINAL, r#"["completed","failed","cancelled"]"#);
    }

    #[test]
    fn filters_and_commands_are_written_as_short_as_they_are_meant() {
        round_trip(&TaskFilter::all(), "{}");
        let filter = TaskFilter::all().states(State::Failed).kind("k".parse().unwrap());
        let filter = filter.metadata("a", "b").created_before(jiff::Timestamp::UNIX_EPOCH);
        let json = r#"{"states":["failed"],"kinds":["k"],"metadata":[["a","b"]],"created_before":"1970-01-01T00:00:00Z"}"#;
        round_trip(&filter, json);
        round_trip(&Command::Retry, r#"{"type":"retry"}"#);
        let cancel = Command::Cancel { reason: "moot".to_owned() };
        round_trip(&cancel, r#"{"type":"cancel","reason":"moot"}"#);
        round_trip(
            &Command::SetPriority { priority: -3 },
            r#"{"type":"set_priority","priority":-3}"#,
        );
        let matching = Selection::Matching { filter: TaskFilter::all(), limit: 3 };
        round_trip(&matching, r#"{"matching":{"filter":{},"limit":3}}"#);
        round_trip(&CommandVerdict::Illegal(State::Running), r#"{"illegal":"running"}"#);
        round_trip(&CommandVerdict::NotFound, r#""not_found""#);
    }

    #[test]
    fn a_part_that_is_not_known_is_never_ignored() {
        refused::<TaskFilter>(r#"{"states":["failed"],"tenant":"a"}"#);
        refused::<Command>(r#"{"type":"cancel","reason":"moot","unless":"urgent"}"#);
        refused::<Command>(r#"{"type":"explode"}"#);
    }
}
