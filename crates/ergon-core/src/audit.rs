//! The audit trail: who ordered what, and what came of it.
//!
//! An entry is written before its action, as [begun](AuditOutcome::Begun), and written again after it
//! with what came of it. A process that dies in between leaves an entry that is begun: then the action
//! may have happened, or not. What was refused is written too. Entries never hold payloads or results
//! of tasks, and expire after a year.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    document::{Document, Put, Space},
    serial::made_id,
    text::storable,
    time::after,
};

/// How long an entry is kept.
pub const KEPT: Duration = Duration::from_secs(366 * 24 * 3_600);

/// Longest name of an actor and of an action, in bytes; what exceeds it is cut.
pub const NAME_BYTES_MAX: usize = 255;

/// Longest target and note, in bytes; what exceeds it is cut.
pub const TEXT_BYTES_MAX: usize = 4_096;

made_id! {
    /// The id of an entry of the audit trail: entries sort by the time of their beginning.
    AuditId
}

/// Who acts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Actor {
    /// By what name they are known, such as a login.
    pub name: String,
    /// What they may do, such as `operator`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub role: String,
    /// Where they called from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub address: String,
}

impl Actor {
    /// An actor of this name, at most 255 bytes.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: storable(name, NAME_BYTES_MAX), ..Self::default() }
    }

    /// In this role, at most 255 bytes.
    #[must_use]
    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.role = storable(role, NAME_BYTES_MAX);
        self
    }

    /// Calling from this address, at most 255 bytes.
    #[must_use]
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = storable(address, NAME_BYTES_MAX);
        self
    }
}

/// What came of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditOutcome {
    /// Not known: it is under way, or whoever did it died.
    Begun,
    /// It was done.
    Done,
    /// It failed; it may have been done in part.
    Failed,
    /// It was refused: whoever asked must not.
    Denied,
}

/// One action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditEntry {
    /// Its id.
    pub id: AuditId,
    /// When it began, by the clock of whoever did it.
    pub at: Timestamp,
    /// Who acts.
    pub actor: Actor,
    /// What they do, such as `task.cancel`.
    pub action: String,
    /// To what: an id, the name of a queue, a filter.
    pub target: String,
    /// To how many; before the action as far as is known, after it exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// What came of it.
    pub outcome: AuditOutcome,
    /// What was said to it, or what went wrong.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl AuditEntry {
    /// The write of this entry, in place of what was written of it before.
    ///
    /// # Errors
    ///
    /// What serde reports; nothing here gives it a reason to.
    pub fn put(&self) -> Result<Put, serde_json::Error> {
        let put = Put::new(Space::Audit, self.id.to_string(), serde_json::to_vec(self)?);
        Ok(put.expires_at(after(self.at, KEPT)))
    }

    /// Reads an entry; `None` when it is of another form.
    #[must_use]
    pub fn read(document: &Document) -> Option<Self> {
        serde_json::from_slice(&document.body).ok()
    }
}

/// An action about to be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "nothing is written down until it is begun"]
pub struct Audit {
    actor: Actor,
    action: String,
    target: String,
    count: Option<u64>,
    note: String,
}

impl Audit {
    /// Somebody does something to something. The action is cut to 255 bytes, the target to 4 KiB.
    pub fn new(actor: Actor, action: impl Into<String>, target: impl Into<String>) -> Self {
        let action = storable(action, NAME_BYTES_MAX);
        let target = storable(target, TEXT_BYTES_MAX);
        Self { actor, action, target, count: None, note: String::new() }
    }

    /// To so many.
    pub const fn count(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// With a word to it, at most 4 KiB.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = storable(note, TEXT_BYTES_MAX);
        self
    }

    pub(crate) fn entry(self, id: AuditId, at: Timestamp, outcome: AuditOutcome) -> AuditEntry {
        let Self { actor, action, target, count, note } = self;
        AuditEntry { id, at, actor, action, target, count, outcome, note }
    }
}

/// One page of the audit trail, the newest entries first.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<AuditEntry>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<AuditId>,
    /// How many could not be read, as those of a newer version.
    pub unreadable: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TaskId;

    #[test]
    fn an_entry_reads_back_and_its_texts_are_bounded() {
        let long = "x\0".repeat(TEXT_BYTES_MAX);
        let actor = Actor::new(&long).role("operator").address("10.0.0.1");
        let audit = Audit::new(actor, "task.cancel", &long).count(3).note(&long);
        let id = AuditId(TaskId::from_parts(1, 2, 3));
        let entry = audit.entry(id, Timestamp::UNIX_EPOCH, AuditOutcome::Begun);
        assert!(entry.actor.name.len() <= NAME_BYTES_MAX && entry.note.len() <= TEXT_BYTES_MAX);
        let put = entry.put().unwrap();
        assert_eq!(put.expires_at, Some(after(Timestamp::UNIX_EPOCH, KEPT)));
        let (key, body) = (put.key, put.body.unwrap());
        assert_eq!(key, id.to_string());
        let document = Document { key, version: 1, body, expires_at: None };
        assert_eq!(AuditEntry::read(&document), Some(entry));
        let bad = Document { body: b"[]"[..].into(), ..document };
        assert_eq!(AuditEntry::read(&bad), None);
    }

    #[test]
    fn json_says_what_is_known_and_no_more() {
        let id = AuditId(TaskId::from_parts(1, 2, 3));
        let audit = Audit::new(Actor::new("ana"), "queue.pause", "mail");
        let entry = audit.entry(id, Timestamp::UNIX_EPOCH, AuditOutcome::Denied);
        let expected = format!(
            r#"{{"id":"{id}","at":"1970-01-01T00:00:00Z","actor":{{"name":"ana"}},"action":"queue.pause","target":"mail","outcome":"denied"}}"#
        );
        assert_eq!(serde_json::to_string(&entry).unwrap(), expected);
    }
}
