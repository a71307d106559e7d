//! Roles, and which order needs which.

use std::fmt;

/// What somebody may do; each role may do what the one before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Looks, and changes nothing; sees no payloads unless allowed to.
    Viewer,
    /// Runs the queues: retries, cancels, reschedules, pauses.
    Operator,
    /// May do everything, also what cannot be undone.
    Admin,
}

impl Role {
    /// Every role, the weakest first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The lower-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What can be ordered through a monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Run a task again at once.
    Retry,
    /// Call a task off.
    Cancel,
    /// Move a waiting task to another time.
    Reschedule,
    /// Change the priority of a waiting task.
    SetPriority,
    /// Remove a task.
    Delete,
    /// Make claims pass a queue by.
    PauseQueue,
    /// Make claims serve a queue again.
    ResumeQueue,
    /// Enqueue a task.
    Enqueue,
    /// Pause, resume or stop an operation on many tasks. To begin one takes the role of what it does to
    /// them.
    Operate,
    /// Take a list of tasks away as a file.
    Export,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 10] = [
        Self::Retry,
        Self::Cancel,
        Self::Reschedule,
        Self::SetPriority,
        Self::Delete,
        Self::PauseQueue,
        Self::ResumeQueue,
        Self::Enqueue,
        Self::Operate,
        Self::Export,
    ];

    /// The name, as in addresses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Cancel => "cancel",
            Self::Reschedule => "reschedule",
            Self::SetPriority => "priority",
            Self::Delete => "delete",
            Self::PauseQueue => "pause",
            Self::ResumeQueue => "resume",
            Self::Enqueue => "enqueue",
            Self::Operate => "operate",
            Self::Export => "export",
        }
    }

    /// Whether it changes anything: nothing that does is done where all is read-only.
    pub(crate) const fn changes(self) -> bool {
        !matches!(self, Self::Export)
    }

    /// The name in the audit trail, with what it is done to.
    pub(crate) const fn audited(self) -> &'static str {
        match self {
            Self::Retry => "task.retry",
            Self::Cancel => "task.cancel",
            Self::Reschedule => "task.reschedule",
            Self::SetPriority => "task.priority",
            Self::Delete => "task.delete",
            Self::PauseQueue => "queue.pause",
            Self::ResumeQueue => "queue.resume",
            Self::Enqueue => "task.enqueue",
            Self::Operate => "operation.steer",
            Self::Export => "task.export",
        }
    }

    /// What was done, for people.
    pub(crate) const fn done(self) -> &'static str {
        match self {
            Self::Retry => "set to run again",
            Self::Cancel => "cancelled",
            Self::Reschedule => "rescheduled",
            Self::SetPriority => "given another priority",
            Self::Delete => "deleted",
            Self::PauseQueue => "paused",
            Self::ResumeQueue => "resumed",
            Self::Enqueue => "enqueued",
            Self::Operate => "steered",
            Self::Export => "exported",
        }
    }

    const fn role_default(self) -> Role {
        match self {
            Self::Retry
            | Self::Cancel
            | Self::Reschedule
            | Self::SetPriority
            | Self::PauseQueue
            | Self::ResumeQueue
            | Self::Operate
            | Self::Export => Role::Operator,
            Self::Delete | Self::Enqueue => Role::Admin,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which role an order needs. Default: an operator for all but deleting and enqueuing, which need an
/// administrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions([Role; Action::ALL.len()]);

impl Default for Permissions {
    fn default() -> Self {
        Self(Action::ALL.map(Action::role_default))
    }
}

impl Permissions {
    /// This order needs that role.
    #[must_use]
    pub fn needs(mut self, action: Action, role: Role) -> Self {
        if let Some(needed) = self.0.get_mut(action as usize) {
            *needed = role;
        }
        self
    }

    /// The weakest role that may give the order.
    #[must_use]
    pub fn role(&self, action: Action) -> Role {
        self.0.get(action as usize).copied().unwrap_or(Role::Admin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_has_its_place() {
        for (place, action) in Action::ALL.into_iter().enumerate() {
            assert_eq!(action as usize, place);
            for role in Role::ALL {
                assert_eq!(Permissions::default().needs(action, role).role(action), role);
            }
        }
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
    }
}
