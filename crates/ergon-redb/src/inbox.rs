//! The way to the writer: operations wait here while it commits.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ergon_core::StoreError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::batch::Batch;

/// Operations that wait at the most; more callers wait for room.
const OPERATIONS_MAX: usize = 4_096;

/// How long the writer looks for another operation before it sleeps. Measured with `cargo xtask bench
/// redb`: about what it takes a caller to be woken and to come back.
const LINGER: Duration = Duration::from_micros(60);

/// Pauses between two looks, so that the lock is free for callers.
const LINGER_SPINS: usize = 32;

/// Tells a caller what came of its operation: `None` that it is durable, or why it is not.
pub(crate) type Answer = Box<dyn FnOnce(Option<StoreError>) + Send>;

/// Something to do within a batch.
///
/// What can be refused is refused before it gets here. An error means that a table may have been
/// changed in part: the whole batch is void, and the store takes no writes any more.
pub(crate) trait Operation: Send {
    /// Does it, and leaves what is to be answered after the commit.
    fn run(self: Box<Self>, batch: &mut Batch<'_>) -> Result<Answer, StoreError>;

    /// What it adds to the batch, in bytes, about.
    fn bytes(&self) -> usize;
}

struct Submitted<F, T> {
    work: F,
    bytes: usize,
    reply: oneshot::Sender<Result<T, StoreError>>,
    /// Its place among the operations that may wait.
    permit: Option<OwnedSemaphorePermit>,
}

impl<F, T> Operation for Submitted<F, T>
where
    F: FnOnce(&mut Batch<'_>) -> Result<T, StoreError> + Send,
    T: Send + 'static,
{
    fn run(self: Box<Self>, batch: &mut Batch<'_>) -> Result<Answer, StoreError> {
        let Self { work, reply, permit, .. } = *self;
        // A caller that is gone does not hear the answer; that changes nothing.
        let answer = move |answer: Result<T, StoreError>| {
            drop(permit);
            drop(reply.send(answer));
        };
        match work(batch) {
            Ok(value) => Ok(Box::new(move |failure| answer(failure.map_or(Ok(value), Err)))),
            Err(error) => {
                let reason = error.to_string();
                answer(Err(error));
                Err(StoreError::Failed { reason })
            }
        }
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What the writer finds when it looks.
pub(crate) enum Delivery {
    /// Operations, in the order of their arrival.
    Operations(Vec<Box<dyn Operation>>),
    /// Nothing, but the time that was asked for has come.
    Time,
    /// Nothing, and nothing will come.
    Closed,
}

#[derive(Default)]
struct Waiting {
    operations: VecDeque<Box<dyn Operation>>,
    is_nudged: bool,
    is_closed: bool,
}

/// The operations that wait for the writer.
pub(crate) struct Inbox {
    waiting: Mutex<Waiting>,
    arrival: Condvar,
    room: Arc<Semaphore>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            arrival: Condvar::new(),
            room: Arc::new(Semaphore::new(OPERATIONS_MAX)),
        }
    }

    /// Hands an operation to the writer, once there is room, and waits for its answer.
    ///
    /// Dropping the future before there was room does nothing; after that the operation is carried
    /// out all the same.
    pub(crate) async fn submit<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&mut Batch<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let room = Arc::clone(&self.room).acquire_owned().await;
        let permit = Some(room.map_err(|_closed| StoreError::Closed)?);
        let (reply, answer) = oneshot::channel();
        self.push(Box::new(Submitted { work, bytes, reply, permit }))?;
        // The writer drops what it cannot answer only when it is gone.
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Hands an operation to the writer that nobody waits for.
    pub(crate) fn post(
        &self,
        work: impl FnOnce(&mut Batch<'_>) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        let (reply, _nobody) = oneshot::channel();
        self.push(Box::new(Submitted { work, bytes: 0, reply, permit: None }))
    }

    fn push(&self, operation: Box<dyn Operation>) -> Result<(), StoreError> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_closed {
            return Err(StoreError::Closed);
        }
        waiting.operations.push_back(operation);
        drop(waiting);
        self.arrival.notify_one();
        Ok(())
    }

    /// Makes the writer look after its other duties.
    pub(crate) fn nudge(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_nudged = true;
        self.arrival.notify_one();
    }

    /// Whether the writer takes no more operations.
    pub(crate) fn is_closed(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_closed
    }

    /// Takes no more operations; those that wait are carried out.
    pub(crate) fn close(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
        self.room.close();
        self.arrival.notify_one();
    }

    /// Drops the operations that wait, so that their callers learn that nobody carries them out.
    pub(crate) fn abandon(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let abandoned = std::mem::take(&mut waiting.operations);
        drop(waiting);
        drop(abandoned);
    }

    /// Waits for operations, and takes them as long as they fit one commit.
    pub(crate) fn receive(
        &self,
        operations_max: usize,
        bytes_max: usize,
        deadline: Option<Instant>,
    ) -> Delivery {
        let mut waiting = self.linger();
        loop {
            if !waiting.operations.is_empty() {
                break;
            }
            if waiting.is_closed {
                return Delivery::Closed;
            }
            if std::mem::take(&mut waiting.is_nudged) {
                return Delivery::Time;
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            waiting = match left {
                Some(Duration::ZERO) => return Delivery::Time,
                Some(left) => {
                    let woken = self.arrival.wait_timeout(waiting, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.arrival.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            };
        }
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some(operation) = waiting.operations.pop_front() {
            bytes += operation.bytes();
            taken.push(operation);
            if taken.len() == operations_max || bytes >= bytes_max {
                break;
            }
        }
        Delivery::Operations(taken)
    }

    /// Looks for operations for a short while before going to sleep: a caller that was just answered
    /// often has another one, and waking a thread takes longer than that.
    fn linger(&self) -> MutexGuard<'_, Waiting> {
        let began = Instant::now();
        loop {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let is_idle = waiting.operations.is_empty() && !waiting.is_nudged && !waiting.is_closed;
            if !is_idle || began.elapsed() >= LINGER {
                return waiting;
            }
            drop(waiting);
            for _ in 0..LINGER_SPINS {
                std::hint::spin_loop();
            }
        }
    }

    /// Puts operations back that the commit has no time for, before those that came later.
    pub(crate) fn put_back(&self, operations: impl DoubleEndedIterator<Item = Box<dyn Operation>>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for operation in operations.rev() {
            waiting.operations.push_front(operation);
        }
    }
}
