//! The tasks of the crash loop, and how they end.

use std::time::Duration;

use ergon_core::{Conclusion, ErrorKind, Phase, Task, TaskError};
use rand::{RngExt as _, rngs::StdRng};
use serde::{Deserialize, Serialize};

/// How long a task waits that fails at first.
const RETRY_DELAY: Duration = Duration::from_millis(20);
/// Handlers work so long at the most: enough for some to be killed at it.
const WORK_MILLIS_MAX: u64 = 3;
/// Unique tasks share so many keys.
const KEYS: u32 = 200;

/// How the handler of a task ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ends {
    Well,
    WellAtSecond,
    Failed,
    Cancelled,
}

/// A task of the crash loop.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Chore {
    pub(super) ends: Ends,
    /// What it is unique by, if it is.
    pub(super) key: Option<u32>,
    /// An operator may call it off.
    pub(super) may_be_called: bool,
    pub(super) work_millis: u64,
}

impl Task for Chore {
    const KIND: &'static str = "torture.chore";
    type Output = ();
}

impl Chore {
    pub(super) fn new(ends: Ends, rng: &mut StdRng) -> Self {
        let is_quick = rng.random_bool(0.9);
        let work_millis = if is_quick { 0 } else { rng.random_range(1..=WORK_MILLIS_MAX) };
        Self { ends, key: None, may_be_called: false, work_millis }
    }

    /// The same task, unique by one of a few keys.
    pub(super) fn keyed(self, rng: &mut StdRng) -> Self {
        Self { key: Some(rng.random_range(0..KEYS)), ..self }
    }

    /// What a handler does.
    pub(super) async fn work(&self) {
        if self.work_millis > 0 {
            tokio::time::sleep(Duration::from_millis(self.work_millis)).await;
        }
    }

    /// What a handler answers.
    pub(super) fn answer(&self, attempt: u16) -> Result<(), TaskError> {
        match self.ends {
            Ends::Well => Ok(()),
            Ends::WellAtSecond if attempt > 1 => Ok(()),
            Ends::WellAtSecond => Err(TaskError::retry_in(RETRY_DELAY, "not at first")),
            Ends::Failed => Err(TaskError::fail("fails")),
            Ends::Cancelled => Err(TaskError::cancel("no need")),
        }
    }

    /// The same, as a worker writes it.
    pub(super) fn conclusion(&self, attempt: u16) -> Conclusion {
        let (kind, delay) = (ErrorKind::Error, RETRY_DELAY);
        match self.ends {
            Ends::Well => Conclusion::Complete { result: None },
            Ends::WellAtSecond if attempt > 1 => Conclusion::Complete { result: None },
            Ends::WellAtSecond => {
                Conclusion::Retry { delay, kind, error: "not at first".to_owned() }
            }
            Ends::Failed => Conclusion::Fail { kind, error: "fails".to_owned() },
            Ends::Cancelled => Conclusion::Cancel { reason: "no need".to_owned() },
        }
    }

    /// Whether it may be in this phase when all is done.
    pub(super) fn may_end_in(&self, phase: Phase) -> bool {
        let own = match self.ends {
            Ends::Well | Ends::WellAtSecond => Phase::Completed,
            Ends::Failed => Phase::Failed,
            Ends::Cancelled => Phase::Cancelled,
        };
        phase == own || (self.may_be_called && phase == Phase::Cancelled)
    }
}
