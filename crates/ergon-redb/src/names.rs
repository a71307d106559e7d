//! The names of queues and kinds, and the numbers that stand for them in records and keys.
//!
//! Numbers are given once and never again; names are few, and all of them are held in memory.

use std::{collections::HashMap, sync::Arc};

use ergon_core::{KindName, QueueName, StoreError};

use crate::{error::corrupt, key::NameId};

/// What a name names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Namespace {
    Queue,
    Kind,
}

impl Namespace {
    pub(crate) const fn tag(self) -> u8 {
        match self {
            Self::Queue => 1,
            Self::Kind => 2,
        }
    }
}

/// A name that the file may not hold yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unsaved {
    pub(crate) space: Namespace,
    pub(crate) number: NameId,
    pub(crate) name: Arc<str>,
}

/// Every name. Readers share the lists; a new name, which is rare, copies them.
#[derive(Debug, Default)]
pub(crate) struct Names {
    queues: Arc<Vec<QueueName>>,
    queue_numbers: HashMap<QueueName, NameId>,
    kinds: Arc<Vec<KindName>>,
    kind_numbers: HashMap<KindName, NameId>,
    unsaved: Vec<Unsaved>,
}

impl Names {
    /// Every kind, by number.
    pub(crate) const fn kinds(&self) -> &Arc<Vec<KindName>> {
        &self.kinds
    }

    pub(crate) fn queue_number(&self, name: &QueueName) -> Option<NameId> {
        self.queue_numbers.get(name).copied()
    }

    pub(crate) fn kind_number(&self, name: &KindName) -> Option<NameId> {
        self.kind_numbers.get(name).copied()
    }

    /// Every queue, by number.
    pub(crate) const fn queues(&self) -> &Arc<Vec<QueueName>> {
        &self.queues
    }

    /// The number of a queue, a new one if it has none.
    pub(crate) fn number_queue(&mut self, name: &QueueName) -> NameId {
        if let Some(number) = self.queue_number(name) {
            return number;
        }
        let number = number_of(self.queues.len());
        Arc::make_mut(&mut self.queues).push(name.clone());
        self.queue_numbers.insert(name.clone(), number);
        let name = Arc::from(name.as_str());
        self.unsaved.push(Unsaved { space: Namespace::Queue, number, name });
        number
    }

    /// The number of a kind, a new one if it has none.
    pub(crate) fn number_kind(&mut self, name: &KindName) -> NameId {
        if let Some(number) = self.kind_number(name) {
            return number;
        }
        let number = number_of(self.kinds.len());
        Arc::make_mut(&mut self.kinds).push(name.clone());
        self.kind_numbers.insert(name.clone(), number);
        let name = Arc::from(name.as_str());
        self.unsaved.push(Unsaved { space: Namespace::Kind, number, name });
        number
    }

    /// Takes a name over from the file; they come in the order of their numbers.
    pub(crate) fn load(&mut self, tag: u8, number: NameId, name: &str) -> Result<(), StoreError> {
        let invalid = |error: ergon_core::InvalidName| corrupt(error.to_string());
        let given = if tag == Namespace::Queue.tag() {
            self.number_queue(&QueueName::new(name).map_err(invalid)?)
        } else {
            self.number_kind(&KindName::new(name).map_err(invalid)?)
        };
        self.unsaved.clear();
        if given == number {
            Ok(())
        } else {
            Err(corrupt(format!("name {name:?} has the number {number} instead of {given}")))
        }
    }

    /// The names that the file may not hold yet.
    pub(crate) fn unsaved(&self) -> &[Unsaved] {
        &self.unsaved
    }

    /// Notes that the file holds the first `count` of the unsaved names.
    pub(crate) fn mark_saved(&mut self, count: usize) {
        self.unsaved.drain(..std::cmp::min(count, self.unsaved.len()));
    }
}

/// Names are held in memory, so their number fits by far.
fn number_of(count: usize) -> NameId {
    NameId::try_from(count).unwrap_or(NameId::MAX)
}
