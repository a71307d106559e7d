//! Group commit: calls that come while a statement is under way share the next one.

use std::sync::{Arc, Mutex, PoisonError};

use ergon_core::{NewTask, Now, StoreError, store::Inserted, text::error_chain};
use tokio::sync::oneshot;

use super::insert as insert_together;
use crate::shared::Shared;

/// Statements under way at once: while one waits for its commit, the next is filled.
const FLIGHTS_MAX: usize = 2;

/// Most tasks, and most bytes of them, in one statement.
const TASKS_MAX: usize = 1_000;
const BYTES_MAX: usize = 8 << 20;

/// The calls that wait for their statement.
#[derive(Debug, Default)]
pub(crate) struct Group {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Call>,
    flights: usize,
}

#[derive(Debug)]
struct Call {
    tasks: Vec<NewTask>,
    answer: oneshot::Sender<Result<Vec<Inserted>, StoreError>>,
}

impl Group {
    fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        // Each change is whole before anything can panic.
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The next calls to be sent together; `None` when none waits, and then the flight is over.
    fn next(&self) -> Option<Vec<Call>> {
        self.with(|state| {
            let (mut tasks, mut bytes) = (0, 0);
            let fitting = state.waiting.iter().take_while(|call| {
                tasks += call.tasks.len();
                bytes += call.tasks.iter().map(|task| task.spec.bytes()).sum::<usize>();
                tasks <= TASKS_MAX && bytes <= BYTES_MAX
            });
            let len = std::cmp::min(std::cmp::max(1, fitting.count()), state.waiting.len());
            if len == 0 {
                state.flights -= 1;
                return None;
            }
            Some(state.waiting.drain(..len).collect())
        })
    }
}

/// A flight of one call that goes at once; whoever waits behind it is sent when it ends, or when its
/// future is dropped.
struct Alone<'s>(&'s Arc<Shared>);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let others_wait = self.0.group.with(|state| {
            let others_wait = !state.waiting.is_empty();
            if !others_wait {
                state.flights -= 1;
            }
            others_wait
        });
        if others_wait {
            self.0.tasks.spawn(fly(Arc::clone(self.0)));
        }
    }
}

/// Stores the tasks of a call, together with those of others if there are any.
///
/// The call of a caller who is alone is sent by itself and at once.
pub(super) async fn insert(
    shared: &Arc<Shared>,
    tasks: &[NewTask],
) -> Result<Vec<Inserted>, StoreError> {
    let is_alone = shared.group.with(|state| {
        let is_alone = state.flights == 0;
        state.flights += usize::from(is_alone);
        is_alone
    });
    if is_alone {
        let flight = Alone(shared);
        let inserted = insert_together(shared, &[tasks], Now::Store).await;
        drop(flight);
        return inserted;
    }
    let (answer, answered) = oneshot::channel();
    let call = Call { tasks: tasks.to_vec(), answer };
    let takes_off = shared.group.with(|state| {
        state.waiting.push(call);
        let takes_off = state.flights < FLIGHTS_MAX;
        state.flights += usize::from(takes_off);
        takes_off
    });
    if takes_off {
        shared.tasks.spawn(fly(Arc::clone(shared)));
    }
    answered.await.unwrap_or(Err(StoreError::Closed))
}

/// Sends what waits until nothing does. It is a task of its own, so that a caller who goes away takes
/// nobody's call along.
async fn fly(shared: Arc<Shared>) {
    while let Some(calls) = shared.group.next() {
        let tasks: Vec<&[NewTask]> = calls.iter().map(|call| call.tasks.as_slice()).collect();
        match insert_together(&shared, &tasks, Now::Store).await {
            Ok(mut inserted) => {
                for call in calls {
                    let rest = inserted.split_off(std::cmp::min(call.tasks.len(), inserted.len()));
                    let answer = std::mem::replace(&mut inserted, rest);
                    // A caller who went away does not want to know.
                    drop(call.answer.send(Ok(answer)));
                }
            }
            Err(error) if calls.len() == 1 || error.is_transient() => {
                for call in calls {
                    drop(call.answer.send(Err(same(&error))));
                }
            }
            // One of them cannot be stored: it must not take the others along.
            Err(_) => {
                for call in calls {
                    let inserted = insert_together(&shared, &[&call.tasks], Now::Store).await;
                    drop(call.answer.send(inserted));
                }
            }
        }
    }
}

/// The same error for one more caller.
fn same(error: &StoreError) -> StoreError {
    match error {
        StoreError::Conflict => StoreError::Conflict,
        StoreError::Closed => StoreError::Closed,
        StoreError::Unavailable { source } => {
            StoreError::Unavailable { source: error_chain(source.as_ref()).into() }
        }
        other => StoreError::Backend { source: error_chain(other).into() },
    }
}
