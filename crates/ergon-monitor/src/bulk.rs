//! What came of orders for many tasks, kept for a while so that a page can be loaded again.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ergon_core::{Rng as _, SystemRng};
use tokio::time::Instant;

use crate::{auth::Action, service::TaskOutcome};

/// Most outcomes that are kept.
const KEPT_MAX: usize = 64;

/// How long they are kept.
const AGE_MAX: Duration = Duration::from_secs(600);

/// What came of one order.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Who gave it: nobody else is shown it.
    pub(crate) actor: String,
    pub(crate) action: Action,
    pub(crate) results: Vec<TaskOutcome>,
}

/// The newest outcomes of this process.
#[derive(Debug, Default)]
pub(crate) struct Outcomes(Mutex<VecDeque<(u128, Instant, Arc<Outcome>)>>);

impl Outcomes {
    /// Keeps one, and says under which id.
    pub(crate) fn keep(&self, outcome: Outcome) -> u128 {
        let (high, low) = (SystemRng.next_u64(), SystemRng.next_u64());
        let id = (u128::from(high) << 64) | u128::from(low);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back((id, Instant::now(), Arc::new(outcome)));
        id
    }

    pub(crate) fn find(&self, id: u128) -> Option<Arc<Outcome>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().find(|(of, at, _)| *of == id && at.elapsed() < AGE_MAX);
        found.map(|(_, _, outcome)| Arc::clone(outcome))
    }
}
