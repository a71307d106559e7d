//! The nine states of a task, and sets of them.

use std::{fmt, str::FromStr};

use jiff::Timestamp;

/// Where a task stands.
///
/// `Scheduled`, `Pending` and `Retrying` are one stored phase, told apart by the due time and the
/// attempts at the instant of the read: becoming due is not a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Waits for its time; never attempted.
    Scheduled,
    /// Due: the next free worker takes it.
    Pending,
    /// Claimed by a server.
    Running,
    /// Attempted before, waits for its next attempt.
    Retrying,
    /// Waits in a group for its fellows.
    Aggregating,
    /// Waits for other tasks.
    Blocked,
    /// Finished well.
    Completed,
    /// Finished without success: attempts used up, or given up on.
    Failed,
    /// Called off by its handler or by an operator.
    Cancelled,
}

impl State {
    /// Every state, in the order of a task's life.
    pub const ALL: [Self; 9] = [
        Self::Scheduled,
        Self::Pending,
        Self::Running,
        Self::Retrying,
        Self::Aggregating,
        Self::Blocked,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The state of a waiting task at `now`.
    #[must_use]
    pub fn of_waiting(run_at: Timestamp, attempt: u16, now: Timestamp) -> Self {
        match (run_at <= now, attempt) {
            (true, _) => Self::Pending,
            (false, 0) => Self::Scheduled,
            (false, _) => Self::Retrying,
        }
    }

    /// Says whether a task in this state is finished: it changes only by an operator's command.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// The lower-case name, as people and programs see it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Aggregating => "aggregating",
            Self::Blocked => "blocked",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The place of this state in [`State::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// No state has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown state {0:?}")]
pub struct UnknownState(String);

impl FromStr for State {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| UnknownState(text.to_owned()))
    }
}

/// A set of states.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct StateSet(u16);

impl StateSet {
    /// No state.
    pub const EMPTY: Self = Self(0);
    /// Every state.
    pub const ALL: Self = Self((1 << State::ALL.len()) - 1);
    /// The states of unfinished tasks.
    pub const UNFINISHED: Self = Self::of(&[
        State::Scheduled,
        State::Pending,
        State::Running,
        State::Retrying,
        State::Aggregating,
        State::Blocked,
    ]);
    /// The states of finished tasks.
    pub const TERMINAL: Self = Self::of(&[State::Completed, State::Failed, State::Cancelled]);

    /// The set of these states.
    #[must_use]
    pub const fn of(states: &[State]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < states.len() {
            bits |= 1 << states[at] as u16;
            at += 1;
        }
        Self(bits)
    }

    /// The bits of the set: bit `i` stands for `State::ALL[i]`.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The set with these bits; bits that stand for no state are dropped.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// Says whether the state is in the set.
    #[must_use]
    pub const fn contains(self, state: State) -> bool {
        self.0 & (1 << state as u16) != 0
    }

    /// Says whether every state of `other` is in this set.
    #[must_use]
    pub const fn contains_all(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The states that are in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Says whether the set holds no state.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The states of the set.
    pub fn iter(self) -> impl Iterator<Item = State> {
        State::ALL.into_iter().filter(move |&state| self.contains(state))
    }
}

impl From<State> for StateSet {
    fn from(state: State) -> Self {
        Self::of(&[state])
    }
}

impl FromIterator<State> for StateSet {
    fn from_iter<I: IntoIterator<Item = State>>(states: I) -> Self {
        states.into_iter().fold(Self::EMPTY, |set, state| set.union(state.into()))
    }
}

impl fmt::Debug for StateSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for state in State::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
            assert_eq!(State::ALL[state.index()], state);
        }
        assert!("available".parse::<State>().is_err());
    }

    #[test]
    fn sets_hold_what_was_put_in() {
        let set = StateSet::of(&[State::Pending, State::Failed]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [State::Pending, State::Failed]);
        assert_eq!(set.iter().collect::<StateSet>(), set);
        assert!(!set.contains(State::Running));
        assert_eq!(StateSet::UNFINISHED.union(StateSet::TERMINAL), StateSet::ALL);
        assert!(State::ALL.into_iter().all(|s| s.is_terminal() == StateSet::TERMINAL.contains(s)));
    }

    #[test]
    fn a_waiting_task_is_told_apart_by_due_time_and_attempts() {
        let now = Timestamp::UNIX_EPOCH;
        let later = Timestamp::from_second(1).unwrap();
        assert_eq!(State::of_waiting(now, 0, now), State::Pending);
        assert_eq!(State::of_waiting(now, 3, now), State::Pending);
        assert_eq!(State::of_waiting(later, 0, now), State::Scheduled);
        assert_eq!(State::of_waiting(later, 1, now), State::Retrying);
    }
}
