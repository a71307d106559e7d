//! The awaitable builders of an enqueue.

use std::{
    future::{Future, IntoFuture},
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;

use super::{
    Client, Enqueued, Handle, Inner,
    propagation::{Purpose, Sent, Underway, carry},
};
use crate::{
    error::{EnqueueError, InvalidName, StoreError},
    event::{Event, TaskEvent, TaskRef},
    id::{PACK_LEN_MAX, TaskId},
    limits::{BATCH_BYTES_MAX, BATCH_MAX},
    name::KindName,
    options::{TaskOptions, forwarded_setters, with_task_options},
    record::{Metadata, NewTask, TaskSpec},
    retry::RetryPolicy,
    store::Inserted,
    time::Now,
    unique::Unique,
};

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What to do when another task holds the unique key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnDuplicate {
    Answer,
    Error,
}

/// One enqueue, to be awaited.
///
/// # Cancel safety
///
/// Once awaited and dropped, the task has been stored or not. Choose an [`id`](Self::id) and
/// enqueue again to be sure: the same id is never a second task.
#[derive(Debug)]
#[must_use = "nothing is enqueued until the builder is awaited"]
pub struct Enqueue<O> {
    client: Client,
    kind: Result<KindName, InvalidName>,
    payload: Result<Vec<u8>, serde_json::Error>,
    kind_options: TaskOptions,
    options: TaskOptions,
    id: Option<TaskId>,
    on_duplicate: OnDuplicate,
    output: PhantomData<fn() -> O>,
}

with_task_options!(forwarded_setters [impl<O> Enqueue<O>]);

impl<O> Enqueue<O> {
    pub(super) fn new(
        client: &Client,
        kind: Result<KindName, InvalidName>,
        payload: Result<Vec<u8>, serde_json::Error>,
        kind_options: TaskOptions,
    ) -> Self {
        Self {
            client: client.clone(),
            kind,
            payload,
            kind_options,
            options: TaskOptions::default(),
            id: None,
            on_duplicate: OnDuplicate::Answer,
            output: PhantomData,
        }
    }

    /// Adds prepared choices, weaker than those made on this builder before.
    pub fn options(mut self, options: TaskOptions) -> Self {
        self.options = self.options.or(options);
        self
    }

    /// Chooses the id, so that the enqueue can be repeated. Default: a new one.
    pub const fn id(mut self, id: TaskId) -> Self {
        self.id = Some(id);
        self
    }

    /// Makes a [duplicate](EnqueueError::Duplicate) an error.
    pub const fn or_error(mut self) -> Self {
        self.on_duplicate = OnDuplicate::Error;
        self
    }

    /// Makes the task without enqueuing it, for stores that take tasks in a transaction of the
    /// caller.
    ///
    /// # Errors
    ///
    /// Every [`EnqueueError`] but those of the store.
    pub fn into_new_task(self) -> Result<NewTask, EnqueueError> {
        let client = self.client.clone();
        let mut tasks = [self.make()?];
        drop(client.begin(Purpose::Create, &mut tasks));
        let [task] = tasks;
        Ok(task)
    }

    fn make(self) -> Result<NewTask, EnqueueError> {
        let inner = &self.client.inner;
        let kind = self.kind.map_err(|error| invalid_kind(&error))?;
        let payload = self.payload.map_err(|source| EnqueueError::Encode { source })?;
        let options = with_queue_options(&self.client, self.options.or(self.kind_options));
        let now = inner.clock.now();
        let id = self.id.unwrap_or_else(|| inner.ids.next_id(now));
        let task = options.into_task(id, kind, payload)?;
        task.check(&inner.limits, now)?;
        Ok(task)
    }
}

impl<O> Enqueue<O> {
    /// Splits off what it takes to answer the enqueue, for stores that take tasks in a transaction of
    /// the caller.
    pub fn into_parts(self) -> (Result<NewTask, EnqueueError>, Answer<O>) {
        let answer = Answer {
            client: self.client.clone(),
            on_duplicate: self.on_duplicate,
            output: PhantomData,
        };
        (self.into_new_task(), answer)
    }

    async fn send(self) -> Result<Enqueued<O>, EnqueueError> {
        let (client, on_duplicate) = (self.client.clone(), self.on_duplicate);
        let answer = Answer { client, on_duplicate, output: PhantomData };
        let mut tasks = [self.make()?];
        let inserted = answer.client.send(&mut tasks).await?;
        let [first] = inserted[..] else {
            return Err(miscounted(inserted.len(), 1).into());
        };
        answer.to(tasks[0].id, first)
    }
}

/// Turns what a store answered into what the caller of an [`Enqueue`] awaits.
#[derive(Debug)]
pub struct Answer<O> {
    client: Client,
    on_duplicate: OnDuplicate,
    output: PhantomData<fn() -> O>,
}

impl<O> Answer<O> {
    /// The answer for the task with this id.
    ///
    /// # Errors
    ///
    /// [`EnqueueError::Duplicate`] when the caller asked for it.
    pub fn to(&self, id: TaskId, inserted: Inserted) -> Result<Enqueued<O>, EnqueueError> {
        let handle = |id| Handle::new(Arc::clone(self.client.store()), id);
        match (inserted, self.on_duplicate) {
            (Inserted::Duplicate { of }, OnDuplicate::Error) => Err(EnqueueError::Duplicate { of }),
            (Inserted::Duplicate { of }, OnDuplicate::Answer) => {
                Ok(Enqueued::Duplicate(handle(of)))
            }
            (Inserted::Created | Inserted::AlreadyExists, _) => Ok(Enqueued::Created(handle(id))),
        }
    }
}

impl<O: Send + 'static> IntoFuture for Enqueue<O> {
    type Output = Result<Enqueued<O>, EnqueueError>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// Many enqueues of one kind, to be awaited.
///
/// # Cancel safety
///
/// Once awaited and dropped, each batch of up to 10,000 tasks has been stored or not, in order.
#[derive(Debug)]
#[must_use = "nothing is enqueued until the builder is awaited"]
pub struct EnqueueMany<O> {
    client: Client,
    kind: Result<KindName, InvalidName>,
    payloads: Vec<Result<Vec<u8>, serde_json::Error>>,
    kind_options: TaskOptions,
    options: TaskOptions,
    output: PhantomData<fn() -> O>,
}

with_task_options!(forwarded_setters [impl<O> EnqueueMany<O>]);

impl<O> EnqueueMany<O> {
    pub(super) fn new(
        client: &Client,
        kind: Result<KindName, InvalidName>,
        payloads: Vec<Result<Vec<u8>, serde_json::Error>>,
        kind_options: TaskOptions,
    ) -> Self {
        Self {
            client: client.clone(),
            kind,
            payloads,
            kind_options,
            options: TaskOptions::default(),
            output: PhantomData,
        }
    }

    /// Adds prepared choices, weaker than those made on this builder before.
    pub fn options(mut self, options: TaskOptions) -> Self {
        self.options = self.options.or(options);
        self
    }

    /// Makes the tasks without enqueuing them, for stores that take tasks in a transaction of the
    /// caller.
    ///
    /// # Errors
    ///
    /// Every [`EnqueueError`] but those of the store.
    pub fn into_new_tasks(self) -> Result<Vec<NewTask>, EnqueueError> {
        let client = self.client.clone();
        let mut tasks = self.make()?;
        drop(client.begin(Purpose::Create, &mut tasks));
        Ok(tasks)
    }

    fn make(self) -> Result<Vec<NewTask>, EnqueueError> {
        let inner = &self.client.inner;
        let kind = self.kind.map_err(|error| invalid_kind(&error))?;
        let options = with_queue_options(&self.client, self.options.or(self.kind_options));
        let now = inner.clock.now();
        let mut pack = TaskId::MIN;
        // All that the tasks have in common.
        let mut like: Option<NewTask> = None;
        let mut tasks = Vec::with_capacity(self.payloads.len());
        for (index, payload) in self.payloads.into_iter().enumerate() {
            let offset = index % PACK_LEN_MAX;
            if offset == 0 {
                pack = inner.ids.next_pack(now);
            }
            let id = pack.with_offset(u16::try_from(offset).unwrap_or_default());
            let payload = payload.map_err(|source| EnqueueError::Encode { source })?;
            let task = match &like {
                Some(like) => {
                    let TaskSpec { kind, queue, .. } = &like.spec;
                    let unique = options.unique_key(kind, queue, &payload)?;
                    let spec = TaskSpec { payload: payload.into(), unique, ..like.spec.clone() };
                    NewTask { id, spec, ..*like }
                }
                None => options.clone().into_task(id, kind.clone(), payload)?,
            };
            task.check(&inner.limits, now)?;
            like.get_or_insert_with(|| NewTask {
                spec: TaskSpec { payload: Bytes::new(), ..task.spec.clone() },
                ..task
            });
            tasks.push(task);
        }
        Ok(tasks)
    }
}

impl<O: Send + 'static> EnqueueMany<O> {
    async fn send(self) -> Result<Vec<Enqueued<O>>, EnqueueError> {
        let client = self.client.clone();
        let on_duplicate = OnDuplicate::Answer;
        let answer = Answer { client: client.clone(), on_duplicate, output: PhantomData };
        let mut tasks = self.make()?;
        let inserted = client.send(&mut tasks).await?;
        tasks.iter().zip(inserted).map(|(task, inserted)| answer.to(task.id, inserted)).collect()
    }
}

