//! What the numbers of a history stand for: names, tasks, filters, tokens.

use std::collections::BTreeSet;

use ergon_core::{
    NewTask, RunAt, ServerId, TaskFilter, Token,
    time::{from_micros, to_micros},
};

use super::op::{Filter, Seed, TokenChoice};
use crate::harness::{Harness, kind, queue, tag, unique};

/// Names that a store might run together.
pub(super) const QUEUES: [&str; 3] = ["a", "a:b", "b"];
pub(super) const KINDS: [&str; 3] = ["k", "b:k", "k:a"];

impl TokenChoice {
    /// The token, of a claim with this one.
    pub(super) const fn of(self, own: Token) -> Token {
        match self {
            Self::Own => own,
            Self::None => Token::NONE,
            Self::Future => Token::new(u64::MAX),
        }
    }
}

pub(super) fn plant(harness: &Harness, task: &mut NewTask, seed: &Seed) {
    task.spec.queue = queue(name(QUEUES, seed.queue));
    task.spec.kind = kind(name(KINDS, seed.kind));
    task.spec.retention = seed.retention;
    task.spec.unique = seed.unique.map(|(number, scope)| unique(number, scope));
    if seed.is_tagged {
        task.spec.tags.push(tag("tagged"));
    }
    task.priority = seed.priority;
    task.max_attempts = seed.max_attempts;
    let due = to_micros(harness.instant()).saturating_add(seed.due_micros);
    task.run_at = if seed.due_micros == 0 { RunAt::Now } else { RunAt::At(from_micros(due)) };
}

pub(super) fn task_filter(filter: &Filter) -> TaskFilter {
    let mut chosen = TaskFilter::all().states(filter.states);
    let queues: BTreeSet<u8> = filter.queues.iter().copied().collect();
    for at in queues {
        chosen = chosen.queue(queue(name(QUEUES, at)));
    }
    for &at in &filter.kinds {
        chosen = chosen.kind(kind(name(KINDS, at)));
    }
    if filter.is_tagged { chosen.tag(tag("tagged")) } else { chosen }
}

pub(super) fn name(names: [&'static str; 3], at: u8) -> &'static str {
    names[usize::from(at) % names.len()]
}

pub(super) fn server_id(number: u8) -> ServerId {
    ServerId::from_u128(u128::from(number) + 1)
}
