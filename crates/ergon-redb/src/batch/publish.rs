//! What memory learns once a batch is committed.

use std::collections::{BTreeMap, HashMap};

use ergon_core::{Phase, TaskId, time::to_micros};

use super::Touched;
use crate::{journal::Written, key::NameId, live::Live, queue::QueueRow};

/// The effects of a committed batch on what is in memory.
pub(crate) struct Effects {
    pub(super) touched: BTreeMap<TaskId, Touched>,
    pub(super) queues: HashMap<NameId, QueueRow>,
    pub(super) journal: Option<Written>,
    pub(super) saved_names: usize,
    /// The largest id in the file.
    pub(super) newest: TaskId,
    /// Rows were written: the transaction has to be committed.
    pub(super) has_rows: bool,
}

/// Whom to wake.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Notices {
    /// Tasks became due, or will be at another time than before.
    pub(crate) has_work: bool,
    /// Tasks that are finished or gone.
    pub(crate) finished: Vec<TaskId>,
    /// Something was recorded.
    pub(crate) has_events: bool,
}

impl Effects {
    pub(crate) const fn has_rows(&self) -> bool {
        self.has_rows
    }

    pub(crate) const fn newest(&self) -> TaskId {
        self.newest
    }

    /// Changes what is in memory.
    pub(crate) fn publish(self, live: &mut Live) -> Notices {
        let mut notices = Notices::default();
        live.is_adopting = false;
        live.names.mark_saved(self.saved_names);
        notices.has_events = live.journal.publish(self.journal.as_ref());
        for (number, row) in self.queues {
            notices.has_work |= live.queue(number).row.is_paused && !row.is_paused;
            live.set_row(number, row);
        }
        for (id, task) in self.touched {
            let ready = task.ready(id);
            let Some(state) = task.now else {
                live.end(id);
                notices.finished.push(id);
                continue;
            };
            match state.progress.phase {
                Phase::Running => {
                    if let Some(claim) = live.running.get_mut(&id) {
                        claim.is_noted = task.is_noted;
                        if let Some(ready) = ready {
                            claim.waiting = ready;
                        }
                        claim.is_cancel_requested = state.progress.cancel_requested;
                        claim.state = Some(state);
                    }
                }
                Phase::Waiting => {
                    live.end(id);
                    if let Some(ready) = ready {
                        live.lanes.insert(ready);
                        notices.has_work = true;
                    }
                }
                Phase::Completed | Phase::Failed | Phase::Cancelled => {
                    live.end(id);
                    if task.before.expires_at != state.progress.expires_at.map(to_micros) {
                        notices.finished.push(id);
                    }
                }
            }
        }
        notices
    }
}
