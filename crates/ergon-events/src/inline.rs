//! Inline observers: called by whoever publishes, one after another.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use ergon_core::Event;

use crate::{call::caught, stats::Tally};

/// What an inline observer does with what was committed.
pub(crate) type InlineCall = Box<dyn Fn(&[Event]) + Send + Sync>;

/// An inline observer.
pub(crate) struct Inline {
    pub(crate) tally: Arc<Tally>,
    pub(crate) call: InlineCall,
}

impl Inline {
    /// Tells it; whatever it does, this returns.
    pub(crate) fn tell(&self, events: &[Event], budget: Duration) {
        let tally = &*self.tally;
        Tally::add(&tally.calls, 1);
        Tally::count(&tally.events, events.len());
        // The time of the machine, also when a test has stopped tokio's.
        let began = Instant::now();
        let outcome = caught(|| (self.call)(events));
        let took = began.elapsed();
        tally.spent(took);
        if let Err(panic) = outcome {
            tally.panicked(&panic);
        }
        if took > budget {
            Tally::add(&tally.slow_calls, 1);
            if tally.slowness_told.permits() {
                let (name, took) = (&tally.name, took.as_secs_f64());
                tracing::warn!(
                    name,
                    took_seconds = took,
                    events = events.len(),
                    "an inline observer holds up work; what takes time belongs into `observe`"
                );
            }
        }
    }
}

impl fmt::Debug for Inline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inline").field("name", &self.tally.name).finish_non_exhaustive()
    }
}
