//! Everything that a store shows, to be compared.

use ergon_core::{
    Count, Order, Page, State, StateSet, TaskFilter, TaskId, TaskRecord,
    limits::PAGE_MAX,
    store::{QueueInfo, StateCounts},
};

use super::Harness;

/// Everything that a store shows at an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Every task, the oldest id first.
    pub tasks: Vec<TaskRecord>,
    /// Every queue, by name.
    pub queues: Vec<QueueInfo>,
}

impl Snapshot {
    /// Fails unless the two are the same, naming the first difference.
    #[track_caller]
    pub fn assert_same(&self, other: &Self, context: &str) {
        for (one, two) in self.tasks.iter().zip(&other.tasks) {
            assert_eq!(one, two, "{context}");
        }
        let ids = |tasks: &[TaskRecord]| -> Vec<TaskId> { tasks.iter().map(|t| t.id).collect() };
        assert_eq!(ids(&self.tasks), ids(&other.tasks), "{context}");
        assert_eq!(self.queues, other.queues, "{context}");
    }
}

/// Most reads that [`Harness::check_counters`] makes until they agree.
const SETTLE_READS_MAX: usize = 200;

fn same<T: PartialEq + std::fmt::Debug>(
    counted: &T,
    scanned: &T,
    what: impl FnOnce() -> String,
) -> Result<(), String> {
    if counted == scanned {
        Ok(())
    } else {
        Err(format!("{}: {counted:?}, and a scan says {scanned:?}", what()))
    }
}

/// Counts the tasks of a queue one by one.
fn scan(tasks: &[TaskRecord], queue: &QueueInfo) -> StateCounts {
    let mut scanned = StateCounts::default();
    let of_queue = tasks.iter().filter(|task| task.spec.queue == queue.name);
    of_queue.for_each(|task| scanned.add(task.state, 1));
    scanned
}

/// Reads of everything.
impl Harness {
    /// Everything that the store shows now.
    pub async fn projection(&self) -> Snapshot {
        Snapshot {
            tasks: self.walk(&TaskFilter::all(), PAGE_MAX, Order::OldestFirst).await,
            queues: self.queues().await,
        }
    }

    /// Reads every queue.
    pub async fn queues(&self) -> Vec<QueueInfo> {
        self.store.queues(self.now()).await.unwrap()
    }

    /// Reads one queue that has to be known.
    pub async fn queue_info(&self, name: &str) -> QueueInfo {
        let queues = self.queues().await;
        let found = queues.into_iter().find(|queue| queue.name.as_str() == name);
        assert!(found.is_some(), "queue {name:?} is unknown");
        found.unwrap()
    }

    /// Counts the tasks that match.
    pub async fn count(&self, filter: &TaskFilter) -> Count {
        self.store.count(filter, self.now()).await.unwrap()
    }

    /// Reads every task that matches, page by page.
    pub async fn walk(&self, filter: &TaskFilter, limit: usize, order: Order) -> Vec<TaskRecord> {
        let mut tasks: Vec<TaskRecord> = Vec::new();
        let mut page = Page::of(limit).order(order);
        loop {
            let read = self.store.list(filter, &page, self.now()).await.unwrap();
            assert!(read.tasks.len() <= limit, "a page exceeds its limit");
            tasks.extend(read.tasks);
            let Some(next) = read.next else { break };
            let is_progress = page.after.is_none_or(|after| match order {
                Order::OldestFirst => next > after,
                Order::NewestFirst => next < after,
            });
            assert!(is_progress, "the next page begins at {next}, not behind {:?}", page.after);
            page = page.after(next);
        }
        let is_ordered = match order {
            Order::OldestFirst => tasks.is_sorted_by(|one, two| one.id < two.id),
            Order::NewestFirst => tasks.is_sorted_by(|one, two| one.id > two.id),
        };
        assert!(is_ordered, "a list repeats a task or is out of order");
        tasks
    }

    /// Fails unless the counters equal a full scan, queue by queue and state by state, and every
    /// task obeys what holds of all tasks.
    ///
    /// What a dropped call began may still be under way between two reads: they are repeated until
    /// they agree, or have had time enough.
    pub async fn check_counters(&self) {
        let mut outcome = self.counters_agree().await;
        for _ in 0..SETTLE_READS_MAX {
            if outcome.is_ok() {
                break;
            }
            tokio::task::yield_now().await;
            outcome = self.counters_agree().await;
        }
        let tasks = outcome.unwrap();
        tasks.iter().for_each(check_record);
    }

    /// Every task, or what does not agree.
    async fn counters_agree(&self) -> Result<Vec<TaskRecord>, String> {
        let Snapshot { tasks, queues } = self.projection().await;
        let mut totals = StateCounts::default();
        for queue in &queues {
            let scanned = scan(&tasks, queue);
            same(&queue.counts, &scanned, || format!("counters of queue {}", queue.name))?;
            State::ALL.into_iter().for_each(|state| totals.add(state, scanned.get(state)));
        }
        let is_sorted = queues.is_sorted_by(|one, two| one.name < two.name);
        same(&is_sorted, &true, || format!("queues come by name, each once: {queues:?}"))?;
        same(&totals.total(), &to_u64(tasks.len()), || "tasks in known queues".to_owned())?;
        for state in State::ALL {
            let expected = Count { value: totals.get(state), is_exact: true };
            let filter = TaskFilter::all().states(state);
            same(&self.count(&filter).await, &expected, || format!("count of {state}"))?;
        }
        let everything = Count { value: to_u64(tasks.len()), is_exact: true };
        let counted = self.count(&TaskFilter::all()).await;
        same(&counted, &everything, || "count of everything".to_owned())?;
        Ok(tasks)
    }

    /// Carries something out that must not change what the store shows.
    pub async fn changing_nothing<T>(&self, context: &str, action: impl Future<Output = T>) -> T {
        let before = self.projection().await;
        let answer = action.await;
        self.projection().await.assert_same(&before, context);
        answer
    }
}

/// What holds of every task at any instant.
fn check_record(task: &TaskRecord) {
    let progress = &task.progress;
    let is_finished = StateSet::TERMINAL.contains(task.state);
    assert_eq!(progress.finished_at.is_some(), is_finished, "finished_at of {task:?}");
    assert_eq!(progress.expires_at.is_some(), is_finished, "expires_at of {task:?}");
    assert!(progress.result.is_none() || task.state == State::Completed, "result of {task:?}");
    assert!(progress.errors.len() <= 10, "errors of {task:?}");
    assert!(progress.attempt <= progress.max_attempts, "attempts of {task:?}");
    let was_claimed = progress.token != ergon_core::Token::NONE;
    assert_eq!(progress.started_at.is_some(), was_claimed, "started_at of {task:?}");
    assert!(was_claimed || task.state != State::Running, "token of {task:?}");
}

/// A number of rows.
pub(super) fn to_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap()
}
