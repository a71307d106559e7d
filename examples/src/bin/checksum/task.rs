//! The task: one file, read once, in blocks.

use std::{
    fs::{File, Metadata},
    io::{self, ErrorKind, Read as _},
    time::{Duration, UNIX_EPOCH},
};

use ergon_core::{State, StateSet, Task, TaskError, Unique, UniqueScope, retry::RetryPolicy};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A file as the walk has found it. One that was changed since is another task.
#[derive(Serialize, Deserialize, Task)]
#[task(kind = "checksum", queue = "checksum", output = Sum, retention = "365d", timeout = "1d")]
#[task(max_attempts = 3, retry = RetryPolicy::Fixed(PAUSE), unique = once())]
pub(crate) struct Checksum {
    pub(crate) path: String,
    pub(crate) version: Version,
}

/// What tells whether a file has changed.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    bytes: u64,
    modified_nanos: u64,
}

/// What is recorded of a file.
#[derive(Serialize, Deserialize)]
pub(crate) struct Sum {
    pub(crate) sha256: String,
    pub(crate) bytes: u64,
}

/// Between attempts at a file that could not be read for reasons that may pass.
const PAUSE: Duration = Duration::from_millis(200);

/// So much of a file is in memory at once.
const BLOCK_BYTES: usize = 256 << 10;

/// A file has one task while that waits and runs, and for as long as its sum is kept. One that
/// failed or was called off stands in nobody's way: the next run tries again.
fn once() -> Unique {
    let states = StateSet::UNFINISHED.union(StateSet::from(State::Completed));
    Unique::by_payload().scope(UniqueScope::While(states))
}

/// Sums one file.
pub(crate) async fn checksum(
    task: Checksum,
    ergon_server::State(throttle): ergon_server::State<Duration>,
) -> Result<Sum, TaskError> {
    if !throttle.is_zero() {
        tokio::time::sleep(throttle).await;
    }
    // Files are read on a thread that may block; the runtime goes on renewing leases.
    tokio::task::spawn_blocking(move || task.sum()).await?
}

impl Checksum {
    fn sum(&self) -> Result<Sum, TaskError> {
        let mut file = File::open(&self.path).map_err(explain)?;
        let mut hasher = Sha256::new();
        let mut block = vec![0; BLOCK_BYTES];
        let mut bytes = 0;
        loop {
            match file.read(&mut block) {
                Ok(0) => break,
                Ok(len) => {
                    hasher.update(&block[..len]);
                    bytes += len as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(explain(error)),
            }
        }
        if Version::of(&file.metadata()?) != self.version {
            return Err(TaskError::cancel("changed since it was found; run again"));
        }
        let sha256 = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Sum { sha256, bytes })
    }
}

impl Version {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
        let modified = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        let modified_nanos = u64::try_from(modified.as_nanos()).unwrap_or(u64::MAX);
        Self { bytes: metadata.len(), modified_nanos }
    }
}

/// Which failures are worth another attempt: a disk may be busy, a permission does not come back.
fn explain(error: io::Error) -> TaskError {
    match error.kind() {
        ErrorKind::NotFound => TaskError::cancel("removed since it was found"),
        ErrorKind::PermissionDenied | ErrorKind::IsADirectory => TaskError::fail(error),
        _ => TaskError::retry(error),
    }
}
