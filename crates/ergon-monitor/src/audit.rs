//! Who ordered what: told to whoever keeps it.

use std::{fmt, net::IpAddr};

use async_trait::async_trait;
use ergon_core::{Rng as _, SystemRng};
use jiff::Timestamp;

use crate::auth::{Action, Role};

/// Where an order stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is about to be carried out.
    Begun,
    /// It was carried out.
    Done {
        /// How many tasks or queues were changed.
        changed: u64,
        /// What became of it in a word or two.
        outcome: String,
    },
    /// It was not carried out, or nobody knows.
    Failed {
        /// Why.
        reason: String,
    },
    /// Whoever gave it may not.
    Denied {
        /// Why.
        reason: String,
    },
}

impl Stage {
    /// The lower-case name.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Done { .. } => "done",
            Self::Failed { .. } => "failed",
            Self::Denied { .. } => "denied",
        }
    }
}

/// An order, as it is told to an [`Audit`]. Never holds a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Order {
    /// The same at every stage of one order, and like that of no other.
    pub id: u128,
    /// When it was given.
    pub at: Timestamp,
    /// Who gave it.
    pub actor: String,
    /// Their role.
    pub role: Role,
    /// The address that it came from, as far as it is known.
    pub address: Option<IpAddr>,
    /// What is to be done.
    pub action: Action,
    /// To what: the id of a task, the name of a queue, or how many tasks.
    pub target: String,
    /// How many tasks or queues it names.
    pub count: u64,
}

impl Order {
    pub(crate) fn new(action: Action, target: String, count: u64) -> Self {
        let (high, low) = (SystemRng.next_u64(), SystemRng.next_u64());
        Self {
            id: (u128::from(high) << 64) | u128::from(low),
            at: Timestamp::UNIX_EPOCH,
            actor: String::new(),
            role: Role::Viewer,
            address: None,
            action,
            target,
            count,
        }
    }
}

/// Keeps who ordered what.
///
/// Every order is told twice: when it has begun and when it has ended. One that is denied is told once.
/// An order that was begun and never ended may have been carried out: the monitor died in between.
#[async_trait]
pub trait Audit: fmt::Debug + Send + Sync {
    /// Takes one stage of an order.
    ///
    /// # Errors
    ///
    /// Why it could not be kept. An order whose beginning cannot be kept is not carried out; later
    /// stages that cannot be kept are told to the log.
    async fn record(
        &self,
        order: &Order,
        stage: &Stage,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// Tells the log of every order, under the target `ergon::audit`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogAudit;

#[async_trait]
impl Audit for LogAudit {
    async fn record(
        &self,
        order: &Order,
        stage: &Stage,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let Order { id, actor, role, address, action, target, count, .. } = order;
        let (changed, note) = match stage {
            Stage::Begun => (None, ""),
            Stage::Done { changed, outcome } => (Some(*changed), outcome.as_str()),
            Stage::Failed { reason } | Stage::Denied { reason } => (None, reason.as_str()),
        };
        let id = format!("{id:032x}");
        tracing::info!(
            target: "ergon::audit",
            id, %actor, %role, ?address, %action, %target, count, stage = stage.as_str(), changed, note,
            "order"
        );
        Ok(())
    }
}
