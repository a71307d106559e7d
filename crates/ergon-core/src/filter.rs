//! Which tasks to read, and how they are paged.

use jiff::Timestamp;

use crate::{
    id::TaskId,
    limits::{PAGE_BYTES_MAX, PAGE_MAX},
    name::{KindName, QueueName, Tag},
    outcome::check_limit,
    record::{TaskRecord, TaskSpec},
    state::{State, StateSet},
};

/// Which tasks to read; what is not chosen matches every task.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TaskFilter {
    /// In one of these states; the empty set stands for every state.
    pub states: StateSet,
    /// In one of these queues; an empty list stands for every queue.
    pub queues: Vec<QueueName>,
    /// Of one of these kinds; an empty list stands for every kind.
    pub kinds: Vec<KindName>,
    /// With all of these tags.
    pub tags: Vec<Tag>,
    /// With all of these metadata entries.
    pub metadata: Vec<(String, String)>,
    /// Taken by the store at or after this instant.
    pub created_from: Option<Timestamp>,
    /// Taken by the store before this instant.
    pub created_before: Option<Timestamp>,
}

impl TaskFilter {
    /// Every task.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Tasks in one of these states.
    #[must_use]
    pub fn states(mut self, states: impl Into<StateSet>) -> Self {
        self.states = states.into();
        self
    }

    /// Tasks of this queue, beside those chosen before.
    #[must_use]
    pub fn queue(mut self, queue: QueueName) -> Self {
        self.queues.push(queue);
        self
    }

    /// Tasks of this kind, beside those chosen before.
    #[must_use]
    pub fn kind(mut self, kind: KindName) -> Self {
        self.kinds.push(kind);
        self
    }

    /// Tasks with this tag too.
    #[must_use]
    pub fn tag(mut self, tag: Tag) -> Self {
        self.tags.push(tag);
        self
    }

    /// Tasks with this metadata entry too.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.push((key.into(), value.into()));
        self
    }

    /// Tasks taken by the store at or after `instant`.
    #[must_use]
    pub const fn created_from(mut self, instant: Timestamp) -> Self {
        self.created_from = Some(instant);
        self
    }

    /// Tasks taken by the store before `instant`.
    #[must_use]
    pub const fn created_before(mut self, instant: Timestamp) -> Self {
        self.created_before = Some(instant);
        self
    }

    /// The states asked for; none chosen means every one.
    #[must_use]
    pub const fn wanted_states(&self) -> StateSet {
        if self.states.is_empty() { StateSet::ALL } else { self.states }
    }

    /// Says whether queues and states alone decide, so that maintained counters can answer a count.
    #[must_use]
    pub const fn is_counted(&self) -> bool {
        self.kinds.is_empty()
            && self.tags.is_empty()
            && self.metadata.is_empty()
            && self.created_from.is_none()
            && self.created_before.is_none()
    }

    /// Says whether a task in `state` matches.
    #[must_use]
    pub fn matches(&self, spec: &TaskSpec, created_at: Timestamp, state: State) -> bool {
        self.wanted_states().contains(state)
            && (self.queues.is_empty() || self.queues.contains(&spec.queue))
            && (self.kinds.is_empty() || self.kinds.contains(&spec.kind))
            && self.tags.iter().all(|tag| spec.tags.contains(tag))
            && self.metadata.iter().all(|(key, value)| spec.metadata.get(key) == Some(value))
            && self.created_from.is_none_or(|from| created_at >= from)
            && self.created_before.is_none_or(|before| created_at < before)
    }
}

/// In which order a list is read; ids are ordered by the time of their making.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Order {
    /// From the newest id to the oldest.
    #[default]
    NewestFirst,
    /// From the oldest id to the newest.
    OldestFirst,
}

/// Which part of a list to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// How many tasks at the most: 1 to [`PAGE_MAX`]. Default 100.
    pub limit: usize,
    /// In which order.
    pub order: Order,
    /// Continues behind this task, which need not exist any more.
    pub after: Option<TaskId>,
}

impl Default for Page {
    fn default() -> Self {
        Self { limit: 100, order: Order::NewestFirst, after: None }
    }
}

impl Page {
    /// The first page of so many tasks.
    #[must_use]
    pub fn of(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Reads in this order.
    #[must_use]
    pub const fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Continues behind `id`.
    #[must_use]
    pub const fn after(mut self, id: TaskId) -> Self {
        self.after = Some(id);
        self
    }

    /// Checks the limit.
    ///
    /// # Errors
    ///
    /// [`Rejection::InvalidLimit`](crate::Rejection::InvalidLimit) unless it is 1 to [`PAGE_MAX`].
    pub const fn check(&self) -> Result<(), crate::StoreError> {
        check_limit(self.limit, PAGE_MAX)
    }
}

/// One page of a list.
///
/// It may be shorter than its limit although more follows, when its payloads grow large or when few
/// tasks of many match: `next` alone says whether the list is at its end.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TaskPage {
    /// The tasks.
    pub tasks: Vec<TaskRecord>,
    /// Where the next page begins; `None` at the end of the list.
    pub next: Option<TaskId>,
}

/// Fills a page by the rules that every store shares.
#[derive(Debug)]
pub struct PageBuilder {
    page: TaskPage,
    limit: usize,
    bytes: usize,
}

impl PageBuilder {
    /// Starts an empty page.
    #[must_use]
    pub fn new(page: &Page) -> Self {
        Self { page: TaskPage::default(), limit: page.limit, bytes: 0 }
    }

    /// Offers the next match; `false` when the page is full and the task was not taken.
    #[must_use]
    pub fn offer(&mut self, task: TaskRecord) -> bool {
        let is_full = self.page.tasks.len() == self.limit || self.bytes > PAGE_BYTES_MAX;
        if is_full {
            self.page.next = self.page.tasks.last().map(|task| task.id);
            return false;
        }
        self.bytes += task.bytes();
        self.page.tasks.push(task);
        true
    }

    /// Ends the page early behind `id`, the last task that was looked at.
    #[must_use]
    pub fn cut_at(mut self, id: TaskId) -> TaskPage {
        self.page.next = Some(id);
        self.page
    }

    /// Ends the page.
    #[must_use]
    pub fn finish(self) -> TaskPage {
        self.page
    }
}

/// How many tasks match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// How many were counted.
    pub value: u64,
    /// Whether these are all; otherwise there are at least so many.
    pub is_exact: bool,
}

/// A count that no counter answers stops here, and says so.
pub const COUNT_SCAN_MAX: u64 = 10_000;