impl<O: Send + 'static> IntoFuture for EnqueueMany<O> {
    type Output = Result<Vec<Enqueued<O>>, EnqueueError>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl Client {
    /// Gives new tasks what they are to carry, and begins to follow their enqueue.
    fn begin(&self, purpose: Purpose, tasks: &mut [NewTask]) -> Option<Box<dyn Underway>> {
        let Inner { propagation, limits, .. } = &*self.inner;
        let propagation = propagation.as_ref().filter(|_| !tasks.is_empty())?;
        let mut metadata = Metadata::new();
        let underway = propagation.begin(purpose, tasks, &mut metadata);
        carry(tasks, &metadata, limits);
        Some(underway)
    }

    /// Stores new tasks batch by batch, and tells everybody what came of them.
    async fn send(&self, tasks: &mut [NewTask]) -> Result<Vec<Inserted>, StoreError> {
        let underway = self.begin(Purpose::Send, tasks);
        let (mut inserted, mut error) = (Vec::new(), None);
        let mut rest = &*tasks;
        while !rest.is_empty() && error.is_none() {
            let (batch, later) = rest.split_at(batch_len(rest));
            match self.insert(batch).await {
                Ok(answers) if inserted.is_empty() => inserted = answers,
                Ok(answers) => inserted.extend(answers),
                Err(failed) => error = Some(failed),
            }
            rest = later;
        }
        if let Some(underway) = underway {
            underway.end(&Sent::of(&inserted, error.as_ref()));
        }
        error.map_or(Ok(inserted), Err)
    }

    async fn insert(&self, batch: &[NewTask]) -> Result<Vec<Inserted>, StoreError> {
        let inserted = self.store().insert(batch, Now::Store).await?;
        if inserted.len() != batch.len() {
            return Err(miscounted(inserted.len(), batch.len()));
        }
        self.tell(batch, &inserted);
        Ok(inserted)
    }

    /// Tells the sinks what came of new tasks.
    fn tell(&self, tasks: &[NewTask], inserted: &[Inserted]) {
        let Inner { sinks, clock, .. } = &*self.inner;
        if sinks.is_empty() {
            return;
        }
        let now = clock.now();
        let mut events = Vec::with_capacity(tasks.len());
        for (task, &inserted) in tasks.iter().zip(inserted) {
            let event = match inserted {
                Inserted::Created => TaskEvent::Enqueued {
                    run_at: task.run_at.resolve(now),
                    priority: task.priority,
                },
                Inserted::Duplicate { of } => TaskEvent::Deduplicated { of },
                Inserted::AlreadyExists => continue,
            };
            let TaskSpec { queue, kind, .. } = &task.spec;
            let task =
                TaskRef { id: task.id, queue: queue.clone(), kind: kind.clone(), attempt: 0 };
            events.push(Event::task(now, task, event));
        }
        sinks.publish(&events);
    }
}

/// How many of these tasks fit one batch; at least one.
fn batch_len(tasks: &[NewTask]) -> usize {
    let mut bytes = 0;
    let fitting = tasks.iter().take(BATCH_MAX).take_while(|task| {
        bytes += task.spec.bytes();
        bytes <= BATCH_BYTES_MAX
    });
    std::cmp::max(1, fitting.count())
}

fn with_queue_options(client: &Client, options: TaskOptions) -> TaskOptions {
    match client.inner.queue_options.get(options.chosen_queue()) {
        Some(weaker) => options.or(weaker.clone()),
        None => options,
    }
}

/// A store that breaks its first law: nobody knows what became of which task.
fn miscounted(answers: usize, tasks: usize) -> StoreError {
    let source = format!("the store gave {answers} answers for {tasks} tasks").into();
    StoreError::Backend { source }
}

fn invalid_kind(error: &InvalidName) -> EnqueueError {
    EnqueueError::InvalidOptions { field: "kind", reason: error.to_string() }
}
