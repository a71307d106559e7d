//! What is kept of a queue: whether it is paused, and how many tasks it has in each phase.

use ergon_core::{Phase, StoreError};

use crate::codec::{Decoder, Encoder};

/// The row of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct QueueRow {
    pub(crate) is_paused: bool,
    /// Waiting and running tasks together: claiming is not a write.
    pub(crate) open: u64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
}

impl QueueRow {
    const fn counter(&mut self, phase: Phase) -> &mut u64 {
        match phase {
            Phase::Waiting | Phase::Running => &mut self.open,
            Phase::Completed => &mut self.completed,
            Phase::Failed => &mut self.failed,
            Phase::Cancelled => &mut self.cancelled,
        }
    }

    /// Counts a task that moves from one phase to another, appears or goes.
    pub(crate) const fn count(&mut self, from: Option<Phase>, to: Option<Phase>) {
        if let Some(from) = from {
            let counter = self.counter(from);
            *counter = counter.saturating_sub(1);
        }
        if let Some(to) = to {
            *self.counter(to) += 1;
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::with_capacity(33);
        out.u8(u8::from(self.is_paused));
        for counter in [self.open, self.completed, self.failed, self.cancelled] {
            out.u64(counter);
        }
        out.finish()
    }

    pub(crate) fn decode(record: &[u8]) -> Result<Self, StoreError> {
        let mut fields = Decoder::new(record)?;
        Ok(Self {
            is_paused: fields.u8()? != 0,
            open: fields.u64()?,
            completed: fields.u64()?,
            failed: fields.u64()?,
            cancelled: fields.u64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_round_trip() {
        let row = QueueRow { is_paused: true, open: 1, completed: 2, failed: 3, cancelled: 4 };
        assert_eq!(QueueRow::decode(&row.encode()).unwrap(), row);
    }

    #[test]
    fn a_task_is_counted_once() {
        let mut row = QueueRow::default();
        row.count(None, Some(Phase::Waiting));
        row.count(Some(Phase::Waiting), Some(Phase::Running));
        row.count(Some(Phase::Running), Some(Phase::Failed));
        assert_eq!(row, QueueRow { failed: 1, ..QueueRow::default() });
        row.count(Some(Phase::Failed), None);
        assert_eq!(row, QueueRow::default());
    }
}
