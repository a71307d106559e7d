//! Which tasks to read, and how they are paged.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    id::TaskId,
    limits::{PAGE_BYTES_MAX, PAGE_MAX},
    name::{KindName, QueueName, Tag},
    outcome::check_limit,
    record::{TaskRecord, TaskSpec},
    state::{State, StateSet},
};

/// Which tasks to read; what is not chosen matches every task.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
// A part that this version does not know must not make the filter match more tasks.
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TaskFilter {
    /// In one of these states; the empty set stands for every state.
    #[serde(skip_serializing_if = "crate::serial::is_no_state")]
    pub states: StateSet,
    /// In one of these queues; an empty list stands for every queue.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<QueueName>,
    /// Of one of these kinds; an empty list stands for every kind.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<KindName>,
    /// With all of these tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// With all of these metadata entries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<(String, String)>,
    /// Taken by the store at or after this instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_from: Option<Timestamp>,
    /// Taken by the store before this instant.
    #[serde(skip_serializing_if = "Option::is_none")]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// How many were counted.
    pub value: u64,
    /// Whether these are all; otherwise there are at least so many.
    pub is_exact: bool,
}

/// A count that no counter answers stops here, and says so.
pub const COUNT_SCAN_MAX: u64 = 10_000;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::progress::Progress;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn kind(name: &str) -> KindName {
        KindName::new(name).unwrap()
    }

    fn queue(name: &str) -> QueueName {
        QueueName::new(name).unwrap()
    }

    fn tag(text: &str) -> Tag {
        Tag::new(text).unwrap()
    }

    /// Kind `k`, queue `q`, tags `a` and `b`, metadata `x` = `1`, taken at 100, pending.
    fn matches(filter: &TaskFilter) -> bool {
        let mut spec = TaskSpec::new(kind("k"), "{}");
        spec.queue = queue("q");
        spec.tags = vec![tag("a"), tag("b")];
        spec.metadata.insert("x".to_owned(), "1".to_owned());
        filter.matches(&spec, at(100), State::Pending)
    }

    #[test]
    fn each_part_of_a_filter_matches_or_not() {
        let all = TaskFilter::all;
        for (filter, expected) in [
            (all(), true),
            (all().states(State::Pending), true),
            (all().states(StateSet::UNFINISHED), true),
            (all().states(StateSet::TERMINAL), false),
            (all().queue(queue("q")), true),
            (all().queue(queue("p")), false),
            (all().queue(queue("p")).queue(queue("q")), true),
            (all().kind(kind("k")), true),
            (all().kind(kind("l")), false),
            (all().kind(kind("l")).kind(kind("k")), true),
            (all().tag(tag("a")), true),
            (all().tag(tag("b")).tag(tag("a")), true),
            (all().tag(tag("a")).tag(tag("c")), false),
            (all().metadata("x", "1"), true),
            (all().metadata("x", "2"), false),
            (all().metadata("y", "1"), false),
            (all().metadata("x", "1").metadata("x", "2"), false),
            (all().created_from(at(100)), true),
            (all().created_from(at(101)), false),
            (all().created_before(at(101)), true),
            (all().created_before(at(100)), false),
            // Parts are joined by and.
            (all().queue(queue("q")).kind(kind("l")), false),
        ] {
            assert_eq!(matches(&filter), expected, "{filter:?}");
        }
    }

    #[test]
    fn queues_and_states_alone_are_counted() {
        let counted = TaskFilter::all().queue(queue("q")).states(State::Failed);
        assert!(TaskFilter::all().is_counted() && counted.is_counted());
        for filter in [
            counted.clone().kind(kind("k")),
            counted.clone().tag(tag("a")),
            counted.clone().metadata("x", "1"),
            counted.clone().created_from(at(1)),
            counted.created_before(at(1)),
        ] {
            assert!(!filter.is_counted(), "{filter:?}");
        }
    }

    #[test]
    fn no_state_chosen_means_every_state() {
        assert_eq!(TaskFilter::all().wanted_states(), StateSet::ALL);
        let failed = TaskFilter::all().states(State::Failed);
        assert_eq!(failed.wanted_states(), State::Failed.into());
    }

    #[test]
    fn a_page_has_1_to_1000_tasks() {
        for (limit, is_good) in [(0, false), (1, true), (PAGE_MAX, true), (PAGE_MAX + 1, false)] {
            assert_eq!(Page::of(limit).check().is_ok(), is_good, "{limit}");
        }
        assert!(Page::default().check().is_ok());
    }

    fn record(id: u64, payload: &Bytes) -> TaskRecord {
        TaskRecord {
            id: TaskId::from_parts(id, 0, 0),
            spec: TaskSpec::new(kind("k"), payload.clone()),
            created_at: at(100),
            progress: Progress::fresh(0, 1, at(100)),
            state: State::Pending,
            report: None,
        }
    }

    /// Offers so many tasks, and answers how many were taken and whether more follow.
    fn fill(limit: usize, offered: u64, payload: &Bytes) -> (usize, bool) {
        let mut builder = PageBuilder::new(&Page::of(limit));
        let taken = (1..=offered).take_while(|&id| builder.offer(record(id, payload))).count();
        let page = builder.finish();
        assert_eq!(page.tasks.len(), taken);
        if let Some(next) = page.next {
            assert_eq!(page.tasks.last().map(|task| task.id), Some(next));
        }
        (taken, page.next.is_some())
    }

    #[test]
    fn a_page_ends_at_its_limit_and_says_whether_more_follows() {
        let small = Bytes::from_static(b"{}");
        for (offered, expected) in [(0, (0, false)), (2, (2, false)), (3, (3, false))] {
            assert_eq!(fill(3, offered, &small), expected, "{offered}");
        }
        assert_eq!(fill(3, 4, &small), (3, true));
    }

    #[test]
    fn a_page_ends_early_when_its_payloads_grow_large() {
        let half = Bytes::from(vec![0; PAGE_BYTES_MAX / 2]);
        assert_eq!(fill(10, 2, &half), (2, false));
        // The task that exceeds the limit is still taken: a page makes progress in any case.
        assert_eq!(fill(10, 10, &half), (3, true));
        let huge = Bytes::from(vec![0; PAGE_BYTES_MAX * 2]);
        assert_eq!(fill(10, 10, &huge), (1, true));
    }

    #[test]
    fn a_page_cut_early_continues_where_the_reading_ended() {
        let mut builder = PageBuilder::new(&Page::of(3));
        assert!(builder.offer(record(1, &Bytes::new())));
        let last_seen = TaskId::from_parts(9, 0, 0);
        let page = builder.cut_at(last_seen);
        assert_eq!((page.tasks.len(), page.next), (1, Some(last_seen)));
    }
}
