//! What a page says after an order: a code in its address, never text, so that no address can put
//! words into the mouth of the monitor.

use crate::auth::Action;

/// What came of an order for one task or queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Done.
    Done(Action),
    /// The worker was asked to stop.
    Requested,
    /// It was so already.
    Unchanged,
    /// Another task holds the unique key.
    Duplicate,
    /// An operation was made.
    Begun,
    /// An operation was paused, resumed or stopped.
    Steered,
}

impl Notice {
    pub(crate) fn code(self) -> String {
        match self {
            Self::Done(action) => action.as_str().to_owned(),
            Self::Requested => "requested".to_owned(),
            Self::Unchanged => "unchanged".to_owned(),
            Self::Duplicate => "duplicate".to_owned(),
            Self::Begun => "begun".to_owned(),
            Self::Steered => "steered".to_owned(),
        }
    }
}

/// The words for a code; none for any other text.
pub(crate) fn text(code: &str) -> Option<String> {
    let fixed = match code {
        "requested" => "The task is running: its worker was asked to stop.",
        "unchanged" => "It was so already: nothing changed.",
        "duplicate" => "A task with the same unique key exists: this is it.",
        "begun" => "The operation was made, and is carried out from now on.",
        "steered" => "Done. At most the page of tasks under way is still carried out.",
        _ => {
            let action = Action::ALL.into_iter().find(|action| action.as_str() == code)?;
            return Some(format!("Done: {}.", action.done()));
        }
    };
    Some(fixed.to_owned())
}
