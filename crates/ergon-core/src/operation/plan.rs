//! What the next step of an operation is, and what it comes to: pure rules.

use std::time::Duration;

use jiff::Timestamp;

use super::{LEASE, Operation, OperationState, Owner, PAGE_MAX, PROBLEMS_MAX, Problem};
use crate::{
    command::CommandVerdict,
    filter::{Order, Page, TaskPage},
    id::{ServerId, TaskId},
    time::after,
};

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Mine: the lease is long enough for a step.
    Mine,
    /// Mine, once I have written that I am the owner.
    Claim,
    /// Nobody's before this instant: somebody else works on it, or its rate is used up.
    Later(Timestamp),
    /// Nobody's: it is paused or over.
    Nobody,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) verdicts: Vec<(TaskId, CommandVerdict)>,
    /// Where it goes on; none when that was all.
    pub(crate) cursor: Option<TaskId>,
}

impl Operation {
    /// Whose turn it is at `now`, asked by `me`.
    pub(crate) fn turn(&self, me: ServerId, now: Timestamp) -> Turn {
        if self.state != OperationState::Running {
            return Turn::Nobody;
        }
        match self.owner {
            Some(owner) if owner.id != me && owner.until > now => return Turn::Later(owner.until),
            Some(_) | None => {}
        }
        if let Some(resume_at) = self.resume_at.filter(|&resume_at| resume_at > now) {
            return Turn::Later(resume_at);
        }
        let is_long = |owner: &Owner| owner.id == me && owner.until > after(now, LEASE / 2);
        if self.owner.as_ref().is_some_and(is_long) { Turn::Mine } else { Turn::Claim }
    }

    /// Makes `me` the owner for a while.
    pub(crate) fn own(&mut self, me: ServerId, now: Timestamp) {
        self.owner = Some(Owner { id: me, until: after(now, LEASE) });
    }

    /// Says whether `me` may still write down what it did.
    pub(crate) fn is_owned_by(&self, me: ServerId) -> bool {
        self.owner.is_some_and(|owner| owner.id == me)
    }

    /// The page of tasks that comes next: at most those of a second, by the rate.
    pub(crate) fn page(&self) -> Page {
        let rate = self.rate_per_second.map(|rate| usize::try_from(rate).unwrap_or(PAGE_MAX));
        let page = Page::of(rate.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX)).order(Order::OldestFirst);
        match self.cursor {
            Some(cursor) => page.after(cursor),
            None => page,
        }
    }

    /// The tasks of a page that the operation is for, and where it goes on behind them.
    pub(crate) fn of_page(&self, page: &TaskPage) -> (Vec<TaskId>, Option<TaskId>) {
        let ids = page.tasks.iter().map(|task| task.id).filter(|&id| id <= self.until);
        (ids.collect(), page.next.filter(|&next| next < self.until))
    }

    /// Counts what a step did. It may have been paused meanwhile; what was done counts all the same.
    pub(crate) fn note(&mut self, me: ServerId, done: &Done, now: Timestamp) {
        for &(id, verdict) in &done.verdicts {
            self.seen += 1;
            match verdict {
                CommandVerdict::Applied | CommandVerdict::Requested => self.changed += 1,
                CommandVerdict::Unchanged => self.unchanged += 1,
                CommandVerdict::Illegal(_) => self.illegal += 1,
                CommandVerdict::NotFound => self.gone += 1,
            }
            if matches!(verdict, CommandVerdict::Illegal(_) | CommandVerdict::NotFound) {
                self.problems.push(Problem { id, verdict });
            }
        }
        let excess = self.problems.len().saturating_sub(PROBLEMS_MAX);
        self.problems.drain(..excess);
        match done.cursor {
            Some(cursor) => self.cursor = Some(cursor),
            None => {
                self.cursor = done.verdicts.last().map(|&(id, _)| id).or(self.cursor);
                self.set_state(OperationState::Finished, now);
            }
        }
        if self.state == OperationState::Running {
            self.own(me, now);
        }
        if let (Some(rate), false) = (self.rate_per_second, self.state.is_over()) {
            let micros = done.verdicts.len() as u64 * 1_000_000 / u64::from(std::cmp::max(rate, 1));
            self.resume_at = Some(after(now, Duration::from_micros(micros)));
        }
    }
}
